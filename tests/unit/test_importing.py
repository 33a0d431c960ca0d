"""Import: good lines come in, bad ones are rejected with file, line and reason; nothing is skipped silently."""

import json
from pathlib import Path

import pytest
from PIL import Image

from medvie_rl.cli import main
from medvie_rl.data.importing import import_documents, import_folder
from medvie_rl.data.store import POOL, open_split
from medvie_rl.errors import UserError
from rewards.schema import FieldSpec, Schema, load_schema
from shared_documents import MISSING, REAL, SCHEMAS

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
NUM_REAL = {
    "invoice2data_invoices": 1,
    "medicine_boxes_en": 8,
    "mtsamples_rendered": 5,
    "openi_radiology_rendered": 6,
    "sroie_receipts": 8,
    "vaipe_prescriptions_vi": 12,
    "wildreceipt": 6,
}
SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=(
        FieldSpec(key="day", description="day", kind="date"),
        FieldSpec(key="dose", description="dose", kind="quantity"),
    ),
)


def write_source(folder: Path, lines: list[bytes]) -> Path:
    folder.mkdir()
    for index in range(8):
        Image.new("RGB", (30, 20 + index), (index, 0, 0)).save(folder / f"{index}.png")
    (folder / "annotations.jsonl").write_bytes(b"\n".join(lines))
    return folder


def line(index: int, **changes: object) -> bytes:
    entry = {"image": f"{index}.png", "fields": {"day": "2024-05-01", "dose": "5 mg"}} | changes
    return json.dumps(entry).encode()


def test_good_lines_are_dealt_to_splits_and_come_back(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [line(index) for index in range(8)])
    report = import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES)
    assert report.imported == {"train": 4, "validation": 2, "test": 2}
    assert report.rejected == []
    ids = [document.id for name in SHARES for document in open_split(tmp_path / "out", name)]
    assert sorted(ids) == [str(index) for index in range(8)]


def test_a_named_split_is_kept(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [line(index, split="test") for index in range(4)])
    assert import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES).imported["test"] == 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"image": "1.png", "fields": {"day"', "not a JSON object"),
        (b"[1]", "expected a JSON object, got list"),
        (b'{"image": "1.png", "fields": {"dose": NaN}}', "NaN is not a value"),
        (b'{"image": "1.png", "fields": {"day": "caf\xe9"}}', "not UTF-8"),
        (b'{"fields": {}}', "expected 'image'"),
        (b'{"image": "1.png", "fields": [1]}', "expected 'fields'"),
        (b'{"image": "1.png", "fields": {"day": "2024-05-01"}, "fields": {}}', "'fields' is given twice"),
        (b'{"image": "1.png", "fields": {}, "id": "\\ud800"}', "half of a surrogate pair"),
        (line(1, id=[1]), "'id' must be a text"),
        (line(1, image="none.png"), "does not exist"),
        (line(1, image="../../etc/passwd"), "lies outside"),
        (line(1, split="dev"), "'split' must be one of"),
        (line(1, fields={"day": "yesterday"}), "does not fit schema 'note'"),
        (line(1, image="annotations.jsonl"), "annotations.jsonl: it is a text"),
        (line(0), "id '0' was used in line 1 already"),
    ],
)
def test_a_bad_line_is_rejected_with_its_number_and_the_rest_comes_in(tmp_path: Path, bad: bytes, reason: str) -> None:
    source = write_source(tmp_path / "source", [line(0), bad, line(2)])
    report = import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES)
    assert sum(report.imported.values()) == 2
    assert len(report.rejected) == 1
    assert "annotations.jsonl:2: " in report.rejected[0]
    assert reason in report.rejected[0]


def test_keys_that_the_schema_lacks_are_counted(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [line(0, fields={"day": "2024-05-01", "weight": 3}), line(1)])
    assert import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES).ignored_keys == {"weight": 1}


def test_nothing_usable_and_an_existing_dataset_are_errors(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [b"{"])
    with pytest.raises(UserError, match="no document can be used"):
        import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES)
    with pytest.raises(UserError, match="not empty"):
        import_folder(source, SCHEMA, source, shares=SHARES)
    with pytest.raises(UserError, match=r"annotations\.jsonl: no such file"):
        import_folder(tmp_path / "nowhere", SCHEMA, tmp_path / "out", shares=SHARES)


def test_the_command_says_what_was_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = tmp_path / "note.yaml"
    schema.write_text(
        "name: note\ndocument_type: note\ndescription: a note\n"
        "keys:\n  - {key: day, description: the day, kind: date}\n",
        encoding="utf-8",
    )
    source = write_source(tmp_path / "source", [line(0, fields={"day": "2024-05-01"}), b"{"])
    arguments = ["data", "import", str(source), "--schema", str(schema), "--out", str(tmp_path / "out")]
    assert main(arguments) == 3
    captured = capsys.readouterr()
    assert "annotations.jsonl:2" in captured.err
    assert main([*arguments, "--shares", "1,2"]) == 2
    assert "--shares: expected three numbers" in capsys.readouterr().err


def test_documents_without_fields_go_to_the_pool(tmp_path: Path) -> None:
    bare = json.dumps({"image": "3.png", "language": "vi"}).encode()
    source = write_source(tmp_path / "source", [line(0), line(1), bare])
    report = import_folder(source, SCHEMA, tmp_path / "out", shares={"train": 1, "validation": 0, "test": 0})
    assert report.imported == {"train": 2, "validation": 0, "test": 0, "pool": 1}
    (document,) = open_split(tmp_path / "out", POOL)
    assert (document.id, document.annotated, document.annotation, document.language) == ("3", False, {}, "vi")


def test_the_report_counts_what_was_left_out(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [line(index, rotation=0) for index in range(7)])
    report = import_folder(source, SCHEMA, tmp_path / "out", shares=SHARES)
    assert report.notes == {
        "entry 'rotation' of a line is not used": 7,
        f"{source / '7.png'}: no annotation names this file; it was left out": 1,
    }


@pytest.mark.skipif(not REAL.is_dir(), reason=MISSING)
@pytest.mark.parametrize("name", SCHEMAS)
def test_real_documents_import_as_they_are(tmp_path: Path, name: str) -> None:
    schema = load_schema(SCHEMAS[name])
    report = import_documents(REAL / name, schemas=schema, out=tmp_path / "out")
    entries = [json.loads(text) for text in (REAL / name / "annotations.jsonl").read_text("utf-8").splitlines()]
    assert (report.rejected, report.format) == ([], "jsonl")
    assert sum(report.imported.values()) == len(entries) == NUM_REAL[name]
    documents = {}
    for split in report.imported:
        for document, pages in open_split(tmp_path / "out", split).stream():
            documents[document.id] = (document, pages)
    ignored: dict[str, int] = {}
    for entry in entries:
        document, pages = documents[Path(entry["image"]).stem]
        truth = {key: value for key, value in entry["fields"].items() if key in schema.keys}
        for key in entry["fields"].keys() - truth.keys():
            ignored[key] = ignored.get(key, 0) + 1
        lists = {key for key in truth if schema.field(key).many and isinstance(truth[key], str)}
        assert document.annotation == truth | {key: [truth[key]] for key in lists}
        assert document.image_sizes == ((entry["width"], entry["height"]),)
        assert document.document_type == entry["document_type"]
        if "palette to RGB" not in report.notes:
            assert pages == [(REAL / name / entry["image"]).read_bytes()]
    assert report.ignored_keys == ignored


def test_all_real_documents_are_counted() -> None:
    assert sum(NUM_REAL.values()) == 46
