"""The picture of a study: measures with 95% intervals, by arm, over a number that arms differ in, or by condition."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvie_rl.study.sheets import MEASURE_NAMES, Measured
from medvie_rl.study.statistics import Bootstrap, Estimate

PICTURE = "figure.png"
# Colours of Okabe and Ito, told apart by colour-blind readers; markers differ as well.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#777777", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_WIDTH, _ROW = 4.2, 0.34  # inches of a panel, and of a line in it


def draw_figure(measured: Measured, path: Path) -> None:
    """Write the figure as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    study = measured.study
    measures = list(study.measures)
    several = len(measured.conditions) > 1
    if study.x_label and not several:
        figure, axes = plt.subplots(1, len(measures), figsize=(_WIDTH * len(measures), 3.6), squeeze=False)
        for axis, measure in zip(axes[0], measures, strict=True):
            _draw_over_x(axis, measured, measure)
    else:
        names = measured.conditions if several else measured.arms
        lines = len(names) * (1 + 0.55 * (len(measured.arms) - 1) if several else 1)
        height = 1.3 + _ROW * lines
        figure, axes = plt.subplots(
            1, len(measures), figsize=(_WIDTH * len(measures), height), squeeze=False, sharey=True
        )
        for axis, measure in zip(axes[0], measures, strict=True):
            _draw_rows(axis, measured, measure)
        axes[0][0].set_yticks(range(len(names)), names)
        axes[0][0].invert_yaxis()
    for axis, measure in zip(axes[0], measures, strict=True):
        axis.set_title(MEASURE_NAMES[measure])
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    if len(labels) > 1 or study.x_label:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_rows(axis: Any, measured: Measured, measure: str) -> None:
    """A line for each condition with a mark for each arm, or a line for each arm."""
    if len(measured.conditions) == 1:
        (bootstrap,) = measured.of.values()
        for row, arm in enumerate(measured.arms):
            is_baseline = arm == measured.study.baseline
            _mark(axis, bootstrap.estimate(arm, measure), row, _COLOURS[6 if is_baseline else 0], _MARKERS[0], "")
        return
    spread = min(0.8, 0.16 * len(measured.arms))
    for index, arm in enumerate(measured.arms):
        shift = (index / max(len(measured.arms) - 1, 1) - 0.5) * spread
        for row, bootstrap in enumerate(measured.of.values()):
            _mark(axis, bootstrap.estimate(arm, measure), row + shift, *_look(index), arm if row == 0 else "")


def _mark(axis: Any, estimate: Estimate, y: float, colour: str, marker: str, label: str) -> None:
    ends = [[estimate.value - estimate.ci95[0]], [estimate.ci95[1] - estimate.value]]
    axis.errorbar([estimate.value], [y], xerr=ends, color=colour, marker=marker, capsize=3, label=label or None)


def _draw_over_x(axis: Any, measured: Measured, measure: str) -> None:
    """A curve for each series over the arms' number; arms without one are levels."""
    (bootstrap,) = measured.of.values()
    arms = [measured.study.arm(name) for name in measured.arms]
    series = list(dict.fromkeys(arm.series for arm in arms if arm.x is not None and arm.series))
    shared = [arm for arm in arms if arm.x is not None and not arm.series]  # points of every series
    for index, name in enumerate(series or [""]):
        points = sorted(
            (arm.x, arm.name)
            for arm in [*shared, *(arm for arm in arms if arm.series == name and name)]
            if arm.x is not None
        )
        _curve(axis, bootstrap, points, measure, index, name)
    for index, arm in enumerate([arm for arm in arms if arm.x is None], start=len(series) or 1):
        colour, _ = _look(index)
        axis.axhline(bootstrap.estimate(arm.name, measure).value, color=colour, linestyle="--", label=arm.name)
    axis.set_xlabel(measured.study.x_label)


def _curve(
    axis: Any, bootstrap: Bootstrap, points: Sequence[tuple[float, str]], measure: str, index: int, name: str
) -> None:
    estimates = [bootstrap.estimate(arm, measure) for _, arm in points]
    colour, marker = _look(index)
    axis.errorbar(
        [x for x, _ in points],
        [each.value for each in estimates],
        yerr=[
            [each.value - each.ci95[0] for each in estimates],
            [each.ci95[1] - each.value for each in estimates],
        ],
        color=colour,
        marker=marker,
        capsize=3,
        label=name or "trained",
    )


def _look(index: int) -> tuple[str, str]:
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
