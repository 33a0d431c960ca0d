"""Places in an answer: a key, an item of a list, a cell of a table's row. Votes, probabilities and checks are by place.

A place is the steps from the answer's top: ("drug",), ("allergies", 1), ("medications", 0, "dose"). In lines for people
it reads `drug`, `allergies[1]`, `medications[0].dose`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rewards.schema import FieldSpec, Schema
from rewards.types import Leaf
from rewards.values import Scalar, is_left_out, is_scalar

Place = tuple[str | int, ...]


class Value(NamedTuple):
    """A scalar of an answer, where it stands, and what its schema says of it."""

    place: Place
    value: Scalar
    spec: FieldSpec


def values_of(schema: Schema, answer: Mapping[str, Any]) -> Iterator[Value]:
    """Every value of an answer that is where the schema has one, in the order of the schema."""
    for spec in schema.fields:
        value = answer.get(spec.key)
        if spec.columns:
            for index, row in enumerate(value if isinstance(value, list) else []):
                if isinstance(row, Mapping):
                    for column in spec.columns:
                        yield from _values(column, (spec.key, index, column.key), row.get(column.key))
        else:
            yield from _values(spec, (spec.key,), value)


def _values(spec: FieldSpec, place: Place, value: Any) -> Iterator[Value]:
    if spec.many:
        items = list(enumerate(value)) if isinstance(value, list) else []
        yield from (
            Value((*place, index), item, spec) for index, item in items if is_scalar(item) and not is_left_out(item)
        )
    elif is_scalar(value) and not is_left_out(value):
        yield Value(place, value, spec)


def well_shaped(schema: Schema, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What of an answer has the schema's shape, so that other answers can be compared with it as with a truth."""
    kept: dict[str, Any] = {}
    for spec in schema.fields:
        value = answer.get(spec.key)
        if spec.columns:
            rows = value if isinstance(value, list) else []
            kept[spec.key] = [_row(spec, row) if isinstance(row, Mapping) else {} for row in rows]
        else:
            kept[spec.key] = _in_shape(spec, value)
    return kept


def _row(spec: FieldSpec, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.key: _in_shape(column, row.get(column.key)) for column in spec.columns}


def _in_shape(spec: FieldSpec, value: Any) -> Any:
    if spec.many:
        return [item if is_scalar(item) else None for item in value] if isinstance(value, list) else []
    return value if is_scalar(value) else None


def place_of(leaf: Leaf, schema: Schema) -> Place | None:
    """Where a leaf stands in the answer that was the truth of a comparison; None for one that is not in it."""
    if leaf.true is None or leaf.position is None:
        return None
    if leaf.key in schema.keys:
        return (leaf.key, *leaf.position)
    row, *items = leaf.position
    key = next(spec.key for spec in schema.fields if spec.columns and leaf.key.startswith(f"{spec.key}."))
    return (key, row, leaf.key.removeprefix(f"{key}."), *items)


def in_words(place: Place) -> str:
    """A place as people write it: medications[0].dose."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return "".join(steps).removeprefix(".")


def nested(found: Mapping[Place, Any]) -> dict[str, Any]:
    """What was found by place, in the shape of the answer: objects and lists. Holes of lists are None."""
    top: dict[str, Any] = {}
    for place, value in found.items():
        _put(top, place, value)
    return top


def _put(container: Any, place: Place, value: Any) -> None:
    step, *rest = place
    if isinstance(step, int):
        container.extend([None] * (step + 1 - len(container)))
    if not rest:
        container[step] = value
        return
    inner = container[step] if isinstance(step, int) else container.get(step)
    if inner is None:
        inner = container[step] = [] if isinstance(rest[0], int) else {}
    _put(inner, tuple(rest), value)
