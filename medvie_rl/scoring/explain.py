"""Value by value, what became of a document: nobody should have to guess why a score is low."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.scoring.systems import ScoreReport
from rewards.types import Leaf, LeafOutcome, Score

_COLOURS = {LeafOutcome.CORRECT: "green", LeafOutcome.CLOSE: "yellow", LeafOutcome.CONVENTION: "yellow"}


def check_known(report: ScoreReport, ids: Sequence[str]) -> None:
    """Raises UserError for an id that is none of the documents'."""
    known = [case.id for case in report.cases]
    for name in ids:
        if name not in known:
            raise UserError(f"--explain: no document '{name}'{did_you_mean(name, known)}")


def print_documents(report: ScoreReport, ids: Sequence[str], console: Console) -> None:
    """A table for each document: every true and every answered value with its class, weight and credit."""
    for score in report.system.scores:
        if score.document_id in ids:
            console.print()
            console.print(Text(_headline(score), style="bold"))
            console.print(_table(score))


def wrong_leaves(score: Score) -> Iterator[dict[str, Any]]:
    """Every leaf that is not correct, as plain values."""
    for leaf in score.leaves:
        if leaf.outcome is not LeafOutcome.CORRECT:
            yield {
                "key": leaf.key,
                "place": None if leaf.position is None else list(leaf.position),
                "outcome": leaf.outcome.value,
                "answered": leaf.answered,
                "true": leaf.true,
            }


def _headline(score: Score) -> str:
    problem = "" if not score.detail else f", {score.status.value}: {score.detail}"
    return (
        f"{score.document_id}: F1 {score.f1:.3f}, weighted precision {score.weighted_precision:.3f}, "
        f"weighted recall {score.weighted_recall:.3f}{problem}"
    )


def _table(score: Score) -> Table:
    table = Table("key", "true", "answered", "class", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("weight", "credit"):
        table.add_column(name, justify="right")
    for leaf in sorted(score.leaves, key=_order):
        values = ["" if value is None else str(value) for value in (leaf.true, leaf.answered)]
        outcome = Text(leaf.outcome.value, style=_COLOURS.get(leaf.outcome, "red"))
        table.add_row(_name(leaf), *map(Text, values), outcome, f"{leaf.weight:g}", f"{leaf.credit:.2f}")
    return table


def _name(leaf: Leaf) -> Text:
    """The key and, counted from 1, the row or item of the truth."""
    places = "".join(f" {place + 1}" for place in leaf.position or ())
    return Text(f"{leaf.key}{places}")


def _order(leaf: Leaf) -> tuple[bool, tuple[int, ...]]:
    """Rows together, what has no truth last."""
    is_row = "." in leaf.key and leaf.position
    return leaf.position is None, leaf.position[:1] if is_row and leaf.position else ()
