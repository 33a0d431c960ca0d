"""Reads answers that the strict parser refuses, for extraction: a closed list of repairs, each one named.

`parse_tolerant` tries the strict reading first. Where that fails it may do this, and nothing else:

- drop text before and behind the object, Markdown fences anywhere outside it included;
- take the last complete one of several objects: the final answer. An incomplete object behind it is text behind it;
- drop a comma before a closing bracket;
- where the text ends inside the only object: close the open brackets and drop the member that is not complete, with
  its key. A number, `true`, `false` or `null` at the very end counts as not complete ("5" may be the start of "50"), a
  string without its closing quote likewise. A row loses that cell and keeps the others. What has nothing complete
  inside is dropped whole; where the object has not, there is no answer.

Text inside a reasoning block is never read: a block that is not closed holds no answer, and `</think>` without its
start makes all before it reasoning. Still no answer, whatever else the text holds: an object that is an item of a bare
list, single quotes, unquoted keys, missing commas or colons, crossed brackets, comments, NaN and Infinity, control
characters inside a string, and anything beyond `ParseLimits`.
"""

import re
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import pairwise

from rewards.parsing import (
    FENCE,
    REASONING_END,
    REASONING_START,
    ParsedResponse,
    ParseLimits,
    parse_response,
    read_object,
    split_reasoning,
)

FENCE_DROPPED = "Markdown fence dropped"
TEXT_BEFORE_DROPPED = "text before the object dropped"
TEXT_BEHIND_DROPPED = "text behind the object dropped"
LAST_TAKEN = "last complete one of several objects taken"
COMMA_DROPPED = "trailing comma dropped"
BRACKETS_CLOSED = "open brackets closed"
VALUE_DROPPED = "incomplete value dropped"  # followed by ": " and its path, such as drugs[2].dose
ROW_KEPT = "incomplete row kept"  # followed by ": " and its path, such as drugs[2]

_MARKS = re.compile(rf"\{{|{REASONING_START}|{REASONING_END}")
# A string, to the end of the text if it is not closed; one structural character; or a run of anything else but blanks.
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+(?P<quote>")?|[{}\[\],:]|[^ \t\n\r"{}\[\],:]++', re.DOTALL)
_LITERALS = ("true", "false", "null")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_NUMBER_START = re.compile(r"-|-?[0-9][-+.eE0-9]*+")


def parse_tolerant(
    text: str, *, reasoning: bool, truncated: bool = False, limits: ParseLimits | None = None
) -> ParsedResponse:
    """Parse a response strictly, else with the repairs above; never raises, in time linear in the text.

    A repaired response has an answer, says in `repairs` what was done, and keeps the `status` and the `detail` of the
    strict reading. One that cannot be repaired is returned as the strict reading has it.
    """
    limits = limits or ParseLimits()
    strict = parse_response(text, reasoning=reasoning, truncated=truncated, limits=limits)
    if strict.answer is not None or len(text) > limits.max_characters:
        return strict
    _, rest, faults = split_reasoning(text, reasoning)
    chosen = None if rest is None else _choose(rest, limits.max_depth)
    if rest is None or chosen is None:
        return strict
    _, answer, _ = read_object(chosen.scan.repaired_text(), 0, limits)
    if answer is None:
        return strict
    return replace(strict, answer=answer, faults=tuple(faults), repairs=chosen.repairs(rest))


class _Expected(Enum):
    """What the grammar wants next."""

    VALUE = auto()  # behind a colon, and at the start
    FIRST_ITEM = auto()  # or the end of the list
    NEXT_ITEM = auto()
    FIRST_KEY = auto()  # or the end of the object
    NEXT_KEY = auto()
    COLON = auto()
    COMMA = auto()  # or the end of the list or object


_VALUES = frozenset({_Expected.VALUE, _Expected.FIRST_ITEM, _Expected.NEXT_ITEM})
_KEYS = frozenset({_Expected.FIRST_KEY, _Expected.NEXT_KEY})
_AFTER_COMMA = frozenset({_Expected.NEXT_ITEM, _Expected.NEXT_KEY})
_ENDS = frozenset({_Expected.FIRST_ITEM, _Expected.FIRST_KEY, _Expected.COMMA}) | _AFTER_COMMA


@dataclass(slots=True)
class _Open:
    """A list or object that is not closed yet; `place` is the key or index of the member that is being read."""

    closer: str
    place: str | int | None


@dataclass(slots=True)
class _Scan:
    """One object of `text`, token by token: where it ends, or what of it is complete."""

    text: str
    start: int
    max_depth: int
    end: int | None = None  # behind the closing bracket; None while there is none
    _stack: list[_Open] = field(default_factory=list)
    _expected: _Expected = _Expected.VALUE
    _comma: int = -1  # the latest one
    _trailing_commas: list[int] = field(default_factory=list)
    _kept: int = -1  # behind the last complete value
    _kept_depth: int = 0  # how many of the open brackets stand around it

    def run(self) -> bool:
        """Read up to the object's end, or the text's; False for what is not the start of a repairable object."""
        for token in _TOKENS.finditer(self.text, self.start):
            if not self._take(token):
                return False
            if self.end is not None or (token[0][0] == '"' and not token["quote"]):
                break
        return True

    @property
    def has_complete_values(self) -> bool:
        """Whether anything at all was read to its end."""
        return self._kept >= 0

    def repaired_text(self) -> str:
        """The object as strict JSON."""
        last = self._kept if self.end is None else self.end
        edges = [self.start - 1, *self._trailing_commas, last]
        closers = [opened.closer for opened in reversed(self._stack[: self._kept_depth])]
        return "".join([*(self.text[before + 1 : comma] for before, comma in pairwise(edges)), *closers])

    def repairs(self) -> list[str]:
        """What `repaired_text` does to the object."""
        done = [COMMA_DROPPED] if self._trailing_commas else []
        if self.end is not None:
            return done
        done.append(BRACKETS_CLOSED)
        if self.text[self._kept :].strip(" \t\n\r,"):
            done.append(f"{VALUE_DROPPED}: {_path(self._stack[: self._kept_depth])}")
        rows = [
            depth
            for depth, (outer, inner) in enumerate(pairwise(self._stack[: self._kept_depth]), 1)
            if (outer.closer, inner.closer) == ("]", "}")
        ]
        return [*done, f"{ROW_KEPT}: {_path(self._stack[: rows[-1]])}"] if rows else done

    def _take(self, token: re.Match[str]) -> bool:
        match token[0][0]:
            case "{" | "[":
                return self._open(token[0])
            case "}" | "]":
                return self._close(token)
            case ",":
                return self._separate(token.start())
            case ":":
                legal = self._expected is _Expected.COLON
                self._expected = _Expected.VALUE
                return legal
            case '"':
                return self._read_string(token)
            case _:
                return self._read_bare(token)

    def _open(self, bracket: str) -> bool:
        legal = self._expected in _VALUES and len(self._stack) < self.max_depth
        is_list = bracket == "["
        self._stack.append(_Open("]", 0) if is_list else _Open("}", None))
        self._expected = _Expected.FIRST_ITEM if is_list else _Expected.FIRST_KEY
        return legal

    def _close(self, token: re.Match[str]) -> bool:
        legal = self._stack[-1].closer == token[0] and self._expected in _ENDS
        if self._expected in _AFTER_COMMA:
            self._trailing_commas.append(self._comma)
        self._stack.pop()
        if not self._stack:
            self.end = token.end()
        return legal and self._keep(token.end())

    def _separate(self, position: int) -> bool:
        legal = self._expected is _Expected.COMMA
        opened = self._stack[-1]
        opened.place = opened.place + 1 if isinstance(opened.place, int) else None
        self._expected = _Expected.NEXT_KEY if opened.closer == "}" else _Expected.NEXT_ITEM
        self._comma = position
        return legal

    def _read_string(self, token: re.Match[str]) -> bool:
        if self._expected in _KEYS:
            if token["quote"]:
                self._stack[-1].place = token[0][1:-1]
                self._expected = _Expected.COLON
            return True
        return self._expected in _VALUES and (not token["quote"] or self._keep(token.end()))

    def _read_bare(self, token: re.Match[str]) -> bool:
        if self._expected not in _VALUES:
            return False
        word = token[0]
        if token.end() == len(self.text):
            return bool(_NUMBER_START.fullmatch(word)) or any(literal.startswith(word) for literal in _LITERALS)
        return (word in _LITERALS or bool(_NUMBER.fullmatch(word))) and self._keep(token.end())

    def _keep(self, position: int) -> bool:
        self._kept, self._kept_depth = position, len(self._stack)
        self._expected = _Expected.COMMA
        return True


@dataclass(frozen=True, slots=True)
class _Choice:
    """The object that is the answer, and what stands around it."""

    scan: _Scan
    first_start: int  # of the first object that may be an answer
    num_complete: int

    def repairs(self, text: str) -> tuple[str, ...]:
        before = text[: self.first_start]
        behind = "" if self.scan.end is None else text[self.scan.end :]
        around = {
            FENCE_DROPPED: FENCE in before or FENCE in behind,
            TEXT_BEFORE_DROPPED: _has_words(before),
            LAST_TAKEN: self.num_complete > 1,
            TEXT_BEHIND_DROPPED: _has_words(behind),
        }
        return (*(name for name, is_done in around.items() if is_done), *self.scan.repairs())


def _choose(text: str, max_depth: int) -> _Choice | None:
    """The last complete object outside reasoning blocks, else the one that the text ends in; None if any is broken."""
    choice: _Choice | None = None
    position = 0
    while mark := _MARKS.search(text, position):
        if mark[0] == REASONING_START:
            reasoning_end = text.find(REASONING_END, mark.end())
            if reasoning_end < 0:
                break
            position = reasoning_end + len(REASONING_END)
        elif mark[0] == REASONING_END:
            choice, position = None, mark.end()
        else:
            scan = _Scan(text, mark.start(), max_depth)
            is_list_item = text[position : mark.start()].rstrip().endswith("[")
            if is_list_item or not scan.run():
                return None
            if scan.end is None:
                return choice or (_Choice(scan, scan.start, 0) if scan.has_complete_values else None)
            first_start, num_complete = (choice.first_start, choice.num_complete) if choice else (scan.start, 0)
            choice, position = _Choice(scan, first_start, num_complete + 1), scan.end
    return choice


def _has_words(text: str) -> bool:
    return bool(text.replace(f"{FENCE}json", "").replace(FENCE, "").strip())


def _path(around: list[_Open]) -> str:
    """Where a member is, such as drugs[2].dose; "?" for a key that is not complete."""
    steps = (
        f"[{opened.place}]" if isinstance(opened.place, int) else f".{'?' if opened.place is None else opened.place}"
        for opened in around
    )
    return "".join(steps).removeprefix(".").encode(errors="replace").decode()
