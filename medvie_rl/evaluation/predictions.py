"""A system's predictions in a file that `medvie score` reads, and beside it what they were made from.

A line has `id`, `document_type` (the schema's name) and `response`, a policy's raw answer, or `fields` of the OCR
baseline. A document that could not be asked has `fields` null and says why in `problem`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.store import Document
from medvie_rl.files import write_atomically

FOLDER = "predictions"
UNASKED = "unasked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a file of predictions was made from, and what that took."""

    inputs: Mapping[str, str]  # digests by a name that a person understands
    about: str  # how the system was asked, in words
    seconds_per_document: float | None  # None where nothing was measured, since all pages had been read before
    note: str = ""  # what a reader of the scores should know
    sha256: str = ""  # of the predictions


def line_of(document: Document, **answer: Any) -> dict[str, Any]:
    """The line of one document."""
    return {"id": document.id, "document_type": document.schema, **answer}


def predictions_path(out: Path, name: str) -> Path:
    """Where a system's predictions are."""
    return out / FOLDER / f"{name}.jsonl"


def write_predictions(out: Path, name: str, lines: list[dict[str, Any]], made: Made) -> Made:
    """Write a system's predictions, whole or not at all."""
    path = predictions_path(out, name)
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    made = Made(**{**asdict(made), "sha256": hashlib.sha256(content).hexdigest()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), json.dumps(asdict(made), indent=1) + "\n")
    return made


def find_predictions(out: Path, name: str, inputs: Mapping[str, str]) -> tuple[Made | None, str]:
    """What the predictions that lie there were made from if they are still good; else why they are not, if any do."""
    path = predictions_path(out, name)
    if not path.is_file():
        return None, ""
    try:
        made = Made(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        is_whole = hashlib.sha256(path.read_bytes()).hexdigest() == made.sha256
    except (OSError, ValueError, TypeError):  # half a file, another version's: made anew
        return None, "what they were made from is not known"
    if not is_whole:
        return None, "the file was changed"
    names = sorted({*made.inputs, *inputs})
    changed = [each for each in names if made.inputs.get(each) != inputs.get(each)]
    return (None, f"changed: {', '.join(changed)}") if changed else (made, "")
