"""The layout rules of the OCR baseline on hand-made lines: labels, values by kind, tables, and what is left out."""

from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.ocr import OcrLine
from medvie_rl.data.reading_order import Box
from medvie_rl.ocr_baseline.extract import extract_fields
from medvie_rl.ocr_baseline.labels import find_labels, similarity
from medvie_rl.ocr_baseline.values import find_value
from medvie_rl.ocr_baseline.vocabulary import phrases_of
from rewards.schema import FieldSpec, Schema, load_schema

ROOT = Path(__file__).resolve().parents[2]
PATIENT = FieldSpec(key="patient", description="first and last name", kind="person_name")
BORN = FieldSpec(key="birth_date", description="the patient's day of birth as printed", kind="date", date_order="dmy")
DATE = FieldSpec(key="date", description="day, YYYY-MM-DD", kind="date")
DOSE = FieldSpec(key="dose", description="strength with its unit", kind="quantity")
DRUG = FieldSpec(key="drug", description="medicine", kind="text")
SEX = FieldSpec(key="sex", description="male or female", kind="enum", choices=("male", "female"))
FINDINGS = FieldSpec(key="findings", description="the findings as written", kind="free_text")


def line(text: str, x0: float, y0: float, width: float | None = None) -> OcrLine:
    """A line 0.02 high, 0.01 wide a character."""
    return OcrLine(
        text=text, box=Box(x0, y0, x0 + (0.01 * len(text) if width is None else width), y0 + 0.02), confidence=1.0
    )


def schema(*fields: FieldSpec) -> Schema:
    return Schema(name="form", document_type="form", description="A form.", fields=fields)


def extract(fields: list[FieldSpec], *lines: OcrLine) -> dict[str, Any]:
    return extract_fields(schema(*fields), [lines])


# --- labels ----------------------------------------------------------------------------------------------------------


def test_values_stand_behind_right_of_and_below_their_labels() -> None:
    lines = (
        line("Patient name: Ana Silva", 0.1, 0.10),
        line("Date of birth", 0.1, 0.14),
        line("03.02.1961", 0.5, 0.14),
        line("DOSE", 0.1, 0.20),
        line("7.5 mg", 0.1, 0.23),
    )
    assert extract([PATIENT, BORN, DOSE], *lines) == {
        "patient": "Ana Silva",
        "birth_date": "03.02.1961",
        "dose": "7.5 mg",
    }


def test_several_labels_share_a_line_with_and_without_colons() -> None:
    fields = [DRUG, DOSE, SEX, FieldSpec(key="age", description="years", kind="number")]
    assert extract(fields, line("Drug: Sertraline Dose: 2 mg", 0.1, 0.1), line("age 38 sex F", 0.1, 0.14)) == {
        "drug": "Sertraline",
        "dose": "2 mg",
        "sex": "female",
        "age": "38",
    }


def test_a_qualified_label_is_of_another_key() -> None:
    assert extract([DATE], line("Due date: 2024-03-01", 0.1, 0.1), line("Date: 2024-02-01", 0.1, 0.14)) == {
        "date": "2024-02-01"
    }
    two = [DATE, FieldSpec(key="due_date", description="day until which to pay", kind="date")]
    assert extract(two, line("Due date: 2024-03-01", 0.1, 0.1), line("Date: 2024-02-01", 0.1, 0.14)) == {
        "date": "2024-02-01",
        "due_date": "2024-03-01",
    }


def test_a_value_is_not_taken_over_another_label() -> None:
    lines = (line("Drug:", 0.1, 0.1), line("Dose: 5 mg", 0.1, 0.13))
    assert extract([DRUG, DOSE], *lines) == {"dose": "5 mg"}


def test_long_labels_may_be_misread_and_short_ones_not() -> None:
    assert similarity("Findngs", FINDINGS) > 0.8
    assert similarity("Bom", BORN) == 0.0
    assert similarity("Dote", DATE) == 0.0


def test_labels_come_from_key_description_and_paraphrases() -> None:
    spec = FieldSpec(
        key="loinc", description="LOINC code if one is printed", kind="code", paraphrases=("Prüfschlüssel",)
    )
    phrases = dict(phrases_of(spec))
    assert phrases["loinc"] == 1.0
    assert phrases["prüfschlüssel"] == 0.95
    assert "yyyy-mm-dd" not in dict(phrases_of(DATE))
    (label,) = find_labels("Prüfschlüssel: 718-7", [spec])
    assert (label.start, label.end, label.has_colon) == (0, 14, True)


def test_labels_in_a_row_have_their_values_below() -> None:
    lines = (
        line("Patient", 0.1, 0.10),
        line("Case worker", 0.5, 0.10),  # a label of no key, which has no colon either
        line("Ana Silva", 0.1, 0.125),
        line("Nils Weber", 0.5, 0.125),
    )
    assert extract([PATIENT], *lines) == {"patient": "Ana Silva"}
    assert extract([PATIENT], line("Patient", 0.1, 0.1), line("Ana Silva", 0.5, 0.1)) == {"patient": "Ana Silva"}


def test_a_section_takes_its_lines_up_to_the_next_heading() -> None:
    fields = [FINDINGS, FieldSpec(key="impression", description="the conclusion as written", kind="free_text")]
    lines = (
        line("FINDINGS:", 0.1, 0.10),
        line("The heart is of normal size. The lungs", 0.1, 0.13),
        line("are clear.", 0.1, 0.155),
        line("Impression:", 0.1, 0.20),
        line("No acute findings.", 0.1, 0.23),
    )
    assert extract(fields, *lines) == {
        "findings": "The heart is of normal size. The lungs are clear.",
        "impression": "No acute findings.",
    }


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        (DATE, "on 07.12.2021", "2021-12-07"),  # in the order that the schema wants
        (DATE, "12 May 1989", "1989-05-12"),
        (DATE, "2024-02-30", None),  # no such day
        (BORN, "14/08/1979", "14/08/1979"),  # as printed where it reads so
        (BORN, "1979-08-14", "14/08/1979"),
        (DOSE, "take 500 mg twice", "500 mg"),
        (DOSE, "< 0.5 mmol/L", "< 0.5 mmol/L"),
        (DOSE, "about right", None),
        (SEX, "Male, 51", "male"),
        (SEX, "M", "male"),
        (SEX, "Maria", None),
        (PATIENT, "VIDAL, Dario", "Dario VIDAL"),  # the description asks for the first name first
        (PATIENT, "Dr. Ana Silva, born 1961", "Ana Silva"),
        (PATIENT, "12345", None),
        (FieldSpec(key="code", description="ICD-10 code", kind="code"), "Asthma J45.9", "J45.9"),
        (FieldSpec(key="lot", description="lot number", kind="code"), "no. AT6080", "AT6080"),
        (FieldSpec(key="fasting", description="fasting", kind="boolean"), "yes", True),
        (FieldSpec(key="at", description="time", kind="time"), "taken 08:30", "08:30"),
        (FieldSpec(key="at", description="when", kind="datetime"), "2024-01-02, 8:30", "2024-01-02 8:30"),
        (FieldSpec(key="total", description="sum to pay", kind="text"), "Grand Total RM51.30", "RM51.30"),
        (FieldSpec(key="total", description="sum to pay", kind="number"), "RM51.30", "51.30"),
    ],
)
def test_values_are_read_by_kind(spec: FieldSpec, text: str, value: str | bool | None) -> None:
    found = find_value(spec, text)
    assert (found.value if found else None) == value


def test_a_value_without_a_label_is_taken_where_only_one_key_can_be_meant() -> None:
    assert extract([DATE, DOSE], line("15 Mar 2025", 0.1, 0.1), line("10 mL", 0.1, 0.14)) == {
        "date": "2025-03-15",
        "dose": "10 mL",
    }
    assert extract([DATE, BORN], line("15 Mar 2025", 0.1, 0.1)) == {}  # one of two


def test_absent_keys_are_left_out() -> None:
    assert extract([PATIENT, DATE, DOSE, DRUG, SEX, FINDINGS], line("Thank you for your visit", 0.1, 0.1)) == {}
    assert extract([PATIENT]) == {}


def test_lists_take_every_label_or_every_numbered_item() -> None:
    fields = [
        FieldSpec(key="drug_names", description="every drug as printed", kind="text", many=True),
        FieldSpec(key="quantities", description="amount, without the prefix SL", kind="quantity", many=True),
        FieldSpec(key="allergies", description="known allergies", kind="text", many=True),
    ]
    lines = (
        line("1) DROXICEF 0,5g", 0.1, 0.1),
        line("SL: 20 Viên", 0.7, 0.1),
        line("2) DIXIREIN 375mg", 0.1, 0.14),
        line("SL: 10 Viên", 0.7, 0.14),
        line("Allergies: penicillin, nuts", 0.1, 0.2),
    )
    assert extract(fields, *lines) == {
        "drug_names": ["DROXICEF 0,5g", "DIXIREIN 375mg"],
        "quantities": ["20 Viên", "10 Viên"],
        "allergies": ["penicillin", "nuts"],
    }


def test_the_issuer_stands_at_the_top_with_the_address_below() -> None:
    fields = [
        FieldSpec(key="company", description="who sold", kind="text"),
        FieldSpec(key="address", description="address as printed", kind="free_text"),
    ]
    lines = (
        line("TAX INVOICE", 0.3, 0.02),
        line("Lakeside Hardware Sdn Bhd (12345-X)", 0.3, 0.06),
        line("12 Main Road,", 0.3, 0.09),
        line("47000 Rivertown", 0.3, 0.12),
        line("Tel: 03-7710 0302", 0.3, 0.15),
    )
    assert extract(fields, *lines) == {
        "company": "Lakeside Hardware Sdn Bhd",
        "address": "12 Main Road, 47000 Rivertown",
    }


# --- tables ----------------------------------------------------------------------------------------------------------

RESULTS = FieldSpec(
    key="results",
    description="every measured value",
    kind="table",
    row_keys=("test",),
    columns=(
        FieldSpec(key="test", description="name of the test as printed", kind="text"),
        FieldSpec(key="value", description="result with its unit", kind="quantity"),
        FieldSpec(key="reference", description="reference range with its unit", kind="quantity"),
    ),
)
ITEMS = FieldSpec(
    key="items",
    description="every article",
    kind="table",
    row_keys=("item",),
    columns=(
        FieldSpec(key="item", description="article as printed", kind="text"),
        FieldSpec(key="quantity", description="how many", kind="number"),
        FieldSpec(key="amount", description="price of the line", kind="number"),
    ),
)
MEDICINES = FieldSpec(
    key="medicines",
    description="every drug",
    kind="table",
    row_keys=("name",),
    columns=(
        FieldSpec(key="name", description="drug as printed", kind="text"),
        FieldSpec(key="quantity", description="amount to hand out with its unit", kind="quantity"),
    ),
)


def test_rows_under_a_header_are_bound_by_columns() -> None:
    lines = (
        line("Result", 0.4, 0.10),
        line("Test", 0.1, 0.10),
        line("Method", 0.55, 0.10),  # of no column
        line("Reference range", 0.7, 0.10),
        line("Sodium", 0.1, 0.14),
        line("141 mmol/L", 0.39, 0.142),
        line("ISE", 0.55, 0.14),
        line("135-145 mmol/L", 0.7, 0.139),
        line("Potassium", 0.1, 0.18),
        line("5.9 mmol/L", 0.4, 0.18),
        line("plasma", 0.1, 0.205),  # goes on
        line("Comment: none", 0.1, 0.25),
    )
    assert extract([RESULTS], *lines) == {
        "results": [
            {"test": "Sodium", "value": "141 mmol/L", "reference": "135-145 mmol/L"},
            {"test": "Potassium plasma", "value": "5.9 mmol/L"},
        ]
    }


def test_rows_without_a_header_are_lines_of_words_with_numbers() -> None:
    total = FieldSpec(key="total", description="sum to pay", kind="number")
    lines = (
        line("Aspirin", 0.1, 0.1),
        line("2", 0.5, 0.1),
        line("9.80", 0.7, 0.1),
        line("Bandage", 0.1, 0.14),
        line("1", 0.5, 0.14),
        line("3.10", 0.7, 0.14),
        line("Total", 0.1, 0.2),
        line("12.90", 0.7, 0.2),
    )
    assert extract([ITEMS, total], *lines) == {
        "items": [
            {"item": "Aspirin", "quantity": "2", "amount": "9.80"},
            {"item": "Bandage", "quantity": "1", "amount": "3.10"},
        ],
        "total": "12.90",
    }
    assert "items" not in extract([ITEMS], *lines[:3])  # one line is no table


def test_numbered_blocks_are_rows() -> None:
    lines = (
        line("1) DROXICEF 0,5g", 0.1, 0.1),
        line("SL: 20 Viên", 0.7, 0.1),
        line("2) DIXIREIN 375mg", 0.1, 0.14),
        line("SL: 10 Viên", 0.7, 0.14),
    )
    assert extract([MEDICINES], *lines) == {
        "medicines": [
            {"name": "DROXICEF 0,5g", "quantity": "20 Viên"},
            {"name": "DIXIREIN 375mg", "quantity": "10 Viên"},
        ]
    }


def test_pages_go_together_and_the_order_is_the_schemas() -> None:
    found = extract_fields(schema(DATE, DRUG), [[line("Drug: Folate", 0.1, 0.1)], [line("Date: 2024-01-02", 0.1, 0.1)]])
    assert list(found.items()) == [("date", "2024-01-02"), ("drug", "Folate")]


@pytest.mark.parametrize("path", sorted((ROOT / "conf/schemas").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_schema_is_served(path: Path) -> None:
    """What is found fits the schema, whatever stands on the page."""
    found = load_schema(path)
    texts = ("Patient: Ana Silva", "Date: 2024-01-02", "Total", "12.90", "1) Folate 5 mg", "2) Aspirin 1 g", "{}", ":")
    fields = extract_fields(found, [[line(text, 0.1, 0.05 * number) for number, text in enumerate(texts)]])
    assert found.validate_annotation(fields) == []
