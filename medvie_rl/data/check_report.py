"""How the report of `medvie data check` looks at a terminal, 80 columns wide where the output is no wider one."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvie_rl.data.check import CheckReport
from medvie_rl.data.check_annotations import KeyUse
from medvie_rl.data.check_findings import KINDS, Finding
from rewards.schema import Schema

_MAX_SHOWN = 5  # findings of one kind; all of them are in the JSON
_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}
_TITLES = {"document_type": "document type", "specialty": "specialty", "language": "language"}


def print_report(report: CheckReport, console: Console) -> None:
    """What the dataset has, what was found, and the counts of each kind last, where they are seen."""
    balance = report.balance
    console.print(
        Text(
            f"{report.folder}: {balance.num_documents} documents, {report.num_pages} pages, {balance.num_annotated} "
            f"annotated, {balance.num_synthetic} synthetic"
        )
    )
    if report.max_tokens is not None:
        console.print(Text(f"longest prompt: {report.max_tokens} tokens"))
    _print_table(console, "documents by split", _counts_table(balance.by["split"], "split"))
    for name, title in _TITLES.items():
        _print_table(console, f"documents by {title}", _counts_table(balance.by[name], title))
    for name, use in sorted(report.uses.items()):
        schema = report.schemas[name]
        title = (
            f"keys of schema {name}: {use.num_documents} annotated documents, "
            f"{use.absent_share(schema):.0%} of the values absent"
        )
        _print_table(console, title, _keys_table(use, schema))
        if use.choices:
            _print_table(console, f"choices of schema {name}", _choices_table(use))
    _print_findings(report.findings, console)


def _print_findings(findings: list[Finding], console: Console) -> None:
    by_kind: dict[str, list[Finding]] = {}
    for item in findings:
        by_kind.setdefault(item.kind, []).append(item)
    for kind, found in by_kind.items():
        console.print()
        console.print(Text(f"{found[0].severity}: {KINDS[kind][1]}", style=_STYLES[found[0].severity]))
        for item in found[:_MAX_SHOWN]:
            console.print(Text(f"  {item.place}: {item.message}"))
        if len(found) > _MAX_SHOWN:
            console.print(Text(f"  and {len(found) - _MAX_SHOWN} more, see --json"))
    if not findings:
        console.print()
        console.print(Text("nothing to find fault with", style="green"))
        return
    table = _table("", "what", "number")
    for kind, found in by_kind.items():
        severity = found[0].severity
        table.add_row(Text(severity, style=_STYLES[severity]), KINDS[kind][1], str(len(found)))
    _print_table(console, "findings", table)


def _counts_table(counts: Mapping[str, int], name: str) -> Table:
    total = sum(counts.values())
    table = _table(name, "documents", "share")
    for value, num in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(Text(value or "(none)"), str(num), f"{num / total:.1%}")
    return table


def _keys_table(use: KeyUse, schema: Schema) -> Table:
    table = _table("key", "kind", "documents", "share")
    for spec in schema.fields:
        for name, kind in ((spec.key, spec.kind), *((f"{spec.key}.{item.key}", item.kind) for item in spec.columns)):
            num = use.documents[name]
            share = f"{num / use.num_documents:.1%}" if use.num_documents else "-"
            table.add_row(Text(name), kind, str(num), share)
    return table


def _choices_table(use: KeyUse) -> Table:
    table = _table("key", "choice", "values")
    for key, counts in use.choices.items():
        for choice, num in counts.items():
            table.add_row(Text(key), Text(choice), str(num))
    return table


def _print_table(console: Console, title: str, table: Table) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_number = column in ("documents", "share", "number", "values")
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    return table
