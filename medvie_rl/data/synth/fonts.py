"""The fonts of synthetic documents, all from packages that the project depends on, and which one can draw a text.

| family | package | license |
|---|---|---|
| DejaVu Sans, DejaVu Serif, DejaVu Sans Mono | matplotlib | Bitstream Vera license (free, keep the notice) |
| STIX | matplotlib | STIX Fonts license (free, keep the notice) |
| Roboto | font-roboto | Apache-2.0 |
| Caladea | font-caladea | Apache-2.0 |
| Source Serif Pro | font-source-serif-pro | SIL Open Font License 1.1 |
| Amatic SC (handwriting) | font-amatic-sc | SIL Open Font License 1.1 |

The pages are pictures: no font file is copied into a dataset.
"""

import importlib.resources
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from PIL import ImageFont

Weight = Literal["plain", "bold", "italic", "handwritten"]
_TTF = "mpl-data/fonts/ttf/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Three files of a package. `scale` makes families of the same nominal size look equally large."""

    package: str
    plain: str
    bold: str
    italic: str
    license: str
    scale: float = 1.0


FAMILIES: Mapping[str, Family] = {
    "DejaVu Sans": Family(
        package="matplotlib",
        plain=f"{_TTF}DejaVuSans.ttf",
        bold=f"{_TTF}DejaVuSans-Bold.ttf",
        italic=f"{_TTF}DejaVuSans-Oblique.ttf",
        license="Bitstream Vera",
        scale=0.88,
    ),
    "DejaVu Serif": Family(
        package="matplotlib",
        plain=f"{_TTF}DejaVuSerif.ttf",
        bold=f"{_TTF}DejaVuSerif-Bold.ttf",
        italic=f"{_TTF}DejaVuSerif-Italic.ttf",
        license="Bitstream Vera",
        scale=0.88,
    ),
    "DejaVu Sans Mono": Family(
        package="matplotlib",
        plain=f"{_TTF}DejaVuSansMono.ttf",
        bold=f"{_TTF}DejaVuSansMono-Bold.ttf",
        italic=f"{_TTF}DejaVuSansMono-Oblique.ttf",
        license="Bitstream Vera",
        scale=0.88,
    ),
    "STIX": Family(
        package="matplotlib",
        plain=f"{_TTF}STIXGeneral.ttf",
        bold=f"{_TTF}STIXGeneralBol.ttf",
        italic=f"{_TTF}STIXGeneralItalic.ttf",
        license="STIX Fonts",
        scale=1.06,
    ),
    "Roboto": Family(
        package="font_roboto",
        plain="files/Roboto-Regular.ttf",
        bold="files/Roboto-Bold.ttf",
        italic="files/Roboto-Italic.ttf",
        license="Apache-2.0",
        scale=0.96,
    ),
    "Caladea": Family(
        package="font_caladea",
        plain="files/Caladea-Regular.ttf",
        bold="files/Caladea-Bold.ttf",
        italic="files/Caladea-Italic.ttf",
        license="Apache-2.0",
        scale=1.02,
    ),
    "Source Serif Pro": Family(
        package="font_source_serif_pro",
        plain="files/SourceSerifPro-Regular.otf",
        bold="files/SourceSerifPro-Bold.otf",
        italic="files/SourceSerifPro-It.otf",
        license="OFL-1.1",
    ),
}
HANDWRITING = Family(
    package="font_amatic_sc",
    plain="files/AmaticSC-Bold.ttf",
    bold="files/AmaticSC-Bold.ttf",
    italic="files/AmaticSC-Bold.ttf",
    license="OFL-1.1",
    scale=1.42,
)
FALLBACK = "DejaVu Sans"


@dataclass(frozen=True, slots=True)
class Face:
    """A family at a nominal size in pixels."""

    family: str
    size: int
    weight: Weight = "plain"

    @property
    def em(self) -> float:
        """The size in pixels that looks like `size`, whatever the family."""
        family = HANDWRITING if self.weight == "handwritten" else FAMILIES[self.family]
        return self.size * family.scale


def font_for(family: str, size: int, weight: Weight, text: str) -> ImageFont.FreeTypeFont:
    """The family's font of that weight, or DejaVu Sans where the family lacks a glyph of `text`.

    Raises KeyError for an unknown family and ValueError where no packaged font can draw the text.
    """
    wanted = _file(family, weight)
    needed = frozenset(ord(character) for character in text if character != " ")
    if needed <= glyphs(*wanted):
        return _load(*wanted, round(Face(family, size, weight).em))
    other = _file(FALLBACK, "italic" if weight == "handwritten" else weight)
    missing = needed - glyphs(*other)
    if missing:
        raise ValueError(
            f"no packaged font draws {', '.join(f'{chr(code)!r} (U+{code:04X})' for code in sorted(missing))} "
            f"of {text!r}; write it with Latin, Greek or Cyrillic letters and common signs"
        )
    return _load(*other, round(Face(FALLBACK, size).em))


@lru_cache(maxsize=65536)
def runs(face: Face, text: str) -> tuple[tuple[str, ImageFont.FreeTypeFont], ...]:
    """`text` in parts that one font each can draw: all of it where possible, else word by word."""
    whole = font_for(face.family, face.size, face.weight, text)
    if whole is font_for(face.family, face.size, face.weight, "") or " " not in text:
        return ((text, whole),)
    words = text.split(" ")
    parts = [word + " " for word in words[:-1]] + words[-1:]
    return tuple((part, font_for(face.family, face.size, face.weight, part)) for part in parts)


@lru_cache(maxsize=65536)
def text_width(face: Face, text: str) -> float:
    """How far the pen moves for `text`, in pixels."""
    return sum(font.getlength(part) for part, font in runs(face, text))


def covers(family: str, text: str) -> bool:
    """Whether a family has every letter and digit of `text` in plain and bold; signs may come from the fallback."""
    letters = frozenset(ord(character) for character in text if unicodedata.category(character)[0] in "LMN")
    return all(letters <= glyphs(*_file(family, weight)) for weight in ("plain", "bold"))


@cache
def glyphs(package: str, file: str) -> frozenset[int]:
    """The code points that a font file draws."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped,unused-ignore]

    with TTFont(_path(package, file), lazy=True) as font:
        return frozenset(font.getBestCmap())


@cache
def _file(family: str, weight: Weight) -> tuple[str, str]:
    chosen = HANDWRITING if weight == "handwritten" else FAMILIES[family]
    return chosen.package, {"bold": chosen.bold, "italic": chosen.italic}.get(weight, chosen.plain)


@cache
def _load(package: str, file: str, pixels: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is in every build of Pillow, so that the pages are the same everywhere.
    return ImageFont.truetype(_path(package, file), pixels, layout_engine=ImageFont.Layout.BASIC)


def _path(package: str, file: str) -> str:
    return str(importlib.resources.files(package) / file)
