"""What `medvie score` writes for machines: one JSON object with everything, one CSV row a group."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvie_rl.errors import UserError
from medvie_rl.files import write_atomically
from medvie_rl.scoring.explain import wrong_leaves
from medvie_rl.scoring.systems import ScoreReport, System
from rewards.breakdown import GROUPS, GroupMetrics
from rewards.metrics import error_rates

_RATES = ("hallucination_rate", "omission_rate", "misassociation_rate", "duplicate_rate")
_COUNTS = (
    "predicted",
    "correct",
    "close",
    "convention",
    "misread",
    "misassociated",
    "hallucinated",
    "duplicate",
    "omitted",
)
_NUMBERS = ("precision", "recall", "f1")
COLUMNS = (
    "group", "name", "num_documents", "leaves", *_NUMBERS, "f1_low", "f1_high", *_RATES, *_COUNTS,
    *(f"other_{name}" for name in _NUMBERS),
)  # fmt: skip


def check_writable(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raises UserError before the work for a path that cannot be written after it, or that is one of the `inputs`.

    `outputs` are by the option that names them; an input may be a folder, whose files are meant.
    """
    read = {file.resolve() for path in inputs for file in (path.iterdir() if path.is_dir() else [path])}
    taken: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is not None and path.resolve() in read:
            raise UserError(f"{option} {path}: this is read as input and would be overwritten; name another file")
        if path is not None and (other := taken.setdefault(path.resolve(), option)) != option:
            raise UserError(f"{option} {path}: {other} goes to this file too; name another one")
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent} to write it to")
        if path is not None and path.is_dir():
            raise UserError(f"{path}: this is a folder; name a file")


def write_json(path: Path, report: ScoreReport) -> None:
    """`precision`, `recall` and `f1` at the top, everything else below; what is undefined is null."""
    content = without_nan(report_to_dict(report))
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, report: ScoreReport) -> None:
    """One row a group (all, document_type, kind, key, rarity, leaves, rows, columns) and one a document.

    `leaves` counts the true ones. `other_*` are those of the system compared with, empty without one.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(report))
    write_text(path, text.getvalue())


def report_to_dict(report: ScoreReport) -> dict[str, Any]:
    """The whole report as plain values."""
    system, comparison = report.system, report.comparison
    metrics = system.metrics
    content = {
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        "system": system.name,
        **_system(system),
        "comparison": None,
        "documents": _documents(report),
        "seed": report.seed,
        "notices": list(report.notices),
        "rejected_lines": list(report.rejected),
    }
    if comparison is not None:
        content["comparison"] = {
            "other": comparison.other.name,
            **_system(comparison.other),
            "difference": asdict(comparison.difference),
            "f1_gain_by_error_class": dict(comparison.gain.f1_gain),
            "mended": dict(comparison.gain.mended),
            "broken": dict(comparison.gain.broken),
        }
    return content


def _system(system: System) -> dict[str, Any]:
    metrics = system.metrics.to_dict()
    del metrics["reward"]  # how a run is rewarded is its own matter
    return {
        "num_documents": system.metrics.num_documents,
        "num_without_prediction": system.num_missing,
        "metrics": metrics,
        "published": None if system.published is None else asdict(system.published),
        "groups": {group: [item.to_dict() for item in system.groups[group]] for group in GROUPS},
    }


def _documents(report: ScoreReport) -> list[dict[str, Any]]:
    return [
        {
            "id": case.id,
            "document_type": case.document_type,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "status": score.status.value,
            "detail": score.detail,
            "counts": asdict(score.counts),
            "wrong": list(wrong_leaves(score)),
        }
        for case, score in zip(report.cases, report.system.scores, strict=True)
    ]


def rows_of(report: ScoreReport) -> Iterator[dict[str, Any]]:
    """The rows of the CSV file, by `COLUMNS`."""
    other = {} if report.comparison is None else _by_name(report.comparison.other)
    for group in GROUPS:
        for metrics in report.system.groups[group]:
            yield _row(metrics, other.get((group, metrics.name)))
    others = report.system.scores if report.comparison is None else report.comparison.other.scores
    for score, before in zip(report.system.scores, others, strict=True):
        counts, rates = score.counts, error_rates(score.counts)
        row = {"group": "document", "name": score.document_id, "num_documents": 1, "leaves": counts.true}
        row |= {name: getattr(score, name) for name in _NUMBERS}
        row |= {name: getattr(counts, name) for name in _COUNTS}
        row |= {
            "hallucination_rate": rates["hallucinated"],
            "duplicate_rate": rates["duplicate"],
            "omission_rate": rates["omitted"],
            "misassociation_rate": rates["misassociated"],
        }
        if report.comparison is not None:
            row |= {f"other_{name}": getattr(before, name) for name in _NUMBERS}
        yield row


def _row(metrics: GroupMetrics, other: GroupMetrics | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": metrics.group,
        "name": metrics.name,
        "num_documents": metrics.num_documents,
        "leaves": metrics.num_leaves,
    }
    row |= {name: end for name, end in zip(("f1_low", "f1_high"), metrics.f1_ci95, strict=True) if math.isfinite(end)}
    row |= {name: getattr(metrics, name) for name in (*_NUMBERS, *_RATES)}
    row |= {name: getattr(metrics.counts, name) for name in _COUNTS}
    return row | ({} if other is None else {f"other_{name}": getattr(other, name) for name in _NUMBERS})


def _by_name(system: System) -> dict[tuple[str, str], GroupMetrics]:
    return {(group, metrics.name): metrics for group, table in system.groups.items() for metrics in table}


def without_nan(value: Any) -> Any:
    """Plain values with null in the place of what is undefined, which JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all; raises UserError where it cannot be written."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
