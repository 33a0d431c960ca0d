"""A table as plain texts, which terminal, Markdown and HTML show in their own ways."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewards.resampling import Interval

NOTHING = "–"
_STYLES = {"up": "green", "down": "red"}


class Cell(NamedTuple):
    """A text of a table; `change` is up or down for a difference whose interval leaves out 0."""

    text: str
    change: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: the first column names the row. `note` is how to read it; `is_detail`: the terminal leaves it out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_detail: bool = False


def with_interval(value: float, interval: Interval, sign: str = "-") -> str:
    """A number with its interval; `sign` is + for differences."""
    low, high = (_number(end, "-") for end in interval)
    return f"{_number(value, sign)} [{low}, {high}]"


def change_of(interval: Interval) -> str:
    """Which way a difference with this interval goes, empty where it may go either."""
    return "up" if interval[0] > 0 else "down" if interval[1] < 0 else ""


def print_sheet(console: Console, sheet: Sheet) -> None:
    """Show a table at a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, column in enumerate(sheet.columns):
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(cell.text, style=_STYLES.get(cell.change, "")) for cell in row))
    console.print()
    console.print(Text(sheet.title, style="bold"))
    console.print(table)
    if sheet.note:
        console.print(Text(sheet.note, style="dim"))


def sheets_in_markdown(sheets: Sequence[Sheet]) -> list[str]:
    """The parts of a Markdown text, blank lines to be put between them: title, table and note of every sheet."""
    parts = []
    for sheet in sheets:
        table = [sheet.columns, ["---", *("---:" for _ in sheet.columns[1:])]]
        table += [[_escaped(cell.text) for cell in row] for row in sheet.rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
        parts += [f"## {sheet.title[:1].upper()}{sheet.title[1:]}", lines, *([sheet.note] if sheet.note else [])]
    return parts


def _number(value: float, sign: str) -> str:
    return NOTHING if math.isnan(value) else f"{round(value, 3) + 0.0:{sign}.3f}"  # no -0.000


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "|*_`<" else sign for sign in text).replace("\n", " ")
