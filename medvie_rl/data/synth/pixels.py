"""Pages as arrays of pixels, and the few things that noise and damage are made of."""

import io
import random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float32]  # [H, W] or [H, W, 3], 0 to 255


def to_pixels(page: Image.Image) -> Pixels:
    """The page's pixels, of its own number of channels."""
    return np.asarray(page, dtype=np.float32).copy()


def png(page: Image.Image) -> bytes:
    """The page as a PNG of 150 dpi."""
    buffer = io.BytesIO()
    page.save(buffer, format="PNG", compress_level=4, dpi=(150, 150))
    return buffer.getvalue()


def to_image(pixels: Pixels) -> Image.Image:
    """The pixels as an image of 8 bits a channel."""
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """The pixels as a JPEG of 150 dpi."""
    buffer = io.BytesIO()
    to_image(pixels).save(buffer, format="JPEG", quality=quality, dpi=(150, 150))
    return buffer.getvalue()


def turned(pixels: Pixels, degrees: float, scale: float) -> Pixels:
    """The page turned about its middle, white around it."""
    height, width = pixels.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    border = cv2.BORDER_CONSTANT
    return as_floats(
        cv2.warpAffine(
            pixels, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=border, borderValue=(255.0,) * 3
        )
    )


def as_floats(pixels: Any) -> Pixels:
    """Any array of pixels as float32."""
    return np.asarray(pixels, dtype=np.float32)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Out of focus by `sigma` pixels; less than can be seen leaves all as it is."""
    return as_floats(cv2.GaussianBlur(pixels, (0, 0), sigma)) if sigma > 0.2 else pixels


def grained(pixels: Pixels, noise: np.random.Generator, sigma: float) -> Pixels:
    """Grey noise of deviation `sigma`, alike in all channels."""
    grains = noise.standard_normal(pixels.shape[:2], dtype=np.float32) * np.float32(sigma)
    return as_floats(pixels + (grains if pixels.ndim == 2 else grains[:, :, None]))


def shaped(factors: Pixels, pixels: Pixels) -> Pixels:
    """Factors [H, W] as they multiply the pixels: with a channel axis where these have one."""
    return factors if pixels.ndim == 2 else factors[:, :, None]


def speckle(pixels: Pixels, rng: random.Random, noise: np.random.Generator, count: int, largest: int = 2) -> None:
    """Dark specks of one to two pixels, smaller than a decimal point."""
    height, width = pixels.shape[:2]
    rows, columns = noise.integers(0, height - 2, count), noise.integers(0, width - 2, count)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        wide, tall = rng.randint(1, largest), rng.randint(1, largest)
        pixels[row : row + tall, column : column + wide] = rng.uniform(0, 110)
