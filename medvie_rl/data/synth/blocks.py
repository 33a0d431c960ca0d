"""What a synthetic document says, before it is drawn: blocks of text and tables, with the annotation they imply.

A kind of document (`kinds/`) composes a `Content` from a random generator; `layout.py` decides how it looks.
Every value of the annotation is printed in some block exactly as annotated, up to what the schema's kinds fold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Emphasis = Literal["plain", "bold", "handwritten"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """The name of the document, once, large."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A label and a value beside or below it; `label` may be empty."""

    label: str
    value: str
    emphasis: Emphasis = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Labelled values that belong together, in one or two columns as the layout likes; `title` may be empty."""

    pairs: tuple[Pair, ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Running text below a heading; `title` may be empty. It is broken into lines by the layout."""

    title: str
    text: str
    emphasis: Emphasis = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A numbered or bulleted list below a heading."""

    title: str
    items: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBlock:
    """A table; `group_titles` maps a row index to a sub-heading printed above that row. Empty cells are empty texts.

    `bold_cells` are (row, column) that the document prints bold, such as values out of range.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    group_titles: Mapping[int, str] | None = None
    bold_cells: frozenset[tuple[int, int]] = frozenset()
    numeric_columns: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A name with a line or a scribble above it."""

    name: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Words of a stamp, which may lie over other text."""

    lines: tuple[str, ...]


Block = Title | Pairs | Paragraph | Items | TableBlock | Signature | Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """Who issued the document: an institution with address and contact lines."""

    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A document before it is drawn. `annotation` is the exact ground truth under the schema `schema`."""

    kind: str
    document_type: str
    specialty: str
    language: str  # ISO 639-1
    schema: str
    letterhead: Letterhead | None
    blocks: tuple[Block, ...]
    annotation: Mapping[str, Any]
    footer: str = ""
    narrow: bool = False  # a till receipt, not a page
