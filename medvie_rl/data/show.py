"""`medvie data show`: annotations beside their pages, at the terminal and as one HTML file."""

import io
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from medvie_rl.data.load import load_schemas
from medvie_rl.data.store import Document, Split, list_splits, open_split
from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.progress import show_progress
from rewards.schema import Schema
from rewards.values import is_left_out

DEFAULT_NUM = 5  # documents
PREVIEW_SIDE = 1600  # pixels of the longer side at most
_UNSAFE = str.maketrans({sign: "_" for sign in '/\\:*?"<>|\0'})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A document with what is needed to show it. Without pages, or of an unknown schema, `problem` says so."""

    split: str
    document: Document
    schema: Schema | None
    pages: tuple[bytes, ...]
    problem: str = ""


def choose_documents(
    folder: Path | str,
    schemas: Mapping[str, Schema],
    *,
    ids: Sequence[str] = (),
    split: str | None = None,
    num: int = DEFAULT_NUM,
    seed: int = 0,
) -> list[Shown]:
    """The documents of these ids in this order, else a random sample of `num`, in the order of the dataset.

    Raises UserError for a dataset or split that cannot be opened, and for ids that are not in it.
    """
    splits = _open_splits(folder, split)
    if ids:
        chosen = [_find(splits, document_id, str(folder)) for document_id in ids]
    else:
        every = [(name, document) for name in splits for document in splits[name]]
        picked = sorted(random.Random(seed).sample(range(len(every)), min(num, len(every))))
        chosen = [every[position] for position in picked]
    return [_with_pages(splits[name], name, document, schemas.get(document.schema)) for name, document in chosen]


def print_documents(shown: Sequence[Shown], previews: Path, console: Console) -> None:
    """Print facts, annotation and the paths of preview images (PNG), which are written to the folder `previews`."""
    for item in shown:
        document = item.document
        console.rule(Text(document.id), align="left")
        console.print(Text(facts(item)))
        for path in _write_previews(item, previews):
            console.print(Text(f"page: {path}"), soft_wrap=True)
        if item.problem:
            console.print(Text(item.problem, style="red"))
        console.print(_annotation_table(item))


def facts(item: Shown) -> str:
    """One line on what a document is and where it comes from."""
    document = item.document
    sizes = ", ".join(f"{width} x {height}" for width, height in document.image_sizes)
    parts = [f"split {item.split}", document.document_type, f"schema {document.schema}", document.specialty]
    parts += [document.language, f"{len(document.image_keys)} pages" if len(document.image_keys) != 1 else "1 page"]
    parts += [f"{sizes} px" if sizes else "", "synthetic" if document.synthetic else "", document.provenance]
    return " · ".join(part for part in (*parts, document.license) if part)


def value_lines(value: Any) -> list[str]:
    """A value as lines of text: one a value of a list, none for a value that says nothing."""
    if is_left_out(value):
        return []
    if isinstance(value, list | tuple):
        return [line for item in value for line in value_lines(item)]
    if isinstance(value, Mapping):
        return ["; ".join(f"{key}: {', '.join(value_lines(item))}" for key, item in value.items())]
    return [value if isinstance(value, str) else _json_word(value)]


def rows_of(value: Any) -> list[Mapping[str, Any]] | None:
    """The rows of a value that is a table; None where it is none."""
    if isinstance(value, list | tuple) and value and all(isinstance(row, Mapping) for row in value):
        return list(value)
    return None


def column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, in the order in which they occur."""
    return list(dict.fromkeys(str(key) for row in rows for key in row))


def ordered_keys(item: Shown) -> list[str]:
    """The annotated keys in the schema's order, then those that the schema does not have."""
    annotation = item.document.annotation
    in_schema = [key for key in item.schema.keys if key in annotation] if item.schema else []
    return [*in_schema, *(key for key in annotation if key not in in_schema)]


def show_command(
    folder: str,
    *,
    schemas: Path,
    ids: Sequence[str],
    split: str | None,
    num: int,
    seed: int,
    html: Path | None,
    out: Path | None,
) -> int:
    """Show documents at the terminal, or write them to an HTML file; returns the exit code."""
    if num < 1:
        raise UserError(f"--num: expected 1 or more, got {num}")
    known = load_schemas(schemas)
    shown = choose_documents(folder, known, ids=ids, split=split, num=num, seed=seed)
    try:
        if html is None:
            previews = out or Path(tempfile.mkdtemp(prefix="medvie-show-"))
            print_documents(shown, previews, Console(highlight=False))
        else:
            from medvie_rl.data.show_page import write_page

            with show_progress("showing") as progress:
                write_page(html, str(folder), shown, progress)
            print(f"contact sheet: {html} ({len(shown)} documents, {html.stat().st_size / 1e6:.1f} MB)")
    except OSError as error:
        raise UserError(f"cannot write {error.filename or html or out} ({error.strerror or error})") from error
    problems = [item for item in shown if item.problem]
    return 3 if problems else 0


def _open_splits(folder: Path | str, split: str | None) -> dict[str, Split]:
    try:
        names = (split,) if split else list_splits(folder)
        if not names:
            raise UserError(f"{folder}: there is no dataset; make one with `medvie data import`")
        return {name: open_split(folder, name) for name in names}
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def _find(splits: Mapping[str, Split], document_id: str, folder: str) -> tuple[str, Document]:
    for name, split in splits.items():
        if document_id in split:
            return name, next(document for document in split if document.id == document_id)
    hint = did_you_mean(document_id, (document.id for split in splits.values() for document in split))
    raise UserError(f"--id: no document '{document_id}' in {' or '.join(splits)} of {folder}{hint}")


def _with_pages(split: Split, name: str, document: Document, schema: Schema | None) -> Shown:
    pages: tuple[bytes, ...] = ()
    problem = "" if schema else f"unknown schema '{document.schema}'"
    try:
        pages = tuple(split.images(document)[key] for key in document.image_keys)
        for content in pages:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        pages, problem = (), f"its pages cannot be read: {error}"
    return Shown(split=name, document=document, schema=schema, pages=pages, problem=problem)


def _write_previews(item: Shown, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, content in enumerate(item.pages):
        name = item.document.id.translate(_UNSAFE).lstrip(".") or "document"
        path = folder / f"{item.split}-{name}-{index + 1}.png"
        with Image.open(io.BytesIO(content)) as image:
            preview = image.convert("RGB")
        preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
        preview.save(path)
        paths.append(path)
    return paths


def _annotation_table(item: Shown) -> RenderableType:
    if not item.document.annotated:
        return Text("not annotated", style="yellow")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key in ordered_keys(item):
        value = item.document.annotation[key]
        rows = rows_of(value)
        lines = value_lines(value)
        shown: RenderableType = _rows_table(rows) if rows else Text("\n".join(lines) if lines else "-")
        grid.add_row(Text(key), shown)
    return Group(grid, Text())


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = column_names(rows)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(value_lines(row.get(name)))) for name in names))
    return table


def _json_word(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
