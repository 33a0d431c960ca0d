"""`medvie score`: predictions against annotations, anybody's or those that a run recorded."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from medvie_rl.progress import show_progress
from medvie_rl.scoring.explain import check_known, print_documents
from medvie_rl.scoring.export import check_writable, write_csv, write_json
from medvie_rl.scoring.inputs import Predictions, Truth, load_schemas, read_predictions, read_training, read_truth
from medvie_rl.scoring.report import print_report
from medvie_rl.scoring.run import read_run, run_files, score_recorded
from medvie_rl.scoring.systems import ScoreReport, System, compare_systems, score_predictions
from rewards.breakdown import KeyFrequencies

REJECTED = 3  # exit code: done, but some lines were rejected
_MAX_NAMES = 5


def score_files(
    *,
    predictions: Path,
    truth: Path,
    schemas: Sequence[Path] = (),
    compare: Path | None = None,
    train: Path | None = None,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    with_published: bool = True,
    explain: Sequence[str] = (),
    seed: int = 0,
) -> int:
    """Score a file of predictions, and print, write and compare as asked; 0, or 3 if lines were rejected.

    Raises UserError for annotations or schemas that cannot be used, and where no prediction can be.
    """
    check_writable(
        {"--json": json_path, "--csv": csv_path},
        [path for path in (predictions, truth, compare, train, *schemas) if path],
    )
    annotated = read_truth(truth, load_schemas(schemas))
    training = read_training(train, annotated) if train else None
    frequencies = KeyFrequencies.of(training) if training is not None else None
    read = [read_predictions(path, annotated) for path in (predictions, compare) if path]
    how: dict[str, Any] = {"frequencies": frequencies, "with_published": with_published, "seed": seed}
    with show_progress("scoring") as progress:
        systems = [score_predictions(str(each.path), each, annotated, progress=progress, **how) for each in read]
    comparison = compare_systems(systems[0], systems[1], ("other", "this"), seed=seed) if compare else None
    report = ScoreReport(
        title=f"{predictions} against {compare}" if compare else str(predictions),
        cases=tuple(annotated.cases.values()),
        system=systems[0],
        comparison=comparison,
        seed=seed,
        notices=(*_notices(annotated, read, systems), *_training_notices(train, training, annotated)),
        rejected=tuple(line for each in read for line in each.rejected),
    )
    return _finish(report, json_path, csv_path, explain)


def score_run(
    run: Path,
    *,
    schemas: Sequence[Path] = (),
    json_path: Path | None = None,
    csv_path: Path | None = None,
    with_published: bool = True,
    explain: Sequence[str] = (),
    seed: int = 0,
) -> int:
    """Score the held-out answers that a run recorded, after training against before; returns 0.

    Raises UserError where the run cannot be scored (see `read_run`).
    """
    check_writable({"--json": json_path, "--csv": csv_path}, [*run_files(run), *schemas])
    with show_progress("scoring") as progress:
        report = score_recorded(
            read_run(run, schemas),
            f"{run}, after training against before",
            with_published=with_published,
            seed=seed,
            progress=progress,
        )
    return _finish(report, json_path, csv_path, explain)


def _notices(truth: Truth, read: Sequence[Predictions], systems: Sequence[System]) -> list[str]:
    notices = ["no schema: compared as plain text, inferred from the truth"] if truth.inferred else []
    if truth.ambiguous:
        images = sorted(set(truth.ambiguous.values()))
        more = f" and {len(images) - _MAX_NAMES} more" if len(images) > _MAX_NAMES else ""
        notices.append(f"images of several documents, found by id only: {', '.join(images[:_MAX_NAMES])}{more}")
    for predictions, system in zip(read, systems, strict=True):
        if system.num_missing:
            notices.append(f"no prediction: {system.num_missing} documents of {len(truth.cases)} ({predictions.path})")
        others = sum(
            prediction.document_type.casefold() not in ("", truth.cases[document].document_type.casefold())
            for document, prediction in predictions.by_id.items()
        )
        repaired = sum(prediction.is_repaired for prediction in predictions.by_id.values())
        if repaired:
            notices.append(f"repaired before scoring, counted as valid JSON: {repaired} documents ({predictions.path})")
        if others:
            notices.append(f"taken for another document type than the truth's: {others} documents ({predictions.path})")
    return notices


def _training_notices(
    path: Path | None, training: Sequence[tuple[str, Mapping[str, Any]]] | None, truth: Truth
) -> Iterator[str]:
    if training is None:
        return
    if not training:
        types = ", ".join(sorted({repr(case.document_type) for case in truth.cases.values()}))
        yield f"rarity means nothing: no document of {path} has a document type of the truth, {types}"
    elif truth.keys().isdisjoint(key for _, annotation in training for key in annotation):
        yield f"rarity means nothing: no document of {path} has a key of the truth, such as {min(truth.keys())!r}"


def _finish(report: ScoreReport, json_path: Path | None, csv_path: Path | None, explain: Sequence[str]) -> int:
    check_known(report, explain)
    written = []
    if json_path is not None:
        write_json(json_path, report)
        written.append(f"everything as JSON: {json_path}")
    if csv_path is not None:
        write_csv(csv_path, report)
        written.append(f"groups and documents as CSV: {csv_path}")
    console = Console(highlight=False, soft_wrap=False)
    print_report(report, console)
    print_documents(report, explain, console)
    print("\n".join(written), end="\n" if written else "")
    for line in report.rejected:
        print(f"rejected: {line}", file=sys.stderr)
    return REJECTED if report.rejected else 0
