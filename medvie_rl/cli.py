"""The `medvie` command. Heavy imports happen inside the commands, so that help and configuration errors are instant."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from cluster.errors import ClusterError
from learner.errors import CheckpointError, OutOfMemoryError
from medvie_rl.completion_command import add_completion, complete
from medvie_rl.data.commands import add_data_commands
from medvie_rl.doctor.command import add_doctor
from medvie_rl.edits_command import add_edits
from medvie_rl.environment import be_verbose
from medvie_rl.errors import UserError
from medvie_rl.evaluation.command import add_eval
from medvie_rl.export_command import add_export
from medvie_rl.extraction.command import add_calibrate, add_extract
from medvie_rl.fit.command import add_plan
from medvie_rl.fit.scale_command import add_scale
from medvie_rl.interrupts import StoppedBySignal, interrupted_by
from medvie_rl.nano.command import add_nano
from medvie_rl.parser import CommandParser, add_verbose, examples_text
from medvie_rl.report.command import add_report
from medvie_rl.rollouts_command import add_rollouts
from medvie_rl.scoring.command import add_score
from medvie_rl.serving.command import add_serve
from medvie_rl.sft_command import add_sft
from medvie_rl.study.command import add_study
from medvie_rl.train_command import add_train

_EXAMPLES = (
    ("medvie doctor", "is this machine fit for a run"),
    ("medvie data import FOLDER --schema conf/schemas --out data/mine", "documents become a dataset"),
    ("medvie train --config conf/local.yaml", "train the embedded policy on this machine"),
    ("medvie train --config conf/qwen2_5_vl_7b.yaml --dry-run", "check a configuration, print its plan"),
    ("medvie plan --config conf/qwen2_5_vl_7b.yaml --gpu H100", "will it fit, how long would a step take"),
    ("medvie train --resume runs/RUN", "go on with a run that was stopped"),
    ("medvie report runs/RUN", "what it changed, as one HTML file"),
    ("medvie rollouts runs/RUN", "what it sampled: the best, the worst"),
    ("medvie study headline --config conf/local.yaml", "base, SFT and RL over three seeds, with intervals"),
    ("medvie score --run runs/RUN", "how good it is, before and after"),
    ("medvie export runs/RUN --out my_policy", "the best policy as a Hugging Face folder"),
    ("medvie calibrate --policy my_policy --data data/mine", "how far its confidences can be trusted"),
    ("medvie extract --policy my_policy --schema SCHEMA.yaml page.png", "read a document with it"),
    ("medvie serve --policy my_policy", "the same over HTTP, with a page to correct answers"),
)
_EXIT_CODES = """
each command has examples of its own: medvie COMMAND --help

exit codes: 0 done, 1 failed while running (plan: does not fit; doctor: something failed), 2 wrong usage, configuration
or data, 3 done but some files or lines were rejected, 130 interrupted, 143 terminated (training first ends its step and
writes a checkpoint)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a sign that the terminal does not have must not cost the work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        complete(parser)
    options = parse(parser, arguments)
    if options.verbose:
        be_verbose()
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print(f"stopped by {interrupted_by().name}", file=sys.stderr)
        return 128 + interrupted_by()
    except StoppedBySignal as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.number
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ClusterError, CheckpointError, OutOfMemoryError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(parser: CommandParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; settings (`key=value`) may stand anywhere, also behind an option that follows others of them."""
    options, rest = parser.parse_known_args(arguments)
    settings = [text for text in rest if "=" in text and not text.startswith("-")]
    if rest and not (hasattr(options, "overrides") and settings == rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if settings:
        options.overrides = [*options.overrides, *settings]
    return options


def build_parser() -> CommandParser:
    """The parser of all commands."""
    parser = CommandParser(
        prog="medvie",
        description="Teach a vision-language model to turn images of medical documents into JSON, by reinforcement "
        "learning with verifiable precision/recall rewards.",
        epilog=f"{examples_text(_EXAMPLES)}{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_sft(commands)
    add_plan(commands)
    add_report(commands)
    add_scale(commands)
    add_rollouts(commands)
    add_eval(commands)
    add_study(commands)
    add_export(commands)
    add_extract(commands)
    add_calibrate(commands)
    add_serve(commands)
    add_score(commands)
    add_edits(commands)
    add_data_commands(commands)
    add_nano(commands)
    add_doctor(commands)
    add_completion(commands)
    add_verbose(parser)
    return parser
