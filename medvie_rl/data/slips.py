"""Datasets of synthetic slips: the documents behind `make train-local`, and `medvie data synth`."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from medvie_rl.data.store import Document, describe_image, write_split
from medvie_rl.data.synthetic import draw_slips
from medvie_rl.files import check_new_folder
from medvie_rl.progress import UNSEEN, Progress

_PREVIEW_COLUMNS, _PREVIEW_ROWS, _PREVIEW_GAP = 5, 8, 6


def write_slips(
    folder: Path, nums: Mapping[str, int], *, seed: int, preview: Path | None = None, progress: Progress = UNSEEN
) -> None:
    """Draw `nums[split]` slips a split into a dataset; the same seed gives the same documents. Splits share none."""
    check_new_folder(folder)
    progress.begin(sum(nums.values()))
    for split, num in nums.items():
        write_split(folder, split, progress.each(_documents(split, num, seed)))
    if preview is not None:
        _draw_preview(nums, seed, preview)


def _documents(split: str, num: int, seed: int) -> Iterator[tuple[Document, list[bytes]]]:
    for slip in draw_slips(split, num, seed=seed):
        key, size = describe_image(slip.image)
        document = Document(
            id=slip.document_id,
            document_type=slip.document_type,
            schema=slip.schema,
            annotation=dict(slip.annotation),
            image_keys=(key,),
            image_sizes=(size,),
            provenance=f"medvie data synth, seed {seed}",
            license="Apache-2.0",
            synthetic=True,
        )
        yield document, [slip.image]


def _draw_preview(nums: Mapping[str, int], seed: int, path: Path) -> None:
    split = next(iter(nums))
    slips = list(draw_slips(split, min(nums[split], _PREVIEW_COLUMNS * _PREVIEW_ROWS), seed=seed))
    images = [Image.open(io.BytesIO(slip.image)) for slip in slips]
    width = max(image.width for image in images) + _PREVIEW_GAP
    height = max(image.height for image in images) + _PREVIEW_GAP
    num_rows = -(-len(images) // _PREVIEW_COLUMNS)
    sheet = Image.new("L", (width * _PREVIEW_COLUMNS, height * num_rows), 128)
    for index, image in enumerate(images):
        row, column = divmod(index, _PREVIEW_COLUMNS)
        sheet.paste(image, (column * width, row * height))
    sheet.save(path)
