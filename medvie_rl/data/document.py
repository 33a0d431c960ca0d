"""A document, and how it stands in the row of a Parquet file.

Columns of a split file (format version 2; version 1, without those marked, is read as well):

| column | type | meaning |
|---|---|---|
| id | string | unique in the dataset |
| document_type, schema, language | string | what it is, the schema that its annotation follows, ISO 639-1 |
| specialty | string | 2: medical specialty, empty where it has none |
| split | string | 2: the split that it was written for; which one it is in, the file's name says |
| page_images | list<binary> | encoded images as they came, one a page; empty where the pages are files |
| page_paths | list<string> | 2: those files, relative to the dataset's folder; empty where the images are stored here |
| page_sha256, page_widths, page_heights | lists | of the images; sizes in pixels |
| annotation | string | JSON object, key -> value |
| annotated | bool | 2: false where nobody has annotated it yet, the annotation is then {} |
| provenance, license | string | where it came from, under which terms |
| synthetic | bool | drawn by a program |
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from medvie_rl.data.location import check_relative

FORMAT_VERSION = "2"

REPEATED = ("document_type", "schema", "specialty", "language", "split", "provenance", "license")
ARROW_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("id", *REPEATED, "annotation")]
    + [
        pa.field("annotated", pa.bool_()),
        pa.field("synthetic", pa.bool_()),
        pa.field("page_sha256", pa.list_(pa.string())),
        pa.field("page_widths", pa.list_(pa.int32())),
        pa.field("page_heights", pa.list_(pa.int32())),
        pa.field("page_paths", pa.list_(pa.string())),
        pa.field("page_images", pa.list_(pa.binary())),
    ],
    metadata={"medvie_format_version": FORMAT_VERSION},
)
_SINCE_VERSION_2: Mapping[str, Any] = {"specialty": "", "split": "", "annotated": True, "page_paths": ()}
_VERSION_1 = frozenset(ARROW_SCHEMA.names) - _SINCE_VERSION_2.keys()
_COLUMNS = {"1": _VERSION_1, "2": frozenset(ARROW_SCHEMA.names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document without its image bytes, which `Split.images` reads."""

    id: str
    document_type: str
    schema: str
    annotation: dict[str, Any]
    image_keys: tuple[str, ...]  # sha256 of each page's encoded image
    image_sizes: tuple[tuple[int, int], ...] = ()  # (width, height) in pixels, one a page
    specialty: str = ""
    language: str = "en"
    provenance: str = ""
    license: str = ""
    synthetic: bool = False
    annotated: bool = True  # False: nobody has, `annotation` is {}
    image_paths: tuple[str, ...] = ()  # of pages that are files, relative to the dataset's folder


def to_row(document: Document, images: Sequence[bytes], split: str) -> dict[str, Any]:
    """The row of a document; raises ValueError naming it for what cannot be stored (see `store.write_split`)."""
    where = f"document '{document.id}'"
    paths = () if images else document.image_paths
    num_pages = len(document.image_keys)
    if len(paths or images) != num_pages:
        raise ValueError(f"{where} has {num_pages} pages, expected an image for each, got {len(paths or images)}")
    if document.image_sizes and len(document.image_sizes) != num_pages:
        raise ValueError(f"{where} has {num_pages} pages, expected a size for each, got {len(document.image_sizes)}")
    if not document.annotated and document.annotation:
        raise ValueError(f"{where} is said to be not annotated, but has an annotation: {sorted(document.annotation)}")
    try:
        for path in paths:
            check_relative(path)
        annotation = json.dumps(document.annotation, ensure_ascii=False, allow_nan=False)
        annotation.encode()  # a half of a surrogate pair is no text
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    row: dict[str, Any] = {name: getattr(document, name) for name in ("id", *REPEATED) if name != "split"}
    return row | {
        "split": split,
        "annotation": annotation,
        "annotated": document.annotated,
        "synthetic": document.synthetic,
        "page_sha256": document.image_keys,
        "page_widths": [width for width, _ in document.image_sizes],
        "page_heights": [height for _, height in document.image_sizes],
        "page_paths": paths,
        "page_images": list(images),
    }


def from_row(path: str, row: dict[str, Any]) -> Document:
    """The document of a row without its images; raises ValueError naming the file and the document."""
    nulls = [name for name, value in row.items() if value is None]
    if nulls:
        raise ValueError(f"{path}: document '{row['id']}' has no value in the columns {nulls}; leave none null")
    row = {**_SINCE_VERSION_2, **row}
    try:
        annotation = json.loads(row["annotation"], object_pairs_hook=_shared_keys)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: annotation of document '{row['id']}' is not JSON ({error})") from error
    if not isinstance(annotation, dict):
        raise ValueError(f"{path}: annotation of document '{row['id']}' is not a JSON object, got {annotation!r}")
    return Document(
        id=row["id"],
        annotation=annotation,
        image_keys=tuple(row["page_sha256"]),
        image_sizes=tuple(zip(row["page_widths"], row["page_heights"], strict=True)),
        annotated=row["annotated"],
        synthetic=row["synthetic"],
        image_paths=tuple(row["page_paths"]),
        **{name: sys.intern(row[name]) for name in REPEATED if name != "split"},
    )


def columns_to_read(path: str, schema: pa.Schema) -> list[str]:
    """The columns to read; raises ValueError for another format."""
    version = (schema.metadata or {}).get(b"medvie_format_version", b"none").decode(errors="replace")
    if version not in _COLUMNS:
        raise ValueError(f"{path}: expected dataset format version {' or '.join(_COLUMNS)}, got {version}")
    missing = sorted(_COLUMNS[version].difference(schema.names))
    if missing:
        raise ValueError(f"{path}: a dataset of format version {version} has the columns {missing}; they are missing")
    return [name for name in ARROW_SCHEMA.names if name in _COLUMNS[version] and name != "page_images"]


def _shared_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are the same strings in every document: half the memory of a large split."""
    return {sys.intern(key): value for key, value in pairs}
