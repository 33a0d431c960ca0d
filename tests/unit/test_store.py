"""Datasets: what is written comes back, images are read only when asked for, damage is named."""

import hashlib
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import Document, describe_image, open_split, write_split


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
    with pytest.raises(ValueError, match="expected dataset format version 1, got 99"):
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
