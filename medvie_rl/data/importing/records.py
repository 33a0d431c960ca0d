"""What the readers of the formats give: documents as the source has them, before any schema is looked at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewards.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One document of a source.

    `fields` is None where nobody has annotated it. `loose` says that the format names its keys by what is printed and
    gives every value as a list or a text: names are matched by their words then, and lists of one are single values.
    """

    where: str  # file and line or place in it
    folder: Path  # `files` are relative to it and may not lie outside
    files: tuple[str, ...]
    fields: Mapping[str, Any] | None
    loose: bool = False
    joined: bool = False  # several texts of a key that holds one value are its lines
    id: str = ""
    document_type: str = ""
    schema: str = ""
    language: str = ""
    split: str = ""
    license: str = ""
    source: str = ""
    specialty: str = ""
    synthetic: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A part of the source that cannot be used, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was left out or taken in another way; counted in the report."""

    text: str
    num: int = 1


@dataclass(frozen=True, slots=True)
class Names:
    """The schemas of an import and the names that its mapping file gives (source name -> key)."""

    schemas: Mapping[str, Schema]
    mapping: Mapping[str, str] = field(default_factory=dict)

    def has_key(self, name: str) -> bool:
        """Whether any schema has a key of this name."""
        return any(name in schema.keys for schema in self.schemas.values())


Reader = Callable[[Path, Names], Iterator[Record | Rejection | Note]]


@dataclass(slots=True)
class ImportReport:
    """What came in, by split, and what was rejected, each with its file, line and the reason."""

    imported: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    ignored_keys: dict[str, int] = field(default_factory=dict)  # annotated, but not in the schema
    notes: dict[str, int] = field(default_factory=dict)  # what was converted or left out -> how often
    format: str = ""

    def note(self, text: str, num: int = 1) -> None:
        """Count one thing that was done."""
        shown = _printable(text)
        self.notes[shown] = self.notes.get(shown, 0) + num

    def reject(self, where: str, reason: str) -> None:
        """List one thing that is not imported."""
        self.rejected.append(_printable(f"{where}: {reason}"))


def _printable(text: str) -> str:
    """Names of files need not be Unicode; what is not is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
