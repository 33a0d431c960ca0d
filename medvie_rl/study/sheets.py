"""The tables of a study."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import Any

from medvie_rl.report.sheet import NOTHING, Cell, Sheet, change_of, with_interval
from medvie_rl.study.answers import Row, conditions_of
from medvie_rl.study.config import StudyConfig
from medvie_rl.study.plan import Trial
from medvie_rl.study.statistics import Bootstrap, Estimate, complete

MEASURE_NAMES = {
    "f1": "F1", "precision": "precision", "recall": "recall", "hallucinated": "hallucinated", "omitted": "omitted",
    "misassociated": "mis-associated", "misread": "misread", "tokens": "tokens",
}  # fmt: skip
_OF_ARMS = ("f1", "precision", "recall", "hallucinated", "omitted")
_RATES = (
    "Hallucinated (and given twice) is a share of the answered values, omitted, misread and mis-associated of the true "
    "ones."
)
_FEWEST_VALUES = 20  # of a group that is shown
_LEAVES = ((1, "up to 3"), (4, "4"), (5, "5"), (6, "6"), (7, "7 to 12"), (13, "13 to 30"), (31, "more than 30"))

Column = tuple[str, str]  # arm, condition


class Measured:
    """The complete rows of a study by condition, each with its bootstrap."""

    def __init__(self, study: StudyConfig, rows: Sequence[Row]) -> None:
        self.study = study
        self.rows = complete(rows)
        self.arms = list(dict.fromkeys(row["arm"] for row in self.rows))
        present = {row["condition"] for row in self.rows}
        self.conditions = [each.name for each in conditions_of(study) if each.name in present]
        self.of = {name: Bootstrap([row for row in self.rows if row["condition"] == name]) for name in self.conditions}

    @property
    def num_seeds(self) -> int:
        """Seeds that every arm has."""
        return len({row["seed"] for row in self.rows})


def sheets_of(measured: Measured, trials: Sequence[Trial]) -> list[Sheet]:
    """All tables, the headline first."""
    if not measured.rows:
        return []
    several = len(measured.conditions) > 1
    main = _by_condition(measured) if several else [_by_arm(measured)]
    groups = [_by_group(measured, grouping) for grouping in measured.study.breakdowns]
    return [*main, *groups, _effort(measured.study, trials)]


def _by_arm(measured: Measured) -> Sheet:
    study, (condition,) = measured.study, measured.conditions
    bootstrap = measured.of[condition]
    columns = dict.fromkeys((*_OF_ARMS, *study.measures))
    rows = []
    for arm in measured.arms:
        cells = [_cell(bootstrap.estimate(arm, measure), measure) for measure in columns]
        rows.append((Cell(arm), *cells, _difference(bootstrap, arm, study.baseline, "f1")))
    return Sheet(
        title=f"{bootstrap.num_documents} held-out documents, {bootstrap.num_seeds} seeds, with 95% intervals",
        columns=("", *(MEASURE_NAMES[measure] for measure in columns), f"F1 less that of {study.baseline}"),
        rows=tuple(rows),
        note=f"Micro-averages over all values, strict. {_RATES}",
    )


def _by_condition(measured: Measured) -> Iterator[Sheet]:
    study = measured.study
    for measure in study.measures:
        yield Sheet(
            title=f"{MEASURE_NAMES[measure]} by condition, {measured.num_seeds} seeds, with 95% intervals",
            columns=("", "documents", *measured.arms),
            rows=tuple(
                (
                    Cell(name),
                    Cell(str(bootstrap.num_documents)),
                    *(_cell(bootstrap.estimate(arm, measure), measure) for arm in measured.arms),
                )
                for name, bootstrap in measured.of.items()
            ),
            note=_RATES if measure not in ("f1", "precision", "recall", "tokens") else "",
        )
    others = [arm for arm in measured.arms if arm != study.baseline]
    if others and study.baseline in measured.arms:
        yield Sheet(
            title=f"F1 less that of {study.baseline}",
            columns=("", *others),
            rows=tuple(
                (Cell(name), *(_difference(bootstrap, arm, study.baseline, "f1") for arm in others))
                for name, bootstrap in measured.of.items()
            ),
            note="Paired by document and seed; an interval that leaves out 0 is a clear difference.",
        )
    first, *rest = measured.conditions
    if all(_same_documents(measured, first, other) for other in rest):
        yield _against_first(measured, first, rest)


def _against_first(measured: Measured, first: str, rest: Sequence[str]) -> Sheet:
    """Each arm asked under a condition against itself under the first one, where the documents are the same."""
    rows = []
    for name in rest:
        cells = []
        for arm in measured.arms:
            pair = [row | {"arm": row["condition"]} for row in measured.rows if row["arm"] == arm]
            bootstrap = Bootstrap([row for row in pair if row["arm"] in (first, name)])
            cells.append(_difference(bootstrap, name, first, "f1"))
        rows.append((Cell(name), *cells))
    return Sheet(
        title=f"F1 less that under {first}",
        columns=("", *measured.arms),
        rows=tuple(rows),
        note="The same policy asked in two ways, paired by document and seed.",
    )


def _same_documents(measured: Measured, first: str, other: str) -> bool:
    documents = [{row["document"] for row in measured.rows if row["condition"] == name} for name in (first, other)]
    return documents[0] == documents[1]


def _by_group(measured: Measured, grouping: str) -> Sheet:
    """F1 of every group of values, a column each arm under each of the first two conditions."""
    conditions = measured.conditions[:2]
    columns: list[Column] = [(arm, name) for name in conditions for arm in measured.arms]
    group_of = _GROUPINGS[grouping](measured.rows)
    groups = sorted({group_of(row, leaf) for row in measured.rows for leaf in row["leaves"]})
    rows = []
    for group in groups:
        cells: list[Cell] = []
        num_true = 0
        for name in conditions:
            of_condition = [row for row in measured.rows if row["condition"] == name]
            bootstrap = Bootstrap(of_condition, keep=partial(_is_of, group_of, group))
            num_true = max(num_true, *(bootstrap.num_true(arm) for arm in measured.arms))
            cells += [_cell(bootstrap.estimate(arm, "f1"), "f1") for arm in measured.arms]
        if num_true >= _FEWEST_VALUES:
            rows.append((Cell(group[1]), Cell(str(num_true)), *cells))
    names = [arm if len(conditions) == 1 else f"{arm}, {name}" for arm, name in columns]
    return Sheet(title=f"F1 by {grouping}", columns=("", "values", *names), rows=tuple(rows), is_detail=True)


Group = tuple[float, str]  # its place, its name
GroupOf = Callable[[Row, Mapping[str, Any]], Group]


def _is_of(group_of: GroupOf, group: Group, row: Row, leaf: Mapping[str, Any]) -> bool:
    return group_of(row, leaf) == group


def _by_values(_: Sequence[Row]) -> GroupOf:
    starts = [start for start, _ in _LEAVES]

    def group_of(row: Row, leaf: Mapping[str, Any]) -> Group:
        index = max(bisect_right(starts, row["num_values"]) - 1, 0)
        return index, _LEAVES[index][1]

    return group_of


def _by_length(rows: Sequence[Row]) -> GroupOf:
    """Quarters of the lengths of answers, each policy's and condition's own: longer ones among its own."""
    bounds: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        bounds.setdefault((row["arm"], row["condition"], row["seed"]), []).append(row["num_tokens"])
    quarters = {key: [sorted(of)[len(of) * part // 4] for part in (1, 2, 3)] for key, of in bounds.items()}
    names = ("shortest quarter", "second", "third", "longest quarter")

    def group_of(row: Row, leaf: Mapping[str, Any]) -> Group:
        index = bisect_right(quarters[row["arm"], row["condition"], row["seed"]], row["num_tokens"])
        return index, names[index]

    return group_of


_GROUPINGS: Mapping[str, Callable[[Sequence[Row]], GroupOf]] = {
    "key": lambda _: lambda row, leaf: (0, leaf["key"]),
    "kind": lambda _: lambda row, leaf: (0, leaf["kind"] or "in no schema"),
    "document type": lambda _: lambda row, leaf: (0, row["document_type"]),
    "values on the page": _by_values,
    "length of the answer": _by_length,
}


def _effort(study: StudyConfig, trials: Sequence[Trial]) -> Sheet:
    """What each arm was made with."""
    rows = []
    for arm in study.arms:
        summaries = [_summary(trial) for trial in trials if trial.arm == arm.name and trial.run]
        done = [summary for summary in summaries if summary]
        if not done:
            continue
        start = f", from {arm.start}" if arm.start else ""
        rows.append(
            (
                Cell(arm.name),
                Cell(arm.method + start),
                Cell(str(round(median(each["num_train_documents"] for each in done)))),
                Cell(str(round(median(each["num_steps"] for each in done)))),
                Cell(f"{fmean(each['best_step'] for each in done):.0f}"),
                Cell(f"{median(each['seconds'] for each in done):.0f}"),
            )
        )
    return Sheet(
        title="what each arm took",
        columns=("", "method", "documents", "steps", "best step", "seconds"),
        rows=tuple(rows),
        note="Medians over seeds of the training documents, steps and seconds of training, validation included; the "
        "mean of the step whose policy was best on the validation documents, which is the one that is tested.",
    )


def _summary(trial: Trial) -> dict[str, Any] | None:
    if not trial.run or not trial.run.is_finished:
        return None
    summary: dict[str, Any] = json.loads((trial.run.folder / "summary.json").read_text(encoding="utf-8"))
    return summary


def _cell(estimate: Estimate, measure: str) -> Cell:
    if estimate.value != estimate.value:
        return Cell(NOTHING)
    if measure == "tokens":
        return Cell(f"{estimate.value:.0f} [{estimate.ci95[0]:.0f}, {estimate.ci95[1]:.0f}]")
    return Cell(with_interval(estimate.value, estimate.ci95))


def _difference(bootstrap: Bootstrap, arm: str, other: str, measure: str) -> Cell:
    if arm == other or other not in bootstrap.arms:
        return Cell(NOTHING)
    difference = bootstrap.difference(arm, other, measure)
    return Cell(with_interval(difference.value, difference.ci95, sign="+"), change_of(difference.ci95))
