"""Sets texts, headings, paragraphs and lists into pieces of a given width."""

import unicodedata
from collections.abc import Sequence
from typing import Literal

from medvie_rl.data.synth.blocks import Emphasis, Items, Paragraph
from medvie_rl.data.synth.fonts import Face, text_width
from medvie_rl.data.synth.shapes import Area, Colour, Piece, Shape, Text, moved
from medvie_rl.data.synth.style import Style

Align = Literal["left", "centre", "right"]
PEN: Colour = (28, 44, 122)  # the blue of handwriting
_HAND_LINE = 1.12  # handwriting needs taller lines


def wrap(text: str, face: Face, width: float) -> list[str]:
    """Break a text at its blanks into lines of at most `width` pixels; a longer word is broken where it must."""
    lines: list[str] = []
    for part in unicodedata.normalize("NFC", text).split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}" if line else word
            if text_width(face, longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            while text_width(face, word) > width and len(word) > 1:
                count = _num_fitting(word, face, width)
                lines.append(word[:count])
                word = word[count:]
            line = word
        if line:
            lines.append(line)
    return lines


def _num_fitting(word: str, face: Face, width: float) -> int:
    count = len(word) - 1
    while count > 1 and text_width(face, word[:count]) > width:
        count -= 1
    # A code such as "2024/118-3" breaks behind its sign, as a typist would.
    behind = max((word[:count].rfind(sign) + 1 for sign in "-/,;"), default=0)
    return behind if behind > count // 2 else count


def line_height(style: Style, face: Face) -> int:
    """Height of a line of `face` in this style."""
    if face.weight == "handwritten":
        return round(face.size * style.leading * _HAND_LINE)
    return round(face.size * style.leading)


def set_text(
    text: str,
    face: Face,
    width: float,
    style: Style,
    *,
    x: float = 0.0,
    y: float = 0.0,
    fill: Colour | None = None,
    align: Align = "left",
    justify: bool = False,
) -> tuple[float, list[Shape]]:
    """Height and shapes of a wrapped text whose first line starts at (`x`, `y`)."""
    height = line_height(style, face)
    shapes: list[Shape] = []
    lines = wrap(text, face, width)
    for number, line in enumerate(lines):
        room = width - text_width(face, line)
        left = x + {"left": 0.0, "centre": room / 2, "right": room}[align]
        blanks = line.count(" ")
        gap = room / blanks if justify and blanks and number < len(lines) - 1 and room < width * 0.15 else 0.0
        baseline = y + number * height + height / 2 + 0.35 * face.size
        shapes.append(Text(left, baseline, line, face, fill or style.ink, text, gap))
    return height * len(lines), shapes


def value_face(style: Style, emphasis: Emphasis, scale: float = 1.0) -> Face:
    """The font of a value."""
    return style.face(emphasis, scale)


def value_colour(style: Style, emphasis: Emphasis) -> Colour:
    """Handwriting is blue, print has the ink of the document."""
    return PEN if emphasis == "handwritten" else style.ink


def heading(text: str, style: Style, width: float) -> list[Piece]:
    """The heading of a block as the style has it, kept with what follows; nothing for an empty text."""
    if not text.strip():
        return []
    kind = style.heading
    coloured = kind in ("accent", "margin")
    face = style.face("bold" if kind != "underlined" else "plain", 1.06 if kind == "accent" else 1.0)
    shown = text.upper() if kind == "caps" else text
    pad = 10.0 if kind == "band" else 0.0
    height, shapes = set_text(
        shown, face, width - 2 * pad, style, x=pad, y=pad / 2, fill=style.accent if coloured else None
    )
    height += pad
    if kind == "band":
        shapes.insert(0, Area(0, 0, width, height, fill=style.tint, outline=style.soft))
    elif kind == "underlined":
        shapes += [
            Area(shape.x, shape.y + 4, shape.x + text_width(face, shape.text), shape.y + 5, fill=style.ink)
            for shape in shapes
            if isinstance(shape, Text)
        ]
    elif kind == "accent":
        shapes.append(Area(0, height + 1, width, height + 2, fill=style.accent))
        height += 8
    return [Piece(height=height + (4 if kind == "band" else 0), shapes=tuple(shapes), gap=style.line * 0.7, keep=True)]


def set_titled(title: str, body: Sequence[Piece], style: Style, width: float) -> list[Piece]:
    """A heading above its body, or beside it where the style has a margin for headings."""
    pieces = list(body)
    if not pieces:
        return heading(title, style, width)
    if style.heading != "margin" or not style.indent:
        above = heading(title, style, width)
        first = pieces[0]
        gap = style.line * (0.18 if above else 0.7)
        return [*above, _with_gap(first, gap), *pieces[1:]]
    height, shapes = set_text(title, style.face("bold"), style.indent - 28, style, fill=style.accent)
    pieces = [_shifted(piece, style.indent) for piece in pieces]
    while len(pieces) > 1 and pieces[0].height < height:  # a tall heading must not reach the next block
        pieces[:2] = [_joined(pieces[0], pieces[1])]
    first = pieces[0]
    pieces[0] = Piece(
        height=max(first.height, height),
        shapes=(*shapes, *first.shapes),
        gap=style.line * 0.7,
        keep=first.keep,
        repeat=first.repeat,
    )
    return pieces


def body_width(style: Style, width: float, title: str) -> float:
    """The width that is left for a block beside its heading."""
    return width - style.indent if style.heading == "margin" else width


def set_paragraph(block: Paragraph, style: Style, width: float) -> list[Piece]:
    """Running text, line by line so that it may continue on the next page."""
    inner = body_width(style, width, block.title)
    face, fill = value_face(style, block.emphasis), value_colour(style, block.emphasis)
    pieces: list[Piece] = []
    for part in block.text.split("\n"):
        if not part.strip():
            continue
        pieces += _lines(part, face, inner, style, fill=fill, gap=style.line * 0.3 if pieces else 0.0)
    return set_titled(block.title, pieces, style, width)


def set_items(block: Items, style: Style, width: float) -> list[Piece]:
    """A list with hanging numbers or bullets."""
    inner = body_width(style, width, block.title)
    marks = [f"{number}." if block.numbered else style.bullet for number in range(1, len(block.items) + 1)]
    face = style.face()
    hang = max((text_width(face, mark) for mark in marks), default=0) + 0.55 * style.size
    left = 0.4 * style.size
    pieces: list[Piece] = []
    for mark, item in zip(marks, block.items, strict=True):
        lines = _lines(item, face, inner - hang - left, style, x=hang + left, gap=style.line * 0.12)
        if lines:
            _, shapes = set_text(mark, face, inner, style, x=left)
            first = lines[0]
            lines[0] = Piece(height=first.height, shapes=(*shapes, *first.shapes), gap=first.gap, keep=first.keep)
        pieces += lines
    return set_titled(block.title, pieces, style, width)


def _lines(
    text: str, face: Face, width: float, style: Style, *, x: float = 0.0, fill: Colour | None = None, gap: float = 0.0
) -> list[Piece]:
    """One piece a line; two lines stay together at either end."""
    justify = style.justify and face.weight != "handwritten"
    _, shapes = set_text(text, face, width, style, x=x, fill=fill, justify=justify)
    height = line_height(style, face)
    count = len(shapes)
    return [
        Piece(
            height=height,
            shapes=(moved(shape, 0, -number * height),),
            gap=gap if number == 0 else 0.0,
            keep=number < count - 1 and number in (0, count - 2),
        )
        for number, shape in enumerate(shapes)
    ]


def _with_gap(piece: Piece, gap: float) -> Piece:
    return Piece(height=piece.height, shapes=piece.shapes, gap=gap, keep=piece.keep, repeat=piece.repeat)


def _shifted(piece: Piece, dx: float) -> Piece:
    return Piece(
        height=piece.height,
        shapes=tuple(moved(shape, dx, 0) for shape in piece.shapes),
        gap=piece.gap,
        keep=piece.keep,
        repeat=None if piece.repeat is None else _shifted(piece.repeat, dx),
    )


def _joined(first: Piece, second: Piece) -> Piece:
    down = first.height + second.gap
    shapes = (*first.shapes, *(moved(shape, 0, down) for shape in second.shapes))
    return Piece(height=down + second.height, shapes=shapes, gap=first.gap, keep=second.keep, repeat=first.repeat)
