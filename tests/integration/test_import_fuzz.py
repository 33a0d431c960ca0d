"""Broken sources: each ends in a message with file and line, and the good documents beside them come in."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvie_rl.data.importing import ImportReport, import_documents
from medvie_rl.data.pages import UnreadableFileError, read_pages
from medvie_rl.data.store import list_splits, open_split
from medvie_rl.errors import UserError
from page_files import bar, drawing, encoded, image_object, pdf, png_header, write
from rewards.schema import FieldSpec, Schema

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=(
        FieldSpec(key="day", description="day", kind="date"),
        FieldSpec(key="dose", description="dose", kind="quantity"),
    ),
)
JPEG, PNG = encoded(drawing(size=(80, 60)), "JPEG"), encoded(drawing(size=(80, 60)))
TIFF = encoded(drawing(size=(80, 60)), "TIFF", compression="tiff_lzw")
WEBP = encoded(drawing(size=(80, 60)), "WEBP", lossless=True)
PDF = pdf(bar(10), bar(100))


def shares(num: int) -> list[float]:
    return [index / num for index in range(num)]


@pytest.mark.parametrize("content", [JPEG, PNG, TIFF, WEBP], ids=["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("share", shares(40))
def test_a_cut_image_is_refused_wherever_it_is_cut(tmp_path: Path, content: bytes, share: float) -> None:
    path = write(tmp_path / "cut", content[: int(share * len(content))])
    with pytest.raises(UnreadableFileError, match=r"empty|cut off|no image|megapixels|a text"):
        read_pages(path)


@pytest.mark.parametrize("missing", range(1, 30))
def test_an_image_without_its_last_bytes_is_refused(tmp_path: Path, missing: int) -> None:
    for content in (JPEG, PNG):
        with pytest.raises(UnreadableFileError, match="cut off"):
            read_pages(write(tmp_path / "cut", content[:-missing]))


@pytest.mark.parametrize("share", shares(40))
def test_a_cut_pdf_is_refused_wherever_it_is_cut(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "cut.pdf", PDF[: int(share * len(PDF))])
    with pytest.raises(UnreadableFileError, match=r"empty|cut off|a text"):
        read_pages(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([JPEG, PNG, TIFF, WEBP, PDF]), st.data())
def test_changed_bytes_give_pages_or_a_reason(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        changed[place] = data.draw(st.integers(0, 255))
    try:
        pages = read_pages(write(tmp_path / "changed", bytes(changed)))
    except UnreadableFileError as error:
        assert str(error)
        return
    assert all(page.size[0] > 0 and page.size[1] > 0 for page in pages)


# --- one bad file among good ones -------------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.mkdir()


def _broken_link(path: Path) -> None:
    path.symlink_to(path.parent / "gone.png")


def _bomb(path: Path) -> None:
    image = image_object(100_000, 30_000, bytes(20_000_000))
    write(path, pdf(b"144 0 0 72 0 0 cm /I Do", image=image))


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut jpeg": (lambda path: write(path, JPEG[:300]), "it is cut off: the JPEG has no end mark"),
    "cut png": (lambda path: write(path, PNG[:100]), "it is cut off: the PNG has no end mark"),
    "cut pdf": (lambda path: write(path, PDF[:-30]), "as a PDF, it is cut off"),
    "empty": (lambda path: write(path, b""), "it is empty"),
    "a text": (lambda path: write(path, b"patient,day\n"), "it is a text, which begins with 'patient,day'"),
    "a word file": (lambda path: write(path, b"PK\x03\x04\xff\xfe"), "no image, PDF or DICOM file by its content"),
    "a gigabyte": (lambda path: write(path, png_header(20_000, 18_000)), "megapixels"),
    "a PDF bomb": (_bomb, "holds an image that declares 100000 x 30000 pixels"),
    "a folder": (_folder, "it is a folder"),
    "a broken link": (_broken_link, "it is a link to"),
    "nothing": (lambda path: None, "it does not exist"),
    "a PDF of garbage": (lambda path: write(path, b"%PDF-1.4\n" + b"\xff" * 500 + b"%%EOF"), "it is no readable PDF"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_does_not_cost_the_good_ones(tmp_path: Path, name: str) -> None:
    make, reason = BAD_FILES[name]
    source = tmp_path / "source"
    source.mkdir()
    for index in range(20):
        write(source / f"{index}.png", encoded(drawing(seed=index)))
    (source / "16.png").unlink()
    make(source / "16.png")
    lines = [json.dumps({"image": f"{index}.png", "fields": {"dose": f"{index} mg"}}) for index in range(20)]
    write(source / "annotations.jsonl", "\n".join(lines).encode())
    started = time.monotonic()
    report = import_documents(source, schemas=SCHEMA, out=tmp_path / "out")
    assert sum(report.imported.values()) == 19
    assert len(report.rejected) == 1
    assert report.rejected[0].startswith(f"{source / 'annotations.jsonl'}:17: {source / '16.png'}: ")
    assert reason in report.rejected[0]
    assert time.monotonic() - started < 20


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "source" / "a.png", PNG)
    write(tmp_path / "source" / "b.png", JPEG).chmod(0)
    report = import_documents(tmp_path / "source", schemas=SCHEMA, out=tmp_path / "out")
    assert report.imported == {"pool": 1}
    assert "b.png: it may not be read (permission denied)" in report.rejected[0]


# --- one bad line among good ones -------------------------------------------------------------------------------------

BAD_LINES = {
    b'{"image": "16.png", "fields": {"dose": "5 mg"': "not a JSON object",
    b'{"image": "16.png", "fields": {"dose": NaN}}': "NaN is not a value that JSON has",
    b'{"image": "16.png", "fields": {"dose": -Infinity}}': "-Infinity is not a value that JSON has",
    b'{"image": "16.png", "fields": {"dose": 1e999}}': "the number 1e999 is too large",
    b'{"image": "16.png", "fields": {"day": "caf\xe9"}}': "not UTF-8 text (byte 0xe9 at character 43, maybe Latin-1)",
    b'{"image": "16.png", "fields": {"dose": "much"}}': "dose: 'much' does not read as quantity",
    b'{"image": "16.png", "fields": {"day": {"a": 1}}}': "day: expected one date, got dict",
    b'{"image": "16.png", "fields": {"dose": ["5 mg", "6 mg"]}}': "dose: expected one quantity, got list",
    b'{"image": ["16.png"], "fields": {}}': "",
    b'{"image": 16, "fields": {}}': "expected 'image'",
    b'{"image": "../16.png", "fields": {}}': "lies outside",
    b'{"image": "16\\u0000.png", "fields": {}}': "",
    b'{"image": "\\ud83d.png", "fields": {}}': "",
    b"[" * 100_000: "nested too deeply",
    b"\x00\x00\x00": "not a JSON object",
    b'"16.png"': "expected a JSON object, got str",
}


@pytest.mark.parametrize("bad", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_17_does_not_cost_the_good_ones(tmp_path: Path, bad: bytes) -> None:
    report = _import_with_line(tmp_path, bad)
    if bad.startswith(b'{"image": ["16.png"]'):  # a list of one page is a page
        assert (sum(report.imported.values()), report.rejected) == (20, [])
        return
    assert sum(report.imported.values()) == 19
    assert len(report.rejected) == 1
    assert report.rejected[0].startswith(f"{tmp_path / 'source' / 'annotations.jsonl'}:17: ")
    assert BAD_LINES[bad] in report.rejected[0]


def _import_with_line(tmp_path: Path, bad: bytes) -> ImportReport:
    source = tmp_path / "source"
    lines = []
    for index in range(20):
        write(source / f"{index}.png", encoded(drawing(seed=index)))
        lines.append(json.dumps({"image": f"{index}.png", "fields": {"dose": f"{index} mg"}}).encode())
    lines[16] = bad
    write(source / "annotations.jsonl", b"\n".join(lines))
    return import_documents(source, schemas=SCHEMA, out=tmp_path / "out")


def test_unknown_keys_are_counted_and_left_out(tmp_path: Path) -> None:
    bad = b'{"image": "16.png", "fields": {"dose": "5 mg", "shoe": {"size": 38}, "hat": null}}'
    report = _import_with_line(tmp_path, bad)
    assert (sum(report.imported.values()), report.rejected) == (20, [])
    assert report.ignored_keys == {"shoe.size": 1, "hat": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_are_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "source" / "a.png", PNG)
    line = json.dumps({"image": "a.png", "fields": {}, "source": "hôpital"}, ensure_ascii=False)
    write(tmp_path / "source" / "annotations.jsonl", f"{line}\r\n\r\n".encode(encoding))
    report = import_documents(tmp_path / "source", schemas=SCHEMA, out=tmp_path / "out")
    assert report.rejected == []
    (document,) = [doc for split in list_splits(tmp_path / "out") for doc in open_split(tmp_path / "out", split)]
    assert document.provenance == "hôpital"


def test_files_that_are_wholly_wrong_are_named(tmp_path: Path) -> None:
    def message(name: str, content: bytes, **options: str) -> str:
        folder = tmp_path / name.replace(".", "-")
        write(folder / "a.png", PNG)
        with pytest.raises(UserError) as error:
            path = write(folder / name, content)
            import_documents(path, schemas=SCHEMA, out=tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "latin.json: not UTF-8 text (byte 0xe9 at line 2" in message(
        "latin.json", '[\n{"image": "é"}]'.encode("latin-1"), format="label-studio"
    )
    assert "cut.json: not a JSON object" in message("cut.json", b'[{"data": {', format="label-studio")
    assert "latin.csv:1: not UTF-8 text" in message("latin.csv", "image,größe\n".encode("latin-1"))
    assert "no document can be used" in message("empty.jsonl", b"")
    assert "it begins as utf-16 but is not" in message("half.jsonl", b"\xff\xfe{")


def test_label_studio_tasks_and_csv_rows_fail_one_by_one(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        for kind in ("ls", "csv"):
            write(tmp_path / kind / name, encoded(drawing(seed=ord(name[0]))))
    tasks = '[{"image": "a.png", "dose": "5 mg"}, {"image": "b.png", "dose": NaN}, 7, {"x": 1}]'
    write(tmp_path / "ls" / "tasks.json", tasks.encode())
    report = import_documents(tmp_path / "ls", schemas=SCHEMA, out=tmp_path / "out1")
    assert sum(report.imported.values()) == 1
    assert [line.split(": ", 2)[1] for line in report.rejected] == ["task 2", "task 3", "task 4"]
    assert "NaN or Infinity is not a value" in report.rejected[0]

    write(tmp_path / "csv" / "t.csv", b'image,dose\na.png,5 mg\nb.png,caf\xe9\nc.png,1"\n')
    report = import_documents(tmp_path / "csv", schemas=SCHEMA, out=tmp_path / "out2")
    assert "t.csv:3: not UTF-8 text (byte 0xe9" in report.rejected[0]
    assert sum(report.imported.values()) + len(report.rejected) == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_as_annotations_import_or_say_why(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder / "in" / "a.png", PNG)
    for name in ("annotations.jsonl", "metadata.jsonl", "t.csv", "tasks.json"):
        try:
            report = import_documents(write(folder / "in" / name, content), schemas=SCHEMA, out=folder / f"out-{name}")
        except UserError as error:
            assert str(folder) in str(error)
        else:
            assert sum(report.imported.values()) > 0
