"""Finds pages that show the same thing: re-encoded, resized or scanned a little askew.

A page's hash is the perceptual hash of `imagehash` (signs of the low frequencies of its cosine transform) with 32 x 32
bits. Coarser hashes see the layout only, and call every two forms of one template the same. So fine a hash changes when
a page turns by a degree. Therefore each page is also hashed turned by up to 1.5 degrees both ways, inside its frame and
with the frame grown around it; two pages are as far apart as the nearest of these is from the other as it stands.

`MAX_DISTANCE` was chosen on 46 photographed, scanned and rendered documents, on 480 small slips and on drawn A4 forms
that differ only in what is filled in. The same page as JPEG of quality 60, resized to 90% and 50%, or turned a degree
was at most 112 of 1024 bits away. The nearest different pages were 154 bits apart (two prescriptions of one clinic),
slips 320 and forms 338. Copies of a form in which only a word differs cannot be told from one page scanned twice.

Pages are not compared pairwise: bits are dealt into 64 bands of 16, and only pages that agree in a whole band are. Two
pages at the limit agree in one with a probability of 99.9%, unrelated ones with 0.1%.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_DISTANCE = 120  # of NUM_BITS bits
NUM_BITS = 1024
_SIDE = 32  # NUM_BITS is its square
_GRID = 128  # pixels both ways that the cosine transform sees; the hash keeps the lower quarter of its frequencies
_TURNS = ((0.0, False), *((angle, grown) for angle in (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5) for grown in (False, True)))
_BAND_BITS = 16
_CHUNK = 1 << 18  # pairs compared at once, 64 MiB

Hashes = npt.NDArray[np.uint8]  # [turns, NUM_BITS / 8]; the page as it stands comes first
Positions = npt.NDArray[np.int64]


@dataclass(slots=True)
class Duplicate:
    """The page most like another one that came earlier."""

    page: int
    other: int
    distance: int  # bits


@dataclass(slots=True)
class PageHashes:
    """Hashes of the pages of a dataset, each with the document and the split that it belongs to, as numbers."""

    hashes: list[Hashes] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)

    def add(self, hashes: Hashes, document: int, split: int) -> int:
        """Add a page; returns its number."""
        self.hashes.append(hashes)
        self.documents.append(document)
        self.splits.append(split)
        return len(self.hashes) - 1

    def duplicates(self, max_distance: int = MAX_DISTANCE) -> list[Duplicate]:
        """For every page the nearest earlier one of another document within `max_distance`, if there is one.

        One of another split goes before a nearer one of the same split: that is the one that spoils scores.
        """
        if len(self.hashes) < 2:
            return []
        turned = np.stack(self.hashes)  # [pages, turns, bytes]
        nearest = _Nearest(len(turned), max_distance)
        documents, splits = np.array(self.documents), np.array(self.splits)
        for band in _bands():
            keys = _keys(turned, band)  # [pages, turns]
            for pages, turns, others in _agreeing(keys):
                keep = documents[pages] != documents[others]
                pages, turns, others = pages[keep], turns[keep], others[keep]
                differing = np.bitwise_count(turned[pages, turns].view(np.uint64) ^ turned[others, 0].view(np.uint64))
                distances = differing.sum(axis=1, dtype=np.int64)
                later, earlier = np.maximum(pages, others), np.minimum(pages, others)
                nearest.update(later, earlier, distances, splits[pages] != splits[others])
        return nearest.found()


def page_hashes(image: Image.Image) -> Hashes:
    """The hashes of a page as it stands and turned by small angles."""
    import imagehash

    page = image.convert("L").resize((_GRID, _GRID), Image.Resampling.LANCZOS, reducing_gap=3.0)
    border = _border_shade(page)
    rows = []
    for angle, grown in _TURNS:
        matrix = _turn(*image.size, angle, grown)
        turned = page.transform(
            (_GRID, _GRID), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=border
        )
        rows.append(np.packbits(imagehash.phash(turned, hash_size=_SIDE, highfreq_factor=_GRID // _SIDE).hash.ravel()))
    return np.stack(rows)


class _Nearest:
    """The best earlier page of each page so far."""

    def __init__(self, num_pages: int, max_distance: int) -> None:
        self._max_distance = max_distance
        # Crossing splits goes first, then nearness, then coming first: the least of one number per page.
        self._best = np.full(num_pages, np.iinfo(np.int64).max)
        self._num_pages = num_pages

    def update(
        self,
        pages: Positions,
        others: Positions,
        distances: Positions,
        crossing: npt.NDArray[np.bool_],
    ) -> None:
        near = distances <= self._max_distance
        rank = np.where(crossing[near], 0, NUM_BITS + 1) + distances[near]
        np.minimum.at(self._best, pages[near], rank * self._num_pages + others[near])

    def found(self) -> list[Duplicate]:
        has_one = np.flatnonzero(self._best < np.iinfo(np.int64).max)
        ranks, others = np.divmod(self._best[has_one], self._num_pages)
        distances = ranks % (NUM_BITS + 1)
        return [Duplicate(*map(int, row)) for row in zip(has_one, others, distances, strict=True)]


def _bands() -> Positions:
    """Bits dealt into bands, the same on every machine; neighbours go to different ones."""
    shuffled: Positions = np.random.Generator(np.random.PCG64(0)).permutation(NUM_BITS)
    return shuffled.reshape(-1, _BAND_BITS)


def _keys(turned: npt.NDArray[np.uint8], band: Positions) -> npt.NDArray[np.uint16]:
    """The bits of a band as one number for every page and turn."""
    keys = np.zeros(turned.shape[:2], dtype=np.uint16)
    for bit in band:
        keys = (keys << 1) | ((turned[:, :, bit // 8] >> (7 - bit % 8)) & 1)
    return keys


def _agreeing(keys: npt.NDArray[np.uint16]) -> Iterator[tuple[Positions, Positions, Positions]]:
    """Pages and turns with the pages that agree with them in a band as they stand, by chunks of pairs."""
    order = np.argsort(keys[:, 0], kind="stable")
    as_it_stands = keys[order, 0]
    num_turns = keys.shape[1]
    start = np.searchsorted(as_it_stands, keys.ravel(), side="left")
    counts = np.searchsorted(as_it_stands, keys.ravel(), side="right") - start
    ends = np.cumsum(counts)
    total = int(ends[-1])
    for first in range(0, total, _CHUNK):
        pair = np.arange(first, min(first + _CHUNK, total))
        asking = np.searchsorted(ends, pair, side="right")
        others = order[start[asking] + pair - (ends[asking] - counts[asking])]
        pages, turns = np.divmod(asking, num_turns)
        yield pages, turns, others


def _turn(width: int, height: int, degrees: float, grown: bool) -> tuple[float, ...]:
    """Pillow's affine matrix that turns a page of this size about its middle once it is squeezed into the grid."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    frame_width, frame_height = float(width), float(height)
    if grown:
        frame_width, frame_height = width * cos + height * abs(sin), width * abs(sin) + height * cos
    # From shares of the frame to shares of the page, both counted from the middle; pages are not square.
    a, b = cos * frame_width / width, -sin * frame_height / width
    c, d = sin * frame_width / height, cos * frame_height / height
    middle = _GRID / 2
    return a, b, middle - (a + b) * middle, c, d, middle - (c + d) * middle


def _border_shade(page: Image.Image) -> int:
    pixels = np.asarray(page)
    return int(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
