"""Reading the text of a page: RapidOCR (PP-OCR models on ONNX Runtime), offline, with a cache on disk.

The models lie inside the `rapidocr` package; nothing is ever fetched. A page is read as it is stored, which is what the
policy sees, too: no EXIF rotation is applied.
"""

import io
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from medvie_rl.data.reading_order import Box, reading_order
from medvie_rl.data.store import Document
from medvie_rl.errors import UserError

_MODELS = ("PP-OCRv6_det_small.onnx", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", "PP-OCRv6_rec_small.onnx")
_LONGEST_SIDE = 2000  # pixels; larger pages are scaled down, which costs only their smallest print
_SHORTEST_SIDE = 736  # pixels; smaller pages are scaled up to it, which finds more of their print,
_MOST_ENLARGED = 2.5  # but not more than so many times, which would only take longer
_MIN_CONFIDENCE = 0.5
_MAX_THREADS = 4  # more hardly help on one page
_REVISION = 1  # raise it when this module reads pages otherwise: what is cached is then read again


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrLine:
    """One recognised line of text, or cell of a table."""

    text: str
    box: Box  # in shares of the page, 0 to 1
    confidence: float  # 0.5 to 1; what is less sure is left out


class ImageSource(Protocol):
    """Where the pages of documents come from: a split, or the data of a run."""

    def images(self, document: Document) -> Mapping[str, bytes]:
        """The encoded images of a document's pages by their sha256."""


def engine_version() -> str:
    """What the recognised text depends on besides the page."""
    return f"rapidocr-{version('rapidocr')}-{_REVISION}"


def read_lines(content: bytes) -> tuple[OcrLine, ...]:
    """The lines of an encoded image in reading order, none if there is no text on it.

    Raises ValueError with the reason if the image cannot be decoded, UserError if the engine is not installed whole.
    """
    pixels = _pixels(content)
    height, width = pixels.shape[:2]
    found = _engine()(pixels)
    texts = getattr(found, "txts", None)
    if not texts:
        return ()
    boxes = [_box(corners, width, height) for corners in found.boxes]
    return tuple(
        OcrLine(text=" ".join(texts[index].split()), box=boxes[index], confidence=round(float(found.scores[index]), 4))
        for index in reading_order(boxes)
        if texts[index].strip()
    )


class OcrCache:
    """The recognised lines of pages, kept in a folder: one JSON file a page, named by the image's sha256.

    Files are written beside and renamed, so that several processes may share a folder. A file that cannot be read is
    read anew from the page and counted in `num_damaged`. Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / engine_version() if folder else None
        self.num_read = 0  # pages that the engine had to read
        self.num_damaged = 0

    def lines_of_page(self, key: str, content: Callable[[], bytes]) -> tuple[OcrLine, ...]:
        """The lines of the page whose image has this sha256; `content` is asked for only if they are not cached."""
        cached = self._load(key)
        if cached is not None:
            return cached
        lines = read_lines(content())
        self.num_read += 1
        if self._folder:
            self._store(self._folder / key[:2] / f"{key}.json", lines)
        return lines

    def lines_of(self, document: Document, split: ImageSource) -> tuple[tuple[OcrLine, ...], ...]:
        """The lines of a document, page by page; raises ValueError naming the document if a page cannot be read."""
        try:
            return tuple(
                self.lines_of_page(key, lambda key=key: split.images(document)[key])  # type: ignore[misc]
                for key in document.image_keys
            )
        except UserError:
            raise
        except ValueError as error:
            raise ValueError(f"document '{document.id}': {error}") from error

    def _load(self, key: str) -> tuple[OcrLine, ...] | None:
        if not self._folder:
            return None
        path = self._folder / key[:2] / f"{key}.json"
        try:
            return tuple(_line_of(item) for item in json.loads(path.read_text(encoding="utf-8"))["lines"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):  # half a file, another program's file: read the page again
            self.num_damaged += 1
            return None

    def _store(self, path: Path, lines: Sequence[OcrLine]) -> None:
        content = {"lines": [{"text": line.text, "box": line.box, "confidence": line.confidence} for line in lines]}
        aside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            os.replace(aside, path)
        except OSError as error:
            raise UserError(
                f"{path}: the recognised text cannot be kept there ({error}); name a folder that can be written to "
                "(ocr.cache, or --ocr-cache)"
            ) from error


def cache_folder(dataset: Path | str, named: str = "") -> Path:
    """Where recognised text is kept: the folder that is named, else `ocr` in the dataset's folder.

    Raises UserError for a dataset that is no local folder and no folder named.
    """
    if named:
        return Path(named)
    if "://" in str(dataset):
        raise UserError(f"{dataset}: name a local folder for the recognised text of a remote dataset (ocr.cache)")
    return Path(dataset) / "ocr"


def _line_of(item: dict[str, Any]) -> OcrLine:
    text, corners, confidence = item["text"], item["box"], item["confidence"]
    if not isinstance(text, str) or len(corners) != len(Box._fields):
        raise ValueError("not a recognised line")
    return OcrLine(text=text, box=Box(*map(float, corners)), confidence=float(confidence))


@cache
def _engine() -> Callable[[Any], Any]:
    try:
        import rapidocr
    except ImportError as error:
        raise UserError(
            f"reading text needs the packages rapidocr and onnxruntime ({error}); pip install them"
        ) from error
    models = Path(rapidocr.__file__).parent / "models"
    if missing := [name for name in _MODELS if not (models / name).is_file()]:
        raise UserError(
            f"{models}: the OCR models {missing} are missing, and nothing is downloaded; expected them inside the "
            "package: pip install --force-reinstall --no-deps rapidocr==3.10.0"
        )
    detector, classifier, recognizer = (str(models / name) for name in _MODELS)
    num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
    engine: Callable[[Any], Any] = rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",  # every page without text is a warning to it
            "Global.max_side_len": _LONGEST_SIDE,
            "Global.text_score": _MIN_CONFIDENCE,
            "EngineConfig.onnxruntime.intra_op_num_threads": num_threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # named files are used as they are: a path the library chooses itself would be fetched if it were damaged
            "Det.model_path": detector,
            "Det.limit_side_len": 32,  # pages come in the right size
            "Cls.model_path": classifier,
            "Rec.model_path": recognizer,
        }
    )
    return engine


def _pixels(content: bytes) -> Any:
    """The page as BGR bytes [H, W, 3], transparency on white, scaled to what the engine reads best."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format == "JPEG":
                image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # never below what is asked for
            image.load()
            page = _on_white(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error
    enlarged = min(_MOST_ENLARGED, max(1.0, _SHORTEST_SIDE / min(page.size)))
    scale = min(enlarged, _LONGEST_SIDE / max(page.size))
    if scale != 1.0:
        size = tuple(max(1, round(side * scale)) for side in page.size)
        page = page.resize(size, Image.Resampling.LANCZOS if scale < 1.0 else Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(page)[:, :, ::-1])


def _on_white(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 or 32 bits of grey: what is brightest becomes white
        import numpy as np

        grey = np.asarray(image, dtype=np.float64)
        return Image.fromarray((grey * (255 / max(grey.max(), 1.0))).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        page.alpha_composite(layer)
        return page.convert("RGB")
    return image.convert("RGB")


def _box(corners: Any, width: int, height: int) -> Box:
    xs = [min(1.0, max(0.0, float(x) / width)) for x, _ in corners]
    ys = [min(1.0, max(0.0, float(y) / height)) for _, y in corners]
    return Box(*(round(share, 4) for share in (min(xs), min(ys), max(xs), max(ys))))
