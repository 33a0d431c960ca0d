"""Rows of a table as lines of text that people can edit: "name: Amoxicillin | dose: 500 mg".

Cells are separated by " | "; a column comes again for each value of a list. A bar or a backslash inside a value has a
backslash before it, and a line break is written as "\\n".
"""

import re
from collections.abc import Mapping
from typing import Any

from rewards.schema import FieldSpec

_ESCAPED = re.compile(r"\\(.)")


def format_row(row: Mapping[str, Any]) -> str:
    """One row as a line; cells without a value are left out."""
    cells = []
    for column, value in row.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                cells.append(f"{column}: {_escaped(format_value(item))}")
    return " | ".join(cells)


def format_value(value: Any) -> str:
    """A scalar as people write it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def parse_row(table: FieldSpec, line: str) -> dict[str, Any]:
    """The row that a line holds; raises ValueError for a cell that names no column of `table`."""
    columns = {column.key: column for column in table.columns}
    row: dict[str, Any] = {}
    for cell in _cells(line):
        name = next((key for key in sorted(columns, key=len, reverse=True) if cell.startswith(f"{key}:")), "")
        if not name:
            raise ValueError(
                f"{table.key}: {cell!r} in {line!r} names no column; expected "
                f"'{' | '.join(f'{key}: value' for key in columns)}'"
            )
        value = _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], cell[len(name) + 1 :].strip())
        if columns[name].many:
            row.setdefault(name, []).append(value)
        elif name in row:
            raise ValueError(f"{table.key}: column {name!r} is given twice in {line!r}; it holds one value")
        else:
            row[name] = value
    return row


def _cells(line: str) -> list[str]:
    cells, current, index = [], "", 0
    while index < len(line):
        if line[index] == "\\" and index + 1 < len(line):
            current += line[index : index + 2]
            index += 2
        elif line[index] == "|":
            cells.append(current)
            current = ""
            index += 1
        else:
            current += line[index]
            index += 1
    return [cell.strip() for cell in [*cells, current] if cell.strip()]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "\\n")
