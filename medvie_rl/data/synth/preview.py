"""A contact sheet: the first page of some documents side by side, small, with their ids below."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from medvie_rl.data.synth.fonts import Face, font_for, text_width

_THUMBNAIL = (396, 560)  # pixels: headings and the larger print can be read
_GAP, _CAPTION = 14, 24
_COLUMNS = 6
_BACKGROUND = (112, 116, 122)


def draw_sheet(documents: Sequence[tuple[str, Sequence[bytes]]], path: Path) -> None:
    """Write a PNG with a thumbnail of each (id, encoded pages) in rows of six; more pages show as a stack behind it.

    Raises ValueError where there is no document.
    """
    if not documents:
        raise ValueError(f"{path}: there is no document to draw on the contact sheet; ask for at least one")
    columns = min(_COLUMNS, len(documents))
    rows = -(-len(documents) // columns)
    cell = _THUMBNAIL[0] + _GAP, _THUMBNAIL[1] + _GAP + _CAPTION
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (document_id, pages) in enumerate(documents):
        row, column = divmod(number, columns)
        left, top = _GAP + column * cell[0], _GAP + row * cell[1]
        with Image.open(io.BytesIO(pages[0])) as page:
            thumbnail = page.convert("RGB")
        thumbnail.thumbnail((_THUMBNAIL[0] - 8, _THUMBNAIL[1] - 8), Image.Resampling.LANCZOS, reducing_gap=3.0)
        for behind in range(min(2, len(pages) - 1), 0, -1):
            x, y = left + 4 * behind, top + 4 * behind
            draw.rectangle(
                (x, y, x + thumbnail.width, y + thumbnail.height), fill=(236, 236, 236), outline=(90, 90, 90)
            )
        sheet.paste(thumbnail, (left, top))
        caption = _shortened(document_id, _THUMBNAIL[0])
        font = font_for("Roboto", 17, "plain", caption)
        draw.text((left, top + _THUMBNAIL[1] + 4), caption, fill=(255, 255, 255), font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _shortened(text: str, width: float) -> str:
    face = Face("Roboto", 17)
    while text_width(face, text) > width:
        text = f"{text[:-2]}…"
    return text
