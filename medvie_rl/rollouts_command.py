"""The command `medvie rollouts`: what a run sampled, how it was rewarded, and what another reward would say."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvie_rl.errors import UserError
from medvie_rl.parser import Commands, add_command

if TYPE_CHECKING:
    from medvie_rl.rescore import Rescored

_EXAMPLES = (
    ("medvie rollouts runs/RUN", "the steps in numbers, the best and the worst response"),
    ("medvie rollouts runs/RUN --worst 10 --truncated 5", "responses to look at, whole"),
    ("medvie rollouts runs/RUN --step 12", "one step: its queries, the best and the worst response"),
    ("medvie rollouts runs/RUN --document visit-007", "one document over the training: rewards, keys, answers"),
    ("medvie rollouts runs/RUN --worst 50 --json | jq .worst", "the same for programs"),
    ("medvie rollouts runs/RUN --rescore", "score all responses again: has a rule or schema changed?"),
    ("medvie rollouts runs/RUN --rescore reward.f_beta=2", "what another reward would have said"),
)


def add_rollouts(commands: Commands) -> None:
    """Register the command."""
    rollouts = add_command(
        commands,
        "rollouts",
        help="what a run sampled: the best, the worst, one document's history; score it again",
        description="Print what a run recorded of every response it was trained on: what was asked, what was sampled, "
        "how it was rewarded and why, and what another reward would have said of it.",
        examples=_EXAMPLES,
        notes="To train again on what was recorded: medvie train --config runs/RUN/config.yaml --replay runs/RUN",
    )
    rollouts.add_argument("run", type=Path, metavar="RUN_DIR")
    for name, what in (
        ("best", "with the highest rewards"),
        ("worst", "with the lowest"),
        ("truncated", "that were cut off at the token limit, the newest"),
    ):
        rollouts.add_argument(f"--{name}", type=_positive, metavar="N", help=f"show N responses {what}")
    rollouts.add_argument("--step", type=_positive, metavar="N", help="of this step only (the first is 1)")
    alone = rollouts.add_mutually_exclusive_group()
    alone.add_argument("--document", metavar="ID", help="show the history of one document")
    alone.add_argument(
        "--rescore", nargs="*", metavar="key=value",
        help="score all responses again, with these settings (reward.*, schemas, data.path) or unchanged, and print "
        "what changes",
    )  # fmt: skip
    rollouts.add_argument("--json", action="store_true", help="print one JSON object")
    rollouts.set_defaults(command=_rollouts)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return number


def _rollouts(options: argparse.Namespace) -> int:
    from medvie_rl.records import recorded_steps

    chosen = {name: getattr(options, name) or 0 for name in ("best", "worst", "truncated")}
    if any(chosen.values()) and (options.document is not None or options.rescore is not None):
        raise UserError("--best, --worst and --truncated do not go with --document and --rescore")
    files = recorded_steps(options.run)
    if options.step is not None:
        if options.step not in files:
            have = f"{min(files)} to {max(files)}"
            raise UserError(f"--step: {options.run} recorded the steps {have}, got {options.step}")
        files = {options.step: files[options.step]}
    if options.rescore is not None:
        _rescore(options.run, files, options.rescore, as_json=options.json)
    elif options.document is not None:
        _document(files, options.document, as_json=options.json)
    else:
        _overview(files, chosen, of_step=options.step is not None, as_json=options.json)
    return 0


def _overview(files: Mapping[int, Path], chosen: Mapping[str, int], *, of_step: bool, as_json: bool) -> None:
    from medvie_rl.records import as_json as record_as_json
    from medvie_rl.rollouts_print import Printer
    from medvie_rl.rollouts_report import overview

    only = any(chosen.values())
    found = overview(files, **(chosen if only else {"best": 1, "worst": 1, "truncated": 0}))
    outstanding = {"best": found.best, "worst": found.worst, "truncated": found.truncated}
    if as_json:
        shown = {name: list(map(record_as_json, records)) for name, records in outstanding.items()}
        content: dict[str, Any] = {"steps": [asdict(batch) for batch in found.batches]}
        _print_json(content | ({"queries": [asdict(asked) for asked in found.asked]} if of_step else {}) | shown)
        return
    printer = Printer(files)
    if not only:
        printer.batches(found.batches)
        if of_step:
            printer.queries(found.asked)
    for name, records in outstanding.items():
        if chosen[name] and not records:
            printer.line(f"no response was {name}")
        for rank, record in enumerate(records, start=1):
            printer.record(f"{name} {rank}" if only else name, record, whole=only)


def _document(files: Mapping[int, Path], document: str, *, as_json: bool) -> None:
    from medvie_rl.records import as_json as record_as_json
    from medvie_rl.rollouts_print import Printer
    from medvie_rl.rollouts_report import document_history

    history = document_history(files, document)
    if as_json:
        _print_json(
            {
                "document": history.document,
                "steps": [asdict(batch) for batch in history.batches],
                "keys": [asdict(key) | {"change": key.change} for key in history.keys],
                "first": record_as_json(history.first),
                "last": record_as_json(history.last),
            }
        )
        return
    printer = Printer(files)
    printer.batches(history.batches, every=True)
    printer.keys(history.keys)
    printer.record("best of the first step", history.first)
    if history.last.step != history.first.step:
        printer.record("best of the last step", history.last)


def _rescore(run: Path, files: Mapping[int, Path], overrides: Sequence[str], *, as_json: bool) -> None:
    from medvie_rl.rescore import rescore, rescored_config, total
    from medvie_rl.rollouts_print import Printer

    steps = dict(rescore(files, rescored_config(run, overrides)))
    everything = total(list(steps.values()))
    if as_json:
        content = [{"step": step, **_rescored_as_json(part)} for step, part in steps.items()]
        _print_json({"steps": content, "all": _rescored_as_json(everything)})
        return
    Printer(files).rescored(steps, everything)


def _rescored_as_json(part: "Rescored") -> dict[str, Any]:
    return asdict(part) | {"precision": part.precision, "recall": part.recall}


def _print_json(content: Mapping[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))
