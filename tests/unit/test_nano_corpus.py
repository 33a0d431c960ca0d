"""The nano corpus: responses in mixed conventions that score as intended, and cells that hold the characters copied."""

import io
import json
import random
from dataclasses import replace
from pathlib import Path

from PIL import Image

from medvie_rl.data.synthetic import KINDS, PITCH, WIDTH, draw_slips
from medvie_rl.nano.corpus import (
    NOWHERE,
    Behaviour,
    Mixture,
    crop_lines,
    draw_behaviour,
    draw_keys,
    line_cells,
    practice_strip,
    write_response,
)
from rewards.compare import same_meaning
from rewards.reward import RewardConfig, score_response
from rewards.schema import load_schema

SCHEMAS = {
    f"{kind}_slip": load_schema(Path(__file__).parents[2] / "conf" / "schemas" / f"{kind}_slip.yaml") for kind in KINDS
}
PERFECT = Behaviour(
    date=0,
    absent=0,
    placeholder="n/a",
    age_unit=False,
    short_sex=False,
    no_unit=False,
    last_name_first=False,
    drop=0.0,
    skip_line=False,
    stray_line=False,
    page_order=True,
)


def _score(slip, behaviour, *, reasoning):
    schema = SCHEMAS[slip.schema]
    response = write_response(slip, schema.keys, behaviour, random.Random(0), reasoning=reasoning)
    return score_response(
        schema,
        schema.keys,
        slip.annotation,
        response.text,
        reasoning=reasoning,
        truncated=False,
        config=RewardConfig(),
    )


def test_the_right_conventions_earn_the_full_reward_in_both_modes() -> None:
    for slip in draw_slips("pretrain", 60):
        for reasoning in (True, False):
            assert _score(slip, PERFECT, reasoning=reasoning).reward == 1.0


def test_each_wrong_convention_costs_exactly_its_leaves() -> None:
    wrong = {
        "date": (replace(PERFECT, date=1), ("date", "born")),
        "age": (replace(PERFECT, age_unit=True), ("age",)),
        "sex": (replace(PERFECT, short_sex=True), ("sex",)),
        "unit": (replace(PERFECT, no_unit=True), ("dose", "result")),
        "name": (replace(PERFECT, last_name_first=True), ("patient", "doctor")),
    }
    for behaviour, keys in wrong.values():
        for slip in draw_slips("pretrain", 40):
            counts = _score(slip, behaviour, reasoning=True).counts
            assert counts.convention == sum(key in slip.annotation for key in keys)
            assert counts.convention + counts.correct == len(slip.annotation)


def test_absent_keys_are_left_out_or_count_as_invented() -> None:
    for slip in draw_slips("pretrain", 40):
        num_absent = len(SCHEMAS[slip.schema].keys) - len(slip.annotation)
        assert _score(slip, PERFECT, reasoning=False).counts.hallucinated == 0
        for absent in (1, 2):
            counts = _score(slip, replace(PERFECT, absent=absent), reasoning=False).counts
            assert counts.predicted - counts.true == num_absent


def test_reasoning_is_the_lines_that_the_answer_needs() -> None:
    for slip in draw_slips("pretrain", 40):
        keys = [key for key in SCHEMAS[slip.schema].keys if key in slip.printed][:2]
        response = write_response(slip, keys, PERFECT, random.Random(0), reasoning=True).text
        reasoning, answer = response.removeprefix("<think>").split("</think>")
        needed = sorted({slip.printed[key].line for key in keys})
        assert reasoning.split("\n") == [slip.lines[number].text for number in needed]
        assert json.loads(answer) == {key: slip.annotation[key] for key in keys}


def test_characters_point_at_the_cell_that_shows_them() -> None:
    rng = random.Random(1)
    for slip in draw_slips("pretrain", 80):
        shown = {}
        for line, cells in zip(slip.lines, line_cells(slip), strict=True):
            for character, cell in zip(line.text, cells, strict=True):
                shown.setdefault(cell, "")
                shown[cell] += character
        behaviour = replace(draw_behaviour(Mixture(), rng), absent=0, date=rng.choice((0, 2)))
        response = write_response(slip, tuple(slip.printed), behaviour, rng, reasoning=True)
        assert len(response.cells) == len(response.text)
        traced = [(c, cell) for c, cell in zip(response.text, response.cells, strict=True) if cell != NOWHERE]
        digits = [(c, shown[cell]) for c, cell in traced if c.isdigit()]
        copied = sum(c in cell for c, cell in digits)
        assert len(traced) > 20
        assert copied >= 0.6 * len(digits)  # the month "Mar" is where 03 is read, the rest is there as it is


def test_mixture_is_drawn_as_asked() -> None:
    rng = random.Random(2)
    drawn = [draw_behaviour(Mixture(), rng) for _ in range(4000)]
    assert abs(sum(b.date == 0 for b in drawn) / 4000 - Mixture().date[0]) < 0.03
    assert abs(sum(b.absent == 0 for b in drawn) / 4000 - Mixture().absent[0]) < 0.03
    assert abs(sum(b.age_unit for b in drawn) / 4000 - Mixture().age_unit) < 0.03
    assert abs(sum(b.drop for b in drawn) / 4000 - Mixture().careless * Mixture().drop) < 0.02


def test_queries_ask_the_whole_schema_or_a_handful_with_absent_keys() -> None:
    rng = random.Random(3)
    slips = list(draw_slips("pretrain", 400))
    handfuls = [(slip, draw_keys(SCHEMAS[slip.schema], slip, rng, whole=0.0)) for slip in slips]
    asked = sum(len(keys) for _, keys in handfuls)
    absent = sum(key not in slip.annotation for slip, keys in handfuls for key in keys)
    assert 0.2 < absent / asked < 0.35
    assert all(len(set(keys)) == len(keys) >= 1 for _, keys in handfuls)
    assert draw_keys(SCHEMAS["visit_slip"], slips[2], rng, whole=1.0) == SCHEMAS["visit_slip"].keys


def test_strips_are_slips_of_their_own() -> None:
    for slip in draw_slips("pretrain", 40):
        strip = crop_lines(slip, 1, 1)
        with Image.open(io.BytesIO(strip.image)) as image:
            assert image.size == (WIDTH, PITCH)
        assert [line.text for line in strip.lines] == [slip.lines[1].text]
        assert set(strip.annotation) == set(slip.lines[1].keys)
        for key, value in strip.printed.items():
            assert strip.lines[0].text[value.start :].startswith(value.text)
            assert same_meaning(SCHEMAS[slip.schema].field(key), value.text, strip.annotation[key])


def test_practice_strips_are_full() -> None:
    rng = random.Random(4)
    strips = [practice_strip(3, rng) for _ in range(30)]
    assert sum(len(line.text) for strip in strips for line in strip.lines) / 90 > 20
