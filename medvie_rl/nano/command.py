"""The command `medvie nano`: the embedded policy."""

import argparse
from pathlib import Path

from medvie_rl.parser import Commands, add_command, add_group


def add_nano(commands: Commands) -> None:
    """Register the command with its own."""
    kinds = add_group(commands, "nano", help="the embedded nano policy: how it was made, and what it has learned")
    build = add_command(
        kinds,
        "build",
        help="make the nano policy from nothing, seeded, in minutes",
        description="Train the embedded policy from nothing on drawn slips: the recipe of the shipped weights, about "
        "20 minutes on two cores, described in medvie_rl/nano/build.py.",
        examples=[("medvie nano build --out nano_policy --seed 0", "about 20 minutes on two cores")],
    )
    build.add_argument("--out", type=Path, required=True, help="policy folder to make")
    build.add_argument("--seed", type=int, default=0)
    build.set_defaults(command=_nano_build)
    unseen = add_command(
        kinds,
        "unseen",
        help="how a run on slips reads values that it never saw",
        description="Score the values of the test slips apart that are in no training list, before and after a run: "
        "how much of its gain is reading, and how much is convention.",
        examples=[("medvie nano unseen runs/RUN", "of a run with conf/local.yaml")],
    )
    unseen.add_argument("run", type=Path, metavar="RUN_DIR")
    unseen.set_defaults(command=_nano_unseen)


def _nano_build(options: argparse.Namespace) -> int:
    from medvie_rl.nano.build import build_nano
    from medvie_rl.progress import show_progress

    with show_progress("training", "steps") as progress:
        build_nano(options.out, seed=options.seed, progress=progress)
    return 0


def _nano_unseen(options: argparse.Namespace) -> int:
    from medvie_rl.nano.overlap import describe_never_seen

    print(describe_never_seen(options.run))
    return 0
