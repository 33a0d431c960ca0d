"""Which metrics of a run are drawn together, and as what; geometry is in charts.py."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medvie_rl.extraction.calibration import Calibration
from medvie_rl.report.classes import CLASSES
from medvie_rl.report.data import Metrics

Point = tuple[int, float]  # step, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart; `style` names its colour, dashes and marks in the style sheet."""

    name: str
    style: str
    points: tuple[Point, ...]

    @property
    def is_constant(self) -> bool:
        return len({value for _, value in self.points}) < 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What one chart shows; `unit` is that of its values, `note` how to read it, `over` what the points are over."""

    title: str
    unit: str
    note: str
    series: tuple[Series, ...]
    over: str = "step"
    is_detail: bool = False  # of interest to who looks after the training, not to who looks at what it came to


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A line that was the same in every step: a sentence does instead of a chart."""

    name: str
    value: float


_Lines = tuple[tuple[str, str], ...]  # metric, name of the line

_LOSS = "Training loss"
_SCORES = "Micro-averages over all values."
_CURVES: tuple[tuple[str, str, str, bool, _Lines], ...] = (
    ("Scores on the validation documents", "share", f"{_SCORES} These documents choose the best policy.", False, (
        ("eval/f1", "F1"), ("eval/precision", "precision"), ("eval/recall", "recall"))),
    ("Training reward", "reward", "Of the responses sampled in a step, before the update.", False, (
        ("reward/mean", "mean of all traces"), ("reward/best_of_group", "best of a query's traces"))),
    ("Training scores", "share", f"{_SCORES} Of the responses sampled in a step, which are asked for some keys only.",
     False, (("reward/f1", "F1"), ("reward/precision", "precision"), ("reward/recall", "recall"))),
    (_LOSS, "loss", "A mean over the response tokens of a step. In reinforcement learning it says nothing by itself.",
     True, (("loss/loss", "loss"),)),
    ("Length", "tokens", "Mean number of tokens of a response.", False, (
        ("rollout/tokens_mean", "training"), ("sft/tokens_mean", "demonstrations"),
        ("eval/tokens_mean", "validation"))),
    ("Answers that can be read", "share", "Valid JSON where it belongs, and responses cut off at the token limit.",
     False, (("eval/valid_json", "valid JSON, validation"), ("reward/valid_json", "valid JSON, training"),
             ("rollout/truncated", "cut off, training"))),
    ("KL divergence", "nats", "Between what sampled the responses and the learner before its update, where rounding "
     "and staleness show; and to the policy the run started from, if the loss needs it.", True, (
         ("loss/sampler_kl", "sampler and learner"), ("loss/reference_kl", "to the reference"))),
    ("Clip fraction", "share of tokens", "Tokens whose probability ratio was clipped, and whose weight for staleness "
     "was bounded.", True, (("loss/clip_fraction", "ratio clipped"), ("loss/importance_bounded", "weight bounded"))),
    ("Staleness", "updates", "By how many updates the weights that sampled a response were older than the learner's.",
     True, (("rollout/staleness", "mean"), ("rollout/staleness_max", "largest"))),
    ("Groups that taught nothing", "share", "Queries whose traces all earned the same.", True, (
        ("rollout/uninformative_groups", "of all queries"),)),
    ("Entropy", "nats per token", "How undecided the policy was about the next token.", True, (
        ("loss/entropy", "entropy"),)),
    ("Gradient norm", "norm", "Before clipping.", True, (("loss/gradient_norm", "gradient"),)),
    ("Time of a step by phase", "seconds", "What the loop waited for; phases that overlap are counted where it waited.",
     True, (("time/step", "whole step"), ("time/update", "update"), ("time/generate", "generate"),
            ("time/sync", "sync"), ("time/score", "score"), ("time/reference", "reference"),
            ("time/demonstrations", "demonstrations"))),
)  # fmt: skip
_STYLES = ("a", "b", "c", "d", "e", "f", "g")
_ROUNDING = 1e-9  # of a KL: less is not one


def curves_of(
    metrics: Sequence[Metrics], validation_errors: Sequence[tuple[int, Mapping[str, float]]]
) -> tuple[list[Curve], list[Constant]]:
    """The charts of a run, and the lines that would be flat. What the run has not logged is left out."""
    curves, constants = [], []
    has_rewards = any("reward/mean" in entry for entry in metrics)
    for title, unit, note, is_detail, lines in _CURVES:
        is_detail = is_detail and (title != _LOSS or has_rewards)  # of demonstrations it is what is learned
        logged = ((name, points_of(metrics, metric)) for metric, name in lines)
        series = [(name, points) for name, points in logged if points]
        made = tuple(
            Series(name=name, style=style, points=points)
            for (name, points), style in zip(series, _STYLES, strict=False)
        )
        if made and all(line.is_constant for line in made):
            constants += [Constant(name=f"{title}: {line.name}", value=line.points[0][1]) for line in made]
        elif made:
            curves.append(Curve(title=title, unit=unit, note=note, series=made, is_detail=is_detail))
    errors = list(_error_curves(metrics, validation_errors))
    return [*curves[:1], *errors, *curves[1:]], constants


def _error_curves(
    metrics: Sequence[Metrics], validation_errors: Sequence[tuple[int, Mapping[str, float]]]
) -> Iterator[Curve]:
    errors = [name for name in CLASSES if name != "correct"]
    of_validation = {name: tuple((step, of_step[name]) for step, of_step in validation_errors) for name in errors}
    of_training = {name: points_of(metrics, f"reward/{name}_per_response") for name in errors}
    for title, unit, note, by_class in (
        ("Errors on the validation documents", "errors per document", "By class, every key asked for.", of_validation),
        ("Errors of training responses", "errors per response", "By class, some keys asked for.", of_training),
    ):
        series = tuple(
            Series(name=CLASSES[name].name, style=name, points=points)
            for name, points in by_class.items()
            if any(value for _, value in points)
        )
        if series and len(series[0].points) > 1:
            yield Curve(title=title, unit=unit, note=note, series=series)


def confidence_curves(calibration: Calibration) -> list[Curve]:
    """Whether the confidences of a policy's values are what they say, and how many values need no second look."""
    values = calibration.values
    bins = [(round(100 * said), right) for said, right, _ in values.bins]
    coverage = [(round(100 * share), wrong) for share, wrong in values.coverage]
    by_share = {share: wrong for share, wrong in coverage}  # the last of equals
    return [
        Curve(
            title="Are confidences what they say?",
            unit="share of values that is right",
            note=f"Of {values.num_values} values on {values.num_documents} documents without part in the fit. Expected "
            f"calibration error {values.expected_error:.3f}.",
            series=(
                Series(name="right", style="a", points=tuple(bins)),
                Series(name="as they say", style="b", points=((0, 0.0), (100, 1.0))),
            ),
            over="confidence in %",
        ),
        Curve(
            title="How many values need no second look?",
            unit="share of wrong values among those taken",
            note="The surest values are taken first. medvie extract marks those below "
            f"{calibration.review_below:.3f} for review.",
            series=(Series(name="wrong", style="a", points=tuple(sorted(by_share.items()))),),
            over="% of values taken",
        ),
    ]


def points_of(metrics: Sequence[Metrics], name: str) -> tuple[Point, ...]:
    """A metric by step, where it was logged; what is only rounding in a KL is 0."""
    values = ((entry["step"], entry.get(name)) for entry in metrics)
    least = _ROUNDING if name.endswith("_kl") else 0.0
    return tuple(
        (step, float(value) if abs(value) >= least else 0.0)
        for step, value in values
        if isinstance(value, int | float) and math.isfinite(value)
    )
