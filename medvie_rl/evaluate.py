"""Scoring a policy on held-out documents: every key is asked for, answers are greedy unless `evaluation.sampling` says
otherwise, and follow the schema's grammar with `evaluation.constrained`.

What is measured are the answers: the reward's own components of a run and its overlong penalty have no part in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medvie_rl.data.queries import Query
from medvie_rl.workers import Workers
from rewards.metrics import ExtractionMetrics, extraction_metrics
from rewards.types import Score
from rollout.types import FinishReason, Rollout, RolloutGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Answers, scores and metrics of one policy on some documents, in the order of the queries."""

    queries: tuple[Query, ...]
    rollouts: tuple[Rollout, ...]
    scores: tuple[Score, ...]
    metrics: ExtractionMetrics

    def step_metrics(self) -> dict[str, float]:
        """The numbers that go into a step's metrics."""
        metrics = self.metrics
        return {
            "eval/f1": metrics.f1,
            "eval/precision": metrics.precision,
            "eval/recall": metrics.recall,
            "eval/valid_json": metrics.valid_json_rate,
            "eval/tokens_mean": fmean(len(rollout.token_ids) for rollout in self.rollouts),
        }

    def record(self) -> dict[str, Any]:
        """What is kept in the run directory: metrics and every document's answer."""
        return {
            "metrics": self.metrics.to_dict(),
            "weight_version": self.rollouts[0].weight_version,
            "documents": [
                {
                    "id": query.document.id,
                    "response": rollout.text,
                    "finish_reason": rollout.finish_reason.value,
                    "answer": score.answer,
                    "truth": dict(query.truth),
                    "f1": score.f1,
                    "status": score.status.value,
                }
                for query, rollout, score in zip(self.queries, self.rollouts, self.scores, strict=True)
            ],
        }


def evaluate(workers: Workers, queries: Sequence[Query], *, bootstrap_samples: int, seed: int) -> Evaluation:
    """Generate one answer a document and score it; intervals are bootstrapped over documents."""
    groups = workers.generate(queries, step=0, answers=True)
    return _evaluation(workers, queries, groups, bootstrap_samples=bootstrap_samples, seed=seed)


def restore_evaluation(
    workers: Workers, queries: Sequence[Query], record: Mapping[str, Any], *, bootstrap_samples: int, seed: int
) -> Evaluation:
    """The evaluation that was recorded: its answers are scored again, none is generated.

    Raises ValueError if the record is of other documents.
    """
    recorded = {entry["id"]: entry for entry in record["documents"]}
    if [query.document.id for query in queries] != list(recorded):
        raise ValueError("the recorded evaluation is of other documents than the run's; was the dataset changed?")
    groups = [_recorded_group(query, recorded[query.document.id], record["weight_version"]) for query in queries]
    return _evaluation(workers, queries, groups, bootstrap_samples=bootstrap_samples, seed=seed)


def _evaluation(
    workers: Workers, queries: Sequence[Query], groups: Sequence[RolloutGroup], *, bootstrap_samples: int, seed: int
) -> Evaluation:
    scores = tuple(scores[0] for scores in workers.score(queries, groups, built_in_only=True))
    rollouts = [group.rollouts[0] for group in groups]
    return Evaluation(
        queries=tuple(queries),
        rollouts=tuple(rollouts),
        scores=scores,
        metrics=extraction_metrics(scores, num_resamples=bootstrap_samples, seed=seed),
    )


def _recorded_group(query: Query, entry: Mapping[str, Any], weight_version: int) -> RolloutGroup:
    rollout = Rollout(
        text=entry["response"],
        token_ids=(),
        logprobs=(),
        finish_reason=FinishReason(entry["finish_reason"]),
        weight_version=weight_version,
    )
    return RolloutGroup(query_id=query.id, prompt_ids=(), rollouts=(rollout,))
