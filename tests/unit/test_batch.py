"""From scores to training groups and metrics, with numbers computed by hand."""

from dataclasses import replace
from statistics import pstdev
from typing import Any

import pytest

from learner.loss_config import Loss, LossConfig
from learner.types import TrainingGroup, UpdateCost, UpdateStats
from medvie_rl.batch import (
    ScoredGroup,
    make_training_groups,
    sampled_groups,
    step_metrics,
    update_metrics,
)
from medvie_rl.data.queries import Query
from medvie_rl.data.store import Document
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rewards.types import AnswerStatus, LeafCounts
from rollout.types import FinishReason, Rollout, RolloutGroup

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=tuple(FieldSpec(key=key, description=key, kind="text") for key in ("drug", "dose", "date")),
)
TRUTH = {"drug": "aspirin", "dose": "5 mg"}
RIGHT = '{"drug": "aspirin", "dose": "5 mg"}'
HALF = '{"drug": "aspirin"}'
WITH_INVENTED = '{"drug": "aspirin", "date": "monday"}'


def scored(
    responses: list[str], *, name: str = "train-0", version: int = 3, finish: FinishReason = FinishReason.STOP
) -> ScoredGroup:
    document = Document(id="d", document_type="note", schema="note", annotation=TRUTH, image_keys=("k",))
    query = Query(id=name, document=document, keys=("drug", "dose", "date"), truth=TRUTH, reasoning=False)
    rollouts = tuple(
        Rollout(text=text, token_ids=(1, 2), logprobs=(-0.5, -0.1), finish_reason=finish, weight_version=version)
        for text in responses
    )
    scores = tuple(
        score_response(SCHEMA, query.keys, TRUTH, text, reasoning=False, truncated=False, config=RewardConfig())
        for text in responses
    )
    group = RolloutGroup(query_id=query.id, prompt_ids=(7, 8, 9), rollouts=rollouts)
    return ScoredGroup(query=query, group=group, scores=scores)


def cut_off(group: ScoredGroup, *traces: int) -> ScoredGroup:
    rollouts = tuple(
        replace(rollout, finish_reason=FinishReason.LENGTH) if trace in traces else rollout
        for trace, rollout in enumerate(group.group.rollouts)
    )
    return replace(group, group=replace(group.group, rollouts=rollouts))


def advantages(group: TrainingGroup) -> list[float]:
    return [response.advantage for response in group.responses]


def loss_of(**settings: Any) -> Loss:
    return LossConfig(**settings).resolved(pipelined=False)


def test_advantages_are_relative_to_the_group_and_equal_rewards_are_dropped() -> None:
    informative, equal = scored([RIGHT, HALF]), scored([HALF, HALF])
    # rewards: 0.9 * (1 + 1) / 2 + 0.1 = 1 and 0.9 * (1 + 0.5) / 2 + 0.1 = 0.775
    assert informative.rewards == pytest.approx([1.0, 0.775])
    (group,) = make_training_groups([informative, equal], loss_of())
    assert advantages(group) == pytest.approx([1.0, -1.0], abs=1e-4)
    (group,) = make_training_groups([informative, equal], loss_of(preset="dr_grpo"))
    assert advantages(group) == pytest.approx([0.1125, -0.1125])
    assert (group.prompt_ids, group.image_keys, group.responses[0].token_ids) == ((7, 8, 9), ("k",), (1, 2))
    assert group.responses[0].sampler_logprobs == (-0.5, -0.1)
    assert [response.trace for response in group.responses] == [0, 1]
    assert make_training_groups([equal], loss_of()) == []


def test_a_baseline_of_the_batch_learns_from_equal_rewards() -> None:
    # rewards 1, 0.775, 0.775, 0.775: mean 0.83125
    high, equal = make_training_groups([scored([RIGHT, HALF]), scored([HALF, HALF])], loss_of(advantage="reinforce_pp"))
    deviation = pstdev([1.0, 0.775, 0.775, 0.775])
    assert advantages(high)[0] == pytest.approx((1 - 0.83125) / deviation, rel=1e-4)
    assert advantages(equal) == pytest.approx([(0.775 - 0.83125) / deviation] * 2, rel=1e-4)


def test_equal_rewards_are_kept_where_the_loss_holds_more_than_advantages() -> None:
    equal = scored([HALF, HALF])
    for settings in ({"preset": "grpo"}, {"kl_coefficient": 0.1}, {"entropy_coefficient": 0.1}):
        (group,) = make_training_groups([equal], loss_of(**settings))
        assert advantages(group) == [0.0, 0.0]
    assert make_training_groups([equal], loss_of(preset="rloo", kl_coefficient=0.0)) == []


def test_penalties_are_taken_off_the_rewards_of_their_traces() -> None:
    groups = [scored([RIGHT, HALF], name="a"), scored([HALF, HALF], name="b")]
    penalties = {("a", 0): 0.1, ("a", 1): 0.0, ("b", 0): 0.0, ("b", 1): 0.2}
    first, second = make_training_groups(groups, loss_of(preset="rloo"), penalties)
    # 1 - 0.1 and 0.775; 0.775 and 0.775 - 0.2: each minus the other
    assert advantages(first) == pytest.approx([0.125, -0.125])
    assert advantages(second) == pytest.approx([0.2, -0.2])
    with pytest.raises(KeyError):
        make_training_groups(groups, loss_of(preset="rloo"), {("a", 0): 0.1})


def test_responses_that_were_cut_off_are_dropped_and_still_count_for_the_others() -> None:
    group, gone = cut_off(scored([RIGHT, HALF, HALF]), 1), cut_off(scored([RIGHT, HALF]), 0, 1)
    (kept,) = make_training_groups([group, gone], loss_of(preset="dapo"))
    assert [response.trace for response in kept.responses] == [0, 2]
    everything, _ = make_training_groups([group, gone], loss_of())
    assert advantages(kept) == [advantages(everything)[0], advantages(everything)[2]]
    assert advantages(kept)[0] == pytest.approx(2**0.5, rel=1e-4)  # 2 / sqrt((4 + 1 + 1) / 3)


def test_all_responses_go_to_the_reference() -> None:
    (group,) = sampled_groups([cut_off(scored([HALF, HALF]), 0)])
    assert advantages(group) == [0.0, 0.0] and [response.trace for response in group.responses] == [0, 1]


def test_metrics_count_what_happened() -> None:
    metrics = step_metrics([scored([RIGHT, WITH_INVENTED]), scored(["no", "no"], finish=FinishReason.LENGTH)],
                           weight_version=4)  # fmt: skip
    # correct 2 + 1, predicted 2 + 2, true 4 × 2
    assert metrics["reward/precision"] == pytest.approx(3 / 4)
    assert metrics["reward/recall"] == pytest.approx(3 / 8)
    assert metrics["reward/f1"] == pytest.approx(2 * 3 / (4 + 8))
    assert metrics["reward/hallucinated_per_response"] == pytest.approx(1 / 4)
    assert metrics["reward/omitted_per_response"] == pytest.approx((1 + 2 + 2) / 4)
    assert metrics["reward/valid_json"] == pytest.approx(1 / 2)
    assert metrics["rollout/truncated"] == pytest.approx(1 / 2)
    assert metrics["rollout/staleness"] == pytest.approx(1.0) and metrics["rollout/staleness_max"] == 1
    assert metrics["rollout/uninformative_groups"] == pytest.approx(1 / 2)
    assert metrics["rollout/tokens_total"] == 8
    assert [metrics[f"reward/{name}"] for name in ("timeout", "crashed", "component_error")] == [0, 0, 0]
    assert metrics["reward/status_no_json"] == pytest.approx(1 / 2)
    # (0.45 + 0.225) / 4 of each rate, 0.1 of the format for half of the responses
    assert metrics["reward/component_precision"] == pytest.approx((0.45 + 0.225) / 4)
    assert metrics["reward/component_format"] == pytest.approx(0.05)


def test_every_class_and_every_failure_of_scoring_is_counted() -> None:
    group = scored([RIGHT, HALF, HALF, HALF])
    counts = LeafCounts(
        correct=1, close=2, convention=3, misread=4, misassociated=5, misassociated_true=5, hallucinated=6,
        duplicate=7, omitted=8,
    )  # fmt: skip
    statuses = (AnswerStatus.TIMEOUT, AnswerStatus.CRASHED, AnswerStatus.TIMEOUT, AnswerStatus.COMPONENT_ERROR)
    scores = tuple(
        replace(score, counts=counts if index == 0 else LeafCounts(), status=status, components={"mine": index / 2})
        for index, (score, status) in enumerate(zip(group.scores, statuses, strict=True))
    )
    metrics = step_metrics([replace(group, scores=scores)], weight_version=3)
    classes = ("close", "convention", "misread", "misassociated", "hallucinated", "duplicate", "omitted")
    assert [metrics[f"reward/{name}_per_response"] * 4 for name in classes] == [2, 3, 4, 5, 6, 7, 8]
    assert (metrics["reward/timeout"], metrics["reward/crashed"], metrics["reward/component_error"]) == (2, 1, 1)
    assert metrics["reward/component_mine"] == pytest.approx(0.75)
    assert not [name for name in metrics if name.startswith("reward/status_")]


def test_metrics_of_an_update() -> None:
    stats = UpdateStats(
        loss=-0.5, gradient_norm=2.0, clip_fraction=0.1, entropy=1.5, ratio_max=3.0, ratio_explosions=2,
        sampler_kl=0.01, sampler_logprob_difference=0.02, sampler_logprob_difference_max=0.3, importance_weight=0.9,
        importance_bounded=0.05, reference_kl=None, num_tokens=40, num_optimizer_steps=1,
    )  # fmt: skip
    metrics = update_metrics(stats, UpdateCost(seconds={"forward": 1.0, "backward": 2.0}, memory_gib=3.0))
    assert (metrics["loss/loss"], metrics["loss/ratio_explosions"], metrics["loss/clip_fraction"]) == (-0.5, 2, 0.1)
    assert (metrics["time/update_backward"], metrics["memory/learner_gib"]) == (2.0, 3.0)
    assert "loss/reference_kl" not in metrics
    with_reference = update_metrics(replace(stats, reference_kl=0.25), UpdateCost(seconds={}, memory_gib=3.0))
    assert with_reference["loss/reference_kl"] == 0.25
