"""Makes annotations wrong on purpose, as tired annotators do: a wrong digit, rows swapped, a value forgotten.

How much a reward that trusts the annotations suffers from that is measured on documents whose truth is known.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rewards.schema import Schema
from rewards.values import is_left_out

Place = tuple[Any, ...]  # keys and list positions that lead to a value
_MISSING = "missing"
_ATTEMPTS = 20


def noisy_annotation(
    annotation: Mapping[str, Any], schema: Schema, *, share: float, kinds: Sequence[str], rng: random.Random
) -> dict[str, Any]:
    """A copy of an annotation in which each value is made wrong with probability `share`, in one of the ways `kinds`.

    A way that a value does not have (a digit of a name, a row beside it) leaves it to the others; a value that has none
    of them stays. What comes out fits the schema if what went in does. Raises ValueError for an unknown kind.
    """
    unknown = sorted(set(kinds) - set(NOISE_KINDS))
    if unknown:
        raise ValueError(f"no kind of label noise {unknown[0]!r}; there are {', '.join(NOISE_KINDS)}")
    noisy = copy.deepcopy(dict(annotation))
    chosen = [place for place in _places(noisy) if rng.random() < share]
    forgotten = []
    for place in chosen:
        for kind in rng.sample(list(kinds), len(kinds)):
            if kind == _MISSING:
                forgotten.append(place)  # at the end, so that no other place moves
                break
            if _CHANGES[kind](noisy, place, schema, rng):
                break
    for place in reversed(forgotten):  # from the end of a list on
        del _get(noisy, place[:-1])[place[-1]]
    return noisy


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values, in their order."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _places(item, (*place, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _places(item, (*place, index))
    elif not is_left_out(value):
        yield place


def _wrong_digit(noisy: dict[str, Any], place: Place, schema: Schema, rng: random.Random) -> bool:
    """One digit becomes another one, so that the value still reads as its kind."""
    old = _get(noisy, place)
    text = str(old)
    digits = [index for index, sign in enumerate(text) if sign in "0123456789"]
    if isinstance(old, bool) or not digits:
        return False
    for _ in range(_ATTEMPTS):
        index = rng.choice(digits)
        other = rng.choice([sign for sign in "0123456789" if sign != text[index]])
        changed = text[:index] + other + text[index + 1 :]
        _set(noisy, place, changed if isinstance(old, str) else type(old)(changed))
        if _fits(noisy, place, schema):
            return True
    _set(noisy, place, old)
    return False


def _swapped(noisy: dict[str, Any], place: Place, schema: Schema, rng: random.Random) -> bool:
    """A cell changes places with the same column's of another row; a plain value with another key's of its kind."""
    own = _get(noisy, place)
    others = [other for other in _partners(noisy, place, schema) if str(_get(noisy, other)) != str(own)]
    if not others:
        return False
    other = rng.choice(others)
    _set(noisy, place, _get(noisy, other))
    _set(noisy, other, own)
    if _fits(noisy, place, schema) and _fits(noisy, other, schema):
        return True
    _set(noisy, other, _get(noisy, place))
    _set(noisy, place, own)
    return False


def _partners(noisy: Mapping[str, Any], place: Place, schema: Schema) -> list[Place]:
    key = place[0]
    if len(place) == 3:  # a cell: key, row, column
        cells = [(row, cells.get(place[2])) for row, cells in enumerate(noisy[key])]
        return [(key, row, place[2]) for row, cell in cells if row != place[1] and not is_left_out(cell)]
    if len(place) > 1:
        return []
    return [
        (spec.key,)
        for spec in schema.fields
        if spec.key != key and spec.kind == schema.field(key).kind and not spec.many
        and not is_left_out(noisy.get(spec.key)) and spec.kind != "table"
    ]  # fmt: skip


def _fits(noisy: Mapping[str, Any], place: Place, schema: Schema) -> bool:
    return not schema.validate_annotation({place[0]: noisy[place[0]]})


def _get(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _set(noisy: dict[str, Any], place: Place, value: Any) -> None:
    _get(noisy, place[:-1])[place[-1]] = value


_CHANGES: Mapping[str, Callable[[dict[str, Any], Place, Schema, random.Random], bool]] = {
    "digit": _wrong_digit,
    "swapped": _swapped,
}
NOISE_KINDS = (*_CHANGES, _MISSING)
