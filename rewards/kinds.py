"""The kinds of values and how each is read: one canonical form per value, so that equal forms are equal answers."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal

from rewards.dates import DateOrder, read_day, read_moment, read_time
from rewards.numbers import Compound, DecimalSign, Measure, Quantity, parse_measure, quantities
from rewards.units import read_unit
from rewards.values import Scalar, fold_text

Kind = Literal[
    "text", "free_text", "person_name", "code", "enum", "boolean",
    "number", "quantity", "date", "time", "datetime", "table",
]  # fmt: skip

_MAX_SHORT = 300  # characters
_LONG_KINDS = frozenset(("text", "free_text", "person_name", "code"))  # a longer value of another kind is unreadable
# A blank counts between two letters and inside numbers: "16 MG" is "16MG", "1 2" is not "12", nor "1. 5" "1.5".
_NO_NUMBERS = r"(?!(?<=\d )[.,]? ?\d)(?!(?<=\d[.,] )\d)(?![.,]\d)"
_IDLE_BLANK = re.compile(rf" (?!(?<=[^\W\d_] )[^\W\d_]){_NO_NUMBERS}")
_IGNORED_BLANK = re.compile(rf" {_NO_NUMBERS}")
_CATEGORY = re.compile(r"^([a-z][0-9][0-9a-z])\.", re.IGNORECASE)  # of ICD-10: only there a dot says nothing
_BOOLEAN_SPELLINGS = {
    True: "true yes y t 1 ja j oui si sí sì sim có x [x] (x) √ ✓ ✔ ☑ ☒ 是 有",
    False: "false no n f 0 nein non não nao không [] ☐ □ 否 无 無",
}
_BOOLEANS = {spelling: truth for truth, spellings in _BOOLEAN_SPELLINGS.items() for spelling in spellings.split()}


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How the values of a key are compared; the options are those of `rewards.schema.FieldSpec`.

    Compared and hashed by identity: `comparison` gives the same object for the same options, in every process.
    """

    kind: Kind
    date_order: DateOrder
    choices: tuple[str, ...]
    case_sensitive: bool
    ignore_blanks: bool
    decimal: DecimalSign
    convert_units: bool
    folded_choices: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folded = frozenset(fold_text(choice, keep_case=self.case_sensitive) for choice in self.choices)
        object.__setattr__(self, "folded_choices", folded)

    def __reduce__(self) -> tuple[Callable[..., "Comparison"], tuple[Any, ...]]:
        options = self.case_sensitive, self.ignore_blanks, self.decimal, self.convert_units
        return comparison, (self.kind, self.date_order, self.choices, *options)


@cache
def comparison(
    kind: Kind,
    date_order: DateOrder,
    choices: tuple[str, ...],
    case_sensitive: bool,
    ignore_blanks: bool,
    decimal: DecimalSign,
    convert_units: bool,
) -> Comparison:
    """The one `Comparison` with these options; they come from schemas, so that there are few."""
    return Comparison(kind, date_order, choices, case_sensitive, ignore_blanks, decimal, convert_units)


def canonical_form(how: Comparison, value: Scalar) -> Hashable:
    """`parse_value`; for what does not parse, a form that equals only the same text read the same way."""
    if isinstance(value, str) and len(value) > _MAX_SHORT:
        return _long_form(how, value)
    return _short_form(how, value)


def parse_value(how: Comparison, value: Scalar) -> Hashable | None:
    """The canonical form of `value` read strictly as its kind; None where it does not read as that kind."""
    if isinstance(value, str) and len(value) > _MAX_SHORT and how.kind not in _LONG_KINDS:
        return None
    return _READERS[how.kind](how, value)


def _canonical_form(how: Comparison, value: Scalar) -> Hashable:
    form = parse_value(how, value)
    return ("unreadable", fold_text(value)) if form is None else form


# Typed, since 1, 1.0 and True are different answers. A long text may fold to many times its length: few are kept.
_short_form = lru_cache(maxsize=65_536, typed=True)(_canonical_form)
_long_form = lru_cache(maxsize=8)(_canonical_form)


def _read_text(how: Comparison, value: Scalar) -> str | None:
    folded = fold_text(value, keep_case=how.case_sensitive)
    return (_IGNORED_BLANK if how.ignore_blanks else _IDLE_BLANK).sub("", folded) or None


def _read_name(how: Comparison, value: Scalar) -> str | None:
    folded = fold_text(value, keep_case=how.case_sensitive)
    return (_IGNORED_BLANK.sub("", folded) if how.ignore_blanks else folded) or None


def _read_code(how: Comparison, value: Scalar) -> str | None:
    code = plain_code(fold_text(value, keep_case=how.case_sensitive))
    return code if code.strip(".") else None


def plain_code(folded: str) -> str:
    """A folded code without blanks, and without the dot of ICD-10: "E11.9" is "e119", "98.5" is not "9.85"."""
    return _CATEGORY.sub(r"\1", folded.replace(" ", ""))


def _read_choice(how: Comparison, value: Scalar) -> str | None:
    folded = fold_text(value, keep_case=how.case_sensitive)
    return folded if folded in how.folded_choices else None


def _read_boolean(how: Comparison, value: Scalar) -> bool | None:
    return _BOOLEANS.get(fold_text(value).replace("[ ]", "[]"))


def _read_number(how: Comparison, value: Scalar) -> Measure | None:
    measure = parse_measure(value, how.decimal)
    return None if any(part.unit for part in quantities(measure)) else measure


def _read_quantity(how: Comparison, value: Scalar) -> Hashable | None:
    measure = parse_measure(value, how.decimal)
    if not how.convert_units or measure is None or isinstance(measure, str):
        return measure
    joiner = measure.joiner if isinstance(measure, Compound) else ""
    return joiner, tuple(map(_in_base_units, quantities(measure)))


def _in_base_units(quantity: Quantity) -> Hashable:
    if isinstance(quantity.number, str):
        return quantity
    size, dimension = read_unit(quantity.unit)[1:]
    return quantity.comparator, Fraction(quantity.number) * size, dimension


# A table has no values of its own, only its columns have.
_READERS: dict[str, Callable[[Comparison, Scalar], Hashable | None]] = {
    "text": _read_text,
    "free_text": _read_text,
    "person_name": _read_name,
    "code": _read_code,
    "enum": _read_choice,
    "boolean": _read_boolean,
    "number": _read_number,
    "quantity": _read_quantity,
    "date": lambda how, value: read_day(fold_text(value), how.date_order),
    "time": lambda how, value: read_time(fold_text(value)),
    "datetime": lambda how, value: read_moment(fold_text(value), how.date_order),
}
