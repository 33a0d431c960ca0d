"""Datasets on disk: a folder of Parquet files, one a split, whose images are read only when asked for.

Columns of a split file (format version 1):

| column | type | meaning |
|---|---|---|
| id | string | unique in the dataset |
| document_type, schema, language | string | what it is, the schema that its annotation follows, ISO 639-1 |
| page_images | list<binary> | encoded images as they came, one a page |
| page_sha256, page_widths, page_heights | lists | of those images; sizes in pixels |
| annotation | string | JSON object, key -> value |
| provenance, license | string | where it came from, under which terms |
| synthetic | bool | drawn by a program |
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FORMAT_VERSION = "1"
_ROW_GROUP = 32  # documents; one group is what reading one image costs
_STRINGS = ("id", "document_type", "schema", "language", "annotation", "provenance", "license")
_ARROW_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in _STRINGS]
    + [
        pa.field("synthetic", pa.bool_()),
        pa.field("page_sha256", pa.list_(pa.string())),
        pa.field("page_widths", pa.list_(pa.int32())),
        pa.field("page_heights", pa.list_(pa.int32())),
        pa.field("page_images", pa.list_(pa.binary())),
    ],
    metadata={"medvie_format_version": FORMAT_VERSION},
)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An annotated document without its image bytes, which `Split.images` reads."""

    id: str
    document_type: str
    schema: str
    annotation: dict[str, Any]
    image_keys: tuple[str, ...]  # sha256 of each page's encoded image
    image_sizes: tuple[tuple[int, int], ...] = ()  # (width, height) in pixels, one a page
    language: str = "en"
    provenance: str = ""
    license: str = ""
    synthetic: bool = False


@dataclass(slots=True)
class Split:
    """The documents of one split file; images are read by row group, the last group is kept."""

    path: Path
    documents: list[Document]
    _rows: dict[str, int] = field(default_factory=dict)
    _group: tuple[int, list[list[bytes]]] = (-1, [])

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._rows

    def images(self, document: Document) -> dict[str, bytes]:
        """The encoded images of a document's pages by their sha256; a damaged file raises ValueError."""
        group, offset = divmod(self._rows[document.id], _ROW_GROUP)
        if group != self._group[0]:
            table = pq.ParquetFile(self.path).read_row_group(group, columns=["page_images"])
            self._group = (group, table.column("page_images").to_pylist())
        images = dict(zip(document.image_keys, self._group[1][offset], strict=True))
        for key, content in images.items():
            if hashlib.sha256(content).hexdigest() != key:
                raise ValueError(f"{self.path}: image of document '{document.id}' does not match its sha256")
        return images


def open_split(folder: Path, split: str) -> Split:
    """Open one split of a dataset without reading its images.

    Raises ValueError naming the file if it is missing, not a dataset of ours, or of another format version.
    """
    path = folder / f"{split}.parquet"
    if not path.is_file():
        have = sorted(file.stem for file in folder.glob("*.parquet")) if folder.is_dir() else []
        found = f"it has {have}" if have else "there is no dataset"
        raise ValueError(f"{path}: no such split; {found}. Make one with `medvie data import` or `medvie data synth`")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error})") from error
    version = (file.schema_arrow.metadata or {}).get(b"medvie_format_version", b"none").decode()
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: expected dataset format version {FORMAT_VERSION}, got {version}")
    columns = [name for name in _ARROW_SCHEMA.names if name != "page_images"]
    rows = file.read(columns=columns).to_pylist()
    documents = [_document(path, row) for row in rows]
    return Split(path, documents, {document.id: index for index, document in enumerate(documents)})


def write_split(folder: Path, split: str, documents: Iterable[tuple[Document, Sequence[bytes]]]) -> Path:
    """Write documents with their encoded page images as one split; ids must be unique. Returns the file's path."""
    rows, seen = [], set()
    for document, images in documents:
        if document.id in seen:
            raise ValueError(f"document id '{document.id}' occurs twice in split '{split}'; ids must be unique")
        seen.add(document.id)
        rows.append(_row(document, images))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.parquet"
    table = pa.Table.from_pylist(rows, schema=_ARROW_SCHEMA)
    pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")
    return path


def describe_image(content: bytes) -> tuple[str, tuple[int, int]]:
    """sha256 and (width, height) of an encoded image, which is decoded whole; raises ValueError if it cannot be."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return hashlib.sha256(content).hexdigest(), image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error


def _row(document: Document, images: Sequence[bytes]) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(document, name) for name in _STRINGS if name != "annotation"}
    row["annotation"] = json.dumps(document.annotation, ensure_ascii=False, allow_nan=False)
    row["synthetic"] = document.synthetic
    row["page_sha256"] = list(document.image_keys)
    row["page_widths"] = [width for width, _ in document.image_sizes]
    row["page_heights"] = [height for _, height in document.image_sizes]
    row["page_images"] = list(images)
    return row


def _document(path: Path, row: dict[str, Any]) -> Document:
    try:
        annotation = json.loads(row["annotation"])
    except ValueError as error:
        raise ValueError(f"{path}: annotation of document '{row['id']}' is not JSON ({error})") from error
    return Document(
        id=row["id"],
        document_type=row["document_type"],
        schema=row["schema"],
        annotation=annotation,
        image_keys=tuple(row["page_sha256"]),
        image_sizes=tuple(zip(row["page_widths"], row["page_heights"], strict=True)),
        language=row["language"],
        provenance=row["provenance"],
        license=row["license"],
        synthetic=row["synthetic"],
    )
