"""The pages of a dataset: readable, of usual size, shown once. Every image is read once, row group by row group."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from medvie_rl.data.check_duplicates import NUM_BITS, PageHashes, page_hashes
from medvie_rl.data.check_findings import Finding, finding
from medvie_rl.data.store import POOL, Document, Split
from medvie_rl.progress import UNSEEN, Progress

MIN_SIDE = 28  # pixels; a patch that vision-language models read
MAX_ASPECT = 20.0  # longer side by shorter side
MAX_PIXELS = 100_000_000  # an A4 page at 1,000 dpi
MIN_DEVIATION = 2.0  # standard deviation of grey values 0..255; below it nothing can be read on a page
_SIDE_TO_DECODE = 320  # pixels of the shorter side that a JPEG is reduced to at most while it is decoded

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(slots=True, kw_only=True)
class _Page:
    split: str
    document: Document
    index: int
    position: int  # of the document in the dataset


@dataclass(slots=True)
class PageCheck:
    """Goes through the pages of all splits, then says which of them are the same."""

    findings: list[Finding] = field(default_factory=list)
    num_pages: int = 0
    _hashes: PageHashes = field(default_factory=PageHashes)
    _hashed: list[_Page] = field(default_factory=list)  # the pages of `_hashes`, in its order
    _first: dict[str, list[_Page]] = field(default_factory=dict)  # the first page of each split by sha256
    _splits: list[str] = field(default_factory=list)
    _num_documents: int = 0

    def read(self, name: str, split: Split, progress: Progress = UNSEEN) -> None:
        """Check every page of a split."""
        self._splits.append(name)
        for document in progress.each(split):
            try:
                images = split.images(document)
            except ValueError as error:
                self._report("unreadable_image", name, document, f"{error}; import the document again or remove it")
                images = {}
            for index, key in enumerate(document.image_keys):
                self.num_pages += 1
                page = _Page(split=name, document=document, index=index, position=self._num_documents)
                if key in images:
                    self._check(page, key, images[key])
            self._num_documents += 1

    def same_pages(self) -> Iterator[Finding]:
        """Pages that look like an earlier page of another document; those of the same bytes `read` has found."""
        for duplicate in self._hashes.duplicates():
            page, other = self._hashed[duplicate.page], self._hashed[duplicate.other]
            detail = f" ({duplicate.distance} of {NUM_BITS} bits of their hashes differ)"
            yield _same_page(page, other, "looks like", detail)

    def _check(self, page: _Page, key: str, content: bytes) -> None:
        firsts = self._first.setdefault(key, [])
        if firsts:
            self._report_same_bytes(page, firsts)
            return  # what else there is to say was said of the first one
        firsts.append(page)
        try:
            image = self._open(page, content)
        except _UNREADABLE as error:
            self._report_page("unreadable_image", page, f"is not a readable image ({error}); replace or remove it")
            return
        if image is None:
            return
        deviation = float(np.asarray(image, dtype=np.float32).std())
        if deviation < MIN_DEVIATION:
            message = (
                f"is almost blank (its grey values deviate by {deviation:.1f} of 255); remove it if it says nothing"
            )
            self._report_page("blank_page", page, message)
            return  # the hash of a blank page is noise
        self._hashes.add(page_hashes(image), page.position, self._splits.index(page.split))
        self._hashed.append(page)

    def _open(self, page: _Page, content: bytes) -> Image.Image | None:
        """The page in grey, decoded whole or at reduced size; None, with a finding, if it is too large to decode."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # pages are judged by MAX_PIXELS below
            image = Image.open(io.BytesIO(content))
        width, height = image.size
        self._check_size(page, width, height)
        if width * height > MAX_PIXELS:
            message = (
                f"has {width} x {height} = {width * height / 1e6:.0f} million pixels, expected {MAX_PIXELS / 1e6:.0f} "
                "million at most; store it smaller"
            )
            self._report_page("too_large", page, message)
            return None
        image.draft("L", (_SIDE_TO_DECODE, _SIDE_TO_DECODE))
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)  # type: ignore[assignment]
        return image.convert("L")

    def _check_size(self, page: _Page, width: int, height: int) -> None:
        sizes = page.document.image_sizes
        if sizes and sizes[page.index] != (width, height):
            said = "{} x {}".format(*sizes[page.index])
            self._report_page("wrong_size", page, f"has {width} x {height} pixels, the dataset says {said}")
        if min(width, height) < MIN_SIDE:
            message = f"has {width} x {height} pixels, a side of less than {MIN_SIDE}; a policy can hardly read it"
            self._report_page("extreme_image", page, message)
        elif max(width, height) > MAX_ASPECT * min(width, height):
            message = f"has {width} x {height} pixels, one side more than {MAX_ASPECT:g} times the other; cut it"
            self._report_page("extreme_image", page, message)

    def _report_same_bytes(self, page: _Page, firsts: list[_Page]) -> None:
        if all(first.split != page.split for first in firsts):
            firsts.append(page)
            other = firsts[0]
        else:
            other = next((first for first in firsts if first.split != page.split), firsts[0])
        self.findings.append(_same_page(page, other, "is the same image as"))

    def _report_page(self, kind: str, page: _Page, message: str) -> None:
        self._report(kind, page.split, page.document, f"{_name(page)} {message}")

    def _report(self, kind: str, split: str, document: Document, message: str) -> None:
        self.findings.append(finding(kind, message, split=split, document_id=document.id))


def _same_page(page: _Page, other: _Page, how: str, detail: str = "") -> Finding:
    # A candidate to annotate spoils no scores yet, but annotating it would.
    leaks = page.split != other.split and POOL not in (page.split, other.split)
    whose = "the same document" if other.document is page.document else f"document '{other.document.id}'"
    where = f"{_name(other)} of {whose}" + (f" in split '{other.split}'" if other.split != page.split else "")
    advice = "; held-out scores would be a lie: remove one of them" if leaks else "; remove one of them"
    message = f"{_name(page)} {how} {where}{detail}{advice}"
    kind = "leakage" if leaks else "duplicate_image"
    return finding(kind, message, split=page.split, document_id=page.document.id)


def _name(page: _Page) -> str:
    return f"page {page.index + 1}"
