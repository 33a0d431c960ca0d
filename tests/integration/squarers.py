"""A pool of workers that square numbers, and die, hang or fail to start where a test wants it."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from cluster.actors import ActorGroup, wait_for
from cluster.config import ClusterConfig
from cluster.placement import Bundle, Reservation
from cluster.pool import WorkerPool

# Files in the workers' folder that tell them what to do.
FAIL = "fail"  # raise in the constructor, as long as it is there
HANG = "hang"  # the worker that is prepared next stops itself as SIGSTOP does

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent)}  # where the actors find the class below
CONFIG = ClusterConfig(resource_timeout_seconds=60, call_seconds=60, health_seconds=20, max_lost_workers=3)


class Squarer:
    """Squares numbers slowly; it must be prepared first if it takes another's place."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if (self._folder / FAIL).exists():
            raise RuntimeError("no squarer today")
        number = sum(1 for _ in self._folder.glob("pid-*"))
        (self._folder / f"pid-{os.getpid()}").touch()
        self._prepared = number < 2

    def pid(self) -> int:
        return os.getpid()

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def prepare(self) -> None:
        if (self._folder / HANG).exists():
            (self._folder / HANG).unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        self._prepared = True

    def square(self, numbers: Sequence[int], seconds: float) -> list[tuple[int, int]]:
        assert self._prepared, "it got work before it was prepared"
        time.sleep(seconds)
        if 13 in numbers:
            raise ValueError("13 brings bad luck")
        return [(number * number, os.getpid()) for number in numbers]


class Pool:
    """Two workers, and what the pool says."""

    def __init__(self, folder: Path, config: ClusterConfig = CONFIG) -> None:
        self.folder = folder
        self._reservation = Reservation([Bundle(cpus=1), Bundle(cpus=1)], timeout_seconds=60)
        self.group = ActorGroup(self._reservation)
        self.group.start(Squarer, [(str(folder),)] * 2, ENVIRONMENT)
        self.said: list[str] = []
        self.pool = WorkerPool(
            self.group,
            config,
            what="squarer",
            prepare=lambda actor: [actor.prepare.remote()],
            notice=self.said.append,
        )
        self.pids: list[int] = wait_for([actor.pid.remote() for actor in self.group.actors], "the start")

    def close(self) -> None:
        """End the workers, and give back what they sat on to the next pool."""
        self.group.close()
        self._reservation.close()

    def submit(self, numbers: Sequence[int], seconds: float = 0.0) -> Any:
        return self.pool.submit(numbers, lambda actor, share: actor.square.remote(list(share), seconds))

    def work_until(self, reached: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let it work, and look at what it gives, until something is reached."""
        deadline = time.monotonic() + seconds
        while not reached() and time.monotonic() < deadline:
            assert squares(self.submit(range(4)).result()) == [0, 1, 4, 9]
            time.sleep(0.2)
        assert reached(), self.said

    def told(self, *parts: str) -> bool:
        """Whether a notice with all of these parts was given."""
        return any(all(part in notice for part in parts) for notice in self.said)


def squares(results: Sequence[tuple[int, int]]) -> list[int]:
    return [square for square, _ in results]
