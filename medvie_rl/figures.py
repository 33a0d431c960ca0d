"""The pictures of a run: learning curves, and documents with their answers before and after."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

# Colours of Okabe and Ito, told apart by colour-blind readers.
BLUE, _ORANGE, _GREEN, GREY, _RED = "#0072B2", "#E69F00", "#009E73", "#777777", "#D55E00"
_OUTCOME_COLOURS = {"correct": _GREEN, "convention": _ORANGE}


def draw_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Reward, held-out scores, errors and length over the steps, as a PNG; of a run on demonstrations, which have no
    rewards, the loss and the gradient in place of rewards and errors."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True, layout="constrained")
    learning, scores, errors, length = axes.flat
    _draw_scores(scores, metrics)
    if any("reward/mean" in entry for entry in metrics):
        _draw_rewards(learning, errors, metrics)
        _line(length, metrics, "rollout/tokens_mean", "tokens per response", BLUE)
    else:
        _line(learning, metrics, "loss/loss", "negative log-likelihood per token", BLUE)
        learning.set_title("Training loss")
        _line(errors, metrics, "loss/gradient_norm", "gradient norm, before clipping", BLUE)
        errors.set_title("Gradient")
        _line(length, metrics, "sft/tokens_mean", "tokens per demonstration", GREY)
        _line(length, metrics, "eval/tokens_mean", "tokens per answer, validation documents", BLUE, marker="o")
    length.set_title("Response length")
    for axis in axes.flat:
        frame(axis)
    for axis in axes[1]:
        axis.set_xlabel("step")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def frame(axis: Any) -> None:
    """What is around the lines of a plot."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.lines:
        axis.legend(frameon=False, fontsize=9)


def _draw_scores(axis: Any, metrics: Sequence[Mapping[str, Any]]) -> None:
    for name, label, colour in (("f1", "F1", BLUE), ("precision", "precision", _ORANGE), ("recall", "recall", _GREEN)):
        _line(axis, metrics, f"eval/{name}", label, colour, marker="o")
    axis.set_title("Validation documents, greedy answers")


def _draw_rewards(reward: Any, errors: Any, metrics: Sequence[Mapping[str, Any]]) -> None:
    _line(reward, metrics, "reward/mean", "mean of all traces", BLUE)
    _line(reward, metrics, "reward/best_of_group", "best of a query's traces", GREY)
    reward.set_title("Training reward")
    for name, label, colour in (
        ("convention", "right, in the wrong format", _ORANGE),
        ("misread", "misread", _RED),
        ("hallucinated", "invented", BLUE),
        ("omitted", "left out", GREY),
    ):
        _line(errors, metrics, f"reward/{name}_per_response", label, colour)
    errors.set_title("Errors per training response")


def draw_examples(examples: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Documents beside their true values and the answers before and after, as a PNG.

    An example has `image` (bytes), `id`, and `rows`: (key, true value, before, its outcome, after, its outcome).
    """
    heights = [max(2.0, 0.30 * len(example["rows"]) + 0.9) for example in examples]
    figure, axes = plt.subplots(
        len(examples), 2, figsize=(14, sum(heights)), width_ratios=[0.8, 2], height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for (picture, table), example in zip(axes, examples, strict=True):
        with Image.open(io.BytesIO(example["image"])) as image:
            picture.imshow(image.convert("RGB"))
        picture.set_title(example["id"], fontsize=9, parse_math=False)
        picture.axis("off")
        table.axis("off")
        _draw_table(table, example["rows"])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_table(axis: Any, rows: Sequence[Sequence[str]]) -> None:
    header = ["key", "truth", "before", "after"]
    cells = [[_short(row[0]), _short(row[1]), _short(row[2]), _short(row[4])] for row in rows]
    table = axis.table(cells, colLabels=header, loc="center", cellLoc="left", colWidths=[0.16, 0.28, 0.28, 0.28])
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.35)
    for (line, _), cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        cell.get_text().set_parse_math(False)  # values may hold dollar signs
        if line == 0:
            cell.set_text_props(weight="bold")
    for line, row in enumerate(rows, start=1):
        for column, outcome in ((2, row[3]), (3, row[5])):
            if outcome:
                table[line, column].get_text().set_color(_OUTCOME_COLOURS.get(outcome, _RED))


def _line(
    axis: Any, metrics: Sequence[Mapping[str, Any]], name: str, label: str, colour: str, marker: str = ""
) -> None:
    points = [(entry["step"], entry[name]) for entry in metrics if entry.get(name) is not None]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker, markersize=4, linewidth=1.6)


def _short(text: str) -> str:
    return text if len(text) <= 34 else f"{text[:33]}…"
