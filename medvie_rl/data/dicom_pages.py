"""Documents wrapped in DICOM: scanned pages as frames, or a whole PDF inside."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def read_dicom(content: bytes, *, max_pages: int, max_pixels: int) -> "list[Image.Image] | bytes":
    """The frames of a DICOM file, or the bytes of the PDF that it wraps; raises ValueError with the reason."""
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise ValueError("it needs a library: pip install pydicom") from error
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except (InvalidDicomError, EOFError) as error:
        raise ValueError(f"it is damaged or cut off ({error})") from error
    if "EncapsulatedDocument" in dataset:
        return bytes(dataset.EncapsulatedDocument)
    if "PixelData" not in dataset:
        raise ValueError("it holds neither pixels nor a document")
    num_frames = int(dataset.get("NumberOfFrames", 1) or 1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if num_frames > max_pages:
        raise ValueError(f"it has {num_frames} frames, at most {max_pages} are read; raise --max-pages")
    if rows * columns > max_pixels or rows * columns * num_frames > 4 * max_pixels:
        raise ValueError(f"it declares {num_frames} frames of {columns} x {rows} pixels, which is too much")
    return _frames(dataset, num_frames)


def _frames(dataset: Any, num_frames: int) -> "list[Image.Image]":
    import numpy as np
    from PIL import Image
    from pydicom import pixels

    values: Any = pixels.pixel_array(dataset)  # type: ignore[attr-defined,unused-ignore]  # colours come as RGB
    stack = values if num_frames > 1 else values[np.newaxis]
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":  # 0 is white
        stack = stack.max() - stack
    if stack.ndim == 4 or stack.dtype == np.uint8:
        return [Image.fromarray(frame) for frame in stack]
    return [Image.fromarray(frame.astype(np.int32)) for frame in stack]
