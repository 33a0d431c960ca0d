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
    fold_measure,
    is_ambiguous,
    quantities,
    read_measure,
    read_numeral,
)
from rewards.units import read_unit
from rewards.values import Scalar

_STYLES: tuple[DecimalSign, ...] = ("auto", "point", "comma")
_FREE_NUMBER = re.compile(rf"(?<![0-9a-z.,])({COMPARATOR})? ?({NUMERAL})")
# Words that make another value of the one they stand beside, in the languages of `rewards.similarity`.
_TURNING_WORDS = """
not no non nicht kein keine pas sin não không minus moins menos trừ half halbe demi media meia nửa double twice times
more less than over under above below beyond up least most before after until every
mehr weniger über unter mindestens höchstens vor nach bis alle plus sur avant après más antes después mais depois até
hơn dưới trên trước sau weekly monthly hourly yearly wöchentlich monatlich stündlich hebdomadaire semanal mensual mensal
nightly chiều tối đêm sáng abends nachmittags nachts morgens soir matin noche tarde noite mañana manhã
"""
_TURNING = frozenset(_TURNING_WORDS.split())
_TURNING_SIGNS = frozenset("不非未无没超每半")
# Only beside a number that stands among words: alone they are units ("5 min"), and are read as such ("mg per kg").
_TURNING_AMONG_WORDS = """
min max minimum maximum mín máx per pro je par por mỗi each cada chaque ca circa approx aprox etwa environ khoảng
"""
_TURNING_AMONG = frozenset(_TURNING_AMONG_WORDS.split())
_WORD = re.compile(r"[^\W\d_]+")


def same_measure(answered: Scalar, true: Scalar, decimal: DecimalSign) -> bool:
    """Whether `answered` means the number or quantity `true` of a key with this `decimal` sign.

    The decimal sign may be another one, the unit convertible or missing on one side, and a single number may stand
    among words, with its unit behind it. A comparator may never be lost, nor a word such as "not", "max" or "weekly".
    """
    if isinstance(answered, bool) or isinstance(true, bool):
        return False
    folded, folded_true = fold_measure(answered), fold_measure(true)
    truth = read_measure(folded_true, decimal if isinstance(true, str) else "point")
    if not isinstance(truth, str) and turning_words(folded) != turning_words(folded_true):
        return False
    truths = _all_readings(folded_true) if is_ambiguous(truth) else [truth] if truth is not None else []
    numbers = list(_FREE_NUMBER.finditer(folded))
    styles = _STYLES if isinstance(answered, str) else _STYLES[1:2]
    for answer in _all_readings(folded, styles):
        is_plain = isinstance(answer, Compound) or len(numbers) == 1  # "45 of 50" is not 45 without its unit
        if any(_alike(answer, reading, is_plain) for reading in truths):
            return True
    singles = [reading for reading in truths if isinstance(reading, Quantity)]
    return len(numbers) == 1 and any(_is_among_words(folded, numbers[0], single, styles) for single in singles)


def turning_words(folded: str) -> frozenset[str]:
    """The words of a folded text that make another value of the one beside them: "not", "weekly", "more"."""
    return _TURNING.intersection(_WORD.findall(folded)) | _TURNING_SIGNS.intersection(folded)


def _all_readings(folded: str, styles: tuple[DecimalSign, ...] = _STYLES) -> list[Measure]:
    readings = (read_measure(folded, style) for style in styles)
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
    # A unit of activity is what most people write for both.
    unit, true_unit = (read_unit(part.unit.replace("international_unit", "enzyme_unit")) for part in (answer, truth))
    if unit.dimension != true_unit.dimension:
        return False
    return Fraction(answer.number) * unit.size == Fraction(truth.number) * true_unit.size


def _is_among_words(folded: str, number: re.Match[str], truth: Quantity, styles: tuple[DecimalSign, ...]) -> bool:
    """Whether the only number in a text is that of `truth`, with its unit behind it if it has one."""
    if comparator_sign(number[1]) != truth.comparator:
        return False
    if truth.number not in {read_numeral(number[2], style) for style in styles}:
        return False
    behind = folded[number.end() :].split()
    if "/" not in truth.unit and ("/" in folded or _TURNING_AMONG.intersection(_WORD.findall(folded))):
        return False
    return not truth.unit or (bool(behind) and read_unit(behind[0]).spelling == truth.unit)
