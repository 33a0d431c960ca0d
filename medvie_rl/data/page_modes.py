"""Pixels of any mode as 8-bit RGB or grey, with a sentence for each thing that was done."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_BY_CONVERT = {"CMYK": "CMYK to RGB", "YCbCr": "YCbCr to RGB", "HSV": "HSV to RGB", "RGBX": "padding removed"}


class UnsupportedImageError(ValueError):
    """Pixels of a mode that cannot be brought to RGB."""


def to_eight_bits(image: "Image.Image") -> tuple["Image.Image", list[str]]:
    """The image in mode RGB or L and what was done; the very same object, and nothing, if it is so already.

    Transparent parts are laid on white, deep grey values are scaled so that the darkest is 0 and the brightest 255.
    """
    if image.mode in _DEEP:
        return _scaled(image), ["16 bit to 8 bit, scaled over its range" if image.mode != "F" else "float to 8 bit"]
    if image.mode == "1":
        return image.convert("L"), ["1 bit to 8 bit"]
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode in ("P", "PA"):
        if has_alpha:
            return _on_white(image.convert("RGBA")), ["palette to RGB", "alpha on white"]
        return image.convert("RGB"), ["palette to RGB"]
    if has_alpha:
        flat = _on_white(image.convert("RGBA"))
        return (flat.convert("L") if image.mode in ("L", "LA", "La") else flat), ["alpha on white"]
    if image.mode in ("RGB", "L"):
        return image, []
    if image.mode in _BY_CONVERT:
        return image.convert("RGB"), [_BY_CONVERT[image.mode]]
    if image.mode == "LAB":
        return _from_lab(image), ["LAB to RGB"]
    raise UnsupportedImageError(f"its pixels are of mode {image.mode}, which is not read; save it as RGB")


def _on_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _scaled(image: "Image.Image") -> "Image.Image":
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = values.min(), values.max()
    if low == high:  # one grey: there is no range to scale over
        return Image.new("L", image.size, 255 if low > 0 else 0)
    return Image.fromarray(np.round((values - low) * (255.0 / (high - low))).astype(np.uint8))


def _from_lab(image: "Image.Image") -> "Image.Image":
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    assert converted is not None  # only in place does it return nothing
    return converted
