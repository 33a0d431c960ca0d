"""Text and JSON of any origin: encodings told apart, and what cannot be read said with its place."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from medvie_rl.errors import UserError

_MAX_BYTES = 512 * 2**20  # of one annotation file
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (UTF-16 and UTF-32 by their mark); bytes that are none become lone surrogates.

    Whoever uses a part of it calls `check_text` on that part, so that one bad line does not cost the others. Raises
    UserError if the file cannot be read.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: it has more than {_MAX_BYTES >> 20} MB; split it")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding and b"\0" in content[:64]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    if not encoding:
        return content.decode("utf-8", errors="surrogateescape")
    try:
        return content.decode(encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "strict")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: it begins as {encoding} but is not ({error.reason}); save it as UTF-8") from error


def check_text(text: str) -> str:
    """The text itself; raises ValueError where the file was not UTF-8."""
    for index, sign in enumerate(text):
        if 0xDC80 <= ord(sign) <= 0xDCFF:
            byte = ord(sign) - 0xDC00
            line, column = text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
            place = f"character {column}" if line == 1 else f"line {line}, character {column}"
            raise ValueError(f"not UTF-8 text (byte 0x{byte:02x} at {place}, maybe Latin-1); save the file as UTF-8")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1."""
    text = read_text(path)
    start, number = 0, 0
    while start < len(text):  # str.splitlines breaks at signs that stand inside JSON texts
        number += 1
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].strip()
        start = end + 1
        if line:
            yield number, line


def parse_json(text: str, *, constants: bool = False) -> Any:
    """A JSON value; raises ValueError for what JSON has not: other encodings, too deep nesting, keys twice, NaN.

    With `constants` NaN and the infinities are read; `check_finite` then refuses the part where one stands.
    """
    check_text(text)
    options: dict[str, Any] = {} if constants else {"parse_constant": _refuse_constant, "parse_float": _finite}
    try:
        return json.loads(text, object_pairs_hook=_object, **options)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object ({error})") from error
    except RecursionError as error:
        raise ValueError("not a JSON object that can be read: it is nested too deeply") from error


def check_finite(value: Any) -> None:
    """Raise ValueError if a number inside `value` is NaN or infinite."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("NaN or Infinity is not a value that JSON has; write null") from error


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object; raises ValueError for anything else."""
    entry = parse_json(text)
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, got {type(entry).__name__}")
    return entry


def read_json(path: Path) -> Any:
    """A file that is one JSON value; raises ValueError with line and column."""
    return parse_json(read_text(path))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object; keep one")
    return entry


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value that JSON has; write null")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text} is too large; write it as a text")
    return value
