"""Seconds by phase of a step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """`with watch("generate"): ...` adds to that phase; `metrics()` gives all phases and the whole since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cpu = time.process_time()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(phase, time.monotonic() - started)

    def add(self, phase: str, seconds: float) -> None:
        """Add what was measured elsewhere to a phase."""
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    @property
    def seconds(self) -> dict[str, float]:
        """Of every phase so far."""
        return dict(self._seconds)

    def metrics(self) -> dict[str, float]:
        """`time/PHASE` for every phase, `time/step` for all, and of that `time/driver_cpu`: what this process itself
        worked, on all of its threads."""
        whole = {"step": time.monotonic() - self._started, "driver_cpu": time.process_time() - self._cpu}
        return {f"time/{phase}": seconds for phase, seconds in (self._seconds | whole).items()}
