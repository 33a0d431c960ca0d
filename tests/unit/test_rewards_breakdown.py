"""Groups of leaves: who belongs to which, their numbers by hand, and intervals from one draw of documents for all."""

import json
import math
import time
from typing import Any

import pytest

from rewards.breakdown import GROUPS, GroupMetrics, KeyFrequencies, Layout, breakdown, layout_of
from rewards.matching import UNKNOWN_KEY
from rewards.metrics import extraction_metrics
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score


def leaf(key: str, outcome: LeafOutcome = LeafOutcome.CORRECT, kind: str = "text") -> Leaf:
    answered = None if outcome is LeafOutcome.OMITTED else "a"
    true = None if outcome in (LeafOutcome.HALLUCINATED, LeafOutcome.DUPLICATE) else "a"
    return Leaf(key, kind, outcome, answered, true, None if true is None else (), 1.0, float(outcome == "correct"))


def score(document: str, *leaves: Leaf, schema: str = "slip") -> Score:
    return Score(
        query_id=document, document_id=document, schema=schema, reward=0.0, components={}, precision=0.0, recall=0.0,
        f1=0.0, weighted_precision=0.0, weighted_recall=0.0, counts=LeafCounts.of(leaves), leaves=leaves,
        status=AnswerStatus.OK, detail="", faults=(), answer={},
    )  # fmt: skip


SCORES = [
    score("a", leaf("name"), leaf("age", LeafOutcome.OMITTED, "number"), leaf("room", LeafOutcome.HALLUCINATED)),
    score("b", leaf("name", LeafOutcome.MISASSOCIATED), leaf("age", kind="number"), leaf("age", LeafOutcome.DUPLICATE)),
    score("c", leaf("code", kind="code"), leaf(UNKNOWN_KEY, LeafOutcome.HALLUCINATED, ""), schema="form"),
]
LAYOUTS = {
    "a": Layout(num_leaves=2, num_rows=0, num_columns=0),
    "b": Layout(num_leaves=6, num_rows=2, num_columns=7),
    "c": Layout(num_leaves=51, num_rows=11, num_columns=4),
}


def named(groups: tuple[GroupMetrics, ...]) -> dict[str, GroupMetrics]:
    return {item.name: item for item in groups}


def test_rates_of_keys_and_kinds_by_hand() -> None:
    groups = breakdown(SCORES)
    assert list(groups) == list(GROUPS)
    assert [item.name for item in groups["key"]] == ["age", "code", "name", "room", UNKNOWN_KEY]
    age = named(groups["key"])["age"]
    assert (age.num_documents, age.num_leaves, age.counts.predicted) == (2, 2, 2)
    assert (age.precision, age.recall, age.f1) == (1 / 2, 1 / 2, 1 / 2)
    assert (age.omission_rate, age.duplicate_rate, age.hallucination_rate, age.misassociation_rate) == (0.5, 0.5, 0, 0)
    name = named(groups["key"])["name"]
    assert (name.f1, name.misassociation_rate) == (1 / 2, 1 / 2)
    room = named(groups["key"])["room"]
    assert (room.num_leaves, room.f1, room.hallucination_rate) == (0, 0, 1)
    assert [item.name for item in groups["kind"]] == ["code", "number", "text", UNKNOWN_KEY]
    assert named(groups["kind"])["number"].num_leaves == 2
    (everything,) = groups["all"]
    metrics = extraction_metrics(SCORES)
    assert (everything.precision, everything.recall, everything.f1) == (metrics.precision, metrics.recall, metrics.f1)
    assert everything.counts == metrics.counts
    json.dumps(everything.to_dict(), allow_nan=False)


def test_document_types_are_schemas_unless_they_are_named() -> None:
    assert [item.name for item in breakdown(SCORES)["document_type"]] == ["form", "slip"]
    types = {"a": "visit", "b": "report", "c": "report"}
    groups = named(breakdown(SCORES, document_types=types)["document_type"])
    assert (groups["report"].num_documents, groups["report"].num_leaves) == (2, 3)


def test_layout_buckets() -> None:
    groups = breakdown(SCORES, layouts=LAYOUTS)
    assert [item.name for item in groups["leaves"]] == ["1-5", "6-10", "> 50"]
    assert [item.name for item in groups["rows"]] == ["0", "1-2", "> 10"]
    assert [item.name for item in groups["columns"]] == ["0", "4-6", "> 6"]
    assert groups["leaves"][0].omission_rate == 1 / 2
    assert breakdown(SCORES)["leaves"] == ()


@pytest.mark.parametrize(
    ("num_leaves", "bucket"),
    [(0, "0"), (1, "1-5"), (5, "1-5"), (6, "6-10"), (10, "6-10"), (11, "11-20"), (20, "11-20"), (21, "21-50"),
     (50, "21-50"), (51, "> 50"), (900, "> 50")],
)  # fmt: skip
def test_edges_of_buckets(num_leaves: int, bucket: str) -> None:
    layouts = {"a": Layout(num_leaves=num_leaves, num_rows=0, num_columns=0)}
    assert breakdown(SCORES[:1], layouts=layouts)["leaves"][0].name == bucket


def test_the_layout_of_an_annotation() -> None:
    truth = {
        "name": "Ana",
        "notes": ["a", "", "b"],
        "results": [{"test": "Hb", "value": 3, "unit": None}, {"test": "K", "flags": ["H", "L"]}, {"test": ""}],
        "address": {"city": "Rio"},
    }
    assert layout_of(truth) == Layout(num_leaves=9, num_rows=2, num_columns=2) == layout_of({"all": truth})
    assert layout_of({}) == Layout(num_leaves=0, num_rows=0, num_columns=0)


def test_how_rare_a_key_is_in_training() -> None:
    documents: list[tuple[str, dict[str, Any]]] = [
        ("slip", {"name": "x", "age": 1 if i < 9 else None}) for i in range(100)
    ]
    documents += [("slip", {"name": "x", "results": [{"test": "Hb", "value": ""}, {"test": "", "value": ""}]})] * 100
    frequencies = KeyFrequencies.of(documents)
    assert frequencies.share("slip", "age") == 9 / 200 and frequencies.bucket("slip", "age") == "< 10%"
    assert frequencies.share("slip", "results") == frequencies.share("slip", "results.test") == 1 / 2
    assert frequencies.bucket("slip", "results.test") == "50-90%"
    assert frequencies.bucket("slip", "name") == ">= 90%"
    assert {frequencies.bucket("slip", key) for key in ("results.value", "room", UNKNOWN_KEY)} == {"never"}
    assert frequencies.bucket("form", "name") == "never"  # no training document of that type
    edges = KeyFrequencies.of([("s", {"k": 1} if i < 1 else {}) for i in range(10)])
    assert edges.bucket("s", "k") == "10-50%"


def test_groups_by_rarity() -> None:
    frequencies = KeyFrequencies.of([("slip", {"name": "x"}), ("slip", {"name": "x", "age": 2})])
    groups = breakdown(SCORES, frequencies=frequencies)["rarity"]
    assert [(item.name, item.num_leaves) for item in groups] == [("never", 1), ("50-90%", 2), (">= 90%", 2)]
    assert groups[0].hallucination_rate == 2 / 3


def test_intervals_come_from_documents() -> None:
    """The interval of everything is that of the metrics; a group in one document has an interval without width."""
    groups = breakdown(SCORES * 2, num_resamples=300, seed=3)
    metrics = extraction_metrics(SCORES * 2, num_resamples=300, seed=3)
    assert groups["all"][0].f1_ci95 == pytest.approx(metrics.f1_ci95)
    assert groups["all"][0].num_documents == 3
    assert named(groups["key"])["code"].f1_ci95 == (1.0, 1.0)  # draws without it are no perfect scores, nor bad ones
    assert named(groups["key"])["room"].f1_ci95 == (0.0, 0.0)
    low, high = named(groups["key"])["name"].f1_ci95
    assert (low, high) == (0.0, 1.0)


def test_a_group_that_no_draw_has_gets_no_interval() -> None:
    scores = [score("a", leaf("code")), *(score(f"b{i}", leaf("name")) for i in range(50))]
    draws = [named(breakdown(scores, num_resamples=1, seed=seed)["key"])["code"] for seed in range(20)]
    without = [group for group in draws if math.isnan(group.f1_ci95[0])]
    assert 1 <= len(without) < 20  # about 37% of all draws are without a given document


def test_documents_without_any_leaf_are_right() -> None:
    (group,) = breakdown([score("a")], layouts={"a": layout_of({})})["leaves"]
    assert (group.name, group.num_documents, group.f1, group.f1_ci95) == ("0", 1, 1.0, (1.0, 1.0))


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        breakdown([])


def test_many_documents_take_seconds() -> None:
    scores = [score(f"d{i}", *(leaf(f"k{k}") for k in range(10))) for i in range(1_000)]
    start = time.process_time()
    breakdown(scores, layouts={f"d{i}": LAYOUTS["b"] for i in range(1_000)}, num_resamples=200)
    assert time.process_time() - start < 10
