"""Throughput of the import: documents of mixed kinds, drawn for the purpose, into a dataset."""

import io
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medvie_rl.bench.types import Result
from rewards.schema import FieldSpec, Schema

if TYPE_CHECKING:
    from PIL import Image

_NUM_DOCUMENTS = 96
_SIZE = (1240, 1754)  # A4 at 150 dots per inch
_SCHEMA = Schema(
    name="bench",
    document_type="bench",
    description="bench",
    fields=(FieldSpec(key="code", description="code", kind="code"),),
)
_KINDS = ("JPEG", "PNG", "WEBP", "turned JPEG", "alpha PNG", "16 bit PNG", "two-page TIFF", "two-page PDF")


def bench_import() -> Result:
    """Documents of eight kinds in turn, A4 at 150 dpi, by wall time, pages read and the dataset written."""
    from medvie_rl.data.importing import import_documents

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        num_bytes = _draw(source)
        started = time.perf_counter()
        report = import_documents(source, schemas=_SCHEMA, out=Path(folder) / "dataset")
        seconds = time.perf_counter() - started
        if report.rejected or sum(report.imported.values()) != _NUM_DOCUMENTS:
            raise RuntimeError(
                f"the import rejected {len(report.rejected)} of {_NUM_DOCUMENTS} documents that are fine"
            )
        started = time.perf_counter()
        for path in source.glob("*.*"):
            path.read_bytes()
        reading = time.perf_counter() - started
    return Result(
        name="import_documents_per_s",
        value=_NUM_DOCUMENTS / seconds,
        unit=f"documents/s on {os.cpu_count()} cores, {', '.join(_KINDS)}",
        better="higher",
        compared_with=f"reading the {num_bytes / 2**20:.0f} MB alone: {_NUM_DOCUMENTS / reading:,.0f} documents/s",
    )


def _draw(folder: Path) -> int:
    """Write the documents and their annotations; returns how many bytes the page files have."""
    folder.mkdir()
    rng = random.Random(0)
    lines, num_bytes = [], 0
    for index in range(_NUM_DOCUMENTS):
        name, content = _document(_KINDS[index % len(_KINDS)], index, rng)
        (folder / name).write_bytes(content)
        num_bytes += len(content)
        lines.append(json.dumps({"image": name, "fields": {"code": f"C{index}"}}))
    (folder / "annotations.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return num_bytes


def _document(kind: str, index: int, rng: random.Random) -> tuple[str, bytes]:
    from PIL import Image

    page, other = _page(rng), _page(rng)
    if kind == "turned JPEG":
        exif = Image.Exif()
        exif[0x0112] = 6
        return f"{index}.jpg", _encoded(page.rotate(90, expand=True), "JPEG", exif=exif)
    if kind == "alpha PNG":
        return f"{index}.png", _encoded(page.convert("RGBA"), "PNG", compress_level=1)
    if kind == "16 bit PNG":
        return f"{index}.png", _encoded(page.convert("L").convert("I;16"), "PNG", compress_level=1)
    if kind.startswith("two-page"):
        name = kind.split()[-1]
        how = {"resolution": 150} if name == "PDF" else {"compression": "tiff_lzw"}
        return f"{index}.{name.lower()}", _encoded(page, name, save_all=True, append_images=[other], **how)
    return f"{index}.{kind.lower()}", _encoded(page, kind)


def _page(rng: random.Random) -> "Image.Image":
    """White paper with lines of black bars, about as many as a printed page has words."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(page)
    for top in range(100, _SIZE[1] - 100, 40):
        left = 100
        while left < _SIZE[0] - 200:
            width = rng.randint(20, 120)
            pen.rectangle((left, top, left + width, top + 14), fill=(rng.randint(0, 90),) * 3)
            left += width + 14
    return page


def _encoded(image: "Image.Image", kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
