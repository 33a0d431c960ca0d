"""Format `donut`: `metadata.jsonl` as Donut, CORD and `imagefolder` data sets have it.

One JSON object a line with `file_name` and `ground_truth`, which is an object (or the JSON text of one) whose
`gt_parse` is the annotation; `gt_parses` may hold it as a list of one. Objects in it are opened up: {"total": {"cash":
1}} has the key "total.cash"; a list of objects is a table. The file stands in the source, or in the folders train,
validation (dev, val) and test inside it, which are the splits then.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvie_rl.data.importing.jsonl import texts_of
from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.data.importing.texts import parse_object, read_lines
from medvie_rl.errors import UserError

METADATA = "metadata.jsonl"
FOLDERS = {"train": "train", "validation": "validation", "dev": "validation", "val": "validation", "test": "test"}


def metadata_files(source: Path) -> list[tuple[Path, str]]:
    """The metadata files of a source, each with the split that its folder names ("" for none)."""
    if source.is_file():
        return [(source, "")]
    if (source / METADATA).is_file():
        return [(source / METADATA, "")]
    inner = [(source / name / METADATA, split) for name, split in FOLDERS.items()]
    return [(path, split) for path, split in inner if path.is_file()]


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """The documents of all metadata files; raises UserError if there is none."""
    files = metadata_files(source)
    if not files:
        raise UserError(f"{source / METADATA}: no such file, nor in the folders train, validation, test in {source}")
    for path, split in files:
        for number, line in read_lines(path):
            where = f"{path}:{number}"
            try:
                yield _record(where, path.parent, parse_object(line), split)
            except ValueError as error:
                yield Rejection(where, str(error))


def _record(where: str, folder: Path, entry: dict[str, Any], split: str) -> Record:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError("expected 'file_name': the path of an image")
    texts = texts_of({key: value for key, value in entry.items() if key != "split"})
    given = str(entry.get("split") or split)
    texts["split"] = FOLDERS.get(given, given)
    if split and "id" not in texts:
        texts["id"] = f"{split}/{Path(name).with_suffix('').as_posix()}"
    return Record(where=where, folder=folder, files=(name,), fields=_truth(entry), loose=True, **texts)


def _truth(entry: dict[str, Any]) -> dict[str, Any] | None:
    truth = entry.get("ground_truth")
    if truth is None:
        return None
    if isinstance(truth, str):
        try:
            truth = parse_object(truth)
        except ValueError as error:
            raise ValueError(f"'ground_truth': {error}") from error
    if not isinstance(truth, dict):
        raise ValueError(f"'ground_truth' must be an object or its JSON text, got {type(truth).__name__}")
    several = truth.get("gt_parses")
    if isinstance(several, list) and len(several) != 1 and "gt_parse" not in truth:
        raise ValueError(f"'gt_parses' holds {len(several)} annotations; one document has one, as 'gt_parse'")
    parse = truth["gt_parse"] if "gt_parse" in truth else several[0] if isinstance(several, list) else None
    if not isinstance(parse, dict):
        raise ValueError("'ground_truth' has no object 'gt_parse' with keys and values")
    return parse
