"""Sets labelled values: behind, below or in a box with their labels, in one or more columns."""

import math
from collections.abc import Sequence

from medvie_rl.data.synth.blocks import Pair, Pairs
from medvie_rl.data.synth.fonts import Face, text_width
from medvie_rl.data.synth.setting import body_width, line_height, set_text, set_titled, value_colour, value_face
from medvie_rl.data.synth.shapes import Area, Dots, Piece, Shape, Text, moved
from medvie_rl.data.synth.style import Style


def set_pairs(block: Pairs, style: Style, width: float) -> list[Piece]:
    """Labelled values in the style's manner, as many in a row as fit."""
    inner = body_width(style, width, block.title)
    pad = 18.0 if style.panel and style.pairs != "boxed" else 0.0
    columns = 1 if style.pairs == "inline" and style.pair_columns == 1 else style.pair_columns
    while columns > 1 and (inner - 2 * pad) / columns < 13 * style.size:
        columns -= 1
    rows = _rows(block.pairs, style, (inner - 2 * pad) / columns, columns)
    alone = all(len(row) == 1 for row in rows)
    label_width = _label_width(block.pairs, style, (inner - 2 * pad) / (1 if alone else columns))
    pieces = [_pair_row(row, style, inner - 2 * pad, columns, label_width) for row in rows]
    if pad and pieces:
        pieces = [_panelled(pieces, style, inner, pad)]
    return set_titled(block.title, pieces, style, width)


def _rows(pairs: Sequence[Pair], style: Style, width: float, columns: int) -> list[list[Pair]]:
    """Fill rows with pairs; one that needs more than its column has a row of its own."""
    rows: list[list[Pair]] = []
    wide = True
    for pair in pairs:
        taken = text_width(value_face(style, pair.emphasis), pair.value.replace("\n", " "))
        if style.pairs in ("inline", "aligned", "dotted"):
            taken += text_width(style.face("bold"), pair.label)
        is_wide = taken > 1.5 * width
        if is_wide or wide or len(rows[-1]) == columns:
            rows.append([])
        rows[-1].append(pair)
        wide = is_wide
    return rows


def _label_width(pairs: Sequence[Pair], style: Style, width: float) -> float:
    labels, face, pad = [_label(pair, style) for pair in pairs], _label_face(style), 0.8 * style.size
    whole = max((text_width(face, label) for label in labels), default=0.0) + pad
    word = max((text_width(face, word) for label in labels for word in label.split()), default=0.0) + pad
    return min(whole, max(0.48 * width, min(word, 0.7 * width)))


def _label(pair: Pair, style: Style) -> str:
    plain = style.pairs in ("stacked", "boxed") or not pair.label or pair.label.rstrip()[-1:] in ":?.#=)"
    return pair.label if plain else f"{pair.label}:"


def _label_face(style: Style) -> Face:
    if style.pairs in ("stacked", "boxed"):
        return style.face("plain", 0.76)
    return style.face("bold" if style.bold_labels else "plain")


def _pair_row(row: Sequence[Pair], style: Style, width: float, columns: int, label_width: float) -> Piece:
    """Pairs side by side; a row of one pair takes the whole width."""
    cell = width / columns if len(row) > 1 else width
    setters = {"inline": _inline, "aligned": _aligned, "dotted": _dotted}
    boxed = style.pairs == "boxed"
    pad = 10.0 if boxed else 0.0
    height, shapes, edges = 0.0, list[Shape](), []
    for number, pair in enumerate(row):
        left = number * cell
        room = (width - left if boxed and number == len(row) - 1 else cell) - (2 * pad if boxed else 0.8 * style.size)
        setter = setters.get(style.pairs, _stacked)
        tall, drawn = setter(pair, style, room, label_width)
        shapes += [moved(shape, left + pad, 5 if boxed else 0) for shape in drawn]
        height = max(height, tall + (9 if boxed else 0))
        edges.append(left)
    if boxed:
        ends = [*edges[1:], width]
        frames = [Area(left, 0, right, height, outline=style.soft) for left, right in zip(edges, ends, strict=True)]
        return Piece(height=height, shapes=(*frames, *shapes))
    return Piece(height=height, shapes=tuple(shapes), gap=style.line * (0.25 if style.pairs == "stacked" else 0.06))


def _inline(pair: Pair, style: Style, width: float, label_width: float) -> tuple[float, list[Shape]]:
    """The value right behind its label; continued lines start under the value."""
    face = value_face(style, pair.emphasis)
    if not pair.label:
        return set_text(pair.value, face, width, style, fill=value_colour(style, pair.emphasis))
    left = text_width(_label_face(style), _label(pair, style)) + 0.45 * style.size
    return _labelled(pair, style, width, left if left < 0.6 * width else label_width)


def _aligned(pair: Pair, style: Style, width: float, label_width: float) -> tuple[float, list[Shape]]:
    """Labels in one column, values in the next."""
    if not pair.label:
        return set_text(
            pair.value, value_face(style, pair.emphasis), width, style, fill=value_colour(style, pair.emphasis)
        )
    return _labelled(pair, style, width, label_width)


def _labelled(pair: Pair, style: Style, width: float, left: float) -> tuple[float, list[Shape]]:
    tall, label = set_text(_label(pair, style), _label_face(style), left - 0.3 * style.size, style)
    height, value = set_text(
        pair.value,
        value_face(style, pair.emphasis),
        width - left,
        style,
        x=left,
        fill=value_colour(style, pair.emphasis),
    )
    if pair.emphasis == "handwritten":
        label = [
            moved(shape, 0, (line_height(style, value_face(style, "handwritten")) - style.line) / 2) for shape in label
        ]
        tall += 2
    return max(tall, height), [*label, *value]


def _dotted(pair: Pair, style: Style, width: float, label_width: float) -> tuple[float, list[Shape]]:
    """The value on a dotted line, as in a form to fill in."""
    height, shapes = _inline(pair, style, width, label_width)
    baselines = sorted({math.ceil(shape.y) for shape in shapes if isinstance(shape, Text)})
    label = text_width(_label_face(style), _label(pair, style)) + 0.45 * style.size if pair.label else 0.0
    left = label if label < 0.6 * width else label_width
    shapes += [Dots(left, width, baseline + 6, style.soft) for baseline in baselines[-1:]]
    return height + 6, shapes


def _stacked(pair: Pair, style: Style, width: float, label_width: float) -> tuple[float, list[Shape]]:
    """A small label above its value."""
    tall, shapes = set_text(pair.label, _label_face(style), width, style, fill=style.soft) if pair.label else (0.0, [])
    face, fill = value_face(style, pair.emphasis), value_colour(style, pair.emphasis)
    tall += 4 if pair.emphasis == "handwritten" and pair.label else 0
    height, value = set_text(pair.value, face, width, style, y=tall, fill=fill)
    return tall + height, [*shapes, *value]


def _panelled(pieces: Sequence[Piece], style: Style, width: float, pad: float) -> Piece:
    shapes, y = list[Shape](), pad * 0.7
    for number, piece in enumerate(pieces):
        y += piece.gap if number else 0.0
        shapes += [moved(shape, pad, y) for shape in piece.shapes]
        y += piece.height
    y += pad * 0.7
    return Piece(height=y, shapes=(Area(0, 0, width, y, fill=style.tint, radius=6), *shapes), gap=style.line * 0.4)
