"""Reads JSONL files that anybody may have written: every line is an object, or a reason why it is not."""

import codecs
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvie_rl.errors import UserError
from rewards.parsing import JsonObject, ParseLimits

MAX_DEPTH = 64  # levels of objects and lists in a line
_MAX_DIGITS = ParseLimits().max_digits
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


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
    """The lines of a file but the blank ones.

    Raises UserError, which says what was `expected`, if it is not there, and for a file of no such lines at all.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected one JSON object a line with {expected}") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    content = content.removeprefix(codecs.BOM_UTF8)
    _refuse_other_files(path, content)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield _read_line(f"{path}:{number}", line)


def _read_line(where: str, line: bytes) -> Line:
    try:
        entry = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=JsonObject.from_pairs,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
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
    if problem := _number_problem(entry):
        return Line(where, problem=problem)
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


def _refuse_other_files(path: Path, content: bytes) -> None:
    """One message for the whole file where every line of it would be wrong."""
    if content.startswith(_BOMS) or b"\0" in content[:2]:
        raise UserError(f"{path}: not UTF-8 text but probably UTF-16; save it as UTF-8")
    text = content.decode("utf-8", "replace").strip()
    first = text.partition("\n")[0].rstrip()
    if first[:1] not in ("[", "{") or (first[0] == "{" and first[-1] == "}"):
        return  # lines, be they right or wrong
    try:
        value, end = json.JSONDecoder().raw_decode(text, 0)
    except (ValueError, RecursionError):
        return
    if end == len(text) or "\n" in text[:end]:
        items = ".[]" if isinstance(value, list) else "."
        raise UserError(
            f"{path}: expected one JSON object a line (JSONL); this looks like one JSON document: "
            f"`jq -c '{items}' {shlex.quote(str(path))}` makes it one object a line"
        )


class _BadNumber(str):
    """A numeral that no answer may have, until it is known under which key it stands."""


def _float(text: str) -> float | _BadNumber:
    return float(text) if len(text) <= _MAX_DIGITS and math.isfinite(float(text)) else _BadNumber(text)


def _int(text: str) -> int | _BadNumber:
    return int(text) if len(text) <= _MAX_DIGITS else _BadNumber(text)


def _number_problem(value: Any, key: str = "") -> str:
    """What is wrong with the first bad number, and its key."""
    if isinstance(value, _BadNumber):
        long = f"a number of {len(value)} characters, at most {_MAX_DIGITS} are read"
        return f"{key}: " + (long if len(value) > _MAX_DIGITS else f"{value} is out of range")
    items: list[tuple[str, Any]] = []
    if isinstance(value, JsonObject):
        items = [(f"{key}.{name}" if key else name, item) for name, item in [*value.items(), *value.repeated]]
    elif isinstance(value, list):
        items = [(key, item) for item in value]
    return next((problem for name, item in items if (problem := _number_problem(item, name))), "")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value that JSON has")
