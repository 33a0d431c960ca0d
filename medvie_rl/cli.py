"""The `medvie` command. Heavy imports happen inside the commands, so that help and configuration errors are instant."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.errors import ClusterError
from learner.errors import CheckpointError, OutOfMemoryError
from medvie_rl.data.commands import add_data_commands
from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError
from medvie_rl.evaluation.command import add_eval
from medvie_rl.fit.command import add_plan
from medvie_rl.fit.scale_command import add_scale
from medvie_rl.interrupts import StoppedBySignal, interrupted_by
from medvie_rl.report.command import add_report
from medvie_rl.rollouts_command import add_rollouts
from medvie_rl.sft_command import add_sft
from medvie_rl.train_command import add_train

_EPILOG = """examples:
  medvie train --config conf/local.yaml                      train the embedded nano policy on this machine
  medvie train --config conf/local.yaml num_steps=20 seed=2  the same with other settings
  medvie train --config conf/qwen2_5_vl_7b.yaml --dry-run    check a configuration and print its plan
  medvie plan --config conf/qwen2_5_vl_7b.yaml --gpu H100    will it fit, and how long would a step take
  medvie scale queries_per_step=512                          the same for larger policies on more GPUs, as a table
  medvie train --resume runs/RUN                             go on with a run that was stopped
  medvie train --resume runs/RUN learner.num_ranks=2         the same on other machines (see --help of train)
  medvie train --config conf/local.yaml --resume-if-exists runs/RUN   for jobs that a cluster restarts
  medvie report runs/RUN                                     what it changed, as one HTML file
  medvie rollouts runs/RUN                                   what it sampled: the best, the worst, by document
  medvie export runs/RUN --out policies/mine                 the best policy as a Hugging Face folder
  medvie data import FOLDER --schema conf/schemas/visit_slip.yaml --out data/visits
  medvie extract --policy runs/RUN/best --schema conf/schemas/visit_slip.yaml slip.png
  medvie score --pred predictions.jsonl --truth annotations.jsonl --schema conf/schemas

exit codes: 0 done, 1 failed while running, 2 wrong usage, configuration or data, 3 done but some files or lines were
rejected, 130 interrupted, 143 terminated (training first ends its step and writes a checkpoint)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a sign that the terminal does not have must not cost the work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medvie",
        description="Teach a vision-language model to turn images of medical documents into JSON, by reinforcement "
        "learning with verifiable precision/recall rewards.",
        epilog=_EPILOG,
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
    _add_export(commands)
    _add_extract(commands)
    _add_score(commands)
    _add_edits(commands)
    add_data_commands(commands)
    _add_nano(commands)
    return parser


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser("export", help="a run's policy as a plain Hugging Face folder")
    export.add_argument("run", type=Path, metavar="RUN_DIR")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to make")
    export.add_argument(
        "--step", default="best", metavar="N|best|last", help="best on the validation documents (default), or of a step"
    )
    export.add_argument("--adapter", action="store_true", help="of a LoRA run: the adapter alone, not merged")
    export.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: as it was trained")
    export.add_argument(
        "--set", action="append", default=[], metavar="key=value",
        help="where the run's base or prompt lies now, e.g. model=DIR or prompt=FILE (for --step last or N)",
    )  # fmt: skip
    export.set_defaults(command=_export)


def _add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    extract = commands.add_parser("extract", help="turn images into JSON with a policy, one object a line")
    extract.add_argument("--policy", type=Path, required=True, help="policy folder, e.g. runs/RUN/best")
    extract.add_argument(
        "--schema", type=Path, required=True, help="what to extract, e.g. conf/schemas/visit_slip.yaml"
    )
    extract.add_argument("--prompt", type=Path, help="prompt template (default: the one the policy was trained with)")
    extract.add_argument(
        "--reasoning", action=argparse.BooleanOptionalAction, help="reason before answering (default: as trained)"
    )
    extract.add_argument("--language", default="", help="of the pages (ISO 639-1, e.g. vi): picks the prompt's file")
    extract.add_argument(
        "--constrained", action=argparse.BooleanOptionalAction, default=True,
        help="let the policy write only what the schema allows: valid JSON, asked keys (default: yes)",
    )  # fmt: skip
    extract.add_argument("--out", type=Path, help="JSONL file to write (default: standard output)")
    extract.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    extract.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="engine setting, e.g. dtype=bfloat16 or sampling.temperature=0.7",
    )
    extract.set_defaults(command=_extract)


def _add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    score = commands.add_parser(
        "score",
        help="how good predictions are: anybody's, or those that a run recorded",
        description="Score predictions against annotations. Both are JSONL files: one object a line with 'id' (else "
        "'image'), 'document_type' and 'fields'. A prediction may have 'response', the raw text of a model, in place "
        "of fields; fields that are null count as no valid JSON.",
    )
    score.add_argument("--pred", type=Path, metavar="JSONL", help="the predictions")
    score.add_argument("--truth", type=Path, metavar="JSONL", help="the annotations")
    score.add_argument(
        "--run", type=Path, metavar="RUN_DIR", help="in their place: a run's answers, after against before"
    )
    score.add_argument(
        "--schema", type=Path, nargs="+", action="extend", default=[], metavar="FILE_OR_FOLDER",
        help="how values are compared, chosen by document_type, which may be a schema's name (default: all as plain "
        "text, inferred from the truth)",
    )  # fmt: skip
    score.add_argument("--compare", type=Path, metavar="JSONL", help="other predictions; shows this minus the other")
    score.add_argument("--train", type=Path, metavar="JSONL", help="training annotations, for scores by rarity of keys")
    score.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    score.add_argument("--csv", type=Path, metavar="FILE", help="write one row a group and document here")
    score.add_argument(
        "--published", action=argparse.BooleanOptionalAction, default=True,
        help="also ANLS*, Donut and KIEval, which take seconds for a document with large tables",
    )  # fmt: skip
    score.add_argument(
        "--explain", nargs="+", action="extend", default=[], metavar="ID", help="also print these documents by value"
    )
    score.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    score.set_defaults(command=_score)


def _add_edits(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    edits = commands.add_parser("edits", help="what controlled edits of a prescription cost, by reward and metrics")
    edits.add_argument(
        "--schema", type=Path, default=Path("conf/schemas/prescription.yaml"), help="with other weights, for instance"
    )
    edits.add_argument("--markdown", action="store_true", help="print a Markdown table")
    edits.set_defaults(command=_edits)


def _add_nano(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    nano = commands.add_parser("nano", help="the embedded nano policy: how it was made")
    kinds = nano.add_subparsers(required=True, metavar="COMMAND")
    build = kinds.add_parser("build", help="make the nano policy from nothing, seeded, in minutes")
    build.add_argument("--out", type=Path, required=True, help="policy folder to make")
    build.add_argument("--seed", type=int, default=0)
    build.set_defaults(command=_nano_build)
    unseen = kinds.add_parser("unseen", help="how a run on slips reads values that it never saw")
    unseen.add_argument("run", type=Path, metavar="RUN_DIR")
    unseen.set_defaults(command=_nano_unseen)


def _export(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    from medvie_rl.export import export

    export(
        options.run,
        options.out,
        step=options.step,
        adapter=options.adapter,
        dtype=options.dtype,
        settings=options.set,
    )
    print(f"exported to {options.out}")
    return 0


def _extract(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    from medvie_rl.extract import extract

    return extract(
        policy=options.policy,
        schema_path=options.schema,
        prompt_path=options.prompt,
        images=options.images,
        reasoning=options.reasoning,
        language=options.language,
        constrained=options.constrained,
        out=options.out,
        settings=options.set,
    )


def _score(options: argparse.Namespace) -> int:
    of_run = options.run is not None
    if of_run and any((options.pred, options.truth, options.compare, options.train)):
        raise UserError("--run scores what the run recorded; --pred, --truth, --compare and --train do not go with it")
    if not of_run and not (options.pred and options.truth):
        raise UserError("score needs --pred and --truth, or --run")
    if options.seed < 0:
        raise UserError(f"--seed: expected 0 or more, got {options.seed}")
    from medvie_rl.scoring.commands import score_files, score_run

    output = {"json_path": options.json, "csv_path": options.csv}
    how = {
        "schemas": options.schema,
        "with_published": options.published,
        "explain": options.explain,
        "seed": options.seed,
    }
    if of_run:
        return score_run(options.run, **how, **output)
    return score_files(
        predictions=options.pred,
        truth=options.truth,
        compare=options.compare,
        train=options.train,
        **how,
        **output,
    )


def _edits(options: argparse.Namespace) -> int:
    from rich.console import Console

    from medvie_rl.data.load import read_schema
    from medvie_rl.edits import edit_costs, markdown_of, table_of

    costs = edit_costs(read_schema(options.schema))
    if options.markdown:
        print(markdown_of(costs))
    else:
        Console().print(table_of(costs))
    return 0


def _nano_build(options: argparse.Namespace) -> int:
    from medvie_rl.nano.build import build_nano

    build_nano(options.out, seed=options.seed)
    return 0


def _nano_unseen(options: argparse.Namespace) -> int:
    from medvie_rl.nano.overlap import describe_never_seen

    print(describe_never_seen(options.run))
    return 0
