"""Schemas: what a file may say, and what is refused with the key and the remedy."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewards.schema import FieldSpec, Schema, load_schema

SCHEMAS = Path(__file__).parents[2] / "conf" / "schemas"

LAB = """
name: lab
document_type: laboratory slip
description: results
keys:
  - {key: patient, description: full name, kind: person_name}
  - {key: taken_on, description: day, kind: date, date_order: dmy}
  - {key: sex, description: sex, kind: enum, choices: [male, female]}
  - {key: notes, description: remarks, kind: text, many: true}
  - key: results
    description: rows
    kind: table
    weight: 2
    row_keys: [test]
    columns:
      - {key: test, description: test, kind: text}
      - {key: value, description: result, kind: quantity, weight: 1.5}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Schema:
    return _load(tmp_path, LAB)


def _load(folder: Path, text: str) -> Schema:
    path = folder / "lab.yaml"
    path.write_text(text, encoding="utf-8")
    return load_schema(path)


def test_a_schema_is_read_whole(lab: Schema) -> None:
    assert lab.keys == ("patient", "taken_on", "sex", "notes", "results")
    assert lab.field("taken_on").date_order == "dmy"
    assert lab.field("sex").choices == ("male", "female")
    assert lab.field("notes").many
    results = lab.field("results")
    assert (results.weight, results.row_keys, [column.weight for column in results.columns]) == (2, ("test",), [1, 1.5])
    assert pickle.loads(pickle.dumps(lab)) == lab


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_schema_loads(path: Path) -> None:
    assert load_schema(path).name == path.stem


def test_an_unknown_key_names_the_nearest(lab: Schema) -> None:
    with pytest.raises(KeyError, match="did you mean 'patient'"):
        lab.field("patent")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: person_name", "kind: person", r"lab\.yaml: .*patient.*'kind' must be.*did you mean 'person_name'"),
        ("kind: person_name", "kind: person_name, wieght: 2", "patient.*unknown entry 'wieght'; did you mean 'weight'"),
        ("kind: person_name", "wait: 2", "unknown entry 'wait'"),
        (", kind: person_name", "", "missing kind"),
        ("weight: 1.5", "weight: 0", "'weight' must be a number above 0, got 0"),
        ("weight: 1.5", "weight: .nan", "'weight' must be a number above 0, got nan"),
        ("[male, female]", "[yes, no]", "choice True is not a text; quote it"),
        ("[male, female]", "male", "'choices' must be a list"),
        ("kind: enum, choices: [male, female]", "kind: enum", "'choices' belong to kind enum"),
        ("row_keys: [test]", "row_keys: [tset]", "row_keys.*did you mean 'test'"),
        ("date_order: dmy", "date_order: ydm", "'date_order' must be one of"),
        ("many: true", "many: 3", "'many' must be true or false"),
        ("kind: table", "kind: table\n    many: true", "already is a list"),
        ("key: sex", "key: patient", "'patient' is given 2 times"),
        ("document_type: laboratory slip", "doc_type: x", "unknown entry 'doc_type'; did you mean 'document_type'"),
        (
            "kind: quantity",
            "kind: table, columns: [{key: a, description: a, kind: text}]",
            "column 'value' must be a val",
        ),
        ("kind: text", "kind: tabel", "'kind' must be one of.*did you mean 'table'"),
        (
            "kind: text",
            "kind: text, decimal: point",
            "'decimal' belongs to kind number or quantity, got 'point' with kind",
        ),
        ("kind: text", "kind: text, min_similarity: 0.5", "'min_similarity' belongs to kind free_text"),
        ("kind: text", "kind: text, convert_units: true", "'convert_units' belongs to kind quantity, got True"),
        ("kind: text", "kind: text, date_order: dmy", "'date_order' belongs to kind date or datetime, got 'dmy'"),
        ("kind: quantity", "kind: quantity, case_sensitive: true", "'case_sensitive' belongs to kind text or"),
        ("kind: quantity", "kind: quantity, ignore_blanks: true", "'ignore_blanks' belongs to kind text or"),
        ("kind: quantity", "kind: quantity, decimal: dot", "'decimal' must be one of auto, point, comma, got 'dot'"),
        ("kind: quantity", "kind: quantity, convert_units: 1", "'convert_units' must be true or false, got 1"),
        (
            "kind: text",
            "kind: free_text, min_similarity: 0",
            "'min_similarity' must be a number above 0 and up to 1, got 0",
        ),
        ("kind: text", "kind: free_text, min_similarity: high", "'min_similarity' must be a number .* got 'high'"),
        ("kind: text", "kind: text, case_sensitive: 'yes'", "'case_sensitive' must be true or false, got 'yes'"),
        ("kind: text", "kind: text, comparison: strict", "unknown entry 'comparison'"),
        ("[male, female]", "[male, MALE]", "'male' and 'MALE' are compared as the same"),
        ("[male, female]", "[male, ' ']", "choice ' ' is blank"),
        ("description: full name", "description: ' '", "'description' must be a text"),
        ("keys:", "keys: [", "not readable as YAML"),
    ],
)
def test_a_wrong_schema_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in LAB
    with pytest.raises(ValueError, match=message):
        _load(tmp_path, LAB.replace(old, new, 1))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such schema file"):
        load_schema(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="expected a mapping"):
        _load(tmp_path, "- a")
    with pytest.raises(ValueError, match="'keys' must be a list of keys, got str"):
        _load(tmp_path, "{name: a, document_type: a, description: a, keys: b}")
    with pytest.raises(ValueError, match="expected a mapping with key, description, kind, got str"):
        _load(tmp_path, "{name: a, document_type: a, description: a, keys: [b]}")
    with pytest.raises(ValueError, match="'columns' belong to kind table"):
        FieldSpec(key="k", description="d", kind="table")
    with pytest.raises(ValueError, match="at least one key"):
        _load(tmp_path, "{name: a, document_type: a, description: a, keys: []}")


def test_an_annotation_is_checked_value_by_value(lab: Schema) -> None:
    good = {
        "patient": "Ana Silva",
        "taken_on": "03.04.2021",
        "sex": "Male",
        "notes": ["a", "b"],
        "results": [{"test": "Hb", "value": "13 g/dL"}, {"test": "WBC", "value": None}],
    }
    assert lab.validate_annotation(good) == []
    assert lab.validate_annotation({"patient": None, "notes": [], "results": []}) == []
    problems = lab.validate_annotation(
        {
            "patientt": "x",
            "taken_on": "2021-04-03",
            "sex": "M",
            "notes": "a",
            "results": [{"test": "Hb", "valeu": 1}, "Hb", {"value": "much"}],
            "patient": ["Ana"],
        }
    )
    assert len(problems) == 8 and problems[0] == "patientt: not a key of schema 'lab'; did you mean 'patient'?"
    for problem, part in zip(
        problems[1:],
        [
            "order dmy",
            "one of ['male', 'female']",
            "expected a list of values",
            "results[0].valeu: not a column",
            "results[1]: expected a row",
            "results[2].value: 'much' does not read as quantity",
            "expected one person_name",
        ],
        strict=True,
    ):
        assert part in problem
    assert lab.validate_annotation({"notes": ["a", ""]}) == ["notes[1]: an empty value inside a list; remove it"]


def test_a_number_that_can_be_read_two_ways_is_reported_with_both_readings_and_the_remedy() -> None:
    schema = _schema(FieldSpec(key="platelets", description="d", kind="quantity"))
    assert schema.validate_annotation({"platelets": "150,000 /µL"}) == [
        "platelets: '150,000 /µL' can be read two ways, as 150 and as 150000; say `decimal: comma` or `decimal: point` "
        "at key 'platelets'"
    ]
    assert "as 1.25, 2.5 and as nothing" in schema.validate_annotation({"platelets": "1,250-2,5"})[0]
    for sign in ("point", "comma"):
        named = FieldSpec(key="platelets", description="d", kind="quantity", decimal=sign)  # type: ignore[arg-type]
        assert _schema(named).validate_annotation({"platelets": "150,000 /µL"}) == []
    for clear in ("0,125", "0.125", 1.125, "1,25", "1,234,567", 1250):
        assert schema.validate_annotation({"platelets": clear}) == []


@pytest.mark.parametrize(
    ("kind", "options", "value", "problem"),
    [
        ("number", {"decimal": "comma"}, "1.5", "'1.5' does not read as number with the decimal sign 'comma'"),
        ("number", {}, True, "True does not read as number"),
        ("number", {}, float("nan"), "nan is no number that JSON can hold"),
        ("number", {}, 10**50, "does not read as number"),
        ("number", {}, "5" * 999, "'5555555555"),
        ("boolean", {}, "maybe", "'maybe' does not read as boolean, true or false"),
        ("time", {}, "25:00", "'25:00' does not read as time"),
        ("datetime", {"date_order": "dmy"}, "2021-04-03 15:56", "a day in the order dmy with a time"),
        ("text", {}, "\u200b", "does not read as text"),
        ("person_name", {}, "\u200b", "does not read as person_name"),
        ("code", {}, "...", "does not read as code"),
    ],
)
def test_a_truth_that_no_answer_could_give_is_a_problem(
    kind: str, options: dict[str, Any], value: Any, problem: str
) -> None:
    spec = FieldSpec(key="k", description="d", kind=kind, **options)  # type: ignore[arg-type]
    problems = _schema(spec).validate_annotation({"k": value})
    assert len(problems) == 1 and problem in problems[0] and len(problems[0]) < 400


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", ">1:80"), ("number", "negative"), ("quantity", "+/-"), ("quantity", "1½ tablets"), ("boolean", "☒"),
     ("time", "3:56 pm"), ("datetime", "2021-04-03 15:56"), ("quantity", "120/80 mmHg"), ("number", "3.5 – 5.0")],
)  # fmt: skip
def test_what_documents_show_is_accepted(kind: str, value: str) -> None:
    spec = FieldSpec(key="k", description="d", kind=kind)  # type: ignore[arg-type]
    assert _schema(spec).validate_annotation({"k": value}) == []


def test_a_column_may_hold_a_list_of_values() -> None:
    usage = FieldSpec(key="usage", description="d", kind="text", many=True)
    schema = _schema(FieldSpec(key="drugs", description="d", kind="table", columns=(usage,)))
    assert schema.validate_annotation({"drugs": [{"usage": ["a", "b"]}, {"usage": []}]}) == []
    assert schema.validate_annotation({"drugs": [{"usage": "a"}, {"usage": ["a", ["b"]]}]}) == [
        "drugs[0].usage: expected a list of values, got 'a'",
        "drugs[1].usage[1]: expected one text, got list ['b']",
    ]


def test_reading_a_schema_does_not_load_the_unit_library() -> None:
    code = "import sys, rewards.schema, rewards.compare; sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCHEMAS.parents[1], check=False).returncode == 0


def _schema(spec: FieldSpec) -> Schema:
    return Schema(name="s", document_type="d", description="d", fields=(spec,))


def test_a_field_spec_defaults_to_one_plain_value() -> None:
    spec = FieldSpec(key="age", description="age in years", kind="number")
    assert (spec.weight, spec.many, spec.choices, spec.columns, spec.row_keys, spec.date_order) == (
        1.0, False, (), (), (), "ymd",
    )  # fmt: skip
    assert spec.leaf_specs() == (spec,)


def test_paraphrases_are_texts(tmp_path: Path) -> None:
    worded = LAB.replace("description: full name,", "description: full name, paraphrases: [name, whose it is],")
    assert _load(tmp_path, worded).field("patient").paraphrases == ("name", "whose it is")
    assert _load(tmp_path, LAB).field("patient").paraphrases == ()
    for wrong, message in (
        ("name", r"\(key 'patient'\): 'paraphrases' must be a list, got 'name'"),
        ("[name, 7]", "key 'patient': each of 'paraphrases' must be a text that is not blank, got 7"),
        ("['']", "key 'patient': each of 'paraphrases' must be a text that is not blank, got ''"),
    ):
        with pytest.raises(ValueError, match=message):
            _load(tmp_path, LAB.replace("description: full name,", f"description: full name, paraphrases: {wrong},"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: \xff", r"lab\.yaml: not readable as YAML: 'utf-8' codec"),
        (b"[" * 3000, r"lab\.yaml: not readable as YAML: maximum recursion"),
        (b"name: 2021-13-45", r"lab\.yaml: month must be in 1\.\.12"),
        (
            b"{name: a, document_type: a, description: a, "
            b"keys: &k [{key: t, description: d, kind: table, columns: *k}]}",
            r"lab\.yaml: .*columns\[0\] .*column 't' must be a value or a list of values, not a table",
        ),
    ],
    ids=["encoding", "brackets", "no date", "columns of columns"],
)
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_schema(path)


def test_a_table_inside_a_table_is_refused() -> None:
    column = FieldSpec(key="a", description="d", kind="text")
    rows = FieldSpec(key="rows", description="d", kind="table", columns=(column,))
    with pytest.raises(ValueError, match="column 'rows' must be a value or a list of values, not a table"):
        FieldSpec(key="t", description="d", kind="table", columns=(rows,))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(LAB, encoding="utf-8")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ValueError, match=r"lab\.yaml: not yours"):
        load_schema(path)
