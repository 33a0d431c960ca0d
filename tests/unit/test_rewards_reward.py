"""The reward and the actor's class: hand-computed rewards, corner cases, errors that name the document."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.reward import RewardConfig, is_exact, score_response
from rewards.schema import FieldSpec, Schema, load_schema
from rewards.types import AnswerStatus, Score, ScoreRequest
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


def test_the_worker_scores_in_order_and_restricts_the_truth_to_the_asked_keys() -> None:
    worker = RewardWorker(RewardConfig(), {"slip": SCHEMA})
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
def test_an_error_in_scoring_names_the_document(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        RewardWorker(RewardConfig(), {"slip": SCHEMA}).score([_request(**changes)])


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
