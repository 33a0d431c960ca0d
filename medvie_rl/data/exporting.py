"""Taking documents out again: JSON Lines beside images, which import as they were, and tasks for Label Studio.

Label Studio gets every document as a task, the labelling interface that fits the schema, the annotation where there is
one, and as a pre-annotation what a policy answered (`medvie extract`), so that people correct instead of typing. Its
export comes back by `medvie data import --format label-studio`. A list is a TextArea with a text for each value; a
table is one with a text for each row, as `importing/rows.py` writes it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from medvie_rl.data.importing.jsonl import ANNOTATIONS
from medvie_rl.data.importing.rows import format_row, format_value
from medvie_rl.data.importing.texts import parse_object, read_lines
from medvie_rl.data.pages import sniff
from medvie_rl.data.store import SPLITS, Document, list_splits, open_split
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import FieldSpec, Schema
from rewards.values import fold_text, is_left_out, is_scalar

TASKS, INTERFACE = "tasks.json", "labelling.xml"
LOCAL_FILES = "/data/local-files/?d="
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp"}
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(slots=True)
class ExportReport:
    """What went out by split, how many tasks have a prediction, and what could not be used, each with the reason."""

    exported: dict[str, int] = field(default_factory=dict)
    num_predictions: int = 0
    rejected: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # documents of other schemas, by its name


def export_jsonl(
    dataset: Path | str, out: Path, *, splits: Sequence[str] = (), progress: Progress = UNSEEN
) -> ExportReport:
    """Write `annotations.jsonl` and images/, one line a document; all splits unless some are named.

    Importing `out` gives the same documents, pages and annotations. Raises UserError if the dataset cannot be read, or
    if `out` has files already.
    """
    names = _splits(dataset, splits)
    images = _new_folder(out)
    report = ExportReport()
    with (out / ANNOTATIONS).open("w", encoding="utf-8") as file:
        for split, document, pages in _documents(dataset, names, progress):
            paths = images.write(document, pages)
            file.write(json.dumps(_line(split, document, paths), ensure_ascii=False, allow_nan=False) + "\n")
            report.exported[split] = report.exported.get(split, 0) + 1
    return report


def export_label_studio(
    dataset: Path | str,
    out: Path,
    *,
    schema: Schema,
    predictions: Path | None = None,
    splits: Sequence[str] = (),
    image_prefix: str = LOCAL_FILES,
    progress: Progress = UNSEEN,
) -> ExportReport:
    """Write tasks.json, labelling.xml and images/ for the documents that follow `schema` or have none yet.

    `predictions` is JSONL as `medvie extract` writes it; a line belongs to the document with its `id`, or whose page
    file has the same name. `image_prefix` stands before the paths of the images: by default they are local files with
    `out` as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. Predictions that cannot be used are in the report with their
    line and the reason. Raises UserError as `export_jsonl` does.
    """
    names = _splits(dataset, splits)
    report = ExportReport()
    answers = _Predictions.read(predictions, report) if predictions else _Predictions()
    images = _new_folder(out)
    tasks, most_pages = [], 1
    for split, document, pages in _documents(dataset, names, progress):
        if document.schema not in ("", schema.name):
            report.left_out[document.schema] = report.left_out.get(document.schema, 0) + 1
            continue
        addresses = [f"{image_prefix}{quote(path)}" for path in images.write(document, pages)]
        most_pages = max(most_pages, len(addresses))
        tasks.append(_task(split, document, addresses, schema, answers.of(document), report))
        report.exported[split] = report.exported.get(split, 0) + 1
    report.rejected += answers.unused()
    for task in tasks:
        if most_pages == 1:
            task["data"]["image"] = task["data"].pop("pages")[0]
    _write_json(out / TASKS, tasks)
    (out / INTERFACE).write_text(labelling_interface(schema, several_pages=most_pages > 1), encoding="utf-8")
    return report


def labelling_interface(schema: Schema, *, several_pages: bool = False) -> str:
    """The labelling configuration of Label Studio for a schema, as XML: one control for each key."""
    value = 'valueList="$pages"' if several_pages else 'value="$image"'
    lines = ["<View>", '  <View style="display: flex">', '    <View style="flex: 60%">']
    lines += [f'      <Image name="image" {value} zoom="true" zoomControl="true" rotateControl="true"/>', "    </View>"]
    lines += ['    <View style="flex: 40%; padding-left: 1em">']
    for spec in schema.fields:
        lines += [f"      {line}" for line in _control(spec)]
    return "\n".join([*lines, "    </View>", "  </View>", "</View>", ""])


def _control(spec: FieldSpec) -> list[str]:
    hint = spec.description
    if spec.columns:
        hint += "; one text for each row: " + " | ".join(f"{column.key}: …" for column in spec.columns)
    elif spec.many:
        hint += "; one text for each"
    header = f'<Header value={quoteattr(f"{spec.key}: {hint}")} size="6"/>'
    name = f'name={quoteattr(spec.key)} toName="image"'
    if choices := _choices(spec):
        several = "multiple" if spec.many else "single"
        values = [f"  <Choice value={quoteattr(choice)}/>" for choice in choices]
        return [header, f'<Choices {name} choice="{several}" showInline="true">', *values, "</Choices>"]
    rows = 3 if spec.kind == "free_text" or spec.columns else 1
    most = "" if spec.many or spec.columns else ' maxSubmissions="1"'
    return [header, f'<TextArea {name} editable="true" rows="{rows}"{most}/>']


def _choices(spec: FieldSpec) -> tuple[str, ...]:
    return ("true", "false") if spec.kind == "boolean" else spec.choices


def _task(
    split: str,
    document: Document,
    addresses: list[str],
    schema: Schema,
    answer: tuple[str, dict[str, Any]] | None,
    report: ExportReport,
) -> dict[str, Any]:
    data = {
        "pages": addresses,
        "id": document.id,
        "document_type": document.document_type or schema.document_type,
        "schema": schema.name,
        "language": document.language,
        "specialty": document.specialty,
        "license": document.license,
        "source": document.provenance,
    }
    if split in SPLITS:
        data["split"] = split
    task: dict[str, Any] = {"data": data}
    if document.annotated:
        results, problems = _results(schema, document.annotation)
        report.rejected += [f"document '{document.id}': {problem}" for problem in problems]
        task["annotations"] = [{"result": results}]
    if answer is not None:
        where, fields = answer
        results, problems = _results(schema, fields)
        report.rejected += [f"{where}: {problem}" for problem in problems]
        task["predictions"] = [{"model_version": "medvie", "result": results}]
        report.num_predictions += 1
    return task


def _results(schema: Schema, fields: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The regions that show `fields` in the interface, and what could not be shown."""
    results, problems = [], []
    for key, value in fields.items():
        if is_left_out(value):
            continue
        if key not in schema.keys:
            problems.append(f"{key}: not a key of schema '{schema.name}', left out")
            continue
        spec = schema.field(key)
        items = value if isinstance(value, list) else [value]
        shown = [_shown(spec, item) for item in items if not is_left_out(item)]
        if bad := [item for item, text in zip(items, shown, strict=False) if text is None]:
            problems.append(f"{key}: {bad[0]!r} is not what the key holds, left out")
        texts = [text for text in shown if text is not None]
        if not texts:
            continue
        kind = "choices" if _choices(spec) else "textarea"
        content = {"choices" if kind == "choices" else "text": texts}
        results.append({"id": f"{key}-1", "from_name": key, "to_name": "image", "type": kind, "value": content})
    return results, problems


def _shown(spec: FieldSpec, item: Any) -> str | None:
    """The text of one value or row; None for what the key cannot hold."""
    if spec.columns:
        names = [column.key for column in spec.columns]
        is_row = isinstance(item, Mapping) and all(_is_cell(cell) for cell in item.values())
        return format_row({name: item[name] for name in names if name in item}) if is_row else None
    if not is_scalar(item):
        return None
    text = format_value(item)
    choices = _choices(spec)
    if not choices:
        return text
    return next((choice for choice in choices if fold_text(choice) == fold_text(text)), None)


def _is_cell(value: Any) -> bool:
    return value is None or is_scalar(value) or (isinstance(value, list) and all(map(is_scalar, value)))


@dataclass(slots=True)
class _Predictions:
    """The lines of a predictions file that have fields, by their id and by the name of their page file."""

    _lines: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # where, fields
    _used: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path, report: ExportReport) -> "_Predictions":
        if not path.is_file():
            raise UserError(f"{path}: no such predictions file; `medvie extract --out` writes one")
        found = cls()
        for number, line in read_lines(path):
            where = f"{path}:{number}"
            try:
                entry = parse_object(line)
                fields = entry.get("fields")
                if not isinstance(fields, dict):
                    raise ValueError(f"no 'fields' (status {entry.get('status', 'unknown')!r}); not a pre-annotation")
                name = entry.get("id") or Path(str(entry.get("image", ""))).stem
                if not isinstance(name, str) or not name:
                    raise ValueError("expected 'id' or 'image': whose prediction it is")
                if name in found._lines:
                    raise ValueError(f"'{name}' has a prediction already, in {found._lines[name][0]}")
                found._lines[name] = (where, fields)
            except ValueError as error:
                report.rejected.append(f"{where}: {error}")
        return found

    def of(self, document: Document) -> tuple[str, dict[str, Any]] | None:
        """The prediction for a document and where it stands; None if there is none."""
        for name in (document.id, _file_stem(document.id), Path(document.id).name, Path(document.provenance).stem):
            if name in self._lines:
                self._used.add(name)
                return self._lines[name]
        return None

    def unused(self) -> list[str]:
        """Predictions whose document is not in what was exported."""
        left = [(name, where) for name, (where, _) in self._lines.items() if name not in self._used]
        return [f"{where}: no document '{name}' was exported" for name, where in left]


@dataclass(slots=True)
class _Images:
    """The page files of an export; every name is used once, also where letter case makes no difference."""

    folder: Path
    _names: set[str] = field(default_factory=set)

    def write(self, document: Document, pages: Sequence[bytes]) -> list[str]:
        """Write the pages; returns their paths relative to the export."""
        stem, number = _file_stem(document.id), 0
        base = stem
        while base.casefold() in self._names:
            number += 1
            base = f"{stem}~{number}"
        self._names.add(base.casefold())
        paths = []
        for index, content in enumerate(pages, start=1):
            ending = _ENDINGS.get(sniff(content), ".img")
            name = f"{base}{f'_page{index}' if len(pages) > 1 else ''}{ending}"
            if len(pages) > 1:
                self._names.add(f"{base}_page{index}".casefold())
            (self.folder / name).write_bytes(content)
            paths.append(f"{self.folder.name}/{name}")
        return paths


def _file_stem(document_id: str) -> str:
    """A file name for an id; a letter, digit, point, dash or underscore stays."""
    return _UNSAFE.sub("_", document_id).strip(".")[:100] or "document"


def _new_folder(out: Path) -> _Images:
    check_new_folder(out)
    images = out / "images"
    try:
        images.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror})") from error
    return _Images(images)


def _splits(dataset: Path | str, chosen: Sequence[str]) -> tuple[str, ...]:
    have = list_splits(dataset)
    if not have:
        raise UserError(f"{dataset}: there is no dataset; make one with `medvie data import` or `medvie data synth`")
    for name in chosen:
        if name not in have:
            raise UserError(f"{dataset}: it has no split {name!r}; it has {', '.join(have)}")
    return tuple(chosen) or have


def _documents(
    dataset: Path | str, splits: Sequence[str], progress: Progress
) -> Iterator[tuple[str, Document, list[bytes]]]:
    try:
        opened = {name: open_split(dataset, name) for name in splits}
        progress.begin(sum(map(len, opened.values())))
        for name, split in opened.items():
            for document, pages in progress.each(split.stream()):
                yield name, document, pages
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def _line(split: str, document: Document, paths: list[str]) -> dict[str, Any]:
    line: dict[str, Any] = {"id": document.id}
    line |= {"image": paths[0]} if len(paths) == 1 else {"images": paths}
    line |= {"document_type": document.document_type, "schema": document.schema, "split": split}
    line |= {"language": document.language, "specialty": document.specialty}
    line |= {"source": document.provenance, "license": document.license, "synthetic": document.synthetic}
    return line | ({"fields": document.annotation} if document.annotated else {"annotated": False})


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
