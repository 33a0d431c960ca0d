"""Pages damaged by degrees: the same bytes for the same call, more damage for a higher degree, the size as it was."""

import io

import numpy as np
import pytest
from PIL import Image

from medvie_rl.data.damage import DAMAGES, MAX_DEGREE, damaged_page
from medvie_rl.data.synthetic import draw_slips

PAGES = [slip.image for slip in draw_slips("test", 12)]


def pixels(content: bytes) -> np.ndarray:  # type: ignore[type-arg]
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("L"), dtype=np.float64)


@pytest.mark.parametrize("damage", DAMAGES)
def test_more_of_it_changes_more_and_the_size_stays(damage: str) -> None:
    changes = []
    for degree in range(1, MAX_DEGREE + 1):
        damaged = [damaged_page(page, damage, degree, str(index)) for index, page in enumerate(PAGES)]
        assert damaged == [damaged_page(page, damage, degree, str(index)) for index, page in enumerate(PAGES)]
        for page, content in zip(PAGES, damaged, strict=True):
            assert pixels(content).shape == pixels(page).shape
        changes.append(np.mean([np.abs(pixels(a) - pixels(b)).mean() for a, b in zip(PAGES, damaged, strict=True)]))
    assert 0 < changes[0] < changes[1] < changes[2]


def test_a_coloured_photo_and_a_large_page_will_do() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1240, 1754), "white").save(buffer, format="JPEG")
    for damage in DAMAGES:
        assert pixels(damaged_page(buffer.getvalue(), damage, 3, "a")).shape == (1754, 1240)


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="no damage 'fire'; there are rotation, blur, fax, stamp"):
        damaged_page(PAGES[0], "fire", 1, "")
    with pytest.raises(ValueError, match="expected 1 to 3, got 4"):
        damaged_page(PAGES[0], "fax", 4, "")
