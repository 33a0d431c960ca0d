"""Decides whether an answered value is right, and whether a wrong one is the right information written differently."""

import re
from collections.abc import Hashable
from decimal import Decimal
from functools import lru_cache

from rewards.schema import FieldSpec
from rewards.values import (
    FREE_NUMBER,
    DateOrder,
    Quantity,
    Scalar,
    cached_canonical,
    canonical,
    date_tokens,
    fold_text,
    parse_date,
    parse_decimal,
    parse_quantity,
    read_date,
)

_ORDERS: tuple[DateOrder, ...] = ("ymd", "dmy", "mdy")
_TIME_OF_DAY = re.compile(r"(?:(?<=[0-9])t| )[0-9]{1,2}:[0-9]{2}.{0,20}$")
_TITLES = frozenset(("dr", "mr", "mrs", "ms", "miss", "prof", "md", "sr", "sra", "dra", "herr", "frau", "mme"))
_IDLE_SIGNS = re.compile(r"""[\s.,;:!?()\[\]{}"'*#_|]+|(?<=[^\W\d_])-(?=[^\W\d_])""")
_MAX_LENIENT = 300  # characters; beyond it only the strict comparison counts, and nothing is cached

_UNIT_SIZES: dict[str, tuple[str, Decimal]] = {
    unit: (dimension, Decimal(size))
    for dimension, units in {
        "mass": "kg=1000 g=1 mg=1e-3 μg=1e-6 ng=1e-9",
        "volume": "l=1 dl=0.1 ml=1e-3 μl=1e-6",
        "length": "m=1 cm=0.01 mm=1e-3",
        "amount": "mol=1 mmol=1e-3 μmol=1e-6 nmol=1e-9",
        "time": "s=1 min=60 h=3600 day=86400 week=604800",
    }.items()
    for unit, size in (item.split("=") for item in units.split())
}

_ABBREVIATIONS: dict[str, str] = {
    spelling: names.split()[0]
    for names in (
        "male m man masc masculine masculino männlich homme",
        "female f w fem woman feminine femenino feminino weiblich femme",
        "yes y true 1",
        "no n false 0",
        "positive pos + reactive",
        "negative neg - nonreactive non-reactive",
    )
    for spelling in names.split()
}


def canonical_value(spec: FieldSpec, value: Scalar) -> Hashable:
    """What strict comparison compares: two values are the same answer when these are equal.

    By kind: text and free_text fold Unicode, case and idle blanks; person_name the same, with its blanks; number is a
    decimal without words; quantity a number and its unit; date must be written in the field's order with four digits of
    year; enum is one of the choices up to case; code ignores case, dots and blanks. A JSON number equals its text.
    """
    read = canonical if isinstance(value, str) and len(value) > _MAX_LENIENT else cached_canonical
    return read(spec.kind, value, spec.date_order, spec.choices)


def is_correct(spec: FieldSpec, answered: Scalar, true: Scalar) -> bool:
    """Strict comparison. A truth that does not read as its kind is right only in the same text."""
    return canonical_value(spec, answered) == canonical_value(spec, true)


def same_meaning(spec: FieldSpec, answered: Scalar, true: Scalar) -> bool:
    """Whether `answered` carries the information of `true`, in whatever convention.

    number: one number among words, or thousands marked ("45 y" for 45). quantity: unit missing on one side, convertible
    (0.5 g for 500 mg), or followed by words. date: another order, a two-digit year, a time behind it. enum: the first
    letter of one choice, or a usual abbreviation. code: other punctuation, or a description behind it. person_name:
    order of the words, commas, titles. text: punctuation, but
    neither signs nor what stands between two digits.
    """
    if any(isinstance(value, str) and len(value) > _MAX_LENIENT for value in (answered, true)):
        return is_correct(spec, answered, true)
    return _same_meaning(spec.kind, spec.date_order, spec.choices, answered, true)


@lru_cache(maxsize=65_536, typed=True)
def _same_meaning(kind: str, order: DateOrder, choices: tuple[str, ...], answered: Scalar, true: Scalar) -> bool:
    if canonical(kind, answered, order, choices) == canonical(kind, true, order, choices):
        return True
    folded, folded_true = fold_text(answered), fold_text(true)
    if kind in ("number", "quantity"):
        return _same_quantity(folded, folded_true)
    if kind == "date":
        return _same_date(folded, true, order)
    if kind == "enum":
        return _same_choice(folded, folded_true, choices)
    if kind == "code":
        return _same_code(folded, folded_true)
    if kind == "person_name":
        return _name_words(folded) == _name_words(folded_true)
    return _letters(folded) == _letters(folded_true)


def _same_quantity(folded: str, folded_true: str) -> bool:
    truth = parse_quantity(folded_true)
    numbers = FREE_NUMBER.findall(folded)
    if truth is None or len(numbers) != 1:
        return False
    answer = parse_quantity(folded)
    if answer and answer.comparator != truth.comparator:
        return False
    if answer and truth.unit and answer.unit and _converts(answer, truth):
        return True
    if truth.number not in _readings(numbers[0]):
        return False
    if answer is None or not truth.unit or not answer.unit:
        return answer is not None or not truth.unit or truth.unit in folded.split()
    words = folded[folded.index(numbers[0]) + len(numbers[0]) :].split()
    return bool(words) and parse_quantity(f"1 {words[0]}") == Quantity("", Decimal(1), truth.unit)


def _readings(numeral: str) -> set[Decimal | None]:
    thousands = re.sub(r"(?<=[0-9])[.,](?=[0-9]{3}$)", "", numeral)
    return {parse_decimal(numeral), parse_decimal(thousands)} - {None}


def _converts(answer: Quantity, truth: Quantity) -> bool:
    size, true_size = _unit_size(answer.unit), _unit_size(truth.unit)
    if size is None or true_size is None or size[0] != true_size[0]:
        return False
    return answer.number * size[1] == truth.number * true_size[1]


def _unit_size(unit: str) -> tuple[tuple[str, ...], Decimal] | None:
    """Dimensions and size of a unit, "mg/dl" part by part; None where a part is not known."""
    parts = [_UNIT_SIZES.get(part) for part in unit.split("/")]
    size, dimensions = Decimal(1), []
    for index, part in enumerate(parts):
        if part is None:
            return None
        dimensions.append(part[0])
        size = size * part[1] if index == 0 else size / part[1]
    return tuple(dimensions), size


def _same_date(folded: str, true: Scalar, order: DateOrder) -> bool:
    truth = parse_date(true, order)
    tokens = date_tokens(_TIME_OF_DAY.sub("", folded))
    if truth is None:
        return False
    if len(tokens) == 1 and re.fullmatch(r"[0-9]{8}", tokens[0]):
        digits = tokens[0]
        splits = {"ymd": (4, 6), "dmy": (2, 4), "mdy": (2, 4)}
        return any(
            read_date([digits[:a], digits[a:b], digits[b:]], other) == truth
            for other, (a, b) in ((other, splits[other]) for other in _ORDERS)
        )
    if len(tokens) != 3:
        return False
    readings = [read_date(tokens, other) for other in _ORDERS]
    return any(
        reading is not None
        and (reading.month, reading.day) == (truth.month, truth.day)
        and reading.year in (truth.year, truth.year % 100)
        for reading in readings
    )


def _same_choice(folded: str, folded_true: str, choices: tuple[str, ...]) -> bool:
    plain, plain_true = folded.strip(" .,;:()"), folded_true.strip(" .,;:()")
    if plain == plain_true:
        return True
    initials = [fold_text(choice)[:1] for choice in choices]
    if len(plain) == 1 and initials.count(plain) == 1:
        return plain == plain_true[:1]
    meaning = _ABBREVIATIONS.get(plain or folded)
    return meaning is not None and meaning == _ABBREVIATIONS.get(plain_true or folded_true)


def _same_code(folded: str, folded_true: str) -> bool:
    code = re.sub(r"[\W_]+", "", folded_true)
    first = re.split(r"[\s:;,(]+", folded.strip(" ()[]"))[0]
    return bool(code) and code in (re.sub(r"[\W_]+", "", folded), re.sub(r"[\W_]+", "", first))


def _name_words(folded: str) -> list[str]:
    return sorted(word for word in re.split(r"[\s,.;]+", folded) if word and word not in _TITLES)


def _letters(folded: str) -> str:
    """`folded` without punctuation; between two digits everything stays, a comma as a point. Signs as in "A+" stay."""

    def keep(match: re.Match[str]) -> str:
        before, behind = folded[: match.start()][-1:], folded[match.end() : match.end() + 1]
        between = before.isdecimal() and behind.isdecimal()
        return match[0].replace(",", ".") if between else ""

    return _IDLE_SIGNS.sub(keep, folded)
