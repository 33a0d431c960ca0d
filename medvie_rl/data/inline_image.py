"""Page images inside an HTML file: re-encoded, so that nothing but pixels comes along, and made smaller."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

QUALITY = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineImage:
    """An image as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def inline_image(content: bytes, *, side: int, quality: int = QUALITY) -> InlineImage:
    """A JPEG of an encoded image, on white, whose longer side is at most `side` pixels.

    Raises ValueError for what is no readable image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            rgba = image.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error
    page = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    page.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    page.save(buffer, format="JPEG", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode()
    return InlineImage(uri=f"data:image/jpeg;base64,{data}", width=page.width, height=page.height)
