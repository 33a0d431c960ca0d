"""Bringing in a user's documents: a folder of images beside a JSONL file with their annotations.

One JSON object a line. `image` is the path of the image relative to the file (or `images`, a list, for several pages);
`fields` holds the annotation, of which the keys that the schema has are taken. `id`, `document_type`, `language`,
`split`, `license` and `source` are used where they are given.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvie_rl.data.queries import stable_hash
from medvie_rl.data.store import SPLITS, Document, describe_image, write_split
from medvie_rl.errors import UserError
from rewards.schema import Schema

ANNOTATIONS = "annotations.jsonl"


@dataclass(slots=True)
class ImportReport:
    """What came in, by split, and what was rejected, each with its line and the reason."""

    imported: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    ignored_keys: dict[str, int] = field(default_factory=dict)  # annotated, but not in the schema


def import_folder(
    source: Path, schema: Schema, out: Path, *, shares: Mapping[str, float], seed: int = 0
) -> ImportReport:
    """Import a folder into a dataset at `out`; documents without a `split` are dealt by a hash of their id.

    `shares` gives the parts of train, validation and test. A line that cannot be used is rejected with the reason, the
    rest is imported. Raises UserError if there is no annotation file, if nothing can be used, or if `out` exists.
    """
    path = source if source.is_file() else source / ANNOTATIONS
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected one JSON object a line with 'image' and 'fields'")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: this folder is not empty; name a new one")
    report = ImportReport()
    accepted: list[tuple[Document, list[bytes], str]] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            document, images, split = _read_line(line, path.parent, schema, report)
            if (first := seen.setdefault(document.id, number)) != number:
                raise ValueError(f"id '{document.id}' was used in line {first} already")
            for key in document.image_keys:
                if (first := seen.setdefault(key, number)) != number:
                    raise ValueError(f"line {first} has the same image already")
        except (ValueError, OSError) as error:
            report.rejected.append(f"{path}:{number}: {error}")
            continue
        accepted.append((document, images, split))
    if not accepted:
        reasons = "\n  ".join(report.rejected[:10])
        raise UserError(f"{path}: no document can be used:\n  {reasons}")
    dealt = _deal([document.id for document, _, split in accepted if not split], shares, seed)
    for name in SPLITS:
        documents = [(doc, images) for doc, images, split in accepted if (split or dealt[doc.id]) == name]
        write_split(out, name, documents)
        report.imported[name] = len(documents)
    return report


def _read_line(line: bytes, folder: Path, schema: Schema, report: ImportReport) -> tuple[Document, list[bytes], str]:
    try:
        entry = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object ({error})") from error
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, got {type(entry).__name__}")
    names = entry.get("images") or [entry.get("image")]
    fields = entry.get("fields")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("expected 'image': the path of an image, or 'images': a list of them")
    if not isinstance(fields, dict):
        raise ValueError("expected 'fields': an object of keys and values")
    split = entry.get("split", "")
    if split and split not in SPLITS:
        raise ValueError(f"'split' must be one of {', '.join(SPLITS)}, got {split!r}")
    annotation = {key: value for key, value in fields.items() if key in schema.keys}
    problems = schema.validate_annotation(annotation)
    if problems:
        raise ValueError(f"the annotation does not fit schema '{schema.name}': {'; '.join(problems)}")
    images, keys, sizes = _read_images(folder, names)
    for key in fields.keys() - annotation.keys():
        report.ignored_keys[key] = report.ignored_keys.get(key, 0) + 1
    document = Document(
        id=str(entry.get("id") or Path(names[0]).with_suffix("").as_posix().removeprefix("images/")),
        document_type=str(entry.get("document_type", schema.document_type)),
        schema=schema.name,
        annotation=annotation,
        image_keys=keys,
        image_sizes=sizes,
        language=str(entry.get("language", "")),
        provenance=str(entry.get("source", f"{folder.name}/{names[0]}")),
        license=str(entry.get("license", "")),
    )
    return document, images, str(split)


def _read_images(folder: Path, names: list[str]) -> tuple[list[bytes], tuple[str, ...], tuple[tuple[int, int], ...]]:
    images, keys, sizes = [], [], []
    for name in names:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"image {name} lies outside {folder}")
        if not path.is_file():
            raise ValueError(f"image {path} does not exist")
        content = path.read_bytes()
        try:
            key, size = describe_image(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        images.append(content)
        keys.append(key)
        sizes.append(size)
    return images, tuple(keys), tuple(sizes)


def _deal(ids: list[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
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


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value that JSON has")
