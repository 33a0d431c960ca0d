"""Making pages smaller until they fit into the engine's context, which is said of each."""

import hashlib
import io
from collections.abc import Callable, Sequence

from medvie_rl.data.pages import Page

Sizes = Sequence[tuple[int, int]]  # (width, height) in pixels, a page each
_SMALLEST_SIDE = 56  # pixels: two of the vision tower's merged patches
_STEPS = 12  # of halving the interval of scales: a page comes within a thousandth of the largest that fits


def shrunk(pages: Sequence[Page], fits: Callable[[Sizes], bool]) -> tuple[Page, ...] | None:
    """The pages, all by the same factor as little smaller as `fits` wants it; None where no sensible size does."""
    if fits([page.size for page in pages]):
        return tuple(pages)
    low, high = min(1.0, _SMALLEST_SIDE / min(min(page.size) for page in pages)), 1.0
    if not fits(_scaled(pages, low)):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(_scaled(pages, middle)) else (low, middle)
    return tuple(_resized(page, size) for page, size in zip(pages, _scaled(pages, low), strict=True))


def _scaled(pages: Sequence[Page], scale: float) -> list[tuple[int, int]]:
    return [(max(1, int(page.size[0] * scale)), max(1, int(page.size[1] * scale))) for page in pages]


def _resized(page: Page, size: tuple[int, int]) -> Page:
    from PIL import Image

    with Image.open(io.BytesIO(page.content)) as image:
        image.draft("RGB", size)  # lets a JPEG decode at a half, a quarter or an eighth where that is enough
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", compress_level=1)
    content = buffer.getvalue()
    note = f"made smaller to fit: {page.size[0]} x {page.size[1]} to {size[0]} x {size[1]} pixels"
    return Page(content, hashlib.sha256(content).hexdigest(), size, "; ".join(filter(None, (page.note, note))))
