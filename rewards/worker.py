"""The reward actor's class: scores batches of responses against their documents' schemas."""

from collections.abc import Mapping, Sequence

from rewards.reward import RewardConfig, score_response
from rewards.schema import Schema
from rewards.types import Score, ScoreRequest


class RewardWorker:
    """Holds the schemas by name and scores requests one after the other. Plain class, no Ray."""

    def __init__(self, config: RewardConfig, schemas: Mapping[str, Schema]) -> None:
        self._config = config
        self._schemas = dict(schemas)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Scores in the order of `requests`. An error in scoring is raised, naming query and document."""
        return [self._score_one(request) for request in requests]

    def _score_one(self, request: ScoreRequest) -> Score:
        try:
            if request.schema not in self._schemas:
                raise ValueError(f"no schema {request.schema!r}; there are {', '.join(sorted(self._schemas))}")
            return score_response(
                self._schemas[request.schema],
                request.asked,
                request.truth,
                request.response,
                reasoning=request.reasoning,
                truncated=request.truncated,
                config=self._config,
                query_id=request.query_id,
                document_id=request.document_id,
            )
        except Exception as error:
            # The response is untrusted, but scoring must not fail on it: a failure is a defect, never a silent zero.
            where = f"query {request.query_id!r} of document {request.document_id!r}"
            raise RuntimeError(f"scoring {where} failed: {type(error).__name__}: {error}") from error
