"""Datasets of synthetic slips: the documents behind `make train-local`, and `medvie data synth`."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from medvie_rl.data.store import Document, describe_image, write_split
from medvie_rl.data.synthetic import KINDS, SALES, SPECIALTIES, Slip, draw_slips
from medvie_rl.files import check_new_folder
from medvie_rl.progress import UNSEEN, Progress

SLIPS = {"slips": KINDS, "specialty-slips": SPECIALTIES, "sales-slips": SALES}  # what can be drawn, by name
_PREVIEW_COLUMNS, _PREVIEW_ROWS, _PREVIEW_GAP = 5, 8, 6


def write_slips(
    folder: Path,
    nums: Mapping[str, int],
    *,
    seed: int,
    kinds: str = "slips",
    arrangement: str = "usual",
    preview: Path | None = None,
    progress: Progress = UNSEEN,
) -> None:
    """Draw `nums[split]` slips a split into a dataset; the same arguments give the same documents. Splits share none.

    `kinds` is one of `SLIPS`, `arrangement` one of `synthetic.ARRANGEMENTS`.
    """
    check_new_folder(folder)
    draw = partial(draw_slips, seed=seed, kinds=SLIPS[kinds], arrangement=arrangement)
    progress.begin(sum(nums.values()))
    for split, num in nums.items():
        write_split(folder, split, progress.each(_documents(draw(split, num), seed)))
    if preview is not None:
        split = next(iter(nums))
        _draw_preview(list(draw(split, min(nums[split], _PREVIEW_COLUMNS * _PREVIEW_ROWS))), preview)


def _documents(slips: Iterable[Slip], seed: int) -> Iterator[tuple[Document, list[bytes]]]:
    for slip in slips:
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


def _draw_preview(slips: Sequence[Slip], path: Path) -> None:
    images = [Image.open(io.BytesIO(slip.image)) for slip in slips]
    width = max(image.width for image in images) + _PREVIEW_GAP
    height = max(image.height for image in images) + _PREVIEW_GAP
    num_rows = -(-len(images) // _PREVIEW_COLUMNS)
    sheet = Image.new("L", (width * _PREVIEW_COLUMNS, height * num_rows), 128)
    for index, image in enumerate(images):
        row, column = divmod(index, _PREVIEW_COLUMNS)
        sheet.paste(image, (column * width, row * height))
    sheet.save(path)
