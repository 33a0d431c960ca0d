"""Metrics over scores: hand-computed rates, intervals, pairs of systems, and where a gain comes from."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.metrics import ERROR_CLASSES, extraction_metrics, gain_by_error_class, paired_bootstrap
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score

SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=(
        FieldSpec(key="name", description="name", kind="person_name"),
        FieldSpec(key="age", description="age", kind="number", weight=3.0),
        FieldSpec(key="room", description="room", kind="text"),
        FieldSpec(key="notes", description="notes", kind="text", many=True),
    ),
)


def score(document: str, truth: dict[str, Any], answer: Any, query: str = "q") -> Score:
    response = answer if isinstance(answer, str) else json.dumps(answer)
    return score_response(
        SCHEMA, SCHEMA.keys, truth, response, reasoning=False, truncated=False, config=RewardConfig(),
        query_id=query, document_id=document,
    )  # fmt: skip


TRUTHS = [{"name": "Ana", "age": 45}, {"name": "Rui", "age": 30, "notes": ["a", "b"]}, {"name": "Eva"}]
BEFORE = [
    score("d0", TRUTHS[0], {"name": "Ana", "age": "45 y", "room": "n/a"}),  # 1 right, convention, hallucinated
    score("d1", TRUTHS[1], {"name": "Ruy", "notes": ["a", "a"]}),  # misread, omitted 2, 1 right, duplicate
    score("d2", TRUTHS[2], "no"),  # omitted
]
AFTER = [
    score("d0", TRUTHS[0], {"name": "Ana", "age": 45}),
    score("d1", TRUTHS[1], {"name": "Rui", "age": 3, "notes": ["a", "b"]}),  # age now misread
    score("d2", TRUTHS[2], {"name": "Eva"}),
]


def test_micro_rates_by_hand() -> None:
    """Before: 2 right of 6 predicted and 7 true leaves; weighted 2 of 8 and of 11 (an age weighs 3)."""
    metrics = extraction_metrics(BEFORE)
    assert (metrics.precision, metrics.recall, metrics.f1) == (2 / 6, 2 / 7, 4 / 13)
    assert (metrics.weighted_precision, metrics.weighted_recall) == (2 / 8, 2 / 11)
    assert metrics.weighted_f1 == 4 / 19
    assert (metrics.macro_precision, metrics.macro_recall) == ((1 / 2 + 1 / 2) / 4, (1 / 3 + 1 / 2) / 4)
    assert metrics.macro_f1 == pytest.approx((2 / 5 + 1 / 2) / 4)
    assert metrics.document_f1 == pytest.approx((2 / 5 + 2 / 7 + 0) / 3)
    assert metrics.counts == LeafCounts(correct=2, convention=1, misread=1, hallucinated=1, duplicate=1, omitted=3)
    assert metrics.error_rates == {
        "close": 0, "convention": 1 / 7, "misread": 1 / 7, "misassociated": 0, "hallucinated": 1 / 6,
        "duplicate": 1 / 6, "omitted": 3 / 7,
    }  # fmt: skip
    assert (metrics.valid_json_rate, metrics.well_formed_rate, metrics.exact_document_rate) == (2 / 3, 2 / 3, 0)
    assert extraction_metrics(AFTER).exact_document_rate == 2 / 3
    assert (metrics.num_documents, metrics.num_responses, metrics.statuses) == (3, 3, {"no_json": 1, "ok": 2})
    assert metrics.reward == pytest.approx(sum(item.reward for item in BEFORE) / 3)
    json.dumps(metrics.to_dict(), allow_nan=False)


def plain_score(document: str, leaves: list[Leaf], status: AnswerStatus = AnswerStatus.OK) -> Score:
    return Score(
        query_id=document, document_id=document, schema="slip", reward=0.0, components={}, precision=0.0, recall=0.0,
        f1=0.0, weighted_precision=0.0, weighted_recall=0.0, counts=LeafCounts.of(leaves), leaves=tuple(leaves),
        status=status, detail="", faults=(), answer={},
    )  # fmt: skip


def close(credit: float, weight: float = 1.0) -> Leaf:
    return Leaf("notes", "free_text", LeafOutcome.CLOSE, "a b", "a b c", (), weight, credit)


def right(weight: float = 1.0) -> Leaf:
    return Leaf("name", "text", LeafOutcome.CORRECT, "Ana", "Ana", (), weight, 1.0)


def omitted(weight: float = 1.0) -> Leaf:
    return Leaf("age", "number", LeafOutcome.OMITTED, None, 4, (), weight, 0.0)


def test_close_free_text_earns_a_part_in_weighted_rates_only() -> None:
    """Earned 2 * 0.75 + 0.5 of weights 2.5 answered and 4.5 true; strictly 1 of 2 and of 3."""
    metrics = extraction_metrics([plain_score("d", [close(0.75, 2.0), right(0.5), omitted(2.0)])])
    assert (metrics.weighted_precision, metrics.weighted_recall) == (2 / 2.5, 2 / 4.5)
    assert metrics.weighted_f1 == 4 / 7 and metrics.weighted_f1_ci95 == (4 / 7, 4 / 7)
    assert (metrics.precision, metrics.recall, metrics.f1) == (1 / 2, 1 / 3, 2 / 5)
    assert metrics.error_rates["close"] == 1 / 3


def test_close_text_that_becomes_right_counts_like_a_mended_misreading() -> None:
    gain = gain_by_error_class([plain_score("d", [close(0.5), omitted()])], [plain_score("d", [
        Leaf("notes", "free_text", LeafOutcome.CORRECT, "a b c", "a b c", (), 1.0, 1.0), omitted(),
    ])])  # fmt: skip
    assert gain.f1_gain["close"] == gain.delta_f1 == pytest.approx(2 / 3)
    assert (gain.mended["close"], gain.broken["close"]) == (1, 0)


def test_items_of_cells_are_told_apart_by_their_whole_position() -> None:
    leaves = [right()._replace(key="t.c", position=(0, item)) for item in range(2)]
    worse = [leaves[0], leaves[1]._replace(outcome=LeafOutcome.OMITTED, answered=None, credit=0.0)]
    assert gain_by_error_class([plain_score("d", worse)], [plain_score("d", leaves)]).mended["omitted"] == 1


def test_document_f1_and_its_interval_are_means_over_documents() -> None:
    """Two documents of F1 1 and 0: as many draws with mean 0 as with mean 1, half with 1/2."""
    metrics = extraction_metrics([plain_score("a", [right()]), plain_score("b", [omitted()])], num_resamples=4000)
    assert metrics.document_f1 == 0.5 and metrics.document_f1_ci95 == (0.0, 1.0)
    assert metrics.f1 == 2 / 3
    empty = [plain_score("a", []), plain_score("b", [], AnswerStatus.NO_JSON)]
    assert extraction_metrics(empty).document_f1 == 0.5  # right to say nothing, wrong to say no JSON
    twice = extraction_metrics(
        [plain_score("a", [right()]), plain_score("a", [omitted()]), plain_score("b", [right()])]
    )
    assert twice.document_f1 == (1 / 2 + 1) / 2


def test_whole_response_rates_have_intervals_over_documents() -> None:
    scores = [plain_score(str(i), [right()], AnswerStatus.OK if i % 4 else AnswerStatus.NO_JSON) for i in range(100)]
    metrics = extraction_metrics(scores, num_resamples=4000)
    assert metrics.valid_json_rate == metrics.exact_document_rate == 0.75
    low, high = metrics.valid_json_rate_ci95
    assert (low, high) == (pytest.approx(0.75 - 0.085, abs=0.012), pytest.approx(0.75 + 0.085, abs=0.012))
    assert metrics.exact_document_rate_ci95 == (low, high)


def test_rates_per_key() -> None:
    per_key = extraction_metrics(BEFORE).per_key
    assert list(per_key) == ["age", "name", "notes", "room"]
    assert (per_key["name"].precision, per_key["name"].recall) == (1 / 2, 1 / 3)
    assert (per_key["age"].f1, per_key["age"].counts) == (0, LeafCounts(convention=1, omitted=1))
    assert (per_key["notes"].precision, per_key["notes"].recall, per_key["notes"].f1) == (1 / 2, 1 / 2, 1 / 2)
    assert (per_key["room"].precision, per_key["room"].recall) == (0, 0)


def test_a_subset_of_leaves() -> None:
    seen = {"Ana", "a"}
    metrics = extraction_metrics(BEFORE, where=lambda leaf: leaf.true is not None and leaf.true not in seen)
    assert (metrics.counts.true, metrics.counts.predicted, metrics.counts.correct) == (5, 2, 0)
    assert metrics.exact_document_rate == 0 and metrics.num_documents == 3
    assert metrics.document_f1 == 0  # of all three documents some leaf is kept
    assert extraction_metrics(BEFORE, where=lambda leaf: leaf.key == "notes").document_f1 == 1 / 2  # of d1 alone
    nothing = extraction_metrics(BEFORE, where=lambda leaf: False)
    assert (nothing.document_f1, nothing.macro_f1, nothing.weighted_f1) == (1, 1, 1)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.f1_ci95) == (1, 1, 1, (1, 1))


def test_the_interval_is_the_bootstrap_over_documents() -> None:
    """Half of 400 one-leaf documents right: the interval is about 0.5 ± 1.96 sqrt(0.25 / 400)."""
    scores = [score(f"d{i}", {"name": "Ana"}, {"name": "Ana" if i % 2 else "Eva"}) for i in range(400)]
    low, high = extraction_metrics(scores, num_resamples=4000).recall_ci95
    assert (low, high) == (pytest.approx(0.5 - 0.049, abs=0.006), pytest.approx(0.5 + 0.049, abs=0.006))
    again = extraction_metrics(scores, num_resamples=4000)
    assert again.recall_ci95 == (low, high)
    assert extraction_metrics(scores[1:8], num_resamples=20, seed=1).f1_ci95 != (
        extraction_metrics(scores[1:8], num_resamples=20, seed=2).f1_ci95
    )
    doubled = extraction_metrics([*scores, *scores], num_resamples=4000)  # two responses each: no more documents
    assert (doubled.num_documents, doubled.num_responses, doubled.recall_ci95) == (400, 800, (low, high))


def test_two_systems_are_compared_on_the_same_draws() -> None:
    """Every document gains the same: the difference has no spread, though each system has."""
    before, after = [], []
    for i in range(50):
        truth = {"name": "Ana", "age": 45}
        before.append(score(f"d{i}", truth, {"name": "Ana" if i % 2 else "Eva", "age": 44}))
        after.append(score(f"d{i}", truth, {"name": "Ana" if i % 2 else "Eva", "age": 45}))
    difference = paired_bootstrap(before, after[::-1])
    assert difference.num_documents == 50
    for delta in (difference.delta_f1, difference.delta_precision, difference.delta_recall):
        assert delta == pytest.approx(0.5)
    assert difference.delta_f1_ci95 == pytest.approx((0.5, 0.5))
    low, high = extraction_metrics(before).f1_ci95
    assert high - low > 0.1


def test_the_difference_by_hand() -> None:
    difference = paired_bootstrap(BEFORE, AFTER)
    assert difference.delta_f1 == pytest.approx(12 / 14 - 4 / 13)
    assert difference.delta_precision == pytest.approx(6 / 7 - 2 / 6)
    assert difference.delta_weighted_f1 == pytest.approx(2 * 8 / (11 + 11) - 4 / 19)
    assert difference.delta_document_f1 == pytest.approx((1 + 3 / 4 + 1) / 3 - (2 / 5 + 2 / 7) / 3)
    assert difference.delta_exact_document_rate == pytest.approx(2 / 3)
    assert difference.delta_valid_json_rate == pytest.approx(1 / 3)
    assert difference.delta_valid_json_rate_ci95[0] == 0
    assert difference.delta_f1_ci95[0] < difference.delta_f1 < difference.delta_f1_ci95[1]


def test_where_a_gain_comes_from() -> None:
    """F1 4/13 to 12/14: mean F1 106/182, mean size 13.5; omissions fell by 3, misreadings stayed at 1."""
    gain = gain_by_error_class(BEFORE, AFTER)
    mean_f1 = (4 / 13 + 12 / 14) / 2
    assert gain.f1_gain == pytest.approx(
        {
            "close": 0, "convention": 2 / 13.5, "misread": 0, "misassociated": 0, "hallucinated": mean_f1 / 13.5,
            "duplicate": mean_f1 / 13.5, "omitted": 3 * (2 - mean_f1) / 13.5,
        }
    )  # fmt: skip
    assert sum(gain.f1_gain.values()) == pytest.approx(gain.delta_f1) == pytest.approx(12 / 14 - 4 / 13)
    assert gain.mended == {
        "close": 0, "convention": 1, "misread": 1, "misassociated": 0, "hallucinated": 1, "duplicate": 1,
        "omitted": 2,
    }  # fmt: skip
    assert set(gain.broken.values()) == {0}
    back = gain_by_error_class(AFTER, BEFORE)
    assert back.broken == gain.mended and back.mended == gain.broken
    assert list(gain.mended) == list(ERROR_CLASSES)


ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Ana", "Eva", "Rui", "ana.", ""]),
        "age": st.sampled_from([45, "45 y", 3]),
        "room": st.sampled_from(["1", "Ana", None]),
        "notes": st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
        "new": st.just(1),
    },
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ANSWERS, ANSWERS, ANSWERS), min_size=1, max_size=5))
def test_the_parts_of_a_gain_always_add_up(triples: list[tuple[dict[str, Any], ...]]) -> None:
    triples = [({key: value for key, value in truth.items() if key != "new"}, *rest) for truth, *rest in triples]
    before, after = ([score(f"d{i}", t[0], t[side]) for i, t in enumerate(triples)] for side in (1, 2))
    gain = gain_by_error_class(before, after)
    assert sum(gain.f1_gain.values()) == pytest.approx(gain.delta_f1, abs=1e-12)
    delta = paired_bootstrap(before, after, num_resamples=10).delta_f1
    if gain.before.predicted + gain.before.true and gain.after.predicted + gain.after.true:
        assert delta == pytest.approx(gain.delta_f1)


def test_systems_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="query 'q' of 'd2' does not pair"):
        paired_bootstrap(BEFORE, AFTER[:2])
    other = [*AFTER[:2], score("d2", {"age": 1}, {})]
    with pytest.raises(ValueError, match="'d2': before and after differ in their truth"):
        gain_by_error_class(BEFORE, other)
    with pytest.raises(ValueError, match="at least one score"):
        extraction_metrics([])
    with pytest.raises(ValueError, match="at least one score"):
        paired_bootstrap([], [])


def test_one_document_has_an_interval_without_width() -> None:
    """257 resamples: one more than are drawn at once."""
    metrics = extraction_metrics(BEFORE[:1], num_resamples=257)
    assert metrics.f1_ci95 == (metrics.f1, metrics.f1) == (2 / 5, 2 / 5)
