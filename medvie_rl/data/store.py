"""Datasets on disk: a folder of Parquet files, one a split, whose images are read only when asked for.

What stands in a row, and the format's version, says `document.py`.

A row group has up to 32 documents and about 32 MiB of images: what reading one image costs, and what writing holds in
memory. A dataset may lie in object storage (see `location.py`). There a finished file gets its name by a copy, which S3
does for files up to 5 GB: keep the pages of larger splits as files.
"""

import hashlib
import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pyarrow import fs

from medvie_rl.data.document import ARROW_SCHEMA, REPEATED, columns_to_read, from_row, to_row
from medvie_rl.data.document import Document as Document
from medvie_rl.data.location import Location

SPLITS = ("train", "validation", "test")
POOL = "pool"  # the split of documents without annotation, candidates to annotate

_GROUP_DOCUMENTS = 32
_GROUP_BYTES = 32 * 2**20
_READ_DOCUMENTS = 1024  # rows that are Python objects besides the documents while a split is opened
_SPLIT_NAME = re.compile(r"\w[\w.-]*")
# Encoded images do not get smaller: compressing or counting them would cost time only.
_COMPRESSION = {name: "zstd" for name in ARROW_SCHEMA.names if not name.startswith("page_")} | {
    f"{name}.list.element": "none" if name == "page_images" else "zstd"
    for name in ARROW_SCHEMA.names
    if name.startswith("page_")
}


@dataclass(slots=True)
class Split:
    """The documents of one split file; images are read by row group, the last group is kept."""

    path: str  # or the URI, for messages
    documents: list[Document]
    _location: Location
    _metadata: pq.FileMetaData
    _rows: dict[str, int] = field(init=False)
    _starts: list[int] = field(init=False)  # the first row of every row group
    _group: tuple[int, Any] = (-1, None)  # its index and its page_images

    def __post_init__(self) -> None:
        self._rows = {document.id: row for row, document in enumerate(self.documents)}
        sizes = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]
        self._starts = list(accumulate(sizes, initial=0))[:-1]

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._rows

    def images(self, document: Document) -> dict[str, bytes]:
        """The encoded images of a document's pages by their sha256.

        Raises ValueError if the file is damaged, or if a page that is a file of its own is missing or another image.
        """
        row = self._rows[document.id]
        return dict(zip(document.image_keys, self._pages(self.documents[row], row), strict=True))

    def stream(self) -> Iterator[tuple[Document, list[bytes]]]:
        """All documents with their encoded images, page by page; one row group at a time is in memory."""
        for row, document in enumerate(self.documents):
            yield document, self._pages(document, row)

    def embedded(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[bytes]]]:
        """Some of the documents with their pages, which are then stored in the file that they are written to."""
        for document in documents:
            images = self.images(document)
            yield replace(document, image_paths=()), [images[key] for key in document.image_keys]

    def _pages(self, document: Document, row: int) -> list[bytes]:
        where = f"{self.path}: document '{document.id}'"
        if document.image_paths:
            contents = [_read_page(self._location, path, where) for path in document.image_paths]
        else:
            contents = self._stored(row)
        if len(contents) != len(document.image_keys):
            raise ValueError(f"{where} has {len(document.image_keys)} pages, got {len(contents)} images")
        for index, (key, content) in enumerate(zip(document.image_keys, contents, strict=True)):
            if hashlib.sha256(content).hexdigest() != key:
                name = f" ({document.image_paths[index]})" if document.image_paths else ""
                raise ValueError(f"{where}: image of page {index + 1}{name} does not match its sha256")
        return contents

    def _stored(self, row: int) -> list[bytes]:
        group = bisect_right(self._starts, row) - 1
        if group != self._group[0]:
            self._group = (-1, None)  # before the next one is read: two at a time would be twice the memory
            try:
                with _open_parquet(self._location, Path(self.path).name, self._metadata) as file:
                    self._group = (group, file.read_row_group(group, columns=["page_images"]).column("page_images"))
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{self.path}: row group {group} is not readable ({error})") from error
        images: list[bytes] = self._group[1][row - self._starts[group]].as_py()
        return images


def open_split(folder: Path | str, split: str, *, filesystem: fs.FileSystem | None = None) -> Split:
    """Open one split of a dataset without reading its images.

    `folder` may be a URI that pyarrow understands, or a path on `filesystem`. Raises ValueError naming the file if it
    is missing, not a dataset of ours, or of a format version that is not known.
    """
    location = Location.of(folder, filesystem)
    name, path = _file_name(split), f"{location.shown}/{split}.parquet"
    if not location.has(name):
        have = list(list_splits(folder, filesystem=filesystem))
        found = f"it has {have}" if have else "there is no dataset"
        raise ValueError(f"{path}: no such split; {found}. Make one with `medvie data import` or `medvie data synth`")
    try:
        with _open_parquet(location, name) as file:
            columns = columns_to_read(path, file.schema_arrow)
            batches = file.iter_batches(_READ_DOCUMENTS, columns=columns)
            documents = [from_row(path, row) for batch in batches for row in batch.to_pylist()]
            metadata = file.metadata
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error})") from error
    return Split(path, documents, location, metadata)


def list_splits(folder: Path | str, *, filesystem: fs.FileSystem | None = None) -> tuple[str, ...]:
    """The names of a dataset's splits, the usual ones first; none where there is no dataset."""
    names = Location.of(folder, filesystem).file_names()
    found = [name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and name[0] != "."]
    usual = [name for name in (*SPLITS, POOL) if name in found]
    return (*usual, *(name for name in found if name not in usual))


def write_split(
    folder: Path | str,
    split: str,
    documents: Iterable[tuple[Document, Sequence[bytes]]],
    *,
    filesystem: fs.FileSystem | None = None,
) -> Path | str:
    """Write documents with their encoded page images as one split; returns the file's path, or its URI.

    The images are stored in the file. Where there are none, and the document has `image_paths`, its pages stay files
    of the dataset's folder. Row group by row group: `documents` may be larger than memory. The file appears whole or
    not at all. Raises ValueError naming the document: an id given twice, images that are not one a page, a path that
    leads out of the folder, an annotation that JSON cannot hold.
    """
    location = Location.of(folder, filesystem)
    name = _file_name(split)
    aside = f".{name}.partial"
    location.filesystem.create_dir(location.folder, recursive=True)
    try:
        with location.filesystem.open_output_stream(location.path(aside)) as sink:
            _write_groups(sink, split, documents)
        location.replace(aside, name)
    except BaseException:  # also where the user stops it: a part of a split must not lie about
        location.remove(aside)
        raise
    return folder / name if isinstance(folder, Path) else f"{location.shown}/{name}"


def describe_image(content: bytes) -> tuple[str, tuple[int, int]]:
    """sha256 and (width, height) of an encoded image, which is decoded whole; raises ValueError if it cannot be."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return hashlib.sha256(content).hexdigest(), image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error


def _write_groups(sink: Any, split: str, documents: Iterable[tuple[Document, Sequence[bytes]]]) -> None:
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    num_bytes = 0
    options = {"compression": _COMPRESSION, "use_dictionary": list(REPEATED), "write_statistics": False}
    with pq.ParquetWriter(sink, ARROW_SCHEMA, **options) as writer:
        for document, images in documents:
            if document.id in seen:
                raise ValueError(f"document id '{document.id}' occurs twice in split '{split}'; ids must be unique")
            seen.add(document.id)
            rows.append(to_row(document, images, split))
            num_bytes += sum(map(len, images))
            if len(rows) == _GROUP_DOCUMENTS or num_bytes >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA))
                rows, num_bytes = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA))


def _read_page(location: Location, path: str, where: str) -> bytes:
    try:
        return location.read_below(path)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _file_name(split: str) -> str:
    if not _SPLIT_NAME.fullmatch(split):
        raise ValueError(f"split {split!r}: expected a name of letters, digits, '_', '-' and '.', such as train")
    return f"{split}.parquet"


@contextmanager
def _open_parquet(location: Location, name: str, metadata: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    is_remote = not isinstance(location.filesystem, fs.LocalFileSystem)
    with location.filesystem.open_input_file(location.path(name)) as source:
        yield pq.ParquetFile(source, metadata=metadata, pre_buffer=is_remote)
