"""Starting a run from the command line, or going on with one: what `medvie train` and `medvie sft` have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from medvie_rl.environment import is_verbose, set_environment
from medvie_rl.errors import UserError
from medvie_rl.interrupts import interrupt_at_sigterm
from medvie_rl.parser import Commands, add_command, add_overrides


def add_train(commands: Commands) -> None:
    """Register the command `medvie train`."""
    train = add_command(
        commands,
        "train",
        help="train a policy, or go on with a run that was stopped",
        description="Reinforcement learning of a policy on annotated documents: sample reasoning traces, score them "
        "for precision and recall, update the policy, score it on held-out documents before and after. Ctrl-C lets the "
        "step end and writes a checkpoint, from which --resume goes on.",
        examples=[
            ("medvie train --config conf/local.yaml", "the embedded policy, on this machine"),
            ("medvie train --config conf/local.yaml num_steps=20 seed=2", "the same with other settings"),
            ("medvie train --config conf/qwen2_5_vl_7b.yaml --dry-run", "check the configuration, print its plan"),
            ("medvie train --resume runs/RUN", "go on with a run that was stopped"),
            ("medvie train --resume runs/RUN learner.num_ranks=2", "the same on another machine"),
            ("medvie train --config conf/local.yaml --resume-if-exists runs/RUN", "for jobs that a cluster restarts"),
            ("medvie train --config runs/RUN/config.yaml --replay runs/RUN", "learn again from what a run sampled"),
        ],
        notes="Every setting, with what it means, is in medvie_rl/config.py and the files that it names.",
    )
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="a configuration file, e.g. conf/local.yaml")
    source.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with this run from its newest checkpoint")
    add_start_options(train)
    train.add_argument(
        "--replay", type=Path, metavar="RUN_DIR",
        help="with --config: learn from what this run recorded, scored anew, in place of sampling; with its own "
        "config.yaml on the same machine every loss is the same to the bit",
    )  # fmt: skip
    add_overrides(
        train,
        "settings, e.g. learner.learning_rate=1e-5; of a run that goes on, the layout only, e.g. learner.num_ranks=2 "
        "learner.zero_stage=3 rollout.num_workers=2",
    )
    train.set_defaults(command=_train)


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that starts a run."""
    parser.add_argument(
        "--resume-if-exists", type=Path, metavar="RUN_DIR",
        help="with --config: the run's directory; go on with the run in it, or start one there",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check the configuration, print the plan, start nothing")


def start(
    config_file: Path | None,
    overrides: Sequence[str],
    *,
    resume: Path | None = None,
    resume_if_exists: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Start a run, or go on with one; returns the exit code. Raises ConfigError for what cannot be used."""
    from medvie_rl.config import load_config
    from medvie_rl.run import run_config
    from medvie_rl.run_folder import has_checkpoint, output_folder

    if is_verbose():
        overrides = ["rollout.log_level=INFO", *overrides]
    named = resume or resume_if_exists
    folder = output_folder(named) if named else None
    found = folder if folder and (resume or has_checkpoint(folder)) else None
    if found:
        config = run_config(found, overrides, file=config_file)
    else:
        assert config_file is not None  # one of the two is required
        config = load_config(config_file, overrides)
    if dry_run:
        from medvie_rl.plan import describe_plan

        print(describe_plan(config))
        return 0
    set_environment(allow_downloads=config.allow_downloads)
    interrupt_at_sigterm()
    from medvie_rl.train import train

    train(config, resume=found, folder=None if found else folder)
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.resume and options.resume_if_exists:
        raise UserError("--resume-if-exists goes with --config; --resume alone goes on with a run that is there")
    if options.resume and options.replay:
        raise UserError("--replay goes with --config; a replay that was stopped goes on with --resume alone")
    replay = [f"records.replay={options.replay}"] if options.replay else []
    return start(
        options.config,
        [*options.overrides, *replay],
        resume=options.resume,
        resume_if_exists=options.resume_if_exists,
        dry_run=options.dry_run,
    )
