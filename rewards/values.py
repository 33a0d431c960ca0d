"""Reads scalar values as their kind: one canonical form per value, so that equal forms mean equal values.

Everything starts from `fold_text`: Unicode NFKC, letter case, digits of any script, dashes, blanks. Nothing here
depends on the machine's locale, and no input raises.
"""

import re
import unicodedata
from collections.abc import Hashable, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

DateOrder = Literal["ymd", "dmy", "mdy"]
Scalar = str | int | float | bool

_MAX_READABLE = 200  # characters; a longer text is no number, quantity or date
_MAX_DIGITS = 40

_SUPERSCRIPTS = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_FOLDS = str.maketrans({**dict.fromkeys("‐‑‒–—−", "-"), "’": "'", "‘": "'", "“": '"', "”": '"'})
# A blank means something between two letters and between two digits only: "16 MG" is "16MG", "1 2" is not "12".
_IDLE_BLANK = re.compile(r" (?!(?<=[^\W\d_] )[^\W\d_])(?!(?<=\d )\d)")

_NUMBER = r"[+-]?(?:[0-9]+(?:[.,'][0-9]+)*+|[.,][0-9]+)(?:e[+-]?[0-9]{1,2}(?![0-9a-z]))?"
_COMPARATOR = r"[<>≤≥~]=?"
_MEASURE = re.compile(rf"({_COMPARATOR})? ?({_NUMBER}) ?(.*)", re.DOTALL)
FREE_NUMBER = re.compile(rf"(?<![0-9a-z]){_NUMBER}")

_DATE_BREAKS = re.compile(r"[-/.,\s年月日]+")
_DATE_FILLERS = frozenset(("ngày", "tháng", "năm", "de", "del", "of", "the", "le", "den"))
_ORDINAL = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th|er|º|ª)")
_MONTH_NAMES = """
january jan enero ene janvier janv januar janeiro gennaio
february feb febrero février fevrier févr februar fevereiro fev febbraio
march mar marzo mars märz marz mrz março marco
april apr abril abr avril avr aprile
may mayo mai maio maggio
june jun junio juin juni junho giugno
july jul julio juillet juil juli julho luglio
august aug agosto ago août aout
september sep sept septiembre septembre setembro settembre
october oct octubre octobre oktober okt outubro ottobre
november nov noviembre novembre novembro
december dec diciembre dic décembre decembre déc dezember dez dezembro dicembre
"""
_MONTHS = {name: 1 + i for i, names in enumerate(_MONTH_NAMES.strip().splitlines()) for name in names.split()}

_UNIT_SPELLINGS = """
kg kilogram kilograms kilo kilos
g gram grams gramme grammes gm
mg milligram milligrams milligramme milligrammes
μg ug mcg microgram micrograms microgramme microgrammes
ng nanogram nanograms
l liter liters litre litres
dl deciliter deciliters decilitre decilitres
ml milliliter milliliters millilitre millilitres cc
μl ul microliter microliters microlitre microlitres
μmol umol
iu ui
m meter meters metre metres
cm centimeter centimeters centimetre centimetres
mm millimeter millimeters millimetre millimetres
s sec second seconds
min mins minute minutes
h hr hrs hour hours
day days d
week weeks wk wks
month months
year years yr yrs y yo
tablet tablets tab tabs
capsule capsules cap caps
drop drops
°c degc celsius
bpm beats/min
% percent
"""
_UNITS = {spelling: line.split()[0] for line in _UNIT_SPELLINGS.strip().splitlines() for spelling in line.split()}


class Quantity(NamedTuple):
    """A number with its unit in canonical spelling; `comparator` is one of < > ≤ ≥ ~ or empty."""

    comparator: str
    number: Decimal
    unit: str


def is_scalar(value: object) -> bool:
    """Whether `value` is one JSON value other than null."""
    return isinstance(value, str | int | float | bool)


def is_left_out(value: object) -> bool:
    """Whether `value` says nothing: null, a blank text, or a list or object of only such values.

    A placeholder such as "n/a", "none" or "-" is not left out: it is an answer, and wrong where the key is absent.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(map(is_left_out, value.values())) and all(is_left_out(item) for _, item in repeated_keys(value))
    if isinstance(value, list | tuple):
        return all(map(is_left_out, value))
    return False


def repeated_keys(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The second and later occurrences of keys in a parsed JSON object (see `rewards.parsing.JsonObject`)."""
    return getattr(value, "repeated", [])


def leaf_values(value: object) -> list[Scalar]:
    """Every scalar anywhere inside `value` that is not left out."""
    if isinstance(value, Mapping):
        items = [*value.values(), *(item for _, item in repeated_keys(value))]
        return [leaf for item in items for leaf in leaf_values(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaf_values(item)]
    return [] if is_left_out(value) or not isinstance(value, str | int | float | bool) else [value]


def fold_text(value: Scalar) -> str:
    """`value` as text in NFKC and lower case, with plain digits and dashes, and single blanks."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else repr(value)
    if not text.isascii():
        text = _SUPERSCRIPTS.sub(lambda match: "^" + match[0], text)  # NFKC alone would turn 10⁹ into 109
        text = unicodedata.normalize("NFKC", text).translate(_FOLDS)
        text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.lower().split())


def parse_value(kind: str, value: Scalar, *, date_order: DateOrder, choices: tuple[str, ...]) -> Hashable | None:
    """The canonical form of `value` read strictly as `kind`; None where it does not read as that kind."""
    if kind == "number":
        return parse_number(value)
    if kind == "quantity":
        return parse_quantity(value)
    if kind == "date":
        return parse_date(value, date_order)
    if kind == "enum":
        folded = fold_text(value)
        return folded if folded in map(fold_text, choices) else None
    if kind == "code":
        return re.sub(r"[\s.]+", "", fold_text(value)) or None
    if kind == "person_name":
        return fold_text(value)
    return _IDLE_BLANK.sub("", fold_text(value))


def canonical(kind: str, value: Scalar, date_order: DateOrder, choices: tuple[str, ...]) -> Hashable:
    """`parse_value`, and for what does not parse a form that equals only the same text read the same way."""
    parsed = parse_value(kind, value, date_order=date_order, choices=choices)
    return ("unreadable", fold_text(value)) if parsed is None else parsed


cached_canonical = lru_cache(maxsize=65_536, typed=True)(canonical)  # typed: 1, 1.0 and True are different answers


def parse_number(value: Scalar) -> Quantity | None:
    """A plain number, with a comparator perhaps ("<0.01"); None with any word around it."""
    quantity = parse_quantity(value)
    return quantity if quantity and not quantity.unit else None


def parse_quantity(value: Scalar) -> Quantity | None:
    """A number and its unit; the unit is empty where none is given."""
    text = fold_text(value)
    match = _MEASURE.fullmatch(text) if len(text) <= _MAX_READABLE and not isinstance(value, bool) else None
    number = parse_decimal(match[2]) if match else None
    if match is None or number is None:
        return None
    comparator = (match[1] or "").replace("<=", "≤").replace(">=", "≥")
    return Quantity(comparator, number, canonical_unit(match[3]))


def parse_decimal(text: str) -> Decimal | None:
    """A folded numeral; a lone comma or point is the decimal one, so "1,234" is 1.234.

    With both signs, or one sign repeated, the groups before the last (or all) must be thousands: "1.234,5" and
    "1,234,567".
    """
    mantissa, _, exponent = text.partition("e")
    signs = re.findall(r"[.,']", mantissa)
    if len(text) > _MAX_DIGITS:
        return None
    if len(signs) > 1 or signs == ["'"]:
        decimal_sign = signs[-1] if signs.count(signs[-1]) == 1 and signs[-1] != "'" else ""
        whole, _, fraction = mantissa.rpartition(decimal_sign) if decimal_sign else (mantissa, "", "")
        if len(set(signs) - {decimal_sign}) != 1 or not re.fullmatch(r"[+-]?[0-9]{1,3}(?:[.,'][0-9]{3})+", whole):
            return None
        mantissa = re.sub(r"[.,']", "", whole) + (f".{fraction}" if decimal_sign else "")
    return Decimal(mantissa.replace(",", ".") + (f"e{exponent}" if exponent else ""))


def canonical_unit(text: str) -> str:
    """One spelling per unit of a folded text: "MCG", "µg" and "microgram" are one; "mg" and "g" are not."""
    unit = re.sub(r"\bper\b", "/", text)
    unit = re.sub(r"^[x×*·] ?(?=10[\^*])", "", unit)
    unit = re.sub(r"[\s]+|(?<=[^\W\d])\.", "", unit).replace("*", "^")
    if unit in _UNITS:
        return _UNITS[unit]
    return "/".join(_UNITS.get(part, part) for part in unit.split("/"))


def date_tokens(value: Scalar) -> list[str]:
    """The parts of a date, month names already as numbers marked by a leading "M"."""
    text = fold_text(value)
    if len(text) > _MAX_READABLE or isinstance(value, bool):
        return []
    tokens = [token for token in _DATE_BREAKS.split(text) if token and token not in _DATE_FILLERS]
    tokens = [match[1] if (match := _ORDINAL.fullmatch(token)) else token for token in tokens]
    return [f"M{_MONTHS[token]}" if token in _MONTHS else token for token in tokens]


def parse_date(value: Scalar, order: DateOrder) -> date | None:
    """A calendar day with a four-digit year, its parts in `order`, separated by - / . , or blanks."""
    tokens = date_tokens(value)
    return read_date(tokens, order) if len(tokens) == 3 and len(tokens[order.index("y")]) == 4 else None


def read_date(tokens: list[str], order: DateOrder) -> date | None:
    """The day that three tokens mean in `order`; a two-digit year stays below 100."""
    parts = dict(zip(order, tokens, strict=True))
    month = parts["m"].removeprefix("M")
    numbers = (parts["y"], month, parts["d"])
    if not all(part.isascii() and part.isdecimal() and len(part) <= 4 for part in numbers):
        return None
    try:
        return date(*map(int, numbers))
    except ValueError:  # no such day
        return None
