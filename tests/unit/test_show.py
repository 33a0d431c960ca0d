"""`medvie data show`: annotations beside pages, at the terminal and as one safe HTML file."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medvie_rl.data.load import load_schemas
from medvie_rl.data.show import choose_documents, show_command
from medvie_rl.data.store import Document, describe_image, write_split
from medvie_rl.errors import UserError

SCHEMA = """
name: note
document_type: note
description: a note
keys:
  - {key: name, description: the patient's <full> name, kind: text}
  - {key: ward, description: where, kind: text}
  - key: results
    description: values
    kind: table
    columns:
      - {key: test, description: test, kind: text}
      - {key: value, description: value, kind: number}
"""
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def page(shade: int, size: tuple[int, int] = (300, 200)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 100, 100)).save(buffer, format="PNG")
    return buffer.getvalue()


def as_document(index: int, **changes: Any) -> tuple[Document, list[bytes]]:
    images = [page(index), page(index + 100, (2000, 100))]
    described = [describe_image(image) for image in images]
    document = Document(
        id=f"doc-{index}",
        document_type="note",
        schema="note",
        annotation={"results": [{"test": "Hb", "value": 13.5}, {"test": "CRP"}], "name": f"Ada {index}", "ward": None},
        image_keys=tuple(key for key, _ in described),
        image_sizes=tuple(size for _, size in described),
        license="CC0",
    )
    return replace(document, **changes), images


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and a folder of schemas."""
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "note.yaml").write_text(SCHEMA)
    write_split(tmp_path / "data", "train", [as_document(index) for index in range(8)])
    write_split(tmp_path / "data", "test", [as_document(8, id="a/../b", annotation={"name": EVIL, EVIL: EVIL})])
    write_split(tmp_path / "data", "pool", [as_document(9, annotation={}, annotated=False)])
    return tmp_path / "data", schemas


def show(data: tuple[Path, Path], **changes: Any) -> int:
    options: dict[str, Any] = {"ids": [], "split": None, "num": 5, "seed": 0, "html": None, "out": None}
    return show_command(str(data[0]), schemas=data[1], **{**options, **changes})


def test_terminal_shows_annotation_and_preview(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "previews"
    assert show(data, ids=["doc-3", "a/../b"], out=out) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if line.startswith(("name     Ada", "ward"))] == [
        ["name", "Ada", "3"],
        ["ward", "-"],
    ]
    assert "split train · note · schema note · en · 2 pages · 300 x 200, 2000 x 100 px" in printed
    assert re.search(r"Hb +13\.5", printed)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["test-a_.._b-1.png", "test-a_.._b-2.png", "train-doc-3-1.png", "train-doc-3-2.png"]
    assert f"page: {out / 'train-doc-3-1.png'}" in printed
    with Image.open(out / "train-doc-3-2.png") as image:
        assert image.size == (1600, 80)


def test_documents_without_annotation_are_shown_as_such(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(data, ids=["doc-9"], out=tmp_path) == 0
    assert "not annotated" in capsys.readouterr().out
    assert show(data, ids=["doc-9"], html=tmp_path / "sheet.html") == 0
    assert "not annotated" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags with their attributes, and text outside of the style sheet."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_sheet_is_one_file_in_which_nothing_runs(data: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.html"
    assert show(data, ids=["doc-2", "a/../b"], html=path) == 0
    reader = read(path)
    names = [tag for tag, _ in reader.tags]
    assert "script" not in names and "link" not in names
    assert names.count("article") == 2
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert [(image["width"], image["height"]) for image in images] == [("300", "200"), ("1400", "70")] * 2
    for image in images:
        head, _, content = (image["src"] or "").partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as decoded:
            assert decoded.format == "JPEG"
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert reader.text.count(EVIL) == 3  # as key and twice as value: only text
    assert "the patient's <full> name" in reader.text
    assert {"Hb", "13.5", "CRP", "not on the document: ward"} <= set(reader.text)
    (policy,) = [
        attributes["content"] for tag, attributes in reader.tags if tag == "meta" and "http-equiv" in attributes
    ]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_sample_is_seeded_and_of_a_split(data: tuple[Path, Path]) -> None:
    folder, schemas = data[0], load_schemas(data[1])

    def ids(**options: Any) -> list[str]:
        return [item.document.id for item in choose_documents(folder, schemas, **options)]

    assert ids(split="train", num=3, seed=1) == ids(split="train", num=3, seed=1)
    assert len({tuple(ids(split="train", num=3, seed=seed)) for seed in range(10)}) > 3
    assert ids(num=100) == [*(f"doc-{index}" for index in range(8)), "a/../b", "doc-9"]
    assert ids(split="pool") == ["doc-9"]


def test_wrong_requests_are_named(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no document 'doc-33'.*did you mean 'doc-3'"):
        show(data, ids=["doc-33"])
    with pytest.raises(UserError, match="no such split"):
        show(data, split="dev")
    with pytest.raises(UserError, match="--num: expected 1 or more, got 0"):
        show(data, num=0)
    with pytest.raises(UserError, match="cannot write"):
        show(data, html=data[1] / "note.yaml" / "sheet.html")
    with pytest.raises(UserError, match="there is no dataset"):
        show((tmp_path / "none", data[1]))


def test_damaged_documents_are_shown_with_what_is_wrong(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(data[0], "test", [as_document(1, id="bad", image_keys=("0" * 64, "1" * 64)), as_document(2, id="good")])
    assert show(data, split="test", out=tmp_path / "previews") == 3
    printed = capsys.readouterr().out
    assert "its pages cannot be read" in printed and "Ada 1" in printed and "Ada 2" in printed
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["test-good-1.png", "test-good-2.png"]
    assert show(data, split="test", html=tmp_path / "sheet.html") == 3
    assert "its pages cannot be read" in (tmp_path / "sheet.html").read_text(encoding="utf-8")
