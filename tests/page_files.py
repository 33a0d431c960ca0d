"""Page files for tests: images of any mode, and PDF files written byte by byte."""

import io
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw


def drawing(mode: str = "RGB", size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    """A white image with a black bar that stands elsewhere for every seed."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((2 + seed % 30, 3, 8 + seed % 30, 9 + seed // 30), fill="black")
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pdf(*contents: bytes, box: str = "0 0 144 72", image: bytes = b"") -> bytes:
    """A PDF with a page for each content stream; `image` is an object that the streams draw as /I."""
    numbers = [5 + 2 * index for index in range(len(contents))]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        3: b"<< /XObject << /I 4 0 R >> >>",
        4: image or b"null",
    }
    for number, content in zip(numbers, contents, strict=True):
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Resources 3 0 R /Contents {number + 1} 0 R >>"
        objects[number] = page.encode()
        objects[number + 1] = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
    body, offsets = b"%PDF-1.4\n", []
    for number in sorted(objects):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, objects[number])
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + head + table + tail


def bar(left: int) -> bytes:
    """A content stream that draws a black bar, 10 points wide, `left` points from the edge."""
    return b"0 g %d 10 10 50 re f" % left


def image_object(width: int, height: int, data: bytes) -> bytes:
    """A grey image for `pdf`, its data deflated."""
    packed = zlib.compress(data, 9)
    head = (
        f"<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray "
        f"/BitsPerComponent 8 /Filter /FlateDecode /Length {len(packed)} >>\nstream\n"
    )
    return head.encode() + packed + b"\nendstream"


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", size + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
