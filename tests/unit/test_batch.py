"""From scores to training groups and metrics, with numbers computed by hand."""

from dataclasses import replace

import pytest

from medvie_rl.batch import ScoredGroup, make_training_groups, rollout_records, step_metrics
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


def scored(responses: list[str], *, version: int = 3, finish: FinishReason = FinishReason.STOP) -> ScoredGroup:
    document = Document(id="d", document_type="note", schema="note", annotation=TRUTH, image_keys=("k",))
    query = Query(id="train-0", document=document, keys=("drug", "dose", "date"), truth=TRUTH, reasoning=False)
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


def test_advantages_are_relative_to_the_group_and_equal_rewards_are_dropped() -> None:
    informative, equal = scored([RIGHT, HALF]), scored([HALF, HALF])
    # rewards: 0.9 * (1 + 1) / 2 + 0.1 = 1 and 0.9 * (1 + 0.5) / 2 + 0.1 = 0.775
    assert informative.rewards == pytest.approx([1.0, 0.775])
    (group,) = make_training_groups([informative, equal], normalize=True)
    assert [response.advantage for response in group.responses] == pytest.approx([1.0, -1.0], abs=1e-4)
    (group,) = make_training_groups([informative, equal], normalize=False)
    assert [response.advantage for response in group.responses] == pytest.approx([0.1125, -0.1125])
    assert (group.prompt_ids, group.image_keys, group.responses[0].token_ids) == ((7, 8, 9), ("k",), (1, 2))
    assert group.responses[0].sampler_logprobs == (-0.5, -0.1)


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
    assert metrics["rollout/staleness"] == pytest.approx(1.0)
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


def test_every_response_is_recorded_with_its_reward() -> None:
    records = list(rollout_records(5, [scored([RIGHT, HALF])]))
    assert [record["reward"] for record in records] == pytest.approx([1.0, 0.775])
    assert [record["trace"] for record in records] == [0, 1]
    assert records[1]["outcomes"] == [["drug", "correct"], ["dose", "omitted"]]
    assert (records[1]["counts"]["correct"], records[1]["counts"]["omitted"], records[1]["faults"]) == (1, 1, [])
    assert records[1]["components"] == pytest.approx({"precision": 0.45, "recall": 0.225, "format": 0.1})
    assert (records[1]["status"], records[1]["detail"]) == ("ok", "")
    assert records[0]["step"] == 5 and records[0]["weight_version"] == 3
