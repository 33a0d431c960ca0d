"""Schemas inferred from annotations, and the shape that truth and answers are brought into."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.infer import ITEM, NO_NAME, flatten_fields, infer_schema
from rewards.matching import UNKNOWN_KEY, match_document
from rewards.parsing import JsonObject
from rewards.schema import Schema
from rewards.types import Leaf, LeafCounts, LeafOutcome
from rewards.values import leaf_values, repeated_keys


def kinds(*truths: dict[str, Any]) -> dict[str, str]:
    """Key -> kind, a star for a list; columns as table.column."""
    schema = infer_schema("slip", truths)
    found = {}
    for spec in schema.fields:
        for leaf in spec.leaf_specs():
            key = f"{spec.key}.{leaf.key}" if spec.columns else spec.key
            found[key] = leaf.kind + "*" * leaf.many
    return found


def matched(truth: dict[str, Any], answer: dict[str, Any], *others: dict[str, Any]) -> tuple[Leaf, ...]:
    schema = infer_schema("slip", [truth, *others])
    return match_document(schema, schema.keys, flatten_fields(schema, truth), flatten_fields(schema, answer))


def test_scalars_by_their_values() -> None:
    truths: list[dict[str, Any]] = [
        {"name": "Ana", "age": 4, "weight": 2, "smoker": True, "mixed": 1, "note": None, "long": "word " * 40},
        {"name": "7", "age": 5, "weight": 2.5, "smoker": False, "mixed": True, "id": 10**20},
    ]
    assert kinds(*truths) == {
        "name": "text", "age": "number", "weight": "number", "smoker": "boolean", "mixed": "text", "note": "text",
        "long": "text", "id": "text",
    }  # fmt: skip
    schema = infer_schema("slip", truths)
    assert (schema.name, schema.document_type) == ("slip", "slip")
    assert all(spec.weight == 1.0 for spec in schema.fields)


def test_lists_tables_and_nested_objects() -> None:
    truth = {
        "drugs": ["a", "b"],
        "patient": {"name": "Ana", "address": {"city": "Rio"}},
        "results": [{"test": "Hb", "value": 3, "flags": ["H"], "range": {"low": 1}}, {"test": "K"}],
        "matrix": [[1, 2], [3]],
    }
    assert kinds(truth) == {
        "drugs": "text*", "patient.name": "text", "patient.address.city": "text", "results.test": "text",
        "results.value": "number", "results.flags": "text*", "results.range.low": "number", "matrix": "number*",
    }  # fmt: skip
    schema = infer_schema("slip", [truth])
    assert flatten_fields(schema, truth) == {
        "drugs": ["a", "b"], "patient.name": "Ana", "patient.address.city": "Rio", "matrix": [1, 2, 3],
        "results": [{"test": "Hb", "value": 3, "flags": ["H"], "range.low": 1}, {"test": "K"}],
    }  # fmt: skip


def test_the_widest_shape_counts_for_truth_and_answers() -> None:
    truths: list[dict[str, Any]] = [
        {"drugs": "a", "rows": {"x": 1}}, {"drugs": ["a", "b"], "rows": [{"x": 1, "y": "u"}, {"y": ["v"]}, "z"]},
    ]  # fmt: skip
    assert kinds(*truths) == {"drugs": "text*", "rows.x": "number", "rows.y": "text*", f"rows.{ITEM}": "text"}
    schema = infer_schema("slip", truths)
    assert flatten_fields(schema, truths[0]) == {"drugs": ["a"], "rows": [{"x": 1}]}
    assert flatten_fields(schema, truths[1])["rows"] == [{"x": 1, "y": ["u"]}, {"y": ["v"]}, {ITEM: "z"}]
    for truth in truths:
        assert schema.validate_annotation(flatten_fields(schema, truth)) == []


def test_odd_nesting_keeps_every_value() -> None:
    truth: dict[str, Any] = {
        "deep": [[{"a": [{"b": 1, "c": [[2]]}, {"b": 3}, 4]}]], "": "nameless", "empty": {}, "none": [None, "", []],
        "half": {"inner": None}, "parent": None,
    }  # fmt: skip
    schema = infer_schema("slip", [truth, {"parent": {"child": 5}}])
    flat = flatten_fields(schema, truth)
    assert flat["deep"] == [{"a.b": [1, 3], "a.c": [2], "a": [4]}]
    assert flat[NO_NAME] == "nameless" and flat["none"] == []
    assert "parent" not in schema.keys and "parent.child" in schema.keys and "half.inner" in schema.keys
    assert sorted(map(str, leaf_values(flat))) == sorted(map(str, leaf_values(truth)))


def test_a_right_answer_in_the_same_nesting_is_right() -> None:
    truth = {"patient": {"name": "Ana"}, "results": [{"test": "Hb", "value": 3}, {"test": "K", "value": 4}]}
    counts = LeafCounts.of(matched(truth, {"results": truth["results"][::-1], "patient": {"name": "ana"}}))
    assert counts == LeafCounts(correct=5)
    wrong = matched(truth, {"patient": {"name": "Eva", "age": 3}, "extra": "x", "results": [{"test": "Hb", "u": 1}]})
    assert LeafCounts.of(wrong) == LeafCounts(correct=1, misread=1, hallucinated=3, omitted=3)
    assert {leaf.key for leaf in wrong if leaf.outcome is LeafOutcome.HALLUCINATED} == {
        UNKNOWN_KEY, f"results.{UNKNOWN_KEY}",
    }  # fmt: skip


def test_keys_given_again_are_duplicates() -> None:
    truth = {"a": {"b": "1"}, "rows": [{"x": "1"}]}
    schema = infer_schema("slip", [truth])
    answer = JsonObject.from_pairs([("a", JsonObject.from_pairs([("b", "1"), ("b", "2")])), ("a.b", "3")])
    flat = flatten_fields(schema, answer)
    assert flat == {"a.b": "1"} and repeated_keys(flat) == [("a.b", "2"), ("a.b", "3")]
    rows = JsonObject.from_pairs([("rows", [JsonObject.from_pairs([("x", "1"), ("x", "2")])])])
    leaves = match_document(schema, schema.keys, {"rows": truth["rows"]}, flatten_fields(schema, rows))
    assert LeafCounts.of(leaves) == LeafCounts(correct=1, duplicate=1)


def test_what_cannot_be_inferred_is_said() -> None:
    for truths in ([], [{}], [{"a": {}}]):
        with pytest.raises(ValueError, match="slip: no document has any key"):
            infer_schema("slip", truths)
    with pytest.raises(ValueError, match=r"both a key and a column of a table are called 'a\.b'"):
        infer_schema("slip", [{"a": [{"b": 1}], "a.b": 2}])


NAMES = st.sampled_from(["a", "b", "c", "", "a.b"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def inferred(truths: list[dict[str, Any]]) -> Schema | None:
    try:
        return infer_schema("slip", truths)
    except ValueError:
        return None


@settings(max_examples=80, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=3), OBJECTS)
def test_truths_fit_their_schema_and_nothing_is_lost(truths: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    schema = inferred(truths)
    if schema is None:
        return
    for value in (*truths, answer):
        flat = flatten_fields(schema, value)
        assert sorted(map(repr, leaf_values(flat))) == sorted(map(repr, leaf_values(value)))
    for truth in truths:
        flat = flatten_fields(schema, truth)
        if any(repeated_keys(item) for item in [flat, *(row for rows in flat.values() if isinstance(rows, list)
                                                       for row in rows if isinstance(row, dict))]):  # fmt: skip
            continue  # the same key with and without a point
        assert schema.validate_annotation(flat) == []
        counts = LeafCounts.of(match_document(schema, schema.keys, flat, flat))
        assert counts.correct == counts.true == counts.predicted == len(leaf_values(truth))
        match_document(schema, schema.keys, flat, flatten_fields(schema, answer))
