"""Noise: each level changes the page as it says, keeps it readable and its size within bounds, and repeats."""

import io
import random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from medvie_rl.data.synth.fonts import font_for
from medvie_rl.data.synth.noise import LEVELS, choose_level, noisy_page

SIZE = (620, 876)


@pytest.fixture(scope="module")
def page() -> Image.Image:
    image = Image.new("RGB", SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for row in range(20):
        font = font_for("Roboto", 22, "plain", "x")
        draw.text((60, 60 + 38 * row), f"Haemoglobin {row}.5 g/dL   12.0–15.5", fill=(15, 15, 20), font=font)
    return image


def _read(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_clean_is_the_page_itself(page: Image.Image) -> None:
    read = _read(noisy_page(page, "clean", random.Random(0)))
    assert read.format == "PNG" and read.tobytes() == page.tobytes()


@pytest.mark.parametrize("level", ["scan", "fax", "photo"])
def test_a_level_repeats_and_differs_by_generator(page: Image.Image, level: str) -> None:
    one = noisy_page(page, level, random.Random(4))
    assert one == noisy_page(page, level, random.Random(4))
    assert one != noisy_page(page, level, random.Random(5))
    assert _read(one).convert("RGB").resize(SIZE).tobytes() != page.tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_scan_and_fax_keep_the_size_and_photo_adds_up_to_a_tenth(page: Image.Image, seed: int) -> None:
    assert _read(noisy_page(page, "scan", random.Random(seed))).size == SIZE
    assert _read(noisy_page(page, "fax", random.Random(seed))).size == SIZE
    width, height = _read(noisy_page(page, "photo", random.Random(seed))).size
    assert SIZE[0] * 1.03 <= width <= SIZE[0] * 1.11
    assert SIZE[1] * 1.03 <= height <= SIZE[1] * 1.11


@pytest.mark.parametrize("seed", range(4))
def test_fax_is_black_and_white(page: Image.Image, seed: int) -> None:
    values = np.unique(np.asarray(_read(noisy_page(page, "fax", random.Random(seed)))))
    assert values.tolist() == [0, 255]


@pytest.mark.parametrize("level", ["scan", "fax", "photo"])
@pytest.mark.parametrize("seed", range(4))
def test_print_stays_dark_on_light_paper(page: Image.Image, level: str, seed: int) -> None:
    grey = np.asarray(_read(noisy_page(page, level, random.Random(seed))).convert("L"), dtype=np.float32)
    height, width = grey.shape
    text = grey[int(height * 0.1) : int(height * 0.85), int(width * 0.16) : int(width * 0.5)]
    paper, ink = np.percentile(text, 90), np.percentile(text, 2)
    assert paper > 110 and paper - ink > 70


@pytest.mark.parametrize("seed", range(8))
def test_decimal_points_survive_a_fax(seed: int) -> None:
    image = Image.new("L", SIZE, 255)
    draw = ImageDraw.Draw(image)
    font = font_for("Roboto", 20, "plain", "x")
    places = [(80 + 48 * column, 90 + 40 * row) for row in range(16) for column in range(10)]
    for place in places:
        draw.text(place, "8.", fill=20, font=font, anchor="ls")
    read = np.asarray(_read(noisy_page(image, "fax", random.Random(seed))))[:, 45:-45]  # no dirt lines
    count, _, stats, _ = cv2.connectedComponentsWithStats((read == 0).astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    assert 150 <= int(np.sum((areas >= 3) & (areas <= 16))) <= 170  # the points; specks are smaller, digits larger


def test_grey_pages_stay_grey_and_fit_every_level(page: Image.Image) -> None:
    grey = page.convert("L")
    modes = {level: _read(noisy_page(grey, level, random.Random(1))).mode for level in LEVELS}
    assert modes == {"clean": "L", "scan": "L", "fax": "L", "photo": "RGB"}


def test_mixed_draws_every_level_and_unknown_ones_are_refused() -> None:
    rng = random.Random(0)
    drawn = [choose_level("mixed", rng) for _ in range(400)]
    assert set(drawn) == set(LEVELS)
    assert 110 <= drawn.count("scan") <= 170
    assert choose_level("fax", rng) == "fax"
    with pytest.raises(ValueError, match="no noise level 'rain'; there are mixed, clean, scan, fax, photo"):
        choose_level("rain", rng)
