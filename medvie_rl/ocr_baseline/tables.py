"""Finds the rows of a schema's table on pages: under a header, in numbered blocks, or as lines that end in numbers."""

import re
from collections.abc import Iterator, Mapping, Sequence

from medvie_rl.data.reading_order import Box
from medvie_rl.ocr_baseline.labels import find_labels, similarity
from medvie_rl.ocr_baseline.page import NUMBERED, Cell, Page
from medvie_rl.ocr_baseline.values import find_value
from rewards.schema import FieldSpec

_MIN_HEADERS = 2
_MIN_WORTH = 0.75  # of a header's cell
_MAX_ROW_GAP = 4.0  # heights between two rows of one table
_MEASURED = ("number", "quantity")
_AMOUNT = re.compile(r"^\W*(?:[A-Z]{2,3}\s?)?[$€£]?\s?-?\d[\d.,]*\s?[A-Z]?$")

Row = dict[str, "str | bool | list[str | bool]"]


def find_rows(table: FieldSpec, pages: Sequence[Page], used: set[Cell]) -> list[Row]:
    """The rows of a table, none where nothing on the pages looks like it; their cells become `used`."""
    for find in (_under_header, _numbered_blocks, _lines_with_amounts):
        rows = [row for page in pages for row in find(table, page, used)]
        if rows:
            return rows
    return []


def _under_header(table: FieldSpec, page: Page, used: set[Cell]) -> Iterator[Row]:
    headers = [(row, _headers(table, row)) for row in page.rows]
    if not headers:
        return
    header, names = max(headers, key=lambda each: len(each[1]))
    if len(names) < _MIN_HEADERS:
        return
    used.update(header)
    places = [(cell, names.get(cell)) for cell in header]
    previous, last = header[0].line.box, None
    for row in page.rows[header[0].row + 1 :]:
        if _ends_table(row, previous):
            break
        previous = row[0].line.box
        texts = _by_column(row, places)
        values = _read(table, texts)
        if len(row) == 1 and row[0].begins_with_label:  # a remark, not a part of a row
            continue
        used.update(row)
        if last is not None and len(texts) == 1 and _goes_on(texts, last):
            continue
        if len(values) >= min(2, len(table.columns)):
            if last is not None:
                yield last
            last = values
    if last is not None:
        yield last


def _headers(table: FieldSpec, row: Sequence[Cell]) -> dict[Cell, FieldSpec]:
    """The cells of a row that are headers, each with its column: the likeliest pair first."""
    pairs = sorted(
        ((similarity(cell.text, column), number, cell, column)
         for number, cell in enumerate(row) for column in table.columns),
        key=lambda pair: (-pair[0], pair[1]),
    )  # fmt: skip
    found: dict[Cell, FieldSpec] = {}
    for worth, _, cell, column in pairs:
        if worth >= _MIN_WORTH and cell not in found and column not in found.values():
            found[cell] = column
    return found


def _ends_table(row: Sequence[Cell], previous: Box) -> bool:
    height = previous.y1 - previous.y0
    is_far = row[0].line.box.y0 - previous.y1 > _MAX_ROW_GAP * height
    return is_far or any(label.worth for cell in row for label in cell.labels[:1] if cell.begins_with_label)


def _by_column(row: Sequence[Cell], places: Sequence[tuple[Cell, FieldSpec | None]]) -> dict[FieldSpec | None, str]:
    """The text of each column: a cell belongs to the header that it shares most of its width with, else the nearest."""
    texts: dict[FieldSpec | None, list[str]] = {}
    for cell in row:
        _, column = max(places, key=lambda place: _closeness(cell.line.box, place[0].line.box))
        texts.setdefault(column, []).append(cell.text)
    return {column: " ".join(parts) for column, parts in texts.items()}


def _closeness(box: Box, header: Box) -> float:
    common = min(box.x1, header.x1) - max(box.x0, header.x0)
    return common if common > 0 else -min(abs(box.x0 - header.x0), abs(box.x1 - header.x1))


def _goes_on(texts: Mapping[FieldSpec | None, str], row: Row) -> bool:
    """Add a line that has words of one column only to the row above; False where it has none there."""
    ((column, text),) = texts.items()
    if column is None or column.kind not in ("text", "free_text") or not isinstance(row.get(column.key), str):
        return False
    row[column.key] = f"{row[column.key]} {text.strip()}"
    return True


def _read(table: FieldSpec, texts: Mapping[FieldSpec | None, str]) -> Row:
    row: Row = {}
    for column in table.columns:
        found = find_value(column, texts.get(column, ""))
        if found is not None:
            row[column.key] = [found.value] if column.many else found.value
    return row


def _numbered_blocks(table: FieldSpec, page: Page, used: set[Cell]) -> Iterator[Row]:
    """Blocks that begin with "1)", "2." and so on, the first of them with the row's name."""
    starts = [cell for cell in page.cells if NUMBERED.match(cell.text) and not cell.begins_with_label]
    name = next((column for column in table.columns if column.kind == "text"), None)
    if len(starts) < 2 or name is None:
        return
    ends = [*(cell.row for cell in starts[1:]), starts[-1].row + (starts[-1].row - starts[-2].row)]
    for start, end in zip(starts, ends, strict=True):
        block = [cell for row in page.rows[start.row : max(end, start.row + 1)] for cell in row]
        title = NUMBERED.sub("", start.text).strip()
        row = _read(table, {name: title})
        for column in table.columns:
            if column is name:
                continue
            behind = [text for cell in block for text in _behind_labels(column, table, cell)]
            texts = [*behind, *([title] if column.kind == "quantity" and not behind else [])]
            found = [value.value for text in texts if (value := find_value(column, text))]
            if found:
                row[column.key] = found if column.many else found[0]
        used.update(block)
        yield row


def _behind_labels(column: FieldSpec, table: FieldSpec, cell: Cell) -> Iterator[str]:
    """What stands behind the labels in a cell that are of this column rather than of another one."""
    labels = find_labels(cell.text, table.columns)
    for index, label in enumerate(labels):
        end = labels[index + 1].start if index + 1 < len(labels) else len(cell.text)
        if label.worth and max(label.worth, key=lambda key: label.worth[key]) == column.key:
            yield cell.text[label.end : end]


def _lines_with_amounts(table: FieldSpec, page: Page, used: set[Cell]) -> Iterator[Row]:
    """At least two lines of words with numbers behind them, the numbers in the order of the columns."""
    measured = [column for column in table.columns if column.kind in _MEASURED]
    name = next((column for column in table.columns if column.kind == "text"), None)
    if name is None or not measured:
        return
    rows = [row for row in page.rows if _is_item(row) and not used.intersection(row)]
    if len(rows) < 2:
        return
    for row in rows:
        amounts = [cell.text for cell in row[1:] if _AMOUNT.match(cell.text.strip())]
        columns = [*measured[: len(amounts) - 1], measured[-1]] if len(amounts) < len(measured) else measured
        used.update(row)
        texts: dict[FieldSpec | None, str] = {name: row[0].text, **dict(zip(columns, amounts, strict=False))}
        yield _read(table, texts)


def _is_item(row: Sequence[Cell]) -> bool:
    has_name = bool(re.search(r"[^\W\d_]{3}", row[0].text)) and not any(cell.begins_with_label for cell in row)
    return len(row) > 1 and has_name and bool(_AMOUNT.match(row[-1].text.strip()))
