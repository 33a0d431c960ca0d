"""One study from its file to its tables, figure and report. What was trained or asked before is not done again."""

import base64
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from medvie_rl.config import load_config
from medvie_rl.data.store import open_split
from medvie_rl.files import write_atomically
from medvie_rl.report.sheet import Sheet, print_sheet, sheets_in_markdown
from medvie_rl.report.templating import render
from medvie_rl.study.answers import collect, write_rows
from medvie_rl.study.cases import Case, cases
from medvie_rl.study.config import StudyConfig, load_study
from medvie_rl.study.documents import prepare_dataset
from medvie_rl.study.figure import PICTURE, draw_figure
from medvie_rl.study.plan import PlannedRun, Trial, plan_trials, runs_of
from medvie_rl.study.schedule import train_all
from medvie_rl.study.sheets import Measured, sheets_of
from medvie_rl.study.statistics import NUM_RESAMPLES

ROWS, TABLES, REPORT = "answers.parquet", "tables.md", "report.html"


def plan(name: str, config_file: Path, overrides: Sequence[str], out: Path) -> tuple[StudyConfig, list[Trial]]:
    """A study and its trials; the datasets of its arms and those that its file says how to draw are made if need be.

    Raises ConfigError for what cannot be used.
    """
    study = load_study(name)
    config = load_config(config_file, [*overrides, *study.settings])
    prepare_dataset(config.data.path, study.prepare)
    return study, plan_trials(study, config_file, overrides, out)


def run_study(
    name: str, study: StudyConfig, trials: Sequence[Trial], out: Path, *, jobs: int, console: Console
) -> list[PlannedRun]:
    """Train, ask, and write `out/NAME/`: every answer as Parquet, tables as Markdown, a figure, and an HTML report.

    Returns the runs that failed; the tables are those of the seeds that every arm has.
    """
    folder = out / Path(name).stem
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"\n{study.title}: {len(study.arms)} arms, seeds {', '.join(map(str, study.seeds))}", style="bold")
    failed = train_all(runs_of(trials), jobs=jobs, console=console)
    rows = collect(folder.name, study, trials, out)
    write_rows(rows, folder / ROWS)
    measured = Measured(study, rows)
    if set(measured.arms) != {arm.name for arm in study.arms}:
        console.print("no tables: not every arm has a seed that ended", style="red")
        return failed
    sheets = sheets_of(measured, trials)
    for sheet in sheets:
        if not sheet.is_detail:
            print_sheet(console, sheet)
    write_results(folder, study, measured, sheets, trials)
    for written in (ROWS, TABLES, PICTURE, REPORT):
        console.print(f"written: {folder / written}", markup=False, highlight=False, soft_wrap=True)
    return failed


def write_results(
    folder: Path, study: StudyConfig, measured: Measured, sheets: Sequence[Sheet], trials: Sequence[Trial]
) -> None:
    """Write tables, figure and report into a study's folder."""
    parts = [f"# {study.title}", study.question, *sheets_in_markdown(sheets)]
    write_atomically(folder / TABLES, "\n\n".join(parts) + "\n")
    draw_figure(measured, folder / PICTURE)
    shown: list[Case] = []
    if study.num_cases:
        data = trials[0].config.data
        shown = cases(measured, open_split(data.path, data.test_split))
    context = {
        "study": study,
        "measured": measured,
        "sheets": sheets,
        "figure": base64.b64encode((folder / PICTURE).read_bytes()).decode(),
        "cases": shown,
        "config": trials[0].config,
        "num_resamples": NUM_RESAMPLES,
    }
    write_atomically(folder / REPORT, render("study.html", context))
