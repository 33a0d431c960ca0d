"""The command `medvie report`: what a run changed, as one HTML file."""

import argparse
from pathlib import Path

from medvie_rl.errors import UserError
from medvie_rl.next_command import next_command
from medvie_rl.parser import Commands, add_command

DEFAULT_DOCUMENTS = 12

_EXAMPLES = (
    ("medvie report runs/RUN", "writes runs/RUN/report.html"),
    ("medvie report runs/RUN --documents 40", "more documents, chosen by the same rules"),
    ("medvie report runs/RUN --redact --out run.html", "numbers and tables only, to be shown around"),
)
_NOTES = """The file needs no network and runs no script. It holds patient data: page images, annotated values, \
answers and ids of documents. --no-images leaves out the images, --redact all of it."""


def add_report(commands: Commands) -> None:
    """Register the command."""
    report = add_command(
        commands,
        "report",
        help="what a run changed, as one HTML file: scores, curves, documents before and after (holds patient data)",
        description="Write one HTML file on a run, whether it has ended or not: scores before and after with "
        "intervals, curves, tables by key and type, and documents with every value before and after.",
        examples=_EXAMPLES,
        notes=_NOTES,
    )
    report.add_argument("run", type=Path, metavar="RUN_DIR")
    report.add_argument("--out", type=Path, metavar="FILE", help="default: RUN_DIR/report.html")
    report.add_argument(
        "--documents", type=int, default=DEFAULT_DOCUMENTS, metavar="N",
        help=f"how many documents are shown: the largest gains and losses in F1, the worst after, and some at random "
        f"(default: {DEFAULT_DOCUMENTS})",
    )  # fmt: skip
    report.add_argument("--no-images", action="store_true", help="leave out the page images")
    report.add_argument("--redact", action="store_true", help="leave out all that is of patients: numbers and tables")
    report.add_argument(
        "--schema", type=Path, nargs="+", action="extend", default=[], metavar="FILE_OR_FOLDER",
        help="how values are compared (default: as the run's configuration says)",
    )  # fmt: skip
    report.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> int:
    if options.documents < 0:
        raise UserError(f"--documents: expected 0 or more, got {options.documents}")
    from medvie_rl.progress import show_progress
    from medvie_rl.report.page import write_report
    from medvie_rl.run import resolved_config
    from medvie_rl.scoring.export import check_writable
    from medvie_rl.scoring.run import run_files

    resolved_config(options.run)
    out = options.out or options.run / "report.html"
    check_writable({"--out": out}, [*run_files(options.run), options.run / "metrics.jsonl", *options.schema])
    with show_progress("scoring") as progress:
        written = write_report(
            options.run,
            out,
            schemas=options.schema,
            num_documents=options.documents,
            with_images=not options.no_images,
            with_values=not options.redact,
            progress=progress,
        )
    for notice in written.notices:
        print(f"note: {notice}")
    held = "numbers and tables only" if options.redact else "holds patient data"
    print(f"report: {out} ({written.num_bytes / 1e6:.1f} MB, {written.num_documents} documents, {held})")
    is_finished = written.data.is_finished
    words = ("export", options.run, "--out", "my_policy") if is_finished else ("train", "--resume", options.run)
    print(f"open it in a browser; {next_command(*words)}")
    return 0
