"""One request scored in this process: the built-in reward, then the user's components."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rewards.components import Component, ComponentError, add_components
from rewards.config import RewardConfig
from rewards.reward import score_response
from rewards.schema import Schema
from rewards.types import AnswerStatus, Score, ScoreRequest

_MAX_RESTRICTED = 512  # schemas with a part of their columns that are kept
FAILURES = (AnswerStatus.TIMEOUT, AnswerStatus.CRASHED, AnswerStatus.COMPONENT_ERROR)


class Scorer:
    """Holds the schemas by name, the configuration and the loaded components."""

    def __init__(
        self, config: RewardConfig, schemas: Mapping[str, Schema], components: Sequence[Component] = ()
    ) -> None:
        self.config = config
        self._schemas = dict(schemas)
        self._restricted: dict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], Schema] = {}
        self._components = tuple(components)
        self._measuring = replace(config, overlong_penalty=0.0, components=[])

    def score(self, request: ScoreRequest, *, built_in_only: bool = False) -> Score:
        """The score of one request; `built_in_only` leaves out the components and the overlong penalty.

        An error in scoring is raised as RuntimeError, one of a component as ComponentError or counted, as the
        configuration says; both name query and document.
        """
        if built_in_only:
            return self._built_in(request, self._measuring)
        score = self._built_in(request, self.config)
        if not self._components:
            return score
        try:
            return add_components(score, request, self._components)
        except ComponentError as error:
            if self.config.on_component_error == "stop":
                raise
            return self.failed(request, AnswerStatus.COMPONENT_ERROR, error.detail)

    def failed(self, request: ScoreRequest, status: AnswerStatus, detail: str, *, built_in_only: bool = False) -> Score:
        """The floor of the reward for a response that could not be scored: every true leaf counts as omitted.

        The overlong penalty stays, so that failing is never worth more than a bad answer of the same length. Nor may it
        be worth more than an answer that a component makes negative: see `lowered_failures`.
        """
        score = self._built_in(replace(request, response=""), self._measuring if built_in_only else self.config)
        components = dict(score.components)
        if not built_in_only:
            components |= {component.name: 0.0 for component in self.config.components} | {"failure": 0.0}
        return replace(score, components=components, status=status, detail=detail)

    def _built_in(self, request: ScoreRequest, config: RewardConfig) -> Score:
        try:
            return score_response(
                self._schema(request),
                request.asked,
                request.truth,
                request.response,
                reasoning=request.reasoning,
                truncated=request.truncated,
                config=config,
                num_tokens=request.num_tokens,
                max_tokens=request.max_tokens,
                query_id=request.query_id,
                document_id=request.document_id,
            )
        except Exception as error:
            # The response is untrusted, but scoring must not fail on it: a failure is a defect, never a silent zero.
            where = f"query {request.query_id!r} of document {request.document_id!r}"
            raise RuntimeError(f"scoring {where} failed: {type(error).__name__}: {error}") from error

    def _schema(self, request: ScoreRequest) -> Schema:
        """The schema with the asked columns of tables that are asked in part."""
        if request.schema not in self._schemas:
            raise ValueError(f"no schema {request.schema!r}; there are {', '.join(sorted(self._schemas))}")
        if not request.columns:
            return self._schemas[request.schema]
        key = request.schema, tuple(sorted(request.columns.items()))
        if key not in self._restricted:
            if len(self._restricted) >= _MAX_RESTRICTED:
                self._restricted.clear()
            self._restricted[key] = self._schemas[request.schema].restricted(request.columns)
        return self._restricted[key]


def lowered_failures(scores: Sequence[Score]) -> list[Score]:
    """`scores` of one batch, where failing earns no more than the worst reward of the same query.

    A query of which nothing could be scored takes the worst of the batch. What is taken off is the component `failure`,
    negative or 0; a failed response never earns more than 0.
    """
    worst: dict[str, float] = {}
    for score in scores:
        if score.status not in FAILURES:
            worst[score.query_id] = min(score.reward, worst.get(score.query_id, score.reward))
    worst_of_all = min(worst.values(), default=0.0)
    return [
        _lowered(score, worst.get(score.query_id, worst_of_all)) if score.status in FAILURES else score
        for score in scores
    ]


def _lowered(score: Score, worst: float) -> Score:
    components = {**score.components, "failure": min(worst - score.reward, 0.0)}
    return replace(score, components=components, reward=math.fsum(components.values()))
