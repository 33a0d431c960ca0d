"""From rollouts to score requests, and from scores to training groups and metrics: pure functions of a step's data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev

from learner.advantages import batch_advantages, uninformative
from learner.loss_config import Loss
from learner.types import TrainingGroup, TrainingResponse, UpdateCost, UpdateStats
from medvie_rl.data.queries import Query
from rewards.scorer import FAILURES
from rewards.types import AnswerStatus, LeafCounts, LeafOutcome, Score, ScoreRequest
from rollout.types import FinishReason, Rollout, RolloutGroup

_WRONG = tuple(outcome for outcome in LeafOutcome if outcome is not LeafOutcome.CORRECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A query, its n rollouts and their n scores."""

    query: Query
    group: RolloutGroup
    scores: tuple[Score, ...]

    @property
    def rewards(self) -> list[float]:
        return [score.reward for score in self.scores]


def score_request(query: Query, rollout: Rollout, *, max_tokens: int) -> ScoreRequest:
    """What the reward actor is asked about one response, of `max_tokens` at most."""
    return ScoreRequest(
        query_id=query.id,
        document_id=query.document.id,
        schema=query.document.schema,
        asked=query.keys,
        truth=query.document.annotation,
        response=rollout.text,
        reasoning=query.reasoning,
        truncated=rollout.finish_reason is FinishReason.LENGTH,
        num_tokens=len(rollout.token_ids),
        max_tokens=max_tokens,
        columns=query.columns,
    )


def score_requests(queries: Sequence[Query], groups: Sequence[RolloutGroup], *, max_tokens: int) -> list[ScoreRequest]:
    """Those of every group's rollouts, one group behind the other."""
    return [
        score_request(query, rollout, max_tokens=max_tokens)
        for query, group in zip(queries, groups, strict=True)
        for rollout in group.rollouts
    ]


def sampled_groups(groups: Sequence[ScoredGroup]) -> list[TrainingGroup]:
    """All responses as the learner takes them, without advantages: to compare the sampler with the reference."""
    return [_training_group(group, [0.0] * len(group.rewards)) for group in groups]


def make_training_groups(
    groups: Sequence[ScoredGroup], loss: Loss, penalties: Mapping[tuple[str, int], float] | None = None
) -> list[TrainingGroup]:
    """Groups to learn from, with the advantages that `loss` names.

    Those whose advantages are all zero teach nothing and are dropped, unless the loss holds more than advantages (a KL,
    an entropy bonus). Of the others, responses that were cut off are left out with `loss.overlong` drop.

    `penalties` is what is taken off the reward of (query id, trace), the KL to the reference where it is in the reward.
    """
    rewards = [
        [
            reward - (penalties[group.query.id, trace] if penalties else 0.0)
            for trace, reward in enumerate(group.rewards)
        ]
        for group in groups
    ]
    advantages = batch_advantages(rewards, loss.advantage)
    made = [
        _training_group(group, of_group, drop_truncated=loss.overlong == "drop")
        for group, of_group in zip(groups, advantages, strict=True)
        if any(of_group) or loss.regularizes
    ]
    return [group for group in made if group.responses]


def step_metrics(groups: Sequence[ScoredGroup], *, weight_version: int) -> dict[str, float]:
    """Metrics of a step's rollouts and rewards, before anything is dropped; precision and recall are micro-averages.

    `reward/timeout`, `reward/crashed` and `reward/component_error` are numbers of responses, `reward/status_*` shares.
    """
    scores = [score for group in groups for score in group.scores]
    rollouts = [rollout for group in groups for rollout in group.group.rollouts]
    counts = sum((score.counts for score in scores), LeafCounts())
    precision, recall = counts.precision, counts.recall
    statuses = Counter(score.status for score in scores)
    metrics = {
        "reward/mean": fmean([score.reward for score in scores]),
        "reward/std_in_group": fmean([pstdev(group.rewards) for group in groups]),
        "reward/best_of_group": fmean([max(group.rewards) for group in groups]),
        "reward/precision": precision,
        "reward/recall": recall,
        "reward/f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "reward/valid_json": statuses[AnswerStatus.OK] / len(scores),
        "rollout/tokens_mean": fmean([len(rollout.token_ids) for rollout in rollouts]),
        "rollout/tokens_total": float(sum(len(rollout.token_ids) for rollout in rollouts)),
        "rollout/truncated": fmean([rollout.finish_reason is FinishReason.LENGTH for rollout in rollouts]),
        "rollout/staleness": fmean([weight_version - rollout.weight_version for rollout in rollouts]),
        "rollout/staleness_max": float(max(weight_version - rollout.weight_version for rollout in rollouts)),
        "rollout/uninformative_groups": fmean([uninformative(group.rewards) for group in groups]),
    }
    for outcome in _WRONG:
        metrics[f"reward/{outcome.value}_per_response"] = getattr(counts, outcome.value) / len(scores)
    for status in FAILURES:
        metrics[f"reward/{status.value}"] = float(statuses[status])
    for status in sorted(statuses.keys() - {AnswerStatus.OK, *FAILURES}):
        metrics[f"reward/status_{status.value}"] = statuses[status] / len(scores)
    for name in sorted({name for score in scores for name in score.components}):
        metrics[f"reward/component_{name}"] = fmean([score.components.get(name, 0.0) for score in scores])
    return metrics


def update_metrics(stats: UpdateStats, cost: UpdateCost) -> dict[str, float]:
    """Metrics of an update; what it cost is named `time/` and `memory/`."""
    metrics = {f"loss/{name}": value for name, value in asdict(stats).items() if value is not None}
    metrics |= {f"time/update_{phase}": seconds for phase, seconds in cost.seconds.items()}
    return metrics | {"memory/learner_gib": cost.memory_gib}


def _training_group(group: ScoredGroup, advantages: Sequence[float], *, drop_truncated: bool = False) -> TrainingGroup:
    responses = tuple(
        TrainingResponse(
            token_ids=rollout.token_ids, sampler_logprobs=rollout.logprobs, advantage=advantage, trace=trace
        )
        for trace, (rollout, advantage) in enumerate(zip(group.group.rollouts, advantages, strict=True))
        if not (drop_truncated and rollout.finish_reason is FinishReason.LENGTH)
    )
    return TrainingGroup(
        query_id=group.query.id,
        prompt_ids=group.group.prompt_ids,
        image_keys=group.query.document.image_keys,
        responses=responses,
    )
