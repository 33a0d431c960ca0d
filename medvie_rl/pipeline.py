"""Generation ahead of training: while the learner works on a step, the engines sample the batches of the next ones.

With depth 0 a batch is sampled when its step begins, by the policy of that step. With depth k the batch of step t is
asked for at the beginning of step t - k and sampled by the weights of that moment, so it is up to k updates old.
Weights change between batches only: a sync waits for the batch being sampled.
"""

import math
from collections.abc import Mapping, Sequence

from cluster.pool import Work
from medvie_rl.checkpoints import RunState
from medvie_rl.config import Config
from medvie_rl.data.queries import Query, QueryStream
from medvie_rl.workers import Workers
from rollout.types import RolloutGroup

Batch = tuple[list[Query], list[RolloutGroup]]


class Pipeline:
    """The batches that were asked for and not yet trained on."""

    def __init__(
        self,
        workers: Workers,
        queries: QueryStream,
        config: Config,
        state: RunState,
        in_flight: Mapping[int, Sequence[RolloutGroup]],
    ) -> None:
        """`state` says which query is next, and is moved on; `in_flight` are the batches, by step, that the checkpoint
        of a resumed run holds."""
        self._workers, self._queries, self._config, self._state = workers, queries, config, state
        self._restored = {step: list(groups) for step, groups in in_flight.items()}
        self._pending: dict[int, tuple[list[Query], Work]] = {}
        if state.next_query < 0:
            state.next_query = (state.step + len(in_flight)) * config.queries_per_step

    def take(self, step: int) -> Batch:
        """The queries of the step and their rollouts; asks for the batches that the depth allows to be ahead."""
        ahead = min(step + self._config.pipeline_depth, self._config.num_steps - 1)
        for other in range(step, ahead + 1):
            if other not in self._restored and other not in self._pending:
                self._pending[other] = self._ask(other, self._num_queries())
        if step in self._pending:
            queries, work = self._pending.pop(step)
            return queries, work.result()
        groups = self._restored.pop(step)
        return [self._queries.of_id(group.query_id) for group in groups], groups

    def more(self, step: int, num: int) -> Batch:
        """So many further queries for the step, and their rollouts."""
        queries, work = self._ask(step, num)
        return queries, work.result()

    def in_flight(self) -> dict[int, list[RolloutGroup]]:
        """The batches ahead, by step, for a checkpoint: weights that are gone sampled them. Waits for them."""
        for step in list(self._pending):
            _, work = self._pending.pop(step)
            self._restored[step] = work.result()
        return dict(sorted(self._restored.items()))

    def _num_queries(self) -> int:
        """How many to ask at first: more than a step trains on, where groups are likely to be dropped."""
        num, sampling = self._config.queries_per_step, self._config.dynamic_sampling
        if not sampling.max_rounds:
            return num
        return min(math.ceil(num / self._state.informative_share), int(num * sampling.max_oversampling))

    def _ask(self, step: int, num: int) -> tuple[list[Query], Work]:
        queries = self._queries.take(self._state.next_query, num)
        self._state.next_query += num
        return queries, self._workers.start_generating(queries, step=step)
