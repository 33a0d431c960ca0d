"""Puts the text boxes of a page into the order in which a person reads them.

Rows from top to bottom, and within a row from left to right: that keeps the cells of a table's row, and a label with
its value, together. Only running text in columns is read column by column: a gutter that no line crosses, with lines on
both sides that fill their column's width, as the cells of a table seldom do.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

_SAME_ROW = 0.5  # share of the lower box's height that two boxes of one row have in common
_MIN_COLUMN_LINES = 4
_MIN_COLUMN_WIDTH = 0.2  # of the page
_MIN_GUTTER = 0.012  # of the page's width
_FILLED = 0.75  # median width of the lines of running text, as a share of their column


class Box(NamedTuple):
    """A rectangle in shares of the page: (0, 0) is its top left corner, (1, 1) its bottom right one."""

    x0: float
    y0: float
    x1: float
    y1: float


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """The indices of `boxes` in reading order."""
    order: list[int] = []
    for block in _blocks(boxes):
        columns = _columns([boxes[index] for index in block])
        if columns is None:
            order += [index for row in rows_of(boxes, block) for index in row]
            continue
        for column in columns:
            members = [block[position] for position in column]
            order += [index for row in rows_of(boxes, members) for index in row]
    return order


def rows_of(boxes: Sequence[Box], indices: Sequence[int] | None = None) -> list[list[int]]:
    """The indices grouped into rows of boxes beside each other, top to bottom, each from left to right."""
    chosen = range(len(boxes)) if indices is None else indices
    rows: list[list[int]] = []
    for index in sorted(chosen, key=lambda item: (boxes[item].y0 + boxes[item].y1, boxes[item].x0, item)):
        # the row above may be lower than the one before it where boxes differ in height: look at both
        row = next((row for row in reversed(rows[-2:]) if _is_beside(boxes[index], boxes[row[0]])), None)
        if row is None:
            rows.append([index])
        else:
            row.append(index)
    return [sorted(row, key=lambda item: (boxes[item].x0, item)) for row in rows]


def _is_beside(one: Box, other: Box) -> bool:
    common = min(one.y1, other.y1) - max(one.y0, other.y0)
    lower = min(one.y1 - one.y0, other.y1 - other.y0)
    return common > _SAME_ROW * lower


def _blocks(boxes: Sequence[Box]) -> list[list[int]]:
    """Runs of rows that share one layout: a row that spans what follows or precedes it is a block by itself."""
    blocks: list[list[int]] = []
    was_wide = True
    for row in rows_of(boxes):
        is_wide = len(row) == 1 and boxes[row[0]].x0 < 0.5 - _MIN_GUTTER and boxes[row[0]].x1 > 0.5 + _MIN_GUTTER
        if was_wide != is_wide or not blocks:
            blocks.append([])
        blocks[-1] += row
        was_wide = is_wide
    return blocks


def _columns(boxes: Sequence[Box]) -> list[list[int]] | None:
    """The two columns of running text in a block, as positions in `boxes`; None where there are none."""
    if len(boxes) < 2 * _MIN_COLUMN_LINES:
        return None
    for gutter in _gutters(boxes):
        left = [position for position, box in enumerate(boxes) if box.x1 <= gutter]
        right = [position for position, box in enumerate(boxes) if box.x0 >= gutter]
        if _is_running_text([boxes[item] for item in left]) and _is_running_text([boxes[item] for item in right]):
            return [left, right]
    return None


def _gutters(boxes: Sequence[Box]) -> list[float]:
    """The middles of the vertical strips that no box crosses, the widest first."""
    gaps = []
    reached = None
    for box in sorted(boxes):
        if reached is not None and box.x0 - reached >= _MIN_GUTTER:
            gaps.append((reached - box.x0, (reached + box.x0) / 2))
        reached = box.x1 if reached is None else max(reached, box.x1)
    return [middle for _, middle in sorted(gaps)]


def _is_running_text(boxes: Sequence[Box]) -> bool:
    if len(boxes) < _MIN_COLUMN_LINES:
        return False
    width = max(box.x1 for box in boxes) - min(box.x0 for box in boxes)
    return width >= _MIN_COLUMN_WIDTH and median(box.x1 - box.x0 for box in boxes) >= _FILLED * width
