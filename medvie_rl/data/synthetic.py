"""Draws small synthetic medical slips: an image, the annotation, and where on the image each value is printed.

A slip is 208×96 grey pixels with two to six lines on a 16 pixel pitch. Every slip is a pure function of (split, kind,
seed, index), and the splits share none. A slip prints only some of its schema's keys.
"""

import io
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from medvie_rl.data.slip_content import DRAWERS, LABELS, LAYOUTS, Style, draw_style, label_of

WIDTH, HEIGHT, PITCH = 208, 96, 16
KINDS = ("prescription", "laboratory", "visit", "vaccination")  # which the embedded policy was made for
SPECIALTIES = ("laboratory", "prescription", "radiology", "pathology", "dermatology")
SALES = ("receipt", "invoice")  # documents unlike medical ones
ARRANGEMENTS = ("usual", "unseen", "two_columns", "table")
SPLITS = ("pretrain", "train", "validation", "test")

FONTS = (("DejaVuSans.ttf", 12), ("DejaVuSans.ttf", 13), ("DejaVuSerif.ttf", 12))
_MARGIN = 3
_GAP = 8  # pixels between columns


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedLine:
    """One line of a slip: its text, its left edge in pixels and the row (0 at the top) of the 16 pixel grid."""

    text: str
    row: int
    left: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedValue:
    """A value as it is printed, and where: `lines[line].text[start:]` begins with `text`."""

    text: str
    line: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """A synthetic document. `annotation` is the truth in the schema's conventions, for the printed keys only."""

    document_id: str
    document_type: str  # which is also the name of the schema without "_slip"
    schema: str
    image: bytes  # PNG
    annotation: dict[str, str]
    lines: tuple[PrintedLine, ...]
    printed: dict[str, PrintedValue]
    font: tuple[str, int]  # file and size


_Drawn: TypeAlias = tuple[tuple[PrintedLine, ...], dict[str, PrintedValue], dict[str, str], tuple[str, int]]


def draw_slips(
    split: str, count: int, *, seed: int = 0, kinds: Sequence[str] = KINDS, arrangement: str = "usual"
) -> Iterator[Slip]:
    """The first `count` slips of a split, the kinds taking turns."""
    for index in range(count):
        yield draw_slip(kinds[index % len(kinds)], split=split, seed=seed, index=index, arrangement=arrangement)


def draw_slip(kind: str, *, split: str, seed: int, index: int, arrangement: str = "usual") -> Slip:
    """One slip; the same arguments give the same bytes.

    Arrangements: `usual` is one of three of its kind, `unseen` any other order of its lines, `two_columns` puts two
    values side by side, `table` labels in one column and values in another, without rules or colons.
    """
    for name, given, known in (("kind", kind, tuple(LAYOUTS)), ("arrangement", arrangement, ARRANGEMENTS)):
        if given not in known:
            raise ValueError(f"no slips of {name} {given!r}; there are {', '.join(known)}")
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    rng = random.Random(f"medvie slip {split} {kind} {seed} {index}{'' if arrangement == 'usual' else arrangement}")
    while True:
        drawn = _try_slip(kind, split, rng) if arrangement == "usual" else _try_other(kind, split, arrangement, rng)
        if drawn is not None:
            lines, printed, annotation, font = drawn
            return Slip(
                document_id=f"{split}-{seed}-{index:05d}",
                document_type=kind,
                schema=f"{kind}_slip",
                image=print_lines(lines, font, rng, height=HEIGHT),
                annotation=annotation,
                lines=lines,
                printed=printed,
                font=font,
            )


def draw_value(key: str, *, split: str, rng: random.Random) -> str:
    """A plausible value of a key in the schema's conventions, on no slip."""
    return DRAWERS[key](split, draw_style(rng), rng)[1]


def character_centres(text: str, left: int, font: tuple[str, int]) -> list[float]:
    """The horizontal centre of every character of a printed line, in pixels."""
    edge, centres = float(left), []
    for before, character in zip(" " + text, text, strict=False):
        advance = _advance(before, character, font)
        centres.append(edge + advance / 2)
        edge += advance
    return centres


@cache
def _advance(before: str, character: str, font: tuple[str, int]) -> float:
    """How far a character moves the pen behind another one, kerning included."""
    face = load_font(*font)
    return face.getlength(before + character) - face.getlength(before)


@cache
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of matplotlib's package, which is there on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _try_slip(kind: str, split: str, rng: random.Random) -> _Drawn | None:
    """A drawn slip, or None when a line is too wide for the paper."""
    font = rng.choice(FONTS)
    style = draw_style(rng)
    layout = rng.choice(LAYOUTS[kind])
    texts, annotation = _draw_texts([key for group in layout for key in group], split, style, rng)
    lines: list[PrintedLine] = []
    printed: dict[str, PrintedValue] = {}
    groups = [tuple(key for key in group if key in texts) for group in layout]
    groups = [group for group in groups if group]
    first_row = rng.randint(0, HEIGHT // PITCH - len(groups))
    for number, group in enumerate(groups):
        text = ""
        for key in group:
            label, value = texts[key]
            text += ("  " if text and label else " " if text else "") + label
            printed[key] = PrintedValue(text=value, line=number, start=len(text))
            text += value
        room = int(WIDTH - _MARGIN - load_font(*font).getlength(text))
        if room < _MARGIN:
            return None
        left = rng.randint(_MARGIN, min(room, 12))
        lines.append(PrintedLine(text=text, row=first_row + number, left=left, keys=group))
    return tuple(lines), printed, annotation, font


def _try_other(kind: str, split: str, arrangement: str, rng: random.Random) -> _Drawn | None:
    """A slip in an arrangement that no training shows, or None when it is too wide for the paper."""
    font, style = rng.choice(FONTS), draw_style(rng)
    keys = [key for group in LAYOUTS[kind][0] for key in group]
    rng.shuffle(keys)
    orders = [[key for group in layout for key in group if key in keys] for layout in LAYOUTS[kind]]
    texts, annotation = _draw_texts(keys, split, style, rng)
    keys = [key for key in keys if key in texts]
    if any(keys == [key for key in order if key in texts] for order in orders) or len(keys) > HEIGHT // PITCH:
        return None
    lines: list[PrintedLine] = []
    printed: dict[str, PrintedValue] = {}
    edge = _MARGIN + rng.randint(0, 6)
    rows = -(-len(keys) // 2) if arrangement == "two_columns" else len(keys)
    first_row = rng.randint(0, HEIGHT // PITCH - rows)
    second = edge + _GAP + max(_width(_cell(key, texts, arrangement), font) for key in keys[:rows])
    for number, key in enumerate(keys):
        label, value = texts[key]
        left = second if number >= rows else edge
        if arrangement == "table":
            lines.append(PrintedLine(text=_cell(key, texts, arrangement), row=first_row + number, left=left, keys=()))
            label, left = "", second
        text = label + value
        if left + _width(text, font) > WIDTH - _MARGIN:
            return None
        printed[key] = PrintedValue(text=value, line=len(lines), start=len(label))
        lines.append(PrintedLine(text=text, row=first_row + number % rows, left=left, keys=(key,)))
    return tuple(lines), printed, annotation, font


def _draw_texts(
    keys: Sequence[str], split: str, style: Style, rng: random.Random
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Label and printed value of the keys that are not left out, and their true values."""
    dropped = set(rng.sample(keys, rng.choice((1, 2, 2, 3))))
    texts, annotation = {}, {}
    for key in keys:
        if key not in dropped:
            value, annotation[key] = DRAWERS[key](split, style, rng)
            texts[key] = (label_of(key, style), value)
    return texts, annotation


def _cell(key: str, texts: Mapping[str, tuple[str, str]], arrangement: str) -> str:
    """What stands in the first column: the label as a word, or label and value."""
    return LABELS[key][0].removesuffix(": ") if arrangement == "table" else "".join(texts[key])


def _width(text: str, font: tuple[str, int]) -> int:
    return math.ceil(load_font(*font).getlength(text))


def print_lines(lines: tuple[PrintedLine, ...], font: tuple[str, int], rng: random.Random, *, height: int) -> bytes:
    """A PNG of the lines on paper of `height` pixels; shades and a pixel of vertical jitter are drawn from `rng`."""
    paper, ink = rng.randint(228, 255), rng.randint(0, 60)
    image = Image.new("L", (WIDTH, height), paper)
    draw = ImageDraw.Draw(image)
    for line in lines:
        baseline = line.row * PITCH + 12 + rng.randint(0, 1)
        draw.text((line.left, baseline), line.text, fill=ink, font=load_font(*font), anchor="ls")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
