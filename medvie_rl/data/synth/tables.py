"""Sets tables: column widths from their texts, rules, stripes, sub-headings; the head returns on the next page."""

from collections.abc import Sequence

from medvie_rl.data.synth.blocks import TableBlock
from medvie_rl.data.synth.fonts import Face, text_width
from medvie_rl.data.synth.setting import Align, body_width, set_text, set_titled
from medvie_rl.data.synth.shapes import Area, Piece, Shape, moved
from medvie_rl.data.synth.style import Style

_SCALES = (1.0, 0.92, 0.85, 0.78, 0.72)  # of the font, until every word fits its column

_SHORT = 14  # characters; shorter cells, such as "2.5 mg", are broken only where nothing else helps


def set_table(block: TableBlock, style: Style, width: float) -> list[Piece]:
    """A table below its title. Raises ValueError for a row with more or fewer cells than there are columns."""
    for index, row in enumerate(block.rows):
        if len(row) != len(block.columns):
            raise ValueError(
                f"table {block.title or block.columns!r}: row {index} has {len(row)} cells, but there are "
                f"{len(block.columns)} columns; give an empty text for an empty cell"
            )
    inner = body_width(style, width, block.title)
    scale, least = _fitted(block, style, inner)
    widths = _widths(block, style, scale, least, inner)
    head = _head(block, style, scale, widths)
    pieces = [] if head is None else [head]
    for index, row in enumerate(block.rows):
        title = (block.group_titles or {}).get(index, "")
        if title.strip():
            pieces.append(_group(title, style, scale, inner, head))
        bold = [(index, column) in block.bold_cells for column in range(len(row))]
        pieces.append(_row(row, bold, block, style, scale, widths, index, head))
    if style.table == "horizontal" and pieces:
        pieces.append(Piece(height=2, shapes=(Area(0, 0, sum(widths), 1, fill=style.ink),)))
        pieces[-2] = _kept(pieces[-2])
    return set_titled(block.title, pieces, style, width)


def _pad(style: Style) -> float:
    return 0.22 * style.size if style.template == "receipt" else 0.42 * style.size


def _faces(style: Style, scale: float) -> tuple[Face, Face]:
    return style.face("plain", scale), style.face("bold", scale)


def _cells(block: TableBlock, column: int) -> list[str]:
    return [block.columns[column], *(row[column] for row in block.rows)]


def _fitted(block: TableBlock, style: Style, width: float) -> tuple[float, list[float]]:
    """The largest print in which the table fits, with its least widths: short cells unbroken, else words unbroken."""
    tries = [(scale, whole) for whole in (_SHORT, 0) for scale in _SCALES[: 3 if whole else None]]
    for scale, whole in tries:
        least = _narrowest(block, style, scale, whole)
        if sum(least) <= width:
            return scale, least
    return _SCALES[-1], _narrowest(block, style, _SCALES[-1], 0)


def _narrowest(block: TableBlock, style: Style, scale: float, whole: int) -> list[float]:
    """The width of each column whose longest word just fits; cells of up to `whole` characters count as one word."""
    return [
        max(
            (
                _width(word, style, scale)
                for cell in _cells(block, column)
                for word in ([cell] if len(cell) <= whole else cell.split())
            ),
            default=0.0,
        )
        + 2 * _pad(style)
        + 1
        for column in range(len(block.columns))
    ]


def _width(text: str, style: Style, scale: float) -> float:
    """The width of a text in the wider of the two weights: at small sizes digits may be wider in plain print."""
    return max(text_width(face, text) for face in _faces(style, scale))


def _widths(block: TableBlock, style: Style, scale: float, least: Sequence[float], width: float) -> list[float]:
    """Widths that add up to `width`: what each column needs, the rest shared by need."""
    natural = [
        max(low, max((_width(cell, style, scale) for cell in _cells(block, column)), default=0.0) + 2 * _pad(style) + 1)
        for column, low in enumerate(least)
    ]
    if sum(natural) <= width:
        spare = (width - sum(natural)) / sum(natural)
        return [part * (1 + spare) for part in natural]
    if sum(least) >= width:
        return [part * width / sum(least) for part in least]
    share = (width - sum(least)) / (sum(natural) - sum(least))
    return [low + (high - low) * share for low, high in zip(least, natural, strict=True)]


def _head(block: TableBlock, style: Style, scale: float, widths: Sequence[float]) -> Piece | None:
    if not any(name.strip() for name in block.columns):
        return None
    coloured = style.table == "zebra"
    fill = (255, 255, 255) if coloured else style.ink
    height, shapes = _set_cells(block.columns, [True] * len(widths), block, style, scale, widths, fill)
    frame: list[Shape] = []
    right = sum(widths)
    if style.table == "grid":
        frame = [Area(0, 0, right, height, fill=style.tint), *_grid(widths, height, style)]
    elif coloured:
        frame = [Area(0, 0, right, height, fill=style.accent)]
    elif style.table == "horizontal":
        frame = [Area(0, 0, right, 1, fill=style.ink), Area(0, height - 2, right, height - 1, fill=style.ink)]
    elif style.template == "receipt":
        frame = [Area(0, height - 1, right, height - 1, fill=style.ink)]
    return Piece(height=height, shapes=(*frame, *shapes), keep=True)


def _row(
    row: Sequence[str],
    bold: Sequence[bool],
    block: TableBlock,
    style: Style,
    scale: float,
    widths: Sequence[float],
    index: int,
    head: Piece | None,
) -> Piece:
    height, shapes = _set_cells(row, bold, block, style, scale, widths, style.ink)
    right, frame = sum(widths), list[Shape]()
    if style.table == "grid":
        frame = _grid(widths, height, style)
    elif style.table == "zebra" and index % 2:
        frame = [Area(0, 0, right, height, fill=style.tint)]
    elif style.table == "horizontal" and index:
        frame = [Area(0, 0, right, 0, fill=style.tint if style.colour else (205, 205, 205))]
    return Piece(height=height, shapes=(*frame, *shapes), repeat=head)


def _set_cells(
    cells: Sequence[str],
    bold: Sequence[bool],
    block: TableBlock,
    style: Style,
    scale: float,
    widths: Sequence[float],
    fill: tuple[int, int, int],
) -> tuple[float, list[Shape]]:
    pad, x, height = _pad(style), 0.0, 0.0
    faces, shapes = _faces(style, scale), list[Shape]()
    above = 1.0 if style.table == "none" else 0.2 * style.size
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        align: Align = "right" if column in block.numeric_columns else "left"
        tall, drawn = set_text(
            cell, faces[bold[column]], width - 2 * pad, style, x=x + pad, y=above, fill=fill, align=align
        )
        shapes += drawn
        height = max(height, tall)
        x += width
    return max(height, faces[0].size * style.leading) + 2 * above, shapes


def _grid(widths: Sequence[float], height: float, style: Style) -> list[Shape]:
    frames, x = list[Shape](), 0.0
    for width in widths:
        frames.append(Area(x, 0, x + width, height, outline=style.ink))
        x += width
    return frames


def _group(title: str, style: Style, scale: float, width: float, head: Piece | None) -> Piece:
    """A sub-heading inside a table."""
    pad = _pad(style)
    height, shapes = set_text(title, style.face("bold", scale), width - 2 * pad, style, x=pad, y=0.3 * style.size)
    height += 0.45 * style.size
    if style.table == "grid":
        shapes.insert(0, Area(0, 0, width, height, outline=style.ink))
    return Piece(height=height, shapes=tuple(shapes), keep=True, repeat=head)


def _kept(piece: Piece) -> Piece:
    shapes = tuple(moved(shape, 0, 0) for shape in piece.shapes)
    return Piece(height=piece.height, shapes=shapes, gap=piece.gap, keep=True, repeat=piece.repeat)
