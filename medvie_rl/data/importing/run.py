"""The import: records of a source checked one by one, their pages read, dealt to splits and written."""

import json
import os
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medvie_rl.data.importing.detect import AUTO, FORMATS, READERS, detect_format
from medvie_rl.data.importing.mapping import check_mapping, load_mapping
from medvie_rl.data.importing.records import ImportReport, Names, Note, Record, Rejection
from medvie_rl.data.importing.shaping import shape_fields
from medvie_rl.data.importing.spool import Spool
from medvie_rl.data.pages import PAGE_ENDINGS, Page, UnreadableFileError, read_pages
from medvie_rl.data.queries import stable_hash
from medvie_rl.data.store import POOL, SPLITS, Document, write_split
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import Schema
from rewards.values import fold_text

SHARES: Mapping[str, float] = {"train": 0.6, "validation": 0.2, "test": 0.2}
_MAX_SHOWN = 10
_NUMBERED = re.compile(r"^(TIFF page|PDF page|DICOM frame) \d+ of \d+")


def import_documents(
    source: Path,
    *,
    schemas: Schema | Mapping[str, Schema],
    out: Path,
    format: str = AUTO,
    mapping: Path | Mapping[str, str] | None = None,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    dpi: int = 150,
    max_pages: int = 50,
    progress: Progress = UNSEEN,
) -> ImportReport:
    """Import a source into a new dataset at `out`; what cannot be used is rejected with the reason, the rest comes in.

    Annotated documents without a `split` are dealt by a hash of their id, `shares` being the parts of train, validation
    and test; documents without annotation go to the pool. With several schemas a document's type names its schema.
    `mapping` is a YAML file, or its content (see `mapping.py`). Raises UserError if there is nothing to read, if
    nothing can be used, or if `out` exists.
    """
    if format not in FORMATS:
        raise UserError(f"--format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if not 20 <= dpi <= 1200:
        raise UserError(f"--dpi: expected 20 to 1200 dots per inch, got {dpi}")
    if max_pages < 1:
        raise UserError(f"--max-pages: expected 1 or more, got {max_pages}")
    check_new_folder(out)
    names = _names(schemas, mapping)
    detected, start = detect_format(source) if format == AUTO else (format, source)
    report = ImportReport(format=detected)
    importer = _Importer(names, report)
    entries = list(READERS[detected](start, names))
    progress.begin(len(entries))
    with Spool(_existing_parent(out)) as spool:
        for ready in importer.documents(progress.each(entries), dpi=dpi, max_pages=max_pages):
            spool.add(*ready)
        importer.finish()
        if not spool.documents:
            reasons = "\n  ".join(report.rejected[:_MAX_SHOWN]) or "it holds none"
            more = len(report.rejected) - _MAX_SHOWN
            raise UserError(
                f"{source} as {detected}: no document can be used:\n  {reasons}"
                + (f"\n  ... and {more} more" if more > 0 else "")
            )
        _write(out, spool, importer.splits, shares, seed, report)
    return report


def import_folder(
    source: Path, schema: Schema, out: Path, *, shares: Mapping[str, float], seed: int = 0
) -> ImportReport:
    """Import a folder with `annotations.jsonl`, or a JSONL file; see `import_documents`."""
    return import_documents(source, schemas=schema, out=out, format="jsonl", shares=shares, seed=seed)


def _names(schemas: Schema | Mapping[str, Schema], mapping: Path | Mapping[str, str] | None) -> Names:
    by_name = {schemas.name: schemas} if isinstance(schemas, Schema) else dict(schemas)
    if not by_name:
        raise UserError("--schema: there is no schema; name a schema file or a folder of them")
    if isinstance(mapping, Path):
        return Names(by_name, load_mapping(mapping, by_name))
    check_mapping(mapping or {}, by_name)
    return Names(by_name, dict(mapping or {}))


def _existing_parent(out: Path) -> Path:
    """Where the spool lies: on the disk of the dataset, which has to hold the pages anyway."""
    folder = next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def _write(
    out: Path, spool: Spool, given: list[str], shares: Mapping[str, float], seed: int, report: ImportReport
) -> None:
    undecided = [document.id for document, split in zip(spool.documents, given, strict=True) if not split]
    dealt = deal(undecided, shares, seed)
    members: dict[str, list[int]] = {name: [] for name in (*SPLITS, POOL)}
    for index, (document, split) in enumerate(zip(spool.documents, given, strict=True)):
        members[split or dealt[document.id]].append(index)
    for name, indices in members.items():
        is_wanted = bool(members[POOL]) if name == POOL else any(members[split] for split in SPLITS)
        if is_wanted:
            write_split(out, name, spool.read(indices))
            report.imported[name] = len(indices)


def deal(ids: list[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal documents to splits by the order of a hash: exact shares, the same for the same ids."""
    order = sorted(ids, key=lambda document_id: stable_hash("split", seed, document_id))
    total = sum(shares.values())
    bounds, running = [], 0.0
    for name in SPLITS:
        running += shares[name] / total
        bounds.append((name, round(running * len(order))))
    dealt, start = {}, 0
    for name, end in bounds:
        dealt.update(dict.fromkeys(order[start:end], name))
        start = end
    return dealt


@dataclass(slots=True)
class _Importer:
    """What is known while the records go by: ids and pages seen, the split of every document taken."""

    names: Names
    report: ImportReport
    splits: list[str] = field(default_factory=list)
    _ids: dict[str, str] = field(default_factory=dict)
    _pages: dict[str, str] = field(default_factory=dict)
    _files: set[Path] = field(default_factory=set)
    _folders: set[Path] = field(default_factory=set)
    _used_names: set[str] = field(default_factory=set)

    def documents(
        self, entries: Iterable[Record | Rejection | Note], *, dpi: int, max_pages: int
    ) -> Iterator[tuple[Document, list[bytes]]]:
        """The documents that can be used, in order, with their encoded pages, which are read a few ahead."""
        num_threads = max(1, os.cpu_count() or 1)
        waiting: deque[tuple[Record, Future[list[Page]]]] = deque()
        with ThreadPoolExecutor(num_threads) as pool:
            for entry in entries:
                if isinstance(entry, Note):
                    self.report.note(entry.text, entry.num)
                elif isinstance(entry, Rejection):
                    self._reject(entry.where, entry.reason)
                else:
                    self._folders.add(entry.folder)
                    waiting.append((entry, pool.submit(_read_files, entry, dpi=dpi, max_pages=max_pages)))
                    if len(waiting) > 2 * num_threads:
                        yield from self._taken(*waiting.popleft())
            while waiting:
                yield from self._taken(*waiting.popleft())

    def finish(self) -> None:
        """Say which names of the mapping occurred nowhere and which page files nothing names."""
        for name in self.names.mapping:
            if name not in self._used_names and self.report.format != "csv":
                self.report.note(f"name {name!r} of the mapping occurs in no document")
        if self.report.format == "files":
            return
        for folder in self._folders:
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in PAGE_ENDINGS and path.absolute() not in self._files:
                    self.report.note(f"{path}: no annotation names this file; it was left out")

    def _reject(self, where: str, reason: str) -> None:
        self.report.reject(where, reason)

    def _taken(self, record: Record, pages: Future[list[Page]]) -> Iterator[tuple[Document, list[bytes]]]:
        self._files.update((record.folder / name).absolute() for name in record.files)
        try:
            document, ignored, notes = self._document(record, pages)
            self._check_new(document, record.where)
        except ValueError as error:
            self._reject(record.where, str(error))
            return
        for key in ignored:
            self.report.ignored_keys[key] = self.report.ignored_keys.get(key, 0) + 1
        for note in (*notes, *record.notes):
            self.report.note(note)
        self.splits.append(record.split if document.annotated else POOL)
        if not document.annotated and record.split in SPLITS:
            self.report.note("a split was named for a document without annotation; it is in the pool")
        yield document, [page.content for page in pages.result()]

    def _document(self, record: Record, pages: Future[list[Page]]) -> tuple[Document, list[str], list[str]]:
        if record.split and record.split not in (*SPLITS, POOL):
            raise ValueError(f"'split' must be one of {', '.join((*SPLITS, POOL))}, got {record.split!r}")
        if record.split == POOL and record.fields is not None:
            raise ValueError("'split' is pool, but the document is annotated; remove one of them")
        schema = _schema_of(record, self.names.schemas)
        annotation, ignored, notes = {}, [], []
        if record.fields is not None:
            if schema is None:
                raise ValueError(_no_schema(record, self.names.schemas))
            shaped = shape_fields(schema, record.fields, self.names.mapping, loose=record.loose, joined=record.joined)
            annotation, ignored, notes = shaped.annotation, list(dict.fromkeys(shaped.ignored)), shaped.notes
            if problems := schema.validate_annotation(annotation):
                raise ValueError(f"the annotation does not fit schema '{schema.name}': {'; '.join(problems)}")
            self._used_names |= shaped.used
        read = pages.result()
        for page in read:
            if page.note:
                notes.append(_NUMBERED.sub(r"\1", page.note))
        document = Document(
            id=record.id or Path(record.files[0]).with_suffix("").as_posix().removeprefix("images/"),
            document_type=record.document_type or (schema.document_type if schema else ""),
            schema=schema.name if schema else "",
            annotation=annotation,
            annotated=record.fields is not None,
            image_keys=tuple(page.key for page in read),
            image_sizes=tuple(page.size for page in read),
            specialty=record.specialty,
            language=record.language,
            provenance=record.source or f"{record.folder.name}/{record.files[0]}",
            license=record.license,
            synthetic=record.synthetic,
        )
        _check_storable(document)
        return document, ignored, notes

    def _check_new(self, document: Document, where: str) -> None:
        if document.id in self._ids:
            raise ValueError(f"id '{document.id}' was used in {_short(self._ids[document.id], where)} already")
        for key in document.image_keys:
            if key in self._pages:
                raise ValueError(f"{_short(self._pages[key], where)} has the same image already")
        self._ids[document.id] = where
        self._pages.update(dict.fromkeys(document.image_keys, where))


def _short(first: str, where: str) -> str:
    """`line 3` for a place in the same file, else the place itself."""
    file, _, number = first.rpartition(":")
    return f"line {number}" if number.isdigit() and where.rpartition(":")[0] == file else first


def _schema_of(record: Record, schemas: Mapping[str, Schema]) -> Schema | None:
    """The schema that the record names, or that its type names; the only one where there is but one."""
    if record.schema and (record.schema in schemas or len(schemas) > 1):
        return schemas.get(record.schema)
    if len(schemas) == 1:
        return next(iter(schemas.values()))
    wanted = fold_text(record.document_type)
    by_type = [schema for schema in schemas.values() if fold_text(schema.document_type) == wanted]
    by_name = [schema for name, schema in schemas.items() if fold_text(name) == wanted]
    found = by_type or by_name
    if len(found) > 1:
        names = ", ".join(schema.name for schema in found)
        raise ValueError(f"document_type {record.document_type!r} is that of {names}; name one of them by 'schema'")
    return found[0] if found else None


def _no_schema(record: Record, schemas: Mapping[str, Schema]) -> str:
    types = ", ".join(f"{schema.document_type!r} ({schema.name})" for schema in schemas.values())
    given = f"schema {record.schema!r}" if record.schema else f"document_type {record.document_type!r}"
    return f"no schema belongs to {given}; there are {types}. Name one by 'schema', or give --schema one file"


def _check_storable(document: Document) -> None:
    try:
        texts = (document.id, document.document_type, document.language, document.provenance, document.license)
        json.dumps([document.annotation, document.specialty, *texts], ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "a text or a file name is not Unicode: it holds half of a surrogate pair; write it again"
        ) from error


def _read_files(record: Record, *, dpi: int, max_pages: int) -> list[Page]:
    pages: list[Page] = []
    for name in record.files:
        path = record.folder / name
        try:
            if not path.resolve().is_relative_to(record.folder.resolve()):
                raise ValueError(f"image {name} lies outside {record.folder}")
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: it is a link that leads to itself") from error
        try:
            pages += read_pages(path, dpi=dpi, max_pages=max_pages)
        except UnreadableFileError as error:
            raise ValueError(f"{path}: {error}") from error
        if len(pages) > max_pages:
            raise ValueError(f"it has more than {max_pages} pages; raise --max-pages or split it")
    return pages
