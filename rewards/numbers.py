"""Numbers as medical documents write them: comparators, ratios, ranges, tolerances, powers of ten, units, findings.

Everything here starts from folded text (`rewards.values.fold_text`), is bounded in length and linear in it.
"""

import re
from decimal import Decimal
from typing import Literal, NamedTuple

from rewards.units import read_unit
from rewards.values import Scalar, fold_text

DecimalSign = Literal["auto", "point", "comma"]

_MAX_READABLE = 200  # characters; a longer text is no number
_MAX_DIGITS = 40
_NO_UNIT = frozenset("0123456789.,'")  # no unit begins so: what is read so far is a part of something else

NUMERAL = (
    r"[+-]?(?:[0-9]{1,3}(?: [0-9]{3})++(?![0-9])(?:[.,][0-9]++)?+|[0-9]++(?:[.,'][0-9]++)*+|[.,][0-9]++)"
    r"(?:e[+-]?[0-9]{1,2}(?![0-9a-z]))?+"
)
COMPARATOR = r"[<>≤≥≦≧⩽⩾~≈]=?|=[<>]"
_COMPARATORS = {"<=": "≤", "=<": "≤", "≦": "≤", "⩽": "≤", ">=": "≥", "=>": "≥", "≧": "≥", "⩾": "≥", "≈": "~"}
_ITEM = re.compile(rf"({COMPARATOR})? ?({NUMERAL})")
# "1.2 x10^9", "1.2 10*9", "1.2·10e9": the power goes into the number. Without a sign ("x109") nobody can tell.
_POWER = re.compile(r"(?:(?<=[0-9])(?: ?[x×*·⋅∙] ?| ))10(?:\^|\*\*?|e)([+-]?[0-9]{1,2})(?![0-9.,])")
_BARE_POWER = re.compile(r"(?<![0-9.,a-z^*])10(?:\^|\*\*?)([+-]?[0-9]{1,2})(?![0-9.,])")
_FRACTION = re.compile(r"(?<![0-9.,/])(?:([0-9]{1,3}) )?(1/2|[13]/4|[1357]/8)(?![0-9.,/])")
_RATIO = re.compile(rf" ?([:/]) ?(?=(?:{COMPARATOR})? ?[+-]?[.,]?[0-9])")
# A dash joins behind a digit, a percent sign or a blank only: the one in "min-1" is an exponent's.
_JOINER = re.compile(
    r" ?(?P<tolerance>\+/-|\+-|±) ?(?=[.,]?[0-9])"
    r"|(?:(?<=[0-9%])| )(?:(?P<range>[-~]) ?|(?P<to>to) )(?=[<>≤≥]?[+-]?[.,]?[0-9])"
    r"|(?:(?<=[0-9])| )(?P<times>[x×*]) ?(?=[.,]?[0-9])"
    r"| ?(?P<sum>\+) ?(?=[.,]?[0-9])"
)
_JOINERS = {"tolerance": "±", "range": "-", "to": "-", "times": "x", "sum": "+"}
_MOST_PARTS = {"-": 2, "±": 2, ":": 3, "/": 3}
_AMBIGUOUS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}([.,' ])[0-9]{3}(?:\1[0-9]{3})*+")

# Results that are no numbers but stand where numbers do. A line is one meaning; between two bars stand the spellings
# of one and the same answer.
_FINDINGS = """
negative, neg, neg., (-) | - | nonreactive, non-reactive, non reactive | negativ | negativo | négatif | âm tính | 阴性
positive, pos, pos. | +, 1+, (1+) | reactive | positiv | positivo | positif | dương tính | 阳性
++, 2+, (2+)
+++, 3+, (3+)
++++, 4+, (4+)
(+)
+/-, +-, ±, -/+
trace, traces
detected
not detected | undetected | undetectable
none | nil
absent
present
normal
"""
_GROUPS = [
    (sense, [spelling.strip() for spelling in group.split(",")])
    for sense, line in enumerate(_FINDINGS.strip().splitlines())
    for group in line.split("|")
]
_FINDING = {fold_text(spelling): fold_text(spellings[0]) for _, spellings in _GROUPS for spelling in spellings}
_SENSE = {fold_text(spellings[0]): sense for sense, spellings in _GROUPS}


class Quantity(NamedTuple):
    """A number with its unit in canonical spelling; `comparator` is one of < > ≤ ≥ ~ or empty.

    `number` is a text where it can be read two ways ("1,250"): it equals the same spelling only.
    """

    comparator: str
    number: Decimal | str
    unit: str


class Compound(NamedTuple):
    """Several quantities as one value, joined by - (range), ± (tolerance), : or / (ratio), x (size) or + (sum).

    A unit behind the last of them is that of all.
    """

    joiner: str
    parts: tuple[Quantity, ...]


Measure = Quantity | Compound | str  # a text is a finding such as "negative"


def parse_measure(value: Scalar, decimal: DecimalSign) -> Measure | None:
    """A quantity, several in one, or a finding, from a value as written; None for anything else, booleans too."""
    if isinstance(value, str):
        return read_measure(fold_text(value), decimal)
    return None if isinstance(value, bool) else read_measure(fold_text(value), "point")


def read_measure(text: str, decimal: DecimalSign) -> Measure | None:
    """`parse_measure` of a folded text."""
    if text in _FINDING:
        return _FINDING[text]
    if len(text) > _MAX_READABLE:
        return None
    if "10" in text:
        text = _BARE_POWER.sub(r"1e\1", _POWER.sub(r"e\1", text))
    if "/" in text:
        text = _FRACTION.sub(lambda match: _decimal_text(match, decimal), text)
    parts: list[Quantity] = []
    joiners: set[str] = set()
    position = 0
    while True:
        item = _ITEM.match(text, position)
        number = read_numeral(item[2], decimal) if item else None
        if item is None or number is None:
            return None
        joiner = _RATIO.match(text, item.end()) or _JOINER.search(text, item.end())
        unit = text[item.end() : joiner.start() if joiner else None].strip()
        if unit[:1] in _NO_UNIT:
            return None
        parts.append(Quantity(comparator_sign(item[1]), number, read_unit(unit).spelling))
        if joiner is None:
            break
        joiners.add(joiner[1] if joiner.re is _RATIO else _JOINERS[joiner.lastgroup or ""])
        position = joiner.end()
    return _join(parts, joiners)


def comparator_sign(sign: str | None) -> str:
    """One sign for each comparator; empty for none."""
    return _COMPARATORS.get(sign, sign) if sign else ""


def _decimal_text(match: re.Match[str], decimal: DecimalSign) -> str:
    """A half, quarter or eighth, with whole ones before it perhaps, as a numeral."""
    over, under = match[2].split("/")
    text = str(Decimal(match[1] or 0) + Decimal(over) / Decimal(under))
    return text.replace(".", ",") if decimal == "comma" else text


def _join(parts: list[Quantity], joiners: set[str]) -> Quantity | Compound | None:
    if not joiners:
        return parts[0]
    joiner = next(iter(joiners))
    if len(joiners) > 1 or len(parts) > _MOST_PARTS.get(joiner, _MAX_READABLE):
        return None
    if not any(part.unit for part in parts[:-1]):
        parts = [part._replace(unit=parts[-1].unit) for part in parts]
    return Compound(joiner, tuple(parts))


def quantities(measure: Measure | None) -> tuple[Quantity, ...]:
    """The quantities in a measure, none in a finding."""
    if isinstance(measure, Compound):
        return measure.parts
    return (measure,) if isinstance(measure, Quantity) else ()


def is_ambiguous(measure: Measure | None) -> bool:
    """Whether a number in it can be read two ways."""
    return any(isinstance(part.number, str) for part in quantities(measure))


def finding_sense(finding: str) -> int | None:
    """The meaning of a canonical finding, equal for "negative" and "negativo"; None for another text."""
    return _SENSE.get(finding)


def read_numeral(text: str, decimal: DecimalSign) -> Decimal | str | None:
    """A folded numeral with its exponent; itself where it can be read two ways, None where it cannot be read.

    With `decimal` "point" or "comma" the other sign and ' and blanks separate thousands, and must group by three. With
    "auto" a lone sign is the decimal one, but "1,250" can be read two ways; of two signs the last is ("1.234,5"), and
    a repeated one separates thousands ("1,234,567").
    """
    mantissa, _, exponent = text.partition("e")
    if len(text) > _MAX_DIGITS:
        return None
    signs = [char for char in mantissa if char in ".,' "]
    if decimal == "auto" and _AMBIGUOUS.fullmatch(mantissa):
        return text.removeprefix("+")
    sign = {"point": ".", "comma": ","}.get(decimal) or _last_once(signs)
    whole, _, fraction = mantissa.partition(sign) if sign else (mantissa, "", "")
    if len(signs) > (sign in signs):
        if not _THOUSANDS.fullmatch(whole) or (fraction and not fraction.isdecimal()):
            return None
        whole = re.sub(r"[.,' ]", "", whole)
    return Decimal(f"{whole}.{fraction or 0}e{exponent or 0}")


def _last_once(signs: list[str]) -> str:
    """The decimal sign among those of a numeral: the last one, where it is a point or comma and occurs once."""
    return signs[-1] if signs and signs[-1] in ".," and signs.count(signs[-1]) == 1 else ""
