"""`medvie score`, through the command line: numbers by hand, what it prints and writes, and every error."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.cli import main
from medvie_rl.config import load_config
from medvie_rl.data.store import open_split
from medvie_rl.run import Run
from medvie_rl.scoring.systems import dump_json
from rewards.parsing import JsonObject

SCHEMA = """
name: slip
document_type: visit
description: a slip
keys:
  - {key: name, description: name, kind: person_name}
  - {key: age, description: age, kind: number, weight: 3.0}
  - {key: room, description: room, kind: text}
"""
TRUTH: list[dict[str, Any]] = [
    {"id": "a", "document_type": "visit", "fields": {"name": "Ana", "age": 45}},
    {"id": "b", "document_type": "visit", "fields": {"name": "Rui", "age": 30}},
    {"id": "c", "document_type": "visit", "fields": {"name": "Eva"}},
]
PREDICTED: list[dict[str, Any]] = [
    {"id": "a", "document_type": "visit", "fields": {"name": "Ana", "age": "45 y", "room": "7"}},
    {"id": "b", "document_type": "visit", "fields": {"name": "Rui"}},
    {"id": "c", "document_type": "visit", "fields": None},
]


def jsonl(path: Path, lines: list[Any]) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    jsonl(tmp_path / "truth.jsonl", TRUTH)
    jsonl(tmp_path / "pred.jsonl", PREDICTED)
    (tmp_path / "slip.yaml").write_text(SCHEMA, encoding="utf-8")
    return tmp_path


def score(folder: Path, *arguments: object, schema: bool = True) -> int:
    """Score pred.jsonl against truth.jsonl, without the published metrics unless they are asked for."""
    options = ["--pred", folder / "pred.jsonl", "--truth", folder / "truth.jsonl"]
    options += ["--schema", folder / "slip.yaml"] if schema else []
    options += [] if "--published" in arguments else ["--no-published"]
    return main(["score", *map(str, (*options, *arguments))])


def result(folder: Path, *arguments: object, schema: bool = True, code: int = 0) -> dict[str, Any]:
    assert score(folder, *arguments, "--json", folder / "out.json", schema=schema) == code
    content: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    return content


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object, schema: bool = True) -> str:
    capsys.readouterr()
    assert score(folder, *arguments, schema=schema) == 2
    return capsys.readouterr().err


def test_numbers_by_hand(folder: Path) -> None:
    """2 right of 4 answered (one in the wrong form, one invented) and 5 true; weighted 2 of 6 and of 9."""
    found = result(folder)
    assert (found["precision"], found["recall"], found["f1"]) == (2 / 4, 2 / 5, 4 / 9)
    metrics = found["metrics"]
    assert (metrics["weighted_precision"], metrics["weighted_recall"]) == (2 / 6, 2 / 9)
    assert metrics["document_f1"] == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert (metrics["valid_json_rate"], metrics["exact_document_rate"]) == (2 / 3, 0)
    assert metrics["error_rates"]["hallucinated"] == 1 / 4 and metrics["error_rates"]["omitted"] == 2 / 5
    assert (found["num_documents"], found["num_without_prediction"], found["comparison"]) == (3, 0, None)
    assert [(line["id"], line["f1"], line["status"]) for line in found["documents"]] == [
        ("a", pytest.approx(2 / 5), "ok"), ("b", pytest.approx(2 / 3), "ok"), ("c", 0, "no_json"),
    ]  # fmt: skip
    kinds = {item["name"]: item for item in found["groups"]["kind"]}
    assert kinds["person_name"]["f1"] == 4 / 5 and kinds["number"]["num_leaves"] == 2
    assert found["published"] is None and found["rejected_lines"] == [] and "reward" not in metrics


def test_the_same_seed_gives_the_same_intervals(folder: Path) -> None:
    first, again, other = (result(folder, "--seed", seed)["metrics"]["f1_ci95"] for seed in (1, 1, 2))
    assert first == again and len(other) == 2
    assert score(folder, "--seed", -1) == 2


def test_the_table_is_readable_and_fits_80_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(folder) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 or str(folder) in text
    rows = [line.split() for line in text.splitlines()]
    assert ["micro", "F1", "0.444"] in [row[:3] for row in rows]
    assert ["valid", "JSON", "0.667"] in [row[:3] for row in rows]
    assert ["hallucinated", "(answered)", "0.250"] in rows
    assert "95%" in text and "KIEval" not in text
    assert ["name", "3", "3", "1.000", "0.667", "0.800"] in [row[:6] for row in rows]
    assert "by kind of value" in text and "by document type" not in text


def test_a_document_is_explained_value_by_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = result(folder, "--explain", "a")
    rows = [line.split() for line in capsys.readouterr().out.split("a: F1 0.400")[1].splitlines()]
    assert ["name", "Ana", "Ana", "correct", "1", "1.00"] in rows
    assert ["age", "45", "45", "y", "convention", "3", "0.00"] in rows
    assert ["room", "7", "hallucinated", "1", "0.00"] in rows
    assert found["documents"][0]["wrong"] == [
        {"key": "age", "place": [], "outcome": "convention", "answered": "45 y", "true": 45},
        {"key": "room", "place": None, "outcome": "hallucinated", "answered": "7", "true": None},
    ]
    assert "no document 'aa'; did you mean 'a'?" in refusal(capsys, folder, "--explain", "aa")


def test_csv_has_one_row_a_group_and_a_document(folder: Path) -> None:
    assert score(folder, "--csv", folder / "out.csv") == 0
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["group"], row["name"]): row for row in csv.DictReader(file)}
    assert {group for group, _ in rows} == {
        "all",
        "document_type",
        "kind",
        "key",
        "leaves",
        "rows",
        "columns",
        "document",
    }
    assert list(rows["all", "all"])[:13] == [
        "group", "name", "num_documents", "leaves", "precision", "recall", "f1", "f1_low", "f1_high",
        "hallucination_rate", "omission_rate", "misassociation_rate", "duplicate_rate",
    ]  # fmt: skip
    everything, name, document = rows["all", "all"], rows["key", "name"], rows["document", "a"]
    assert (everything["leaves"], float(everything["f1"]), everything["other_f1"]) == ("5", 4 / 9, "")
    assert (name["num_documents"], name["omitted"], float(name["omission_rate"])) == ("3", "1", 1 / 3)
    assert (float(document["f1"]), document["f1_low"], document["hallucinated"]) == (2 / 5, "", "1")
    assert float(document["hallucination_rate"]) == 1 / 3 and document["misassociation_rate"] == "0.0"


def test_raw_responses_are_parsed_strictly(folder: Path) -> None:
    jsonl(folder / "pred.jsonl", [
        {"id": "a", "response": '<think>x</think>{"name": "Ana", "age": 45}'},
        {"id": "b", "response": '{"name": "Rui", "age": 30} done'},
        {"id": "c", "response": '{"name": "Eva", "name": "Eva"}'},
    ])  # fmt: skip
    for schema in (True, False):
        found = result(folder, schema=schema)
        assert found["metrics"]["statuses"] == {"ok": 2, "trailing_text": 1}
        assert (found["precision"], found["recall"]) == (3 / 4, 3 / 5)
        assert found["metrics"]["counts"]["duplicate"] == 1


def test_keys_given_twice_in_a_prediction_are_duplicates(folder: Path) -> None:
    jsonl(folder / "pred.jsonl", ['{"id": "a", "fields": {"name": "Ana", "age": 45, "name": "Ana"}}'])
    found = result(folder)
    assert found["metrics"]["counts"]["duplicate"] == 1 and found["precision"] == 2 / 3


def test_documents_without_prediction_are_omitted_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(folder / "pred.jsonl", PREDICTED[:1])
    found = result(folder)
    assert found["num_without_prediction"] == 2 and found["metrics"]["counts"]["omitted"] == 3
    assert found["metrics"]["valid_json_rate"] == 1 / 3
    assert "no prediction: 2 documents of 3" in capsys.readouterr().out.replace("\n", " ")


def test_lines_of_medvie_extract_by_image(folder: Path) -> None:
    """Those name images by their path from here; a failed one has a status and no fields."""
    truth = [{"image": f"images/{line['id']}.png", **line} for line in TRUTH]
    jsonl(folder / "truth.jsonl", truth)
    path = str(folder / "images")
    jsonl(folder / "pred.jsonl", [
        {"image": f"{path}/a.png", "document_type": "visit", "status": "ok", "fields": {"name": "Ana", "age": 45}},
        {"image": f"{path}/b.png", "document_type": "visit", "status": "truncated", "problem": "x", "response": "{"},
        {"image": "images/c.png", "status": "unreadable", "problem": "x"},
    ])  # fmt: skip
    found = result(folder)
    assert (found["precision"], found["recall"], found["num_without_prediction"]) == (1.0, 2 / 5, 0)
    assert found["metrics"]["valid_json_rate"] == 1 / 3 and found["notices"] == []
    for line in truth:
        del line["id"]
    jsonl(folder / "truth.jsonl", truth)
    assert result(folder)["f1"] == found["f1"]


def test_repaired_answers_are_said(folder: Path) -> None:
    jsonl(folder / "pred.jsonl", [line | {"status": "repaired" if line["fields"] else "no_json"} for line in PREDICTED])
    (notice,) = result(folder)["notices"]
    assert notice.startswith("repaired before scoring, counted as valid JSON: 2 documents (")


def test_bad_prediction_lines_are_rejected_one_by_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[Any] = [
        PREDICTED[0],
        "not JSON",
        "[1]",
        {"fields": {}},
        {"id": True, "fields": {}},
        PREDICTED[0],
        {"id": "cc", "fields": {}},
        {"id": "b", "fields": [1]},
        {"id": "b", "response": 3},
        {"id": "b", "answer": {}},
        '{"id": "b", "fields": {"age": NaN}}',
        '{"id": "b", "id": "c", "fields": {}}',
        {"id": "b", "fields": {}, "document_type": 3},
        '{"id": "b", "fields": {"age": "\\ud800"}}',
        '{"id": "b", "fields": ' + '{"a":' * 70 + "1" + "}" * 70 + "}",
        '{"id": "b", "fields": ' + "[" * 9999 + "]" * 9999 + "}",
        "",
    ]
    path = jsonl(folder / "pred.jsonl", lines)
    path.write_bytes(path.read_bytes() + b'{"id": "b", "fields": {"name": "\xff"}}\n')
    found = result(folder, code=3)
    assert found["metrics"]["counts"]["correct"] == 1 and found["num_without_prediction"] == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rejected: ")]
    assert errors == [f"rejected: {line}" for line in found["rejected_lines"]]
    expected = {
        2: "not a JSON object", 3: "expected a JSON object, got [1]", 4: "expected 'id' (or 'image')", 5: "got true",
        6: "id 'a' has a prediction on an earlier line already", 7: "id 'cc' is not in", 8: "expected 'fields'",
        9: "expected 'response'", 10: "got only 'id', 'answer'", 11: "NaN is not a value that JSON has",
        12: "'id' is given more than once", 13: "expected 'document_type'", 14: "surrogate", 15: "deeper than 64",
        16: "deeper than 64", 18: "not UTF-8 text",
    }  # fmt: skip
    for error, (number, text) in zip(errors, expected.items(), strict=True):
        assert f"{path}:{number}: " in error and text in error, error


def test_nothing_that_can_be_used_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred, truth = folder / "pred.jsonl", folder / "truth.jsonl"
    for content, message in ((b"", "it is empty"), (b"\n \n", "it is empty"), (b"\xff{}", "not UTF-8 text"),
                             (b'{"id": "aa", "fields": {}}', "id 'aa' is not in")):  # fmt: skip
        pred.write_bytes(content)
        assert f"{pred}: no prediction can be used" in (error := refusal(capsys, folder)) and message in error
    pred.unlink()
    assert f"{pred}: no such file" in refusal(capsys, folder)
    pred.mkdir()
    assert f"{pred}: not readable" in refusal(capsys, folder)
    truth.write_text("", encoding="utf-8")
    assert f"{truth}: no annotated document" in refusal(capsys, folder)
    truth.unlink()
    assert f"{truth}: no such file" in refusal(capsys, folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ({"id": "z", "fields": None}, "expected 'fields': an object of keys and values, got nothing"),
        ({"fields": {}}, "expected 'id' (or 'image')"),
        ({"id": "z", "document_type": ["x"], "fields": {}}, "expected 'document_type': a text"),
        ({"id": "a", "fields": {"name": "x"}}, "id 'a' is used on an earlier line already"),
        ({"id": "z", "fields": {"age": "many"}}, "'many' does not read as number"),
        ({"id": "z", "fields": {"nam": "x"}}, "did you mean 'name'?"),
        ('{"id": "z", "fields": {"name": "x", "name": "y"}}', "key 'name' is given more than once"),
        ('{"id": "z", "fields": {"name": [{"x": "x", "x": "y"}]}}', "key 'x' is given more than once"),
    ],
)
def test_a_bad_truth_line_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], line: Any, message: str) -> None:
    path = jsonl(folder / "truth.jsonl", [*TRUTH, line])
    error = refusal(capsys, folder)
    assert f"{path}:4: " in error and message in error


def test_many_problems_are_cut_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(folder / "truth.jsonl", ["{"] * 30)
    assert "... and 10 more" in refusal(capsys, folder)


def test_schemas_are_chosen_by_document_type_or_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemas = folder / "schemas"
    schemas.mkdir()
    error = refusal(capsys, folder, "--schema", schemas, schema=False)
    assert "has no schema file" in error
    (schemas / "slip.yaml").write_text(SCHEMA, encoding="utf-8")
    other = SCHEMA.replace("slip", "lab").replace("visit", "laboratory").replace("kind: number", "kind: text")
    (schemas / "lab.yaml").write_text(other, encoding="utf-8")
    types = ("visit", "lab", "laboratory")
    jsonl(folder / "truth.jsonl", [line | {"document_type": name} for line, name in zip(TRUTH, types, strict=True)])
    found = result(folder, "--schema", schemas, schema=False)
    assert [item["name"] for item in found["groups"]["document_type"]] == ["lab", "laboratory", "visit"]
    assert "taken for another document type than the truth's: 2 documents" in " ".join(found["notices"])
    assert "by document type" in capsys.readouterr().out

    jsonl(
        folder / "truth.jsonl", [*TRUTH, {"id": "d", "document_type": "bill", "fields": {}}, {"id": "e", "fields": {}}]
    )
    error = refusal(capsys, folder, "--schema", schemas, schema=False)
    assert "truth.jsonl:4: no schema for document_type 'bill'; there are some for laboratory, visit\n" in error
    assert "truth.jsonl:5: no schema for document_type ''" in error
    assert score(folder) == 0  # a single schema serves all

    error = refusal(capsys, folder, "--schema", schemas / "lab.yaml", folder / "slip.yaml", "--schema", schemas)
    assert "its name 'slip' is that of" in error
    (folder / "slip2.yaml").write_text(SCHEMA.replace("name: slip", "name: slip2"), encoding="utf-8")
    assert "several schemas are for document_type 'visit': slip, slip2" in refusal(
        capsys, folder, "--schema", folder / "slip2.yaml"
    )
    (folder / "slip.yaml").write_text("name: x", encoding="utf-8")
    assert f"{folder / 'slip.yaml'}: schema: missing" in refusal(capsys, folder)


def test_the_shipped_schemas_are_chosen_by_name_before_document_type(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two are for prescriptions, and one of them is called so."""
    shipped = "conf/schemas"
    lines = [
        {"id": "a", "document_type": "prescription", "fields": {"patient": "Ana"}},
        {"id": "b", "document_type": "Prescription_Slip", "fields": {"patient": "Rui"}},
        {"id": "c", "document_type": "VISIT", "fields": {"patient": "Eva"}},
    ]
    jsonl(folder / "truth.jsonl", lines)
    jsonl(folder / "pred.jsonl", [line | {"document_type": str(line["document_type"]).lower()} for line in lines])
    train = jsonl(folder / "train.jsonl", [{"document_type": "Visit", "fields": {"patient": "Eva"}}])
    found = result(folder, "--schema", shipped, "--train", train, schema=False)
    assert found["f1"] == 1 and found["notices"] == []
    assert {item["name"]: item["num_leaves"] for item in found["groups"]["rarity"]} == {"never": 2, ">= 90%": 1}
    few = [f"{shipped}/{name}.yaml" for name in ("prescription", "prescription_slip")]
    error = refusal(capsys, folder, "--schema", *few, schema=False)
    assert "truth.jsonl:3: no schema for document_type 'VISIT'; there are some for prescription\n" in error
    jsonl(folder / "truth.jsonl", [{"id": "a", "document_type": "prescriptions", "fields": {}}])
    error = refusal(capsys, folder, "--schema", shipped, schema=False)
    assert "truth.jsonl:1: no schema for document_type 'prescriptions'; did you mean 'prescription'?" in error


def test_without_a_schema_values_compare_as_text(folder: Path) -> None:
    """Truth and answer are brought into one shape; 45 is a number as it is one in every truth."""
    truth = [
        {"id": 1, "fields": {"p": {"name": "Ana"}, "rows": [{"x": "1"}], "age": 45}},
        {"id": 2, "fields": {"rows": []}},
    ]
    jsonl(folder / "truth.jsonl", truth)
    jsonl(
        folder / "pred.jsonl",
        [{"id": "1", "fields": {"p": {"name": "ANA", "name2": "b"}, "rows": {"x": "1"}, "age": "45"}}],
    )
    found = result(folder, schema=False)
    assert (found["precision"], found["recall"]) == (3 / 4, 1.0)
    assert found["notices"][0] == "no schema: compared as plain text, inferred from the truth"
    assert {item["name"] for item in found["groups"]["key"]} == {"p.name", "rows.x", "age", "(not in the schema)"}


def test_a_truth_without_any_value_needs_a_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(folder / "truth.jsonl", [{"id": "a", "document_type": "visit", "fields": {}}])
    assert "truth.jsonl: visit: no document has any key" in refusal(capsys, folder, schema=False)


def test_two_systems_are_compared_in_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = [{"id": line["id"], "fields": line["fields"]} for line in TRUTH]
    jsonl(folder / "other.jsonl", [*PREDICTED, "bad"])
    jsonl(folder / "pred.jsonl", right)
    found = result(folder, "--compare", folder / "other.jsonl", "--csv", folder / "out.csv", code=3)
    comparison = found["comparison"]
    assert found["f1"] == 1.0 and comparison["metrics"]["f1"] == 4 / 9
    difference = comparison["difference"]
    assert difference["delta_f1"] == pytest.approx(5 / 9)
    low, high = difference["delta_f1_ci95"]
    assert 0 < low < 5 / 9 < high <= 1
    assert sum(comparison["f1_gain_by_error_class"].values()) == pytest.approx(5 / 9)
    assert comparison["mended"]["omitted"] == 2
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if str(folder) not in line) <= 80
    assert "+0.556 [" in text and "F1 other" in text
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["other_f1"]) == 4 / 9


def test_rarity_comes_from_training_annotations(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training: list[dict[str, Any]] = [{"document_type": "visit", "fields": {"name": "x"}} for _ in range(20)]
    training[0]["fields"]["age"] = 3
    train = jsonl(folder / "train.jsonl", [*training, {"document_type": "other", "fields": {"room": 1}}])
    for schema in (True, False):
        found = result(folder, "--train", train, schema=schema)
        groups = {item["name"]: item["num_leaves"] for item in found["groups"]["rarity"]}
        # A single schema serves the other document type too, which has the room; the inferred one knows no room.
        assert groups == {"< 10%": 2, ">= 90%": 3} | ({} if schema else {"never": 0})
    assert "by how many training documents have the key" in capsys.readouterr().out
    jsonl(train, [{"fields": 3}])
    assert f"{train}:1: expected 'fields'" in refusal(capsys, folder, "--train", train)


def test_published_metrics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("anls_star")
    jsonl(folder / "pred.jsonl", [{"id": line["id"], "fields": line["fields"]} for line in TRUTH])
    published = result(folder, "--published")["published"]
    assert (published["anls_star"], published["donut_nted_accuracy"], published["donut_f1"]) == (1.0, 1.0, 1.0)
    assert (published["kieval"]["entity_f1"], published["kieval"]["group_f1"], published["num_nted_skipped"]) == (
        1,
        None,
        0,
    )
    jsonl(folder / "other.jsonl", PREDICTED)
    found = result(folder, "--published", "--compare", folder / "other.jsonl")
    assert found["comparison"]["published"]["kieval"]["entity_f1"] == pytest.approx(2 * 2 / (5 + 4))
    assert "KIEval aligned" in capsys.readouterr().out


def test_published_metrics_leave_out_tables_too_large_for_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{str(column): f"value {row * 5 + column}" for column in range(5)} for row in range(240)]
    for lines, anls_star, num_skipped in (
        ([{"id": "big", "fields": {"rows": rows}}, *TRUTH], 1.0, 1),
        ([{"id": "big", "fields": {"rows": rows}}], None, 1),
        (TRUTH, 1.0, 0),
    ):
        jsonl(folder / "truth.jsonl", lines)
        jsonl(folder / "pred.jsonl", [{"id": line["id"], "fields": line["fields"]} for line in lines])
        published = result(folder, "--published", schema=False)["published"]
        assert (published["anls_star"], published["num_anls_skipped"]) == (anls_star, num_skipped)
        text = capsys.readouterr().out
        assert ("ANLS* leaves out 1 documents, too large for it" in " ".join(text.split())) == bool(num_skipped)
        assert (["ANLS*", "-"] in [line.split() for line in text.splitlines()]) == (anls_star is None)


def test_numbers_that_no_answer_may_have_are_refused_with_their_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the whole document would count as no valid JSON, and nobody would know."""
    digits = "1" * 5_000
    pred = jsonl(folder / "pred.jsonl", [
        PREDICTED[0],
        '{"id": "b", "fields": {"age": 1e999}}',
        '{"id": "b", "fields": {"age": -1e999}}',
        f'{{"id": "b", "fields": {{"rows": [{{"x": 1}}, {{"age": {digits}}}]}}}}',
        f'{{"id": "b", "fields": {{"age": 1, "age": {digits[:41]}}}}}',
        f'{{"id": "b", "fields": {{"age": 0.{digits[:39]}}}}}',
        f'{{"id": {digits}, "fields": {{}}}}',
        f'{{"id": "b", "fields": {{"age": {digits[:40]}, "room": 1e308}}}}',
    ])  # fmt: skip
    found = result(folder, code=3)
    assert found["rejected_lines"] == [
        f"{pred}:2: fields.age: 1e999 is out of range",
        f"{pred}:3: fields.age: -1e999 is out of range",
        f"{pred}:4: fields.rows.age: a number of 5000 characters, at most 40 are read",
        f"{pred}:5: fields.age: a number of 41 characters, at most 40 are read",
        f"{pred}:6: fields.age: a number of 41 characters, at most 40 are read",
        f"{pred}:7: id: a number of 5000 characters, at most 40 are read",
    ]
    assert found["metrics"]["statuses"] == {"ok": 2, "no_json": 1}  # the last line counts
    assert "set_int_max_str_digits" not in capsys.readouterr().err
    truth = jsonl(folder / "truth.jsonl", [*TRUTH, '{"id": "d", "fields": {"age": 1e999}}'])
    assert f"{truth}:4: fields.age: 1e999 is out of range" in refusal(capsys, folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(PREDICTED), "`jq -c '.[]' "),
        (json.dumps(PREDICTED, indent=2), "`jq -c '.[]' "),
        (f"\n{json.dumps(PREDICTED[0], indent=2)}\n", "`jq -c '.' "),
        ("\n".join(json.dumps(line, indent=2) for line in PREDICTED), "`jq -c '.' "),
    ],
)
def test_a_json_document_is_no_jsonl(
    folder: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    for name in ("pred.jsonl", "truth.jsonl"):
        (folder / name).write_text(content, encoding="utf-8")
        error = refusal(capsys, folder)
        assert f"{name}: expected one JSON object a line (JSONL); this looks like one JSON document: {message}" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(folder: Path, capsys: pytest.CaptureFixture[str], encoding: str) -> None:
    path = folder / "pred.jsonl"
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    assert f"{path}: not UTF-8 text but probably UTF-16; save it as UTF-8\n" in refusal(capsys, folder)


def test_a_file_whose_first_line_is_wrong_is_still_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("[1]", "[", "{", '{"a": ', "NaN", "[" * 9_999):
        jsonl(folder / "pred.jsonl", [line, *PREDICTED])
        assert len(result(folder, code=3)["rejected_lines"]) == 1, line


def test_an_image_of_two_documents_is_no_name_of_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = jsonl(folder / "truth.jsonl", [
        TRUTH[0] | {"image": "scan.png"}, TRUTH[1] | {"image": "./scan.png"}, TRUTH[2] | {"image": "c.png"},
    ])  # fmt: skip
    pred = jsonl(folder / "pred.jsonl", [
        {"id": "a", "image": "scan.png", "fields": {"name": "Ana"}},
        {"image": "scan.png", "fields": {"name": "Rui"}},
        {"image": str(folder / "scan.png"), "fields": {"name": "Rui"}},
        {"image": "c.png", "fields": {"name": "Eva"}},
        {"id": "z", "image": ["c.png"], "fields": {"name": "Eva"}},
    ])  # fmt: skip
    found = result(folder, code=3)
    assert [(line["id"], line["counts"]["correct"]) for line in found["documents"]] == [("a", 1), ("b", 0), ("c", 1)]
    several = f"image './scan.png' is that of several documents of {truth}; name one by its id"
    assert found["rejected_lines"] == [
        f"{pred}:2: {several}", f"{pred}:3: {several}", f"{pred}:5: id 'z' is not in {truth}",
    ]  # fmt: skip
    assert found["notices"][0] == "images of several documents, found by id only: ./scan.png"


def test_training_annotations_that_match_nothing_are_said(folder: Path) -> None:
    train = jsonl(folder / "train.jsonl", [{"document_type": "bill", "fields": {"name": "x"}}])
    (notice,) = result(folder, "--train", train, schema=False)["notices"][1:]
    assert notice == f"rarity means nothing: no document of {train} has a document type of the truth, 'visit'"
    jsonl(train, [{"document_type": "visit", "fields": {"title": "x"}}, {"document_type": "visit", "fields": {}}])
    (notice,) = result(folder, "--train", train)["notices"]
    assert notice == f"rarity means nothing: no document of {train} has a key of the truth, such as 'age'"
    jsonl(train, [{"document_type": "visit", "fields": {"name": "x"}}])
    assert result(folder, "--train", train)["notices"] == []


def test_output_never_takes_the_place_of_input_or_of_other_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, train = (jsonl(folder / name, TRUTH) for name in ("other.jsonl", "train.jsonl"))
    (folder / "link.jsonl").symlink_to(folder / "pred.jsonl")
    (folder / "schemas").mkdir()
    shutil.copy(folder / "slip.yaml", folder / "schemas" / "lab.yaml")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    inputs = ("pred.jsonl", "truth.jsonl", "slip.yaml", "other.jsonl", "train.jsonl", "link.jsonl", "schemas/lab.yaml",
              "schemas/../pred.jsonl")  # fmt: skip
    for name in inputs:
        for option in ("--json", "--csv"):
            path = folder / name
            error = refusal(
                capsys, folder, "--compare", other, "--train", train, "--schema", folder / "schemas", option, path
            )
            assert f"{option} {path}: this is read as input and would be overwritten; name another file" in error
    out = folder / "out"
    error = refusal(capsys, folder, "--json", out, "--csv", folder / "schemas" / ".." / "out")
    assert "--json goes to this file too; name another one" in error and not out.exists()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0",
                                                                        "PYTHONCOERCECLOCALE": "0"}])  # fmt: skip
def test_signs_that_the_terminal_does_not_have_cost_nothing(folder: Path, environment: dict[str, str]) -> None:
    jsonl(folder / "truth.jsonl", [{"id": "a", "document_type": "visit", "fields": {"name": "Jürgen Łuć 李"}}])
    jsonl(folder / "pred.jsonl", [{"id": "a", "fields": {"name": "Jürgen Łuć 李"}}, {"id": "李", "fields": {}}])
    options = ["--pred", "pred.jsonl", "--truth", "truth.jsonl", "--no-published", "--explain", "a", "--json", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "medvie_rl", "score", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3 and b"Traceback" not in done.stderr, done.stderr
    assert b"J?rgen" in done.stdout and b"rejected: pred.jsonl:2: id '?' is not in truth.jsonl" in done.stderr
    assert json.loads((folder / "out").read_text(encoding="utf-8"))["f1"] == 1


def test_where_output_cannot_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no folder" in refusal(capsys, folder, "--json", folder / "none" / "out.json")
    assert "this is a folder" in refusal(capsys, folder, "--csv", folder)


def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--pred", "x"]) == 2
    assert "score needs --pred and --truth, or --run" in capsys.readouterr().err
    assert main(["score", "--run", str(folder), "--pred", "x"]) == 2
    assert "do not go with it" in capsys.readouterr().err
    assert main(["score", "--run", str(folder)]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_what_cannot_be_written_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".out.json.partial").mkdir()
    assert "out.json: cannot be written" in refusal(capsys, folder, "--json", folder / "out.json")


def test_repeated_keys_survive_as_text() -> None:
    value = JsonObject.from_pairs([("a", [1, None, {}]), ("b", {"ä": "x"}), ("a", [])])
    assert dump_json(value) == '{"a": [1, null, {}], "b": {"ä": "x"}, "a": []}'


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the shipped slips that has recorded three documents: half of the values before, all of them after."""
    folder = tmp_path_factory.mktemp("run")
    dataset = folder / "slips"
    shutil.copytree("medvie_rl/nano/slips", dataset)
    schemas = folder / "schemas"
    schemas.mkdir()
    for path in Path("conf/schemas").glob("*_slip.yaml"):
        shutil.copy(path, schemas)
    overrides = [f"output_dir={folder}", f"data.path={dataset}", f"schemas={schemas}", "wandb.mode=disabled"]
    run = Run.create(load_config(Path("conf/local.yaml"), overrides))
    documents = list(open_split(dataset, "test"))[:3]
    for name, share in (("before", 2), ("after", 1)):
        entries = []
        for document in documents:
            answer = dict(list(document.annotation.items())[::share])
            entries.append({
                "id": document.id, "response": f"<think>x</think>{json.dumps(answer)}", "finish_reason": "stop",
                "answer": answer, "truth": document.annotation, "f1": 0.0, "status": "ok",
            })  # fmt: skip
        run.record_evaluation(name, {"metrics": {"f1": 1.0}, "weight_version": 0, "documents": entries})
    return run.folder


def test_a_run_after_against_before(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["score", "--run", str(run_folder), "--no-published", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["f1"], found["metrics"]["valid_json_rate"], found["metrics"]["exact_document_rate"]) == (1, 1, 1)
    before = found["comparison"]["metrics"]
    assert before["precision"] == 1 and 0.3 < before["recall"] < 0.8
    assert found["comparison"]["difference"]["delta_f1"] == pytest.approx(1 - before["f1"])
    assert found["groups"]["rarity"] and found["groups"]["document_type"]
    assert len(found["notices"]) == 1 and "the run recorded an F1 of 1.000 before training" in found["notices"][0]
    text = capsys.readouterr().out
    assert "F1 before" in text and max(len(line) for line in text.splitlines() if "/" not in line) <= 80


def test_a_run_whose_dataset_is_gone(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    config = (copy / "config.yaml").read_text(encoding="utf-8").replace("/slips", "/gone")
    (copy / "config.yaml").write_text(config, encoding="utf-8")
    assert main(["score", "--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "stands in the run's dataset, and" in error and "--schema FILE" in error
    record = json.loads((copy / "evaluations" / "after.json").read_text(encoding="utf-8"))
    for name in ("before", "after"):
        record["documents"] = record["documents"][:1]
        record["documents"][0]["truth"] = {"patient": "Ana"}
        (copy / "evaluations" / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    schema = "conf/schemas/visit_slip.yaml"
    assert main(["score", "--run", str(copy), "--schema", schema, "--no-published"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "all documents are taken for 'visit_slip'" in text and "no table of rare keys" in text
    record["documents"][0]["truth"] = {"age": "old"}
    (copy / "evaluations" / "before.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["score", "--run", str(copy), "--schema", schema]) == 2
    assert "does not fit schema 'visit_slip', which must have changed" in capsys.readouterr().err


def test_records_that_do_not_belong_together(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    path = copy / "evaluations" / "after.json"
    record = json.loads(path.read_text(encoding="utf-8"))

    def error(content: str, *more: str) -> str:
        path.write_text(content, encoding="utf-8")
        assert main(["score", "--run", str(copy), *more]) == 2
        return capsys.readouterr().err

    with_output = ("--json", str(path))
    assert "this is read as input and would be overwritten" in error(json.dumps(record), *with_output)
    assert "of other documents" in error(json.dumps(record | {"documents": record["documents"][:2]}))
    assert "not readable as JSON" in error("{")
    path.unlink()
    assert main(["score", "--run", str(copy)]) == 2
    assert "after.json: no such evaluation" in capsys.readouterr().err
    assert "there are only visit_slip" in error(json.dumps(record), "--schema", "conf/schemas/visit_slip.yaml")
    record["documents"][0]["id"] = "other"
    (copy / "evaluations" / "before.json").write_text(json.dumps(record), encoding="utf-8")
    assert "document 'other' is not in the run's dataset" in error(json.dumps(record))


def test_damaged_records_are_named(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    path = copy / "evaluations" / "before.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    first = record["documents"][0]

    def without(key: str) -> dict[str, Any]:
        damaged = {name: value for name, value in first.items() if name != key}
        return record | {"documents": [first, damaged]}

    cases: list[tuple[Any, str]] = [
        ({}, "metrics is missing"),
        ([], "the record: expected an object, got []"),
        ({"documents": []}, "metrics is missing"),
        ({"metrics": {"f1": 1}}, "documents is missing"),
        (record | {"metrics": {}}, "metrics.f1 is missing"),
        (record | {"metrics": {"f1": "1"}}, 'metrics.f1: not what a run records, got "1"'),
        (record | {"metrics": None}, "metrics: not what a run records, got nothing"),
        (record | {"documents": {"a": 1}}, 'documents: not what a run records, got {"a": 1}'),
        (record | {"documents": [first, 3]}, "documents[1]: expected an object, got 3"),
        (record | {"documents": [first | {"truth": [1]}]}, "documents[0].truth: not what a run records, got [1]"),
        *((without(key), f"documents[1].{key} is missing") for key in ("id", "truth", "response", "finish_reason")),
    ]
    for content, problem in cases:
        path.write_text(json.dumps(content), encoding="utf-8")
        assert main(["score", "--run", str(copy)]) == 2
        assert capsys.readouterr().err == (
            f"error: {path}: {problem}; the record is damaged: restore it from a copy, or run the training again\n"
        )
    path.write_text(json.dumps(record | {"documents": []}), encoding="utf-8")
    assert main(["score", "--run", str(copy)]) == 2
    assert f"{path}: the run recorded no documents before training, so there is nothing" in capsys.readouterr().err
