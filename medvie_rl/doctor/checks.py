"""All checks, in the order in which they are made."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from medvie_rl.doctor.child import run_probe
from medvie_rl.doctor.expected import Expected, expected_of
from medvie_rl.doctor.installation import check_packages, check_python
from medvie_rl.doctor.machine import (
    check_cores,
    check_disk,
    check_gpus,
    check_memory,
    check_shared_memory,
    check_temporary,
    visible_gpus,
)
from medvie_rl.doctor.privacy import check_offline, check_wandb
from medvie_rl.doctor.types import Check, Finding
from medvie_rl.errors import UserError

PROBE_SECONDS = 300.0  # an import of vLLM takes 10 seconds, on a busy machine a minute, the first time more
PROBES = ("torch", "torchvision", "transformers", "DeepSpeed", "vLLM", "Ray")  # those of probes.py, in this order


def checks_of(config_file: Path | None, overrides: Sequence[str], *, quick: bool) -> Iterator[Check]:
    """The configuration's line, if there is one, then the machine's; last, unless `quick`, what starts processes."""
    expected = Expected()
    if config_file:
        expected, finding = read_expected(config_file, overrides)
        yield Check(name="configuration", run=lambda: finding)
    yield Check(name="Python", run=check_python)
    yield Check(name="packages", run=check_packages)
    for name, check in (
        ("cores", check_cores),
        ("memory", check_memory),
        ("shared memory", check_shared_memory),
        ("disk", check_disk),
    ):
        yield Check(name=name, run=partial(check, expected))
    yield Check(name="temporary files", run=check_temporary)
    for name, check in (("GPUs", check_gpus), ("W&B", check_wandb), ("offline", check_offline)):
        yield Check(name=name, run=partial(check, expected))
    if not quick:
        yield from probe_checks(expected, start=True)


def probe_checks(expected: Expected, *, start: bool) -> Iterator[Check]:
    """What is checked in child processes; Ray is started if `start`, else imported only."""
    try:
        num_gpus = len(visible_gpus())
    except RuntimeError:  # has a line of its own
        num_gpus = 0
    settings = {
        "config": str(expected.config_file or ""),
        "overrides": list(expected.overrides),
        "num_gpus": num_gpus,
        "start": start,
    }
    for name in PROBES:
        yield Check(name=name, run=partial(run_probe, name, settings, PROBE_SECONDS))


def read_expected(config_file: Path, overrides: Sequence[str]) -> tuple[Expected, Finding]:
    """What a configuration expects; what any run does, where it cannot be used, which is then found."""
    from medvie_rl.config import load_config

    try:
        config = load_config(config_file, overrides)
    except UserError as error:
        fix = f"mend it; medvie train --config {config_file} --dry-run tells whether it can be used"
        return Expected(), Finding(status="fail", found=str(error), fix=fix)
    found = f"{config_file}: layout {config.cluster.layout}, {config.num_gpus} GPUs, {config.num_steps} steps"
    return expected_of(config, config_file, overrides), Finding(status="ok", found=found)
