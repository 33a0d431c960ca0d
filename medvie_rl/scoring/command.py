"""The command `medvie score`: its options. What it does is in commands.py, whose imports take a while."""

import argparse
from pathlib import Path

from medvie_rl.errors import UserError
from medvie_rl.parser import Commands, add_command


def add_score(commands: Commands) -> None:
    """Register the command."""
    score = add_command(
        commands,
        "score",
        help="how good predictions are: anybody's, or those that a run recorded",
        description="Score predictions against annotations. Both are JSONL files: one object a line with 'id' (else "
        "'image'), 'document_type' and 'fields'. A prediction may have 'response', the raw text of a model, in place "
        "of fields; fields that are null count as no valid JSON.",
        examples=[
            ("medvie score --run runs/RUN", "what a run changed on held-out documents"),
            ("medvie score --pred predictions.jsonl --truth annotations.jsonl --schema conf/schemas", "anybody's"),
            ("medvie score --pred new.jsonl --truth annotations.jsonl --compare old.jsonl", "and what is better"),
            (
                "medvie score --run runs/RUN --explain visit-007 --json scores.json",
                "a document by value",
            ),
        ],
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
