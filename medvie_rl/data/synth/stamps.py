"""Presses rubber stamps on drawn pages, where they hide as little as possible."""

import random
from dataclasses import dataclass

from PIL import Image, ImageChops

from medvie_rl.data.synth.blocks import Stamp
from medvie_rl.data.synth.marks import stamp
from medvie_rl.data.synth.shapes import TextBox
from medvie_rl.data.synth.style import Style

_TRIES = 90  # places that are compared
_EDGE = 6  # pixels that a stamp stays away from the edge of the page

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """A drawn page and where its texts are, in pixels. A stamp's box encloses its rotated frame."""

    image: Image.Image  # mode RGB or L
    texts: tuple[TextBox, ...]
    stamps: tuple[TextBox, ...]


def press_stamp(page: DrawnPage, block: Stamp, style: Style, rng: random.Random) -> DrawnPage:
    """The page with a stamp near the end of its text. Its ink darkens what lies below and never hides it."""
    lines = tuple(line for line in block.lines if line.strip())
    if not lines:
        return page
    ink, mask = stamp(lines, round(style.size * rng.uniform(0.9, 1.1)), rng, colour=style.colour)
    widest = page.image.width - 20
    if mask.width > widest:
        smaller = widest, round(mask.height * widest / mask.width)
        ink, mask = ink.resize(smaller), mask.resize(smaller, Image.Resampling.LANCZOS)
    x, y = _best_place(page, mask.size, style, rng)
    box = x, y, x + mask.width, y + mask.height
    image = page.image.copy()
    under = image.crop(box)
    image.paste(Image.composite(ImageChops.darker(ink, under), under, mask), box)
    return DrawnPage(image, page.texts, (*page.stamps, *(TextBox(line, line, box) for line in lines)))


def _best_place(page: DrawnPage, size: tuple[int, int], style: Style, rng: random.Random) -> tuple[int, int]:
    """The upper left corner, among random ones around the end of the text, that covers the wanted share of print."""
    width, height = page.image.size
    left, top, right, bottom = style.margins
    end = max((text.box[3] for text in page.texts if text.box[3] < height - bottom), default=top)
    wanted = rng.choice((0.0, 0.0, 0.02, 0.05))  # of the stamp's area
    nearest = left if style.sidebar else left * 0.5
    furthest = max(nearest, width - 10 - right * 0.4 - size[0])
    lowest = max(10.0, min(end + 60, height - bottom - size[1]))
    best: tuple[float, int, int] | None = None
    for _ in range(_TRIES):
        x = _within(rng.uniform(nearest, furthest), width - size[0])
        y = _within(rng.uniform(max(10.0, end - 1.6 * size[1]), lowest), height - size[1])
        cost = _cost(page, (x, y, x + size[0], y + size[1]), wanted, style)
        if best is None or cost < best[0]:
            best = cost, x, y
    assert best is not None
    return best[1], best[2]


def _within(place: float, room: int) -> int:
    return max(_EDGE, min(round(place), room - _EDGE))


def _cost(page: DrawnPage, place: Box, wanted: float, style: Style) -> float:
    x0, y0, x1, y1 = place
    area = (x1 - x0) * (y1 - y0)
    covered = sum(_overlap(place, text.box) for text in page.texts) / area
    letters = x0 + 0.12 * (x1 - x0), y0 + 0.2 * (y1 - y0), x0 + 0.88 * (x1 - x0), y0 + 0.8 * (y1 - y0)
    hidden = sum(_overlap(letters, text.box) for text in page.texts) / area
    # The frame may cross print; letters on letters would make both hard to read, most of all in grey.
    cost = abs(covered - wanted) + (5 if style.colour else 8) * hidden
    return cost + 10 * any(_overlap(place, other.box) for other in page.stamps)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, tall)
