"""Which format a source has, told by its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvie_rl.data.importing import donut, funsd, jsonl, label_studio, plain_files, tabular
from medvie_rl.data.importing.records import Reader
from medvie_rl.data.importing.texts import parse_json, read_lines, read_text
from medvie_rl.errors import UserError

READERS: Mapping[str, Reader] = {
    "jsonl": jsonl.read,
    "label-studio": label_studio.read,
    "donut": donut.read,
    "funsd": funsd.read,
    "csv": tabular.read,
    "files": plain_files.read,
}
AUTO = "auto"
FORMATS = (AUTO, *READERS)
_JSON_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv")


def detect_format(source: Path) -> tuple[str, Path]:
    """The format of a source and the file or folder that its reader takes.

    Annotation files decide, in this order: annotations.jsonl, metadata.jsonl (also in train/, validation/, test/),
    annotations/*.json, then the only JSONL, JSON or CSV file of the folder. A folder without any is `files`. Raises
    UserError if there is nothing, or if several files could be meant.
    """
    if source.is_file():
        return _format_of_file(source), source
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder; expected annotations beside images, or images and PDFs")
    if (source / jsonl.ANNOTATIONS).is_file():
        return "jsonl", source
    if donut.metadata_files(source):
        return "donut", source
    if funsd.form_folders(source):
        return "funsd", source
    endings = (*_JSON_LINES, ".json", *_TABLES)
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in endings and path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{source}: {names} could each be the annotations; name one of them, or say --format files")
    if found:
        return _format_of_file(found[0]), found[0]
    if not any(path.is_file() or path.is_symlink() for path in source.rglob("*")):
        raise UserError(f"{source}: this folder has no files")
    return "files", source


def _format_of_file(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _TABLES:
        return "csv"
    if ending in _JSON_LINES:
        return "donut" if _has_ground_truth(path) else "jsonl"
    if ending == ".json":
        return _format_of_json(path)
    return "files"


def _has_ground_truth(path: Path) -> bool:
    for _, line in read_lines(path):
        entry = _json(line)
        if isinstance(entry, dict):
            return "file_name" in entry and "fields" not in entry and "image" not in entry
    return False


def _format_of_json(path: Path) -> str:
    content = _json(read_text(path))
    if isinstance(content, list):
        return "label-studio"
    if isinstance(content, dict) and "form" in content:
        raise UserError(f"{path}: one form of FUNSD; name the folder that has annotations/ and images/")
    raise UserError(
        f"{path}: neither a list of tasks of Label Studio nor a form of FUNSD; say --format if it is one of them, or "
        "write one JSON object a line into a .jsonl file"
    )


def _json(text: str) -> Any:
    try:
        return parse_json(text, constants=True)
    except ValueError:
        return None  # the reader says what is wrong and where
