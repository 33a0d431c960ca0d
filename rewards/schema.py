"""What a document type must yield: its keys, what each one means, its kind and its weight.

A schema is a YAML file of `conf/schemas/`:

    name: lab_slip
    document_type: laboratory slip
    description: One page with a patient's laboratory results.
    keys:
      - {key: patient, description: full name of the patient, kind: person_name}
      - {key: taken_on, description: day of sampling, kind: date, date_order: dmy}
      - key: results
        description: one row per measured value
        kind: table
        row_keys: [test]
        columns:
          - {key: test, description: name of the test, kind: text}
          - {key: value, description: result with its unit, kind: quantity, weight: 2.0}
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import yaml  # type: ignore[import-untyped,unused-ignore]

from rewards.dates import DateOrder
from rewards.kinds import Comparison, comparison, parse_value
from rewards.kinds import Kind as Kind
from rewards.numbers import DecimalSign, is_ambiguous, parse_measure, quantities
from rewards.values import Scalar, fold_text, is_left_out, is_scalar

KINDS: tuple[str, ...] = get_args(Kind)
DATE_ORDERS: tuple[str, ...] = get_args(DateOrder)
DECIMAL_SIGNS: tuple[str, ...] = get_args(DecimalSign)

_OPTION_KINDS: dict[str, tuple[str, ...]] = {
    "date_order": ("date", "datetime"),
    "case_sensitive": ("text", "free_text", "person_name", "code", "enum"),
    "ignore_blanks": ("text", "free_text", "person_name"),
    "decimal": ("number", "quantity"),
    "convert_units": ("quantity",),
    "min_similarity": ("free_text",),
}
_SWITCHES = ("many", "case_sensitive", "ignore_blanks", "convert_units")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One key of a document type, or one column of a table.

    `many` is a list of scalars whose order does not matter. A `table` is a list of rows with `columns`; rows are
    matched by their `row_keys` first (all columns count the same where there are none). `weight` is the clinical
    weight of each leaf under the key in the reward; the weight of a table multiplies that of its columns.

    How values are compared, each option for the kinds where it means something: `case_sensitive` for texts, codes and
    enums; `ignore_blanks` for truths printed without blanks; `decimal` says which sign is the decimal one, so that the
    other separates thousands (with "auto" "1,250" and "1.250" are refused in a truth); `convert_units` makes 0.5 g and
    500 mg the same answer; `min_similarity` is the least similarity of free text that earns anything.

    `paraphrases` say the same as `description` in other words; training may ask with one of them.

    Raises ValueError that names the key, what was given and what is allowed.
    """

    key: str
    description: str
    kind: Kind
    weight: float = 1.0
    many: bool = False
    choices: tuple[str, ...] = ()
    columns: tuple["FieldSpec", ...] = ()
    row_keys: tuple[str, ...] = ()
    date_order: DateOrder = "ymd"
    case_sensitive: bool = False
    ignore_blanks: bool = False
    decimal: DecimalSign = "auto"
    convert_units: bool = False
    min_similarity: float = 0.8
    paraphrases: tuple[str, ...] = ()
    comparison: Comparison = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = f"key {self.key!r}"
        for name in ("key", "description"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"{where}: '{name}' must be a text that is not blank, got {getattr(self, name)!r}")
        for text in self.paraphrases:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{where}: each of 'paraphrases' must be a text that is not blank, got {text!r}")
        _check_choice(where, "kind", self.kind, KINDS)
        if not _is_number(self.weight) or self.weight <= 0:
            raise ValueError(f"{where}: 'weight' must be a number above 0, got {self.weight!r}")
        self._check_options(where)
        self._check_choices(where)
        self._check_table(where)
        object.__setattr__(self, "comparison", self._comparison())

    def _comparison(self) -> Comparison:
        texts = self.case_sensitive, self.ignore_blanks
        return comparison(self.kind, self.date_order, self.choices, *texts, self.decimal, self.convert_units)

    def _check_options(self, where: str) -> None:
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{where}: '{name}' must be true or false, got {getattr(self, name)!r}")
        _check_choice(where, "date_order", self.date_order, DATE_ORDERS)
        _check_choice(where, "decimal", self.decimal, DECIMAL_SIGNS)
        if not _is_number(self.min_similarity) or not 0 < self.min_similarity <= 1:
            raise ValueError(
                f"{where}: 'min_similarity' must be a number above 0 and up to 1, got {self.min_similarity!r}"
            )
        defaults = {item.name: item.default for item in fields(self)}
        for name, kinds in _OPTION_KINDS.items():
            if self.kind not in kinds and getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{where}: '{name}' belongs to kind {' or '.join(kinds)}, got {getattr(self, name)!r} with kind "
                    f"{self.kind!r}"
                )

    def _check_choices(self, where: str) -> None:
        if (self.kind == "enum") != bool(self.choices):
            raise ValueError(
                f"{where}: 'choices' belong to kind enum and only there, got kind {self.kind!r} with "
                f"choices {list(self.choices)}"
            )
        read: dict[str, str] = {}
        for choice in self.choices:
            if not isinstance(choice, str):
                raise ValueError(f"{where}: choice {choice!r} is not a text; quote it in the YAML")
            if not choice.strip():
                raise ValueError(f"{where}: choice {choice!r} is blank; no answer could give it")
            same = read.setdefault(fold_text(choice, keep_case=self.case_sensitive), choice)
            if same is not choice:
                raise ValueError(f"{where}: the choices {same!r} and {choice!r} are compared as the same; remove one")

    def _check_table(self, where: str) -> None:
        if (self.kind == "table") != bool(self.columns):
            raise ValueError(
                f"{where}: 'columns' belong to kind table and only there, got kind {self.kind!r} with "
                f"{len(self.columns)} columns"
            )
        if self.kind == "table" and self.many:
            raise ValueError(f"{where}: a table already is a list of rows; remove 'many'")
        for column in self.columns:
            if column.kind == "table":
                raise ValueError(f"{where}: column {column.key!r} must be a value or a list of values, not a table")
        names = [column.key for column in self.columns]
        _check_unique(where, names)
        for row_key in self.row_keys:
            _check_choice(where, "row_keys", row_key, names)

    def restricted(self, columns: Sequence[str]) -> "FieldSpec":
        """This table with some of its columns only; raises ValueError for unknown columns, or for none."""
        if not self.columns:
            raise ValueError(f"key {self.key!r}: only a table has columns, got kind {self.kind!r}")
        for name in columns:
            _check_choice(f"key {self.key!r}", "columns", name, [column.key for column in self.columns])
        return replace(
            self,
            columns=tuple(column for column in self.columns if column.key in columns),
            row_keys=tuple(name for name in self.row_keys if name in columns),
        )

    def leaf_specs(self) -> tuple["FieldSpec", ...]:
        """The specs of the leaves under this key: its columns for a table, else itself."""
        return self.columns or (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The keys of one document type. Raises ValueError for no keys, or for a key given twice."""

    name: str
    document_type: str
    description: str
    fields: tuple[FieldSpec, ...]
    _by_key: dict[str, FieldSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError(f"schema {self.name!r}: it needs at least one key")
        _check_unique(f"schema {self.name!r}", self.keys)
        object.__setattr__(self, "_by_key", {spec.key: spec for spec in self.fields})

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, in the order of the file."""
        return tuple(spec.key for spec in self.fields)

    def field(self, key: str) -> FieldSpec:
        """The spec of `key`; raises KeyError with the nearest key."""
        spec = self._by_key.get(key)
        if spec is None:
            raise KeyError(f"schema {self.name!r} has no key {key!r}{_nearest(key, self.keys)}")
        return spec

    def restricted(self, columns: Mapping[str, Sequence[str]]) -> "Schema":
        """This schema with some of the columns of the tables named in `columns` only.

        Raises KeyError for a key, and ValueError for columns that it does not have.
        """
        specs = {key: self.field(key).restricted(names) for key, names in columns.items()}
        return replace(self, fields=tuple(specs.get(spec.key, spec) for spec in self.fields))

    def validate_annotation(self, annotation: Mapping[str, Any]) -> list[str]:
        """What is wrong with a ground truth, one line each; empty when it fits.

        Keys may be missing, null or empty (the document does not show them). A value must parse as its kind: what does
        not could never be answered right.
        """
        problems: list[str] = []
        for key, value in annotation.items():
            spec = self._by_key.get(key)
            if spec is None:
                problems.append(f"{key}: not a key of schema {self.name!r}{_nearest(str(key), self.keys)}")
            elif not is_left_out(value):
                problems.extend(_value_problems(spec, value, spec.key))
        return problems


def load_schema(path: Path) -> Schema:
    """Read a schema file; raises ValueError naming the file, the key and what was expected."""
    try:
        if not path.is_file():
            raise ValueError("no such schema file; the ones shipped are in conf/schemas/")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    except (OSError, ValueError) as error:  # also a date that is none, as a value in the YAML
        raise ValueError(f"{path}: {error}") from error
    try:
        return schema_of(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def schema_of(content: Any) -> Schema:
    """The schema in what YAML or JSON was read to; raises ValueError naming the key and what was expected."""
    entries = _check_entries("schema", content, ("name", "document_type", "description", "keys"))
    if not isinstance(entries["keys"], list):
        raise ValueError(f"'keys' must be a list of keys, got {type(entries['keys']).__name__}")
    specs = tuple(_field_from(entry, f"keys[{index}]") for index, entry in enumerate(entries["keys"]))
    texts = {name: str(entries[name]) for name in ("name", "document_type", "description")}
    return Schema(fields=specs, **texts)


def _field_from(entry: Any, where: str, *, is_column: bool = False) -> FieldSpec:
    required = tuple(item.name for item in fields(FieldSpec) if item.init and item.default is MISSING)
    known = tuple(item.name for item in fields(FieldSpec) if item.init)
    if isinstance(entry, dict) and "key" in entry:
        where = f"{where} (key {entry['key']!r})"
    attributes = dict(_check_entries(where, entry, required, known))
    for name in ("choices", "columns", "row_keys", "paraphrases"):
        if name in attributes and not isinstance(attributes[name], list):
            raise ValueError(f"{where}: '{name}' must be a list, got {attributes[name]!r}")
    columns = attributes.pop("columns", [])
    if is_column and columns:  # an alias of YAML could nest them without end
        raise ValueError(f"{where}: column {attributes['key']!r} must be a value or a list of values, not a table")
    attributes["columns"] = tuple(
        _field_from(column, f"{where}: columns[{i}]", is_column=True) for i, column in enumerate(columns)
    )
    for name in ("choices", "row_keys", "paraphrases"):
        attributes[name] = tuple(attributes.get(name, ()))
    return FieldSpec(**attributes)


def _check_entries(
    where: str, content: Any, required: Sequence[str], known: Sequence[str] | None = None
) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a mapping with {', '.join(required)}, got {type(content).__name__}")
    names = known or required
    for name in content:
        if name not in names:
            raise ValueError(f"{where}: unknown entry {name!r}{_nearest(str(name), names)}")
    missing = [name for name in required if name not in content]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    return content


def _value_problems(spec: FieldSpec, value: Any, where: str) -> Iterator[str]:
    if spec.kind != "table" and not spec.many:
        yield from _scalar_problems(spec, value, where)
        return
    if not isinstance(value, list | tuple):
        yield f"{where}: expected a list of {'rows' if spec.columns else 'values'}, got {value!r}"
        return
    for index, item in enumerate(value):
        item_where = f"{where}[{index}]"
        if spec.kind != "table":
            yield from _scalar_problems(spec, item, item_where)
        elif not isinstance(item, Mapping):
            yield f"{item_where}: expected a row with {', '.join(column.key for column in spec.columns)}, got {item!r}"
        else:
            yield from _row_problems(spec, item, item_where)


def _row_problems(spec: FieldSpec, row: Mapping[str, Any], where: str) -> Iterator[str]:
    columns = {column.key: column for column in spec.columns}
    for name, value in row.items():
        if name not in columns:
            yield f"{where}.{name}: not a column{_nearest(str(name), tuple(columns))}"
        elif not is_left_out(value):
            yield from _value_problems(columns[name], value, f"{where}.{name}")


def _scalar_problems(spec: FieldSpec, value: Any, where: str) -> Iterator[str]:
    if not is_scalar(value):
        yield f"{where}: expected one {spec.kind}, got {type(value).__name__} {value!r}"
    elif is_left_out(value):
        yield f"{where}: an empty value inside a list; remove it"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value!r} is no number that JSON can hold; remove it"
    elif parse_value(spec.comparison, value) is None:
        hint = {
            "date": f" in the order {spec.date_order}",
            "datetime": f", a day in the order {spec.date_order} with a time",
            "enum": f", one of {list(spec.choices)}",
            "boolean": ", true or false",
            "number": f" with the decimal sign {spec.decimal!r}",
            "quantity": f" with the decimal sign {spec.decimal!r}",
        }.get(spec.kind, "")
        yield f"{where}: {_shortened(value)} does not read as {spec.kind}{hint}"
    elif (
        spec.kind in ("number", "quantity")
        and isinstance(value, str)
        and is_ambiguous(parse_measure(value, spec.decimal))
    ):
        yield (
            f"{where}: {_shortened(value)} can be read two ways, as {_reading(value, 'comma')} and as "
            f"{_reading(value, 'point')}; say `decimal: comma` or `decimal: point` at key {spec.key!r}"
        )


def _reading(value: Scalar, decimal: DecimalSign) -> str:
    numbers = [part.number for part in quantities(parse_measure(value, decimal))]
    return ", ".join(f"{number.normalize():f}" for number in numbers if isinstance(number, Decimal)) or "nothing"


def _shortened(value: Scalar) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_choice(where: str, name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f"{where}: '{name}' must be one of {', '.join(allowed)}, got {value!r}{_nearest(str(value), allowed)}"
        )


def _check_unique(where: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: the name {name!r} is given {names.count(name)} times")


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(map(str, names))}"
