"""Takes the answer out of a response: one strict JSON object, bounded, duplicate keys kept apart.

A well-formed response is `<think>some text</think>` and then one JSON object where reasoning was asked for, and the
object alone where not. What is tolerated, at the cost of the format share (see `ParsedResponse.faults`): a Markdown
fence around the object, prose before it, a missing, empty or unasked reasoning block. What is not tolerated, so that
there is no answer: anything behind the object, a second object, an object inside the reasoning block only, a reasoning
block that is never closed, NaN and Infinity, and anything beyond `ParseLimits`.

The reward reads responses this way, so that a policy learns clean JSON; `rewards.repair` reads more for extraction.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from rewards.types import AnswerStatus

REASONING_START, REASONING_END = "<think>", "</think>"
FENCE = "```"
_LEVELS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_UNSTRUCTURAL = bytes(set(range(128)) - set(b'{}[],:"'))


class JsonObject(dict[str, Any]):
    """A JSON object that keeps the first value of each key; `repeated` holds the later ones."""

    __slots__ = ("_repeated",)  # set only where a key is repeated: every row of every answer is one of these
    _repeated: list[tuple[str, Any]]

    @property
    def repeated(self) -> list[tuple[str, Any]]:
        """The second and later occurrences of keys, in the order of the text."""
        return getattr(self, "_repeated", [])

    @staticmethod
    def from_pairs(pairs: list[tuple[str, Any]]) -> "JsonObject":
        """The object of `pairs`, among which a key may stand several times."""
        made = JsonObject(pairs)
        if len(made) != len(pairs):  # a key was repeated, and its last value has taken the place of the first
            made.clear()
            made._repeated = [pair for pair in pairs if not made._is_new(*pair)]
        return made

    def _is_new(self, key: str, value: Any) -> bool:
        if key in self:
            return False
        self[key] = value
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseLimits:
    """Bounds on what is parsed at all; checked before the JSON parser sees the text."""

    max_characters: int = 65_536
    max_depth: int = 16
    max_values: int = 2_048  # keys, list items and values together
    max_digits: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedResponse:
    """What was read. `detail` says what went wrong, `faults` what is merely ill-formed.

    `status` is what the strict reading says. `answer` is None unless it is ok, or `repairs` says what had to be done.
    """

    status: AnswerStatus
    answer: JsonObject | None
    reasoning_text: str
    detail: str
    faults: tuple[str, ...]
    repairs: tuple[str, ...] = ()  # see `rewards.repair`; empty for strict answers


class _BadNumberError(ValueError):
    """A numeral that is not a finite number of sensible length."""


def parse_response(
    text: str, *, reasoning: bool, truncated: bool = False, limits: ParseLimits | None = None
) -> ParsedResponse:
    """Parse a response; never raises, in time linear in the text.

    A response that hit the token limit (`truncated`) without a valid object has status `truncated`.
    """
    limits = limits or ParseLimits()
    if len(text) > limits.max_characters:
        detail = f"{len(text)} characters, at most {limits.max_characters} are read"
        return _failed(AnswerStatus.TRUNCATED if truncated else AnswerStatus.TOO_LARGE, detail)
    thought, rest, faults = split_reasoning(text, reasoning)
    if rest is None:
        status = AnswerStatus.TRUNCATED if truncated else AnswerStatus.UNCLOSED_REASONING
        return _failed(status, f"{REASONING_START} is never closed", thought)
    start = rest.find("{")
    if rest.endswith(FENCE) and -1 < rest.find(FENCE) < start:
        faults.append("fenced")
        before, _, rest = rest.removesuffix(FENCE).partition(FENCE)
        rest = f"{before.strip()}{rest.removeprefix('json').lstrip()}"
        start = rest.find("{")
    if start > 0:
        faults.append("prose before the object")
    status, answer, detail = read_object(rest, start, limits)
    if answer is not None and rest.rfind(REASONING_START, 0, start) > rest.rfind(REASONING_END, 0, start):
        status, answer, detail = AnswerStatus.UNCLOSED_REASONING, None, f"a second {REASONING_START} is never closed"
    if answer is None:
        return _failed(AnswerStatus.TRUNCATED if truncated else status, detail, thought)
    return ParsedResponse(status=status, answer=answer, reasoning_text=thought, detail=detail, faults=tuple(faults))


def split_reasoning(text: str, reasoning: bool) -> tuple[str, str | None, list[str]]:
    """The reasoning, what stands behind it (None where the block is not closed), and what is ill-formed."""
    text = text.strip()
    before, opened, after = text.partition(REASONING_START)
    if not opened or _looks_like_answer(before):  # a tag inside a value is part of the value
        return "", text, ["no reasoning block"] if reasoning else []
    thought, closed, rest = after.partition(REASONING_END)
    if not closed:
        return thought, None, []
    faults = [] if reasoning else ["unasked reasoning block"]
    if before.strip():
        faults.append("text before the reasoning block")
    if reasoning and not thought.strip():
        faults.append("empty reasoning block")
    return thought.strip(), rest.strip(), faults


def _looks_like_answer(before: str) -> bool:
    return before.lstrip().startswith("{")


def read_object(text: str, start: int, limits: ParseLimits) -> tuple[AnswerStatus, JsonObject | None, str]:
    """The object that starts at `start` (negative: none) and ends the text: its status, itself and what is wrong."""
    if start < 0:
        return AnswerStatus.NO_JSON, None, "no JSON object"
    refusal = _check_size(text, start, limits)
    if refusal is not None:
        return refusal[0], None, refusal[1]
    try:
        answer, end = _decoder(limits).raw_decode(text, start)
    except _BadNumberError as error:
        return AnswerStatus.BAD_NUMBER, None, str(error)
    except (ValueError, RecursionError) as error:
        return AnswerStatus.INVALID_JSON, None, str(error)
    behind = text[end:].strip()
    if behind.startswith("{"):
        return AnswerStatus.SEVERAL_OBJECTS, None, "a second object behind the first"
    if behind:
        return AnswerStatus.TRAILING_TEXT, None, f"{len(behind)} characters behind the object"
    assert isinstance(answer, JsonObject)  # it started with a brace
    return AnswerStatus.OK, answer if _is_clean(text) else _without_surrogates(answer), ""


def _check_size(text: str, start: int, limits: ParseLimits) -> tuple[AnswerStatus, str] | None:
    num_opened = text.count("{", start) + text.count("[", start)
    num_values = text.count(",", start) + text.count(":", start)
    if num_opened <= limits.max_depth and num_values <= limits.max_values:  # the strings included, so a safe bound
        return None
    structure = _outside_strings(text[start:])
    levels = accumulate(map(_LEVELS.__getitem__, structure.translate(None, b",:")))
    if max(levels, default=0) > limits.max_depth:
        return AnswerStatus.TOO_DEEP, f"nested deeper than {limits.max_depth} levels"
    if structure.count(b",") + structure.count(b":") > limits.max_values:
        return AnswerStatus.TOO_MANY_VALUES, f"more than {limits.max_values} keys and values"
    return None


def _outside_strings(text: str) -> bytes:
    """The brackets, commas and colons of `text` that are in no string, as far as `text` is JSON."""
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    structure = text.encode("ascii", "replace").translate(None, _UNSTRUCTURAL).replace(b'""', b"")
    return b"".join(structure.split(b'"')[::2])


@lru_cache(maxsize=8)
def _decoder(limits: ParseLimits) -> json.JSONDecoder:
    max_digits = limits.max_digits

    def checked(text: str) -> str:
        if len(text) > max_digits:
            raise _BadNumberError(f"a number of {len(text)} characters, at most {max_digits} are read")
        return text

    def finite(text: str) -> float:
        number = float(checked(text))
        if not math.isfinite(number):
            raise _BadNumberError(f"{text} is out of range")
        return number

    def refuse(text: str) -> Any:
        raise _BadNumberError(f"{text} is no JSON number")

    return json.JSONDecoder(
        object_pairs_hook=JsonObject.from_pairs,
        parse_float=finite,
        parse_int=lambda text: int(checked(text)),
        parse_constant=refuse,
    )


def _without_surrogates(value: Any) -> Any:
    """`value` with each lone surrogate as U+FFFD, so that the answer can be written to a file."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, JsonObject):
        pairs = [*value.items(), *value.repeated]
        return JsonObject.from_pairs([(_without_surrogates(key), _without_surrogates(item)) for key, item in pairs])
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _is_clean(text: str) -> bool:
    """Whether no lone surrogate can be in what `text` stands for."""
    if "\\ud" in text or "\\uD" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failed(status: AnswerStatus, detail: str, thought: str = "") -> ParsedResponse:
    return ParsedResponse(status=status, answer=None, reasoning_text=thought, detail=detail, faults=())
