"""The program that draws PDF pages: started by `medvie_rl.data.pdf_pages` as a process of its own.

A PDF can make its reader work without end or fill the memory. Here it can do neither to the program that asked: the
process has a limit on memory, and who started it kills it when its time is up.

One JSON object a line comes in on standard input: {"path", "dpi", "max_pages", "max_pixels"}. For each, lines go out: a
page is {"page", "num_pages", "dpi", "bytes"} followed by that many bytes of a PNG; a blank page is {"blank": number};
the end is {"end": true} or {"error": reason}. Nothing of medvie_rl is imported, so that it starts at once.
"""

import io
import json
import resource
import sys
from typing import Any, BinaryIO

import pypdfium2 as pdfium  # type: ignore[import-untyped,unused-ignore]
from pypdfium2 import raw

MAX_POINTS = 14_400  # the longest side that the format allows, 200 inches
_MEMORY = 6 * 2**30  # bytes of address space
_MAX_DEPTH = 4  # of forms inside forms that are looked through for images


class _Refused(ValueError):
    pass


def main() -> None:
    """Answer requests until the input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most), most))
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _render(out, **request)
            _send(out, {"end": True})
        except (_Refused, pdfium.PdfiumError, OSError, ValueError) as error:
            _send(out, {"error": _reason(error)})
        except MemoryError:
            _send(out, {"error": f"drawing it needs more than {_MEMORY >> 30} GB of memory"})


def _render(out: BinaryIO, *, path: str, dpi: int, max_pages: int, max_pixels: int) -> None:
    document = pdfium.PdfDocument(path)
    try:
        if document.get_formtype() != raw.FORMTYPE_NONE:
            document.init_forms()  # filled-in forms show their values only so
        num_pages = len(document)
        if num_pages == 0:
            raise _Refused("it has no pages")
        if num_pages > max_pages:
            raise _Refused(f"it has {num_pages} pages, at most {max_pages} are read; raise --max-pages or split it")
        for number in range(1, num_pages + 1):
            _render_page(out, document, number, num_pages, dpi=dpi, max_pixels=max_pixels)
    finally:
        document.close()


def _render_page(out: BinaryIO, document: Any, number: int, num_pages: int, *, dpi: int, max_pixels: int) -> None:
    page = document[number - 1]
    try:
        width, height = page.get_size()
        if not (0 < width <= MAX_POINTS and 0 < height <= MAX_POINTS):
            raise _Refused(
                f"page {number} measures {width:g} x {height:g} points, the format allows {MAX_POINTS} for a side"
            )
        for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=_MAX_DEPTH):
            columns, rows = item.get_px_size()
            if columns * rows > max_pixels:
                raise _Refused(
                    f"page {number} holds an image that declares {columns} x {rows} pixels, at most "
                    f"{max_pixels / 1e6:g} megapixels are drawn"
                )
        used = _fitting_dpi(width, height, dpi, max_pixels // 4)
        image = page.render(scale=used / 72, may_draw_forms=True).to_pil().convert("RGB")
    finally:
        page.close()
    if num_pages > 1 and all(low == high for low, high in image.getextrema()):
        _send(out, {"blank": number})
        return
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    _send(out, {"page": number, "num_pages": num_pages, "dpi": used, "bytes": buffer.tell()})
    out.write(buffer.getvalue())
    out.flush()


def _fitting_dpi(width: float, height: float, dpi: int, max_pixels: int) -> int:
    """`dpi`, or the most at which the page has no more than `max_pixels`."""
    most = 72 * (max_pixels / (width * height)) ** 0.5
    return max(1, min(dpi, int(most)))


def _send(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _reason(error: Exception) -> str:
    text = str(error)
    if "Incorrect password" in text or "password" in text.lower():
        return "it is protected by a password; save it without one"
    return text if isinstance(error, _Refused) else f"it is no readable PDF ({text.rstrip('.')})"


if __name__ == "__main__":
    main()
