"""The reward actor's class: scores batches of responses against their documents' schemas."""

from collections.abc import Mapping, Sequence

from rewards.config import RewardConfig
from rewards.pool import ScoringPool
from rewards.schema import Schema
from rewards.scorer import Scorer, lowered_failures
from rewards.types import Score, ScoreRequest


class RewardWorker:
    """Scores requests in processes that it starts and, when one hangs, kills. Plain class, no Ray."""

    def __init__(self, config: RewardConfig, schemas: Mapping[str, Schema]) -> None:
        self._config = config
        self._schemas = dict(schemas)
        self._scorer = Scorer(config, schemas)
        self._pool: ScoringPool | None = None

    def start(self) -> None:
        """Start the processes. Raises ComponentLoadError, naming the key, for a component that cannot be loaded."""
        if self._pool is None:
            self._pool = ScoringPool(self._config, self._schemas)

    def score(self, requests: Sequence[ScoreRequest], *, built_in_only: bool = False) -> list[Score]:
        """Scores in the order of `requests`; `built_in_only` leaves out components and the overlong penalty.

        A response that runs out of time or ends its process has status `timeout` or `crashed`, and earns no more than 0
        and than the worst of its query (of the batch, where none of its query was scored). So does one on which a
        component fails, where the configuration says to count that; else its error is raised, as is every other error
        in scoring, naming query and document.
        """
        self.start()
        assert self._pool is not None
        results = self._pool.score(requests, built_in_only=built_in_only)
        scores = [
            result
            if isinstance(result, Score)
            else self._scorer.failed(request, result.status, result.detail, built_in_only=built_in_only)
            for request, result in zip(requests, results, strict=True)
        ]
        return scores if built_in_only else lowered_failures(scores)

    def close(self) -> None:
        """End the processes; they also end with this one."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
