"""The tables of an evaluation."""

from collections.abc import Callable, Iterator

from medvie_rl.evaluation.outcome import Evaluated, Outcome
from medvie_rl.report.classes import CLASSES
from medvie_rl.report.sheet import NOTHING, Cell, Sheet, change_of, with_interval
from medvie_rl.scoring.report import shown_groups
from rewards.breakdown import GroupMetrics

_SCORES = (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))
_MORE = (
    ("document F1", "document_f1"),
    ("macro F1", "macro_f1"),
    ("weighted F1", "weighted_f1"),
    ("exact docs", "exact_document_rate"),
    ("valid JSON", "valid_json_rate"),
)
_ERRORS = ("hallucinated", "duplicate", "omitted", "misassociated", "misread", "convention", "close")


def sheets_of(outcome: Outcome) -> list[Sheet]:
    """All tables, the headline first."""
    return [
        _headline(outcome),
        *_differences(outcome),
        _more(outcome),
        _errors(outcome),
        *_published(outcome),
        *_groups(outcome),
    ]


def _headline(outcome: Outcome) -> Sheet:
    return _by_system(
        outcome,
        f"scores on {outcome.num_documents} documents, with 95% intervals",
        tuple(title for title, _ in _SCORES),
        lambda each: tuple(
            Cell(with_interval(getattr(each.system.metrics, name), getattr(each.system.metrics, f"{name}_ci95")))
            for _, name in _SCORES
        ),
        note="Micro-averages over all values, strict: a value is right or wrong.",
    )


def _differences(outcome: Outcome) -> Iterator[Sheet]:
    if not outcome.others:
        return
    rows = []
    for each in outcome.others:
        assert each.report.comparison is not None
        difference = each.report.comparison.difference
        values = [
            (getattr(difference, f"delta_{name}"), getattr(difference, f"delta_{name}_ci95")) for _, name in _SCORES
        ]
        rows.append((Cell(each.name), *(Cell(with_interval(*pair, sign="+"), change_of(pair[1])) for pair in values)))
    yield Sheet(
        title=f"difference to {outcome.baseline}",
        columns=("", *(title for title, _ in _SCORES)),
        rows=tuple(rows),
        note="Paired over the same documents; an interval that leaves out 0 is a clear difference.",
    )


def _more(outcome: Outcome) -> Sheet:
    def cells(each: Evaluated) -> tuple[Cell, ...]:
        seconds = each.made.seconds_per_document
        values = [Cell(f"{getattr(each.system.metrics, name):.3f}") for _, name in _MORE]
        return (*values, Cell(NOTHING if seconds is None else f"{seconds:.2f}"))

    titles = (*(title for title, _ in _MORE), "s/document")
    note = "Seconds are those of generating or reading on this machine, without starting; – was read before."
    return _by_system(outcome, "by document, by key, and speed", titles, cells, note=note)


def _errors(outcome: Outcome) -> Sheet:
    return Sheet(
        title="error rates",
        columns=("", *(each.name for each in outcome.systems)),
        rows=tuple(
            (
                Cell(CLASSES[name].name),
                *(Cell(f"{each.system.metrics.error_rates[name]:.3f}") for each in outcome.systems),
            )
            for name in _ERRORS
        ),
        note="Hallucinated and given twice are shares of the answered values, the others of the true ones.",
    )


def _published(outcome: Outcome) -> Iterator[Sheet]:
    if any(each.system.published is None for each in outcome.systems):
        return

    def cells(each: Evaluated) -> tuple[Cell, ...]:
        published = each.system.published
        assert published is not None
        values = (
            published.anls_star,
            published.donut_nted_accuracy,
            published.donut_f1,
            published.kieval.entity_f1,
            published.kieval.group_f1,
            published.kieval.aligned,
        )
        return tuple(Cell(NOTHING if value is None else f"{value:.3f}") for value in values)

    titles = ("ANLS*", "1 - nTED", "Donut F1", "KIEval entity", "KIEval group", "KIEval aligned")
    yield _by_system(outcome, "published metrics, values as text", titles, cells, is_detail=True)


def _groups(outcome: Outcome) -> Iterator[Sheet]:
    """F1 of every group of values, a column each system. Groups of what was answered only follow the others."""
    names = [each.name for each in outcome.systems]
    tables: dict[str, dict[str, dict[str, GroupMetrics]]] = {}  # title, group's name, system
    for each in outcome.systems:
        for title, groups in shown_groups(each.system):
            for row in groups:
                tables.setdefault(title, {}).setdefault(row.name, {})[each.name] = row
    for title, rows_of in tables.items():
        rows = []
        for group, by_system in rows_of.items():
            some = next(iter(by_system.values()))
            f1 = [f"{by_system[name].f1:.3f}" if name in by_system else NOTHING for name in names]
            rows.append((Cell(group), Cell(str(some.num_leaves)), *map(Cell, f1)))
        yield Sheet(title=f"F1 {title}", columns=("", "values", *names), rows=tuple(rows), is_detail=title != "by key")


def _by_system(
    outcome: Outcome,
    title: str,
    titles: tuple[str, ...],
    cells: Callable[[Evaluated], tuple[Cell, ...]],
    *,
    note: str = "",
    is_detail: bool = False,
) -> Sheet:
    rows = tuple((Cell(each.name), *cells(each)) for each in outcome.systems)
    return Sheet(title=title, columns=("", *titles), rows=rows, note=note, is_detail=is_detail)
