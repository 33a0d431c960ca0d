"""What a person sees while a run goes on: a progress bar at a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from medvie_rl.config import Config

_LOG_WIDTH = 120  # columns where output is no terminal, such as a job's log
_SMOOTHING = 0.2  # weight of the newest step in the estimate of the time left

_SCORING_FAILURES = {
    "reward/timeout": "timed out",
    "reward/crashed": "crashed",
    "reward/component_error": "raised in a reward component",
}


class Display:
    """Progress of one run. `status` says what is being waited for, `step` reports a finished step."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = _LOG_WIDTH
        self._config = config
        self._folder = folder
        self._seconds_per_step: float | None = None
        self._last = time.monotonic()
        self._f1: float | None = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=config.num_steps, numbers="")

    def __enter__(self) -> Self:
        batch = f"{self._config.queries_per_step} queries × {self._config.num_traces} traces"
        if self._config.method == "sft":
            batch = f"{self._config.queries_per_step} demonstrations"
        self.console.print(
            f"[bold]{self._config.name}[/bold]: {self._config.num_steps} steps of {batch}, seed {self._config.seed} "
            f"→ {self._folder}"
        )
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def status(self, text: str) -> None:
        """What the run does now, outside the steps."""
        if self.console.is_terminal:
            self._progress.update(self._task, description=text)
        else:
            self.console.print(text)

    def notice(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True, markup=False)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done: reward (of demonstrations the loss), held-out F1, seconds and the time left."""
        self._f1 = metrics.get("eval/f1", self._f1)
        failures = [f"{metrics[name]:.0f} {text}" for name, text in _SCORING_FAILURES.items() if metrics.get(name)]
        if failures:  # a line of its own, which stays at a terminal, too
            told = f"step {step}: scoring failed: {', '.join(failures)}"
            self.console.print(f"{told}; see medvie rollouts {self._folder} --step {step}", soft_wrap=True)
        numbers = []
        if "reward/mean" in metrics:
            numbers.append(f"reward {metrics['reward/mean']:.3f}")
        elif "loss/loss" in metrics and self._config.method == "sft":
            numbers.append(f"loss {metrics['loss/loss']:.3f}")
        if self._f1 is not None:
            numbers.append(f"validation F1 {self._f1:.3f}")
        if step > 0:
            numbers.append(f"{metrics['time/step']:.1f} s/step, {self._time_left(step)} left")
        else:
            self._last = time.monotonic()
        if self.console.is_terminal:
            self._progress.update(self._task, completed=step, description="training", numbers=" · ".join(numbers))
        else:
            self.console.print(f"step {step}/{self._config.num_steps}  {' · '.join(numbers)}")

    def _time_left(self, step: int) -> str:
        now = time.monotonic()
        newest, self._last = now - self._last, now
        before = self._seconds_per_step
        self._seconds_per_step = newest if before is None else (1 - _SMOOTHING) * before + _SMOOTHING * newest
        seconds = int(self._seconds_per_step * (self._config.num_steps - step))
        return f"{seconds // 60}:{seconds % 60:02d}"
