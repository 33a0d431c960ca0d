"""Engines and learner on the same GPUs take turns with their memory."""

from enum import Enum
from typing import Any

from cluster.actors import ActorGroup, wait_for
from cluster.pool import WorkerPool
from medvie_rl.config import Config


class Turn(Enum):
    """Whose turn it is: who has GPU memory for what."""

    LEARNING = "learning"  # engines sleep
    SYNCING = "syncing"  # engines have their weights, no KV cache
    SAMPLING = "sampling"  # the learner's state is in CPU memory


class GpuTurns:
    """Moves engines and learner between the turns, as `rollout.sleep_while_learning` and
    `learner.offload_while_sampling` say; with neither, nothing ever moves."""

    def __init__(self, config: Config, engines: WorkerPool, learners: ActorGroup, turn: Turn) -> None:
        """`turn` is how engines and learner were started."""
        self._sleeps, self._offloads = config.rollout.sleep_while_learning, config.learner.offload_while_sampling
        self._engines, self._learners = engines, learners
        self._turn = turn

    def become(self, turn: Turn) -> None:
        """Do what has to be done for it to be this turn."""
        if turn is self._turn:
            return
        if self._turn is Turn.SAMPLING or turn is Turn.LEARNING:
            self._to_learning()
        if self._turn is Turn.LEARNING and turn is not Turn.LEARNING:
            self._wake("weights")
            self._turn = Turn.SYNCING
        if turn is Turn.SAMPLING:
            if self._offloads:
                self._tell_learner("offload")
            self._wake("kv_cache")
            self._turn = Turn.SAMPLING

    def _to_learning(self) -> None:
        if self._sleeps:
            self._engines.broadcast(lambda engine: engine.sleep.remote(), "engines to sleep")
        if self._offloads and self._turn is Turn.SAMPLING:
            self._tell_learner("reload")
        self._turn = Turn.LEARNING

    def _wake(self, part: str) -> None:
        if self._sleeps:
            self._engines.broadcast(lambda engine: engine.wake_up.remote(part=part), "engines to wake up")

    def _tell_learner(self, method: str) -> None:
        pending: list[Any] = [getattr(rank, method).remote() for rank in self._learners.actors]
        wait_for(pending, f"the learner to {method}")
