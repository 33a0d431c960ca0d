"""Units: one spelling for each, sizes for conversion, and nothing that a hostile text could do."""

import time as clock
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.units import Unit, read_unit


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        ("mg|milligram|milligrams|milligramme|mg.|[mg]|m g", "milligram"),
        ("μg|ug|mcg|microgram|micrograms", "microgram"),
        ("g|gr|gm|gram|grammes", "gram"),
        ("kg|kilo|kilos|kilogram", "kilogram"),
        ("ml|cc|c.c.|millilitres", "milliliter"),
        ("mg/dl|mg / dl|mg per dl|mg/100ml|mg/100 ml|mg dl-1", "milligram/deciliter"),
        ("mmol/l|mmol.l-1|mmol·l^-1|mmol l-1|mmol*l**-1", "millimole/liter"),
        ("mg/kg/day|mg/day/kg|mg/(kg.day)|mg/(kg*d)|mg per kg per day", "milligram/day*kilogram"),
        ("mmhg|mm hg", "mmHg"),
        ("bpm|beats/min|beat/minute", "beat/minute"),
        ("/mm3|/mm^3|/cumm|/cmm", "/millimeter^3"),
        ("k/ul|thousand/μl", "thousand/microliter"),
        ("iu|ui|i.u.|u.i.|[iu]|international_units", "international_unit"),
        ("u|unit|units", "enzyme_unit"),
        ("meq/l|meq / l", "milliequivalent/liter"),
        ("tab|tabs|tab.|tablet|tablets", "tablet"),
        ("cap|caps|capsules", "capsule"),
        ("gtt|gtts|drops", "drop"),
        ("puffs|puff", "puff"),
        ("amp|ampoules|ampule", "ampoule"),
        ("%|percent|pct", "percent"),
        ("°c|celsius|degc", "degree_Celsius"),
        ("h|hr|hrs|hours", "hour"),
        ("y|yr|yrs|yo|years", "year"),
        ("kpa|kilopascal", "kilopascal"),
        ("mbq|megabecquerel", "megabecquerel"),
        ("pa|pascals", "pascal"),
        ("viên|viên.", "viên"),
        ("viên nén|viênnén", "viênnén"),
        ("m**9999999|m^9999999", "m^9999999"),
        ("ml/min/1.73 m2|ml/min/1,73m^2", "milliliter/1.73 meter^2*minute"),
        ("||.| ", ""),
    ],
)
def test_every_spelling_of_a_unit_is_one(spellings: str, canonical: str) -> None:
    assert {read_unit(spelling).spelling for spelling in spellings.split("|")} == {canonical}


@pytest.mark.parametrize(
    ("left", "right", "ratio"),
    [
        ("g", "mg", Fraction(1000)),
        ("g/l", "mg/dl", Fraction(100)),
        ("l", "cm3", Fraction(1000)),
        ("mg/24h", "mg/day", Fraction(1)),
        ("h", "min", Fraction(60)),
        ("lb", "g", Fraction("453.59237")),
        ("in", "cm", Fraction("2.54")),
        ("k/ul", "/l", Fraction(10**9)),
        ("miu/l", "iu/l", Fraction(1, 1000)),
        ("mci", "mbq", Fraction(37)),
        ("meq/l", "eq/l", Fraction(1, 1000)),
        ("g/viên", "mg/viên", Fraction(1000)),
        ("/min", "bpm", Fraction(1)),
    ],
)
def test_units_of_one_dimension_convert_exactly(left: str, right: str, ratio: Fraction) -> None:
    unit, other = read_unit(left), read_unit(right)
    assert unit.dimension == other.dimension
    assert unit.size / other.size == ratio


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("iu/l", "u/l"),
        ("gy", "sv"),
        ("bq", "hz"),
        ("%", ""),
        ("mg/kg", ""),
        ("mg/kg", "ppm"),
        ("mg", "ml"),
        ("mg", "mmol"),
        ("meq", "mmol"),
        ("°c", "°f"),
        ("tab", "cap"),
        ("viên", "gói"),
        ("mg", ""),
    ],
)
def test_units_of_different_dimensions_do_not_convert(left: str, right: str) -> None:
    assert read_unit(left).dimension != read_unit(right).dimension


@pytest.mark.parametrize(
    "text", ["m" * 100_000, "mg/" * 20, "m**" * 30_000, "mg/" * 60_000, "(" * 60_000, "mg/0ml", "1e9 m", "/(", "m^0"]
)
def test_hostile_units_are_read_at_once(text: str) -> None:
    started = clock.process_time()
    assert read_unit(text) == read_unit(text)
    assert clock.process_time() - started < 1.0


@settings(deadline=None)
@given(st.text(alphabet="mgdlkμ%/*.^-+ 0123()²", max_size=40))
def test_no_unit_raises(text: str) -> None:
    unit = read_unit(text)
    assert isinstance(unit, Unit) and unit.size > 0
