"""Format `csv`: one row a document, or several rows that name the same file, which are the rows of its table.

The first line names the columns; commas, semicolons, tabs or bars separate them. A column `image`, `file`, `file_name`,
`filename` or `path` names the page file; `id`, `document_type`, `schema`, `language`, `specialty`, `split`, `license`
and `source` describe the document; every other column is a key. "medicines.dose" is the column `dose` of the table
`medicines`; the table's name may be left out where only one table has such a column. For a key that holds lists, the
values of several rows are its list. An empty cell says nothing; a document without any value goes to the pool.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvie_rl.data.importing.jsonl import TEXTS
from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.data.importing.texts import check_text, read_text
from medvie_rl.errors import UserError

_FILES = ("image", "file", "file_name", "filename", "path")
_Row = tuple[int, dict[str, str]]


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """The documents of a CSV file; raises UserError if there is none, or it has no column for the file."""
    path = _path(source)
    documents: dict[str, list[_Row]] = {}
    image = ""
    for number, row in _rows(path):
        if isinstance(row, Rejection):
            yield row
            continue
        image = image or _file_column(path, list(row))
        if row[image]:
            documents.setdefault(row[image], []).append((number, row))
        else:
            yield Rejection(f"{path}:{number}", f"column {image!r} is empty; it names the page file")
    targets: dict[str, str] = {}
    for name, rows in documents.items():
        where = f"{path}:{rows[0][0]}"
        try:
            targets = targets or {column: _target(column, names) for column in rows[0][1] if column != image}
            yield _record(where, path.parent, name, rows, targets, names)
        except ValueError as error:
            yield Rejection(where, str(error))


def _path(source: Path) -> Path:
    found = [source] if source.is_file() else sorted([*source.glob("*.csv"), *source.glob("*.tsv")])
    if len(found) != 1:
        raise UserError(f"{source}: expected one CSV file, found {[path.name for path in found] or 'none'}; name it")
    return found[0]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | Rejection]]:
    text = read_text(path)
    head = text.partition("\n")[0]
    try:
        check_text(head)
    except ValueError as error:
        raise UserError(f"{path}:1: {error}") from error
    delimiter = max(",;\t|", key=head.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = lines.line_num + 1
        try:
            cells = [cell.strip() for cell in next(lines)]
            if not header:
                header = _header(path, cells)
                continue
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise ValueError(f"it has {len(cells)} cells, the first line names {len(header)} columns")
            yield number, dict(zip(header, map(check_text, cells), strict=True))
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            if isinstance(error, UserError):
                raise
            yield number, Rejection(f"{path}:{number}", str(error))


def _header(path: Path, cells: list[str]) -> list[str]:
    twice = [name for name in cells if not name or cells.count(name) > 1]
    if twice:
        raise UserError(f"{path}:1: every column needs a name of its own, got {twice[0]!r}")
    _file_column(path, cells)
    return cells


def _file_column(path: Path, header: list[str]) -> str:
    for name in _FILES:
        if name in header:
            return name
    raise UserError(f"{path}:1: no column names the page file; call one {', '.join(_FILES)}; it has {header}")


def _target(column: str, names: Names) -> str:
    """The key, or "table.column", that a column's cells belong to; the column's own name if nothing is known."""
    name = names.mapping.get(column, column)
    schemas = names.schemas.values()
    if name in TEXTS or names.has_key(name):
        return name
    tables = {
        f"{spec.key}.{inner.key}"
        for schema in schemas
        for spec in schema.fields
        for inner in spec.columns
        if name in (inner.key, f"{spec.key}.{inner.key}")
    }
    return tables.pop() if len(tables) == 1 else name


def _record(where: str, folder: Path, name: str, rows: list[_Row], targets: dict[str, str], names: Names) -> Record:
    texts: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    tables: dict[str, list[dict[str, str]]] = {}
    for number, row in rows:
        inner: dict[str, dict[str, str]] = {}
        for column, target in targets.items():
            value = row[column]
            if not value:
                continue
            if target in TEXTS:
                if texts.setdefault(target, value) != value:
                    raise ValueError(f"{target!r} is {texts[target]!r} here and {value!r} in line {number}")
                if not names.has_key(target):  # an `id` may be both
                    continue
            if "." in target:
                table, _, cell = target.partition(".")
                inner.setdefault(table, {})[cell] = value
            elif value not in fields.setdefault(target, []):
                fields[target].append(value)
        for table, cells in inner.items():
            tables.setdefault(table, []).append(cells)
    annotation = {**fields, **tables}
    return Record(where=where, folder=folder, files=(name,), fields=annotation or None, loose=True, **texts)
