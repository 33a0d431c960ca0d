"""What scanners, fax machines and cameras do to a page; the same generator gives the same bytes."""

import random
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

from medvie_rl.data.synth.pixels import (
    Pixels,
    as_floats,
    blurred,
    grained,
    jpeg,
    png,
    shaped,
    speckle,
    to_pixels,
    turned,
)

LEVELS = ("clean", "scan", "fax", "photo")
_SHARES = (0.2, 0.35, 0.15, 0.3)  # of the levels among documents with mixed noise
_DESKS = ((92, 66, 44), (138, 104, 70), (60, 62, 66), (176, 170, 160), (40, 46, 58), (205, 200, 192), (104, 88, 78))


def choose_level(noise: str, rng: random.Random) -> str:
    """The level of one document: `noise` itself, or one of the levels for "mixed".

    Raises ValueError for an unknown level.
    """
    if noise == "mixed":
        return rng.choices(LEVELS, _SHARES)[0]
    if noise not in LEVELS:
        raise ValueError(f"no noise level {noise!r}; there are mixed, {', '.join(LEVELS)}")
    return noise


def noisy_page(page: Image.Image, level: str, rng: random.Random) -> bytes:
    """A page as it would arrive, encoded: PNG for clean and fax, JPEG for scan and photo.

    Scans and faxes keep the page's size; a photo shows some of the desk around it and is 4 to 10 % larger.
    """
    if level == "clean":
        return png(page)
    return _LEVELS[level](page, rng, np.random.default_rng(rng.getrandbits(64)))


def _scan(page: Image.Image, rng: random.Random, noise: np.random.Generator) -> bytes:
    """A flatbed or a sheet-fed scanner: a little askew, a little soft, paper not quite white."""
    pixels = to_pixels(page if rng.random() < 0.7 else page.convert("L"))
    pixels = _worn(pixels, rng, noise, strength=0.5)
    paper = _paper(rng, pixels, low=226)
    pixels = turned(pixels, rng.gauss(0, 0.55), rng.uniform(0.985, 1.0))
    pixels = as_floats(pixels * (np.asarray(paper, np.float32) / 255))
    pixels = _contrast(pixels, rng.uniform(0.82, 1.0), rng.uniform(-4, 6))
    pixels *= _texture(pixels, noise, 40, rng.uniform(0.0, 0.012))
    if rng.random() < 0.4:
        pixels *= _edge_shadow(pixels, rng)
    if rng.random() < 0.25:
        _streak(pixels, rng)
    pixels = blurred(pixels, rng.uniform(0.0, 0.75))
    pixels = grained(pixels, noise, rng.uniform(1.0, 5.0))
    speckle(pixels, rng, noise, rng.randint(0, 60))
    return jpeg(pixels, rng.randint(55, 90))


def _fax(page: Image.Image, rng: random.Random, noise: np.random.Generator) -> bytes:
    """A fax: coarser dots, black or white, lines lost on the way."""
    pixels = to_pixels(page.convert("L"))
    height, width = pixels.shape[:2]
    pixels = turned(pixels, rng.gauss(0, 0.4), rng.uniform(0.975, 0.995))
    scale = rng.uniform(0.92, 1.0)
    coarse = round(width * scale), round(height * scale)
    small = as_floats(cv2.resize(pixels, coarse, interpolation=cv2.INTER_AREA))
    small = blurred(small, rng.uniform(0.0, 0.45))
    small = grained(small, noise, rng.uniform(4, 9))
    rough = 6 * (_texture(small, noise, 14, 1.0) - 1)
    # On paper, above the grey of a softened decimal point, which must survive: it is part of the truth. On a dark
    # band, low enough for white letters to survive.
    on_paper = np.clip((cv2.blur(small, (41, 41)) - 90) / 70, 0, 1)
    small = as_floats(np.where(small > 112 + rng.uniform(84, 98) * on_paper + rough, 255, 0))
    for _ in range(rng.randint(0, 5)):
        row = rng.randrange(small.shape[0])
        start, end = sorted((rng.randrange(small.shape[1]), rng.randrange(small.shape[1])))
        small[row, start:end] = 255.0 if rng.random() < 0.7 else 0.0
    for _ in range(rng.randint(0, 2)):  # a dirty spot on the glass draws a thin line down the page
        # It stays in the margins: across a number it could be read as a digit.
        column = rng.choice((1, -1)) * rng.randrange(5, small.shape[1] // 17)
        small[noise.random(small.shape[0]) < rng.uniform(0.3, 0.9), column] = 0.0
    speckle(small, rng, noise, rng.randint(20, 220), largest=1)
    pixels = as_floats(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    return png(Image.fromarray(np.where(pixels > 127, 255, 0).astype(np.uint8)))


def _photo(page: Image.Image, rng: random.Random, noise: np.random.Generator) -> bytes:
    """A phone's picture of the page on a desk: perspective, uneven light, shadow, folds, soft focus."""
    pixels = to_pixels(page.convert("RGB"))
    height, width = pixels.shape[:2]
    paper = _paper(rng, pixels, low=222)
    pixels = as_floats(_worn(pixels, rng, noise, strength=1.0) * (np.asarray(paper, np.float32) / 255))
    pixels *= _texture(pixels, noise, 60, 0.007)
    if rng.random() < 0.55:
        pixels *= _folds(pixels, rng)
    room = rng.uniform(1.04, 1.1)
    size = round(width * room), round(height * room)
    picture = _on_desk(pixels, size, rng, noise)
    picture *= _light(picture, rng)
    if rng.random() < 0.6:
        picture *= _shadow(picture, rng)
    picture = blurred(picture, rng.uniform(0.35, 0.95))
    if rng.random() < 0.3:
        picture = _shaken(picture, rng)
    warmth = rng.uniform(-0.6, 1.0)  # of the light: bluish below 0, yellowish above
    cast = np.asarray([1 + 0.02 * warmth, 1.0, 1 - 0.07 * warmth], np.float32)
    picture = _contrast(picture * cast, rng.uniform(0.84, 1.0), rng.uniform(-8, 8))
    return jpeg(grained(picture, noise, rng.uniform(2.0, 6.5)), rng.randint(52, 86))


_LEVELS: Mapping[str, Callable[[Image.Image, random.Random, np.random.Generator], bytes]] = {
    "scan": _scan,
    "fax": _fax,
    "photo": _photo,
}


def _paper(rng: random.Random, pixels: Pixels, *, low: int) -> tuple[float, ...]:
    """The colour of the paper: white to slightly yellow."""
    white = rng.uniform(low, 255)
    if pixels.ndim == 2:
        return (white,)
    return white, white - rng.uniform(0, 4), white - rng.uniform(0, 14)


def _shaken(pixels: Pixels, rng: random.Random) -> Pixels:
    """Motion of the hand: a blur of two or three pixels in one direction."""
    kernel = np.zeros((5, 5), np.float32)
    dx, dy = rng.choice(((1, 0), (0, 1), (1, 1), (1, -1)))
    for step in (-1, 0, 1):
        kernel[2 + step * dy, 2 + step * dx] = 0.5 if step == 0 else 0.25
    return as_floats(cv2.filter2D(pixels, -1, kernel))


def _contrast(pixels: Pixels, factor: float, lift: float) -> Pixels:
    """Less contrast lifts the black, not the white."""
    return as_floats(255 - (255 - pixels) * factor + lift)


def _texture(pixels: Pixels, noise: np.random.Generator, cell: int, strength: float) -> Pixels:
    """Factors around 1 that vary smoothly over `cell` pixels."""
    height, width = pixels.shape[:2]
    coarse = noise.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return shaped(1 + strength * as_floats(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)), pixels)


def _worn(pixels: Pixels, rng: random.Random, noise: np.random.Generator, *, strength: float) -> Pixels:
    """Toner that did not hold everywhere: print is paler in places, never gone."""
    if rng.random() > 0.4:
        return pixels
    loss = np.clip(_texture(pixels, noise, rng.choice((4, 5, 24)), 1.0) - 1.4, 0, 1) * (0.36 * strength)
    return as_floats(pixels + (255 - pixels) * loss)


def _streak(pixels: Pixels, rng: random.Random) -> None:
    """A pale grey line down the page, as dust on a feeder draws it."""
    column = rng.randrange(pixels.shape[1] - 3)
    pixels[:, column : column + rng.randint(1, 3)] *= np.float32(rng.uniform(0.72, 0.92))


def _edge_shadow(pixels: Pixels, rng: random.Random) -> Pixels:
    """The dark strip along the spine of an opened binding, or under a lid that does not close."""
    height, width = pixels.shape[:2]
    depth = rng.uniform(20, 70)
    fade = 1 - rng.uniform(0.2, 0.55) * np.exp(-np.arange(width, dtype=np.float32) / depth)
    if rng.random() < 0.5:
        fade = fade[::-1]
    return shaped(as_floats(np.broadcast_to(fade, (height, width))), pixels)


def _folds(pixels: Pixels, rng: random.Random) -> Pixels:
    """One or two creases across the page, each lighter on one side, the panels between them differently lit."""
    height, width = pixels.shape[:2]
    factors = np.ones((height, width), np.float32)
    for share in rng.choice(((0.5,), (0.333, 0.667), (0.5,), (0.48, 0.97))):
        upright = rng.random() < 0.25
        length = width if upright else height
        at = length * (share + rng.uniform(-0.02, 0.02))
        place = np.arange(length, dtype=np.float32) - at
        crease = 1 - rng.uniform(0.06, 0.16) * np.exp(-np.abs(place + 1.5) / 2.2)
        crease += rng.uniform(0.03, 0.08) * np.exp(-np.abs(place - 2.5) / 3.0)
        panel = rng.uniform(0.02, 0.07) * np.exp(-np.abs(place) / (0.14 * length)) * np.sign(place)
        line = (crease + panel).astype(np.float32)
        factors *= line[None, :] if upright else line[:, None]
    return factors[:, :, None]


def _on_desk(pixels: Pixels, size: tuple[int, int], rng: random.Random, noise: np.random.Generator) -> Pixels:
    """The page in perspective on a desk with grain, with the thin shadow of its edge."""
    width, height = size
    desk = np.empty((height, width, 3), np.float32)
    desk[:] = rng.choice(_DESKS)
    stretch = noise.standard_normal((height // 160 + 2, width // 3 + 2), dtype=np.float32)
    grain = as_floats(cv2.resize(stretch, (width, height), interpolation=cv2.INTER_LINEAR))
    desk *= 1 + rng.uniform(0.01, 0.07) * grain[:, :, None]
    tall, wide = pixels.shape[:2]
    side, above = (width - wide) / 2, (height - tall) / 2

    def shift(room: float, span: float) -> float:
        return room * rng.uniform(0.2, 1.1) + span * rng.uniform(-0.004, 0.012)

    corners = [
        (shift(side, wide), shift(above, tall)),
        (width - shift(side, wide), shift(above, tall)),
        (width - shift(side, wide), height - shift(above, tall)),
        (shift(side, wide), height - shift(above, tall)),
    ]
    source = np.asarray([(0, 0), (wide, 0), (wide, tall), (0, tall)], np.float32)
    move = cv2.getPerspectiveTransform(source, np.asarray(corners, np.float32))
    page = as_floats(cv2.warpPerspective(pixels, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    mask = as_floats(cv2.warpPerspective(np.ones((tall, wide), np.float32), move, size, flags=cv2.INTER_LINEAR))
    edge = as_floats(cv2.GaussianBlur(mask, (0, 0), 7))
    desk *= (1 - 0.45 * edge)[:, :, None]
    return as_floats(desk + (np.clip(page, 0, 255) - desk) * mask[:, :, None])


def _light(pixels: Pixels, rng: random.Random) -> Pixels:
    """A lamp somewhere: brightness falls off across the picture and towards its corners."""
    height, width = pixels.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = 0.5 + 0.5 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) / 2
    corners = (x**2 + y**2) / 2
    return as_floats(1 - rng.uniform(0.02, 0.22) * slope - rng.uniform(0.0, 0.16) * corners)[:, :, None]


def _shadow(pixels: Pixels, rng: random.Random) -> Pixels:
    """The soft shadow of a hand or a phone that reaches in from one side."""
    height, width = pixels.shape[0] // 8, pixels.shape[1] // 8
    mask = np.zeros((height, width), np.float32)
    right = rng.random() < 0.5
    points = [(width * rng.uniform(0.35, 1.0), height * share) for share in (-0.1, 0.3, 0.6, 1.1)]
    start = rng.randint(0, 1)
    outline = [(0.0, points[start][1]), *points[start : start + 3], (0.0, points[min(3, start + 2)][1])]
    polygon = np.asarray([(width - x if right else x, y) for x, y in outline], np.int32)
    cv2.fillPoly(mask, [polygon], (1.0,))
    mask = as_floats(cv2.GaussianBlur(mask, (0, 0), rng.uniform(6, 18)))
    mask = as_floats(cv2.resize(mask, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR))
    return as_floats(1 - rng.uniform(0.1, 0.32) * mask)[:, :, None]
