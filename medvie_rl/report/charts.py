"""Where the parts of a chart lie, in the units of its SVG; the template draws them, the style sheet colours them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.ticker import MaxNLocator

from medvie_rl.report.curves import Curve, Point, Series

WIDTH, HEIGHT = 400, 220  # about as wide as a phone, so that text is drawn in its size there
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 26
_MAX_POINTS = 240  # of a line: more are not told apart, and would make a long run's file large
_MAX_MARKS = 30  # of a line: more would hide it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A place on an axis with its number."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a line, with what a pointer over it is told."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series as it is drawn, its legend with its first and last value."""

    name: str
    style: str
    points: str  # of an SVG polyline
    marks: tuple[Mark, ...]
    first: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A curve as it is drawn. `each` is how many steps a point is the mean of; `summary` is read out in its place."""

    curve: Curve
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    each: int
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """A change with its interval on an axis from 0 to 100."""

    low: float
    at: float
    high: float


def number(value: float) -> str:
    """A value with three significant digits, and no more zeros than needed."""
    return f"{value:.3g}" if value else "0"


def chart(curve: Curve, *, first: int, last: int) -> Chart:
    """Lay out a curve over the steps from `first` to `last`, the same for all charts of a run."""
    drawn = [_thinned(series.points) for series in curve.series]
    values = [value for points, _ in drawn for _, value in points]
    low, high = min(*values, 0.0), max(*values, 0.0)
    y_values = _ticks(low, high if high > low else low + 1.0, 4)
    last = max(last, first + 1)
    x_values = [value for value in _ticks(first, last, 5, integer=True) if first <= value <= last]
    bottom, top = y_values[0], y_values[-1]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + (point[0] - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (point[1] - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    return Chart(
        curve=curve,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=HEIGHT - _BOTTOM,
        x_ticks=tuple(Tick(at=place((value, bottom))[0], label=f"{value:.0f}") for value in x_values),
        y_ticks=tuple(Tick(at=place((first, value))[1], label=_label(value)) for value in y_values),
        lines=tuple(
            _line(series, [place(point) for point in points], points, curve.over)
            for series, (points, _) in zip(curve.series, drawn, strict=True)
        ),
        each=max(each for _, each in drawn),
        summary="; ".join(_in_words(series, curve.over) for series in curve.series),
    )


def whiskers(changes: Sequence[tuple[float, tuple[float, float]]]) -> tuple[list[Whisker], list[Tick]]:
    """Changes (value, interval) on one axis that holds 0, and its ticks."""
    ends = [0.0, *(value for change, interval in changes for value in (change, *interval))]
    ticks = _ticks(min(ends), max(max(ends), min(ends) + 0.01), 4)

    def place(value: float) -> float:
        return round(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    drawn = [Whisker(low=place(low), at=place(change), high=place(high)) for change, (low, high) in changes]
    return drawn, [Tick(at=place(value), label=f"{value:+.2g}" if value else "0") for value in ticks]


def _ticks(low: float, high: float, num: int, *, integer: bool = False) -> list[float]:
    """Round numbers that enclose `low` and `high`."""
    locator = MaxNLocator(nbins=num, steps=[1, 2, 2.5, 5, 10], integer=integer)
    return [float(value) for value in locator.tick_values(low, high)]


def _line(series: Series, places: Sequence[tuple[float, float]], points: Sequence[Point], over: str) -> Line:
    marks = tuple(
        Mark(x=x, y=y, text=f"{over} {step}: {number(value)}")
        for (x, y), (step, value) in zip(places, points, strict=True)
    )
    return Line(
        name=series.name,
        style=series.style,
        points=" ".join(f"{x:g},{y:g}" for x, y in places),
        marks=marks if len(marks) <= _MAX_MARKS else (),
        first=number(series.points[0][1]),
        last=number(series.points[-1][1]),
    )


def _thinned(points: Sequence[Point]) -> tuple[list[Point], int]:
    """Means of as many neighbours as leave no more than `_MAX_POINTS`, each at the last of its steps; how many."""
    each = math.ceil(len(points) / _MAX_POINTS)
    parts = [points[start : start + each] for start in range(0, len(points), each)]
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts], each


def _label(value: float) -> str:
    return f"{value:.10g}" if 1e-3 <= abs(value) < 1e6 else "0" if abs(value) < 1e-15 else f"{value:.0e}"


def _in_words(series: Series, over: str) -> str:
    (first_step, first), (last_step, last) = series.points[0], series.points[-1]
    return f"{series.name}: {number(first)} at {over} {first_step}, {number(last)} at {over} {last_step}"
