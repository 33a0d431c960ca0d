"""The reward and the actor's class: hand-computed rewards, corner cases, errors that name the document."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards.reward import RewardConfig, is_exact, score_response
from rewards.schema import FieldSpec, Schema, load_schema
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score, ScoreRequest
from rewards.worker import RewardWorker

SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=(
        FieldSpec(key="name", description="name", kind="person_name"),
        FieldSpec(key="dose", description="dose", kind="quantity", weight=3.0),
        FieldSpec(key="room", description="room", kind="text"),
        FieldSpec(key="ward", description="ward", kind="text"),
    ),
)
TRUTH = {"name": "Ana Silva", "dose": "5 mg", "room": "12"}
REAL_DOCUMENTS = Path(__file__).parents[3] / "shared" / "real_documents"


def score(answer: Any, truth: Any = TRUTH, *, reasoning: bool = False, truncated: bool = False, **config: Any) -> Score:
    response = answer if isinstance(answer, str) else json.dumps(answer)
    return score_response(
        SCHEMA, SCHEMA.keys, truth, response, reasoning=reasoning, truncated=truncated, config=RewardConfig(**config)
    )


def test_the_reward_by_hand() -> None:
    """Predicted: name right (1), dose right (3), ward invented (1); true: 5 in weight, room (1) left out."""
    result = score({"name": "Ana Silva", "dose": "5 mg", "ward": "B"})
    assert (result.precision, result.recall, result.f1) == (2 / 3, 2 / 3, pytest.approx(2 / 3))
    assert (result.weighted_precision, result.weighted_recall) == (4 / 5, 4 / 5)
    assert result.components == pytest.approx({"precision": 0.36, "recall": 0.36, "format": 0.1})
    assert result.reward == pytest.approx(0.82)
    assert (result.counts.correct, result.counts.hallucinated, result.counts.omitted) == (2, 1, 1)
    assert (result.status, result.faults, result.answer) == (
        AnswerStatus.OK, (), {"name": "Ana Silva", "dose": "5 mg", "ward": "B"},
    )  # fmt: skip


def test_the_balance_of_precision_and_recall() -> None:
    answer = {"name": "Ana Silva"}  # P = 1, R = 1/5
    assert score(answer).reward == pytest.approx(0.1 + 0.9 * 0.6)
    assert score(answer, precision_weight=3, recall_weight=1).reward == pytest.approx(0.1 + 0.9 * 0.8)
    assert score(answer, precision_weight=0, format_weight=0).reward == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (1.0, 2 * 1 * 0.2 / 1.2),
        (2.0, 5 * 1 * 0.2 / (4 * 1 + 0.2)),  # nearer to the recall
        (0.5, 1.25 * 1 * 0.2 / (0.25 * 1 + 0.2)),  # nearer to the precision
    ],
)
def test_an_f_measure_in_place_of_the_mix(beta: float, expected: float) -> None:
    result = score({"name": "Ana Silva"}, f_beta=beta)  # P = 1, R = 1/5
    assert result.components == pytest.approx({"f_beta": 0.9 * expected, "format": 0.1})
    assert result.reward == math.fsum(result.components.values())
    assert score(TRUTH, f_beta=beta).reward == score({}, {}, f_beta=beta).reward == 1.0
    assert score({}, f_beta=beta).components == {"f_beta": 0.0, "format": 0.1}
    assert score({"ward": "B"}, f_beta=beta).reward == pytest.approx(0.1)


def _leaf(key: str, outcome: LeafOutcome, answered: Any, true: Any, weight: float, credit: float) -> Leaf:
    return Leaf(
        key=key, kind="free_text", outcome=outcome, answered=answered, true=true, position=(), weight=weight,
        credit=credit,
    )  # fmt: skip


def test_partial_credit_moves_the_reward_and_not_the_strict_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted: name right (1), dose close (half of 3), ward invented (1); true: name, dose and room (1)."""
    leaves = (
        _leaf("name", LeafOutcome.CORRECT, "a", "a", 1.0, 1.0),
        _leaf("dose", LeafOutcome.CLOSE, "b", "c", 3.0, 0.5),
        _leaf("ward", LeafOutcome.HALLUCINATED, "d", None, 1.0, 0.0),
        _leaf("room", LeafOutcome.OMITTED, None, "e", 1.0, 0.0),
    )
    monkeypatch.setattr("rewards.reward.match_document", lambda *_: leaves)
    result = score({})
    assert (result.precision, result.recall, result.f1) == (1 / 3, 1 / 3, 1 / 3)
    assert (result.weighted_precision, result.weighted_recall) == (2.5 / 5, 2.5 / 5)
    assert result.reward == pytest.approx(0.1 + 0.9 * 0.5)
    assert result.counts == LeafCounts.of(leaves) == LeafCounts(correct=1, close=1, hallucinated=1, omitted=1)


def test_both_sides_of_misassociated_leaves_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair together, two predicted and one true leaf apart: P = 1/4, R = 1/3."""
    right = _leaf("name", LeafOutcome.CORRECT, "a", "a", 1.0, 1.0)
    sides = [("b", "c"), ("d", None), ("e", None), (None, "f")]
    leaves = (right, *(_leaf("room", LeafOutcome.MISASSOCIATED, answered, true, 1.0, 0.0) for answered, true in sides))
    monkeypatch.setattr("rewards.reward.match_document", lambda *_: leaves)
    result = score({})
    assert result.counts == LeafCounts.of(leaves) == LeafCounts(correct=1, misassociated=3, misassociated_true=2)
    assert (result.precision, result.recall) == (1 / 4, 1 / 3)


@pytest.mark.parametrize(
    ("num_tokens", "penalty"),
    [(1, 0.0), (80, 0.0), (81, 0.025), (90, 0.25), (99, 0.475), (100, 0.5), (250, 0.5)],
)
def test_the_overlong_penalty(num_tokens: int, penalty: float) -> None:
    """Of 100 tokens the last 20 cost, up to 0.5; valid or not."""
    for response, reward in ((json.dumps(TRUTH), 1.0), ("no JSON", 0.0)):
        result = score_response(
            SCHEMA, SCHEMA.keys, TRUTH, response, reasoning=False, truncated=False,
            config=RewardConfig(overlong_penalty=0.5), num_tokens=num_tokens, max_tokens=100,
        )  # fmt: skip
        assert result.components["overlong"] == pytest.approx(-penalty)
        assert math.copysign(1, result.components["overlong"]) == (-1 if penalty else 1)
        assert result.reward == math.fsum(result.components.values()) == pytest.approx(reward - penalty)


def test_the_overlong_penalty_has_to_know_the_lengths() -> None:
    with pytest.raises(ValueError, match=r"overlong_penalty needs to know .* got num_tokens=0 and max_tokens=0"):
        score(TRUTH, overlong_penalty=0.5)
    assert "overlong" not in score(TRUTH).components


def test_null_and_left_out_are_the_same_thing() -> None:
    """Right for a key that the document does not have, an omission for one that it has."""
    for absent in (TRUTH, {**TRUTH, "ward": None}, {**TRUTH, "ward": ""}, {**TRUTH, "ward": []}):
        assert score(absent).reward == 1.0 and is_exact(score(absent))
    without = {key: value for key, value in TRUTH.items() if key != "room"}
    left_out, null = score(without), score({**without, "room": None})
    assert (left_out.reward, left_out.counts) == (null.reward, null.counts)
    assert (null.precision, null.counts.omitted) == (1.0, 1) and null.reward == pytest.approx(0.1 + 0.9 * 0.9)


def test_a_wrong_dose_costs_more_than_a_wrong_room() -> None:
    assert score({**TRUTH, "dose": "50 mg"}).reward == pytest.approx(0.1 + 0.9 * 2 / 5)
    assert score({**TRUTH, "room": "13"}).reward == pytest.approx(0.1 + 0.9 * 4 / 5)


def test_the_best_reward_is_one_and_the_floor_is_zero() -> None:
    assert score(TRUTH).reward == 1.0 and is_exact(score(TRUTH))
    assert score("no JSON").reward == 0.0 and not is_exact(score("no JSON"))
    assert score("no JSON").counts.omitted == 3


def test_nothing_to_answer() -> None:
    """Silence is right, inventing is worth less than silence, and no valid object is the floor even then."""
    assert (score({}, {}).precision, score({}, {}).recall, score({}, {}).reward) == (1.0, 1.0, 1.0)
    assert score({"name": None, "room": ""}, {"name": None}).reward == 1.0
    assert is_exact(score({}, {}))
    invented = score({"ward": "B"}, {})
    assert (invented.precision, invented.recall, invented.reward) == (0.0, 0.0, pytest.approx(0.1))
    assert score("{", {}).reward == 0.0 and score("{", {}).f1 == 0.0
    empty = score({}, TRUTH)
    assert (empty.precision, empty.recall, empty.reward) == (0.0, 0.0, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("response", "reasoning", "reward"),
    [
        ("<think>x</think>{json}", True, 1.0),
        ("{json}", True, 0.9),
        ("<think>x</think>Answer: {json}", True, 0.9),
        ("```json\n{json}\n```", False, 0.9),
        ("<think>x</think>{json}", False, 0.9),
        ("<think>{json}</think>", True, 0.0),
        ("{json}{json}", False, 0.0),
    ],
)
def test_the_format_share(response: str, reasoning: bool, reward: float) -> None:
    assert score(response.replace("{json}", json.dumps(TRUTH)), reasoning=reasoning).reward == pytest.approx(reward)


def test_truncated_responses_are_counted_as_such() -> None:
    cut = score("<think>long", reasoning=True, truncated=True)
    assert (cut.status, cut.reward) == (AnswerStatus.TRUNCATED, 0.0)
    assert score(TRUTH, truncated=True).reward == 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"precision_weight": -1}, "reward.precision_weight must be 0 or more, got -1"),
        ({"recall_weight": float("nan")}, "reward.recall_weight must be 0 or more"),
        ({"precision_weight": 0, "recall_weight": 0}, "both 0"),
        ({"format_weight": 1.0}, "must be below 1"),
        ({"max_json_depth": 0}, "max_json_depth must be at least 1"),
        ({"f_beta": 0.0}, "f_beta must be above 0, or null"),
        ({"overlong_penalty": -0.1}, "overlong_penalty must be 0 or more"),
        ({"overlong_buffer": 0.0}, "overlong_buffer must be above 0 and at most 1, got 0.0"),
    ],
)
def test_a_config_without_sense_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardConfig(**config)


def _request(**changes: Any) -> ScoreRequest:
    values: dict[str, Any] = {
        "query_id": "q1", "document_id": "d1", "schema": "slip", "asked": ("name", "dose"), "truth": TRUTH,
        "response": '{"name": "Ana Silva", "room": "12"}', "reasoning": False, "truncated": False,
    }  # fmt: skip
    return ScoreRequest(**values | changes)


@pytest.fixture(scope="module")
def worker() -> Iterator[RewardWorker]:
    worker = RewardWorker(RewardConfig(), {"slip": SCHEMA})
    yield worker
    worker.close()


def test_the_worker_scores_in_order_and_restricts_the_truth_to_the_asked_keys(worker: RewardWorker) -> None:
    first, second = worker.score([_request(), _request(query_id="q2", asked=("name", "room"))])
    assert (first.query_id, first.document_id, first.schema) == ("q1", "d1", "slip")
    assert (first.counts.correct, first.counts.hallucinated, first.counts.omitted) == (1, 1, 1)
    assert (second.query_id, second.reward) == ("q2", 1.0)
    assert worker.score([]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "slipp"}, "query 'q1' of document 'd1' failed: ValueError: no schema 'slipp'; there are slip"),
        ({"asked": ("nam",)}, "query 'q1' of document 'd1' failed: KeyError: .*did you mean 'name'"),
        ({"truth": {"name": ["Ana"]}}, "query 'q1' of document 'd1' failed: ValueError: key 'name'"),
    ],
)
def test_an_error_in_scoring_names_the_document(worker: RewardWorker, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        worker.score([_request(**changes)])


def _prescriptions() -> list[dict[str, Any]]:
    path = REAL_DOCUMENTS / "vaipe_prescriptions_vi" / "annotations.jsonl"
    if not path.is_file():
        pytest.skip(f"the real prescriptions are not at {path}; they cannot be shipped with the code")
    return [json.loads(line)["fields"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_real_prescriptions_fit_the_schema_and_the_truth_earns_one() -> None:
    schema = load_schema(Path(__file__).parents[2] / "conf" / "schemas" / "prescription_vi.yaml")
    documents = _prescriptions()
    assert documents

    def scored(truth: dict[str, Any], answer: dict[str, Any]) -> Score:
        return score_response(
            schema, schema.keys, truth, json.dumps(answer), reasoning=False, truncated=False, config=RewardConfig()
        )

    def recased(value: Any) -> Any:
        return [item.upper() for item in reversed(value)] if isinstance(value, list) else value.upper()

    for fields in documents:
        assert schema.validate_annotation(fields) == []
        for answer in (fields, {key: recased(value) for key, value in fields.items()}):
            assert scored(fields, answer).reward == 1.0 and is_exact(scored(fields, answer))
        without_date = scored(fields, {**fields, "date": None})
        assert (without_date.precision, without_date.counts.omitted) == (1.0, 1) and without_date.recall < 1
