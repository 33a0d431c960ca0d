"""The command `medvie eval`: policies and the OCR baseline on the same documents, side by side."""

import argparse
from pathlib import Path

from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError
from medvie_rl.evaluation.systems import parse_systems
from medvie_rl.parser import Commands, add_command

_SLIPS = "medvie eval medvie_rl/nano/slips --out evaluation --limit 20"


def add_eval(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "eval",
        help="policies and an OCR baseline on the same documents, side by side",
        description="Ask several systems for every key of the same documents, score them, and compare each with a "
        "baseline: paired differences with 95% intervals, errors by class, scores by key and type.",
        examples=[
            ("medvie eval medvie_rl/nano/slips --limit 20 --system ocr --out evaluation", "the OCR baseline"),
            (f"{_SLIPS} --system base=medvie_rl/nano/policy --system rl=runs/RUN/best --system ocr", "before, after"),
            ("medvie eval data/visits --system rl=runs/RUN/best:direct --out evaluation", "without reasoning"),
        ],
        notes="The folder then holds evaluation.json, .csv, .md and .html, annotations.jsonl, and "
        "predictions/NAME.jsonl, which `medvie score` reads. The same command again, perhaps with one more system, "
        "reuses the predictions that lie there while nothing they depend on has changed.",
    )
    parser.add_argument("dataset", metavar="DATASET", help="a dataset's folder or URI, e.g. of `medvie data import`")
    parser.add_argument("--split", default="test", help="which of its splits (default: test)")
    parser.add_argument(
        "--system", action="append", required=True, metavar="NAME=POLICY[:MODE]",
        help="a policy's folder, asked as it was trained unless MODE is reasoning or direct; or `ocr`, recognised text "
        "and layout rules. Give the option once for each system",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all that is written")
    parser.add_argument(
        "--baseline", default="", metavar="NAME", help="what the others are compared with (default: the first)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N documents only")
    parser.add_argument(
        "--schema", type=Path, nargs="+", action="extend", default=[], metavar="FILE_OR_FOLDER",
        help="the schemas that the documents follow (default: conf/schemas)",
    )  # fmt: skip
    parser.add_argument(
        "--prompt", type=Path, metavar="FILE",
        help="of policies that bring none of their own (default: conf/prompts/qwen2_5_vl.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "--constrained", action=argparse.BooleanOptionalAction, default=True,
        help="let policies write only what the schema allows (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="key=value",
        help="engine setting of all policies, e.g. max_model_len=8192 or sampling.temperature=0.7",
    )  # fmt: skip
    parser.add_argument(
        "--ocr-cache", type=Path, metavar="DIR",
        help="where recognised text is kept (default: DATASET/ocr if it is there, else in --out)",
    )  # fmt: skip
    parser.add_argument(
        "--published", action=argparse.BooleanOptionalAction, default=True,
        help="also ANLS*, Donut and KIEval, which take seconds for a document with large tables",
    )  # fmt: skip
    parser.add_argument("--resamples", type=int, default=1_000, metavar="N", help="of the bootstrap (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.set_defaults(command=_eval)


def _eval(options: argparse.Namespace) -> int:
    for name, least in (("limit", 1), ("resamples", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: expected {least} or more, got {value}")
    systems = parse_systems(options.system)
    set_environment(allow_downloads=False)
    from medvie_rl.evaluation.run import evaluate_systems

    evaluate_systems(
        options.dataset,
        systems,
        options.out,
        split=options.split,
        schemas=options.schema or [Path("conf/schemas")],
        limit=options.limit,
        baseline=options.baseline,
        prompt=options.prompt,
        constrained=options.constrained,
        settings=options.set,
        ocr_cache=options.ocr_cache,
        with_published=options.published,
        num_resamples=options.resamples,
        seed=options.seed,
    )
    return 0
