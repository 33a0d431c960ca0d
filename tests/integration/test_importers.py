"""The formats: what each reader makes of its files, mapping files, several schemas, and which format is told apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.importing import ImportReport, import_documents
from medvie_rl.data.importing.detect import detect_format
from medvie_rl.data.store import Document, list_splits, open_split
from medvie_rl.errors import UserError
from page_files import bar, drawing, encoded, pdf, write
from rewards.schema import FieldSpec, Schema

ALL_TRAIN = {"train": 1.0, "validation": 0.0, "test": 0.0}
SLIP = Schema(
    name="slip",
    document_type="slip",
    description="a slip",
    fields=(
        FieldSpec(key="patient_name", description="full name of the patient", kind="person_name"),
        FieldSpec(key="urgent", description="urgent", kind="boolean"),
        FieldSpec(key="ward", description="ward", kind="enum", choices=("A", "B")),
        FieldSpec(key="signs", description="signs", kind="text", many=True),
        FieldSpec(
            key="medicines",
            description="medicines",
            kind="table",
            row_keys=("name",),
            columns=(
                FieldSpec(key="name", description="name", kind="text"),
                FieldSpec(key="dose", description="dose", kind="quantity"),
                FieldSpec(key="times", description="times", kind="text", many=True),
            ),
        ),
    ),
)
RECEIPT = Schema(
    name="receipt",
    document_type="shop receipt",
    description="a receipt",
    fields=(
        FieldSpec(key="total_price", description="sum", kind="text"),
        FieldSpec(
            key="menu",
            description="lines",
            kind="table",
            columns=(
                FieldSpec(key="nm", description="name", kind="text"),
                FieldSpec(key="price", description="price", kind="text"),
            ),
        ),
    ),
)


def images(folder: Path, *names: str, first: int = 0) -> Path:
    for seed, name in enumerate(names, start=first):
        write(folder / name, encoded(drawing(seed=seed)))
    return folder


def run(
    source: Path, schema: Schema | dict[str, Schema] = SLIP, **options: Any
) -> tuple[ImportReport, dict[str, Document]]:
    out = source.parent / "out"
    report = import_documents(source, schemas=schema, out=out, **({"shares": ALL_TRAIN} | options))
    return report, {doc.id: doc for split in list_splits(out) for doc in open_split(out, split)}


def dump(path: Path, content: Any) -> Path:
    return write(path, json.dumps(content).encode())


def dump_lines(path: Path, *entries: Any) -> Path:
    return write(path, "\n".join(map(json.dumps, entries)).encode())


# --- Label Studio -----------------------------------------------------------------------------------------------------


def result(name: str, kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": value} | more


def box(label: str, text: str, number: int, row: int | None = None, parent: str | None = None) -> list[dict[str, Any]]:
    place = {"x": 1, "y": 2 * number, "width": 3, "height": 1}
    more = {"id": f"r{number}"} | ({"parentID": parent} if parent else {})
    parts = [
        result("label", "rectanglelabels", place | {"rectanglelabels": [label]}, **more),
        result("text", "textarea", place | {"text": [text]}, **more),
    ]
    return parts + ([result("row", "number", place | {"number": row}, **more)] if row is not None else [])


def test_label_studio_full_export(tmp_path: Path) -> None:
    source = images(tmp_path / "ls", "images/a.png", "b.png", "images/c d.png", "images/e.png")
    whole = [
        result("patient_name", "textarea", {"text": ["Ann Lee"]}, id="1"),
        result("urgent", "choices", {"choices": ["true"]}, id="2"),
        result("signs", "textarea", {"text": ["red", "hot"]}, id="3"),
        result(
            "medicines", "textarea", {"text": ["name: Aspirin | dose: 100 mg", r"name: X\|Y | times: 1 | times: 2"]}
        ),
        result("comment", "textarea", {"text": ["nice"]}, id="5"),
    ]
    rows = [*box("medicines.name", "Aspirin", 1, 2), *box("medicines.name", "Zinc", 2, 1)]
    rows += [*box("medicines.dose", "5 mg", 3, 1), *box("patient_name", "Bo", 4)]
    in_order = [*box("medicines.name", "A", 1), *box("medicines.dose", "1 mg", 2), *box("medicines.name", "B", 3)]
    tasks = [
        {"id": 7, "data": {"image": "/data/upload/3/0123abcd-a.png"}, "annotations": [{"result": whole}]},
        {"id": 8, "data": {"image": "/data/local-files/?d=b.png", "split": "test"}, "annotations": [{"result": rows}]},
        {
            "id": 9,
            "data": {"image": "https://host/x/c%20d.png"},
            "annotations": [{"result": [], "was_cancelled": True}],
            "predictions": [{"result": whole}],
        },
        {
            "id": 10,
            "data": {"image": "images/e.png"},
            "annotations": [{"result": in_order, "ground_truth": True}, {"result": []}],
        },
        {"id": 11, "data": {"image": "https://host/none.png"}, "annotations": []},
    ]
    dump(source / "export.json", tasks)
    report, documents = run(source)
    assert report.format == "label-studio"
    assert report.imported == {"train": 2, "validation": 0, "test": 1, "pool": 1}
    assert documents["a"].annotation == {
        "patient_name": "Ann Lee",
        "urgent": "true",
        "signs": ["red", "hot"],
        "medicines": [{"name": "Aspirin", "dose": "100 mg"}, {"name": "X|Y", "times": ["1", "2"]}],
    }
    assert documents["b"].annotation == {
        "patient_name": "Bo",
        "medicines": [{"name": "Zinc", "dose": "5 mg"}, {"name": "Aspirin"}],
    }
    assert not documents["c d"].annotated
    assert documents["e"].annotation == {"medicines": [{"name": "A", "dose": "1 mg"}, {"name": "B"}]}
    assert report.ignored_keys == {"comment": 1}
    assert report.notes == {"task with several annotations, of which one was taken": 1}
    assert report.rejected == [
        f"{source / 'export.json'}: task 11: https://host/none.png is an address; put the file none.png into "
        f"{source / 'images'}"
    ]


def test_label_studio_regions_of_a_parent_are_a_row(tmp_path: Path) -> None:
    source = images(tmp_path / "ls", "a.png")
    results = [*box("medicines.name", "A", 1, parent="p"), *box("medicines.name", "B", 2, parent="q")]
    results += [*box("medicines.dose", "2 mg", 3, parent="q"), *box("medicines.dose", "1 mg", 4, parent="p")]
    dump(source / "export.json", [{"data": {"image": "a.png"}, "annotations": [{"result": results}]}])
    _, documents = run(source)
    assert documents["a"].annotation == {"medicines": [{"name": "A", "dose": "1 mg"}, {"name": "B", "dose": "2 mg"}]}


def test_an_image_of_any_name_is_found_and_a_key_may_be_called_id(tmp_path: Path) -> None:
    schema = Schema(
        name="s", document_type="s", description="s", fields=(FieldSpec(key="id", description="id", kind="code"),)
    )
    source = images(tmp_path / "ls", "a.png")
    dump(source / "min.json", [{"scan": "/data/upload/1/0123abcd-A.PNG", "id": "77"}])
    (source / "a.png").rename(source / "A.PNG")
    assert run(source, schema)[1]["A"].annotation == {"id": "77"}
    other = images(tmp_path / "csv" / "in", "b.png")
    write(other / "t.csv", b"file,id\nb.png,B7\n")
    assert run(other, schema)[1]["B7"].annotation == {"id": "B7"}


def test_label_studio_json_min(tmp_path: Path) -> None:
    source = images(tmp_path / "ls", "a.png", "b.png", "c.png")
    place = {"x": 1, "y": 1, "width": 2, "height": 2}
    labels = [place | {"rectanglelabels": ["patient_name"]}, place | {"rectanglelabels": ["signs"]}]
    tasks = [
        {"image": "a.png", "id": 1, "annotator": 1, "urgent": "false", "signs": {"choices": ["red"]}, "lead_time": 2.5},
        {"image": "b.png", "id": 2, "label": labels, "transcription": ["Ann", "hot"]},
        {"image": "c.png", "id": 3, "label": labels, "transcription": ["Ann"]},
    ]
    report, documents = run(dump(source / "min.json", tasks).parent)
    assert documents["a"].annotation == {"urgent": "false", "signs": ["red"]}
    assert documents["b"].annotation == {"patient_name": "Ann", "signs": ["hot"]}
    assert len(report.rejected) == 1 and "task 3: 'label' has 2 regions and 1 texts" in report.rejected[0]


# --- Donut ------------------------------------------------------------------------------------------------------------


def test_donut_metadata(tmp_path: Path) -> None:
    source = images(tmp_path / "cord", "train/a.png", "train/b.png", "test/a2.png", "validation/c.png")
    one = {"gt_parse": {"menu": [{"nm": "Tea", "price": "2", "cnt": "1"}], "total": {"total_price": "2", "cash": "5"}}}
    dump_lines(
        source / "train/metadata.jsonl",
        {"file_name": "a.png", "ground_truth": json.dumps(one)},
        {"file_name": "b.png", "ground_truth": {"gt_parse": {"menu": {"nm": "Ink"}, "total": {"total_price": "1"}}}},
        {"file_name": "a.png", "ground_truth": "{"},
    )
    dump_lines(
        source / "test/metadata.jsonl", {"file_name": "a2.png", "ground_truth": {"gt_parses": [one["gt_parse"]]}}
    )
    dump_lines(source / "validation/metadata.jsonl", {"file_name": "c.png"})
    report, documents = run(source, RECEIPT)
    assert report.format == "donut"
    assert report.imported == {"train": 2, "validation": 0, "test": 1, "pool": 1}
    assert documents["train/a"].annotation == {"menu": [{"nm": "Tea", "price": "2"}], "total_price": "2"}
    assert documents["train/b"].annotation == {"menu": [{"nm": "Ink"}], "total_price": "1"}
    assert documents["test/a2"].annotation == documents["train/a"].annotation
    assert report.ignored_keys == {"menu.cnt": 2, "total.cash": 2}
    assert report.notes["'total.total_price' taken for the key 'total_price'"] == 3
    assert len(report.rejected) == 1 and "metadata.jsonl:3: 'ground_truth': not a JSON object" in report.rejected[0]


def test_a_mapping_renames_keys_columns_and_objects(tmp_path: Path) -> None:
    source = images(tmp_path / "cord", "a.png", "b.png")
    truth = {"who": {"name": "Ann"}, "drugs": [{"n": "Aspirin", "d": "5 mg"}], "flag": True}
    single = {"who": {"name": "Bo"}, "drugs": {"n": "Zinc", "d": "1 mg"}}
    dump_lines(
        source / "metadata.jsonl",
        {"file_name": "a.png", "ground_truth": {"gt_parse": truth}},
        {"file_name": "b.png", "ground_truth": {"gt_parse": single}},
    )
    text = "who.name: patient_name\ndrugs.n: medicines.name\ndrugs.d: medicines.dose\nflag: urgent\nnever: signs\n"
    report, documents = run(source, mapping=write(tmp_path / "map.yaml", text.encode()))
    assert documents["a"].annotation == {
        "patient_name": "Ann",
        "medicines": [{"name": "Aspirin", "dose": "5 mg"}],
        "urgent": True,
    }
    assert documents["b"].annotation == {"patient_name": "Bo", "medicines": [{"name": "Zinc", "dose": "1 mg"}]}
    assert report.ignored_keys == {}
    assert report.notes == {"name 'never' of the mapping occurs in no document": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("who: patient\n", "no schema has the key 'patient'"),
        ("who: medicines.nam\n", "did you mean 'medicines.name'?"),
        ("- who\n", "expected lines 'name in the source"),
        ("who: [signs]\n", "expected two texts"),
        ("who: [\n", "not readable as YAML"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    source = images(tmp_path / "source", "a.png")
    with pytest.raises(UserError, match=r"map\.yaml") as error:
        run(source, mapping=write(tmp_path / "map.yaml", text.encode()))
    assert reason in str(error.value)


# --- FUNSD ------------------------------------------------------------------------------------------------------------


def entity(number: int, label: str, text: str, *links: list[int]) -> dict[str, Any]:
    return {"id": number, "label": label, "text": text, "linking": list(links), "box": [0, 0, 1, 1], "words": []}


def test_funsd_questions_are_keys(tmp_path: Path) -> None:
    source = tmp_path / "dataset"
    images(source / "training_data", "images/a.png", "images/b.png")
    images(source / "testing_data", "images/t.png", first=5)
    form = [
        entity(0, "question", "Patient name:", [0, 1], [0, 2]),
        entity(1, "answer", "Ann", [0, 1]),
        entity(2, "answer", "Lee", [0, 2]),
        entity(3, "question", "SIGNS", [3, 4], [3, 5]),
        entity(4, "answer", "red", [3, 4]),
        entity(5, "answer", "hot", [3, 5]),
        entity(6, "question", "Colour", [6, 7]),
        entity(7, "answer", "blue", [6, 7]),
        entity(8, "answer", "alone"),
        entity(9, "header", "FORM"),
        entity(10, "question", "Urgent"),
    ]
    dump(source / "training_data/annotations/a.json", {"form": form})
    dump(source / "training_data/annotations/b.json", {"form": [entity(0, "question", "x", [0, 9])]})
    dump(source / "training_data/annotations/c.json", {"form": []})
    other = [entity(0, "question", "full name of the patient", [0, 1]), entity(1, "answer", "Bo", [0, 1])]
    dump(source / "testing_data/annotations/t.json", {"form": other})
    report, documents = run(source)
    assert report.format == "funsd"
    assert report.imported == {"train": 1, "validation": 0, "test": 1}
    assert documents["a"].annotation == {"patient_name": "Ann Lee", "signs": ["red", "hot"]}
    assert documents["t"].annotation == {"patient_name": "Bo"}
    assert report.ignored_keys == {"Colour": 1}
    assert report.notes["answer without a question, left out"] == 1
    assert report.notes["'Patient name:' taken for the key 'patient_name'"] == 1
    assert ["b.json: entity 0: 'linking' must be pairs" in line for line in report.rejected] == [True, False]
    assert "c.json: expected one image images/c.*, there is none" in report.rejected[1]


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_rows_are_documents_or_rows_of_a_table(tmp_path: Path, encoding: str, delimiter: str) -> None:
    source = images(tmp_path / "csv", "a.png", "b.png", "c.png")
    rows = [
        ["image", "Patient name", "name", "medicines.dose", "signs", "split", "shoe size"],
        ["a.png", "Ann Lée", "Aspirin", "5 mg", "red", "test", "38"],
        ["a.png", "", "Zinc", "", "hot", "", ""],
        ["b.png", "Bo", "", "", "", "", ""],
        ["c.png", "", "", "", "", "", ""],
        ["b.png", "Bo"],
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    write(source / "table.csv", text.encode(encoding))
    report, documents = run(source)
    assert report.format == "csv"
    assert report.imported == {"train": 1, "validation": 0, "test": 1, "pool": 1}
    assert documents["a"].annotation == {
        "patient_name": "Ann Lée",
        "signs": ["red", "hot"],
        "medicines": [{"name": "Aspirin", "dose": "5 mg"}, {"name": "Zinc"}],
    }
    assert documents["b"].annotation == {"patient_name": "Bo"}
    assert report.ignored_keys == {"shoe size": 1}
    assert report.rejected == [f"{source / 'table.csv'}:6: it has 2 cells, the first line names 7 columns"]


def test_csv_values_that_contradict_each_other_are_rejected(tmp_path: Path) -> None:
    source = images(tmp_path / "csv", "a.png", "b.png")
    write(source / "t.csv", b"image,patient_name,split\na.png,Ann,\na.png,Bob,\nb.png,Cy,train\n,Dee,\n")
    report, documents = run(source)
    assert list(documents) == ["b"]
    assert ["t.csv:5: column 'image' is empty" in line for line in report.rejected] == [True, False]
    assert "t.csv:2: the annotation does not fit schema 'slip': patient_name: expected one" in report.rejected[1]
    with pytest.raises(UserError, match=r"t\.csv:1: no column names the page file"):
        run(write(tmp_path / "other" / "csv" / "t.csv", b"a,b\n1,2\n").parent)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_without_annotations_are_the_pool(tmp_path: Path) -> None:
    source = images(tmp_path / "scans", "a.png", "deep/b.png", "twice.png", ".hidden.png")
    write(source / "twice.pdf", pdf(bar(5), bar(50)))
    write(source / "notes.txt", b"call the ward")
    report, documents = run(source)
    assert (report.format, report.imported) == ("files", {"pool": 4})
    assert sorted(documents) == ["a", "deep/b", "twice.pdf", "twice.png"]
    assert len(documents["twice.pdf"].image_keys) == 2
    assert report.notes == {"hidden file, left out": 1, "PDF page at 150 dpi": 2}
    assert len(report.rejected) == 1 and "notes.txt: it is a text" in report.rejected[0]


# --- several schemas, and which format it is --------------------------------------------------------------------------


def test_the_document_type_picks_the_schema(tmp_path: Path) -> None:
    source = images(tmp_path / "mixed", *(f"{index}.png" for index in range(6)))
    dump_lines(
        source / "annotations.jsonl",
        {"image": "0.png", "document_type": "Slip", "fields": {"ward": "A"}},
        {"image": "1.png", "document_type": "shop receipt", "fields": {"total_price": "3"}},
        {"image": "2.png", "document_type": "receipt", "fields": {"total_price": "4"}},
        {"image": "3.png", "document_type": "bill", "schema": "receipt", "fields": {"total_price": "5"}},
        {"image": "4.png", "document_type": "letter", "fields": {"total_price": "6"}},
        {"image": "5.png", "document_type": "letter"},
    )
    report, documents = run(source, {"slip": SLIP, "receipt": RECEIPT})
    assert [documents[str(index)].schema for index in (0, 1, 2, 3, 5)] == ["slip", "receipt", "receipt", "receipt", ""]
    assert len(report.rejected) == 1
    assert (
        "annotations.jsonl:5: no schema belongs to document_type 'letter'; there are 'slip' (slip)"
        in report.rejected[0]
    )


Fill = Callable[[Path], object]


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (lambda folder: dump_lines(folder / "annotations.jsonl", {}), "jsonl"),
        (lambda folder: dump_lines(folder / "truth.jsonl", {"image": "a"}), "jsonl"),
        (lambda folder: dump_lines(folder / "m.jsonl", {"file_name": "a", "ground_truth": ""}), "donut"),
        (lambda folder: dump(folder / "project-1.json", []), "label-studio"),
        (lambda folder: dump(folder / "annotations/a.json", {"form": []}), "funsd"),
        (lambda folder: write(folder / "t.tsv", b"image\n"), "csv"),
        (lambda folder: images(folder, "a.png"), "files"),
    ],
)
def test_the_format_is_told_by_the_files(tmp_path: Path, fill: Fill, wanted: str) -> None:
    fill(tmp_path)
    assert detect_format(tmp_path)[0] == wanted


def test_what_cannot_be_told_apart_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this folder has no files"):
        detect_format(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        detect_format(tmp_path / "none")
    dump(tmp_path / "a.json", {})
    with pytest.raises(UserError, match=r"a\.json: neither a list of tasks"):
        detect_format(tmp_path)
    write(tmp_path / "b.csv", b"image\n")
    with pytest.raises(UserError, match=r"a\.json, b\.csv could each be the annotations"):
        detect_format(tmp_path)
    with pytest.raises(UserError, match="--format: expected one of auto, jsonl"):
        run(tmp_path, format="xml")
