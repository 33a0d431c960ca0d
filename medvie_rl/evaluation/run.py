"""One evaluation from its documents to its files. What lies in the folder already, made from the same, is reused."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.evaluation.ask import OcrBaseline, PolicySystem
from medvie_rl.evaluation.documents import EvaluationSet, open_documents
from medvie_rl.evaluation.files import write_all
from medvie_rl.evaluation.outcome import score_all
from medvie_rl.evaluation.predictions import FOLDER, Made, find_predictions, predictions_path, write_predictions
from medvie_rl.evaluation.sheets import sheets_of
from medvie_rl.evaluation.systems import SystemSpec
from medvie_rl.files import check_new_folder, write_atomically
from medvie_rl.next_command import next_command
from medvie_rl.policy_settings import read_policy_settings
from medvie_rl.progress import show_progress
from medvie_rl.report.sheet import print_sheet

_ANNOTATIONS = "annotations.jsonl"


def evaluate_systems(
    dataset: str,
    systems: Sequence[SystemSpec],
    out: Path,
    *,
    split: str = "test",
    schemas: Sequence[Path],
    limit: int | None = None,
    baseline: str = "",
    prompt: Path | None = None,
    constrained: bool = True,
    settings: Sequence[str] = (),
    ocr_cache: Path | None = None,
    with_published: bool = True,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> None:
    """Ask every system, score all, print the tables and write the files into `out`.

    The options are those of the command. Raises UserError, before anything starts, for what cannot be used.
    """
    names = [system.name for system in systems]
    baseline = baseline or names[0]
    if baseline not in names:
        raise UserError(f"--baseline {baseline}: no such system{did_you_mean(baseline, names)}; there are {names}")
    if prompt is not None and not prompt.is_file():  # also where every policy has its own
        raise UserError(f"--prompt {prompt}: no such prompt file")
    if not (out / FOLDER).is_dir():
        check_new_folder(out)
    documents = open_documents(dataset, split, schemas, limit=limit)
    cache = _ocr_cache(dataset, out, ocr_cache)
    askers = [
        OcrBaseline(cache)
        if system.policy is None
        else PolicySystem(
            read_policy_settings(system.policy, default_prompt=prompt, reasoning=system.reasoning, settings=settings),
            cache,
            constrained=constrained,
        )
        for system in systems
    ]
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"{len(documents.documents)} documents of {documents.split.path}", markup=False, soft_wrap=True)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    truth = out / _ANNOTATIONS
    write_atomically(truth, documents.annotations())
    made = [(name, *_predict(name, asker, documents, out, console)) for name, asker in zip(names, askers, strict=True)]
    with show_progress("scoring") as progress:
        outcome = score_all(
            out,
            truth,
            documents,
            made,
            baseline=baseline,
            with_published=with_published,
            num_resamples=num_resamples,
            seed=seed,
            progress=progress,
        )
    sheets = sheets_of(outcome)
    for sheet in sheets:
        if not sheet.is_detail:
            print_sheet(console, sheet)
    for each in outcome.systems:
        for notice in each.report.notices:
            console.print(Text(f"note: {each.name}: {notice}", style="yellow"), soft_wrap=True)
    for path in write_all(out, outcome, sheets):
        console.print(f"written: {path}", markup=False, soft_wrap=True)
    console.print(
        f"{out} holds patient data (predictions, annotations; ids and wrong values in the JSON and CSV files); the "
        "Markdown and HTML files hold numbers only",
        markup=False,
        soft_wrap=True,
    )
    last = outcome.systems[-1].system
    worst = min(last.scores, key=lambda score: score.f1)
    explain = next_command(
        "score", "--truth", truth, "--pred", predictions_path(out, last.name), "--schema", *schemas,
        "--explain", worst.document_id,
    )  # fmt: skip
    console.print(f"for the document that {last.name} reads worst, {explain}", markup=False, soft_wrap=True)


def _predict(
    name: str, asker: OcrBaseline | PolicySystem, documents: EvaluationSet, out: Path, console: Console
) -> tuple[Made, bool]:
    """What a system's predictions were made from, and whether they are those that lay there."""
    made, problem = find_predictions(out, name, asker.inputs(documents))
    if made is not None:
        console.print(f"{name}: predictions reused, nothing they depend on has changed", markup=False, soft_wrap=True)
        return made, True
    again = f" (again; {problem})" if problem else ""
    console.print(f"{name}: {asker.about}{again}", markup=False, soft_wrap=True)
    with show_progress(name) as progress:
        lines, made = asker.predict(documents, progress)
    return write_predictions(out, name, lines, made), False


def _ocr_cache(dataset: str, out: Path, named: Path | None) -> Path:
    """The folder named, else that of the dataset if it has one already, else one in `out`."""
    of_dataset = Path(dataset) / "ocr"
    return named or (of_dataset if "://" not in dataset and of_dataset.is_dir() else out / "ocr")
