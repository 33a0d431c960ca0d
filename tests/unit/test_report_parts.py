"""The parts of a report: how documents are chosen and grouped, where lines lie, what a page image may take."""

import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medvie_rl.compared import compare_values
from medvie_rl.data.inline_image import inline_image
from medvie_rl.data.load import read_schema
from medvie_rl.report.charts import Chart, chart, whiskers
from medvie_rl.report.curves import Curve, Point, Series, curves_of
from medvie_rl.report.data import Compared
from medvie_rl.report.gallery import Cell, Field, Pages, _fitting, choose, show
from medvie_rl.scoring.inputs import Case
from medvie_rl.scoring.run import RecordedRun, score_recorded
from medvie_rl.scoring.systems import Answer, dump_json
from reported_run import config_of
from rewards.config import RewardConfig
from rewards.reward import score_response
from rewards.types import Score

PRESCRIPTION = read_schema(Path("conf/schemas/prescription.yaml"))
ROWS = [
    {"name": "Amoxicillin", "dose": "500 mg"},
    {"name": "Ibuprofen", "dose": "400 mg"},
]


def score(truth: dict[str, Any], answer: Any, f1: float | None = None) -> Score:
    how = {"reasoning": False, "truncated": False, "config": RewardConfig()}
    made = score_response(PRESCRIPTION, PRESCRIPTION.keys, truth, dump_json(answer), **how)
    return made if f1 is None else replace(made, f1=f1)


def table_key() -> str:
    return next(key for key in PRESCRIPTION.keys if PRESCRIPTION.field(key).kind == "table")


def compared(truth: dict[str, Any], before: Any, after: Any) -> Compared:
    case = Case(id="a", document_type="prescription", schema=PRESCRIPTION, fields=truth, truth=truth)
    first, second = (
        Answer(response=dump_json(answer), fields=answer, config=RewardConfig()) for answer in (before, after)
    )
    return compared_answers(case, first, second)


def compared_answers(case: Case, first: Answer, second: Answer) -> Compared:
    recorded = RecordedRun(
        cases=(case,), before=(first,), after=(second,), recorded_f1=(0, 0), frequencies=None, notices=()
    )
    scores = score_recorded(recorded, "", with_published=False, num_resamples=10)
    assert scores.comparison is not None
    return Compared(
        of="test", labels=("before", "after"), recorded=recorded, scores=scores, comparison=scores.comparison
    )


def test_documents_are_chosen_by_rules_that_take_turns() -> None:
    before = [score({}, {}, f1) for f1 in (0.2, 0.5, 0.9, 0.6, 0.5, 1.0)]
    after = [score({}, {}, f1) for f1 in (0.8, 0.6, 0.5, 0.5, 0.0, 1.0)]
    at_random = random.Random(3).sample(range(6), 6)
    chosen = choose(before, after, 3, seed=3)
    assert list(chosen)[:2] == [0, 4]
    assert chosen[0][0] == "improved most" and chosen[4][:2] == ("got worse", "worst after")
    everything = choose(before, after, 99, seed=3)
    assert sorted(everything) == list(range(6))
    assert {index for index, reasons in everything.items() if "improved most" in reasons} == {0, 1}
    assert {index for index, reasons in everything.items() if "got worse" in reasons} == {2, 3, 4}
    assert 5 not in {index for index, reasons in everything.items() if "worst after" in reasons}
    assert all("at random" in reasons for reasons in everything.values())
    first_of_each = [index for index in (0, 4, at_random[0]) if index in chosen]
    assert first_of_each == [0, 4, *([at_random[0]] if at_random[0] in chosen else [])]
    assert choose(before, after, 0, seed=3) == {}


def test_rows_of_tables_stand_together(tmp_path: Path) -> None:
    key = table_key()
    truth = {key: ROWS}
    invented = [{"name": "Aspirin", "dose": "100 mg"}, {"name": "Zinc", "dose": "5 mg"}]
    swapped = [ROWS[1], {"name": "Amoxicillin", "dose": "250 mg"}]
    (shown,) = show(compared(truth, {key: [*ROWS, *invented]}, {key: swapped}), pages(tmp_path), {0: ("at random",)})
    first, second, none = shown.groups
    assert [group.title for group in shown.groups] == [
        f"{key}, row 1",
        f"{key}, row 2",
        f"{key}, in no row of the page",
    ]
    assert first.fields == (
        Field(name="name", true="Amoxicillin", before=Cell(text="Amoxicillin", outcome="correct"),
              after=Cell(text="Amoxicillin", outcome="correct")),
        Field(name="dose", true="500 mg", before=Cell(text="500 mg", outcome="correct"),
              after=Cell(text="250 mg", outcome="misread")),
    )  # fmt: skip
    assert [field.true for field in second.fields] == ["Ibuprofen", "400 mg"]
    assert [field.before.text for field in none.fields] == ["Aspirin", "100 mg", "Zinc", "5 mg"]
    assert {field.before.outcome for field in none.fields} == {"hallucinated"}
    assert all(field.after == Cell(text="", outcome="") for field in none.fields)
    assert key not in shown.absent and len(shown.absent) == len(PRESCRIPTION.keys) - 1


def test_what_is_given_often_is_shown_once(tmp_path: Path) -> None:
    def answer(num: int) -> str:
        return "{" + ", ".join(['"patient": "Ana"'] * num) + "}"

    case = Case(id="a", document_type="prescription", schema=PRESCRIPTION, fields={}, truth={})
    first, second = (Answer(response=answer(num), fields=None, config=RewardConfig()) for num in (2, 5))
    (shown,) = show(compared_answers(case, first, second), pages(tmp_path), {0: ()})
    n_a, twice = Cell(text="Ana", outcome="hallucinated"), Cell(text="Ana", outcome="duplicate")
    assert shown.groups[0].fields == (
        Field(name="patient", true="", before=n_a, after=n_a),
        Field(name="patient", true="", before=twice, after=twice),
        Field(name="patient", true="", before=Cell(text="", outcome=""), after=twice, times=3),
    )


def test_values_without_truth_pair_as_they_come() -> None:
    key = table_key()
    before = score({}, {key: ROWS, "unheard of": True})
    after = score({}, {key: ROWS[:1]})
    values = compare_values(before, after)
    assert [value.after is None for value in values] == [False, False, True, True, True]
    assert all(value.true == "" and value.position is None for value in values)
    assert [value.key for value in values[:2]] == [f"{key}.name", f"{key}.dose"]


def test_long_answers_are_cut_and_said(tmp_path: Path) -> None:
    key = table_key()
    many = [{"name": "D" * 520, "dose": f"{number} mg"} for number in range(100)]
    (shown,) = show(compared({}, {}, {key: many}), pages(tmp_path), {0: ()})
    assert sum(len(group.fields) for group in shown.groups) == 150 and shown.num_hidden == 50
    assert shown.groups[0].fields[0].after.text == "D" * 500 + "… (20 more characters)"
    assert len(shown.answers[1].response) < 8_100 and shown.answers[1].response.endswith(" more characters)")


def pages(tmp_path: Path) -> Pages:
    found = Pages(config_of(f"data.path={tmp_path / 'none'}"), "test")
    assert found.of("a") is None and "there is no dataset" in found.problem
    assert found.inline("a", 10**6) == ([], found.problem)
    return found


def drawn_over(points: tuple[Point, ...], first: int, last: int) -> Chart:
    line = Series(name="x", style="a", points=points)
    return chart(Curve(title="t", unit="", note="", series=(line,)), first=first, last=last)


def test_lines_lie_where_their_values_are() -> None:
    rising = Series(name="F1", style="a", points=((0, 0.0), (5, 0.25), (10, 1.0)))
    drawn = chart(Curve(title="t", unit="share", note="", series=(rising,)), first=0, last=10)
    assert (drawn.left, drawn.right, drawn.top, drawn.bottom) == (46, 388, 10, 194)
    assert drawn.lines[0].points == "46,194 217,148 388,10"
    assert drawn.y_ticks[0].at == 194 and drawn.y_ticks[0].label == "0"
    assert drawn.y_ticks[-1].at == 10 and drawn.y_ticks[-1].label == "1"
    assert [tick.label for tick in drawn.x_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert [mark.text for mark in drawn.lines[0].marks] == ["step 0: 0", "step 5: 0.25", "step 10: 1"]
    assert drawn.summary == "F1: 0 at step 0, 1 at step 10" and drawn.each == 1


def test_long_lines_are_means_of_neighbours() -> None:
    points = tuple((step, float(step % 2)) for step in range(960))
    drawn = chart(
        Curve(title="t", unit="", note="", series=(Series(name="x", style="a", points=points),)), first=0, last=959
    )
    assert drawn.each == 4 and not drawn.lines[0].marks
    heights = {point.split(",")[1] for point in drawn.lines[0].points.split()}
    assert len(drawn.lines[0].points.split()) == 240 and heights == {"40.7"}  # 0.5 on an axis from 0 to 0.6, everywhere


@pytest.mark.parametrize("values", [(-2.0, -1.0), (1e-12, 5e-12), (3.0, 3.0), (1e7, 2e7), (0.0, 0.0)])
def test_axes_hold_zero_and_every_value(values: tuple[float, float]) -> None:
    drawn = drawn_over(tuple(enumerate(values)), 0, 1)
    heights = [float(point.split(",")[1]) for point in drawn.lines[0].points.split()]
    assert all(drawn.top <= height <= drawn.bottom for height in heights)
    assert "0" in [tick.label for tick in drawn.y_ticks] and len({tick.label for tick in drawn.y_ticks}) > 1
    assert all(len(tick.label) <= 8 for tick in drawn.y_ticks)


def test_one_step_is_drawn_too() -> None:
    drawn = chart(
        Curve(title="t", unit="", note="", series=(Series(name="x", style="a", points=((7, 0.5),)),)), first=7, last=7
    )
    assert drawn.lines[0].points.startswith("46,")


def test_changes_share_an_axis_with_zero() -> None:
    drawn, ticks = whiskers([(0.2, (0.1, 0.3)), (-0.1, (-0.2, 0.0))])
    assert [tick.label for tick in ticks] == ["-0.2", "0", "+0.2", "+0.4"]
    assert [(part.low, part.at, part.high) for part in drawn] == [(50, 66.67, 83.33), (0, 16.67, 33.33)]


def test_flat_lines_are_said_and_not_drawn() -> None:
    metrics = [{"step": step, "rollout/staleness": 0.0, "loss/entropy": 1.0 / step} for step in (1, 2, 3)]
    metrics.append({"step": 4, "loss/entropy": None})
    curves, constants = curves_of(metrics, [(0, dict.fromkeys(("misread", "omitted"), 0.0) | {"close": 0.0})][:0])
    assert [curve.title for curve in curves] == ["Entropy"] and len(curves[0].series[0].points) == 3
    assert [(constant.name, constant.value) for constant in constants] == [("Staleness: mean", 0.0)]


def test_pages_become_small_enough_or_are_left_out() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 700, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG", exif=Image.Exif())
    whole = inline_image(buffer.getvalue(), side=1400)
    assert (whole.width, whole.height) == (700, 900) and whole.uri.startswith("data:image/jpeg;base64,")
    smaller = _fitting(buffer.getvalue(), len(whole.uri) - 1)
    assert smaller is not None and smaller.height == 850 and len(smaller.uri) < len(whole.uri)
    assert _fitting(buffer.getvalue(), 1_000) is None
    with pytest.raises(ValueError, match="not a readable image"):
        inline_image(b"no image", side=100)
