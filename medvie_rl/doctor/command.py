"""The command `medvie doctor`."""

import argparse
from pathlib import Path

from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError
from medvie_rl.interrupts import interrupt_at_sigterm
from medvie_rl.next_command import next_command
from medvie_rl.parser import Commands, add_command, add_overrides

_LOG_WIDTH = 120  # columns where output is no terminal
_FIRST_RUN = "conf/local.yaml"


def add_doctor(commands: Commands) -> None:
    """Register the command."""
    doctor = add_command(
        commands,
        "doctor",
        help="is this machine fit for a run: a line for each part, with the fix where it is not",
        description="Check Python, the versions of packages beside those that were tested, cores, memory, shared "
        "memory, disk, GPUs, W&B's mode and the switches that keep libraries offline; then, in processes of their own, "
        "that torch, torchvision, transformers, DeepSpeed and vLLM can be imported and see what they should, and that "
        "Ray starts and stops, or that the cluster which RAY_ADDRESS or cluster.address names has what a run needs.",
        examples=[
            ("medvie doctor", "this machine, in a minute or two"),
            ("medvie doctor --config conf/qwen2_5_vl_7b.yaml", "is it fit for this configuration"),
            ("medvie doctor --config conf/local.yaml output_dir=/tmp/runs", "the same with other settings"),
            ("medvie doctor --quick", "only what takes no seconds: neither imports nor Ray"),
            ("medvie doctor --json", "the same for programs"),
        ],
        notes="Exit codes: 0 all well, or only lines to look at (warn); 1 something failed.",
    )
    doctor.add_argument("--config", type=Path, metavar="FILE", help="expect what a run with this configuration needs")
    doctor.add_argument("--quick", action="store_true", help="leave out imports in child processes, and starting Ray")
    doctor.add_argument("--json", action="store_true", help="print one JSON object at the end")
    add_overrides(doctor, "settings of the configuration, e.g. cluster.object_store_mib=2048")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if options.overrides and not options.config:
        raise UserError(f"{options.overrides[0]}: settings go with --config FILE")
    set_environment(allow_downloads=False)
    interrupt_at_sigterm()
    from rich.console import Console

    from medvie_rl.doctor.checks import checks_of
    from medvie_rl.doctor.report import as_json, examine, summary

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    checks = checks_of(options.config, options.overrides, quick=options.quick)
    results = examine(checks, None if options.json else console)
    if options.json:
        print(as_json(results))
    else:
        train = next_command("train", "--config", options.config or _FIRST_RUN, *options.overrides)
        console.print(summary(results, train), soft_wrap=True, markup=False)
    return 1 if any(result.finding.status == "fail" for result in results) else 0
