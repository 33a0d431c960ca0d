"""Sets what surrounds the text of a document: letterhead, title, ornaments, signatures and the foot of a page."""

import random
from collections.abc import Sequence

from medvie_rl.data.synth.blocks import Letterhead, Signature
from medvie_rl.data.synth.fonts import Face, text_width
from medvie_rl.data.synth.marks import barcode, logo, matrix, scribble
from medvie_rl.data.synth.setting import PEN, Align, set_text
from medvie_rl.data.synth.shapes import WHITE, Area, Dots, Page, Piece, Shape, Text, moved
from medvie_rl.data.synth.style import Style


def set_letterhead(letterhead: Letterhead, style: Style, width: float, rng: random.Random) -> list[Piece]:
    """Who issued the document, at the top of its first page (a bar at the side is `sidebar`)."""
    if style.head == "band":
        return [_band(letterhead, style, width)]
    if style.head in ("logo", "split"):
        return [_logo_and_contact(letterhead, style, width, rng)]
    align: Align = "left" if style.head == "left" else "right" if style.head == "right" else "centre"
    scale = {"receipt": 1.2, "centre": 1.55}.get(style.head, 1.4)
    y, shapes = set_text(letterhead.name, style.face("bold", scale), width, style, fill=style.accent, align=align)
    for line in letterhead.lines:
        tall, drawn = set_text(line, style.face("plain", 0.84), width, style, y=y, fill=style.ink, align=align)
        y, shapes = y + tall, shapes + drawn
    if style.head == "centre":
        shapes += [Area(0, y + 10, width, y + 12, fill=style.accent), Area(0, y + 16, width, y + 16, fill=style.accent)]
        y += 18
    elif style.head == "left" and style.template == "form":
        shapes.append(Area(0, y + 8, width, y + 9, fill=style.ink))
        y += 10
    elif style.head == "receipt":
        shapes.append(Dots(0, width, y + 10, style.ink))
        y += 14
    return [Piece(height=y, shapes=tuple(shapes))]


def _band(letterhead: Letterhead, style: Style, width: float) -> Piece:
    left, top, right, _ = style.margins
    y, shapes = set_text(letterhead.name, style.face("bold", 1.5), width, style, y=-top * 0.5, fill=WHITE)
    y -= top * 0.5
    small = style.face("plain", 0.82)
    for line in _merged(letterhead.lines, small, width, "  ·  "):
        tall = 0.0
        x = 0.0
        for number, part in enumerate(line):
            if number:
                _, dot = set_text("·", small, width, style, x=x + 9, y=y, fill=WHITE)
                shapes += dot
                x += 18 + text_width(small, "·")
            high, drawn = set_text(part, small, width - x, style, x=x, y=y, fill=WHITE)
            shapes += drawn
            x += text_width(small, part)
            tall = max(tall, high)
        y += tall
    bottom = y + 22
    band = Area(-left, -top, width + right, bottom, fill=style.accent)
    return Piece(height=bottom + 6, shapes=(band, *shapes))


def _merged(lines: Sequence[str], face: Face, width: float, sign: str) -> list[list[str]]:
    """Contact lines side by side as far as they fit."""
    rows: list[list[str]] = []
    for line in lines:
        if rows and text_width(face, sign.join([*rows[-1], line])) + 30 < width:
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _logo_and_contact(letterhead: Letterhead, style: Style, width: float, rng: random.Random) -> Piece:
    """An emblem, the name beside it, the address on the right (split) or below the name (logo)."""
    size = 4.2 * style.size
    shapes = logo(size, style.accent, rng)
    left = size + style.size
    split = style.head == "split" and bool(letterhead.lines)
    room = (width - left) * (0.54 if split else 1.0)
    y, name = set_text(letterhead.name, style.face("bold", 1.36), room, style, x=left, fill=style.accent)
    shapes += name
    contact = 0.0 if split else y
    small = style.face("plain", 0.82)
    start = left + room + style.size if split else left
    for line in letterhead.lines:
        tall, drawn = set_text(
            line, small, width - start, style, x=start, y=contact, align="right" if split else "left"
        )
        contact, shapes = contact + tall, shapes + drawn
    y = max(size, y, contact) + 12
    shapes.append(Area(0, y, width, y + 2, fill=style.accent))
    return Piece(height=y + 3, shapes=tuple(shapes))


def draw_sidebar(page: Page, letterhead: Letterhead, style: Style, rng: random.Random) -> None:
    """A tinted bar along the left edge with emblem, name and contact lines."""
    width = style.sidebar
    tall = page.size[1]
    page.add([Area(0, 0, width, tall, fill=style.tint), Area(width, 0, width + 3, tall, fill=style.accent)])
    inner, y = width - 2 * 34, 96.0
    page.add(logo(84, style.accent, rng), 34, y)
    y += 84 + 34
    used, shapes = set_text(letterhead.name, style.face("bold", 1.2), inner, style, x=34, y=y, fill=style.accent)
    page.add(shapes)
    y += used + 22
    for line in letterhead.lines:
        used, shapes = set_text(line, style.face("plain", 0.84), inner, style, x=34, y=y)
        page.add(shapes)
        y += used + 8


def set_title(text: str, style: Style, width: float) -> Piece:
    """The name of the document."""
    scale = {"receipt": 1.1, "typewriter": 1.1, "sidebar": 1.7}.get(style.template, 1.42)
    fill = style.accent if style.title == "accent" else style.ink
    align: Align = "left" if style.title in ("left", "accent") else "centre"
    pad = 12.0 if style.title == "boxed" else 0.0
    height, shapes = set_text(
        text, style.face("bold", scale), width - 2 * pad, style, x=pad, y=pad * 0.5, fill=fill, align=align
    )
    height += pad
    if style.title == "boxed":
        shapes.append(Area(0, 0, width, height, outline=style.ink, width=2))
    elif style.title == "ruled":
        shapes = [moved(shape, 0, 6) for shape in shapes]
        shapes += [Area(0, 0, width, 1, fill=style.ink), Area(0, height + 12, width, height + 13, fill=style.ink)]
        height += 14
    return Piece(height=height, shapes=tuple(shapes), gap=style.line * 0.9, keep=True)


def set_ornament(style: Style, width: float, rng: random.Random) -> list[Piece]:
    """A bar code in its own line, at the right end."""
    if style.ornament == "barcode":
        wide = min(width * 0.8, rng.uniform(240, 330))
        left = (width - wide) / 2 if style.template == "receipt" else width - wide
        shapes = [moved(shape, left, 0) for shape in barcode(wide, 46, style.ink, rng)]
        return [Piece(height=48, shapes=tuple(shapes), gap=style.line * 0.5)]
    return []


def corner_matrix(style: Style, width: float, rng: random.Random) -> list[Shape]:
    """A square code for the right end of the foot of the first page."""
    return [moved(shape, width - 100, 0) for shape in matrix(100, style.ink, rng)]


def set_signatures(signatures: Sequence[Signature], style: Style, width: float, rng: random.Random) -> list[Piece]:
    """Names under scribbles, at most two side by side."""
    pieces = []
    for start in range(0, len(signatures), 2):
        row = signatures[start : start + 2]
        cell = min(width * 0.92, max(15.5 * style.size, width * 0.36))
        if len(row) == 2:
            cell = min(cell, width * 0.46)
        lefts = [0.0, width - cell] if len(row) == 2 else [rng.choice((0.0, width - cell, width - cell))]
        shapes, height = list[Shape](), 0.0
        for left, signature in zip(lefts, row, strict=True):
            tall, drawn = _signature(signature, style, cell, rng)
            shapes += [moved(shape, left, 0) for shape in drawn]
            height = max(height, tall)
        pieces.append(Piece(height=height, shapes=tuple(shapes), gap=style.line * 1.1))
    return pieces


def _signature(signature: Signature, style: Style, width: float, rng: random.Random) -> tuple[float, list[Shape]]:
    room = 3.0 * style.size
    shapes: list[Shape] = []
    if rng.random() < 0.85:
        pen = PEN if rng.random() < 0.6 else style.ink
        curve = scribble(width * rng.uniform(0.5, 0.8), room, pen, rng)
        shapes.append(moved(curve, width * rng.uniform(0.02, 0.15), 2))
    y = room + 6
    if rng.random() < 0.7:
        shapes.append(Area(0, y, width, y, fill=style.ink))
    else:
        shapes.append(Dots(0, width, y, style.ink))
    y += 3
    for text, scale in ((signature.name, 1.0), (signature.caption, 0.84)):
        tall, drawn = set_text(text, style.face("plain", scale), width, style, y=y)
        y, shapes = y + tall, shapes + drawn
    return y, shapes


def draw_foot(page: Page, style: Style, footer: str, number: int, count: int) -> None:
    """Footer text and page number at the bottom of a page."""
    left, _, right, bottom = style.margins
    width = page.size[0] - left - right
    y = page.size[1] - bottom + 24
    small = style.face("plain", 0.74)
    if footer.strip():
        page.add([Area(left, y, left + width, y, fill=style.soft)])
        room = width - 90 if style.page_number or count > 1 else width
        _, shapes = set_text(footer, small, room, style, x=left, y=y + 6, fill=style.soft)
        page.add(shapes)
    if style.page_number or count > 1:
        _, shapes = set_text(
            f"{number} / {count}", small, width, style, x=left, y=y + 6, fill=style.soft, align="right"
        )
        page.add(shapes)


def foot_height(style: Style, footer: str, width: float) -> float:
    """How much of a page's bottom the footer needs beyond what the margin has."""
    small = style.face("plain", 0.74)
    height, shapes = set_text(footer, small, max(60.0, width - 90), style) if footer.strip() else (0.0, list[Shape]())
    texts = [shape for shape in shapes if isinstance(shape, Text)]
    return max(0.0, height + 44 - style.margins[3]) if texts else 0.0
