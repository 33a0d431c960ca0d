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
# "1.2 x10^9", "1.2 10*9", "1.2·10e9": the power goes into the number. Without a sign ("x109") nobody can tell. A star
# before a length or another factor is that of a size: "10*8 mm", "10*8*5".
_STAR = r"\*(?![0-9]{1,2}(?: ?(?:[cmd]?m|in|inch|inches)(?![\w^])| ?[x×*] ?[0-9]))"
_POWER = re.compile(rf"(?:(?<=[0-9])(?: ?[x×*·⋅∙] ?| ))10(?:\^|\*\*|{_STAR}|e)([+-]?[0-9]{{1,2}})(?![0-9.,])")
_BARE_POWER = re.compile(rf"(?<![0-9.,a-z^*])10(?:\^|\*\*|{_STAR})([+-]?[0-9]{{1,2}})(?![0-9.,])")
_ONE_PER = re.compile(r"(?<=[0-9]) 1/(?=[^\W\d_])")  # "80 1/min" is "80 /min"
_ABOUT = re.compile(r"(?:(?:ca|circa|approx|aprox|etwa|environ|khoảng)(?:\. ?| )|大?约 ?)(?=[.,]?[0-9])")
_BRACKETED = re.compile(r"(?:\(([^()\[\]]+)\)|\[([^()\[\]]+)\])([^()\[\]]*)")  # "[70-110] mg/dL"
# Before the case is folded: "MIU" is a million units, never "mIU".
_MEGA = re.compile(r"(?<![^\W\d_])M(?=\.?(?:I\.?U|U\.?I|I\.?E|U)(?![^\W\d_]))")
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
_AMBIGUOUS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
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
detected | nachweisbar | détecté | detectado
not detected | undetected | undetectable | nicht nachweisbar, n.n. | non détecté | no detectado | não detectado | 未检出
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

    `number` is a text where it can be read two ways ("1,250", "20.000"): it equals the same spelling only.
    """

    comparator: str
    number: Decimal | str
    unit: str


class Compound(NamedTuple):
    """Several quantities as one value, joined by - (range), ± (tolerance), : or / (ratio), x (size) or + (sum).

    A unit behind the last of them is that of all, and so is a power of ten in a range or tolerance.
    """

    joiner: str
    parts: tuple[Quantity, ...]


Measure = Quantity | Compound | str  # a text is a finding such as "negative"


def parse_measure(value: Scalar, decimal: DecimalSign) -> Measure | None:
    """A quantity, several in one, or a finding, from a value as written; None for anything else, booleans too.

    A JSON number has a decimal point; with "auto" it equals the text in its own spelling (1.015 and "1.015").
    """
    if isinstance(value, str):
        return read_measure(fold_measure(value), decimal)
    return (
        None if isinstance(value, bool) else read_measure(fold_text(value), decimal if decimal == "auto" else "point")
    )


def fold_measure(value: Scalar) -> str:
    """`fold_text`, in which a capital M before IU, UI, IE or U does not become that of milli.

    It is mega; where nothing in the text is in lower case and more than that unit is ("MIU/ML"), nobody can tell, and
    it stays a prefix of its own, "m?".
    """
    if not isinstance(value, str) or ("M" not in value and "Ｍ" not in value):
        return fold_text(value)
    text = fold_text(value, keep_case=True)
    is_capital = text.isupper() and "/" in text
    return fold_text(_MEGA.sub("m?" if is_capital else "mega", text))


def read_measure(text: str, decimal: DecimalSign) -> Measure | None:
    """`parse_measure` of a text folded by `fold_measure`."""
    if text in _FINDING:
        return _FINDING[text]
    if len(text) > _MAX_READABLE:
        return None
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        measure = _read_quantities((bracketed[1] or bracketed[2]).strip() + bracketed[3], decimal)
        return measure if isinstance(measure, Compound) else None  # "(5)" is -5 to some
    return _read_quantities(_ABOUT.sub("~", text, count=1) if _ABOUT.match(text) else text, decimal)


def _read_quantities(text: str, decimal: DecimalSign) -> Quantity | Compound | None:
    num_powers = 0
    if "10" in text:
        text, num_powers = _POWER.subn(r"e\1", text)
        text = _BARE_POWER.sub(r"1e\1", text)
    if "/" in text:
        text = _FRACTION.sub(lambda match: _decimal_text(match, decimal), _ONE_PER.sub(" /", text))
    parts: list[Quantity] = []
    numerals: list[str] = []
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
        numerals.append(item[2])
        if joiner is None:
            break
        joiners.add(joiner[1] if joiner.re is _RATIO else _JOINERS[joiner.lastgroup or ""])
        position = joiner.end()
    if num_powers == 1 and joiners <= {"-", "±"} and not any(part.unit for part in parts[:-1]):
        parts = _with_shared_power(parts, numerals, decimal)
    return _join(parts, joiners)


def _with_shared_power(parts: list[Quantity], numerals: list[str], decimal: DecimalSign) -> list[Quantity]:
    """The parts of "4-10 x10^9": a power behind the last of them only is that of all."""
    _, _, exponent = numerals[-1].partition("e")
    if not exponent or any("e" in numeral for numeral in numerals[:-1]):
        return parts
    numbers = [read_numeral(f"{numeral}e{exponent}", decimal) for numeral in numerals[:-1]]
    scaled = [part._replace(number=number) for part, number in zip(parts, numbers, strict=False) if number is not None]
    return [*scaled, parts[-1]] if len(scaled) == len(numbers) else parts


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
    "auto" a lone sign is the decimal one, but "1,250" and "1.250" can be read two ways; of two signs the last is
    ("1.234,5"), and a repeated one separates thousands ("1,234,567").
    """
    mantissa, _, exponent = text.partition("e")
    if len(text) > _MAX_DIGITS:
        return None
    signs = [char for char in mantissa if char in ".,' "]
    if decimal == "auto" and _AMBIGUOUS.fullmatch(mantissa):
        return mantissa.removeprefix("+") + (f"e{int(exponent)}" if exponent else "")
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
