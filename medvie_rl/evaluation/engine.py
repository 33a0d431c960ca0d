"""A policy's engine in a process of its own, so that all its memory is given back before the next one starts.

Two engines in one process do not get along on a CPU, and a GPU's memory is free only when the process has ended.
"""

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from medvie_rl.environment import set_environment
from rollout.config import RolloutConfig, worker_environment
from rollout.types import GenerationRequest, RolloutGroup

_SECONDS_TO_END = 20.0


class EngineProcess:
    """The engine of one policy; `generate` asks it."""

    def __init__(self, connection: Connection, process: Any, policy: Path) -> None:
        self._connection = connection
        self._process = process
        self._policy = policy
        self._receive()  # it has started

    def generate(self, requests: Sequence[GenerationRequest], images: Mapping[str, bytes]) -> list[RolloutGroup]:
        """The answers to a batch, in its order; raises what the engine raised."""
        self._connection.send((requests, images))
        groups: list[RolloutGroup] = self._receive()
        return groups

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            self._process.join(_SECONDS_TO_END)
            raise ClusterError(
                f"{self._policy}: the engine's process ended with code {self._process.exitcode}, see above; where it "
                "was killed for memory, lower --set max_num_seqs=N or kv_cache_gib=N"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


@contextmanager
def start_engine(policy: Path, config: RolloutConfig) -> Iterator[EngineProcess]:
    """An engine for the time of the context. Raises ClusterError where its process ends before its time."""
    os.environ.update(worker_environment(config))  # read when the new process loads its libraries
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, config, str(policy)))
    process.start()
    its.close()
    try:
        yield EngineProcess(ours, process, policy)
    finally:
        ours.close()  # it ends when nobody can ask any more
        process.join(_SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(connection: Connection, config: RolloutConfig, policy: str) -> None:
    set_environment(allow_downloads=False)  # which also keeps libraries quiet, in a new process anew
    from rollout.worker import RolloutWorker

    worker = RolloutWorker(config, policy)
    connection.send(None)
    while True:
        try:
            requests, images = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(worker.generate(requests, images))
        except ValueError as error:  # of a request; anything else ends the process with its traceback
            connection.send(error)
