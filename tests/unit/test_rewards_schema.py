"""Schemas: what a file may say, and what is refused with the key and the remedy."""

import pickle
from pathlib import Path

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
        ("kind: quantity", "kind: quantity, many: true", "column 'value' must be a plain value"),
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


def test_a_field_spec_defaults_to_one_plain_value() -> None:
    spec = FieldSpec(key="age", description="age in years", kind="number")
    assert (spec.weight, spec.many, spec.choices, spec.columns, spec.row_keys, spec.date_order) == (
        1.0, False, (), (), (), "ymd",
    )  # fmt: skip
    assert spec.leaf_specs() == (spec,)
