"""Comparison of values by kind: what is right, what is the right information in another form, what is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.compare import is_correct, same_meaning
from rewards.schema import KINDS, FieldSpec
from rewards.values import DateOrder, Scalar, fold_text, is_left_out, leaf_values

SEX = ("male", "female")


def spec(kind: str, order: DateOrder = "ymd", choices: tuple[str, ...] = SEX) -> FieldSpec:
    return FieldSpec(
        key="k",
        description="d",
        kind=kind,
        date_order=order,
        choices=choices if kind == "enum" else (),  # type: ignore[arg-type]
    )


def verdict(field: FieldSpec, answered: Scalar, true: Scalar) -> str:
    if is_correct(field, answered, true):
        assert same_meaning(field, answered, true)
        return "correct"
    return "convention" if same_meaning(field, answered, true) else "misread"


@pytest.mark.parametrize(
    ("kind", "answered", "true", "expected"),
    [
        ("text", "Droxicef  0,5G", "DROXICEF 0,5g", "correct"),
        ("text", "MENISON 16 MG", "menison 16mg", "correct"),
        ("text", "5mg+50mg", "5mg +50mg", "correct"),
        ("text", "ＡＢＣ", "abc", "correct"),
        ("text", "Sa\u0301ng 2 Vie\u0302n", "Sáng 2 Viên", "correct"),
        ("text", "1 2", "12", "misread"),
        ("text", "sub acute", "subacute", "convention"),
        ("text", "post op, day 2.", "post-op day 2", "convention"),
        ("text", "acute, mild.", "acute mild", "convention"),
        ("text", "2,5mg", "25mg", "misread"),
        ("text", "2,5mg", "2.5mg", "convention"),
        ("text", "A+", "A-", "misread"),
        ("text", 12, "12", "correct"),
        ("text", True, "true", "correct"),
        ("free_text", "No acute\nfindings.", "no  acute findings.", "correct"),
        ("person_name", "ANA  silva", "Ana Silva", "correct"),
        ("person_name", "Silva Ana", "Ana Silva", "convention"),
        ("person_name", "SILVA, Ana", "Ana Silva", "convention"),
        ("person_name", "Dr. Ana Silva", "Ana Silva", "convention"),
        ("person_name", "A. Silva", "Ana Silva", "misread"),
        ("person_name", "Ana Silvo", "Ana Silva", "misread"),
        ("number", 45, "45", "correct"),
        ("number", "45.0", 45, "correct"),
        ("number", "5,4", 5.4, "correct"),
        ("number", "1.234.567,5", "1,234,567.5", "correct"),
        ("number", "<0,01", "< 0.01", "correct"),
        ("number", "0.01", "<0.01", "misread"),
        ("number", "−3", -3, "correct"),
        ("number", "٤٥", 45, "correct"),
        ("number", "45 y", 45, "convention"),
        ("number", "about 45", 45, "convention"),
        ("number", "1,234", 1234, "convention"),
        ("number", "45 of 50", 45, "misread"),
        ("number", "54", 45, "misread"),
        ("number", True, 1, "misread"),
        ("quantity", "500mg", "500 MG", "correct"),
        ("quantity", "500,0 milligrams", "500 mg", "correct"),
        ("quantity", "5 µg", "5 μg", "correct"),
        ("quantity", "5 mcg", "5 μg", "correct"),
        ("quantity", "1.2×10⁹/L", "1,2 10*9/l", "correct"),
        ("quantity", "20 viên", "20 Viên", "correct"),
        ("quantity", "120/80 mmHg", "120/80mmHg", "correct"),
        ("quantity", "500", "500 mg", "convention"),
        ("quantity", 500, "500 mg", "convention"),
        ("quantity", "0.5 g", "500 mg", "convention"),
        ("quantity", "0,13 g/ml", "13 g/dL", "convention"),
        ("quantity", "dose: 500 mg", "500 mg", "convention"),
        ("quantity", "500 mg daily", "500 mg", "convention"),
        ("quantity", "500 g", "500 mg", "misread"),
        ("quantity", "5 g", "500 mg", "misread"),
        ("quantity", "50 mg", "500 mg", "misread"),
        ("quantity", "13 mg/dL", "13 g/L", "misread"),
        ("enum", "MALE", "male", "correct"),
        ("enum", "M", "male", "convention"),
        ("enum", "masc", "male", "convention"),
        ("enum", "Male.", "male", "convention"),
        ("enum", "F", "male", "misread"),
        ("enum", "unknown", "male", "misread"),
        ("code", "j 20.9", "J209", "correct"),
        ("code", "J20-9", "J20.9", "convention"),
        ("code", "J20 - Bronchitis", "J20", "convention"),
        ("code", "J21", "J20", "misread"),
    ],
)
def test_values_by_kind(kind: str, answered: Scalar, true: Scalar, expected: str) -> None:
    assert verdict(spec(kind), answered, true) == expected


@pytest.mark.parametrize(
    ("order", "answered", "true", "expected"),
    [
        ("ymd", "2021/4/3", "2021-04-03", "correct"),
        ("ymd", "2021 Apr 3", "2021-04-03", "correct"),
        ("ymd", "20210403", "2021-04-03", "convention"),
        ("ymd", "03-04-2021", "2021-04-03", "convention"),
        ("ymd", "04/03/2021", "2021-04-03", "convention"),
        ("ymd", "21-04-03", "2021-04-03", "convention"),
        ("ymd", "2021-04-03 10:30", "2021-04-03", "convention"),
        ("ymd", "2021-04-04", "2021-04-03", "misread"),
        ("ymd", "2021-02-30", "2021-02-28", "misread"),
        ("ymd", "2022-04-03", "2021-04-03", "misread"),
        ("dmy", "3 Apr 2021", "03/04/2021", "correct"),
        ("dmy", "3rd of April, 2021", "03/04/2021", "correct"),
        ("dmy", "31/12/2021", "31 tháng 12 năm 2021", "correct"),
        ("dmy", "April 3, 2021", "03/04/2021", "convention"),
        ("dmy", "03/04/21", "03/04/2021", "convention"),
        ("dmy", "2021-04-03", "03/04/2021", "convention"),
        ("mdy", "April 3, 2021", "04/03/2021", "correct"),
        ("mdy", "3 April 2021", "04/03/2021", "convention"),
    ],
)
def test_dates_are_right_in_the_order_of_the_schema_only(
    order: DateOrder, answered: str, true: str, expected: str
) -> None:
    assert verdict(spec("date", order), answered, true) == expected


def test_a_truth_that_does_not_read_as_its_kind_is_right_in_the_same_text_only() -> None:
    assert verdict(spec("number"), "about FOUR", "about four") == "correct"
    assert verdict(spec("number"), "4", "about four") == "misread"
    assert verdict(spec("date"), "spring 2021", "Spring 2021") == "correct"


def test_what_is_left_out_and_what_is_an_answer() -> None:
    for nothing in (None, "", "  ", [], {}, [None, " "], {"a": None, "b": [{}]}):
        assert is_left_out(nothing) and leaf_values(nothing) == []
    for answer in ("n/a", "none", "-", "unknown", 0, False, [0], {"a": False}):
        assert not is_left_out(answer) and len(leaf_values(answer)) == 1
    assert leaf_values({"a": [1, {"b": "x", "c": None}], "d": ""}) == [1, "x"]


VALUES = st.one_of(st.text(max_size=30), st.integers(), st.floats(allow_nan=False), st.booleans(),
                   st.from_regex(r"[0-9.,/ eE+<-]{0,12}[a-zµ/°%]{0,5}", fullmatch=True))  # fmt: skip


@settings(deadline=None)
@given(kind=st.sampled_from([kind for kind in KINDS if kind != "table"]), answered=VALUES, true=VALUES)
def test_no_value_raises_and_comparison_is_symmetric_and_reflexive(kind: str, answered: Scalar, true: Scalar) -> None:
    field = spec(kind)
    assert is_correct(field, answered, answered)
    assert is_correct(field, answered, true) == is_correct(field, true, answered)
    assert same_meaning(field, answered, true) >= is_correct(field, answered, true)


@settings(deadline=None)
@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)
