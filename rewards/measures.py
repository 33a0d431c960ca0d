"""Whether two numbers or quantities carry the same information in different conventions."""

import re
from decimal import Decimal
from fractions import Fraction

from rewards.numbers import (
    COMPARATOR,
    NUMERAL,
    Compound,
    DecimalSign,
    Measure,
    Quantity,
    comparator_sign,
    finding_sense,
    is_ambiguous,
    quantities,
    read_measure,
    read_numeral,
)
from rewards.units import read_unit
from rewards.values import Scalar, fold_text

_STYLES: tuple[DecimalSign, ...] = ("auto", "point", "comma")
_FREE_NUMBER = re.compile(rf"(?<![0-9a-z.,])({COMPARATOR})? ?({NUMERAL})")


def same_measure(answered: Scalar, true: Scalar, decimal: DecimalSign) -> bool:
    """Whether `answered` means the number or quantity `true` of a key with this `decimal` sign.

    The decimal sign may be another one, the unit convertible or missing on one side, and a single number may stand
    among words, with its unit behind it. A comparator may never be lost.
    """
    if isinstance(answered, bool) or isinstance(true, bool):
        return False
    folded = fold_text(answered)
    truth = read_measure(fold_text(true), decimal if isinstance(true, str) else "point")
    truths = _all_readings(fold_text(true)) if is_ambiguous(truth) else [truth] if truth is not None else []
    numbers = list(_FREE_NUMBER.finditer(folded))
    for answer in _all_readings(folded):
        is_plain = isinstance(answer, Compound) or len(numbers) == 1  # "45 of 50" is not 45 without its unit
        if any(_alike(answer, reading, is_plain) for reading in truths):
            return True
    singles = [reading for reading in truths if isinstance(reading, Quantity)]
    return len(numbers) == 1 and any(_is_among_words(folded, numbers[0], single) for single in singles)


def _all_readings(folded: str) -> list[Measure]:
    readings = (read_measure(folded, style) for style in _STYLES)
    return [reading for reading in readings if reading is not None and not is_ambiguous(reading)]


def _alike(answer: Measure, truth: Measure, may_lack_unit: bool) -> bool:
    if isinstance(answer, str) or isinstance(truth, str):
        sense = finding_sense(answer) if isinstance(answer, str) else None
        return sense is not None and isinstance(truth, str) and sense == finding_sense(truth)
    parts, true_parts = quantities(answer), quantities(truth)
    if _joiner(answer) != _joiner(truth) or len(parts) != len(true_parts):
        return False
    return all(_same_quantity(part, other, may_lack_unit) for part, other in zip(parts, true_parts, strict=True))


def _joiner(measure: Quantity | Compound) -> str:
    return measure.joiner.replace("/", ":") if isinstance(measure, Compound) else ""


def _same_quantity(answer: Quantity, truth: Quantity, may_lack_unit: bool) -> bool:
    assert isinstance(answer.number, Decimal) and isinstance(truth.number, Decimal)
    if answer.comparator != truth.comparator:
        return False
    if not answer.unit or not truth.unit:
        return answer.number == truth.number and (may_lack_unit or answer.unit == truth.unit)
    unit, true_unit = read_unit(answer.unit), read_unit(truth.unit)
    if unit.dimension != true_unit.dimension:
        return False
    return Fraction(answer.number) * unit.size == Fraction(truth.number) * true_unit.size


def _is_among_words(folded: str, number: re.Match[str], truth: Quantity) -> bool:
    """Whether the only number in a text is that of `truth`, with its unit behind it if it has one."""
    if comparator_sign(number[1]) != truth.comparator:
        return False
    if truth.number not in {read_numeral(number[2], style) for style in _STYLES}:
        return False
    behind = folded[number.end() :].split()
    return not truth.unit or (bool(behind) and read_unit(behind[0]).spelling == truth.unit)
