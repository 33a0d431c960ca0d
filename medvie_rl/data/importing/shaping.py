"""Fields as a source has them in the shape of a schema: names matched, lists and rows made, the rest named.

What is already a key of the schema is taken as it is. Then, for the others: objects are opened up (their keys joined by
a point, as `rewards.infer` does), names are replaced as the mapping file says, and a name whose last part is a key is
that key. Where a format names its keys by what is printed (`loose`), names are compared by their words with the keys
and their descriptions. What no schema has is left out and returned by name.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medvie_rl.data.importing.rows import parse_row
from rewards.infer import flatten_fields, infer_schema
from rewards.schema import FieldSpec, Schema
from rewards.values import fold_text, is_left_out, is_scalar

_BETWEEN_WORDS = re.compile(r"[\W_]+")


@dataclass(slots=True)
class Shaped:
    """An annotation of a schema's keys, the names that were left out, and what was done."""

    annotation: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # names of the mapping


def shape_fields(
    schema: Schema, fields: Mapping[str, Any], mapping: Mapping[str, str], *, loose: bool, joined: bool = False
) -> Shaped:
    """`fields` in the shape of `schema`; raises ValueError where two names of the source give the same key."""
    shaped = Shaped()
    own = {target: name for name, target in mapping.items()}
    opened = _opened(schema, fields, mapping)
    matched = _matched(schema, opened, mapping, shaped, loose=loose)
    gathered = _gathered(schema, matched, shaped)
    for key, value in gathered.items():
        if key not in schema.keys:
            if not is_left_out(value) or not loose:
                shaped.ignored.append(own.get(key, key))
            continue
        spec = schema.field(key)
        if joined and not spec.many and isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = " ".join(value)
        shaped.annotation[key] = _fitted(spec, value, shaped, loose=loose, mapping=mapping)
    return shaped


def _opened(schema: Schema, fields: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """The fields with the objects opened up that no key of the schema takes as they are."""
    result: dict[str, Any] = {}
    for key, value in fields.items():
        inside = (*mapping, *schema.keys)
        is_opened = key not in schema.keys or any(name.startswith(f"{key}.") for name in inside)
        if not is_opened or (key in schema.keys and schema.field(key).columns) or not _has_object(value):
            found = {key: value}
        else:
            inferred = infer_schema(key, [{key: value}]) if not is_left_out(value) else None
            found = dict(flatten_fields(inferred, {key: value})) if inferred else {key: None}
        for name, item in found.items():
            if name in result:
                raise ValueError(f"the key {name!r} is given twice, by a point and by an object")
            result[name] = item
    return result


def _has_object(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_has_object, value)))


def _matched(
    schema: Schema, fields: Mapping[str, Any], mapping: Mapping[str, str], shaped: Shaped, *, loose: bool
) -> dict[str, Any]:
    """The fields under the names of the schema where there is one for them."""
    last_parts = Counter(name.rsplit(".", 1)[-1] for name in fields)
    by_words = _keys_by_words(schema) if loose else {}
    result: dict[str, Any] = {}
    origin: dict[str, str] = {}
    tables = {name: target.partition(".")[0] for name, target in mapping.items() if "." in target}
    for name, value in fields.items():
        target, last = name, name.rsplit(".", 1)[-1]
        if name in mapping:
            target = mapping[name]
            shaped.used.add(name)
        elif name in schema.keys:
            pass
        elif isinstance(value, list) and (whole := _table_of(name, tables)):
            target = whole
        elif last != name and last in schema.keys and last_parts[last] == 1 and last not in fields:
            target = last
            shaped.notes.append(f"{name!r} taken for the key {last!r}")
        elif (key := by_words.get(_words(name))) and key not in fields:
            target = key
            shaped.notes.append(f"{name!r} taken for the key {key!r}")
        if target in result:
            raise ValueError(f"{origin[target]!r} and {name!r} both give the key {target!r}; map one of them")
        result[target], origin[target] = value, name
    return result


def _table_of(name: str, tables: Mapping[str, str]) -> str:
    """The table of the schema that the mapping gives to the columns of `name`."""
    found = {table for column, table in tables.items() if column.startswith(f"{name}.")}
    return found.pop() if len(found) == 1 else ""


def _keys_by_words(schema: Schema) -> dict[str, str]:
    keys: dict[str, str] = {}
    for spec in schema.fields:
        for text in (spec.key, spec.description):
            keys.setdefault(_words(text), spec.key)
    return keys


def _words(text: str) -> str:
    return _BETWEEN_WORDS.sub(" ", fold_text(text)).strip()


def _gathered(schema: Schema, fields: Mapping[str, Any], shaped: Shaped) -> dict[str, Any]:
    """Single cells named "table.column" as the one row of that table: a source may write one row as an object."""
    result: dict[str, Any] = {}
    for name, value in fields.items():
        table, point, column = name.partition(".")
        if point and name not in schema.keys and table in schema.keys and schema.field(table).columns:
            rows = result.setdefault(table, [{}])
            if len(rows) != 1:
                raise ValueError(f"{table}: it is given as rows and as {name!r}; give it one way")
            rows[0][column] = value
        elif name in result:
            raise ValueError(f"{name}: it is given as rows and by its columns; give it one way")
        else:
            result[name] = value
    return result


def _fitted(spec: FieldSpec, value: Any, shaped: Shaped, *, loose: bool, mapping: Mapping[str, str]) -> Any:
    if spec.columns:
        rows = [value] if isinstance(value, Mapping) else value
        if not isinstance(rows, list):
            rows = [rows] if loose and isinstance(rows, str) and rows else rows
        if not isinstance(rows, list):
            return rows
        return [_row(spec, row, shaped, loose=loose, mapping=mapping) for row in rows]
    if spec.many and is_scalar(value) and not is_left_out(value):
        shaped.notes.append(f"{spec.key}: one value made a list of one")
        return [value]
    if loose and not spec.many and isinstance(value, list) and len(value) <= 1:
        return value[0] if value else None
    return value


def _row(table: FieldSpec, row: Any, shaped: Shaped, *, loose: bool, mapping: Mapping[str, str]) -> Any:
    if loose and isinstance(row, str):
        return parse_row(table, row)
    if not isinstance(row, Mapping):
        return row
    columns = {column.key: column for column in table.columns}
    result = {}
    for name, value in row.items():
        column = name
        for source, target in mapping.items():
            if target.startswith(f"{table.key}.") and source.rsplit(".", 1)[-1] == name:
                column = target.partition(".")[2]
                shaped.used.add(source)
        if column in columns:
            result[column] = _fitted(columns[column], value, shaped, loose=loose, mapping=mapping)
        elif not is_left_out(value):
            shaped.ignored.append(f"{table.key}.{name}")
    return result
