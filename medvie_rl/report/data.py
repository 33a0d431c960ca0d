"""Gathers from a run directory what its report shows, whether the run has ended or not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from medvie_rl.config import Config
from medvie_rl.errors import UserError
from medvie_rl.extraction.calibration import Calibration, read_calibration
from medvie_rl.progress import UNSEEN, Progress
from medvie_rl.records import FOLDER, PATTERN, RolloutRecord, recorded_steps, texts_left_out
from medvie_rl.resume import load_stored
from medvie_rl.rollouts_report import overview
from medvie_rl.run import read_metrics, resolved_config
from medvie_rl.scoring.run import BEFORE_AND_AFTER, RecordedRun, read_evaluation, read_run, score_recorded
from medvie_rl.scoring.systems import Comparison, ScoreReport
from rewards.metrics import ERROR_CLASSES
from rewards.types import LeafCounts

Metrics = Mapping[str, Any]  # one line of metrics.jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two policies on the same held-out documents. `of` is the split; `labels` are theirs, the earlier one first."""

    of: Literal["test", "validation"]
    labels: tuple[str, str]
    recorded: RecordedRun
    scores: ScoreReport
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResponses:
    """The best and the worst response of the last recorded step; `missing` says why there are none, or no texts."""

    step: int = 0
    best: RolloutRecord | None = None
    worst: RolloutRecord | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """All that a report is made of, save the documents that are shown.

    `compared` is None while there are no two evaluations. `best_step` is the step whose policy is the best on the
    validation documents so far, None before the first score of them. `validation_errors` are (step, errors of each
    class for a document).
    """

    folder: Path
    config: Config
    metrics: tuple[Metrics, ...]
    is_finished: bool
    step: int
    best_step: int | None
    compared: Compared | None
    validation_errors: tuple[tuple[int, Mapping[str, float]], ...]
    training: TrainingResponses
    calibration: Calibration | None  # of the best policy, where `medvie calibrate` made one


def gather(
    folder: Path, schemas: Sequence[Path] = (), *, with_values: bool = True, progress: Progress = UNSEEN
) -> RunData:
    """Read a run directory. Without `with_values` no response of training is read.

    A run that has ended is compared on the test documents, before and after training; one that has not, on the
    validation documents, the newest evaluation against that of the base. Raises UserError naming the file for a folder
    that is no run, a run that has logged nothing yet, and files that are damaged or of another version.
    """
    config = load_stored(folder, resolved_config(folder))
    metrics = read_metrics(folder)
    if not metrics:
        raise UserError(f"{folder / 'metrics.jsonl'}: the run has logged nothing yet; there is nothing to report")
    is_finished = all((folder / "evaluations" / f"{name}.json").is_file() for name in BEFORE_AND_AFTER)
    steps = _validation_steps(folder)
    return RunData(
        folder=folder,
        config=config,
        metrics=tuple(metrics),
        is_finished=is_finished,
        step=metrics[-1]["step"],
        best_step=_best_step(metrics, f"eval/{config.checkpoint.best_metric}"),
        compared=_compared(folder, config, schemas, is_finished, steps, progress),
        validation_errors=tuple((step, _errors_of(folder, step)) for step in steps),
        training=_training_responses(folder) if with_values else TrainingResponses(),
        calibration=read_calibration(folder / "best"),
    )


def _compared(
    folder: Path, config: Config, schemas: Sequence[Path], is_finished: bool, steps: Sequence[int], progress: Progress
) -> Compared | None:
    of: Literal["test", "validation"] = "test" if is_finished else "validation"
    names = labels = BEFORE_AND_AFTER
    if not is_finished:
        if len(steps) < 2:
            return None
        names, labels = (_name(steps[0]), _name(steps[-1])), (f"step {steps[0]}", f"step {steps[-1]}")
    recorded = read_run(folder, schemas, names=names, of=of)
    scores = score_recorded(
        recorded,
        str(folder),
        labels=labels,
        with_published=False,
        num_resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
        progress=progress,
    )
    assert scores.comparison is not None
    return Compared(of=of, labels=labels, recorded=recorded, scores=scores, comparison=scores.comparison)


def _best_step(metrics: Sequence[Metrics], name: str) -> int | None:
    """The first step with the highest value: a later one as good does not take its place."""
    scored = [(entry[name], -entry["step"]) for entry in metrics if isinstance(entry.get(name), int | float)]
    return -max(scored)[1] if scored else None


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _validation_steps(folder: Path) -> list[int]:
    names = (path.stem for path in (folder / "evaluations").glob("step-*.json"))
    return sorted(int(name.removeprefix("step-")) for name in names if re.fullmatch(r"step-\d{6,}", name))


def _errors_of(folder: Path, step: int) -> dict[str, float]:
    """The errors of each class for a validation document."""
    metrics = read_evaluation(folder, _name(step))["metrics"]
    counts, num = metrics.get("counts"), metrics.get("num_documents")
    known = [item.name for item in fields(LeafCounts)]
    if not isinstance(counts, dict) or not all(isinstance(counts.get(name), int) for name in known) or not num:
        path = folder / "evaluations" / f"{_name(step)}.json"
        raise UserError(f"{path}: no counts of {', '.join(known)}; another version of medvie made it, or it is damaged")
    return {name: counts[name] / num for name in ERROR_CLASSES}


def _training_responses(folder: Path) -> TrainingResponses:
    if not any((folder / FOLDER).glob(PATTERN)):
        return TrainingResponses(missing="This run has recorded no responses of training.")
    files = recorded_steps(folder)
    step = max(files)
    setting = texts_left_out(files[step])
    if setting:
        return TrainingResponses(step=step, missing=f"This run kept no responses of training ({setting}).")
    found = overview({step: files[step]}, best=1, worst=1, truncated=0)
    best, worst = (next(iter(records), None) for records in (found.best, found.worst))
    return TrainingResponses(step=step, best=best, worst=worst)
