"""What `medvie score` reads: annotations, anybody's predictions for them, and the schemas they are compared by.

Both are JSONL files with an `id` (else `image`), a `document_type` and `fields` on every line. A prediction may have a
`response` in place of fields: the raw text of a model, which is then parsed strictly.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.load import read_schema
from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.scoring.lines import Line, read_lines, shown
from rewards.infer import flatten_fields, infer_schema
from rewards.parsing import JsonObject
from rewards.schema import Schema
from rewards.values import repeated_keys

_MAX_SHOWN = 20
_SOME_TYPE = "document"  # where annotations name no document type


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One annotated document. `fields` is the annotation as it was written, `truth` in the shape of `schema`."""

    id: str
    document_type: str
    schema: Schema
    fields: Mapping[str, Any]
    truth: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Annotated documents by id; `aliases` are other names by which predictions may call them.

    `ambiguous` are the names of images of more than one document, which are no aliases, each with its name in the file.
    """

    path: Path
    cases: Mapping[str, Case]
    aliases: Mapping[str, str]
    ambiguous: Mapping[str, str]
    inferred: bool

    def keys(self) -> set[str]:
        """The keys at the top of all documents."""
        return {key for case in self.cases.values() for key in case.truth}

    def shape(self, case: Case, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """`fields` as they compare with `case.truth`."""
        return flatten_fields(case.schema, fields) if self.inferred else fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was predicted for one document: fields, or a model's raw response, or neither (no valid JSON).

    `is_repaired` says that the fields were read from a response that is no valid JSON, as `medvie extract` does.
    """

    fields: Mapping[str, Any] | None = None
    response: str | None = None
    document_type: str = ""
    is_repaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predictions by document id, and the lines that cannot be used, each with the reason."""

    path: Path
    by_id: Mapping[str, Prediction]
    rejected: tuple[str, ...]


def load_schemas(paths: Sequence[Path]) -> list[Schema]:
    """The schemas of files and folders; raises UserError for one that is wrong, or two of the same name."""
    schemas: dict[str, Schema] = {}
    owner: dict[str, Path] = {}
    for path in paths:
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: this folder has no schema file (*.yaml)")
        for file in files:
            schema = read_schema(file)
            other = owner.setdefault(schema.name, file)
            if other.resolve() != file.resolve():
                raise UserError(f"{file}: its name {schema.name!r} is that of {other} too; give one of them")
            schemas[schema.name] = schema
    return list(schemas.values())


def read_truth(path: Path, schemas: Sequence[Schema]) -> Truth:
    """Read annotations; without `schemas` one is inferred for each document type.

    Raises UserError listing every line that is wrong: these are what predictions are measured by.
    """
    lines = _annotation_lines(path)
    chosen = _choose_schemas(lines, schemas) if schemas else _infer_schemas(path, lines)
    cases: dict[str, Case] = {}
    problems = []
    for line in lines:
        document, schema = _name_of(line.entry), chosen[line.where]
        if document in cases:
            problems.append(f"{line.where}: id {document!r} is used on an earlier line already")
            continue
        fields = line.entry["fields"]
        truth = fields if schemas else flatten_fields(schema, fields)
        problems += [f"{line.where}: {problem}" for problem in _truth_problems(schema, truth)]
        document_type = line.entry.get("document_type") or (schema.document_type if schemas else _SOME_TYPE)
        cases[document] = Case(id=document, document_type=document_type, schema=schema, fields=fields, truth=truth)
    _refuse(problems)
    aliases, ambiguous = _names_of_images(path, lines)
    return Truth(path=path, cases=cases, aliases=aliases, ambiguous=ambiguous, inferred=not schemas)


def read_training(path: Path, truth: Truth) -> list[tuple[str, Mapping[str, Any]]]:
    """(schema name, annotation) of training documents, shaped as those of `truth`; other document types are left out.

    Raises UserError listing every line that is wrong.
    """
    by_type = {case.document_type: case for case in truth.cases.values()}
    by_type |= {case.schema.name: case for case in truth.cases.values()}
    if not truth.inferred:
        by_type = {name.casefold(): case for name, case in by_type.items()} | by_type
    only = next(iter(truth.cases.values())) if len({case.schema.name for case in truth.cases.values()}) == 1 else None
    annotations = []
    for line in _annotation_lines(path, needs_name=False):
        document_type = line.entry.get("document_type") or _SOME_TYPE
        case = by_type.get(document_type) or by_type.get(document_type.casefold(), None if truth.inferred else only)
        if case is not None:
            annotations.append((case.schema.name, truth.shape(case, line.entry["fields"])))
    return annotations


def read_predictions(path: Path, truth: Truth) -> Predictions:
    """Read predictions for the documents of `truth`; raises UserError if none of them can be used."""
    by_id: dict[str, Prediction] = {}
    rejected = []
    for line in read_lines(path, "'id' and 'fields'"):
        problem = line.problem or _prediction_problem(line.entry)
        document = "" if problem else _find_document(line.entry, truth)
        if not problem and document not in truth.cases:
            problem = _unknown_document(line.entry, truth)
        elif not problem and document in by_id:
            problem = f"id {document!r} has a prediction on an earlier line already, which counts"
        if problem:
            rejected.append(f"{line.where}: {problem}")
        else:
            by_id[document] = Prediction(
                fields=line.entry.get("fields"),
                response=line.entry.get("response"),
                document_type=line.entry.get("document_type") or "",
                is_repaired=line.entry.get("status") == "repaired",
            )
    if not by_id:
        shown = "\n  ".join(rejected[:_MAX_SHOWN]) or "it is empty"
        raise UserError(f"{path}: no prediction can be used:\n  {shown}")
    return Predictions(path=path, by_id=by_id, rejected=tuple(rejected))


def _annotation_lines(path: Path, *, needs_name: bool = True) -> list[Line]:
    lines = list(read_lines(path, "'id', 'document_type' and 'fields'"))
    if not lines:
        raise UserError(f"{path}: no annotated document; expected one JSON object a line with 'id' and 'fields'")
    problems = []
    for line in lines:
        problem = line.problem or (_name_problem(line.entry) if needs_name else "") or _type_problem(line.entry)
        if not problem and not isinstance(line.entry.get("fields"), dict):
            problem = f"expected 'fields': an object of keys and values, got {shown(line.entry.get('fields'))}"
        if problem:
            problems.append(f"{line.where}: {problem}")
    _refuse(problems)
    return lines


def _choose_schemas(lines: Sequence[Line], schemas: Sequence[Schema]) -> dict[str, Schema]:
    """The schema of each line: a single one serves all, else the one with the name or type that the line names."""
    chosen: dict[str, Schema] = {}
    problems = []
    for line in lines:
        document_type = line.entry.get("document_type") or ""
        found = list(schemas) if len(schemas) == 1 else _schemas_for(document_type, schemas)
        if len(found) == 1:
            chosen[line.where] = found[0]
        elif found:
            names = ", ".join(schema.name for schema in found)
            problems.append(
                f"{line.where}: several schemas are for document_type {document_type!r}: {names}; give one of them, or "
                "write its name as the document_type"
            )
        else:
            known = list(dict.fromkeys(name for schema in schemas for name in (schema.document_type, schema.name)))
            near = _nearest(document_type, known)
            some = near or f"; there are some for {', '.join(dict.fromkeys(item.document_type for item in schemas))}"
            problems.append(f"{line.where}: no schema for document_type {document_type!r}{some}")
    _refuse(problems)
    return chosen


def _schemas_for(document_type: str, schemas: Sequence[Schema]) -> list[Schema]:
    """Those of this name, else of this document type, else the same in another letter case."""
    folded = document_type.casefold()
    choices = (
        [schema for schema in schemas if schema.name == document_type],
        [schema for schema in schemas if schema.document_type == document_type],
        [schema for schema in schemas if schema.name.casefold() == folded],
        [schema for schema in schemas if schema.document_type.casefold() == folded],
    )
    return next((found for found in choices if found), [])


def _infer_schemas(path: Path, lines: Sequence[Line]) -> dict[str, Schema]:
    by_type: dict[str, list[Line]] = {}
    for line in lines:
        by_type.setdefault(line.entry.get("document_type") or _SOME_TYPE, []).append(line)
    chosen: dict[str, Schema] = {}
    for document_type, members in by_type.items():
        try:
            schema = infer_schema(document_type, [line.entry["fields"] for line in members])
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        chosen |= {line.where: schema for line in members}
    return chosen


def _truth_problems(schema: Schema, truth: Mapping[str, Any]) -> list[str]:
    again = sorted(_repeated_names(truth))
    return [f"key {name!r} is given more than once" for name in again] or schema.validate_annotation(truth)


def _repeated_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (name for name, _ in repeated_keys(value))
        for item in value.values():
            yield from _repeated_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _repeated_names(item)


def _prediction_problem(entry: JsonObject) -> str:
    fields, response = entry.get("fields"), entry.get("response")
    if fields is not None and not isinstance(fields, dict):
        return f"expected 'fields': an object of keys and values, or null for no valid JSON, got {shown(fields)}"
    if response is not None and not isinstance(response, str):
        return f"expected 'response': the text of a model, got {shown(response)}"
    if not entry.keys() & {"fields", "response", "status"}:
        return f"expected 'fields' (null for no valid JSON) or 'response', got only {', '.join(map(repr, entry))}"
    return _name_problem(entry) or _type_problem(entry)


def _name_problem(entry: JsonObject) -> str:
    name = _id_or_image(entry)
    is_name = isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip()
    return "" if is_name else f"expected 'id' (or 'image'): a text or a whole number, got {shown(name)}"


def _type_problem(entry: JsonObject) -> str:
    document_type = entry.get("document_type")
    is_type = document_type is None or isinstance(document_type, str)
    return "" if is_type else f"expected 'document_type': a text, got {shown(document_type)}"


def _name_of(entry: JsonObject) -> str:
    return str(_id_or_image(entry))


def _id_or_image(entry: JsonObject) -> Any:
    return entry.get("image") if entry.get("id") is None else entry["id"]


def _find_document(entry: JsonObject, truth: Truth) -> str:
    """The id under which the truth has the document: the same id, or the same image."""
    name = _name_of(entry)
    known = (other if other in truth.cases else truth.aliases.get(other) for other in _names(entry))
    return next((document for document in known if document is not None), name)


def _names(entry: JsonObject) -> list[str]:
    image = entry.get("image")
    return [_name_of(entry), *([image, _absolute(image)] if isinstance(image, str) else [])]


def _unknown_document(entry: JsonObject, truth: Truth) -> str:
    image = next((truth.ambiguous[name] for name in _names(entry) if name in truth.ambiguous), None)
    if image is not None:
        return f"image {image!r} is that of several documents of {truth.path}; name one by its id"
    name = _name_of(entry)
    return f"id {name!r} is not in {truth.path}{_nearest(name, truth.cases)}"


def _names_of_images(path: Path, lines: Sequence[Line]) -> tuple[dict[str, str], dict[str, str]]:
    """The document of each image that has one, and the images that have several; see `Truth`."""
    names: dict[str, str] = {}
    documents: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for line in lines:
        image = line.entry.get("image")
        if isinstance(image, str):
            file = _absolute(path.parent / image)
            names[image] = names[file] = file
            written[file] = image
            documents.setdefault(file, []).append(_name_of(line.entry))
    aliases = {name: documents[file][0] for name, file in names.items() if len(documents[file]) == 1}
    return aliases, {name: written[file] for name, file in names.items() if len(documents[file]) > 1}


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f"\n  ... and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        raise UserError("the annotations cannot be used:\n  " + "\n  ".join(problems[:_MAX_SHOWN]) + more)


def _nearest(name: str, names: Collection[str]) -> str:
    return did_you_mean(name, names, cutoff=0.8) if len(names) <= 1_000 else ""


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)
