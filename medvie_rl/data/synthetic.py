"""Draws small synthetic medical slips: an image, the annotation, and where on the image each value is printed.

A slip is 208×96 grey pixels with two to six lines on a 16 pixel pitch. Every slip is a pure function of (split, kind,
seed, index), and the splits share none. A slip prints only some of its schema's keys.
"""

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from medvie_rl.data.vocabulary import FREQUENCIES, LATER, NEVER, SEEN, TESTS, WORD_LISTS, pseudo_word

WIDTH, HEIGHT, PITCH = 208, 96, 16
KINDS = ("prescription", "laboratory", "visit", "vaccination")
SPLITS = ("pretrain", "train", "validation", "test")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NEVER_SEEN_SHARE = 0.3  # of the closed-list values in the test split
_PSEUDO_SHARE = 0.5  # of the closed-list values in the pre-training split
FONTS = (("DejaVuSans.ttf", 12), ("DejaVuSans.ttf", 13), ("DejaVuSerif.ttf", 12))
_MARGIN = 3

# Each layout lists the lines from top to bottom; keys that share a line are printed one after the other.
_LAYOUTS: dict[str, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "prescription": (
        (("patient",), ("age", "sex"), ("drug", "dose"), ("freq",), ("date",)),
        (("date",), ("patient",), ("sex", "age"), ("drug",), ("dose",), ("freq",)),
        (("drug", "dose"), ("freq",), ("patient",), ("age",), ("sex",), ("date",)),
    ),
    "laboratory": (
        (("date",), ("patient",), ("born",), ("sex",), ("test", "result")),
        (("patient",), ("sex",), ("born",), ("test",), ("result",), ("date",)),
        (("test",), ("result",), ("patient",), ("born",), ("sex", "date")),
    ),
    "visit": (
        (("patient",), ("age", "sex"), ("diagnosis",), ("code",), ("doctor",), ("date",)),
        (("date",), ("doctor",), ("patient",), ("sex", "age"), ("diagnosis", "code")),
        (("doctor",), ("date",), ("diagnosis",), ("code",), ("patient",), ("age", "sex")),
    ),
    "vaccination": (
        (("patient",), ("born",), ("vaccine",), ("lot",), ("dose",), ("date",)),
        (("vaccine", "dose"), ("lot",), ("date",), ("patient",), ("born",)),
        (("date",), ("vaccine",), ("dose", "lot"), ("born",), ("patient",)),
    ),
}
# Labels by style: full, short, and none where the value speaks for itself.
_LABELS: dict[str, tuple[str, str, str]] = {
    "patient": ("Patient: ", "Pt ", ""),
    "age": ("Age: ", "age ", ""),
    "sex": ("Sex: ", "sex ", ""),
    "drug": ("Drug: ", "Rx ", ""),
    "dose": ("Dose: ", "dose ", ""),
    "freq": ("Take: ", "", ""),
    "date": ("Date: ", "on ", ""),
    "born": ("Born: ", "DOB ", "born "),
    "test": ("Test: ", "test ", ""),
    "result": ("Result: ", "= ", ""),
    "diagnosis": ("Diagnosis: ", "Dx ", ""),
    "code": ("Code: ", "ICD ", "ICD "),
    "doctor": ("Doctor: ", "Dr ", "Dr "),
    "vaccine": ("Vaccine: ", "vac ", ""),
    "lot": ("Lot: ", "lot ", "LOT "),
}
_STRENGTHS = (1, 2, 4, 5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 125, 150, 200, 250, 300, 400, 500, 600, 800)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    """How one slip prints things; drawn once per slip."""

    date: int
    label: int
    name: int
    age: str
    short_sex: bool


def draw_slips(split: str, count: int, *, seed: int = 0) -> Iterator[Slip]:
    """The first `count` slips of a split, the kinds taking turns."""
    for index in range(count):
        yield draw_slip(KINDS[index % len(KINDS)], split=split, seed=seed, index=index)


def draw_slip(kind: str, *, split: str, seed: int, index: int) -> Slip:
    """One slip; the same arguments give the same bytes."""
    if kind not in KINDS:
        raise ValueError(f"no slips of kind {kind!r}; there are {', '.join(KINDS)}")
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    rng = random.Random(f"medvie slip {split} {kind} {seed} {index}")
    while True:
        drawn = _try_slip(kind, split, rng)
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
    return _DRAWERS[key](split, _draw_style(rng), rng)[1]


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


def _try_slip(
    kind: str, split: str, rng: random.Random
) -> tuple[tuple[PrintedLine, ...], dict[str, PrintedValue], dict[str, str], tuple[str, int]] | None:
    """A drawn slip, or None when a line is too wide for the paper."""
    font = rng.choice(FONTS)
    style = _draw_style(rng)
    layout = rng.choice(_LAYOUTS[kind])
    keys = [key for group in layout for key in group]
    dropped = set(rng.sample(keys, rng.choice((1, 2, 2, 3))))
    lines: list[PrintedLine] = []
    printed: dict[str, PrintedValue] = {}
    annotation: dict[str, str] = {}
    texts: dict[str, tuple[str, str]] = {}
    for key in keys:
        if key not in dropped:
            value, annotation[key] = _DRAWERS[key](split, style, rng)
            texts[key] = (_label(key, style), value)
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
        width = load_font(*font).getlength(text)
        room = int(WIDTH - _MARGIN - width)
        if room < _MARGIN:
            return None
        left = rng.randint(_MARGIN, min(room, 12))
        lines.append(PrintedLine(text=text, row=first_row + number, left=left, keys=group))
    return tuple(lines), printed, annotation, font


def _draw_style(rng: random.Random) -> _Style:
    return _Style(
        date=rng.randrange(4),
        label=rng.choice((0, 0, 1, 2)),
        name=rng.choice((0, 0, 1, 2)),
        age=rng.choice(("", " y", " yrs")),
        short_sex=rng.random() < 0.5,
    )


def _label(key: str, style: _Style) -> str:
    label = _LABELS[key][style.label]
    return "age " if key == "age" and not label and not style.age else label


def _word(name: str, split: str, rng: random.Random) -> str:
    if split == "pretrain" and rng.random() < _PSEUDO_SHARE:
        return pseudo_word(rng)
    parts = WORD_LISTS[name].parts
    if split == "test" and rng.random() < _NEVER_SEEN_SHARE:
        return rng.choice(parts[NEVER])
    return rng.choice(parts[SEEN] if split == "pretrain" else parts[SEEN] + parts[LATER])


def _text(name: str) -> Callable[[str, _Style, random.Random], tuple[str, str]]:
    def draw(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
        word = _word(name, split, rng)
        return word, word

    return draw


def _name(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    first, last = _word("first", split, rng), _word("last", split, rng)
    full = f"{first} {last}"
    return (full, f"{last.upper()}, {first}", f"{last}, {first}")[style.name], full


def _day(first_year: int, last_year: int) -> Callable[[str, _Style, random.Random], tuple[str, str]]:
    def draw(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
        year, month, day = rng.randint(first_year, last_year), rng.randint(1, 12), rng.randint(1, 28)
        iso = f"{year}-{month:02d}-{day:02d}"
        words = f"{day:02d} {MONTHS[month - 1]} {year}"
        return (f"{day:02d}/{month:02d}/{year}", words, iso, f"{day:02d}.{month:02d}.{year}")[style.date], iso

    return draw


def _age(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    age = str(rng.randint(2, 97))
    return age + style.age, age


def _sex(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    sex = rng.choice(("male", "female"))
    return (sex[0].upper() if style.short_sex else sex), sex


def _dose(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    number = str(rng.choice(_STRENGTHS)) if rng.random() < 0.7 else f"{rng.randint(0, 9)}.{rng.randint(1, 9)}"
    dose = f"{number} {rng.choice(('mg', 'mg', 'g', 'mL', 'mcg'))}"
    return dose, dose


def _result(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    digits = rng.randint(0, 2)
    number = f"{rng.uniform(1, 200 if digits < 2 else 20):.{digits}f}"
    result = f"{number} {rng.choice(sorted(set(TESTS.values())))}"
    return result, result


def _freq(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    freq = rng.choice(FREQUENCIES)
    return freq, freq


def _code(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    code = f"{rng.choice('ABCDEFGHIJKLMNOPRSTZ')}{rng.randint(0, 99):02d}"
    code += f".{rng.randint(0, 9)}" if rng.random() < 0.5 else ""
    return code, code


def _lot(split: str, style: _Style, rng: random.Random) -> tuple[str, str]:
    lot = "".join(rng.choices("ABCDEFGHKLMNPRSTVXZ", k=rng.randint(1, 2))) + str(rng.randint(100, 9999))
    return lot, lot


_DRAWERS: dict[str, Callable[[str, _Style, random.Random], tuple[str, str]]] = {
    "patient": _name,
    "doctor": _name,
    "age": _age,
    "sex": _sex,
    "drug": _text("drug"),
    "diagnosis": _text("diagnosis"),
    "vaccine": _text("vaccine"),
    "test": _text("test"),
    "dose": _dose,
    "result": _result,
    "freq": _freq,
    "code": _code,
    "lot": _lot,
    "date": _day(2019, 2025),
    "born": _day(1930, 2018),
}


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
