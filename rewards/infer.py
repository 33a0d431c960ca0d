"""A schema for documents that have none: keys, tables and lists as the annotations show them, compared strictly.

Any JSON object is brought into the shape that a schema describes (`flatten_fields`, for truth and answers alike):

- the keys of nested objects are joined by a point: {"patient": {"name": 1}} has the key "patient.name";
- a list is a list of values; lists inside it are joined to it;
- a list with an object in it is a table; a value beside the objects is a row with the one column "(item)";
- a list in a cell is a list of values; objects in a cell are joined to the row by a point, those in a list in a cell
  give a list for each of their keys;
- an empty name of a key becomes "(no name)".

No value is lost on the way. Where annotations differ in shape, the widest counts: a key that is a table in one of them
is one everywhere, a key that is a list in one of them is a list everywhere, and single values are wrapped.

Kinds are `number` and `boolean` where every value is one, else `text`. Long texts are `text` too: that texts which are
merely close earn something is a choice which only a schema of the user can make (kind `free_text`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from rewards.parsing import JsonObject
from rewards.schema import FieldSpec, Kind, Schema
from rewards.values import is_left_out, is_scalar, leaf_values, repeated_keys

ITEM = "(item)"  # the column of a plain value among the rows of a table
NO_NAME = "(no name)"

_Pair = tuple[str, Any]


def infer_schema(name: str, truths: Sequence[Mapping[str, Any]]) -> Schema:
    """The schema that `truths` of one document type follow; raises ValueError if they have no key at all.

    Every truth fits it once `flatten_fields` has been applied.
    """
    tables = {key for truth in truths for key in _table_keys(truth)}
    keys: dict[str, _Observed] = {}
    for truth in truths:
        for key, value in _top_pairs(truth, tables):
            keys.setdefault(key, _Observed(is_table=key in tables)).add(value)
    specs = [
        observed.spec(key)
        for key, observed in keys.items()
        if observed.has_values or not any(other.startswith(f"{key}.") for other in keys)
    ]
    if not specs:
        raise ValueError(f"{name}: no document has any key, so there is nothing to infer a schema from; give one")
    leaf_keys = Counter(leaf_key for spec in specs for leaf_key in _leaf_keys(spec))
    for leaf_key, num in leaf_keys.items():
        if num > 1:
            raise ValueError(f"{name}: both a key and a column of a table are called {leaf_key!r}; give a schema")
    text = f"inferred from {len(truths)} documents"
    return Schema(name=name, document_type=name, description=text, fields=tuple(specs))


def flatten_fields(schema: Schema, fields: Mapping[str, Any]) -> JsonObject:
    """`fields` in the shape of an inferred `schema` (see the module); never raises for JSON of sensible depth.

    Keys given again, also by way of a point ({"a.b": 1, "a": {"b": 2}}), are `repeated` in the result, as they are in a
    parsed response.
    """
    specs = {spec.key: spec for spec in schema.fields}
    tables = {spec.key for spec in schema.fields if spec.columns}
    pairs = [(key, value) for key, value in _top_pairs(fields, tables) if key in specs or not is_left_out(value)]
    return JsonObject.from_pairs([(key, _shaped(specs.get(key), value)) for key, value in pairs])


@dataclass(slots=True)
class _Observed:
    """What the annotations show under one key, or in one column."""

    is_table: bool = False
    is_list: bool = False
    values: list[Any] = field(default_factory=list)
    columns: dict[str, "_Observed"] = field(default_factory=dict)

    @property
    def has_values(self) -> bool:
        return bool(self.values or self.columns)

    def add(self, value: Any) -> None:
        if self.is_table:
            for row in _table_rows(value):
                for name, cell in _all_items(row):
                    self.columns.setdefault(name, _Observed()).add(cell)
            return
        self.is_list |= isinstance(value, list)
        self.values += leaf_values(value)

    def spec(self, key: str) -> FieldSpec:
        if self.columns:
            columns = tuple(observed.spec(name) for name, observed in self.columns.items())
            return FieldSpec(key=key, description=key, kind="table", columns=columns)
        return FieldSpec(key=key, description=key, kind=self._kind(), many=self.is_list)

    def _kind(self) -> Kind:
        if self.values and all(isinstance(value, bool) for value in self.values):
            return "boolean"
        return "number" if self.values and all(map(_is_number, self.values)) else "text"


def _table_keys(fields: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in fields.items():
        name = f"{prefix}{_named(key)}"
        if isinstance(value, Mapping):
            yield from _table_keys(value, f"{name}.")
        elif any(isinstance(item, Mapping) and not is_left_out(item) for item in _items(value)):
            yield name


def _top_pairs(fields: Mapping[str, Any], tables: Set[str]) -> Iterator[_Pair]:
    for key, value in _all_items(fields):
        yield from _pairs(_named(key), value, tables)


def _pairs(name: str, value: Any, tables: Set[str]) -> Iterator[_Pair]:
    """The flat keys under `name`: an object is opened up unless it is the row of a table."""
    if not isinstance(value, Mapping) or name in tables:
        yield name, value
        return
    for key, item in _all_items(value):
        yield from _pairs(f"{name}.{_named(key)}", item, tables)


def _shaped(spec: FieldSpec | None, value: Any) -> Any:
    if spec is not None and spec.columns:
        many = {column.key for column in spec.columns if column.many}
        return [
            JsonObject.from_pairs([(name, _listed(cell) if name in many else cell) for name, cell in _all_items(row)])
            for row in _table_rows(value)
        ]
    if isinstance(value, list | tuple):
        return _present_items(value)
    return _listed(value) if spec is not None and spec.many else value


def _listed(value: Any) -> Any:
    return [value] if is_scalar(value) and not is_left_out(value) else value


def _table_rows(value: Any) -> list[JsonObject]:
    return [
        JsonObject.from_pairs(list(_cells(item)) if isinstance(item, Mapping) else [(ITEM, item)])
        for item in _present_items(value)
    ]


def _cells(row: Mapping[str, Any], prefix: str = "") -> Iterator[_Pair]:
    """The flat cells of a row; the cells of objects in a list come as one list for each of their keys."""
    for key, value in _all_items(row):
        name = f"{prefix}{_named(key)}"
        if isinstance(value, Mapping):
            yield from _cells(value, f"{name}.")
        elif isinstance(value, list | tuple):
            lists: dict[str, list[Any]] = defaultdict(list)
            for item in _present_items(value):
                for inner, cell in _cells(item, f"{name}.") if isinstance(item, Mapping) else [(name, item)]:
                    lists[inner] += leaf_values(cell)
            yield from lists.items()
        else:
            yield name, value


def _present_items(value: Any) -> list[Any]:
    return [item for item in _items(value) if not is_left_out(item)]


def _items(value: Any) -> Iterator[Any]:
    """The items of a list with the lists in it joined; any other value is its own only item."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items(item)
    else:
        yield value


def _all_items(fields: Mapping[str, Any]) -> list[_Pair]:
    return [*fields.items(), *repeated_keys(fields)]


def _leaf_keys(spec: FieldSpec) -> list[str]:
    return [f"{spec.key}.{column.key}" for column in spec.columns] or [spec.key]


def _is_number(value: Any) -> bool:
    """Whether `value` is a number of everyday size; the numerals of others are compared as they are written."""
    is_numeral = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeral and (value == 0 or 1e-9 < abs(value) < 1e15)


def _named(key: str) -> str:
    return key if key.strip() else NO_NAME
