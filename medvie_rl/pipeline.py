"""Generation ahead of training: while the learner works on a step, the engines sample the batches of the next ones.

With depth 0 a batch is sampled when its step begins, by the policy of that step. With depth k the batch of step t is
asked for at the beginning of step t - k and sampled by the weights of that moment, so it is up to k updates old.
Weights change between batches only: a sync waits for the batch being sampled.
"""

from collections.abc import Mapping, Sequence

from cluster.pool import Work
from medvie_rl.config import Config
from medvie_rl.data.queries import Query, QueryStream
from medvie_rl.workers import Workers
from rollout.types import RolloutGroup


class Pipeline:
    """The batches that were asked for and not yet trained on."""

    def __init__(
        self,
        workers: Workers,
        queries: QueryStream,
        config: Config,
        in_flight: Mapping[int, Sequence[RolloutGroup]],
    ) -> None:
        """`in_flight` are the batches, by step, that the checkpoint of a resumed run holds."""
        self._workers, self._queries, self._config = workers, queries, config
        self._restored = {step: list(groups) for step, groups in in_flight.items()}
        self._pending: dict[int, Work] = {}

    def take(self, step: int) -> tuple[list[Query], list[RolloutGroup]]:
        """The queries of the step and their rollouts; asks for the batches that the depth allows to be ahead."""
        ahead = min(step + self._config.pipeline_depth, self._config.num_steps - 1)
        for other in range(step, ahead + 1):
            if other not in self._restored and other not in self._pending:
                self._pending[other] = self._workers.start_generating(self._asked(other), step=other)
        if step in self._pending:
            return self._asked(step), self._pending.pop(step).result()
        return self._asked(step), self._restored.pop(step)

    def in_flight(self) -> dict[int, list[RolloutGroup]]:
        """The batches ahead, by step, for a checkpoint: weights that are gone sampled them. Waits for them."""
        for step in list(self._pending):
            self._restored[step] = self._pending.pop(step).result()
        return dict(sorted(self._restored.items()))

    def _asked(self, step: int) -> list[Query]:
        return self._queries.take(step * self._config.queries_per_step, self._config.queries_per_step)
