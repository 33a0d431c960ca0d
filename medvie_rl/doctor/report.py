"""Making the checks one after the other, and a line for each as soon as it is made."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from medvie_rl.doctor.types import Check, Finding, Result

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_NAME_WIDTH = 17
_INDENT = " " * (6 + _NAME_WIDTH)


def examine(checks: Iterable[Check], console: Console | None) -> list[Result]:
    """Make the checks, and print on the console, if there is one. Whatever a check raises is its line."""
    results = []
    for check in checks:
        started = time.monotonic()
        if console is not None and console.is_terminal:
            with console.status(f"checking {check.name} ..."):
                finding = _made(check)
        else:
            finding = _made(check)
        results.append(Result(name=check.name, finding=finding, seconds=time.monotonic() - started))
        if console is not None:
            _print(results[-1], console)
    return results


def _made(check: Check) -> Finding:
    try:
        return check.run()
    except Exception as error:  # the other lines are worth having, whatever is the matter with this one
        found = f"the check itself failed: {type(error).__name__}: {error}"
        return Finding(status="fail", found=found, fix="please report this line; the others hold")


def _print(result: Result, console: Console) -> None:
    finding = result.finding
    line = Text.assemble((f"{finding.status:<6}", _STYLES[finding.status]), f"{result.name:<{_NAME_WIDTH}}")
    console.print(line.append(finding.found), soft_wrap=True)
    if finding.fix:
        console.print(Text(f"{_INDENT}fix: {finding.fix}"), soft_wrap=True)


def summary(results: Sequence[Result], next_line: str) -> str:
    """How many of each kind, and what to do next."""
    counts = Counter(result.finding.status for result in results)
    seconds = sum(result.seconds for result in results)
    told = f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed, in {seconds:.0f} s"
    return f"{told}; {'mend what failed, then: medvie doctor' if counts['fail'] else next_line}"


def as_json(results: Sequence[Result]) -> str:
    """For programs: the worst status of all, and every check."""
    statuses = {result.finding.status for result in results}
    worst = next(status for status in ("fail", "warn", "ok") if status in statuses)
    checks = [
        {"name": result.name, **asdict(result.finding), "seconds": round(result.seconds, 3)} for result in results
    ]
    return json.dumps({"status": worst, "checks": checks}, indent=2, ensure_ascii=False)
