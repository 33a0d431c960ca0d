"""Metrics over scores: hand-computed rates, intervals, pairs of systems, and where a gain comes from."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.metrics import ERROR_CLASSES, extraction_metrics, gain_by_error_class, paired_bootstrap
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rewards.types import LeafCounts, Score

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
    assert metrics.counts == LeafCounts(correct=2, convention=1, misread=1, hallucinated=1, duplicate=1, omitted=3)
    assert metrics.error_rates == {
        "convention": 1 / 7, "misread": 1 / 7, "misassociated": 0, "hallucinated": 1 / 6, "duplicate": 1 / 6,
        "omitted": 3 / 7,
    }  # fmt: skip
    assert (metrics.valid_json_rate, metrics.well_formed_rate, metrics.exact_document_rate) == (2 / 3, 2 / 3, 0)
    assert extraction_metrics(AFTER).exact_document_rate == 2 / 3
    assert (metrics.num_documents, metrics.num_responses, metrics.statuses) == (3, 3, {"no_json": 1, "ok": 2})
    assert metrics.reward == pytest.approx(sum(item.reward for item in BEFORE) / 3)
    json.dumps(metrics.to_dict())


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
    nothing = extraction_metrics(BEFORE, where=lambda leaf: False)
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
    assert difference.delta_f1_ci95[0] < difference.delta_f1 < difference.delta_f1_ci95[1]


def test_where_a_gain_comes_from() -> None:
    """F1 4/13 to 12/14: mean F1 106/182, mean size 13.5; omissions fell by 3, misreadings stayed at 1."""
    gain = gain_by_error_class(BEFORE, AFTER)
    mean_f1 = (4 / 13 + 12 / 14) / 2
    assert gain.f1_gain == pytest.approx(
        {
            "convention": 2 / 13.5, "misread": 0, "misassociated": 0, "hallucinated": mean_f1 / 13.5,
            "duplicate": mean_f1 / 13.5, "omitted": 3 * (2 - mean_f1) / 13.5,
        }
    )  # fmt: skip
    assert sum(gain.f1_gain.values()) == pytest.approx(gain.delta_f1) == pytest.approx(12 / 14 - 4 / 13)
    assert gain.mended == {
        "convention": 1, "misread": 1, "misassociated": 0, "hallucinated": 1, "duplicate": 1, "omitted": 2,
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
