"""Reads JSONL files that anybody may have written: every line is an object, or a reason why it is not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvie_rl.errors import UserError
from rewards.parsing import JsonObject

MAX_DEPTH = 64  # levels of objects and lists in a line


@dataclass(slots=True)
class Line:
    """One line of a JSONL file: an object, or what is wrong with it. `where` is the file with the line's number."""

    where: str
    entry: JsonObject = field(default_factory=JsonObject)
    problem: str = ""


def shown(value: object) -> str:
    """A JSON value for a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}..."


def read_lines(path: Path, expected: str) -> Iterator[Line]:
    """The lines of a file but the blank ones; raises UserError, which says what was `expected`, if it is not there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected one JSON object a line with {expected}") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield _read_line(f"{path}:{number}", line)


def _read_line(where: str, line: bytes) -> Line:
    try:
        entry = json.loads(
            line.decode("utf-8"), object_pairs_hook=JsonObject.from_pairs, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        return Line(where, problem=f"not UTF-8 text ({error.reason} at byte {error.start})")
    except RecursionError:
        return Line(where, problem=f"nested deeper than {MAX_DEPTH} levels")
    except ValueError as error:
        return Line(where, problem=f"not a JSON object ({error})")
    if not isinstance(entry, JsonObject):
        return Line(where, problem=f"expected a JSON object, got {shown(entry)}")
    if _is_too_deep(entry):
        return Line(where, problem=f"nested deeper than {MAX_DEPTH} levels")
    if entry.repeated:
        return Line(where, problem=f"{entry.repeated[0][0]!r} is given more than once")
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Line(where, problem="half of a surrogate pair (\\ud800 to \\udfff alone), which is no text")
    return Line(where, entry=entry)


def _is_too_deep(value: Any) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        items = [item.values() if isinstance(item, dict) else item for item in layer if isinstance(item, dict | list)]
        layer = [inner for item in items for inner in item]
    return bool(layer)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value that JSON has")
