"""The tables of `medvie score`: 80 columns wide where the output is no wider terminal."""

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvie_rl.scoring.systems import Comparison, PublishedMetrics, ScoreReport, System
from rewards.breakdown import GroupMetrics
from rewards.metrics import ExtractionMetrics
from rewards.resampling import Interval

HEADLINES = (
    ("micro F1", "f1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("macro F1", "macro_f1"),
    ("document F1", "document_f1"),
    ("weighted F1", "weighted_f1"),
    ("exact documents", "exact_document_rate"),
    ("valid JSON", "valid_json_rate"),
)
_ERRORS = (
    ("hallucinated (answered)", "hallucinated"),
    ("given twice (answered)", "duplicate"),
    ("omitted (true)", "omitted"),
    ("mis-associated (true)", "misassociated"),
    ("misread (true)", "misread"),
    ("wrong format (true)", "convention"),
    ("close free text (true)", "close"),
)
_MAX_NAME_BESIDE_INTERVAL = 16  # characters, so that 80 columns are enough
_ALWAYS_SHOWN = ("key", "kind", "rarity")
_TITLES = {
    "key": "by key",
    "kind": "by kind of value",
    "document_type": "by document type",
    "rarity": "by how many training documents have the key",
    "leaves": "by leaves of the document",
    "rows": "by table rows of the document",
    "columns": "by columns of the widest table of the document",
}


def print_report(report: ScoreReport, console: Console) -> None:
    """Headline, error rates, published metrics and the tables of all groups that tell documents apart."""
    system, comparison = report.system, report.comparison
    metrics = system.metrics
    console.print(Text(f"{report.title}: {metrics.num_documents} documents, {metrics.counts.true} true values"))
    for notice in report.notices:
        console.print(Text(notice, style="yellow"))
    _print_table(console, "scores with 95% intervals over documents", _headline_table(system, comparison))
    _print_table(console, "error rates", _error_table(system, comparison))
    if system.published is not None:
        _print_table(console, "published metrics (as text)", _published_table(system.published, comparison))
    for title, rows in shown_groups(system):
        _print_table(console, title, _group_table(rows, comparison))


def shown_groups(system: System) -> Iterator[tuple[str, tuple[GroupMetrics, ...]]]:
    """The groups that tell documents apart, with what they are by."""
    for group, title in _TITLES.items():
        rows = system.groups[group]
        if rows and (len(rows) > 1 or group in _ALWAYS_SHOWN):
            yield title, rows


def _print_table(console: Console, title: str, table: Table) -> None:
    """The title stands above on a line of its own, since a table breaks it to its width."""
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)


def _headline_table(system: System, comparison: Comparison | None) -> Table:
    columns = ("", "") if comparison is None else ("", *comparison.labels, "change")
    table = _table(columns)
    for title, name in HEADLINES:
        if comparison is None:
            table.add_row(title, _value(system.metrics, name))
            continue
        values = [_short_value(metrics, name) for metrics in (comparison.other.metrics, system.metrics)]
        table.add_row(title, *values, _change(system, comparison, name))
    return table


def _error_table(system: System, comparison: Comparison | None) -> Table:
    columns = ("", "") if comparison is None else ("", *comparison.labels, "change")
    table = _table(columns)
    for title, name in _ERRORS:
        rate = system.metrics.error_rates[name]
        cells = [f"{rate:.3f}"]
        if comparison is not None:
            before = comparison.other.metrics.error_rates[name]
            cells = [f"{before:.3f}", *cells, _signed(rate - before)]
        table.add_row(title, *cells)
    return table


def _published_table(published: PublishedMetrics, comparison: Comparison | None) -> Table:
    other = None if comparison is None else comparison.other.published
    columns = ("", "") if comparison is None else ("", *comparison.labels, "change")
    table = _table(columns)
    for (title, value), (_, before) in zip(_published(published), _published(other or published), strict=True):
        cells = [_optional(value)]
        if other is not None:
            change = "-" if value is None or before is None else _signed(value - before)
            cells = [_optional(before), *cells, change]
        table.add_row(title, *cells)
    skipped = {"ANLS*": published.num_anls_skipped, "Donut accuracy": published.num_nted_skipped}
    left_out = [f"{name} leaves out {num} documents, too large for it" for name, num in skipped.items() if num]
    table.caption = "\n".join(left_out) or None
    return table


def _published(published: PublishedMetrics) -> list[tuple[str, float | None]]:
    return [
        ("ANLS*", published.anls_star),
        ("Donut accuracy (1 - nTED)", published.donut_nted_accuracy),
        ("Donut field F1", published.donut_f1),
        ("KIEval entity F1", published.kieval.entity_f1),
        ("KIEval group F1", published.kieval.group_f1),
        ("KIEval aligned", published.kieval.aligned),
    ]


def _group_table(rows: Sequence[GroupMetrics], comparison: Comparison | None) -> Table:
    """With a comparison, the other system's F1 and the change take the place of precision, recall and interval.

    Long names take the place of the intervals, which JSON and CSV have as well.
    """
    has_interval = max(len(item.name) for item in rows) <= _MAX_NAME_BESIDE_INTERVAL
    middle: tuple[str, ...] = ("prec", "rec", "F1", *(["95%"] if has_interval else []))
    if comparison is not None:
        middle = (*(f"F1 {label}" for label in comparison.labels), "change")
    table = _table(("", "docs", "values", *middle, "halluc", "omit", "misas"))
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", False
    others = {} if comparison is None else {item.name: item for item in comparison.other.groups[rows[0].group]}
    for item in rows:
        if comparison is None:
            cells = [f"{rate:.3f}" for rate in (item.precision, item.recall, item.f1)]
            cells += [_short(item.f1_ci95)] if has_interval else []
        else:
            other = others.get(item.name)
            cells = ["-" if other is None else f"{other.f1:.3f}", f"{item.f1:.3f}"]
            cells.append("-" if other is None else _signed(item.f1 - other.f1))
        rates = (item.hallucination_rate, item.omission_rate, item.misassociation_rate)
        table.add_row(
            Text(item.name),
            str(item.num_documents),
            str(item.num_leaves),
            *cells,
            *(f"{rate:.0%}" for rate in rates),
        )
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index else "left", no_wrap=index > 0)
    return table


def _value(metrics: ExtractionMetrics, name: str) -> Text:
    interval: Interval | None = getattr(metrics, f"{name}_ci95", None)
    value = f"{getattr(metrics, name):.3f}"
    return Text(value if interval is None else f"{value} [{interval[0]:.3f}, {interval[1]:.3f}]")


def _short_value(metrics: ExtractionMetrics, name: str) -> Text:
    interval: Interval | None = getattr(metrics, f"{name}_ci95", None)
    value = f"{getattr(metrics, name):.3f}"
    return Text(value if interval is None else f"{value} {_short(interval)}")


def _change(system: System, comparison: Comparison, name: str) -> Text:
    difference = comparison.difference
    interval: Interval | None = getattr(difference, f"delta_{name}_ci95", None)
    if interval is None:
        return Text(_signed(getattr(system.metrics, name) - getattr(comparison.other.metrics, name)))
    low, high = (_signed(end) for end in interval)
    return Text(f"{_signed(getattr(difference, f'delta_{name}'))} [{low}, {high}]")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # no -0.000


def _short(interval: Interval) -> str:
    if math.isnan(interval[0]):  # no draw of the bootstrap had a document of the group
        return "-"
    return f"{interval[0]:.2f}-{interval[1]:.2f}"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
