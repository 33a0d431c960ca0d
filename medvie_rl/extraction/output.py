"""Where lines go: a JSONL file that a stopped extraction goes on with, standard output, or tables as CSV."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder, write_atomically
from rewards.schema import FieldSpec, Schema

SETTINGS = ".settings.json"
DOCUMENTS = "documents.csv"
_SEPARATOR = "; "  # between the items of a list in one cell


class LineFile:
    """A JSONL file to which lines are appended. Beside it lies `NAME.settings.json`, what the lines depend on."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Raises UserError for a file that is there, unless it is to be overwritten, or gone on with, which needs the
        settings that it was begun with."""
        self._path = path
        self._beside = path.with_name(path.name + SETTINGS)
        self._file: IO[str]
        self.done: set[str] = set()  # `image` of the lines that are there
        if path.exists() and resume:
            self._check_settings(settings)
            self._keep_whole_lines()
        elif path.exists() and not overwrite:
            raise UserError(f"{path} exists: --resume goes on with it, --overwrite begins anew")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
        write_atomically(self._beside, json.dumps(settings, indent=1, ensure_ascii=False, default=str) + "\n")

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, which then is in the file whatever happens to this process."""
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        try:
            stored = json.loads(self._beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self._beside}: needed to go on with {self._path} ({error}); begin anew") from error
        now = json.loads(json.dumps(settings, default=str))
        if different := sorted(key for key in stored.keys() | now.keys() if stored.get(key) != now.get(key)):
            told = ", ".join(f"{key} (was {stored.get(key)}, now {now.get(key)})" for key in different)
            raise UserError(f"{self._path} was begun with other settings: {told}; name another --out, or --overwrite")

    def _keep_whole_lines(self) -> None:
        """A killed process may leave half a line."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                self.done.add(json.loads(text)["image"])
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{self._path}:{number}: not a line of an extraction ({error})") from error
        if whole != content:
            write_atomically(self._path, whole)


class StandardOutput:
    """Lines on standard output, in signs that it has."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self._has_all_signs = (sys.stdout.encoding or "").lower().startswith("utf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.stdout.flush()

    def write(self, line: Mapping[str, Any]) -> None:
        """Print a line."""
        sys.stdout.write(json.dumps(line, ensure_ascii=not self._has_all_signs) + "\n")


class Tables:
    """A folder with `documents.csv`, a row a document, and a CSV file for each table of the schema, a row a row.

    A value's confidence is in the column `KEY (confidence)` beside it; a list's items are in one cell.
    """

    def __init__(self, folder: Path, schema: Schema) -> None:
        """Raises UserError if the folder has files already."""
        check_new_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.done: set[str] = set()
        self._folder = folder
        self._plain = [spec for spec in schema.fields if not spec.columns]
        self._tables = [spec for spec in schema.fields if spec.columns]
        self._files: list[IO[str]] = []
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Self:
        identity = ["id", "image", "status", "review", "problem"]
        self._open(DOCUMENTS, [*identity, *_columns(self._plain)])
        for table in self._tables:
            self._open(f"{table.key}.csv", ["id", "row", *_columns(table.columns)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Add the rows of a line."""
        fields, sure = line.get("fields", {}), line.get("confidence", {})
        identity = [line["id"], line["image"], line["status"], _cell(line.get("review", [])), line.get("problem", "")]
        self._writers[DOCUMENTS].writerow([*identity, *_cells(self._plain, fields, sure)])
        for table in self._tables:
            rows = fields.get(table.key)
            sure_rows = sure.get(table.key)
            for index, row in enumerate(rows if isinstance(rows, list) else []):
                sure_row = sure_rows[index] if isinstance(sure_rows, list) and index < len(sure_rows) else None
                cells = _cells(table.columns, row if isinstance(row, Mapping) else {}, sure_row or {})
                self._writers[f"{table.key}.csv"].writerow([line["id"], index, *cells])
        for file in self._files:
            file.flush()

    def _open(self, name: str, columns: Sequence[str]) -> None:
        file = (self._folder / name).open("w", encoding="utf-8", newline="")
        self._files.append(file)
        self._writers[name] = csv.writer(file)
        self._writers[name].writerow(columns)


def _columns(specs: Sequence[FieldSpec]) -> list[str]:
    return [name for spec in specs for name in (spec.key, f"{spec.key} (confidence)")]


def _cells(specs: Sequence[FieldSpec], values: Mapping[str, Any], sure: Mapping[str, Any]) -> list[str]:
    return [_cell(found.get(spec.key)) for spec in specs for found in (values, sure)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return _SEPARATOR.join(map(_cell, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
