"""The command `medvie study`: a grid of runs that answers a question, with intervals."""

import argparse
from pathlib import Path

from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError
from medvie_rl.interrupts import interrupt_at_sigterm
from medvie_rl.parser import Commands, add_command, add_overrides

_EXAMPLES = (
    ("medvie study headline --config conf/local.yaml", "base, SFT, RL, SFT then RL"),
    ("medvie study reward_balance --config conf/local.yaml num_steps=20", "another question, with fewer steps"),
    ("medvie study headline --config conf/qwen2_5_vl_7b.yaml data.path=data/mine", "on a cluster, with your documents"),
    ("medvie study headline --config conf/local.yaml --dry-run", "what would be trained"),
)


def add_study(commands: Commands) -> None:
    """Register the command."""
    study = add_command(
        commands,
        "study",
        help="train and compare a grid of runs, several seeds each, with intervals",
        description="Train every arm of a study with every seed, ask the policies about held-out documents, and "
        "compare them: tables with 95% intervals over documents and seeds, paired differences, a figure and an HTML "
        "report. Studies are files of conf/studies (docs/study.md says what each asks), or of your own.",
        examples=_EXAMPLES,
        notes="Runs are kept in --out and shared by all studies there: a study that was stopped goes on where it "
        "stood, and another one trains only what is new. Settings on the command line change the configuration; those "
        "of the study's arms go before them.",
    )
    study.add_argument("names", nargs="+", metavar="NAME", help="a study of conf/studies, or its file; several in turn")
    study.add_argument("--config", type=Path, required=True, metavar="FILE", help="e.g. conf/local.yaml")
    study.add_argument("--out", type=Path, default=Path("runs/studies"), metavar="DIR", help="default: runs/studies")
    study.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="runs at the same time (default: 1). On a cluster as many as it has room for; on one machine each needs "
        "cores of its own",
    )  # fmt: skip
    study.add_argument("--dry-run", action="store_true", help="check all, list the runs, train nothing")
    add_overrides(study, "settings of every run, e.g. num_steps=20 data.path=data/mine")
    study.set_defaults(command=_study)


def _study(options: argparse.Namespace) -> int:
    names = [name for name in options.names if "=" not in name]
    overrides = [*(name for name in options.names if "=" in name), *options.overrides]
    if not names:
        raise UserError("name a study, e.g. headline")
    if options.jobs < 1:
        raise UserError(f"--jobs: expected at least 1, got {options.jobs}")
    set_environment(allow_downloads=False)
    interrupt_at_sigterm()
    from rich.console import Console

    from medvie_rl.study.plan import runs_of
    from medvie_rl.study.run import plan, run_study

    out = options.out.absolute()
    planned = [(name, *plan(name, options.config, overrides, out)) for name in names]
    if options.dry_run:
        for name, study, trials in planned:
            print(f"{name}: {study.title}")
            for trial in trials:
                run = trial.run
                state = "" if not run else ", trained already" if run.is_finished else ""
                print(f"  {trial.arm}, seed {trial.seed}: {run.id if run else 'nothing is trained'}{state}")
        num = len({run.id for _, _, trials in planned for run in runs_of(trials) if not run.is_finished})
        print(f"{num} runs would be trained, in {out / 'runs'}")
        return 0
    console = Console(highlight=False)
    num_failed = 0
    for name, study, trials in planned:
        num_failed += len(run_study(name, study, trials, out, jobs=options.jobs, console=console))
    if num_failed:
        console.print(f"{num_failed} runs failed; the same command tries them again", style="red")
        return 1
    console.print(f"open the report in a browser: {out / Path(names[-1]).stem / 'report.html'}", soft_wrap=True)
    return 0
