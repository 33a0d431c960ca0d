"""Datasets: what is written comes back, images are read only when asked for, damage is named."""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import fs

from medvie_rl.bench.documents import measure, write_random_documents
from medvie_rl.data.document import ARROW_SCHEMA
from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import POOL, Document, describe_image, list_splits, open_split, write_split

ROOT = Path(__file__).resolve().parents[2]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (20 + shade % 7, 10), shade).save(buffer, format="PNG")
    return buffer.getvalue()


def make_document(index: int) -> tuple[Document, list[bytes]]:
    images = [png(index % 256), png((index + 100) % 256)][: 1 + index % 2]
    described = [describe_image(image) for image in images]
    document = Document(
        id=f"doc-{index}",
        document_type="note",
        schema="note",
        annotation={"name": "Zoë", "rows": [{"a": 1.5}], "gone": None},
        image_keys=tuple(key for key, _ in described),
        image_sizes=tuple(size for _, size in described),
        specialty="cardiology",
        language="de",
        provenance="drawn",
        license="CC0",
        synthetic=True,
    )
    return document, images


def test_documents_and_images_come_back(tmp_path: Path) -> None:
    written = [make_document(index) for index in range(70)]
    write_split(tmp_path, "train", written)
    split = open_split(tmp_path, "train")
    assert split.documents == [document for document, _ in written]
    for document, images in reversed(written):  # across row groups, in any order
        assert list(split.images(document).values()) == images
    assert list(split.stream()) == written


def test_a_split_written_again_is_the_same_file(tmp_path: Path) -> None:
    first = write_split(tmp_path / "one", "train", (make_document(index) for index in range(70)))
    again = write_split(tmp_path / "two", "train", open_split(tmp_path / "one", "train").stream())
    assert (first, again) == (tmp_path / "one/train.parquet", tmp_path / "two/train.parquet")
    assert Path(first).read_bytes() == Path(again).read_bytes()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    annotation=st.dictionaries(st.text(), _JSON, max_size=4),
    texts=st.lists(st.text(), min_size=7, max_size=7),
    pages=st.lists(st.binary(), max_size=3),
)
def test_whatever_is_written_comes_back(annotation: dict[str, Any], texts: list[str], pages: list[bytes]) -> None:
    document = Document(
        id=texts[0],
        document_type=texts[1],
        schema=texts[2],
        annotation=annotation,
        image_keys=tuple(hashlib.sha256(page).hexdigest() for page in pages),
        image_sizes=tuple((index, 7) for index, _ in enumerate(pages)),
        specialty=texts[3],
        language=texts[4],
        provenance=texts[5],
        license=texts[6],
    )
    filesystem = fs._MockFileSystem()
    write_split("data", "train", [(document, pages)], filesystem=filesystem)
    (found,) = open_split("data", "train", filesystem=filesystem).stream()
    assert repr(found) == repr((document, pages))  # 1, 1.0 and true are equal, and not the same


def test_the_format_is_as_documented(tmp_path: Path) -> None:
    document, images = make_document(1)
    path = write_split(tmp_path, "train", [(document, images)])
    table = pq.read_table(path)
    assert table.schema.metadata[b"medvie_format_version"] == b"2"
    (row,) = table.to_pylist()
    assert row == {
        "id": "doc-1", "document_type": "note", "schema": "note", "specialty": "cardiology", "language": "de",
        "split": "train", "provenance": "drawn", "license": "CC0", "synthetic": True, "annotated": True,
        "annotation": '{"name": "Zoë", "rows": [{"a": 1.5}], "gone": null}',
        "page_sha256": [hashlib.sha256(image).hexdigest() for image in images],
        "page_widths": [21, 23], "page_heights": [10, 10], "page_images": images, "page_paths": [],
    }  # fmt: skip


def test_files_of_version_1_open(tmp_path: Path) -> None:
    shipped = open_split(ROOT / "medvie_rl/nano/slips", "validation")
    first = shipped.documents[0]
    assert (len(shipped), first.specialty, first.annotated, first.image_paths) == (80, "", True, ())
    assert [list(shipped.images(document).values()) for document in shipped] == [pages for _, pages in shipped.stream()]
    document, images = make_document(1)
    table = pq.read_table(write_split(tmp_path, "train", [(document, images)]))
    old = table.drop_columns(["specialty", "split", "annotated", "page_paths"])
    pq.write_table(old.replace_schema_metadata({"medvie_format_version": "1"}), tmp_path / "test.parquet")
    assert list(open_split(tmp_path, "test").stream()) == [(replace(document, specialty=""), images)]


def test_documents_without_annotation_wait_in_the_pool(tmp_path: Path) -> None:
    document, images = make_document(0)
    waiting = replace(document, annotation={}, annotated=False)
    write_split(tmp_path, POOL, [(waiting, images)])
    assert open_split(tmp_path, POOL).documents == [waiting]
    with pytest.raises(ValueError, match=r"document 'doc-0' is said to be not annotated, but has .*'gone', 'name'"):
        write_split(tmp_path, POOL, [(replace(document, annotated=False), images)])


def test_pages_may_stay_files_of_the_dataset(tmp_path: Path) -> None:
    document, images = make_document(1)
    names = ("pages/1.png", "pages/zwei Ö.png")
    (tmp_path / "pages").mkdir()
    for name, image in zip(names, images, strict=True):
        (tmp_path / name).write_bytes(image)
    linked = replace(document, image_paths=names)
    path = Path(write_split(tmp_path, "train", [make_document(2), (linked, []), make_document(3)]))
    split = open_split(tmp_path, "train")
    assert split.documents[1] == linked and list(split.images(linked).values()) == images
    assert pq.read_table(path).column("page_images").to_pylist()[1] == []
    write_split(tmp_path / "copy", "train", split.stream())  # a copy holds its pages itself
    assert open_split(tmp_path / "copy", "train").documents[1] == document

    (tmp_path / names[1]).write_bytes(images[0])
    with pytest.raises(ValueError, match=r"'doc-1': image of page 2 \(pages/zwei Ö\.png\) does not match"):
        split.images(linked)
    (tmp_path / names[1]).unlink()
    with pytest.raises(ValueError, match=r"document 'doc-1': .*pages/zwei Ö\.png: no such file; put it back"):
        split.images(linked)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "pages/../../secret.png", "", "pages\\a.png"])
def test_pages_never_lie_outside_the_dataset(tmp_path: Path, name: str) -> None:
    document, images = make_document(0)
    (tmp_path / "secret.png").write_bytes(images[0])
    outside = replace(document, image_paths=(name,))
    with pytest.raises(ValueError, match=r"'doc-0': .*expected a path below the dataset's folder"):
        write_split(tmp_path / "data", "train", [(outside, [])])
    rows = pq.read_table(write_split(tmp_path / "data", "train", [(document, images)])).to_pylist()
    rows[0] |= {"page_paths": [name], "page_images": []}  # a file that somebody else made
    pq.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA), tmp_path / "data/train.parquet")
    split = open_split(tmp_path / "data", "train")
    with pytest.raises(ValueError, match=r"'doc-0': .*expected a path below the dataset's folder"):
        split.images(split.documents[0])


def test_a_link_does_not_lead_out_of_the_dataset(tmp_path: Path) -> None:
    document, images = make_document(0)
    (tmp_path / "secret.png").write_bytes(images[0])
    write_split(tmp_path / "data", "train", [(replace(document, image_paths=("page.png",)), [])])
    (tmp_path / "data/page.png").symlink_to(tmp_path / "secret.png")
    split = open_split(tmp_path / "data", "train")
    with pytest.raises(ValueError, match=r"page\.png: a link that leads out of the dataset's folder"):
        split.images(split.documents[0])


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    document, images = make_document(1)
    for changes, pages, message in (
        ({}, images[:1], "'doc-1' has 2 pages, expected an image for each, got 1"),
        ({}, [], "'doc-1' has 2 pages, expected an image for each, got 0"),
        ({"image_sizes": ((1, 1),)}, images, "'doc-1' has 2 pages, expected a size for each, got 1"),
        ({"annotation": {"a": float("nan")}}, images, "'doc-1': Out of range float values"),
        ({"annotation": {"a": "\ud800"}}, images, "'doc-1': .*surrogates not allowed"),
        ({"annotation": {"a": {1, 2}}}, images, "'doc-1': Object of type set is not JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            write_split(tmp_path, "train", [(replace(document, **changes), pages)])  # type: ignore[arg-type]
    for name in ("", "../train", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="expected a name of letters"):
            write_split(tmp_path, name, [])
    assert list_splits(tmp_path) == ()


def test_a_split_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[Document, list[bytes]]]:
        yield from (make_document(index) for index in range(40))
        raise KeyboardInterrupt

    write_split(tmp_path, "train", [make_document(7)])
    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path, "train", failing())
    assert [document.id for document in open_split(tmp_path, "train")] == ["doc-7"]
    assert os.listdir(tmp_path) == ["train.parquet"]


def test_splits_are_listed_the_usual_ones_first(tmp_path: Path) -> None:
    assert list_splits(tmp_path / "none") == ()
    for name in ("pool", "extra", "test", "train"):
        write_split(tmp_path, name, [])
    (tmp_path / ".train.parquet.partial").write_bytes(b"of a killed process")
    (tmp_path / "notes.txt").write_text("no split")
    assert list_splits(tmp_path) == ("train", "test", "pool", "extra")
    assert len(open_split(tmp_path, "pool")) == 0


@pytest.mark.parametrize("kind", ["uri", "subtree", "memory"])
def test_a_dataset_may_lie_on_any_file_system_of_pyarrow(tmp_path: Path, kind: str) -> None:
    filesystem = {"uri": None, "subtree": fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()),
                  "memory": fs._MockFileSystem()}[kind]  # fmt: skip
    folder = (tmp_path / "data").as_uri() if kind == "uri" else "data"
    document, images = make_document(1)
    linked = replace(document, id="linked", image_paths=("pages/a.png", "pages/b.png"))
    written = [make_document(index) for index in range(40)]
    assert write_split(folder, "train", [*written, (linked, [])], filesystem=filesystem) == f"{folder}/train.parquet"
    assert list_splits(folder, filesystem=filesystem) == ("train",)
    split = open_split(folder, "train", filesystem=filesystem)
    assert [split.images(document) for document, _ in written[::-1]] == [
        dict(zip(document.image_keys, images, strict=True)) for document, images in written[::-1]
    ]
    with pytest.raises(ValueError, match=rf"{folder}/pages/a\.png: no such file"):
        split.images(linked)
    with pytest.raises(ValueError, match=rf"{folder}/test\.parquet: no such split; it has \['train'\]"):
        open_split(folder, "test", filesystem=filesystem)
    place, root = (fs.LocalFileSystem(), str(tmp_path / "data")) if kind == "uri" else (filesystem, "data")
    place.create_dir(f"{root}/pages")
    for name, image in zip(linked.image_paths, images, strict=True):
        with place.open_output_stream(f"{root}/{name}") as stream:
            stream.write(image)
    assert list(split.stream()) == [*written, (linked, images)]


def test_a_uri_that_nobody_understands(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ftp3://a/b: expected a folder or a URI that pyarrow can open"):
        open_split("ftp3://a/b", "train")


def test_a_row_group_is_as_large_as_its_images(tmp_path: Path) -> None:
    def large(index: int) -> tuple[Document, list[bytes]]:
        image = os.urandom(20 * 2**20)
        key = hashlib.sha256(image).hexdigest()
        return replace(make_document(0)[0], id=f"doc-{index}", image_keys=(key,), image_sizes=()), [image]

    written = [large(index) for index in range(3)]
    metadata = pq.read_metadata(write_split(tmp_path, "train", [*written, *map(make_document, range(3, 40))]))
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [2, 32, 6]
    split = open_split(tmp_path, "train")
    assert [list(split.images(document).values()) for document, _ in written[::-1]] == [
        images for _, images in written[::-1]
    ]


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    folder = write_random_documents(tmp_path, 4_000, 64 * 1024)  # 250 MiB
    opened, streamed = measure("open", folder), measure("stream", folder)
    assert (opened["num_documents"], opened["image_mib"], streamed["image_mib"]) == (4_000, 0, 250)
    assert opened["peak_mib"] - opened["before_mib"] < 60
    assert streamed["peak_mib"] - streamed["before_mib"] < 120


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = Path(write_split(tmp_path, "train", [make_document(index) for index in range(40)]))
    split = open_split(tmp_path, "train")
    content = bytearray(path.read_bytes())
    content[content.index(png(3)) + 30] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.parquet: document 'doc-3': image of page 1 does not match"):
        split.images(split.documents[3])
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match=r"train\.parquet: row group 1 is not readable"):
        split.images(split.documents[39])


def test_rows_that_somebody_else_wrote_wrong_are_named(tmp_path: Path) -> None:
    path = write_split(tmp_path, "train", [make_document(1)])
    (row,) = pq.read_table(path).to_pylist()
    for changes, message in (
        ({"license": None}, r"train\.parquet: document 'doc-1' has no value in the columns \['license'\]"),
        ({"annotation": "{"}, r"train\.parquet: annotation of document 'doc-1' is not JSON"),
        ({"annotation": "[]"}, r"annotation of document 'doc-1' is not a JSON object, got \[\]"),
    ):
        pq.write_table(pa.Table.from_pylist([row | changes], schema=ARROW_SCHEMA), path)
        with pytest.raises(ValueError, match=message):
            open_split(tmp_path, "train")
    pq.write_table(pa.Table.from_pylist([row], schema=ARROW_SCHEMA).drop_columns(["annotated"]), path)
    with pytest.raises(ValueError, match=r"format version 2 has the columns \['annotated'\]; they are missing"):
        open_split(tmp_path, "train")


def test_describe_image_gives_digest_and_size() -> None:
    content = png(3)
    assert describe_image(content) == (hashlib.sha256(content).hexdigest(), (23, 10))
    with pytest.raises(ValueError, match="not a readable image"):
        describe_image(content[:40])
    with pytest.raises(ValueError, match="not a readable image"):
        describe_image(b"")


def test_ids_must_be_unique(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'doc-1' occurs twice"):
        write_split(tmp_path, "train", [make_document(1), make_document(1)])


def test_what_is_not_a_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.parquet: no such split; there is no dataset"):
        open_split(tmp_path / "none", "train")
    write_split(tmp_path, "train", [make_document(0)])
    with pytest.raises(ValueError, match=r"it has \['train'\]"):
        open_split(tmp_path, "test")
    (tmp_path / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        open_split(tmp_path, "test")
    table = pq.read_table(tmp_path / "train.parquet")
    pq.write_table(table.replace_schema_metadata({"medvie_format_version": "99"}), tmp_path / "validation.parquet")
    with pytest.raises(ValueError, match="expected dataset format version 1 or 2, got 99"):
        open_split(tmp_path, "validation")


def test_slips_are_the_same_for_the_same_seed_and_shared_by_no_splits(tmp_path: Path) -> None:
    nums = {"train": 12, "validation": 8, "test": 8}
    write_slips(tmp_path / "one", nums, seed=5, preview=tmp_path / "sheet.png")
    write_slips(tmp_path / "two", nums, seed=5)
    keys = []
    for split, num in nums.items():
        first, second = open_split(tmp_path / "one", split), open_split(tmp_path / "two", split)
        assert len(first) == num
        assert first.documents == second.documents
        keys += [key for document in first for key in document.image_keys]
    assert len(set(keys)) == len(keys)
    assert (tmp_path / "sheet.png").stat().st_size > 1_000
