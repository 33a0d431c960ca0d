"""How `medvie rollouts` looks on a terminal: plain tables, and responses with what they earned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from medvie_rl.compared import cut
from medvie_rl.records import RolloutRecord, texts_left_out
from medvie_rl.rescore import Rescored
from medvie_rl.rollouts_report import Asked, Batch, KeyHistory
from rewards.types import AnswerStatus, LeafOutcome

T = TypeVar("T")
_MAX_ROWS = 12
_LOG_WIDTH = 120  # columns where output is no terminal
_CUT = 300  # characters of a response that is not shown whole


class Printer:
    """Prints to standard output. `files` are those that are told of."""

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._files = files
        self._console = Console(highlight=False, markup=False)
        if not self._console.is_terminal:
            self._console.width = _LOG_WIDTH

    def line(self, text: str) -> None:
        """One line of text."""
        self._console.print(plain(text), soft_wrap=True)

    def batches(self, batches: Sequence[Batch], *, every: bool = False) -> None:
        """Numbers by step; of many steps some, the first and the last among them, if not `every` is asked for."""
        rates = ("reward", "best", "worst", "precision", "recall")
        table = _table("step", "responses", *rates, "cut off", "no answer", "tokens", "weights")
        shown = batches if every else _spread(batches)
        for batch in shown:
            values = [batch.reward, batch.best_reward, batch.worst_reward, batch.precision, batch.recall]
            table.add_row(
                str(batch.step), str(batch.num_responses), *[f"{value:.3f}" for value in values],
                f"{batch.truncated:.1%}", f"{batch.invalid:.1%}", f"{batch.num_tokens:.0f}", str(batch.weight_version),
            )  # fmt: skip
        self._console.print(table)
        if len(shown) < len(batches):
            self.line(f"{len(shown)} of {len(batches)} steps; --step N shows one, --json all")
        if batches and min(self._files) > 1 and len(self._files) > 1:
            self.line(f"the steps before {min(self._files)} were given up (records.max_gib)")

    def queries(self, asked: Sequence[Asked]) -> None:
        """The queries of one step."""
        table = _table("query", "document", "reward", "best", "worst", "keys")
        for entry in asked:
            batch = entry.batch
            rates = [f"{value:.3f}" for value in (batch.reward, batch.best_reward, batch.worst_reward)]
            table.add_row(entry.query, entry.document, *rates, ", ".join(entry.keys))
        self._console.print(table)

    def keys(self, keys: Sequence[KeyHistory]) -> None:
        """What became of the keys of a document; first of all those that changed."""
        table = _table("key", "first asked", "right", "last asked", "right", "")
        for key in sorted(keys, key=lambda key: key.change in ("right", "wrong")):
            before = f"step {key.first_step}", f"{key.first_right:.0%}"
            after = f"step {key.last_step}", f"{key.last_right:.0%}"
            table.add_row(key.key, *before, *after, key.change)
        self._console.print(table)

    def record(self, title: str, record: RolloutRecord, *, whole: bool = True) -> None:
        """One response: where it is from, what it earned and why, and its text."""
        parts = " + ".join(f"{name} {value:.3f}" for name, value in record.components.items())
        status = "" if record.status is AnswerStatus.OK else f", {record.status}: {record.detail or 'no detail kept'}"
        self.line("")
        self.line(
            f"{title}: step {record.step}, document {record.document}, query {record.query}, trace {record.trace}, "
            f"weights {record.weight_version}"
        )
        self.line(
            f"  reward {record.reward:.3f} = {parts or '0'}; precision {record.precision:.3f}, recall "
            f"{record.recall:.3f}; {record.num_tokens} tokens, {record.finish_reason}{status}"
        )
        self.line(f"  asked: {', '.join(record.keys)}{'' if record.reasoning else ' (without reasoning)'}")
        wrong = [f"{key} {outcome}" for key, outcome in record.outcomes if outcome is not LeafOutcome.CORRECT]
        faults = [*wrong, *record.faults]
        self.line(f"  wrong: {', '.join(faults) or 'nothing'}")
        if record.response is None:
            self.line(f"  (response not kept: {texts_left_out(self._files[record.step])})")
            return
        shown = record.response if whole else cut(record.response, _CUT)
        self.line("\n".join(f"  | {line}" for line in shown.split("\n")))

    def rescored(self, steps: Mapping[int, Rescored], everything: Rescored) -> None:
        """Scores before and after, by step and of all."""
        table = _table("step", "responses", "reward", "precision", "recall", "rewards changed")
        for name, part in [*_spread([*((str(step), part) for step, part in steps.items())]), ("all", everything)]:
            pairs = [f"{before:.4f} → {after:.4f}" for before, after in (part.reward, part.precision, part.recall)]
            table.add_row(name, str(part.num_responses), *pairs, str(part.num_changed))
        self._console.print(table)


def plain(text: str) -> str:
    """A text without what would control a terminal: a response can hold anything."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def _spread(items: Sequence[T]) -> list[T]:
    """Items at equal distances, the first and the last among them."""
    if len(items) <= _MAX_ROWS:
        return list(items)
    return [items[round(index * (len(items) - 1) / (_MAX_ROWS - 1))] for index in range(_MAX_ROWS)]


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name)
    return table
