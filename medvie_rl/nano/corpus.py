"""What the nano policy is pre-trained on: queries about synthetic slips and responses as an untaught model gives them.

A response mixes conventions on purpose: days in several orders, "45 y", "M", units left out, "SILVA, Ana", placeholders
or inventions for keys that are not on the slip, fields left out. Each convention is drawn once per response,
unpredictably, so that the right behaviour stays within reach of sampling and reinforcement learning has something to
prefer. Every character of a response knows the image cell that it was read from, for the guide loss of `training`.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from medvie_rl.data.slip_content import MONTHS
from medvie_rl.data.synthetic import (
    FONTS,
    PITCH,
    WIDTH,
    PrintedLine,
    Slip,
    character_centres,
    draw_value,
    load_font,
    print_lines,
)
from medvie_rl.data.vocabulary import pseudo_word
from rewards.schema import Schema

CELLS_PER_ROW = WIDTH // PITCH
NOWHERE = -1
_UNITS = ("", " mg", " g/L", " mmol/L", " mcg", " mg/dL")
PLACEHOLDERS = ("n/a", "none", "unknown")
_DATES = ("date", "born")
_NAMES = ("patient", "doctor")
_QUANTITIES = ("dose", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How often a response follows which convention."""

    date: tuple[float, float, float] = (0.35, 0.40, 0.25)  # year first, day first, as printed
    absent: tuple[float, float, float] = (0.35, 0.30, 0.35)  # left out, placeholder, invented
    age_unit: float = 0.55
    short_sex: float = 0.55
    no_unit: float = 0.40
    last_name_first: float = 0.45
    careless: float = 0.35  # responses that drop present keys, each with `drop`
    drop: float = 0.35
    skip_line: float = 0.15  # responses whose reasoning leaves lines out
    stray_line: float = 0.15  # responses whose reasoning has a line that nothing asks for
    page_order: float = 0.95  # reasoning in the order of the page, else of the keys


MIXTURE = Mixture()
CLEAN = Mixture(  # what the schemas ask for
    date=(1.0, 0.0, 0.0),
    absent=(1.0, 0.0, 0.0),
    age_unit=0.0,
    short_sex=0.0,
    no_unit=0.0,
    last_name_first=0.0,
    careless=0.0,
    skip_line=0.0,
    stray_line=0.0,
    page_order=1.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The conventions of one response."""

    date: int
    absent: int
    placeholder: str
    age_unit: bool
    short_sex: bool
    no_unit: bool
    last_name_first: bool
    drop: float
    skip_line: bool
    stray_line: bool
    page_order: bool


class TracedText:
    """Text that grows, each character with the image cell it was read from (`NOWHERE` if from none)."""

    def __init__(self) -> None:
        self.text = ""
        self.cells: list[int] = []

    def add(self, text: str, cells: Sequence[int] | None = None) -> None:
        """Append `text`; `cells` has one entry a character."""
        self.text += text
        self.cells.extend(cells if cells is not None else [NOWHERE] * len(text))


def draw_behaviour(mixture: Mixture, rng: random.Random) -> Behaviour:
    """The conventions of one response, each drawn by itself."""
    return Behaviour(
        date=rng.choices(range(3), mixture.date)[0],
        absent=rng.choices(range(3), mixture.absent)[0],
        placeholder=rng.choices(PLACEHOLDERS, (4, 1, 1))[0],
        age_unit=rng.random() < mixture.age_unit,
        short_sex=rng.random() < mixture.short_sex,
        no_unit=rng.random() < mixture.no_unit,
        last_name_first=rng.random() < mixture.last_name_first,
        drop=mixture.drop if rng.random() < mixture.careless else 0.0,
        skip_line=rng.random() < mixture.skip_line,
        stray_line=rng.random() < mixture.stray_line,
        page_order=rng.random() < mixture.page_order,
    )


def draw_keys(schema: Schema, slip: Slip, rng: random.Random, *, whole: float) -> tuple[str, ...]:
    """The keys of one query: all of the schema in its order (a share `whole` of the queries), or a random handful."""
    if rng.random() < whole:
        return schema.keys
    present = [key for key in schema.keys if key in slip.printed]
    absent = [key for key in schema.keys if key not in slip.printed]
    count = rng.randint(2, 6)
    num_absent = min(len(absent), sum(rng.random() < 0.3 for _ in range(count)))
    num_present = min(len(present), max(count - num_absent, 1))
    keys = rng.sample(present, num_present) + rng.sample(absent, num_absent)
    rng.shuffle(keys)
    return tuple(keys)


def write_response(
    slip: Slip, keys: Sequence[str], behaviour: Behaviour, rng: random.Random, *, reasoning: bool
) -> TracedText:
    """A response to a query for `keys` in the conventions of `behaviour`."""
    cells = line_cells(slip)
    response = TracedText()
    if reasoning:
        _write_reasoning(response, slip, keys, cells, behaviour, rng)
    response.add("{")
    separator = '"'
    for key in keys:
        answer = _answer(slip, key, cells, behaviour, rng)
        if answer is not None:
            response.add(f'{separator}{key}":"')
            response.add(*answer)
            separator = '","'
    response.add("}" if separator == '"' else '"}')
    return response


def write_transcript(slip: Slip) -> TracedText:
    """The reasoning that copies every line of a practice strip, and an empty answer."""
    response = TracedText()
    for number, (line, cells) in enumerate(zip(slip.lines, line_cells(slip), strict=True)):
        response.add("\n" if number else "<think>")
        response.add(line.text, cells)
    response.add("</think>{}")
    return response


def render_value(key: str, truth: str, printed: str, behaviour: Behaviour) -> tuple[str, list[int]]:
    """A present value in the conventions of `behaviour`, and for each character its source's index in `printed`."""
    if key in _DATES:
        return _render_day(truth, printed, behaviour)
    if key in _NAMES:
        return _render_name(truth, printed, behaviour)
    if key == "age":
        text = f"{truth} y" if behaviour.age_unit else truth
        return text, [min(index, len(printed) - 1) for index in range(len(text))]
    if key == "sex":
        text = truth[0].upper() if behaviour.short_sex else truth
        return text, list(range(len(text))) if text == printed else [0] * len(text)
    text = truth.split(" ")[0] if key in _QUANTITIES and behaviour.no_unit else truth
    return text, list(range(len(text)))


def _render_day(truth: str, printed: str, behaviour: Behaviour) -> tuple[str, list[int]]:
    year, month, day = truth.split("-")
    if printed[4] == "-":
        years, months, days = [0, 1, 2, 3], [5, 6], [8, 9]
    elif printed[3:6] in MONTHS:
        years, months, days = [7, 8, 9, 10], [3, 3], [0, 1]
    else:
        years, months, days = [6, 7, 8, 9], [3, 4], [0, 1]
    if behaviour.date == 0:
        return truth, [*years, months[0], *months, days[0], *days]
    if behaviour.date == 1:
        return f"{day}/{month}/{year}", [*days, months[0], *months, years[0], *years]
    return printed, list(range(len(printed)))


def _render_name(truth: str, printed: str, behaviour: Behaviour) -> tuple[str, list[int]]:
    first, last = truth.split(" ")
    starts = {word: printed.lower().index(word.lower()) for word in (first, last)}
    spans = {word: [starts[word] + offset for offset in range(len(word))] for word in (first, last)}
    if behaviour.last_name_first:
        gap = spans[first][0]
        return f"{last.upper()}, {first}", [*spans[last], gap, gap, *spans[first]]
    return truth, [*spans[first], spans[last][0], *spans[last]]


def _answer(
    slip: Slip, key: str, cells: Sequence[Sequence[int]], behaviour: Behaviour, rng: random.Random
) -> tuple[str, list[int]] | None:
    printed = slip.printed.get(key)
    if printed is not None:
        if rng.random() < behaviour.drop:
            return None
        text, sources = render_value(key, slip.annotation[key], printed.text, behaviour)
        return text, [cells[printed.line][printed.start + source] for source in sources]
    if behaviour.absent == 0:
        return None
    if behaviour.absent == 1:
        return behaviour.placeholder, [NOWHERE] * len(behaviour.placeholder)
    invented = draw_value(key, split="pretrain", rng=rng)
    text, sources = render_value(key, invented, invented, behaviour)
    return text, [NOWHERE] * len(text)


def _write_reasoning(
    response: TracedText,
    slip: Slip,
    keys: Sequence[str],
    cells: Sequence[Sequence[int]],
    behaviour: Behaviour,
    rng: random.Random,
) -> None:
    numbers = list(dict.fromkeys(slip.printed[key].line for key in keys if key in slip.printed))
    if behaviour.skip_line:
        numbers = [number for number in numbers if rng.random() < 0.6]
    others = [number for number in range(len(slip.lines)) if number not in numbers]
    if behaviour.stray_line and others:
        numbers.insert(rng.randint(0, len(numbers)), rng.choice(others))
    if behaviour.page_order:
        numbers.sort()
    response.add("<think>")
    for place, number in enumerate(numbers):
        response.add("\n" if place else "")
        response.add(slip.lines[number].text, cells[number])
    response.add("</think>")


def line_cells(slip: Slip) -> list[list[int]]:
    """For every printed line, the image cell of every character."""
    cells = []
    for line in slip.lines:
        centres = character_centres(line.text, line.left, slip.font)
        columns = [min(int(centre // PITCH), CELLS_PER_ROW - 1) for centre in centres]
        cells.append([line.row * CELLS_PER_ROW + column for column in columns])
    return cells


def crop_lines(slip: Slip, first: int, count: int) -> Slip:
    """The strip of the slip with `count` lines from line `first`, as a slip of its own."""
    kept = slip.lines[first : first + count]
    top = kept[0].row
    with Image.open(io.BytesIO(slip.image)) as image:
        strip = image.crop((0, top * PITCH, WIDTH, (top + count) * PITCH))
    buffer = io.BytesIO()
    strip.save(buffer, format="PNG")
    inside = {key: value for key, value in slip.printed.items() if first <= value.line < first + count}
    return replace(
        slip,
        image=buffer.getvalue(),
        annotation={key: slip.annotation[key] for key in inside},
        lines=tuple(replace(line, row=line.row - top) for line in kept),
        printed={key: replace(value, line=value.line - first) for key, value in inside.items()},
    )


def practice_strip(rows: int, rng: random.Random) -> Slip:
    """A strip full of made-up words, numbers and days: more to read per image than a slip has, and nothing to ask."""
    font = rng.choice(FONTS)
    lines = []
    for row in range(rows):
        left, text = rng.randint(2, 12), ""
        while True:
            longer = f"{text} {_practice_word(rng)}".lstrip()
            if left + load_font(*font).getlength(longer) > WIDTH - 2:
                break
            text = longer
        lines.append(PrintedLine(text=text, row=row, left=left, keys=()))
    return Slip(
        document_id="practice",
        document_type="practice",
        schema="",
        image=print_lines(tuple(lines), font, rng, height=rows * PITCH),
        annotation={},
        lines=tuple(lines),
        printed={},
        font=font,
    )


def _practice_word(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind < 2:
        return pseudo_word(rng)
    if kind == 2:
        return pseudo_word(rng).upper() + rng.choice(("", ","))
    if kind == 3:
        return pseudo_word(rng).lower() + rng.choice(("", ":"))
    if kind == 4:
        return str(rng.randint(0, 9999))
    if kind == 5:
        return f"{rng.randint(0, 99)}.{rng.randint(0, 99)}{rng.choice(_UNITS)}"
    if kind == 6:
        return rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + str(rng.randint(10, 9999))
    return draw_value("born", split="pretrain", rng=rng).replace("-", rng.choice("-/.")) + rng.choice(("", " ="))
