"""Units of measurement: one spelling per unit, with its size and dimension for conversion.

Names, symbols and sizes are pint's, for the units of medical documents only, and looked up in a table: the text of a
unit comes from a model and never reaches pint. What the table lacks ("viên") is a unit of its own by its spelling.
"""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

# A name of pint's or of `_OWN_UNITS`, and spellings beside its name, plural and symbol. Letter case is folded.
_PREFIXED_UNITS = """
gram gramme gr gm gramm gramo grama
liter litre lt litro
meter metre metro
mole
second sec
pascal
joule
calorie
becquerel
curie
gray
sievert
hertz
volt
watt
katal
enzyme_unit unit u
international_unit iu ui ie
equivalent eq
osmole osm
"""
_PLAIN_UNITS = """
minute min mins
hour h hr hrs
day d
week wk wks
month mo mos
year y yr yrs yo
percent % pct
ppm
mmHg torr
cmH2O
degree_Celsius °c degc celsius
degree_Fahrenheit °f degf fahrenheit
inch in
foot ft feet
pound lb lbs
ounce oz
teaspoon tsp
tablespoon tbsp
thousand k
beat
cell
tablet tab tabs tbl tabl tablette tabletten comprimido comprimé
capsule cap caps kapsel kapseln cápsula
drop gtt gtts
puff
ampoule amp amps ampule
vial
sachet
suppository supp suppositories
patch patches
"""
_OWN_UNITS = """
international_unit = enzyme_unit
equivalent = [equivalent]
osmole = [osmole]
thousand = 1000
beat = []
cell = []
tablet = [tablet]
capsule = [capsule]
drop = [drop]
puff = [puff]
ampoule = [ampoule]
vial = [vial]
sachet = [sachet]
suppository = [suppository]
patch = [patch]
"""
# No factor converts these into what their formula says: the gray of absorbed into the sievert of equivalent dose, an
# event of decay into a period, the unit of a drug's activity into that of an enzyme's, 5 % into 0.05. A temperature has
# an offset.
_OWN_DIMENSIONS = {
    "sievert": "[equivalent dose]",
    "becquerel": "[activity]",
    "curie": "[activity]",
    "international_unit": "[international unit]",
    "percent": "[percent]",
    "ppm": "[ppm]",
    "degree_Celsius": "[degree Celsius]",
    "degree_Fahrenheit": "[degree Fahrenheit]",
}
_PREFIXES = {  # with the spellings; a mega symbol would be a milli one in lower case
    "": ("",),
    "milli": ("m", "milli", "mili"),
    "micro": ("μ", "u", "mc", "micro", "mikro"),
    "nano": ("n", "nano"),
    "pico": ("p", "pico"),
    "femto": ("f", "femto"),
    "centi": ("c", "centi"),
    "deci": ("d", "deci"),
    "kilo": ("k", "kilo"),
    "mega": ("mega",),
}
# Read as another text, since nobody means the millihertz.
_ALIASES = {
    "cc": "milliliter",
    "kilo": "kilogram",
    "kilos": "kilogram",
    "mhz": "megahertz",
    "mbq": "megabecquerel",
    "bpm": "beat/minute",
    "lpm": "liter/minute",
    "cmm": "mm^3",
    "cumm": "mm^3",
    "mgs": "milligram",
    "mcgs": "microgram",
    "kgs": "kilogram",
    "mls": "milliliter",
    "千克": "kilogram",
    "克": "gram",
    "毫克": "milligram",
    "微克": "microgram",
    "升": "liter",
    "毫升": "milliliter",
}

_MAX_CHARACTERS, _MAX_FACTORS = 80, 6
_PER = re.compile(r"\bper\b")
_WORD = re.compile(r"[^\W\d_]+")
_GROUPED = re.compile(r"/ ?\(([^()]*)\)")
_PRODUCT = re.compile(r"[*·⋅∙×]")
_BRACKETS = re.compile(r"[()\[\]{}]+")
# Blanks and points, but neither what stands between two numbers nor a decimal point.
_IDLE = re.compile(r"(?<![0-9])\s+|\s++(?![0-9.,])|(?<![0-9])\.(?![0-9])")
_POINT = re.compile(r"\.(?![0-9])")
_BETWEEN = re.compile(r"(?:\s|\.(?![0-9]))+")
_ATOM = re.compile(r"(?:([0-9]{1,6}(?:[.,][0-9]{1,4})?|[.,][0-9]{1,4})[*]?)?([^\d\s.,^+*/-]+)(?:\^?([+-]?[1-9]))?")
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")  # "5 mg/1,000 mL": a litre, or one millilitre


class Unit(NamedTuple):
    """`spelling` is the same for every way to write the unit; equal `dimension` means convertible by `size`."""

    spelling: str
    size: Fraction
    dimension: tuple[tuple[str, int], ...]


class _Factor(NamedTuple):
    """One factor of a unit, such as the "1.73 m2" of "mL/min/1.73 m2"."""

    spelling: str
    size: Fraction
    dimension: tuple[tuple[str, int], ...]
    is_divisor: bool


@lru_cache(maxsize=16_384)
def read_unit(text: str) -> Unit:
    """The unit that a folded text means: "mcg", "μg" and "micrograms" are one; "mg/kg/day" is "mg/day/kg".

    Factors are joined by / * · "per" or a blank and carry exponents from -9 to 9; anything else is one factor by its
    spelling. Takes time linear in the text. An empty text is the unit of a plain number.
    """
    plain = _without_idle(text)
    if not plain or len(text) > _MAX_CHARACTERS or plain in _known_units():
        return _product([_named(plain)])
    folded = _WORD.sub(lambda word: _ALIASES.get(word[0], word[0]), _ALIASES.get(plain, _PER.sub("/", text)))
    folded = _GROUPED.sub(lambda group: "/" + _POINT.sub("/", _PRODUCT.sub("/", group[1])), folded)
    folded = folded.replace("**", "^")
    if len(re.findall(r"[/*·⋅∙×]", folded)) >= _MAX_FACTORS:
        return _product([_named(plain)])
    factors = []
    for index, part in enumerate(folded.rstrip(" .,;:").split("/")):
        for item in _PRODUCT.split(part):
            factors += [factor._replace(is_divisor=factor.is_divisor != (index > 0)) for factor in _factors(item)]
    return _product(factors)


def _factors(text: str) -> list[_Factor]:
    """What stands between two signs: one factor perhaps with blanks in it, or several known ones side by side."""
    plain = _without_idle(text)
    if not plain:
        return []
    whole = _known_factor(plain)
    if whole is None:
        pieces = [_known_factor(piece) for piece in _BETWEEN.split(text.strip().rstrip(" ."))]
        known = [piece for piece in pieces if piece]
        return known if len(known) == len(pieces) else [_named(plain)]
    return [whole]


def _known_factor(text: str) -> _Factor | None:
    known = _known_units()
    if text in known:
        return _named(text)
    match = _ATOM.fullmatch(text)
    if match is None or match[2] not in known or (match[1] and _AMBIGUOUS.fullmatch(match[1])):
        return None
    unit = known[match[2]]
    number, exponent = Decimal((match[1] or "1").replace(",", ".")), int(match[3] or 1)
    if number == 100 and unit.spelling == "milliliter":  # the usual way to write a decilitre
        number, unit = Decimal(1), known["deciliter"]
    power = abs(exponent)
    spelling = unit.spelling + (f"^{power}" if power > 1 else "")
    dimension = tuple((base, count * power) for base, count in unit.dimension)
    if number != 1:
        spelling = f"{number.normalize():f} {spelling}"
    return _Factor(spelling, Fraction(number) * unit.size**power, dimension, exponent < 0)


def _without_idle(text: str) -> str:
    return _IDLE.sub("", _BRACKETS.sub(" ", text).rstrip(" .,;:")).strip(" ;:")


def _named(text: str) -> _Factor:
    known = _known_units() if text else {}
    return _Factor(*known.get(text, Unit(text, Fraction(1), ((text, 1),) if text else ())), is_divisor=False)


def _product(factors: list[_Factor]) -> Unit:
    size, dimension = Fraction(1), Counter[str]()
    for factor in factors:
        if factor.size:  # "mg/0 ml" is nobody's unit: it stays a spelling
            size = size / factor.size if factor.is_divisor else size * factor.size
        for base, count in factor.dimension:
            dimension[base] += -count if factor.is_divisor else count
    above = "*".join(sorted(factor.spelling for factor in factors if not factor.is_divisor))
    below = "*".join(sorted(factor.spelling for factor in factors if factor.is_divisor))
    bases = tuple(sorted(dimension.items()))  # with what cancels: 5 mg/kg is no plain number
    return Unit(f"{above}/{below}" if below else above, size, bases)


@lru_cache(maxsize=1)
def _known_units() -> dict[str, Unit]:
    """Every known spelling with its unit. The first call loads pint, which takes about half a second."""
    from pint import UnitRegistry

    registry: UnitRegistry[Any] = UnitRegistry(non_int_type=Decimal)
    for definition in _OWN_UNITS.strip().splitlines():
        registry.define(definition)

    def size(name: str) -> Fraction:
        return Fraction(str(registry.get_root_units(name)[0]))

    prefixes = {prefix: size(f"{prefix}gram") / size("gram") for prefix in _PREFIXES}
    known: dict[str, Unit] = {}

    def add(name: str, spellings: list[str], prefixes: dict[str, Fraction]) -> None:
        symbol = str(registry.get_symbol(name)).lower()
        dimension = tuple((str(base), int(str(count))) for base, count in registry.get_dimensionality(name).items())
        if name in _OWN_DIMENSIONS:
            dimension = ((_OWN_DIMENSIONS[name], 1),)
        for prefix, factor in prefixes.items():
            unit = Unit(f"{prefix}{name}", factor * size(name), dimension)
            for spelling in _with_plurals([name.lower(), *spellings, symbol], _PREFIXES[prefix]):
                known.setdefault(spelling, unit)

    for line in _PLAIN_UNITS.strip().splitlines():
        add(line.split()[0], line.split()[1:], {"": Fraction(1)})
    for line in _PREFIXED_UNITS.strip().splitlines():
        add(line.split()[0], line.split()[1:], prefixes)
    return known | {alias: known[name] for alias, name in _ALIASES.items() if name in known}


def _with_plurals(names: list[str], prefixes: tuple[str, ...]) -> Iterator[str]:
    for prefix, name in product(prefixes, names):
        yield prefix + name
        if len(name) > 2:
            yield f"{prefix}{name}s"
