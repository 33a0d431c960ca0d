"""What an evaluation leaves: JSON for machines, CSV for a spreadsheet, Markdown for a paper, HTML to look at."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from medvie_rl.evaluation.outcome import Evaluated, Outcome
from medvie_rl.evaluation.predictions import predictions_path
from medvie_rl.report.charts import whiskers
from medvie_rl.report.sheet import Sheet, sheets_in_markdown
from medvie_rl.report.templating import render
from medvie_rl.scoring.export import COLUMNS, report_to_dict, rows_of, without_nan, write_text

STEM = "evaluation"


def write_all(out: Path, outcome: Outcome, sheets: list[Sheet]) -> list[Path]:
    """Write every file; the paths of what was written. Raises UserError for one that cannot be."""
    content = {
        ".json": json.dumps(without_nan(_plain(out, outcome)), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        ".csv": _csv(outcome),
        ".md": _markdown(outcome, sheets),
        ".html": _html(outcome, sheets),
    }
    paths = []
    for ending, text in content.items():
        paths.append(out / f"{STEM}{ending}")
        write_text(paths[-1], text)
    return paths


def _plain(out: Path, outcome: Outcome) -> dict[str, Any]:
    return {
        "dataset": outcome.dataset,
        "split": outcome.split,
        "num_documents": outcome.num_documents,
        "baseline": outcome.baseline,
        "seed": outcome.seed,
        "num_resamples": outcome.num_resamples,
        "systems": {each.name: _system(out, each) for each in outcome.systems},
    }


def _system(out: Path, each: Evaluated) -> dict[str, Any]:
    """What it is, and all that `medvie score --json` writes of it, compared with the baseline."""
    return {
        "about": each.made.about,
        "inputs": dict(each.made.inputs),
        "predictions": str(predictions_path(out, each.name).relative_to(out)),
        "seconds_per_document": each.made.seconds_per_document,
        **report_to_dict(each.report),
    }


def _csv(outcome: Outcome) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("system", *COLUMNS), lineterminator="\n")
    writer.writeheader()
    for each in outcome.systems:
        writer.writerows({"system": each.name} | row for row in rows_of(each.report))
    return text.getvalue()


def _markdown(outcome: Outcome, sheets: list[Sheet]) -> str:
    parts = [f"# Evaluation on {outcome.num_documents} documents of the split {outcome.split}"]
    parts += ["\n".join(f"- `{each.name}`: {each.made.about}" for each in outcome.systems)]
    parts += [f"- {each.name}: {notice}" for each in outcome.systems for notice in each.report.notices]
    return "\n\n".join([*parts, *sheets_in_markdown(sheets)]) + "\n"


def _html(outcome: Outcome, sheets: list[Sheet]) -> str:
    comparisons = [each.report.comparison for each in outcome.others]
    changes = [(each.difference.delta_f1, each.difference.delta_f1_ci95) for each in comparisons if each]
    context = {"outcome": outcome, "sheets": sheets, "whiskers": whiskers(changes)}
    return render("evaluation.html", context).decode("utf-8")
