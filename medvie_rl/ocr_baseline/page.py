"""The recognised lines of a page as cells that know what stands right of them and below."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from medvie_rl.data.ocr import OcrLine
from medvie_rl.data.reading_order import rows_of
from medvie_rl.ocr_baseline.labels import Label, find_labels
from rewards.schema import FieldSpec

NUMBERED = re.compile(r"^\(?\d{1,2} ?[.)]\s*(?=[^\W\d_])")  # what an item of a numbered list begins with
_MAX_GAP = 2.5  # heights of a line between a label and a value below it
_MAX_LINE_GAP = 1.1  # between the lines of one paragraph
_MAX_INDENT = 0.05  # of the page's width, between their left ends
_ALIGNED = 0.01  # of the page's width: the same left end
_FULL = 0.75  # of the widest line: a shorter one ends a paragraph of a short text


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A recognised line with the labels in it, and where it stands among the rows of its page."""

    line: OcrLine
    labels: tuple[Label, ...]
    row: int

    @property
    def text(self) -> str:
        return self.line.text

    @property
    def begins_with_label(self) -> bool:
        """Whether a label of some key, or what looks like one, is the first in the cell."""
        return bool(self.labels) and not self.text[: self.labels[0].start].strip()


class Page:
    """The cells of one page, row by row."""

    def __init__(self, lines: Sequence[OcrLine], specs: Sequence[FieldSpec]) -> None:
        rows = rows_of([line.box for line in lines])
        self.rows = [
            [Cell(lines[index], tuple(find_labels(lines[index].text, specs)), number) for index in row]
            for number, row in enumerate(rows)
        ]
        self.cells = [cell for row in self.rows for cell in row]
        self._height = median(cell.line.box.y1 - cell.line.box.y0 for cell in self.cells) if self.cells else 0.0
        self._right = max((cell.line.box.x1 for cell in self.cells), default=1.0)

    def right_of(self, cell: Cell) -> Cell | None:
        """The next cell of the row, if no other label stands there."""
        end = cell.line.box.x1 - self._height / 2
        behind = [other for other in self.rows[cell.row] if other is not cell and other.line.box.x0 >= end]
        nearest = min(behind, key=lambda other: other.line.box.x0, default=None)
        return None if nearest is None or nearest.begins_with_label else nearest

    def below(self, cell: Cell, max_gap: float = _MAX_GAP) -> Cell | None:
        """The nearest cell under this one, if no other label stands there."""
        box = cell.line.box
        under = [
            other
            for row in self.rows[cell.row + 1 :]
            for other in row
            if other.line.box.x0 < box.x1 and other.line.box.x1 > box.x0
        ]
        nearest = min(under, key=lambda other: other.line.box.y0, default=None)
        if nearest is None or nearest.begins_with_label:
            return None
        return nearest if nearest.line.box.y0 - box.y1 <= max_gap * self._height else None

    def is_stacked(self, cell: Cell) -> bool:
        """Whether values stand below labels here: this cell and the one right of it both have a cell at their left end
        close below."""
        return all(each is not None and self._has_foot(each) for each in (cell, self.right_of(cell)))

    def _has_foot(self, cell: Cell) -> bool:
        foot = self.below(cell, _MAX_LINE_GAP)
        return foot is not None and abs(foot.line.box.x0 - cell.line.box.x0) < _ALIGNED

    def paragraph(self, first: Cell, *, is_long: bool) -> list[Cell]:
        """The cell with the lines that go on below it; of a text that is not long only behind a full line."""
        lines = [first]
        while is_long or lines[-1].line.box.x1 >= _FULL * self._right:
            following = self.below(lines[-1], _MAX_LINE_GAP)
            if following is None or abs(following.line.box.x0 - first.line.box.x0) > _MAX_INDENT:
                break
            lines.append(following)
        return lines
