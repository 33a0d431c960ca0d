"""The end of a run: what changed on held-out documents, for a person and for machines."""

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from medvie_rl.compared import compare_values, in_words
from medvie_rl.data.load import RunData
from medvie_rl.display import Display
from medvie_rl.evaluate import Evaluation
from medvie_rl.figures import draw_curves, draw_examples
from medvie_rl.next_command import next_command
from medvie_rl.run import Run, RunState
from rewards.metrics import ExtractionMetrics, GainByErrorClass, PairedDifference, gain_by_error_class, paired_bootstrap
from rewards.types import Leaf, LeafOutcome

_NUM_EXAMPLES = 3
_ERROR_NAMES = {
    "close": "nearly right free text",
    "convention": "right, in the wrong format",
    "misread": "misread",
    "misassociated": "under the wrong key or row",
    "hallucinated": "invented",
    "duplicate": "given twice",
    "omitted": "left out",
}


def finish_run(
    run: Run, data: RunData, state: RunState, before: Evaluation, after: Evaluation, display: Display
) -> None:
    """Write summary.json and the pictures; show the table, three documents and what to do next."""
    samples, seed = run.config.evaluation.bootstrap_samples, run.config.seed
    difference = paired_bootstrap(before.scores, after.scores, num_resamples=samples, seed=seed)
    gain = gain_by_error_class(before.scores, after.scores)
    run.finish(_summary(run, data, state, before.metrics, after.metrics, difference, gain))
    draw_curves(run.metrics(), run.folder / "curves.png")
    chosen = choose_examples(before, after)
    draw_examples([_example(data, before, after, index) for index in chosen], run.folder / "examples.png")

    console = display.console
    console.print()
    console.print(_score_table(before.metrics, after.metrics, difference))
    console.print(_gain_table(gain))
    for index in chosen:
        console.print(_example_table(before, after, index))
    best = f"the best policy on the validation documents is that of step {state.best_step}"
    if state.best_step == 0:
        best = "no step scored higher on the validation documents than the base: the policy kept is the base"
    console.print(f"{best} ({state.seconds:.0f} s of training)", soft_wrap=True)
    for name, path in _paths(run).items():
        console.print(f"  {name:<12}{path}", soft_wrap=True)
    console.print(f"run directory: {run.folder}", soft_wrap=True)
    console.print(next_command("report", run.folder), soft_wrap=True, markup=False)


def choose_examples(before: Evaluation, after: Evaluation, num: int = _NUM_EXAMPLES) -> list[int]:
    """Documents to show, by rule: the lower quartile, the median and the upper quartile of the change in F1."""
    changes = [second.f1 - first.f1 for first, second in zip(before.scores, after.scores, strict=True)]
    order = sorted(range(len(changes)), key=lambda index: (changes[index], index))
    return list(dict.fromkeys(order[len(order) * (part + 1) // (num + 1)] for part in range(num)))


def _summary(
    run: Run,
    data: RunData,
    state: RunState,
    before: ExtractionMetrics,
    after: ExtractionMetrics,
    difference: PairedDifference,
    gain: GainByErrorClass,
) -> dict[str, Any]:
    return {
        "before": _headline(before),
        "after": _headline(after),
        "delta_f1": difference.delta_f1,
        "delta_f1_ci95": list(difference.delta_f1_ci95),
        "delta_precision": difference.delta_precision,
        "delta_precision_ci95": list(difference.delta_precision_ci95),
        "delta_recall": difference.delta_recall,
        "delta_recall_ci95": list(difference.delta_recall_ci95),
        "f1_gain_by_error_class": dict(gain.f1_gain),
        "num_train_documents": len(data.train),
        "num_validation_documents": len(data.validation),
        "num_eval_documents": difference.num_documents,
        "num_steps": state.step,
        "best_step": state.best_step,
        "seconds": round(state.seconds, 1),
        "seed": run.config.seed,
        "method": run.config.method,
        "reasoning": run.config.evaluation.reasoning,
    }


def _headline(metrics: ExtractionMetrics) -> dict[str, Any]:
    return {
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        "f1_ci95": list(metrics.f1_ci95),
        "macro_f1": metrics.macro_f1,
        "document_f1": metrics.document_f1,
        "weighted_f1": metrics.weighted_f1,
        "valid_json_rate": metrics.valid_json_rate,
        "exact_document_rate": metrics.exact_document_rate,
        "error_rates": dict(metrics.error_rates),
    }


def _score_table(before: ExtractionMetrics, after: ExtractionMetrics, difference: PairedDifference) -> Table:
    table = Table(title=f"{difference.num_documents} held-out documents, 95% intervals over documents")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name in ("f1", "precision", "recall"):
        table.add_row(
            {"f1": "micro-F1"}.get(name, name),
            _with_interval(getattr(before, name), getattr(before, f"{name}_ci95")),
            _with_interval(getattr(after, name), getattr(after, f"{name}_ci95")),
            _with_interval(getattr(difference, f"delta_{name}"), getattr(difference, f"delta_{name}_ci95"), sign="+"),
        )
    for name, title in (("valid_json_rate", "valid JSON"), ("exact_document_rate", "documents all right")):
        first, second = getattr(before, name), getattr(after, name)
        table.add_row(title, f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}")
    return table


def _gain_table(gain: GainByErrorClass) -> Table:
    table = Table(title="what was mended")
    for column in ("fields", "before", "after", "part of the F1 change"):
        table.add_column(column, justify="left" if column == "fields" else "right")
    for name, title in _ERROR_NAMES.items():
        first, second = getattr(gain.before, name), getattr(gain.after, name)
        if first or second:
            table.add_row(title, str(first), str(second), f"{gain.f1_gain[name] + 0.0:+.3f}")  # no -0.000
    return table


def _example_table(before: Evaluation, after: Evaluation, index: int) -> Table:
    table = Table(title=Text(f"document {before.queries[index].document.id}"))
    for column in ("key", "truth", "before", "after"):
        table.add_column(column, overflow="fold")
    for key, true, first, first_outcome, second, second_outcome in _rows(before, after, index):
        table.add_row(Text(key), Text(true), _styled(first, first_outcome), _styled(second, second_outcome))
    return table


def _example(data: RunData, before: Evaluation, after: Evaluation, index: int) -> dict[str, Any]:
    document = before.queries[index].document
    return {
        "id": document.id,
        "image": next(iter(data.images(document).values())),
        "rows": _rows(before, after, index),
    }


def _rows(before: Evaluation, after: Evaluation, index: int) -> list[tuple[str, str, str, str, str, str]]:
    """(key, truth, answer before, its outcome, answer after, its outcome) for every leaf of a document."""
    return [
        (value.key, value.true, *_cell(value.before), *_cell(value.after))
        for value in compare_values(before.scores[index], after.scores[index])
    ]


def _cell(leaf: Leaf | None) -> tuple[str, str]:
    return ("", "") if leaf is None else (in_words(leaf.answered), leaf.outcome.value)


def _styled(text: str, outcome: str) -> Text:
    nearly = (LeafOutcome.CLOSE, LeafOutcome.CONVENTION)
    colour = {"": "", LeafOutcome.CORRECT: "green"}.get(outcome, "yellow" if outcome in nearly else "red")
    return Text(text or ("(left out)" if outcome == LeafOutcome.OMITTED else ""), style=colour)


def _with_interval(value: float, interval: tuple[float, float], sign: str = "") -> str:
    return f"{value:{sign}.3f} [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]".replace("[", r"\[")


def _paths(run: Run) -> dict[str, Path]:
    return {
        "policy": run.best_policy,
        "metrics": run.folder / "metrics.jsonl",
        "rollouts": run.folder / "rollouts",
        "answers": run.folder / "evaluations",
        "curves": run.folder / "curves.png",
        "examples": run.folder / "examples.png",
        "summary": run.folder / "summary.json",
    }
