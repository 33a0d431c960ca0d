"""Format `label-studio`: the JSON export of Label Studio, full or JSON-MIN.

- Choices, TextArea, Number, DateTime and Rating name the key by their own `name` in the labelling interface.
- A rectangle (or polygon, or ellipse) whose region has a text names the key by its label; several are a list.
- A label "medicines.dose" is the column `dose` of the table `medicines`. The row of a region is its Number `row`, else
  its parent region; where regions have neither, a row ends where a column comes again.
- A TextArea of a whole table has a row in each of its texts: "name: Amoxicillin | dose: 500 mg" (see `rows.py`).

A task without an annotation that was submitted goes to the pool; of several, the one marked as ground truth counts,
else the last. Predictions are no annotations. Page files are found by their path, as `?d=` of a local file, or, for
uploads and addresses, by their name in the folder of the export or in images/ beside it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from medvie_rl.data.importing.jsonl import TEXTS, texts_of
from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.data.importing.texts import check_finite, parse_json, read_text
from medvie_rl.data.pages import PAGE_ENDINGS
from medvie_rl.errors import UserError

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
_OWN = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "comment", "history", "agreement")
_VALUES = ("text", "choices", "number", "datetime", "rating", "taxonomy")
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels")
_IMAGES = ("pages", "images", "image", "ocr", "file", "pdf")
_ROW = "row"


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """The tasks of an export; raises UserError for a file that is none."""
    path = _path(source)
    try:
        tasks = parse_json(read_text(path), constants=True)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(tasks, list):
        raise UserError(f"{path}: expected a list of tasks as Label Studio exports it, got {type(tasks).__name__}")
    for number, task in enumerate(tasks, start=1):
        where = f"{path}: task {task['id'] if isinstance(task, dict) and 'id' in task else number}"
        try:
            if not isinstance(task, dict):
                raise ValueError(f"expected a JSON object, got {type(task).__name__}")
            check_finite(task)
            yield _record(where, path.parent, task, names)
        except ValueError as error:
            yield Rejection(where, str(error))


def _path(source: Path) -> Path:
    found = [source] if source.is_file() else sorted(source.glob("*.json"))
    if len(found) != 1:
        raise UserError(f"{source}: expected one JSON export, found {[path.name for path in found] or 'none'}; name it")
    return found[0]


def _record(where: str, folder: Path, task: dict[str, Any], names: Names) -> Record:
    is_full = isinstance(task.get("data"), dict)
    data = task["data"] if is_full else task
    image = _image_entry(data)
    given = data[image] if isinstance(data[image], list) else [data[image]]
    notes: tuple[str, ...] = ()
    fields: dict[str, Any] | None
    if is_full:
        fields, notes = _annotation(task)
        texts = texts_of({name: data.get(name) for name in TEXTS})
    else:
        keys = [key for key in task if key != image and (names.has_key(key) or key not in (*_OWN, *TEXTS))]
        fields = _regions_min({key: task[key] for key in keys}, names)
        texts = texts_of({name: task.get(name) for name in TEXTS if name != "id"})
    files = tuple(_local_name(folder, name) for name in given)
    return Record(where=where, folder=folder, files=files, fields=fields, loose=True, notes=notes, **texts)


def _image_entry(data: Mapping[str, Any]) -> str:
    """The entry that names the page files: by its name, else the first whose value ends as such files do."""
    usual = [name for name in _IMAGES if data.get(name) and _is_file(data[name])]
    others = [name for name, value in data.items() if isinstance(value, str) and value.lower().endswith(PAGE_ENDINGS)]
    if not usual and not others:
        raise ValueError(f"expected the path of an image in one of {', '.join(_IMAGES)}; it has {', '.join(data)}")
    return [*usual, *others][0]


def _is_file(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _local_name(folder: Path, address: str) -> str:
    parts = urlsplit(address)
    path = unquote(parse_qs(parts.query).get("d", [""])[0] or (parts.path if parts.scheme else address))
    name = path.rsplit("/", 1)[-1]
    bare = _UPLOAD.sub("", name)
    candidates = [path.lstrip("/")] + [f"{place}{file}" for file in (name, bare) for place in ("images/", "")]
    for candidate in candidates:
        if (folder / candidate).is_file():
            return candidate
    if parts.scheme in ("http", "https", "s3", "gs"):
        raise ValueError(f"{address} is an address; put the file {bare} into {folder / 'images'}")
    if path.startswith("/"):
        raise ValueError(f"there is no file {bare} in {folder} or {folder / 'images'} (for {address})")
    return path


def _annotation(task: dict[str, Any]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    given = task.get("annotations", task.get("completions")) or []
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise ValueError("expected 'annotations': a list of objects")
    valid = [item for item in given if not item.get("was_cancelled")]
    if not valid:
        return None, ()
    chosen = next((item for item in valid if item.get("ground_truth")), valid[-1])
    notes = ("task with several annotations, of which one was taken",) if len(valid) > 1 else ()
    results = chosen.get("result")
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise ValueError("expected 'result' of the annotation: a list of objects")
    return _fields(results), notes


def _fields(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Key -> list of values, table -> list of rows."""
    regions: dict[Any, dict[str, Any]] = {}
    fields: dict[str, Any] = {}
    labels = {item.get("id"): label for item in results if (label := _label(_value(item)))}
    for item in results:
        values = _values(_value(item))
        region, name = item.get("id"), str(item.get("from_name", ""))
        if region in labels:
            own = regions.setdefault(region, {"label": labels[region], "texts": [], "parent": None, "row": None})
            own["parent"] = own["parent"] or item.get("parentID")
            if name == _ROW:
                own["row"] = values[0] if values else None
            else:
                own["texts"] += values
        elif values:
            fields.setdefault(name, []).extend(values)
    _add_regions(fields, list(regions.values()))
    return fields


def _value(item: Mapping[str, Any]) -> dict[str, Any]:
    value = item.get("value")
    return value if isinstance(value, dict) else {}


def _label(value: Mapping[str, Any]) -> str:
    for name in _LABELS:
        if isinstance(value.get(name), list) and value[name]:
            return str(value[name][0])
    return ""


def _values(value: Mapping[str, Any]) -> list[Any]:
    for name in _VALUES:
        found = value.get(name)
        if found is None:
            continue
        if name == "taxonomy":
            return [" / ".join(map(str, item)) if isinstance(item, list) else item for item in found]
        return list(found) if isinstance(found, list) else [found]
    return []


def _add_regions(fields: dict[str, Any], regions: list[dict[str, Any]]) -> None:
    """Texts of regions under their labels; those of a table's columns as rows."""
    rows: dict[str, dict[Any, dict[str, Any]]] = {}
    current: dict[str, int] = {}
    for region in regions:
        table, point, column = region["label"].partition(".")
        if not point:
            fields.setdefault(region["label"], []).extend(region["texts"])
            continue
        own = rows.setdefault(table, {})
        group: Any = ("row", region["row"]) if region["row"] is not None else ("parent", region["parent"])
        if group == ("parent", None):
            group = ("order", current.setdefault(table, 0))
            if column in own.get(group, {}):
                current[table] += 1
                group = ("order", current[table])
        own.setdefault(group, {}).setdefault(column, []).extend(region["texts"])
    for table, found in rows.items():
        numbered = sorted(found.items(), key=lambda item: item[0][1] if item[0][0] == "row" else 0)
        fields.setdefault(table, []).extend(row for _, row in numbered)


def _regions_min(given: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """JSON-MIN: texts and choices by key as they are; labels with the transcriptions beside them, in order."""
    labels = [(key, value) for key, value in given.items() if _is_regions(value)]
    fields = {key: value for key, value in given.items() if not _is_regions(value)}
    for key, regions in labels:
        texts_key = next((name for name in ("transcription", "text") if isinstance(fields.get(name), list | str)), "")
        found = fields.pop(texts_key, [])
        texts = found if isinstance(found, list) else [found]
        if len(texts) != len(regions):
            raise ValueError(
                f"{key!r} has {len(regions)} regions and {len(texts)} texts: JSON-MIN does not say which belong "
                "together; export as JSON instead of JSON-MIN"
            )
        places = [{"label": _label(region), "texts": [text], "parent": None, "row": None} for region, text in
                  zip(regions, texts, strict=True)]  # fmt: skip
        _add_regions(fields, places)
    listed = {key: _listed(value) for key, value in fields.items()}
    return {key: value for key, value in listed.items() if value} or None


def _is_regions(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and _label(item) for item in value)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return list(value["choices"])
    return value if isinstance(value, list) else [] if value is None or value == "" else [value]
