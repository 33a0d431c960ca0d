"""Damages a page by degrees, so that it can be seen how much of each a policy bears; same call, same bytes.

Unlike the noise of synthetic pages (`synth.noise`), which is mixed as scanners and phones mix it, a damage is one thing
at a time, works on any page, and leaves its size as it is.
"""

import io
import random
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from medvie_rl.data.synth.pixels import Pixels, as_floats, blurred, grained, png, speckle, to_image, to_pixels, turned

MAX_DEGREE = 3
_SHORT_SIDE = 800  # pixels up to which a page's letters are taken to be as small as those of a slip: about 12 pixels
_ROTATIONS = (1.0, 2.0, 3.0)  # degrees; more would cut off what stands at the edge
_SIGMAS = (0.6, 1.0, 1.5)  # of the blur, in pixels of a slip
_FAX_SCALES = (0.9, 0.75, 0.6)  # resolution that is left
_FAX_GRAIN = (8.0, 16.0, 28.0)  # grey noise before all is black or white
_STAMP_SIZES = (0.45, 0.6, 0.8)  # of the shorter side
_STAMP_INKS = (0.35, 0.6, 0.8)  # how much it covers
_STAMP_TEXTS = ("COPY", "PAID", "RECEIVED", "VOID")


def damaged_page(content: bytes, damage: str, degree: int, seed: str) -> bytes:
    """An encoded page as a grey PNG with one of `DAMAGES` done to it; `degree` is from 1 to `MAX_DEGREE`.

    Raises ValueError for an unknown damage or degree.
    """
    if damage not in DAMAGES:
        raise ValueError(f"no damage {damage!r}; there are {', '.join(DAMAGES)}")
    if not 1 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree of damage: expected 1 to {MAX_DEGREE}, got {degree}")
    with Image.open(io.BytesIO(content)) as image:
        page = to_pixels(ImageOps.exif_transpose(image).convert("L"))
    changed = DAMAGES[damage](page, degree - 1, random.Random(f"medvie damage {damage} {degree} {seed}"))
    return png(to_image(changed))


def _rotation(page: Pixels, degree: int, rng: random.Random) -> Pixels:
    """Put on the glass askew."""
    return turned(page, rng.choice((-1, 1)) * _ROTATIONS[degree], 1.0)


def _blur(page: Pixels, degree: int, rng: random.Random) -> Pixels:
    """Out of focus."""
    return blurred(page, _SIGMAS[degree] * _scale(page))


def _fax(page: Pixels, degree: int, rng: random.Random) -> Pixels:
    """Coarser dots, black or white, lines lost on the way."""
    height, width = page.shape[:2]
    noise = np.random.default_rng(rng.getrandbits(64))
    coarse = round(width * _FAX_SCALES[degree]), round(height * _FAX_SCALES[degree])
    small = as_floats(cv2.resize(page, coarse, interpolation=cv2.INTER_AREA))
    small = grained(small, noise, _FAX_GRAIN[degree])
    small = as_floats(np.where(small > 150, 255, 0))
    for _ in range(degree):
        small[rng.randrange(small.shape[0]), :] = 255.0
    speckle(small, rng, noise, small.size * (degree + 1) // 2000, largest=1)
    return as_floats(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _stamp(page: Pixels, degree: int, rng: random.Random) -> Pixels:
    """A round stamp with a word, pressed over the text."""
    height, width = page.shape[:2]
    size = round(_STAMP_SIZES[degree] * min(height, width))
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    thick = max(2, size // 16)
    draw.ellipse((1, 1, size - 2, size - 2), outline=255, width=thick)
    draw.text((size / 2, size / 2), rng.choice(_STAMP_TEXTS), fill=255, anchor="mm", font_size=max(8, size // 5))
    pressed = to_pixels(mask.rotate(rng.uniform(-30, 30), resample=Image.Resampling.BICUBIC)) / 255
    top, left = rng.randint(0, height - size), rng.randint(0, width - size)
    ink = np.zeros_like(page)
    ink[top : top + size, left : left + size] = pressed
    return as_floats(page * (1 - _STAMP_INKS[degree] * ink))


def _scale(page: Pixels) -> float:
    """How much larger than a slip's the letters of a page are."""
    return max(1.0, float(min(page.shape[:2])) / _SHORT_SIDE)


DAMAGES: Mapping[str, Callable[[Pixels, int, random.Random], Pixels]] = {
    "rotation": _rotation,
    "blur": _blur,
    "fax": _fax,
    "stamp": _stamp,
}
