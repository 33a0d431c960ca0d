"""Matching an answer with the truth: every leaf's fate, counted by hand."""

import json
from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.matching import UNKNOWN_KEY, match_document
from rewards.parsing import parse_response
from rewards.rows import Rows, assign_rows
from rewards.schema import FieldSpec, Schema
from rewards.types import Leaf, LeafCounts, LeafOutcome
from rewards.values import leaf_values, repeated_keys


def _field(key: str, kind: str = "text", **more: Any) -> FieldSpec:
    return FieldSpec(key=key, description=key, kind=kind, **more)  # type: ignore[arg-type]


SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=(
        _field("patient", "person_name"),
        _field("doctor", "person_name"),
        _field("age", "number"),
        _field("sex", "enum", choices=("male", "female")),
        _field("smoker", "enum", choices=("male", "female")),
        _field("seen_on", "date"),
        _field("notes", many=True, weight=0.5),
        _field(
            "drugs",
            "table",
            weight=2.0,
            row_keys=("name",),
            columns=(_field("name"), _field("dose", "quantity", weight=1.5), _field("route", "text")),
        ),
    ),
)
ALL = SCHEMA.keys


def counts(truth: dict[str, Any], answer: Any, asked: tuple[str, ...] = ALL) -> dict[str, int]:
    """Counts that are not 0; `answer` may be JSON text, to hold repeated keys."""
    return _shown(LeafCounts.of(match(truth, answer, asked)))


def match(truth: dict[str, Any], answer: Any, asked: tuple[str, ...] = ALL) -> tuple[Leaf, ...]:
    if isinstance(answer, str):
        answer = parse_response(answer, reasoning=False).answer
        assert answer is not None
    return match_document(SCHEMA, asked, truth, answer)


def _shown(leaf_counts: LeafCounts) -> dict[str, int]:
    names = LeafCounts.__dataclass_fields__
    assert leaf_counts.misassociated == leaf_counts.misassociated_true
    return {name: getattr(leaf_counts, name) for name in names if getattr(leaf_counts, name)} | (
        {"misassociated_true": 0} if leaf_counts.misassociated else {}
    )


def test_scalars_by_key() -> None:
    truth = {"patient": "Ana Silva", "age": 45, "sex": "female", "seen_on": "2021-04-03", "doctor": None}
    assert counts(truth, truth) == {"correct": 4}
    assert counts(truth, {}) == {"omitted": 4}
    assert counts(truth, {"patient": None, "age": "", "sex": [], "seen_on": {}, "doctor": " "}) == {"omitted": 4}
    answer = {"patient": "Ana Silva", "age": "45 y", "sex": "male", "doctor": "n/a"}
    assert counts(truth, answer) == {"correct": 1, "convention": 1, "misread": 1, "hallucinated": 1, "omitted": 1}


def test_unasked_keys_are_hallucinated_even_when_true() -> None:
    truth = {"patient": "Ana Silva", "age": 45}
    answer = {"patient": "Ana Silva", "age": 45, "name": "Ana Silva", "notes": ["a", "b"], "sex": None}
    assert counts(truth, answer, ("patient",)) == {"correct": 1, "hallucinated": 4}
    assert counts({}, answer, ()) == {"hallucinated": 5}
    keys = [leaf.key for leaf in match(truth, answer, ("patient",)) if leaf.true is None]
    assert keys == ["age", UNKNOWN_KEY, "notes", "notes"]


def test_a_second_key_is_a_duplicate_and_the_first_counts() -> None:
    truth = {"age": 45}
    assert counts(truth, '{"age": 45, "age": 45, "age": 46}') == {"correct": 1, "duplicate": 2}
    assert counts(truth, '{"age": 44, "age": 45}') == {"misread": 1, "duplicate": 1}
    assert counts(truth, '{"age": 45, "age": null}') == {"correct": 1}
    assert counts(truth, '{"age": 45, "x": 1, "x": [2, 3]}') == {"correct": 1, "hallucinated": 1, "duplicate": 2}


def test_a_list_or_object_in_place_of_a_value_is_never_right() -> None:
    truth = {"age": 45}
    assert counts(truth, {"age": [45]}) == {"convention": 1}
    assert counts(truth, {"age": [44, 45, 46]}) == {"misread": 1, "hallucinated": 2}
    assert counts(truth, {"age": {"value": 45, "unit": "y"}}) == {"convention": 1, "hallucinated": 1}


def test_lists_are_multisets() -> None:
    truth = {"notes": ["a", "b", "b"]}
    assert counts(truth, {"notes": ["b", "a", "B"]}) == {"correct": 3}
    assert counts(truth, {"notes": ["a", "a", "b"]}) == {"correct": 2, "duplicate": 1, "omitted": 1}
    assert counts(truth, {"notes": ["a", "b", "x"]}) == {"correct": 2, "misread": 1}
    assert counts(truth, {"notes": ["a", "b.", "b", "x", None]}) == {"correct": 2, "convention": 1, "hallucinated": 1}
    assert counts(truth, {"notes": "a"}) == {"convention": 1, "omitted": 2}
    assert counts(truth, {"notes": [["a"], "b", "b"]}) == {"correct": 2, "convention": 1}
    assert counts({"notes": []}, {"notes": ["a"]}) == {"hallucinated": 1}
    positions = {(leaf.answered, leaf.position) for leaf in match(truth, {"notes": ["b", "a"]})}
    assert positions == {("b", (1,)), ("a", (0,)), (None, (2,))}


ROWS = [
    {"name": "Amoxicillin", "dose": "500 mg", "route": "oral"},
    {"name": "Ibuprofen", "dose": "400 mg", "route": "oral"},
    {"name": "Insulin", "dose": "10 IU", "route": None},
]


def _edited(*edits: tuple[int, str, Any]) -> dict[str, Any]:
    rows = [dict(row) for row in ROWS]
    for index, column, value in edits:
        rows[index][column] = value
    return {"drugs": rows}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"drugs": ROWS}, {"correct": 8}),
        ({"drugs": ROWS[::-1]}, {"correct": 8}),
        (_edited((0, "dose", "50 mg")), {"correct": 7, "misread": 1}),
        (_edited((0, "dose", "0.5 g")), {"correct": 7, "convention": 1}),
        (_edited((0, "dose", None)), {"correct": 7, "omitted": 1}),
        (_edited((2, "route", "sc")), {"correct": 8, "hallucinated": 1}),
        (_edited((0, "dose", "400 mg"), (1, "dose", "500 mg")), {"correct": 6, "misassociated": 2}),
        (_edited((0, "dose", "400 mg")), {"correct": 7, "misassociated": 1}),
        (_edited((0, "name", "Amoxicilin")), {"correct": 7, "misread": 1}),
        (_edited((0, "name", "Amoxicillin.")), {"correct": 7, "convention": 1}),
        ({"drugs": ROWS[1:]}, {"correct": 5, "omitted": 3}),
        ({"drugs": [*ROWS, {"name": "Aspirin", "dose": "1 g"}]}, {"correct": 8, "hallucinated": 2}),
        ({"drugs": [*ROWS, ROWS[0]]}, {"correct": 8, "duplicate": 3}),
        ({"drugs": [ROWS[0]] * 3}, {"correct": 3, "duplicate": 6, "omitted": 5}),
        ({"drugs": [{"name": "Ibuprofen", "dose": "9 mg"}, *ROWS]}, {"correct": 8, "duplicate": 2}),
        ({"drugs": ROWS[0]}, {"convention": 3, "omitted": 5}),
        ({"drugs": "Amoxicillin"}, {"hallucinated": 1, "omitted": 8}),  # a lone text is no row
        ({"drugs": [*ROWS, "Aspirin", {}, {"name": ""}]}, {"correct": 8, "hallucinated": 1}),
        (_edited((0, "price", 3)), {"correct": 8, "hallucinated": 1}),
        (_edited((0, "dose", ["500 mg", "1 g"])), {"correct": 7, "convention": 1, "hallucinated": 1}),
    ],
)
def test_tables_row_by_row(answer: dict[str, Any], expected: dict[str, int]) -> None:
    full = {"misassociated_true": 0} if expected.get("misassociated") else {}
    assert counts({"drugs": ROWS}, answer) == {**expected, **full}


def test_a_repeated_column_is_a_duplicate() -> None:
    text = json.dumps({"drugs": ROWS[:1]}).replace('"route"', '"dose": "9 mg", "route"')
    assert counts({"drugs": ROWS[:1]}, text) == {"correct": 3, "duplicate": 1}


def test_row_keys_outweigh_all_other_columns() -> None:
    """Names swapped with everything else in place: the rows follow the names, so four cells are wrong."""
    answer = _edited((0, "name", "Ibuprofen"), (1, "name", "Amoxicillin"), (1, "route", "iv"))
    truth = _edited((1, "route", "iv"))
    assert counts(truth, answer) == {"correct": 4, "misassociated": 4, "misassociated_true": 0}


def test_two_rows_of_one_drug_go_to_their_own_doses() -> None:
    rows = [{"name": "A", "dose": "1 mg"}, {"name": "A", "dose": "2 mg"}]
    assert counts({"drugs": rows}, {"drugs": rows[::-1]}) == {"correct": 4}


def test_without_row_keys_all_columns_count_the_same() -> None:
    schema = Schema(name="s", document_type="s", description="s", fields=(
        _field("t", "table", columns=(_field("a"), _field("b"), _field("c"))),))  # fmt: skip
    truth = {"t": [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5", "c": "6"}]}
    answer = {"t": [{"a": "1", "b": "5", "c": "6"}, {"a": "4", "b": "2", "c": "3"}]}
    assert _shown(LeafCounts.of(match_document(schema, ("t",), truth, answer))) == {
        "correct": 4, "misassociated": 2, "misassociated_true": 0,
    }  # fmt: skip


def test_a_right_value_under_a_wrong_key_is_misassociated() -> None:
    truth = {"patient": "Ana Silva", "doctor": "Rui Costa"}
    swapped = {"patient": "Rui Costa", "doctor": "Ana Silva"}
    assert counts(truth, swapped) == {"misassociated": 2, "misassociated_true": 0}
    assert counts(truth, {"patient": "Rui Costa", "doctor": "Rui Costa"}) == {
        "correct": 1, "misassociated": 1, "misassociated_true": 0,
    }  # fmt: skip
    moved = match({"patient": "Ana Silva"}, {"doctor": "ana silva"})
    assert [(leaf.key, leaf.outcome.value, leaf.answered, leaf.true) for leaf in moved] == [
        ("patient", "misassociated", None, "Ana Silva"),
        ("doctor", "misassociated", "ana silva", None),
    ]
    assert counts({"patient": "Ana Silva"}, {"patient": "Ana Silva", "doctor": "Ana Silva"}) == {
        "correct": 1, "hallucinated": 1,
    }  # fmt: skip
    assert counts(truth, swapped, ("patient",)) == {"misread": 1, "hallucinated": 1}
    assert counts({"sex": "male", "smoker": "female"}, {"sex": "female", "smoker": "female"}) == {
        "correct": 1, "misread": 1,
    }  # fmt: skip


def test_weights_multiply_down_a_table() -> None:
    answer = {"notes": ["a"], "drugs": [{"name": "A", "dose": "1 g"}], "new": 1}
    assert [(leaf.key, leaf.weight) for leaf in match({}, answer)] == [
        ("notes", 0.5), ("drugs.name", 2.0), ("drugs.dose", 3.0), (UNKNOWN_KEY, 1.0),
    ]  # fmt: skip


def test_a_broken_truth_or_query_is_an_error() -> None:
    with pytest.raises(ValueError, match="'notes': the truth must be a list"):
        match({"notes": "abc"}, {})
    with pytest.raises(ValueError, match="'age': the truth must be one value"):
        match({"age": [45]}, {})
    with pytest.raises(KeyError, match="did you mean 'age'"):
        match({}, {}, ("agee",))


MEDICINES = Schema(
    name="prescription",
    document_type="prescription",
    description="prescription",
    fields=(
        _field("note", "free_text", min_similarity=0.8),
        _field("remarks", "free_text", many=True),
        _field(
            "medicines",
            "table",
            row_keys=("name",),
            columns=(_field("name"), _field("quantity", "quantity"), _field("usage", many=True)),
        ),
    ),
)


def _medicine_counts(truth: dict[str, Any], answer: dict[str, Any]) -> dict[str, int]:
    return _shown(LeafCounts.of(match_document(MEDICINES, MEDICINES.keys, truth, answer)))


def test_a_cell_may_hold_a_list() -> None:
    rows = [
        {"name": "A", "quantity": "20 tablets", "usage": ["1 in the morning", "1 at night"]},
        {"name": "B", "quantity": "10 tablets", "usage": ["2 at noon"]},
    ]
    truth = {"medicines": rows}
    assert _medicine_counts(truth, truth) == {"correct": 7}
    assert _medicine_counts(truth, {"medicines": [rows[1], {**rows[0], "usage": rows[0]["usage"][::-1]}]}) == {
        "correct": 7
    }
    assert _medicine_counts(truth, {"medicines": [{**rows[0], "usage": ["1 at night"]}, rows[1]]}) == {
        "correct": 6, "omitted": 1,
    }  # fmt: skip
    assert _medicine_counts(truth, {"medicines": [rows[0], {**rows[1], "usage": "2 at noon"}]}) == {
        "correct": 6, "convention": 1,
    }  # fmt: skip
    swapped = [{**rows[0], "usage": rows[1]["usage"]}, {**rows[1], "usage": rows[0]["usage"]}]
    assert _medicine_counts(truth, {"medicines": swapped}) == {
        "correct": 4, "misassociated": 3, "misassociated_true": 0,
    }  # fmt: skip
    positions = {leaf.position for leaf in match_document(MEDICINES, ("medicines",), truth, truth)}
    assert positions == {(0,), (1,), (0, 0), (0, 1), (1, 0)}
    with pytest.raises(ValueError, match=r"'medicines\.usage': the truth must be a list"):
        _medicine_counts({"medicines": [{"name": "A", "usage": "1 at night"}]}, {})
    with pytest.raises(ValueError, match="'medicines': the rows of the truth must be objects"):
        _medicine_counts({"medicines": ["A"]}, {})
    with pytest.raises(ValueError, match=r"'medicines\.name': the truth must be one value"):
        _medicine_counts({"medicines": [{"name": ["A"]}]}, {})


def test_free_text_in_nearly_the_same_words_earns_a_part() -> None:
    truth = {"note": "The lungs are clear.", "remarks": ["rest for a week", "drink a lot of water"]}
    answer = {"note": "The lungs are cleer", "remarks": ["drink a lot of waters", "come back"]}
    leaves = match_document(MEDICINES, ("note", "remarks"), truth, answer)
    assert [(leaf.outcome.value, leaf.true, leaf.position) for leaf in leaves] == [
        ("close", "The lungs are clear.", ()),
        ("close", "drink a lot of water", (1,)),
        ("misread", "rest for a week", (0,)),
    ]
    # One of 16 letters is wrong in the first text, one of 17 too many in the second.
    assert [leaf.credit for leaf in leaves] == pytest.approx([15 / 16, 16 / 17, 0.0])
    assert all(leaf.kind == "free_text" for leaf in leaves)
    listed = match_document(MEDICINES, ("note",), truth, {"note": ["The lungs are cleer"]})
    assert [leaf.outcome.value for leaf in listed] == ["misread"]  # another shape than the schema


def test_free_texts_of_a_list_are_paired_the_same_in_any_order() -> None:
    truth = {"remarks": ["patchy opacity in the mid zone", "patchy opacity near the hilum"]}
    given = ["patchy opacity in the mid zones", "patchy opacity in some mid zone", "patchy opacity near the hilums"]
    outcomes = [
        sorted((leaf.outcome.value, leaf.answered or "", round(leaf.credit, 9)) for leaf in leaves)
        for items in permutations(given)
        for leaves in [match_document(MEDICINES, ("remarks",), truth, {"remarks": list(items)})]
    ]
    assert all(found == outcomes[0] for found in outcomes)
    assert sum(credit for _, _, credit in outcomes[0]) == pytest.approx(22 / 26 + 25 / 26)


TWO_DRUGS = [
    {"name": "Amoxicillin", "quantity": "10 tablets", "usage": ["1 at night", "with water", "after food"]},
    {"name": "Metoprolol", "quantity": "20 tablets", "usage": ["1 at noon", "whole", "before food"]},
]


def _renamed(*names: str | None) -> list[dict[str, Any]]:
    return [{**row, "name": name} for row, name in zip(TWO_DRUGS, names, strict=True)]


def test_what_stands_in_a_row_of_another_drug_is_misassociated() -> None:
    """A right quantity under a wrong drug is no right quantity; a misspelt drug is still that drug."""
    truth = {"medicines": TWO_DRUGS}

    def counts_of(rows: list[dict[str, Any]]) -> dict[str, int]:
        return _medicine_counts(truth, {"medicines": rows})

    assert counts_of(_renamed("Amoxicilin", "Metoprolo")) == {"correct": 8, "misread": 2}
    assert counts_of(_renamed("Amoxicillin", "Ibuprofen")) == {
        "correct": 5, "misread": 1, "misassociated": 4, "misassociated_true": 0,
    }  # fmt: skip
    assert counts_of(_renamed("Amoxicillin", None)) == {
        "correct": 5, "omitted": 1, "misassociated": 4, "misassociated_true": 0,
    }  # fmt: skip
    assert counts_of(_renamed(None, None)) == {"omitted": 2, "misassociated": 8, "misassociated_true": 0}
    swapped = [{**row, "name": other["name"][:-1]} for row, other in zip(TWO_DRUGS, TWO_DRUGS[::-1], strict=True)]
    assert counts_of(swapped) == {"misread": 2, "misassociated": 8, "misassociated_true": 0}  # they go by their names
    unnamed = [{key: value for key, value in row.items() if key != "name"} for row in TWO_DRUGS]
    assert _medicine_counts({"medicines": unnamed}, {"medicines": unnamed}) == {"correct": 8}


def test_row_keys_that_are_no_names() -> None:
    """A code is right or wrong, a date may be in another order, a list is right as a whole."""
    columns = (_field("code", "code"), _field("day", "date"), _field("tags", many=True), _field("value"))
    row = {"code": "2345-7", "day": "2021-03-01", "tags": ["a", "b"], "value": "x"}
    edits = {"code": "2345-8", "day": "01/03/2021", "tags": ["a"]}
    outcomes = {}
    for key, value in edits.items():
        schema = Schema(name="s", document_type="s", description="s", fields=(
            _field("t", "table", row_keys=(key,), columns=columns),))  # fmt: skip
        leaves = match_document(schema, ("t",), {"t": [row]}, {"t": [{**row, key: value}]})
        outcomes[key] = next(leaf.outcome.value for leaf in leaves if leaf.key == "t.value")
    assert outcomes == {"code": "misassociated", "day": "correct", "tags": "misassociated"}


def test_a_number_in_a_name_makes_another_test() -> None:
    rows = [{"name": "Vitamin B12", "quantity": "300 pg"}]
    answer = [{"name": "Vitamin B1", "quantity": "300 pg"}]
    found = _medicine_counts({"medicines": rows}, {"medicines": answer})
    assert found == {"misread": 1, "misassociated": 1, "misassociated_true": 0}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_rows_with_slips_changes_nothing(order: tuple[int, ...]) -> None:
    """No row key is right word for word, so that only likeness tells the rows apart."""
    rows = [*TWO_DRUGS, {"name": "Levothyroxine", "quantity": "90 tablets", "usage": ["1 at dawn", "fasting"]}]
    slips = [{**row, "name": row["name"][:-1], "usage": row["usage"][:-1]} for row in rows]
    found = _medicine_counts({"medicines": rows}, {"medicines": [slips[index] for index in order]})
    assert found == {"correct": 3 + 2 + 2 + 1, "misread": 3, "omitted": 3}


def test_the_order_of_rows_known_by_free_text_changes_nothing() -> None:
    columns = (_field("finding", "free_text"), _field("grade"))
    table = _field("t", "table", row_keys=("finding",), columns=columns)
    schema = Schema(name="s", document_type="s", description="s", fields=(table,))
    truth = {"t": [{"finding": "mild cardiomegaly is present", "grade": "a"},
                   {"finding": "small pleural effusion at the base", "grade": "b"}]}  # fmt: skip
    answer = [{"finding": "mild cardiomegalie is present", "grade": "a"},
              {"finding": "small pleural efusion at the base", "grade": "b"}]  # fmt: skip
    for rows in (answer, answer[::-1]):
        leaves = match_document(schema, ("t",), truth, {"t": rows})
        assert sorted(leaf.outcome.value for leaf in leaves) == ["close", "close", "correct", "correct"]


def test_heavy_cells_place_a_row_without_keys() -> None:
    columns = (_field("w", weight=10.0), _field("x"), _field("y"))
    schema = Schema(name="s", document_type="s", description="s", fields=(_field("t", "table", columns=columns),))
    truth = {"t": [{"w": "b", "x": "3", "y": "4"}, {"w": "a", "x": "1", "y": "2"}]}
    leaves = match_document(schema, ("t",), truth, {"t": [{"w": "a", "x": "3", "y": "4"}]})
    assert [leaf.weight for leaf in leaves if leaf.outcome is LeafOutcome.CORRECT] == [10.0]


ROW_VALUES = st.sampled_from(["a", "b", "c", "d", ""])


@settings(max_examples=150, deadline=None)
@given(
    answered=st.lists(st.fixed_dictionaries({"name": ROW_VALUES, "dose": ROW_VALUES}), max_size=4),
    true=st.lists(st.fixed_dictionaries({"name": ROW_VALUES, "dose": ROW_VALUES}), max_size=4),
)
def test_no_other_assignment_has_more_equal_row_keys_or_then_cells(answered: Any, true: Any) -> None:
    """Against all assignments, one by one; rows that are duplicates may give up a cell, never a key."""
    spec = _field("drugs", "table", row_keys=("name",), columns=(_field("name"), _field("dose")))
    answered = [row for row in answered if row["name"] or row["dose"]]
    true = [row for row in true if row["name"] or row["dose"]]
    assignment = assign_rows(spec, Rows.of(spec, answered), Rows.of(spec, true))

    def equal_cells(true_of: tuple[int | None, ...]) -> tuple[int, int]:
        pairs = [(answered[index], true[row]) for index, row in enumerate(true_of) if row is not None]
        same = [[bool(one[key]) and one[key] == other[key] for key in ("name", "dose")] for one, other in pairs]
        return sum(row[0] for row in same), sum(row[1] for row in same)

    slots = [*range(len(true)), *[None] * len(answered)]
    best = max(map(equal_cells, permutations(slots, len(answered))))
    taken = [row for row in assignment.true_of if row is not None]
    assert len(taken) == len(set(taken))
    assert equal_cells(assignment.true_of)[0] == best[0]
    if not assignment.duplicates:
        assert equal_cells(assignment.true_of) == best


SCALARS = st.one_of(st.none(), st.sampled_from(["a", "b", "A.", "1 mg", "1", "", "n/a", "2021-01-02", "male", 1, True]))
CELLS = st.dictionaries(st.sampled_from(["name", "dose", "route", "other"]), SCALARS, max_size=4)
TRUTHS = st.fixed_dictionaries(
    {},
    optional={
        **{key: SCALARS for key in ("patient", "doctor", "age", "sex", "seen_on")},
        "notes": st.lists(SCALARS, max_size=4),
        "drugs": st.lists(st.dictionaries(st.sampled_from(["name", "dose", "route"]), SCALARS, max_size=3), max_size=4),
    },
)
NESTED = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
    st.sampled_from("abc"), inner, max_size=3)), max_leaves=6)  # fmt: skip
ANSWERS = st.lists(
    st.tuples(
        st.sampled_from([*ALL, "unknown", "drugs"]),
        st.one_of(SCALARS, NESTED, st.lists(SCALARS, max_size=4), st.lists(st.one_of(CELLS, SCALARS), max_size=5)),
    ),
    max_size=10,
)


@settings(max_examples=150, deadline=None)
@given(truth=TRUTHS, pairs=ANSWERS, asked=st.lists(st.sampled_from(ALL), unique=True))
def test_every_leaf_has_one_fate_and_the_counts_add_up(
    truth: dict[str, Any], pairs: list[tuple[str, Any]], asked: list[str]
) -> None:
    text = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"
    answer = parse_response(text, reasoning=False).answer
    assert answer is not None
    leaves = match_document(SCHEMA, asked, truth, answer)
    total = LeafCounts.of(leaves)
    predicted = [leaf for _, value in (*answer.items(), *repeated_keys(answer)) for leaf in leaf_values(value)]
    true = [leaf for key in asked for leaf in leaf_values(truth.get(key))]
    assert Counter(repr(leaf.answered) for leaf in leaves if leaf.answered is not None) == Counter(map(repr, predicted))
    assert Counter(repr(leaf.true) for leaf in leaves if leaf.true is not None) == Counter(map(repr, true))
    assert (total.predicted, total.true) == (len(predicted), len(true))
    assert total.misassociated == total.misassociated_true
    for leaf in leaves:
        paired = leaf.answered is not None and leaf.true is not None
        if leaf.outcome in (LeafOutcome.CORRECT, LeafOutcome.CLOSE, LeafOutcome.CONVENTION, LeafOutcome.MISREAD):
            assert paired
        assert leaf.credit == (leaf.outcome is LeafOutcome.CORRECT)
        if leaf.outcome in (LeafOutcome.HALLUCINATED, LeafOutcome.DUPLICATE):
            assert leaf.true is None and leaf.position is None
        if leaf.outcome is LeafOutcome.OMITTED:
            assert leaf.answered is None and leaf.position is not None


@settings(max_examples=50, deadline=None)
@given(truth=TRUTHS)
def test_the_truth_answers_itself(truth: dict[str, Any]) -> None:
    total = LeafCounts.of(match_document(SCHEMA, ALL, truth, truth))
    assert total.correct == total.true == total.predicted


@settings(max_examples=50, deadline=None)
@given(truth=TRUTHS, pairs=ANSWERS, data=st.data())
def test_the_order_of_rows_and_items_changes_no_correct_leaf(truth: Any, pairs: Any, data: st.DataObject) -> None:
    answer = dict(pairs)
    shuffled = {
        key: data.draw(st.permutations(value)) if isinstance(value, list) and key in ("notes", "drugs") else value
        for key, value in answer.items()
    }
    first, second = (LeafCounts.of(match_document(SCHEMA, ALL, truth, given)) for given in (answer, shuffled))
    assert (first.correct, first.predicted, first.true) == (second.correct, second.predicted, second.true)
