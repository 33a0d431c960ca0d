"""How a page can look: the templates, each a range of styles, and which of them suit a document."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypedDict

from medvie_rl.data.synth.blocks import Content, Items, Pairs, Paragraph, Signature, TableBlock, Title
from medvie_rl.data.synth.fonts import FAMILIES, covers
from medvie_rl.data.synth.shapes import BLACK, Colour
from medvie_rl.data.synth.style import ROLL, Style

_SERIF = ("Caladea", "Source Serif Pro", "STIX", "DejaVu Serif")
_SANS = ("Roboto", "DejaVu Sans")
_ACCENTS: tuple[Colour, ...] = (
    (20, 74, 124),
    (0, 105, 110),
    (124, 28, 44),
    (32, 98, 60),
    (74, 52, 120),
    (150, 84, 16),
    (40, 52, 70),
    (0, 92, 160),
)


class _Colours(TypedDict):
    accent: Colour
    colour: bool


def _some_colour(rng: random.Random, share: float) -> _Colours:
    """A colour for that share of the documents; the others are printed in black."""
    coloured = rng.random() < share
    return {"accent": rng.choice(_ACCENTS) if coloured else BLACK, "colour": coloured}


def _letter_left(rng: random.Random) -> Style:
    return Style(
        template="letter_left",
        family=rng.choice(_SERIF),
        size=rng.randint(22, 26),
        head="left",
        title=rng.choice(("left", "ruled")),
        pairs=rng.choice(("inline", "aligned")),
        bold_labels=rng.random() < 0.5,
        heading=rng.choice(("underlined", "bold")),
        table=rng.choice(("horizontal", "none")),
        **_some_colour(rng, 0.35),
    )


def _letter_centre(rng: random.Random) -> Style:
    return Style(
        template="letter_centre",
        family=rng.choice(_SERIF),
        size=rng.randint(22, 25),
        head="centre",
        title=rng.choice(("centre", "boxed")),
        pairs=rng.choice(("aligned", "inline", "dotted")),
        pair_columns=rng.choice((1, 2)),
        heading=rng.choice(("caps", "underlined")),
        table=rng.choice(("grid", "horizontal")),
        justify=rng.random() < 0.5,
        **_some_colour(rng, 0.35),
    )


def _letter_right(rng: random.Random) -> Style:
    return Style(
        template="letter_right",
        family=rng.choice((*_SANS, "Source Serif Pro")),
        size=rng.randint(21, 24),
        head="right",
        title="left",
        pairs=rng.choice(("aligned", "stacked")),
        pair_columns=2,
        bold_labels=False,
        heading=rng.choice(("bold", "accent")),
        table=rng.choice(("horizontal", "none")),
        **_some_colour(rng, 0.5),
    )


def _hospital_band(rng: random.Random) -> Style:
    return Style(
        template="hospital_band",
        family=rng.choice(_SANS),
        size=rng.randint(21, 24),
        head="band",
        title=rng.choice(("left", "accent")),
        pairs=rng.choice(("aligned", "stacked")),
        pair_columns=2,
        panel=True,
        heading=rng.choice(("accent", "caps")),
        table="zebra",
        accent=rng.choice(_ACCENTS),
        colour=True,
    )


def _laboratory(rng: random.Random) -> Style:
    return Style(
        template="laboratory",
        family=rng.choice((*_SANS, "Caladea")),
        size=rng.randint(21, 23),
        leading=1.36,
        margins=(92, 84, 92, 100),
        head=rng.choice(("logo", "split")),
        title=rng.choice(("centre", "ruled", "accent")),
        pairs=rng.choice(("boxed", "aligned")),
        pair_columns=2,
        heading=rng.choice(("band", "accent", "bold")),
        table=rng.choice(("horizontal", "zebra")),
        **_some_colour(rng, 0.7),
        ornament=rng.choice(("barcode", "matrix")),
    )


def _form(rng: random.Random) -> Style:
    return Style(
        template="form",
        family=rng.choice((*_SANS, "STIX")),
        size=rng.randint(21, 23),
        margins=(84, 84, 84, 96),
        head=rng.choice(("left", "split")),
        title="boxed",
        pairs=rng.choice(("boxed", "boxed", "dotted")),
        pair_columns=rng.choice((2, 3)),
        bold_labels=False,
        heading="band",
        table="grid",
        page_number=True,
        bullet="–",
        ornament=rng.choice(("", "barcode")),
    )


def _margin(rng: random.Random) -> Style:
    return Style(
        template="margin",
        family=rng.choice(("Source Serif Pro", "Caladea", "Roboto")),
        size=rng.randint(21, 24),
        leading=1.46,
        margins=(96, 104, 110, 110),
        head=rng.choice(("right", "split")),
        title="left",
        pairs=rng.choice(("stacked", "aligned")),
        pair_columns=2,
        bold_labels=False,
        heading="margin",
        indent=250,
        table="horizontal",
        **_some_colour(rng, 0.5),
        page_number=True,
        bullet="–",
    )


def _two_columns(rng: random.Random) -> Style:
    return Style(
        template="two_columns",
        family=rng.choice(("Caladea", "STIX", "Source Serif Pro", "Roboto")),
        size=rng.randint(20, 22),
        leading=1.34,
        margins=(88, 90, 88, 100),
        head=rng.choice(("centre", "logo")),
        title=rng.choice(("ruled", "centre")),
        pairs="inline",
        heading=rng.choice(("caps", "accent")),
        table="horizontal",
        columns=2,
        justify=rng.random() < 0.6,
        **_some_colour(rng, 0.4),
        page_number=True,
    )


def _sidebar(rng: random.Random) -> Style:
    return Style(
        template="sidebar",
        family=rng.choice(("Roboto", "Roboto", "DejaVu Sans")),
        size=rng.randint(20, 23),
        margins=(390, 110, 84, 100),
        sidebar=322,
        head="left",
        title="accent",
        pairs=rng.choice(("stacked", "aligned")),
        pair_columns=2,
        bold_labels=False,
        heading="accent",
        table=rng.choice(("horizontal", "zebra")),
        accent=rng.choice(_ACCENTS),
        colour=True,
    )


def _typewriter(rng: random.Random) -> Style:
    return Style(
        template="typewriter",
        family="DejaVu Sans Mono",
        size=rng.randint(20, 22),
        leading=1.34,
        margins=(110, 96, 100, 100),
        head=rng.choice(("left", "centre")),
        title=rng.choice(("left", "centre")),
        pairs="aligned",
        pair_columns=rng.choice((1, 2)),
        bold_labels=False,
        heading=rng.choice(("caps", "underlined")),
        table=rng.choice(("none", "horizontal")),
        page_number=True,
        bullet="-",
    )


def _receipt(rng: random.Random) -> Style:
    return Style(
        template="receipt",
        family=rng.choice(("DejaVu Sans Mono", "DejaVu Sans Mono", "Roboto", "DejaVu Sans")),
        size=rng.randint(19, 22),
        leading=1.34,
        margins=(26, 36, 26, 44),
        head="receipt",
        title="centre",
        pairs=rng.choice(("inline", "aligned")),
        bold_labels=False,
        heading="bold",
        table="none",
        ornament=rng.choice(("", "barcode")),
        bullet="*",
        paper=(rng.randrange(480, 601, 12), ROLL),
    )


TEMPLATES: Mapping[str, Callable[[random.Random], Style]] = {
    "letter_left": _letter_left,
    "letter_centre": _letter_centre,
    "letter_right": _letter_right,
    "hospital_band": _hospital_band,
    "laboratory": _laboratory,
    "form": _form,
    "margin": _margin,
    "two_columns": _two_columns,
    "sidebar": _sidebar,
    "typewriter": _typewriter,
    "receipt": _receipt,
}


def draw_style(content: Content, rng: random.Random, template: str | None = None) -> Style:
    """A style for a document, of a template that suits it (or of the one named; KeyError if there is none)."""
    style = TEMPLATES[template or rng.choice(suitable(content))](rng)
    text = " ".join(texts(content))
    if not covers(style.family, text):
        others = [name for name in ("Roboto", "Source Serif Pro", "DejaVu Sans", "DejaVu Serif") if covers(name, text)]
        style = replace(style, family=rng.choice(others or list(FAMILIES)[:1]))
    level = rng.randint(0, 40)
    return replace(style, ink=(level, level, min(60, level + rng.randint(0, 8))))


def suitable(content: Content) -> tuple[str, ...]:
    """The names of the templates that a document can be drawn with."""
    if content.narrow:
        return ("receipt",)
    widest = max((len(block.columns) for block in content.blocks if isinstance(block, TableBlock)), default=0)
    prose = sum(len(text) for text in _prose(content))
    unsuited = {"receipt"}
    if widest > 3 or prose < 900:
        unsuited.add("two_columns")
    if widest > 4:
        unsuited |= {"sidebar", "margin"}
    if widest > 5:
        unsuited.add("typewriter")
    if content.letterhead is None:
        unsuited |= {"sidebar", "hospital_band"}
    return tuple(name for name in TEMPLATES if name not in unsuited)


def texts(content: Content) -> list[str]:
    """Every text that a document prints, in reading order."""
    printed = [] if content.letterhead is None else [content.letterhead.name, *content.letterhead.lines]
    for block in content.blocks:
        if isinstance(block, Title):
            printed.append(block.text)
        elif isinstance(block, Pairs):
            printed += [block.title, *(text for pair in block.pairs for text in (pair.label, pair.value))]
        elif isinstance(block, Paragraph):
            printed += [block.title, *block.text.split("\n")]
        elif isinstance(block, Items):
            printed += [block.title, *block.items]
        elif isinstance(block, TableBlock):
            printed += [block.title, *block.columns, *(block.group_titles or {}).values()]
            printed += [cell for row in block.rows for cell in row]
        elif isinstance(block, Signature):
            printed += [block.name, block.caption]
        else:
            printed += block.lines
    return [text for text in [*printed, content.footer] if text.strip()]


def _prose(content: Content) -> list[str]:
    return [
        text
        for block in content.blocks
        if isinstance(block, Paragraph | Items)
        for text in ([block.text] if isinstance(block, Paragraph) else block.items)
    ]
