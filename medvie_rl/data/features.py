"""What a document looks like, as numbers, for choosing a diverse subset: no model is needed but the text recognition.

Every document is a row of blocks: how the page looks, where its text stands, what the text is made of, the document
type, and the keys of its annotation. Blocks are scaled to comparable size, so that the many columns of one do not
outvote the few of another; the weights say how much each counts in a distance.
"""

import io
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medvie_rl.data.ocr import ImageSource, OcrCache, OcrLine
from medvie_rl.data.reading_order import rows_of
from medvie_rl.data.store import Document
from medvie_rl.errors import UserError
from medvie_rl.progress import UNSEEN, Progress
from rewards.values import is_left_out

Array = np.ndarray[Any, np.dtype[np.float64]]

WEIGHTS = {"look": 1.0, "hash": 0.3, "layout": 1.0, "script": 0.7, "words": 1.0, "type": 1.0, "keys": 0.7}
_SHARES = (
    "hash",
    "words",
)  # blocks whose columns have one unit: scaled as a whole, since rare columns are mostly noise
_NUM_NGRAM_COLUMNS = 128
_NUM_KEY_COLUMNS = 64
_NGRAM = 3  # characters
_GRID = 4  # cells of the page, each way
_THUMBNAIL = 64  # pixels, each way
_MAX_DEVIATION = 4.0  # standard deviations: one odd page must not be farther from all than all are apart
_NOTHING = 1e-9
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HIRAGANA", "HANGUL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The documents that could be read, in their order, each with its row; and what was wrong with the others."""

    documents: tuple[Document, ...]
    matrix: Array  # [documents, columns]
    problems: tuple[str, ...] = field(default=())


def document_features(
    documents: Sequence[Document], source: ImageSource, cache: OcrCache | None, *, progress: Progress = UNSEEN
) -> Features:
    """The features of documents; without a cache of recognised text (`light`) those that need none.

    A document whose pages cannot be read is left out and named in `problems`.
    """
    readable, problems = [], []
    blocks: dict[str, list[Array]] = {}
    progress.begin(len(documents))
    for document in progress.each(documents):
        try:
            made = _blocks_of(document, source, cache)
        except UserError:  # the engine or the cache, not the document
            raise
        except ValueError as error:
            text = str(error)
            problems.append(text if document.id in text else f"document '{document.id}': {text}")
        else:
            readable.append(document)
            for name, values in made.items():
                blocks.setdefault(name, []).append(values)
    parts = [WEIGHTS[name] * _scaled(np.stack(rows), whole=name in _SHARES) for name, rows in blocks.items()]
    parts += [WEIGHTS["type"] * _types(readable), WEIGHTS["keys"] * _keys(readable)]
    return Features(
        documents=tuple(readable), matrix=np.concatenate(parts, axis=1) if readable else np.zeros((0, 0)),
        problems=tuple(problems),
    )  # fmt: skip


def page_look(content: bytes) -> tuple[Array, Array]:
    """How a page looks from afar: grey, contrast, ink, edges and shape; and the 64 bits of its perceptual hash.

    Raises ValueError if the image cannot be decoded.
    """
    import imagehash
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("L", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
            width, height = image.size
            small = image.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error
    grey = np.asarray(small, dtype=np.float64) / 255
    paper = np.percentile(grey, 90)
    edges = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    numbers = [grey.mean(), grey.std(), (grey < 0.75 * paper).mean(), edges, np.log(width / height)]
    return np.array(numbers), imagehash.phash(small).hash.ravel().astype(np.float64)


def layout_statistics(lines: Sequence[OcrLine]) -> Array:
    """Where the text of a page stands: lines, heights, rows, columns, and the share of each cell of a 4x4 grid."""
    grid = np.zeros((_GRID, _GRID))
    for line in lines:
        grid += np.outer(_overlaps(line.box.y0, line.box.y1), _overlaps(line.box.x0, line.box.x1))
    heights = np.array([line.box.y1 - line.box.y0 for line in lines] or [0.0])
    rows = rows_of([line.box for line in lines])
    of_table = sum(len(row) >= 3 for row in rows) / max(1, len(rows))
    numbers = [
        np.log1p(len(lines)),
        np.median(heights),
        heights.std() / max(heights.mean(), 1e-6),
        len(lines) / max(1, len(rows)),
        of_table,
        num_columns(lines),
    ]
    return np.concatenate([numbers, grid.ravel() * _GRID**2])


def num_columns(lines: Sequence[OcrLine]) -> int:
    """How many left edges several lines share: 1 for a letter, more for forms and tables, 0 without text."""
    if not lines:
        return 0
    starts, _ = np.histogram([line.box.x0 for line in lines], bins=20, range=(0.0, 1.0))
    shared = starts >= max(2, 0.1 * len(lines))
    return max(1, int(shared[0]) + int((shared[1:] & ~shared[:-1]).sum()))  # neighbouring bins are one edge


def text_statistics(text: str) -> Array:
    """Of which characters a text is made: digits, capitals, marks, accents, and the share of each script."""
    characters = [character for character in text if not character.isspace()]
    letters = [character for character in characters if character.isalpha()]
    shares = [
        sum(map(str.isdigit, characters)) / max(1, len(characters)),
        sum(map(str.isupper, letters)) / max(1, len(letters)),
        sum(not character.isalnum() for character in characters) / max(1, len(characters)),
        sum(ord(character) > 127 for character in letters) / max(1, len(letters)),
        np.log1p(len(characters)),
    ]
    names = [unicodedata.name(character, "").split(" ")[0] for character in letters]
    return np.array(shares + [names.count(script) / max(1, len(names)) for script in _SCRIPTS])


def ngram_counts(text: str) -> Array:
    """Square roots of the shares of hashed runs of three characters; digits are alike, case is not looked at."""
    plain = "".join("0" if character.isdigit() else character for character in f" {' '.join(text.lower().split())} ")
    counts = np.zeros(_NUM_NGRAM_COLUMNS)
    for start in range(len(plain) - _NGRAM + 1):
        counts[zlib.crc32(plain[start : start + _NGRAM].encode()) % _NUM_NGRAM_COLUMNS] += 1
    shares: Array = np.sqrt(counts / max(1.0, counts.sum()))
    return shares


def _blocks_of(document: Document, source: ImageSource, cache: OcrCache | None) -> dict[str, Array]:
    images = source.images(document)
    looks = [page_look(images[key]) for key in document.image_keys]
    blocks = {
        "look": np.append(np.mean([numbers for numbers, _ in looks], axis=0), np.log(len(looks))),
        "hash": np.mean([bits for _, bits in looks], axis=0),
    }
    if cache is not None:
        pages = cache.lines_of(document, source)
        text = "\n".join(line.text for page in pages for line in page)
        blocks["layout"] = np.mean([layout_statistics(page) for page in pages], axis=0)
        blocks["script"] = text_statistics(text)
        blocks["words"] = ngram_counts(text)
    return blocks


def _scaled(values: Array, *, whole: bool) -> Array:
    """Columns of mean 0; rows whose mean square length is about 1. [documents, columns]

    Column by column, so that each counts alike, or all by one factor.
    """
    centred = values - values.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    if whole:
        result: Array = centred / max(np.sqrt((spread**2).sum()), _NOTHING)
        return result
    varies = spread > _NOTHING
    result = (centred[:, varies] / spread[varies]).clip(-_MAX_DEVIATION, _MAX_DEVIATION)
    result /= np.sqrt(max(1, varies.sum()))
    return result


def _types(documents: Sequence[Document]) -> Array:
    names = sorted({document.document_type for document in documents})
    return np.array([[float(document.document_type == name) for name in names] for document in documents])


def _keys(documents: Sequence[Document]) -> Array:
    """Which keys each annotation has, hashed; rows of length 1, or 0 where nothing is annotated."""
    rows = np.zeros((len(documents), _NUM_KEY_COLUMNS))
    for row, document in zip(rows, documents, strict=True):
        for key, value in document.annotation.items():
            if not is_left_out(value):
                row[zlib.crc32(key.encode()) % _NUM_KEY_COLUMNS] = 1.0
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    result: Array = rows / np.maximum(lengths, 1.0)
    return result


def _overlaps(start: float, end: float) -> Array:
    """How much of the span lies in each of the grid's cells."""
    cells = np.arange(_GRID) / _GRID
    shared: Array = np.maximum(0.0, np.minimum(end, cells + 1 / _GRID) - np.maximum(start, cells))
    return shared
