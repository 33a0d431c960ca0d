"""Values that look alike and are none: what a review found read too generously, or refused though documents show it."""

import time as clock
from typing import Any

import pytest

from rewards.compare import is_correct, same_meaning
from rewards.dates import DateOrder
from rewards.schema import FieldSpec, Schema
from rewards.units import read_unit
from rewards.values import Scalar, fold_text


def spec(kind: str, **options: Any) -> FieldSpec:
    return FieldSpec(key="k", description="d", kind=kind, **options)  # type: ignore[arg-type]


def problems(field: FieldSpec, value: Scalar) -> list[str]:
    return Schema(name="s", document_type="d", description="d", fields=(field,)).validate_annotation({"k": value})


@pytest.mark.parametrize(
    ("kind", "answered", "true", "options"),
    [
        # A point that may group thousands
        ("quantity", "20 IE", "20.000 IE", {}),
        ("quantity", "1:1", "1:1.000", {}),
        ("quantity", "250/µl", "250.000/µl", {}),
        ("number", "250.000", 250, {}),
        ("number", "1.250", "1,250", {}),
        ("number", 1.015, 1015, {}),
        # A number inside a unit
        ("quantity", "5 mg/.5 mL", "5 mg/5 mL", {}),
        ("quantity", "5 mg/1,000 mL", "5 mg/mL", {}),
        ("quantity", "5 mg/1.000 mL", "5 mg/mL", {}),
        ("quantity", "5 g/2,000 ml", "5 g/2 ml", {}),
        ("quantity", "1 tab .25 mg", "1 tab 25 mg", {}),
        ("quantity", "20 ml .9%", "20 ml 9%", {}),
        ("quantity", "5 mg/2 5 mL", "5 mg/25 mL", {}),
        ("quantity", "5 mg/2 (5) mL", "5 mg/25 mL", {}),
        ("quantity", "5 mg/(1.5 kg)", "5 mg/(1 5 kg)", {}),
        ("quantity", "20 mg 1 0 1", "20 mg 10 1", {}),
        ("quantity", "5 mg/0.5 mL", "10 mg/0.25 mL", {"convert_units": True}),
        # A star of a size
        ("quantity", "10*8 mm", "10^8 mm", {}),
        ("quantity", "10*8 mm", "100000000 mm", {}),
        # Mega and milli
        ("quantity", "3 MIU", "3 mIU", {}),
        ("quantity", "3 MU", "3 mU", {}),
        ("quantity", "3 MUI", "3 mUI", {}),
        ("quantity", "3 M.I.U.", "3 m.i.u.", {}),
        ("quantity", "3 ＭIU", "3 mIU", {}),
        ("quantity", "3 MIU/ML", "3 mIU/mL", {}),
        ("quantity", "3 MIU/ML", "3 MIU/mL", {}),
        # Numbers of a list
        ("quantity", "①5 mg", "15 mg", {}),
        ("text", "①5 mg", "15 mg", {}),
        ("quantity", "① 250 mg", "1250 mg", {}),
        ("quantity", "①、5 mg", "1,5 mg", {}),
        ("quantity", "①⓪ mg", "10 mg", {}),
        ("quantity", "5①", "51", {}),
        ("quantity", "⒈5 mg", "1.5 mg", {}),
        ("text", "⒈5 mg", "1.5 mg", {}),
        ("quantity", "🄂5 mg", "1,5 mg", {}),
        # Blanks beside numbers
        ("text", "1. 5 mg", "1.5 mg", {}),
        ("text", "1 .5 mg", "1.5 mg", {}),
        ("text", "1 , 5 mg", "1,5 mg", {}),
        ("text", "Tag 1, 5", "Tag 1,5", {}),
        ("text", "tab .25 mg", "tab. 25 mg", {}),
        ("text", "tab .25 mg", "tab 25 mg", {}),
        ("text", ".5 mg", "5 mg", {}),
        ("text", "1 0 mg", "10 mg", {"ignore_blanks": True}),
        ("text", "1 0 1", "101", {"ignore_blanks": True}),
        ("text", "1. 5 mg", "1.5 mg", {"ignore_blanks": True}),
        ("person_name", "Ana 1 2", "Ana 12", {"ignore_blanks": True}),
        # Units of the same formula
        ("quantity", "5 mGy", "5 mSv", {"convert_units": True}),
        ("quantity", "5 Bq", "5 Hz", {"convert_units": True}),
        ("quantity", "5 Bq", "5 /s", {"convert_units": True}),
        ("quantity", "5%", "0.05", {"convert_units": True}),
        ("quantity", "5 mg/kg", "5 ppm", {"convert_units": True}),
        ("quantity", "5 mg/kg", "0.000005", {"convert_units": True}),
        # Dots of codes
        ("code", "98.5", "9.85", {}),
        ("code", "1.23", "12.3", {}),
        ("code", "98.5", "985", {}),
        ("code", 1.0, "10", {}),
        # Words that make another value
        ("quantity", "500 mg per kg", "500 mg", {}),
        ("quantity", "500 mg /kg", "500 mg", {}),
        ("quantity", "500 mg kg / day", "500 mg", {}),
        ("quantity", "5 mg weekly", "5 mg", {}),
        ("quantity", "5 mg per day", "5 mg", {}),
        ("quantity", "minus 5 mg", "5 mg", {}),
        ("quantity", "more than 500 mg", "500 mg", {}),
        ("quantity", "max 500 mg", "500 mg", {}),
        ("quantity", "not 500 mg", "500 mg", {}),
        ("quantity", "half 5 mg", "5 mg", {}),
        ("quantity", "ca. 5 mg", "5 mg", {}),
        ("quantity", "每 5 mg", "5 mg", {}),
        ("number", "5 weekly", 5, {}),
        ("text", "Pneumonia?", "Pneumonia", {}),
        ("time", "not 8:30", "08:30", {}),
        ("time", "after 8:30", "08:30", {}),
        ("time", "8 giờ tối", "08:00", {}),
        ("time", "q8h", "08:00", {}),
        ("time", "8点半", "08:00", {}),
        ("date", "not 2021-05-01", "2021-05-01", {}),
    ],
)
def test_another_value_is_neither_right_nor_a_convention(
    kind: str, answered: Scalar, true: Scalar, options: dict[str, Any]
) -> None:
    field = spec(kind, **options)
    assert not is_correct(field, answered, true) and not is_correct(field, true, answered)
    ambiguous = any(is_correct(field, value, value) and "can be read" in "".join(problems(field, value))
                    for value in (answered, true))  # fmt: skip
    assert ambiguous or not same_meaning(field, answered, true)


@pytest.mark.parametrize(
    ("kind", "answered", "true", "options"),
    [
        ("number", 1.015, "1.015", {}),
        ("number", "1.015e-7", 1.015e-7, {}),
        ("number", 250, "250", {}),
        ("number", 250.0, "250", {}),
        ("number", 1.015, "1,015", {"decimal": "comma"}),
        ("number", 1.015, "1.015", {"decimal": "point"}),
        ("quantity", "20.000 IE", "20.000 I.E.", {}),
        ("quantity", "20.000 IE", "20000 IU", {"decimal": "comma"}),
        ("quantity", "5 mg/.5 mL", "5 mg/0.5 mL", {}),
        ("quantity", "5 mg/2.5 mL", "5 mg/2,50 ml", {}),
        ("quantity", "5 mg/0.5 mL", "10 mg/mL", {"convert_units": True}),
        ("quantity", "90 mL/min/1,73 m²", "0.09 L/min/1.73m^2", {"convert_units": True}),
        ("quantity", "10*8 mm", "10 x 8 mm", {}),
        ("quantity", "30*10*8 mm", "30×10×8 mm", {}),
        ("quantity", "10*8*5 cm", "10×8×5 cm", {}),
        ("quantity", "10*9/L", "10^9/l", {}),
        ("quantity", "1.2 10*3/mm3", "1.2 x10^3/mm³", {}),
        ("quantity", "3 MIU", "3 megaIU", {}),
        ("quantity", "3 MIU/L", "3 MIU/L", {}),
        ("quantity", "3 MIU", "3000000 IU", {"convert_units": True}),
        ("quantity", "0.5 MBq", "0.5 megabecquerel", {}),
        ("text", "①阿莫西林", "1阿莫西林", {}),
        ("text", "16 MG", "16MG", {}),
        ("text", "0,5 g", "0,5g", {}),
        ("text", "acute bronchitis 5 mg", "Acutebronchitis5mg", {"ignore_blanks": True}),
        ("quantity", "5 mSv", "0.005 Sv", {"convert_units": True}),
        ("quantity", "1 mCi", "37 MBq", {"convert_units": True}),
        ("quantity", "5 mg/kg", "5 µg/g", {"convert_units": True}),
        ("quantity", "37 ºC", "37 °C", {}),
        ("quantity", "37 ˚C", "37 °C", {}),
        ("quantity", "37º C", "37 °C", {}),
        ("date", "1º de mayo de 2021", "01/05/2021", {"date_order": "dmy"}),
        ("quantity", "4-10 x10^9/L", "4 x10^9/L - 10 x10^9/L", {}),
        ("quantity", "150 ± 20 x10^9/L", "150 x10^9/L ± 20 x10^9/L", {}),
        ("number", "4-10 x10^3", "4000-10000", {}),
        ("number", "4 x10^3 - 10", "4000-10", {}),
        ("number", "1e2-10 x10^3", "100-10000", {}),
        ("number", f"{'1' * 39}-2 x10^3", f"{'1' * 39}-2000", {}),
        ("quantity", "5 mgs", "5 mg", {}),
        ("quantity", "5 mls", "5 mL", {}),
        ("quantity", "5 Milligramm", "5 mg", {}),
        ("quantity", "5 Mikrogramm", "5 µg", {}),
        ("quantity", "5 Gramm", "5 g", {}),
        ("quantity", "5 miligramos", "5 mg", {}),
        ("quantity", "5 microgramos", "5 µg", {}),
        ("quantity", "5 gramos", "5 g", {}),
        ("quantity", "5 IE", "5 IU", {}),
        ("quantity", "2 Tabl.", "2 tablets", {}),
        ("quantity", "2 Tabletten", "2 tablets", {}),
        ("quantity", "2 comprimidos", "2 tablets", {}),
        ("quantity", "5毫克", "5 mg", {}),
        ("quantity", "5 克/升", "5 g/L", {}),
        ("quantity", "5 毫升", "5 mL", {}),
        ("code", "E11.9", "e119", {}),
        ("code", "j 20.9", "J209", {}),
        ("code", "E11.9", "E119", {"case_sensitive": True}),
        ("quantity", "80 1/min", "80 /min", {}),
        ("quantity", "60-80 1/min", "60 /min - 80 /min", {}),
        ("quantity", "(4.0-10.0)", "4-10", {}),
        ("quantity", "[70-110] mg/dL", "70-110 mg/dL", {}),
        ("quantity", "ca. 5 mg", "~5 mg", {}),
        ("quantity", "约5 mg", "~5 mg", {}),
        ("quantity", "nicht nachweisbar", "n.n.", {}),
    ],
)
def test_the_same_value_is_right(kind: str, answered: Scalar, true: Scalar, options: dict[str, Any]) -> None:
    assert is_correct(spec(kind, **options), answered, true)


@pytest.mark.parametrize(
    ("kind", "answered", "true"),
    [
        ("number", "20.000", 20000),
        ("number", 1.25, "1,25 "),
        ("quantity", "10 U/L", "10 IU/L"),
        ("quantity", "5 kU", "5000 IU"),
        ("quantity", "500 mg daily", "500 mg"),
        ("quantity", "5 min", "300 s"),
        ("quantity", "nicht nachweisbar", "not detected"),
        ("code", "E11.9 - diabetes", "E119"),
        ("code", "2345/7", "2345-7"),
        ("text", "Nr.5", "Nr 5"),
    ],
)
def test_the_right_information_in_another_form_is_a_convention(kind: str, answered: Scalar, true: Scalar) -> None:
    assert same_meaning(spec(kind), answered, true)


@pytest.mark.parametrize(
    ("kind", "value", "plain", "order"),
    [
        ("time", "8 Uhr", "08:00", "ymd"),
        ("time", "8.30 Uhr", "08:30", "ymd"),
        ("time", "8 Uhr 30", "08:30", "ymd"),
        ("time", "8h", "08:00", "ymd"),
        ("time", "20h", "20:00", "ymd"),
        ("time", "8 giờ 30", "08:30", "ymd"),
        ("time", "8 giờ 30 phút", "08:30", "ymd"),
        ("time", "8时", "08:00", "ymd"),
        ("datetime", "01/05/2021 (08:30)", "01/05/2021 08:30", "dmy"),
        ("datetime", "01.05.2021 8 Uhr", "01/05/2021 08:00", "dmy"),
        ("datetime", "Mo, 01.05.2021 8.30 Uhr", "01/05/2021 08:30", "dmy"),
        ("date", "Mo, 01.05.2021", "01/05/2021", "dmy"),
        ("date", "Mo., 01.05.2021", "01/05/2021", "dmy"),
        ("date", "Monday 3 May 2021", "03/05/2021", "dmy"),
        ("date", "Monday, May 3, 2021", "05/03/2021", "mdy"),
        ("date", "lundi 3 mai 2021", "03/05/2021", "dmy"),
        ("date", "mar. 4 mars 2021", "04/03/2021", "dmy"),
        ("date", "mar 4 2021", "03/04/2021", "mdy"),
        ("date", "lunes, 3 de mayo de 2021", "03/05/2021", "dmy"),
        ("date", "segunda-feira, 3 de maio de 2021", "03/05/2021", "dmy"),
        ("date", "Thứ hai, ngày 3 tháng 5 năm 2021", "03/05/2021", "dmy"),
        ("date", "Thứ 2, 03/05/2021", "03/05/2021", "dmy"),
        ("date", "Thứ năm 06/05/2021", "06/05/2021", "dmy"),
        ("date", "Chủ nhật 02/05/2021", "02/05/2021", "dmy"),
        ("date", "星期一 2021年5月3日", "2021-05-03", "ymd"),
        ("date", "01MAY2021", "01/05/2021", "dmy"),
        ("date", "1. Jänner 2021", "01/01/2021", "dmy"),
        ("date", "3 set 2021", "03/09/2021", "dmy"),
        ("date", "3 de out. de 2021", "03/10/2021", "dmy"),
        ("date", "1 thg 5 2021", "01/05/2021", "dmy"),
        ("boolean", "[x]", "yes", "ymd"),
        ("boolean", "√", "yes", "ymd"),
        ("boolean", "[ ]", "no", "ymd"),
    ],
)
def test_what_documents_show_is_read(kind: str, value: str, plain: str, order: DateOrder) -> None:
    field = spec(kind, date_order=order) if kind in ("date", "datetime") else spec(kind)
    assert problems(field, value) == []
    assert is_correct(field, value, plain)


@pytest.mark.parametrize("value", ["(5)", "(5 mg", "((4-10))", "1.2.3 mg"])
def test_what_is_no_quantity_stays_none(value: str) -> None:
    assert "does not read as quantity" in problems(spec("quantity"), value)[0]


def test_an_ambiguous_text_needs_the_option_and_a_json_number_does_not() -> None:
    for value in ("20.000 IE", "1:1.000", "1,250"):
        assert "say `decimal: comma` or `decimal: point`" in problems(spec("quantity"), value)[0]
        assert problems(spec("quantity", decimal="comma"), value) == []
    assert problems(spec("number"), 1.015) == []


@pytest.mark.parametrize(
    "unit",
    ["mg/.5 ml", "mg/100 ml", "ml/min/1,73m²", "mg/2.5ml", "/mm3", "mg/(kg.day)", "mg/1,000 ml", "viên nén", "mg/0ml"],
)
def test_a_canonical_unit_reads_as_itself(unit: str) -> None:
    canonical = read_unit(fold_text(unit))
    assert read_unit(canonical.spelling) == canonical


def test_marks_without_end_are_cut_before_they_cost_time() -> None:
    started = clock.process_time()
    folded = fold_text("a" + "\u0315" * 32_500 + "\u0300" * 32_480)
    assert clock.process_time() - started < 1 and len(folded) <= 31
    assert fold_text("a" + "\u0301" * 40 + "-" * 40 + "b\u0301") == "á" + "\u0301" * 29 + "-" * 40 + "b\u0301"
