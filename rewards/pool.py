"""Processes that score, so that a response that hangs or ends its process costs itself and nothing else.

Requests go to the processes in chunks. When a chunk runs out of time or its process dies, its requests are run again
one by one, so that only the culprit is counted. Processes come from a fork server, never by forking the caller, which
has threads when it is an actor.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType
from typing import NamedTuple

from pebble import ProcessExpired, ProcessPool

from rewards.components import ComponentLoadError, load_components
from rewards.config import RewardConfig
from rewards.schema import Schema
from rewards.scorer import Scorer
from rewards.types import AnswerStatus, Score, ScoreRequest
from rewards.units import read_unit

_CHUNK_SIZE = 16  # requests a task, where nothing but the built-in reward runs
_START_SECONDS = 120.0  # for a process to start and to import the components' modules
_KILL_SECONDS = 5.0  # beyond the time-out, within which a process that hangs is killed
_CHECK_SECONDS = 1.0
_LOADING = "reward.components: the process that loads them, and scores,"


class Failure(NamedTuple):
    """Why a request has no score."""

    status: AnswerStatus
    detail: str


class _Task(NamedTuple):
    pool: ProcessPool
    future: "Future[list[Score]]"


class ScoringPool:
    """`reward.num_processes` processes, each with schemas, configuration and components. One caller at a time."""

    def __init__(self, config: RewardConfig, schemas: Mapping[str, Schema]) -> None:
        """Start the processes. Raises ComponentLoadError if a component cannot be loaded, naming its key."""
        self._config = config
        self._schemas = dict(schemas)
        self._chunk_size = 1 if config.components else _CHUNK_SIZE
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_worth_preloading())
        self._pool = self._start()

    def score(self, requests: Sequence[ScoreRequest], *, built_in_only: bool = False) -> list[Score | Failure]:
        """Scores in the order of `requests`, and a Failure for each that ran out of time or ended its process.

        Errors in scoring are raised as they were there: RuntimeError, or ComponentError if they are to stop the run.
        """
        size = self._chunk_size
        chunks = [requests[start : start + size] for start in range(0, len(requests), size)]
        tasks = [self._schedule(chunk, built_in_only) for chunk in chunks]
        try:
            found = [self._collect(chunk, task) for chunk, task in zip(chunks, tasks, strict=True)]
        finally:
            for task in tasks:
                task.future.cancel()  # what is still under way after an error
        results: list[Score | Failure] = []
        for chunk, outcomes in zip(chunks, found, strict=True):
            results += [self._alone(request, built_in_only) for request in chunk] if outcomes is None else outcomes
        return results

    def close(self) -> None:
        """End the processes."""
        _end(self._pool)

    def _start(self) -> ProcessPool:
        pool = ProcessPool(
            max_workers=self._config.num_processes,
            initializer=_load,
            initargs=(self._config, self._schemas),
            context=self._context,
        )
        future = pool.schedule(_score, args=((), False))
        if not wait([future], timeout=_START_SECONDS).done:
            error: BaseException | None = ComponentLoadError(f"{_LOADING} is not ready after {_START_SECONDS:g} s")
        elif isinstance(future.exception(), BrokenProcessPool):
            error = ComponentLoadError(f"{_LOADING} ended while it started")
        else:
            error = future.exception()
        if error is not None:
            _end(pool)
            raise error
        return pool

    def _schedule(self, chunk: Sequence[ScoreRequest], built_in_only: bool) -> _Task:
        if not self._pool.active:  # a process that died while idle breaks a pool
            self.close()
            self._pool = self._start()
        timeout = self._config.timeout_seconds
        return _Task(self._pool, self._pool.schedule(_score, args=(tuple(chunk), built_in_only), timeout=timeout))

    def _collect(self, chunk: Sequence[ScoreRequest], task: _Task) -> Sequence[Score | Failure] | None:
        """The scores of a chunk, or a failure where it is one request; None if it must be found out one by one."""
        try:
            return self._wait(task)
        except TimeoutError:
            failure = Failure(AnswerStatus.TIMEOUT, f"not scored within {self._config.timeout_seconds:g} s")
        except ProcessExpired as error:
            failure = Failure(AnswerStatus.CRASHED, f"the scoring process ended with {_describe(error.exitcode)}")
        except BrokenProcessPool:
            return None  # any of the requests under way may have done it
        return [failure] if len(chunk) == 1 else None

    def _alone(self, request: ScoreRequest, built_in_only: bool) -> Score | Failure:
        for _ in range(2):  # a process that dies at once may break the pool before it is known who ran what
            outcomes = self._collect([request], self._schedule([request], built_in_only))
            if outcomes is not None:
                return outcomes[0]
        return Failure(AnswerStatus.CRASHED, "the scoring process ended twice at its start")

    def _wait(self, task: _Task) -> list[Score]:
        """The result of a task. A pool that is broken, or does not kill in time, is given up: BrokenProcessPool."""
        deadline = time.monotonic() + _START_SECONDS + self._config.timeout_seconds + _KILL_SECONDS
        while not task.future.done():
            if not task.pool.active or time.monotonic() > deadline:
                _end(task.pool)
                raise BrokenProcessPool
            wait([task.future], timeout=_CHECK_SECONDS)
        return task.future.result()


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _worth_preloading() -> list[str]:
    """Modules that the fork server imports once for all processes.

    Each process runs the caller's main script again, which multiprocessing does; in an actor this imports all of Ray.
    """
    main = sys.modules["__main__"]
    is_script = getattr(main, "__spec__", None) is None
    modules = [value.__name__ for value in vars(main).values() if isinstance(value, ModuleType)] if is_script else []
    return [__name__, *modules]


def _describe(exitcode: int) -> str:
    name = f" ({signal.Signals(-exitcode).name})" if -exitcode in set(signal.Signals) else ""
    return f"exit code {exitcode}{name}"


# --- in the scoring process ------------------------------------------------------------------------------------------

_scorer: Scorer | None = None
_load_problem = ""


def _load(config: RewardConfig, schemas: Mapping[str, Schema]) -> None:
    global _scorer, _load_problem
    try:
        _scorer = Scorer(config, schemas, load_components(config.components))
        read_unit("mg")  # loads the table of units now rather than within the time-out of a response
    except ComponentLoadError as error:
        _load_problem = str(error)  # raised by the first task: what an initializer raises is lost


def _score(requests: Sequence[ScoreRequest], built_in_only: bool) -> list[Score]:
    if _scorer is None:
        raise ComponentLoadError(_load_problem)
    # The kernel's alarm ends a process that hangs when nobody is left to kill it: a killed actor says no goodbye.
    signal.setitimer(signal.ITIMER_REAL, _scorer.config.timeout_seconds + _KILL_SECONDS)
    try:
        return [_scorer.score(request, built_in_only=built_in_only) for request in requests]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
