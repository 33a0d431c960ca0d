"""Format `jsonl`: one JSON object a line.

`image` (or `file`) is the path of the image, PDF or other page file, relative to the JSONL file; `images` is a list of
them for several pages. `fields` holds the annotation; a line without it goes to the pool of documents to annotate.
`id`, `document_type`, `schema`, `language`, `specialty`, `split`, `license`, `source` and `synthetic` are used where
they are given. Other entries are left out and counted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.data.importing.texts import parse_object, read_lines
from medvie_rl.errors import UserError

ANNOTATIONS = "annotations.jsonl"
TEXTS = ("id", "document_type", "schema", "language", "split", "license", "source", "specialty")
_FILES = ("images", "image", "file")


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """The documents of a JSONL file, or of `annotations.jsonl` in a folder; raises UserError if there is none."""
    path = _path(source)
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            yield from _entries(where, path.parent, parse_object(line))
        except ValueError as error:
            yield Rejection(where, str(error))


def _path(source: Path) -> Path:
    path = source
    if source.is_dir():
        others = sorted([*source.glob("*.jsonl"), *source.glob("*.ndjson")])
        path = others[0] if len(others) == 1 else source / ANNOTATIONS
    elif not source.exists() and source.suffix == "":
        path = source / ANNOTATIONS
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected one JSON object a line with 'image' and 'fields'")
    return path


def _entries(where: str, folder: Path, entry: dict[str, Any]) -> Iterator[Record | Note]:
    fields = entry.get("fields")
    if fields is not None and not isinstance(fields, dict):
        raise ValueError(f"expected 'fields': an object of keys and values, got {type(fields).__name__}")
    if entry.get("annotated") is False:
        fields = None
    yield Record(
        where=where,
        folder=folder,
        files=files_of(entry),
        fields=fields,
        synthetic=entry.get("synthetic") is True,
        **texts_of(entry),
    )
    for name in entry:
        if name not in (*TEXTS, *_FILES, "fields", "synthetic", "annotated"):
            yield Note(f"entry {name!r} of a line is not used")


def files_of(entry: dict[str, Any]) -> tuple[str, ...]:
    """The page files that a line names; raises ValueError if it names none."""
    given = next((entry[name] for name in _FILES if entry.get(name)), None)
    files = given if isinstance(given, list) else [given]
    if not files or not all(isinstance(name, str) and name for name in files):
        raise ValueError("expected 'image': the path of an image or a PDF, or 'images': a list of them")
    return tuple(files)


def texts_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The entries that describe a document; raises ValueError for one that is no text (or number, for an id)."""
    found: dict[str, Any] = {}
    for name in TEXTS:
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f"{name!r} must be a text, got {type(value).__name__} {value!r}")
        found[name] = str(value)
    return found
