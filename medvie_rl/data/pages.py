"""Files as pages: every image, PDF, TIFF or DICOM file becomes encoded images that everything else can decode.

What is read is told by the content, never by the name's ending. An 8-bit RGB or grey JPEG, PNG or WebP stays byte for
byte; the rest is converted, to PNG, or to JPEG where the file was a JPEG or HEIC photo, and the page's `note` says what
was done. A file that cannot be read whole is refused with the reason; sizes are checked before anything is decoded.
"""

import errno
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medvie_rl.data.page_modes import UnsupportedImageError, to_eight_bits

if TYPE_CHECKING:
    from PIL import Image

PAGE_ENDINGS = (".bmp", ".dcm", ".gif", ".heic", ".jpeg", ".jpg", ".pdf", ".png", ".tif", ".tiff", ".webp")
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 150_000_000  # of one page
MAX_TOTAL_PIXELS = 600_000_000  # of all pages of a file
_ORIENTATION = 0x0112  # EXIF tag
_KEPT = ("JPEG", "MPO", "PNG", "WEBP")  # MPO: a JPEG of a phone with a second picture behind the first
_PHOTOS = ("JPEG", "MPO", "HEIF", "AVIF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
    ("GIF", b"GIF8"),
    ("BMP", b"BM"),
    ("JPEG2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
)
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82"}
# What decoders raise for a damaged file, besides the OSError and ValueError that they should.
_DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, LookupError, TypeError, OverflowError,
    ArithmeticError, AssertionError, AttributeError, MemoryError, RuntimeError,
)  # fmt: skip


class UnreadableFileError(ValueError):
    """A file that gives no pages; the message is the reason, without the file's name."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: an encoded image, its sha256, its (width, height) in pixels, and what was done to it ("": nothing)."""

    content: bytes
    key: str
    size: tuple[int, int]
    note: str = ""


def read_pages(path: Path, *, dpi: int = 150, max_pages: int = 50) -> list[Page]:
    """All pages of a file, in order. `dpi` is the resolution, in dots per inch, at which PDF pages are drawn.

    Raises UnreadableFileError with the reason: missing, empty, too large, unknown, damaged, cut off, or with more than
    `max_pages` pages.
    """
    content = _read(path)
    kind = sniff(content)
    if kind == "PDF":
        return _pdf_pages(path, content, dpi=dpi, max_pages=max_pages)
    if kind == "DICOM":
        return _dicom_pages(content, dpi=dpi, max_pages=max_pages)
    if not kind:
        raise UnreadableFileError(_unknown(content))
    return _image_pages(content, kind, max_pages)


def sniff(content: bytes) -> str:
    """What a file is by its content: PDF, DICOM, HEIF, AVIF, or an image format of Pillow; "" if nothing known."""
    for kind, signature in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        return "AVIF" if content[8:12] in (b"avif", b"avis") else "HEIF" if content[8:12] in _HEIF_BRANDS else ""
    if content[128:132] == b"DICM":
        return "DICOM"
    return "PDF" if b"%PDF-" in content[:1024] else ""


def _read(path: Path) -> bytes:
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise UnreadableFileError("it is a folder, expected a file")
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableFileError("it is a device or a pipe, expected a file")
        if state.st_size > MAX_FILE_BYTES:
            raise UnreadableFileError(
                f"it has {state.st_size / 2**20:.0f} MB, at most {MAX_FILE_BYTES >> 20} are read; make it smaller"
            )
        content = path.read_bytes()
    except UnreadableFileError:
        raise
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UnreadableFileError(f"it is a link to {os.readlink(path)}, which does not exist") from error
        raise UnreadableFileError("it does not exist") from error
    except PermissionError as error:
        raise UnreadableFileError("it may not be read (permission denied); change its permissions") from error
    except OSError as error:
        reason = "a link that leads to itself" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise UnreadableFileError(f"it cannot be read ({reason})") from error
    except ValueError as error:  # a name with a zero byte
        raise UnreadableFileError(f"it cannot be read ({error})") from error
    if not content:
        raise UnreadableFileError("it is empty")
    return content


def _unknown(content: bytes) -> str:
    start = content[:64]
    if content[4:8] == b"ftyp":
        return f"it is media of kind {content[8:12]!r}, which is no image or PDF"
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and (text.isprintable() or text.strip().splitlines()[:1]):
        line = (text.strip().splitlines() or [""])[0]
        return f"it is a text, which begins with {line[:30]!r}; expected an image, a PDF or a DICOM file"
    return f"it is no image, PDF or DICOM file by its content; it begins with {content[:8]!r}"


def _page(content: bytes, size: tuple[int, int], note: str) -> Page:
    return Page(content, hashlib.sha256(content).hexdigest(), size, note)


def _image_pages(content: bytes, kind: str, max_pages: int) -> list[Page]:
    from PIL import Image

    _register(kind)
    if content.rfind(_END_MARKS.get(kind, b"")) < 0:  # other data may stand behind it, a phone's short film for one
        raise UnreadableFileError(f"it is cut off: the {kind} has no end mark; fetch the file again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes and odd metadata; sizes are checked below
        try:
            with Image.open(io.BytesIO(content), formats=[kind]) as image:
                return list(_frames(content, image, max_pages))
        except UnreadableFileError:
            raise
        except Image.DecompressionBombError as error:
            raise UnreadableFileError(f"it declares more than {MAX_PIXELS / 1e6:g} megapixels ({error})") from error
        except UnsupportedImageError as error:
            raise UnreadableFileError(str(error)) from error
        except _DECODER_ERRORS as error:
            reason = str(error).partition(" <_io")[0].rstrip(".") or type(error).__name__
            raise UnreadableFileError(f"it is damaged or cut off: not a readable image as {kind} ({reason})") from error


def _frames(content: bytes, image: "Image.Image", max_pages: int) -> Iterator[Page]:
    """The pages of an opened image. Only TIFF has several; the other frames of an animation are not pages."""
    _check_size(image.size)
    num_frames = getattr(image, "n_frames", 1)
    if image.format != "TIFF":
        others = f"first of {num_frames} frames" if num_frames > 1 and image.format != "MPO" else ""
        yield _converted(content, image, others)
        return
    if num_frames > max_pages:
        raise UnreadableFileError(f"it has {num_frames} pages, at most {max_pages} are read; raise --max-pages")
    total = 0
    for index in range(num_frames):
        image.seek(index)
        _check_size(image.size)
        total += image.width * image.height
        if total > MAX_TOTAL_PIXELS:
            raise UnreadableFileError(f"its pages have more than {MAX_TOTAL_PIXELS / 1e6:g} megapixels together")
        yield _converted(content, image, f"TIFF page {index + 1} of {num_frames}")


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UnreadableFileError(
            f"it declares {width} x {height} pixels, at most {MAX_PIXELS / 1e6:g} megapixels are read; make it smaller"
        )


def _converted(content: bytes, image: "Image.Image", origin: str) -> Page:
    """The page of the current frame: the file itself if nothing needs doing and it is of a kind that is kept."""
    from PIL import ImageOps

    image.load()
    notes = [origin] if origin else []
    is_deep = image.format == "PNG" and len(content) > 24 and content[24] == 16
    turned = image
    if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
        turned = ImageOps.exif_transpose(image)
        notes.append("turned upright as its EXIF data says")
    plain, done = to_eight_bits(turned)
    notes += done
    if is_deep and plain is turned:
        notes.append("16 bit to 8 bit")
    if not notes and image.format in _KEPT:
        return _page(content, image.size, "")
    if image.format not in (*_KEPT, "TIFF"):
        notes.append(f"{image.format} decoded")
    return _page(_encoded(plain, photo=image.format in _PHOTOS), plain.size, "; ".join(notes))


def _encoded(image: "Image.Image", *, photo: bool = False) -> bytes:
    buffer = io.BytesIO()
    bare = image.copy()
    bare.info = {}  # an orientation or a profile would be applied a second time
    if photo:
        bare.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        bare.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _register(kind: str) -> None:
    if kind == "HEIF":
        try:
            import pillow_heif  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise UnreadableFileError("it is a HEIC image, which needs a library: pip install pillow-heif") from error
        pillow_heif.register_heif_opener()


def _pdf_pages(path: Path, content: bytes, *, dpi: int, max_pages: int) -> list[Page]:
    from medvie_rl.data.pdf_pages import render_pdf

    try:
        drawn = render_pdf(path, content, dpi=dpi, max_pages=max_pages, max_pixels=MAX_PIXELS)
    except ValueError as error:
        raise UnreadableFileError(f"as a PDF, {error}") from error
    return [_page(page.content, _png_size(page.content), page.note) for page in drawn]


def _png_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _dicom_pages(content: bytes, *, dpi: int, max_pages: int) -> list[Page]:
    from medvie_rl.data.dicom_pages import read_dicom

    try:
        frames = read_dicom(content, max_pages=max_pages, max_pixels=MAX_PIXELS)
    except ValueError as error:
        raise UnreadableFileError(f"as a DICOM file, {error}") from error
    except _DECODER_ERRORS as error:
        raise UnreadableFileError(f"as a DICOM file, it is damaged or cut off ({error})") from error
    if isinstance(frames, bytes):
        import tempfile

        with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
            file.write(frames)
            file.flush()
            pages = _pdf_pages(Path(file.name), frames.rstrip(b"\0"), dpi=dpi, max_pages=max_pages)
        return [_page(page.content, page.size, f"DICOM document, {page.note}") for page in pages]
    pages = []
    for number, frame in enumerate(frames, start=1):
        plain, done = to_eight_bits(frame)
        note = "; ".join([f"DICOM frame {number} of {len(frames)}", *done])
        pages.append(_page(_encoded(plain), plain.size, note))
    return pages
