"""The picture of a calibration: are confidences what they say, and how many values need no second look."""

from pathlib import Path

import matplotlib.pyplot as plt

from medvie_rl.extraction.calibration import Calibration
from medvie_rl.figures import BLUE, GREY, frame

PICTURE = "calibration.png"


def draw_calibration(calibration: Calibration, path: Path) -> None:
    """Reliability plot, and the share of wrong values against that of values taken without review, as a PNG."""
    figure, (reliability, coverage) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    values = calibration.values
    reliability.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="if all were as they say")
    said = [mean for mean, _, _ in values.bins]
    right = [share for _, share, _ in values.bins]
    reliability.plot(said, right, color=BLUE, marker="o", label="values of held-out documents")
    for mean, share, number in values.bins:
        reliability.annotate(str(number), (mean, share), textcoords="offset points", xytext=(6, -10), fontsize=8)
    reliability.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right",
        title=f"Reliability: expected calibration error {values.expected_error:.3f}",
    )  # fmt: skip
    coverage.plot(
        [share for share, _ in values.coverage], [wrong for _, wrong in values.coverage], color=BLUE,
        label="surest values first",
    )  # fmt: skip
    coverage.set(xlim=(0, 1), xlabel="share of values taken without review", ylabel="share of wrong ones among them")
    coverage.set_ylim(bottom=0)
    coverage.set_title("Coverage against error")
    for axis in (reliability, coverage):
        frame(axis)
    figure.savefig(path, dpi=110)
    plt.close(figure)
