"""`medvie data`: documents come in, are checked, shown, chosen and drawn. Heavy imports happen inside the commands."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.next_command import next_command
from medvie_rl.parser import Commands, add_command, add_group

if TYPE_CHECKING:
    from rewards.schema import Schema

_SCHEMAS = Path("conf/schemas")
_SCHEMA = f"{_SCHEMAS}/visit_slip.yaml"


def add_data_commands(commands: Commands) -> None:
    """Register `medvie data` with its commands."""
    kinds = add_group(commands, "data", help="bring documents in, check, show and choose them, or draw synthetic ones")
    _add_import(kinds)
    _add_export(kinds)
    _add_check(kinds)
    _add_show(kinds)
    _add_select(kinds)
    _add_synth(kinds)


def _add_import(kinds: Commands) -> None:
    importing = add_command(
        kinds,
        "import",
        help="documents of any kind become a dataset: images, PDFs, annotations",
        description="Bring in what you have: images and PDFs without annotations, or with them as JSONL, Label Studio "
        "export, Donut metadata.jsonl, FUNSD files or CSV. What cannot be used is listed with the reason, the rest "
        "comes in; the exit code is then 3. The formats are described in docs/documents.md.",
        examples=[
            (
                f"medvie data import documents --schema {_SCHEMA} --out data/visits",
                "a folder with annotations.jsonl",
            ),
            (f"medvie data import scans --format files --schema {_SCHEMA} --out data/pool", "scans to choose from"),
            (f"medvie data import labels.json --schema {_SCHEMA} --out data/annotated", "an export of Label Studio"),
        ],
    )
    importing.add_argument("source", type=Path, help="a folder, or the annotation file in it")
    importing.add_argument(
        "--format", default="auto", choices=("auto", "jsonl", "label-studio", "donut", "funsd", "csv", "files")
    )
    importing.add_argument("--schema", type=Path, required=True, help="a schema file, or a folder of them")
    importing.add_argument("--map", type=Path, metavar="FILE", help="YAML: name in the source -> key of the schema")
    importing.add_argument("--out", type=Path, required=True, help="dataset folder to make")
    importing.add_argument(
        "--shares", default="0.6,0.2,0.2", help="train,validation,test where documents name no split"
    )
    importing.add_argument("--seed", type=int, default=0)
    importing.add_argument("--dpi", type=int, default=150, help="resolution at which PDF pages are drawn")
    importing.add_argument("--max-pages", type=int, default=50, help="files with more are rejected")
    importing.set_defaults(command=_import)


def _add_export(kinds: Commands) -> None:
    exporting = add_command(
        kinds,
        "export",
        help="a dataset becomes JSON Lines and images, or tasks for Label Studio",
        description="Write a dataset as annotations.jsonl with its images, or as tasks for Label Studio with the "
        "labelling interface made from the schema and, where predictions are given, pre-annotations to be corrected.",
        examples=[
            ("medvie data export data/visits --out visits_jsonl", "JSON Lines and images"),
            (f"medvie data export data/pool --format label-studio --schema {_SCHEMA} --out tasks", "to be annotated"),
        ],
    )
    exporting.add_argument("dataset", help="dataset folder or URI")
    exporting.add_argument("--format", default="jsonl", choices=("jsonl", "label-studio"))
    exporting.add_argument("--out", type=Path, required=True, help="folder to make")
    exporting.add_argument("--split", action="append", default=[], help="only this split (pool: what nobody annotated)")
    exporting.add_argument("--schema", type=Path, help="label-studio: the schema to annotate by")
    exporting.add_argument("--predictions", type=Path, metavar="JSONL", help="label-studio: of `medvie extract`")
    exporting.set_defaults(command=_export)


def _add_check(kinds: Commands) -> None:
    check = add_command(
        kinds,
        "check",
        help="what would spoil training or scores: misfits, leakage, bad pages, long prompts",
        description="Look for annotations that do not fit their schema, near-duplicates across splits, pages that "
        "cannot be read and, with --policy, prompts that are too long. Exit codes: 0 no errors found (warnings and "
        "notes do not count), 2 the dataset or an option cannot be read, 3 done, but there are errors to mend.",
        examples=[
            ("medvie data check data/visits", "before training"),
            ("medvie data check data/visits --policy medvie_rl/nano/policy", "also the lengths of prompts"),
            ("medvie data check data/visits --json findings.json", "all findings, for programs"),
        ],
    )
    check.add_argument("folder", metavar="DIR", help="dataset folder or URI")
    check.add_argument("--schemas", type=Path, default=_SCHEMAS, metavar="FOLDER")
    check.add_argument(
        "--policy", type=Path, metavar="POLICY_DIR", help="also count the tokens of this policy's prompts"
    )
    check.add_argument("--prompt", type=Path, metavar="FILE", help="prompt template (default: the policy's own)")
    check.add_argument(
        "--max-tokens", type=int, metavar="N",
        help="longest prompt: max_model_len minus max_response_tokens (default: the policy's own)",
    )  # fmt: skip
    check.add_argument("--json", type=Path, metavar="FILE", help="write all findings and counts here")
    check.set_defaults(command=_check)


def _add_show(kinds: Commands) -> None:
    show = add_command(
        kinds,
        "show",
        help="annotations beside their pages, at the terminal or as an HTML contact sheet",
        description="Show documents with what is annotated, by key, and a preview of their pages. Exit codes: 0 done, "
        "2 wrong dataset, id or option, 3 shown, but pages or schemas of some are missing.",
        examples=[
            ("medvie data show data/visits", "five documents at the terminal"),
            ("medvie data show data/visits --num 50 --html sheet.html", "a contact sheet, one file"),
            ("medvie data show data/visits --id visit-007 visit-012", "these documents"),
        ],
    )
    show.add_argument("folder", metavar="DIR", help="dataset folder or URI")
    show.add_argument("--schemas", type=Path, default=_SCHEMAS, metavar="FOLDER")
    show.add_argument(
        "--id", nargs="+", action="extend", default=[], metavar="ID", help="these documents (default: a sample)"
    )
    show.add_argument("--split", help="only of this split")
    show.add_argument("--num", type=int, default=5, help="documents of the sample (default: 5)")
    show.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    show.add_argument("--html", type=Path, metavar="FILE", help="write a contact sheet, one file with all images, here")
    show.add_argument("--out", type=Path, metavar="FOLDER", help="previews go here (default: a temporary folder)")
    show.set_defaults(command=_show)


def _add_select(kinds: Commands) -> None:
    select = add_command(
        kinds,
        "select",
        help="choose a diverse subset of documents to annotate or to train on",
        description="Choose documents that look and read differently from each other, every type with its share, and "
        "say why each was chosen. What differs is told from page images and recognised text.",
        examples=[
            ("medvie data select data/pool --num 100 --out data/chosen", "the hundred worth annotating"),
            (
                "medvie data select data/visits --split train --num 50 --plot curve.png",
                "fifty to train on",
            ),
        ],
    )
    select.add_argument("dataset", metavar="DIR", help="dataset folder or URI")
    select.add_argument("--num", type=int, default=100, help="how many to choose (default: 100)")
    select.add_argument("--split", default="pool", help="which documents to choose from, e.g. train (default: pool)")
    select.add_argument("--features", choices=("full", "light"), default="full", help="light: without reading the text")
    select.add_argument(
        "--stratify", action=argparse.BooleanOptionalAction, default=True, help="give every document type its share"
    )
    select.add_argument("--seed", type=int, default=0, help="draws the first document (default: 0)")
    select.add_argument(
        "--ocr-cache", default="", metavar="DIR", help="where recognised text is kept (default: DIR/ocr)"
    )
    select.add_argument(
        "--json", type=Path, default=Path("selection.json"), metavar="FILE", help="the choice and its reasons"
    )
    select.add_argument("--out", type=Path, metavar="DIR", help="also write a dataset with only the chosen documents")
    select.add_argument("--plot", type=Path, metavar="PNG", help="also draw the coverage curve")
    select.set_defaults(command=_select)


def _add_synth(kinds: Commands) -> None:
    synth = add_command(
        kinds,
        "synth",
        help="draw synthetic medical documents, or small slips, with exact annotations",
        description="Draw documents of nobody with exact annotations: the small slips that the embedded policy can "
        "read, or ten kinds of whole pages, printed, scanned, faxed or photographed, in several languages.",
        examples=[
            ("medvie data synth --out data/slips", "slips for the embedded policy"),
            ("medvie data synth --kind all --num 100,80,300 --out data/synthetic", "ten kinds of medical pages"),
            ("medvie data synth --kind all --noise fax --language de,fr --out data/faxes", "faxes in two languages"),
        ],
    )
    synth.add_argument("--out", type=Path, required=True, help="dataset folder to make")
    synth.add_argument(
        "--kind", default="slips",
        help="slips, specialty-slips (laboratory to dermatology), sales-slips (receipts, invoices), all kinds of "
        "documents, or some separated by commas",
    )  # fmt: skip
    synth.add_argument(
        "--arrangement", default="usual", choices=("usual", "unseen", "two_columns", "table"),
        help="of slips: those that the embedded policy was made for, or others",
    )  # fmt: skip
    synth.add_argument("--num", default="100,80,300", help="how many for train,validation,test")
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--language", default="en", help="ISO 639-1 codes separated by commas; slips are in English")
    synth.add_argument("--noise", default="mixed", choices=("mixed", "clean", "scan", "fax", "photo"))
    synth.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    synth.add_argument("--schemas", type=Path, default=_SCHEMAS, metavar="FOLDER")
    synth.add_argument("--preview", type=Path, help="also draw a contact sheet of the first documents here (PNG)")
    synth.set_defaults(command=_synth)


def _import(options: argparse.Namespace) -> int:
    from medvie_rl.data.importing import import_documents
    from medvie_rl.progress import show_progress

    with show_progress("importing") as progress:
        report = import_documents(
            options.source,
            format=options.format,
            schemas=_schemas(options.schema),
            out=options.out,
            mapping=options.map,
            shares=_numbers("--shares", options.shares),
            seed=options.seed,
            dpi=options.dpi,
            max_pages=options.max_pages,
            progress=progress,
        )
    print(f"read as {report.format}")
    for name, num in report.imported.items():
        print(f"{name:<12}{num} documents")
    for key, num in sorted(report.ignored_keys.items()):
        print(f"not in the schema, left out: {key} ({num} documents)")
    for text, num in report.notes.items():
        print(f"note: {text} ({num})")
    for line in report.rejected:
        print(f"rejected: {line}", file=sys.stderr)
    print(f"dataset: {options.out}")
    folder = options.schema if options.schema.is_dir() else options.schema.parent
    print(next_command("data", "check", options.out, *(() if folder == _SCHEMAS else ("--schemas", folder))))
    return 3 if report.rejected else 0


def _export(options: argparse.Namespace) -> int:
    from medvie_rl.data.exporting import export_jsonl, export_label_studio
    from medvie_rl.data.load import read_schema
    from medvie_rl.progress import show_progress

    of_label_studio = options.format == "label-studio"
    if of_label_studio != bool(options.schema) or (options.predictions and not of_label_studio):
        raise UserError("--format label-studio needs --schema; --schema and --predictions go with it only")
    with show_progress("exporting") as progress:
        if of_label_studio:
            report = export_label_studio(
                options.dataset,
                options.out,
                schema=read_schema(options.schema),
                predictions=options.predictions,
                splits=options.split,
                progress=progress,
            )
        else:
            report = export_jsonl(options.dataset, options.out, splits=options.split, progress=progress)
    if of_label_studio:
        print(f"{report.num_predictions} tasks have a pre-annotation")
    for name, num in report.exported.items():
        print(f"{name:<12}{num} documents")
    for name, num in report.left_out.items():
        print(f"left out, they follow schema {name}: {num} documents")
    for line in report.rejected:
        print(f"rejected: {line}", file=sys.stderr)
    print(f"written to {options.out}")
    return 3 if report.rejected else 0


def _check(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    from medvie_rl.data.check import check_command

    return check_command(
        options.folder,
        schemas=options.schemas,
        policy=options.policy,
        prompt=options.prompt,
        max_tokens=options.max_tokens,
        json_path=options.json,
    )


def _show(options: argparse.Namespace) -> int:
    from medvie_rl.data.show import show_command

    return show_command(
        options.folder,
        schemas=options.schemas,
        ids=options.id,
        split=options.split,
        num=options.num,
        seed=options.seed,
        html=options.html,
        out=options.out,
    )


def _select(options: argparse.Namespace) -> int:
    from medvie_rl.data.select_command import select_from_dataset

    return select_from_dataset(
        options.dataset,
        num=options.num,
        split=options.split,
        seed=options.seed,
        light=options.features == "light",
        stratify=options.stratify,
        ocr_cache=options.ocr_cache,
        json_path=options.json,
        out=options.out,
        plot=options.plot,
    )


def _synth(options: argparse.Namespace) -> int:
    from medvie_rl.progress import show_progress

    nums = {name: int(num) for name, num in _numbers("--num", options.num).items()}
    if options.kind.endswith("slips"):
        from medvie_rl.data.slips import SLIPS, write_slips

        if options.kind not in SLIPS:
            raise UserError(f"--kind {options.kind}{did_you_mean(options.kind, SLIPS)}; there are {', '.join(SLIPS)}")
        if (options.language, options.noise) != ("en", "mixed"):
            raise UserError("--language and --noise are for documents; slips are in English and clean")
        with show_progress("drawing") as progress:
            write_slips(
                options.out,
                nums,
                seed=options.seed,
                kinds=options.kind,
                arrangement=options.arrangement,
                preview=options.preview,
                progress=progress,
            )
    else:
        if options.arrangement != "usual":
            raise UserError("--arrangement is for slips; documents have layouts of their own")
        from medvie_rl.data.synth.generate import write_documents
        from medvie_rl.data.synth.kinds import KINDS

        kinds = list(KINDS) if options.kind == "all" else [name.strip() for name in options.kind.split(",")]
        with show_progress("drawing") as progress:
            write_documents(
                options.out,
                kinds,
                nums,
                seed=options.seed,
                languages=[name.strip() for name in options.language.split(",")],
                noise=options.noise,
                processes=options.processes,
                preview=options.preview,
                schemas=options.schemas,
                progress=progress,
            )
    print(f"dataset: {options.out} ({', '.join(f'{name} {num}' for name, num in nums.items())})")
    if options.kind == "slips":
        print(next_command("train", "--config", "conf/local.yaml", f"data.path={options.out}"))
    else:
        print(next_command("data", "show", options.out, "--html", "sheet.html"))
    return 0


def _schemas(path: Path) -> "Schema | dict[str, Schema]":
    from medvie_rl.data.load import load_schemas, read_schema

    return load_schemas(path) if path.is_dir() else read_schema(path)


def _numbers(option: str, text: str) -> dict[str, float]:
    names = ("train", "validation", "test")
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(names) or min(values) < 0 or sum(values) <= 0:
        raise UserError(f"{option}: expected three numbers for train,validation,test, e.g. 0.6,0.2,0.2, got {text!r}")
    return dict(zip(names, values, strict=True))
