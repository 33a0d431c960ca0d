"""Exports come back as they were: as JSON Lines exactly, from Label Studio with the annotations."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.exporting import export_jsonl, export_label_studio, labelling_interface
from medvie_rl.data.importing import import_documents
from medvie_rl.data.store import POOL, Document, describe_image, list_splits, open_split, write_split
from medvie_rl.errors import UserError
from page_files import drawing, encoded, write
from rewards.schema import FieldSpec, Schema, load_schema
from shared_documents import MISSING, REAL, SCHEMAS

SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="a slip",
    fields=(
        FieldSpec(key="patient", description='the patient, "as printed" & <whole>', kind="person_name"),
        FieldSpec(key="urgent", description="urgent", kind="boolean"),
        FieldSpec(key="ward", description="ward", kind="enum", choices=("A", "B & C")),
        FieldSpec(key="signs", description="signs", kind="text", many=True),
        FieldSpec(
            key="medicines",
            description="medicines",
            kind="table",
            columns=(
                FieldSpec(key="name", description="name", kind="text"),
                FieldSpec(key="usage", description="usage", kind="text", many=True),
            ),
        ),
    ),
)
ANNOTATION: dict[str, Any] = {
    "patient": "Ann Lee",
    "urgent": True,
    "ward": "B & C",
    "signs": ["red", "hot: | very"],
    "medicines": [{"name": r"A|B\n", "usage": ["1: x", "2\n3"]}, {"name": "Zinc"}],
}
Item = tuple[Document, list[bytes]]


def made(document_id: str, annotation: dict[str, Any] | None, seed: int, pages: int = 1, **more: Any) -> Item:
    contents = [encoded(drawing(seed=seed + page), "JPEG" if seed % 2 else "PNG") for page in range(pages)]
    described = [describe_image(content) for content in contents]
    document = Document(
        id=document_id,
        document_type="slip",
        schema="slip",
        annotation=annotation or {},
        annotated=annotation is not None,
        image_keys=tuple(key for key, _ in described),
        image_sizes=tuple(size for _, size in described),
        **more,
    )
    return document, contents


def dataset(folder: Path) -> Path:
    write_split(folder, "train", [made("ward/a b", ANNOTATION, 0, language="vi", license="MIT", specialty="eyes")])
    write_split(folder, "validation", [])
    write_split(folder, "test", [made("ward_a_b", {"signs": []}, 2, pages=3, synthetic=True, provenance="drawn")])
    write_split(folder, POOL, [made("ward/a_b", None, 7), made("x" * 300, None, 9)])
    return folder


def contents(folder: Path) -> dict[str, list[Item]]:
    return {name: list(open_split(folder, name).stream()) for name in list_splits(folder)}


def test_json_lines_come_back_exactly(tmp_path: Path) -> None:
    source = dataset(tmp_path / "source")
    report = export_jsonl(source, tmp_path / "out")
    assert report.exported == {"train": 1, "test": 1, "pool": 2}
    back = import_documents(tmp_path / "out", schemas=SCHEMA, out=tmp_path / "back")
    assert (back.rejected, back.notes, back.ignored_keys) == ([], {}, {})
    wanted, found = contents(source), contents(tmp_path / "back")
    assert list(found) == ["train", "validation", "test", "pool"]
    for split, items in wanted.items():
        for (document, pages), (other, other_pages) in zip(items, found[split], strict=True):
            assert other_pages == pages
            if not document.provenance:
                assert other.provenance.startswith("out/images/")
                document = replace(document, provenance=other.provenance)
            assert other == document


@pytest.mark.skipif(not REAL.is_dir(), reason=MISSING)
@pytest.mark.parametrize("name", SCHEMAS)
def test_real_documents_come_back_exactly(tmp_path: Path, name: str) -> None:
    schema = load_schema(SCHEMAS[name])
    import_documents(REAL / name, schemas=schema, out=tmp_path / "data")
    export_jsonl(tmp_path / "data", tmp_path / "out")
    report = import_documents(tmp_path / "out", schemas=schema, out=tmp_path / "back")
    assert (report.rejected, report.notes, report.ignored_keys) == ([], {}, {})
    assert contents(tmp_path / "back") == contents(tmp_path / "data")


def test_label_studio_annotations_come_back(tmp_path: Path) -> None:
    source = dataset(tmp_path / "source")
    report = export_label_studio(source, tmp_path / "out", schema=SCHEMA)
    assert report.exported == {"train": 1, "test": 1, "pool": 2}
    back = import_documents(tmp_path / "out" / "tasks.json", schemas=SCHEMA, out=tmp_path / "back")
    assert (back.format, back.rejected, back.ignored_keys) == ("label-studio", [], {})
    assert back.imported == {"train": 1, "validation": 0, "test": 1, "pool": 2}
    ((document, pages),) = contents(tmp_path / "back")["train"]
    assert document.id == "ward/a b"
    assert document.annotation == ANNOTATION | {"urgent": "true"}
    assert pages == contents(source)["train"][0][1]
    assert len(contents(tmp_path / "back")["test"][0][1]) == 3


def test_predictions_are_pre_annotations_which_come_back_once_accepted(tmp_path: Path) -> None:
    source = dataset(tmp_path / "source")
    lines = [
        {"id": "a_b", "image": "in/a_b.png", "status": "ok", "fields": ANNOTATION | {"hat": 1, "ward": "Z"}},
        {"id": "x" * 300, "status": "unreadable", "problem": "no image"},
        {"id": "nobody", "status": "ok", "fields": {}},
    ]
    predictions = write(tmp_path / "pred.jsonl", "\n".join(map(json.dumps, lines)).encode() + b"\n{")
    report = export_label_studio(source, tmp_path / "out", schema=SCHEMA, predictions=predictions, splits=[POOL])
    assert (report.exported, report.num_predictions) == ({"pool": 2}, 1)
    assert [line.removeprefix(f"{predictions}:").partition(" (Expecting")[0] for line in report.rejected] == [
        "2: no 'fields' (status 'unreadable'); not a pre-annotation",
        "4: not a JSON object",
        "1: ward: 'Z' is not what the key holds, left out",
        "1: hat: not a key of schema 'slip', left out",
        "3: no document 'nobody' was exported",
    ]
    first, second = json.loads((tmp_path / "out" / "tasks.json").read_text("utf-8"))
    assert first["data"]["image"] == "/data/local-files/?d=images/ward_a_b.jpg"
    assert "annotations" not in first and "predictions" not in second
    results = first["predictions"][0]["result"]
    assert {item["from_name"]: item["value"] for item in results} == {
        "patient": {"text": ["Ann Lee"]},
        "urgent": {"choices": ["true"]},
        "signs": {"text": ["red", "hot: | very"]},
        "medicines": {"text": [r"name: A\|B\\n | usage: 1: x | usage: 2\n3", "name: Zinc"]},
    }
    first["annotations"] = [{"result": results}]  # what Label Studio exports once somebody has accepted them
    write(tmp_path / "out" / "tasks.json", json.dumps([first, second]).encode())
    back = import_documents(tmp_path / "out" / "tasks.json", schemas=SCHEMA, out=tmp_path / "back")
    assert back.imported["pool"] == 1
    (document,) = [doc for name in ("train", "validation", "test") for doc in open_split(tmp_path / "back", name)]
    assert document.annotation == {key: value for key, value in ANNOTATION.items() if key != "ward"} | {
        "urgent": "true"
    }


@pytest.mark.parametrize("several", [False, True])
def test_the_labelling_interface_has_a_control_for_each_key(several: bool) -> None:
    root = ElementTree.fromstring(labelling_interface(SCHEMA, several_pages=several))
    image = root.find(".//Image")
    assert image is not None and image.get("valueList" if several else "value") == ("$pages" if several else "$image")
    controls = {item.get("name"): item for item in root.iter() if item.get("toName") == "image"}
    assert list(controls) == list(SCHEMA.keys)
    assert [choice.get("value") for choice in controls["ward"]] == ["A", "B & C"]
    assert controls["patient"].get("maxSubmissions") == "1"
    assert controls["signs"].get("maxSubmissions") is None
    headers = [item.get("value") for item in root.iter("Header")]
    assert headers[0] == 'patient: the patient, "as printed" & <whole>'
    assert headers[4] == "medicines: medicines; one text for each row: name: … | usage: …"


def test_what_cannot_be_exported_is_an_error(tmp_path: Path) -> None:
    source = dataset(tmp_path / "source")
    with pytest.raises(UserError, match="there is no dataset"):
        export_jsonl(tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match="no split 'dev'; it has train, validation, test, pool"):
        export_jsonl(source, tmp_path / "out", splits=["dev"])
    with pytest.raises(UserError, match="not empty"):
        export_jsonl(source, source)
    with pytest.raises(UserError, match=r"pred\.jsonl: no such predictions file"):
        export_label_studio(source, tmp_path / "out", schema=SCHEMA, predictions=tmp_path / "pred.jsonl")
    assert not (tmp_path / "out").exists()


def test_documents_of_another_schema_are_counted(tmp_path: Path) -> None:
    source = dataset(tmp_path / "source")
    other = Schema(name="other", document_type="other", description="other", fields=SCHEMA.fields)
    report = export_label_studio(source, tmp_path / "out", schema=other)
    assert (report.exported, report.rejected, report.left_out) == ({}, [], {"slip": 4})
