"""`medvie extract` and `medvie calibrate`."""

import argparse
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvie_rl.environment import is_verbose, set_environment
from medvie_rl.errors import UserError
from medvie_rl.next_command import next_command
from medvie_rl.parser import Commands, add_command

if TYPE_CHECKING:
    from medvie_rl.extraction.calibration import Calibration
    from medvie_rl.extraction.extractor import Asking

_DEFAULT_TRACES = 5
_LINES_DEPEND_ON = (
    "reasoning", "constrained", "traces", "page_check", "fit", "set", "language", "pages", "dpi", "review_below",
)  # fmt: skip
_SCHEMA = "conf/schemas/visit_slip.yaml"


def add_extract(commands: Commands) -> None:
    """The command `extract`."""
    asked = f"medvie extract --policy runs/RUN/best --schema {_SCHEMA}"
    extract = add_command(
        commands,
        "extract",
        help="turn images, PDFs and folders of them into JSON with a policy, with a confidence for every value",
        description="Turn documents into JSON with a policy. Several traces answer and vote; with a calibration (see "
        "`medvie calibrate`) each value's confidence is the probability that it is right. Values below a threshold, "
        "and values that OCR does not find on the page, are marked for review.",
        examples=[
            (f"{asked} slip.png", "one document, to the terminal"),
            (f"{asked} scans/ --out visits.jsonl", "all of a folder"),
            (f"{asked} scans/ --out visits.jsonl --resume", "go on after a stop"),
            (f"{asked} letter.pdf --pages each --format csv --out tables", "each page, as CSV files"),
            (f"{asked} scans/ --out visits.jsonl --workers 4", "by four engines"),
        ],
        notes="Every document gets one line. Exit code 3: the status of some line is not ok, someone should look.",
    )
    add_asking(extract)
    extract.add_argument(
        "--schema", type=Path, required=True, help="what to extract, e.g. conf/schemas/visit_slip.yaml"
    )
    extract.add_argument("--language", default="", help="of the pages (ISO 639-1, e.g. vi): picks the prompt's file")
    extract.add_argument(
        "--pages", choices=("together", "each"), default="together",
        help="whether a file with several pages is one document (default) or each page is",
    )  # fmt: skip
    extract.add_argument("--dpi", type=int, default=150, help="dots per inch at which PDF pages are drawn (150)")
    extract.add_argument("--out", type=Path, help="file to write, with csv a new folder (default: standard output)")
    extract.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="csv: a file for each table")
    extract.add_argument("--resume", action="store_true", help="go on with the file that was begun")
    extract.add_argument("--overwrite", action="store_true", help="begin the file anew")
    extract.add_argument(
        "--review-below", type=float, metavar="SHARE", help="confidence that needs review (default: the calibration's)"
    )
    extract.add_argument("--workers", type=int, default=0, metavar="N", help="as many engines, through Ray Data")
    extract.add_argument("--ray", default="", metavar="ADDRESS", help="cluster for --workers (default: this machine)")
    extract.add_argument("documents", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    extract.set_defaults(command=_extract)


def add_calibrate(commands: Commands) -> None:
    """The command `calibrate`."""
    calibrate = add_command(
        commands,
        "calibrate",
        help="learn from annotated documents how far a policy's confidences can be trusted",
        description="Ask a policy for annotated documents that it was not trained on, and fit what turns votes, token "
        "probabilities and the OCR check into the probability of being right. Writes calibration.json into the "
        "policy's folder, which `medvie extract` uses from then on, and calibration.png to look at.",
        examples=[
            ("medvie calibrate --policy runs/RUN/best --data medvie_rl/nano/slips", "on 80 validation slips"),
            ("medvie calibrate --policy runs/RUN/best --data data/mine --max-error 0.01", "of less error"),
        ],
    )
    add_asking(calibrate)
    calibrate.add_argument("--data", required=True, metavar="DATASET", help="dataset folder or URI, annotated")
    calibrate.add_argument("--split", default="validation", help="never one that the policy was trained on")
    calibrate.add_argument("--schemas", type=Path, default=Path("conf/schemas"), help="folder of the schemas")
    calibrate.add_argument("--limit", type=int, default=0, metavar="N", help="first N documents (default: all)")
    calibrate.add_argument(
        "--max-error", type=float, default=0.02, metavar="SHARE",
        help="of the values that need no review at most so many may be wrong (default: 0.02)",
    )  # fmt: skip
    calibrate.set_defaults(command=_calibrate)


def add_asking(parser: argparse.ArgumentParser) -> None:
    """The options that say which policy is asked, and how."""
    parser.add_argument("--policy", type=Path, required=True, help="policy folder, e.g. runs/RUN/best")
    parser.add_argument("--prompt", type=Path, help="prompt template (default: the one the policy was trained with)")
    parser.add_argument(
        "--reasoning", action=argparse.BooleanOptionalAction, help="reason before answering (default: as trained)"
    )
    parser.add_argument(
        "--constrained", action=argparse.BooleanOptionalAction, default=True,
        help="let the policy write only what the schema allows: valid JSON, asked keys (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--traces", type=int, metavar="N",
        help="answers that vote; the first is greedy. 1: no votes, no confidence (default: as calibrated, else 5)",
    )  # fmt: skip
    parser.add_argument(
        "--page-check", action=argparse.BooleanOptionalAction, default=True,
        help="look for every value in what OCR finds on the page (default: yes; takes seconds a page)",
    )  # fmt: skip
    parser.add_argument(
        "--fit", action=argparse.BooleanOptionalAction, default=True,
        help="make pages smaller that would not fit into the engine's context, and say so (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="key=value",
        help="engine setting, e.g. dtype=bfloat16 or sampling.temperature=0.7",
    )  # fmt: skip


def _extract(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    if options.review_below is not None and not 0.0 <= options.review_below <= 1.0:
        raise UserError(f"--review-below: expected a share in [0, 1], got {options.review_below}")
    if options.workers < 0:
        raise UserError(f"--workers: expected 0 (in this process) or more, got {options.workers}")
    if options.ray and not options.workers:
        raise UserError("--ray: name a number of --workers, too")
    if options.dpi < 1:
        raise UserError(f"--dpi: expected at least 1, got {options.dpi}")

    from medvie_rl.data.load import read_schema
    from medvie_rl.extraction.calibration import read_calibration
    from medvie_rl.extraction.inputs import find_files
    from medvie_rl.extraction.lines import is_clean
    from medvie_rl.extraction.run import Job, extract_files
    from medvie_rl.progress import show_progress

    schema, calibration = read_schema(options.schema), read_calibration(options.policy)
    asking = asking_of(options, calibration)
    job = Job(
        asking=asking,
        schema=schema,
        language=options.language,
        each_page=options.pages == "each",
        dpi=options.dpi,
        calibration=calibration,
        review_below=options.review_below,
    )
    files = find_files(options.documents)
    num_lines = num_review = num_unclean = 0
    with _output(options, job) as output:
        left = [file for file in files if not _is_done(file.path, output.done)]
        if len(left) < len(files):
            _tell(f"going on: {len(files) - len(left)} of {len(files)} files are done")
        with show_progress("extracting") as progress:
            batches = extract_files(
                job, left, num_workers=options.workers, address=options.ray, notice=_tell, progress=progress
            )
            for made in chain.from_iterable(batches):
                output.write(made)
                num_lines += 1
                num_review += bool(made.get("review"))
                num_unclean += not is_clean(made)
    _tell(
        f"{num_lines} documents: {num_lines - num_unclean} ok, {num_unclean} with a problem, {num_review} with "
        f"values to review → {options.out or 'standard output'}"
    )
    prompt = ("--prompt", options.prompt) if options.prompt else ()
    serve = next_command("serve", "--policy", options.policy, *prompt)
    _tell(f"to see values beside their pages and correct them, {serve}")
    return 3 if num_unclean else 0


def _is_done(path: Path, done: set[str]) -> bool:
    """The last page of a file is written with the others of its batch."""
    return str(path) in done or f"{path}#page=1" in done


def _output(options: argparse.Namespace, job: Any) -> Any:
    from medvie_rl.extraction.output import LineFile, StandardOutput, Tables

    if options.format == "csv":
        if not options.out or options.resume or options.overwrite:
            raise UserError("--format csv writes a new folder: name it with --out, without --resume or --overwrite")
        return Tables(options.out, job.schema)
    if options.out:
        return LineFile(options.out, _settings(options), resume=options.resume, overwrite=options.overwrite)
    if options.resume or options.overwrite:
        raise UserError("--resume and --overwrite need --out")
    return StandardOutput()


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What lines depend on."""
    from medvie_rl.extraction.calibration import FILE
    from medvie_rl.fingerprint import base_policy_digests, prompt_digests

    own = {name: getattr(options, name) for name in _LINES_DEPEND_ON}
    calibration = options.policy / FILE
    return {
        **own,
        **base_policy_digests(str(options.policy)),
        **(prompt_digests(options.prompt) if options.prompt else {}),
        "schema": options.schema.read_text(encoding="utf-8"),
        "calibration": calibration.read_text(encoding="utf-8") if calibration.is_file() else "",
    }


def _calibrate(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    if not 0.0 < options.max_error < 1.0:
        raise UserError(f"--max-error: expected a share in (0, 1), got {options.max_error}")
    if options.traces is not None and options.traces < 2:
        raise UserError(f"--traces: votes need at least 2, got {options.traces}")
    from medvie_rl.extraction.calibrate import calibrate
    from medvie_rl.progress import show_progress

    with show_progress("asking") as progress:
        calibrate(
            asking_of(options, None),
            options.data,
            split=options.split,
            schemas=options.schemas,
            limit=options.limit,
            max_error=options.max_error,
            notice=_tell,
            progress=progress,
        )
    return 0


def asking_of(options: argparse.Namespace, calibration: "Calibration | None") -> "Asking":
    """What the options of `add_asking` say; as often as the policy was calibrated for where they do not say."""
    from medvie_rl.extraction.extractor import Asking

    num_traces = calibration.asked["num_traces"] if calibration else _DEFAULT_TRACES
    return Asking(
        policy=options.policy,
        prompt=options.prompt,
        reasoning=options.reasoning,
        constrained=options.constrained,
        num_traces=num_traces if options.traces is None else options.traces,
        page_check=options.page_check,
        fit=options.fit,
        settings=(("log_level=INFO",) if is_verbose() else ()) + tuple(options.set),
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
