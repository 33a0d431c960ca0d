"""Draws a document: sets its blocks into pieces, lets the pieces flow over pages and columns, and paints the pages."""

import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from medvie_rl.data.synth.blocks import Block, Content, Items, Pairs, Paragraph, Signature, Stamp, TableBlock, Title
from medvie_rl.data.synth.heads import (
    corner_matrix,
    draw_foot,
    draw_sidebar,
    foot_height,
    set_letterhead,
    set_ornament,
    set_signatures,
    set_title,
)
from medvie_rl.data.synth.pairs import set_pairs
from medvie_rl.data.synth.setting import set_items, set_paragraph, set_text
from medvie_rl.data.synth.shapes import Page, Piece, moved
from medvie_rl.data.synth.stamps import DrawnPage, press_stamp
from medvie_rl.data.synth.style import A5, Style
from medvie_rl.data.synth.tables import set_table
from medvie_rl.data.synth.templates import draw_style, texts

MAX_PAGES = 3
_SMALLEST = 15  # pixels; smaller print could not be read at 150 dpi


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where pieces flow: a column of a page."""

    page: int
    left: float
    top: float
    bottom: float


def draw(content: Content, rng: random.Random, *, template: str | None = None) -> list[DrawnPage]:
    """Draw a document in a random style (of one template, if named) on one to three pages.

    Raises ValueError where it does not fit on three pages in the smallest legible print, where a glyph is in no
    packaged font, or where the drawn pages would lack a text of the content.
    """
    style, pages = _fitted(content, draw_style(content, rng, template), rng)
    drawn = _paint(content, style, pages, rng)
    missing = missing_texts(content, drawn)
    if missing:
        raise ValueError(f"kind '{content.kind}', template '{style.template}': these texts were not drawn: {missing}")
    return drawn


def _fitted(content: Content, style: Style, rng: random.Random) -> tuple[Style, list[Page]]:
    """The pages, laid out in print and on paper that suit the length of the document, and the style that did it."""
    on_small_paper = rng.random() < 0.6
    state = rng.getstate()

    def lay_out(style: Style) -> list[Page]:
        rng.setstate(state)
        return _lay_out(content, style, rng)

    pages = lay_out(style)
    if len(pages) == 1:
        roomy = _roomier(style, on_small_paper) if _share_used(pages[0], style) < 0.5 else None
        if roomy is not None and len(other := lay_out(roomy)) == 1:
            return roomy, other
        return style, lay_out(style)
    for _ in range(2):  # smaller print for the sake of a few last lines, as a typist would
        if len(pages) > 1 and _share_used(pages[-1], style) < 0.16:
            style = replace(style, size=style.size - 1)
            pages = lay_out(style)
    while len(pages) > MAX_PAGES:
        if style.size * 0.92 < _SMALLEST:
            raise ValueError(
                f"kind '{content.kind}': the document does not fit on {MAX_PAGES} pages; it needs {len(pages)} pages "
                f"with print of {style.size} pixels. Give it fewer rows or shorter texts"
            )
        style = replace(style, size=int(style.size * 0.92))
        pages = lay_out(style)
    return style, pages


def _roomier(style: Style, on_small_paper: bool) -> Style | None:
    """The style for a short document: half the paper, or larger print with more space; None for receipts."""
    if style.template == "receipt":
        return None
    if on_small_paper and not style.sidebar and not style.indent:
        left, top, right, bottom = style.margins
        margins = round(left * 0.66), round(top * 0.7), round(right * 0.66), round(bottom * 0.85)
        return replace(style, paper=A5, margins=margins, size=max(20, style.size - 1))
    return replace(style, size=min(27, style.size + 2), leading=style.leading + 0.1)


def _share_used(page: Page, style: Style) -> float:
    """How far down the page its text reaches, as a share of its height."""
    return (max((text.box[3] for text in page.boxes()), default=0.0) - style.margins[1]) / page.size[1]


def missing_texts(content: Content, pages: Sequence[DrawnPage]) -> list[str]:
    """The texts of a document that its pages do not show in full; case and line breaks aside."""
    lines: dict[str, str] = {}
    whole: set[str] = set()
    for page in pages:
        for text in (*page.texts, *page.stamps):
            lines[text.source] = lines.get(text.source, "") + text.text
    for source, printed in lines.items():
        if _squeezed(source) and _squeezed(printed).count(_squeezed(source)):
            whole.add(_squeezed(source))
    return [text for text in texts(content) if _squeezed(text) not in whole and _squeezed(f"{text}:") not in whole]


def _squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).upper().split())


def _lay_out(content: Content, style: Style, rng: random.Random) -> list[Page]:
    left, top, right, bottom = style.margins
    size = style.paper
    width = size[0] - left - right
    floor = size[1] - bottom - foot_height(style, content.footer, width)
    pages = [Page(size)]
    y = _place_head(content, style, pages[0], width, rng)
    gutter = 44.0
    column = (width - gutter) / 2 if style.columns == 2 else float(width)
    pieces = _set_blocks(content.blocks, style, column, rng)
    lefts = [left + number * (column + gutter) for number in range(style.columns)]
    floor_first = floor - (124 if style.ornament == "matrix" else 0)
    if style.columns == 2:
        floor_first = _balanced(pieces, lefts, y, floor_first)
    frames = [_Frame(0, x, y, floor_first) for x in lefts]
    number = 0
    for placed, frame_index, at in _flow(pieces, len(lefts), floor_first - y, floor - top):
        page, slot = divmod(frame_index, len(lefts))
        while page > number:
            number += 1
            pages.append(Page(size))
            frames += [_Frame(number, x, top, floor) for x in lefts]
        frame = frames[page * len(lefts) + slot]
        pages[page].add(placed.shapes, frame.left, frame.top + at)
    return pages


def _place_head(content: Content, style: Style, page: Page, width: float, rng: random.Random) -> float:
    """Draw letterhead and, above two columns, the title; returns where the body starts."""
    left, top, _, _ = style.margins
    pieces: list[Piece] = []
    if content.letterhead is not None and style.sidebar:
        draw_sidebar(page, content.letterhead, style, rng)
    elif content.letterhead is not None:
        pieces += set_letterhead(content.letterhead, style, width, rng)
    if style.ornament == "matrix":
        y = page.size[1] - style.margins[3] - 112 - foot_height(style, content.footer, width)
        page.add(corner_matrix(style, width, rng), left, y)
    pieces += set_ornament(style, width, rng) if style.template != "receipt" else []
    if style.columns == 2:
        pieces += [set_title(block.text, style, width) for block in content.blocks if isinstance(block, Title)]
    y = float(top)
    for number, piece in enumerate(pieces):
        y += piece.gap if number else 0.0
        page.add(piece.shapes, left, y)
        y += piece.height
    return y + (style.line * 0.9 if pieces else 0.0)


def _set_blocks(blocks: Iterable[Block], style: Style, width: float, rng: random.Random) -> list[Piece]:
    pieces: list[Piece] = []
    signatures: list[Signature] = []

    def sign() -> None:
        inner = width - style.indent
        for piece in set_signatures(signatures, style, inner, rng):
            shapes = tuple(moved(shape, style.indent, 0) for shape in piece.shapes)
            pieces.append(replace(piece, shapes=shapes))
        signatures.clear()

    for block in blocks:
        if isinstance(block, Signature):
            signatures.append(block)
            continue
        sign()
        if isinstance(block, Title):
            pieces += [set_title(block.text, style, width)] if style.columns == 1 else []
        elif isinstance(block, Pairs):
            pieces += set_pairs(block, style, width)
        elif isinstance(block, Paragraph):
            pieces += set_paragraph(block, style, width)
        elif isinstance(block, Items):
            pieces += set_items(block, style, width)
        elif isinstance(block, TableBlock):
            pieces += set_table(block, style, width)
    sign()
    if style.template == "receipt":
        pieces += set_ornament(style, width, rng)
    return pieces


def _flow(pieces: Sequence[Piece], num_columns: int, first: float, later: float) -> list[tuple[Piece, int, float]]:
    """Where each piece goes: the number of its frame, and how far below the frame's top, in pixels.

    The frames of the first page are `first` pixels tall, the others `later`. Pieces that hold together move on as one.
    """
    placed: list[tuple[Piece, int, float]] = []
    frame, y = 0, 0.0
    for index, piece in enumerate(pieces):
        tall = first if frame < num_columns else later
        gap = piece.gap if y else 0.0
        if y and y + gap + _held(pieces, index) > tall:
            frame, y, gap = frame + 1, 0.0, 0.0
            if piece.repeat is not None:
                placed.append((piece.repeat, frame, 0.0))
                y = piece.repeat.height
        placed.append((piece, frame, y + gap))
        y += gap + piece.height
    return placed


def _held(pieces: Sequence[Piece], index: int) -> float:
    """Height of a piece with those it must not be parted from; a chain of more than six may be parted."""
    height = pieces[index].height
    for before, piece in zip(pieces[index : index + 6], pieces[index + 1 : index + 7], strict=False):
        if not before.keep:
            break
        height += piece.gap + piece.height
    return height


def _balanced(pieces: Sequence[Piece], lefts: Sequence[float], top: float, floor: float) -> float:
    """The lowest bottom at which two columns still hold everything, or the page's own."""
    total = sum(piece.gap + piece.height for piece in pieces)
    tall = total / 2
    while top + tall < floor:
        placed = _flow(pieces, len(lefts), tall, tall)
        if placed[-1][1] < len(lefts):
            return top + tall
        tall += 20
    return floor


def _paint(content: Content, style: Style, pages: Sequence[Page], rng: random.Random) -> list[DrawnPage]:
    drawn = []
    for number, page in enumerate(pages, 1):
        if content.narrow:
            num_stamps = sum(isinstance(block, Stamp) for block in content.blocks)
            _cut(page, style, content.footer, room=5 * style.size * num_stamps)
        else:
            draw_foot(page, style, content.footer, number, len(pages))
        drawn.append(DrawnPage(page.paint(style.colour), page.boxes(), ()))
    for block in content.blocks:
        if isinstance(block, Stamp):
            drawn[-1] = press_stamp(drawn[-1], block, style, rng)
    return drawn


def _cut(page: Page, style: Style, footer: str, *, room: int) -> None:
    """Print the footer of a receipt below its last line and cut the paper `room` pixels further down."""
    left, _, right, bottom = style.margins
    end = max((text.box[3] for text in page.boxes()), default=0.0)
    lowest = max([end, *(shape.y1 for shape in page.shapes if hasattr(shape, "y1"))])
    width = page.size[0] - left - right
    tall, shapes = set_text(footer, style.face("plain", 0.9), width, style, align="centre")
    page.add(shapes, left, lowest + style.line)
    page.size = page.size[0], round(lowest + style.line + tall + bottom + room)
