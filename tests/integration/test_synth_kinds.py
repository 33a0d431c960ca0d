"""Synthetic documents of every kind: the annotation is exactly what is printed, and what is printed makes sense."""

import random
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.synth.blocks import Content, Items, Pair, Pairs, Paragraph, Signature, TableBlock, Title
from medvie_rl.data.synth.kinds import KINDS, LANGUAGES
from medvie_rl.data.synth.kinds.laboratory import level
from medvie_rl.data.synth.kinds.medicines import choose_diagnoses, choose_drugs, prescribe
from medvie_rl.data.synth.people import make_person, telephone
from medvie_rl.data.synth.values import CONDITIONS, draw_values, egfr
from medvie_rl.data.synth.words_analytes import ANALYTES
from medvie_rl.data.synth.words_diagnoses import DIAGNOSES
from medvie_rl.data.synth.words_drugs import DRUGS
from medvie_rl.data.synth.words_labels import LABELS
from rewards.compare import is_correct
from rewards.dates import read_day, read_moment
from rewards.numbers import read_numeral
from rewards.schema import FieldSpec, Schema, load_schema
from rewards.values import fold_text

SCHEMAS = Path(__file__).parents[2] / "conf" / "schemas"
CASES = [(kind, language) for kind in KINDS for language in LANGUAGES[kind]]
NUM = 200
PRINTED_CHOICES = {
    "female": {"f", "female", "w", "weiblich"}, "male": {"m", "male", "männlich"}, "left": {"left", "links"},
    "right": {"right", "rechts"}, "high": {"h", "high", "↑", "+", "*h", "*"}, "low": {"l", "low", "↓", "-", "*l", "*"},
}  # fmt: skip
IN_SENTENCES = ("tumour_size", "nodes_positive", "nodes_examined", "largest_lesion")


@cache
def schema_of(name: str) -> Schema:
    return load_schema(SCHEMAS / f"{name}.yaml")


@cache
def documents(kind: str, language: str) -> tuple[Content, ...]:
    return tuple(KINDS[kind](random.Random(f"{kind}/{language}/{index}"), language) for index in range(NUM))


def printed_texts(content: Content) -> set[str]:
    """Every text that stands for itself on the page; cells also joined with another cell of their row (value, unit)."""
    texts = {content.footer}
    if content.letterhead:
        texts |= {content.letterhead.name, *content.letterhead.lines}
    for block in content.blocks:
        match block:
            case Title(text=text):
                texts.add(text)
            case Pairs(pairs=pairs):
                texts |= {pair.value for pair in pairs}
            case Paragraph(text=text):
                texts.add(text)
            case Items(items=items):
                texts |= set(items)
            case Signature(name=name):
                texts.add(name)
            case TableBlock(rows=rows):
                for row in rows:
                    texts |= set(row) | {f"{one} {other}" for one in row for other in row}
            case _:
                pass
    return texts - {""}


def printed_labels(content: Content) -> set[str]:
    labels: set[str] = set()
    for block in content.blocks:
        match block:
            case Pairs(pairs=pairs, title=title):
                labels |= {title, *(pair.label for pair in pairs)}
            case Paragraph(title=title) | Items(title=title):
                labels.add(title)
            case TableBlock(columns=columns, title=title):
                labels |= {title, *columns}
            case Signature(caption=caption):
                labels.add(caption)
            case _:
                pass
    return {label.removesuffix(":") for label in labels} - {""}


def leaves(schema: Schema, annotation: dict[str, Any]) -> Iterator[tuple[FieldSpec, Any]]:
    for key, value in annotation.items():
        spec = schema.field(key)
        if spec.kind == "table":
            columns = {column.key: column for column in spec.columns}
            for row in value:
                for name, cell in row.items():
                    for item in cell if isinstance(cell, list) else [cell]:
                        yield columns[name], item
        else:
            for item in value if isinstance(value, list) else [value]:
                yield spec, item


def is_printed(spec: FieldSpec, value: Any, texts: set[str]) -> bool:
    if spec.kind == "enum":
        return any(fold_text(text) in PRINTED_CHOICES[value] for text in texts)
    if value in texts or any(is_correct(spec, text, value) for text in texts):
        return True
    # A few facts stand in running text only, as whole words.
    return spec.key in IN_SENTENCES and any(
        re.search(rf"(?<![\w.,]){re.escape(value)}(?![\w])", text) for text in texts
    )


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_the_annotation_is_what_is_printed(kind: str, language: str) -> None:
    for content in documents(kind, language):
        schema = schema_of(content.schema)
        assert (content.kind, content.language, content.document_type) == (kind, language, schema.document_type)
        assert schema.validate_annotation(content.annotation) == []
        texts = printed_texts(content)
        for spec, value in leaves(schema, dict(content.annotation)):
            assert is_printed(spec, value, texts), (spec.key, value, sorted(texts))


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_what_is_left_out_has_no_label(kind: str, language: str) -> None:
    num_absent: dict[str, int] = {}
    for content in documents(kind, language):
        schema, labels = schema_of(content.schema), printed_labels(content)
        present = {key for key in schema.keys if key in content.annotation}
        used = {label for key in present for label in _labels(schema.field(key), language)}
        for key in set(schema.keys) - present:
            num_absent[key] = num_absent.get(key, 0) + 1
            assert not labels & (set(LABELS[language].get(key, ())) - used), (key, labels)
    for key, count in num_absent.items():
        assert count <= NUM * 0.95, key
    assert max(num_absent.values()) >= NUM * 0.1


def _labels(spec: FieldSpec, language: str) -> set[str]:
    keys = [spec.key, *(column.key for column in spec.columns)]
    return {label for key in keys for label in LABELS[language].get(key, ())}


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_documents_differ_and_come_again(kind: str, language: str) -> None:
    contents = documents(kind, language)
    assert len({repr(content) for content in contents}) == NUM
    again = KINDS[kind](random.Random(f"{kind}/{language}/7"), language)
    assert again == contents[7]


@pytest.mark.parametrize("language", ["en", "de"])
def test_labels_have_several_wordings(language: str) -> None:
    few = {"merchant": 1, "loinc": 2, "unit": 2, "laterality": 2, "cash": 2, "change": 2}
    for key, wordings in LABELS[language].items():
        assert len(set(wordings)) == len(wordings) >= few.get(key, 3), key


# --- laboratory -------------------------------------------------------------------------------------------------------


def number(text: str, language: str) -> float:
    value = read_numeral(text.strip("<>≤≥ "), "comma" if language == "de" else "point")
    assert isinstance(value, Decimal), text
    return float(value)


@pytest.mark.parametrize("language", ["en", "de"])
def test_marks_follow_from_values_and_ranges(language: str) -> None:
    num_marked = num_rows = 0
    for content in documents("laboratory_report", language):
        rows = content.annotation["results"]
        assert 5 <= len(rows) <= 30
        table = next(block for block in content.blocks if isinstance(block, TableBlock))
        assert len(table.rows) == len(rows)
        if not set(table.columns) & set(LABELS[language]["flag"]):
            assert not any("flag" in row for row in rows)
            continue
        assert all("reference" in row for row in rows) or not any("*" in row for row in table.rows)
        num_rows += len(rows)
        num_marked += sum("flag" in row for row in rows)
        for row in rows:
            if "reference" not in row or not re.match(r"[<>]? ?[0-9]", row["reference"]) or ":" in row["reference"]:
                continue
            sign = row["value"][0] if row["value"][0] in "<>" else ""
            match = re.match(r"[<> ]*([0-9.,]+)(?: ?[-–] ?([0-9.,]+))?", row["reference"])
            shown = re.match(r"[<> ]*([0-9.,]+)", row["value"])
            assert match and shown, row
            low, high = number(match[1], language), number(match[2], language) if match[2] else None
            bounds = (None, low) if row["reference"][0] == "<" else (low, high)
            assert level(number(shown[1], language), sign, *bounds) == row.get("flag", ""), row
    assert 0.10 <= num_marked / num_rows <= 0.60


def test_values_hang_together() -> None:
    rng = random.Random(3)
    for index in range(400):
        conditions = (CONDITIONS[index % len(CONDITIONS)],) if index % 3 else ()
        values = draw_values(rng, sex=("female", "male")[index % 2], age=20 + index % 70, conditions=conditions)
        assert values["mcv"] == pytest.approx(values["hct"] * 10 / values["rbc"], abs=0.051)
        assert values["mch"] == pytest.approx(values["hb"] * 10 / values["rbc"], abs=0.051)
        assert values["mchc"] == pytest.approx(values["hb"] * 100 / values["hct"], abs=0.051)
        assert sum(values[f"{cell}_pct"] for cell in ("neut", "lymph", "mono", "eos", "baso")) == pytest.approx(100)
        assert values["gap"] == values["na"] - values["cl"] - values["hco3"]
        assert values["ldl"] == pytest.approx(values["chol"] - values["hdl"] - values["tg"] / 5, abs=0.51)
        assert values["glob"] == pytest.approx(values["tp"] - values["alb"])
        assert values["bili_d"] <= values["bili"]
        assert min(value for key, value in values.items() if key != "ldl") >= 0
    assert len(ANALYTES) == 78


def test_conditions_move_what_belongs_together() -> None:
    def mean(condition: str, key: str) -> float:
        rng = random.Random(5)
        conditions = (condition,) if condition else ()
        draws = [draw_values(rng, sex="female", age=60, conditions=conditions)[key] for _ in range(200)]
        return sum(draws) / len(draws)

    assert mean("iron_deficiency", "mcv") < 82 < mean("", "mcv") < 95 < mean("vitamin_b12_deficiency", "mcv")
    assert mean("renal_failure", "egfr") < 50 < mean("", "egfr")
    assert mean("diabetes", "hba1c") > 6.5 > mean("", "hba1c")
    assert mean("hyperthyroidism", "tsh") < 0.3 < mean("", "tsh") < 5 < mean("hypothyroidism", "tsh")


def test_egfr_is_ckd_epi_2021() -> None:
    assert egfr(1.0, sex="male", age=50) == 92.0
    assert egfr(1.0, sex="female", age=50) == 69.0


# --- drugs and diagnoses ----------------------------------------------------------------------------------------------


def test_drugs_fit_the_patient_and_are_counted_out() -> None:
    assert len(DRUGS) == len({drug.names["en"] for drug in DRUGS}) >= 130
    assert {key for drug in DRUGS for key in drug.diagnoses} <= set(DIAGNOSES)
    rng = random.Random(8)
    for _ in range(500):
        sex, age = rng.choice(("female", "male")), rng.randint(18, 90)
        diagnoses = choose_diagnoses(rng, sex=sex, age=age, count=3)
        assert all(item.sex in ("", sex) and item.ages[0] <= age <= item.ages[1] for item in diagnoses)
        for drug in choose_drugs(rng, diagnoses, sex=sex, most=8):
            assert drug.sex in ("", sex) and set(drug.diagnoses) & {item.key for item in diagnoses}
            medicine = prescribe(rng, drug, "en")
            if medicine.pieces is not None and medicine.times != "w":
                assert medicine.quantity.split()[0] == str(int(medicine.times) * medicine.days)


def test_diagnoses_have_icd_codes_of_their_own() -> None:
    codes = {item.code: item for item in DIAGNOSES.values()}
    assert len(codes) == len(DIAGNOSES)
    assert all(re.fullmatch(r"[A-Z][0-9]{2}(\.[0-9])?", code) for code in codes)


# --- dates and sums ---------------------------------------------------------------------------------------------------


def days(content: Content, *keys: str) -> list[date]:
    schema = schema_of(content.schema)
    found = []
    for key in keys:
        if key in content.annotation:
            text, spec = fold_text(content.annotation[key]), schema.field(key)
            moment = read_moment(text, spec.date_order) if spec.kind == "datetime" else None
            day = moment.day if moment else read_day(text, spec.date_order)
            assert day is not None
            found.append(day)
    return found


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("laboratory_report", ("birth_date", "collected_at")),
        ("prescription", ("birth_date", "date")),
        ("imaging_report", ("birth_date", "exam_date")),
        ("pathology_report", ("birth_date", "received_on", "reported_on")),
        ("dermatology_report", ("birth_date", "visit_date", "follow_up")),
        ("discharge_summary", ("birth_date", "admitted_on", "discharged_on")),
        ("invoice", ("invoice_date", "due_date")),
        ("vaccination_card", ("birth_date", "next_due")),
    ],
)
@pytest.mark.parametrize("language", ["en", "de"])
def test_dates_are_in_order(kind: str, keys: tuple[str, ...], language: str) -> None:
    for content in documents(kind, language):
        found = days(content, *keys)
        assert found == sorted(found)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_stay_is_as_long_as_it_says(language: str) -> None:
    num = 0
    for content in documents("discharge_summary", language):
        found = days(content, "admitted_on", "discharged_on")
        if len(found) == 2 and "length_of_stay" in content.annotation:
            assert (found[1] - found[0]).days == int(content.annotation["length_of_stay"])
            num += 1
    assert num > 50


@pytest.mark.parametrize("kind", ["receipt", "invoice"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_sums_add_up(kind: str, language: str) -> None:
    def cents(text: str) -> int:
        return round(number(text, language) * 100)

    for content in documents(kind, language):
        truth = content.annotation
        amounts = [cents(row["amount"]) for row in truth["items"]]
        for row, amount in zip(truth["items"], amounts, strict=True):
            assert "unit_price" not in row or cents(row["unit_price"]) * int(row["quantity"]) == amount
        total = cents(truth["total"])
        assert kind == "invoice" or sum(amounts) == total
        if "subtotal" in truth and "tax" in truth:
            assert cents(truth["subtotal"]) + cents(truth["tax"]) == total
        if "subtotal" in truth and kind == "invoice":
            assert sum(amounts) == cents(truth["subtotal"])
        if "change" in truth:
            assert cents(truth["cash"]) - cents(truth["change"]) == total


@pytest.mark.parametrize("language", ["en", "de"])
def test_reports_agree_with_themselves(language: str) -> None:
    side = {"en": r"\b(left|right)\b", "de": r"\b(links|rechts)\b"}[language]
    for content in documents("imaging_report", language):
        found = set(re.findall(side, content.annotation["findings"].lower()))
        assert set(re.findall(side, content.annotation.get("impression", "").lower())) <= found
        assert content.annotation.get("largest_lesion", "") in content.annotation["findings"]
    for content in documents("pathology_report", language):
        truth = content.annotation
        if "tnm" in truth and "nodes_positive" in truth:
            assert ("pN0" in truth["tnm"]) == (truth["nodes_positive"] == "0")
        if "nodes_positive" in truth and "nodes_examined" in truth:
            assert int(truth["nodes_positive"]) <= int(truth["nodes_examined"])


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_is_dangerous_or_impossible_is_not_written(language: str) -> None:
    for content in documents("discharge_summary", language):
        if "Penicillin" in content.annotation.get("allergies", ()):
            names = " ".join(row["name"].lower() for row in content.annotation.get("medicines", ()))
            assert "cillin" not in names and "cef" not in names
    for content in documents("vaccination_card", language):
        for row in content.annotation["vaccinations"]:
            if row["vaccine"] in ("Covigen", "Coronix"):
                day = read_day(fold_text(row["given_on"]), "dmy")
                assert day is not None and day.year >= 2021


def test_every_kind_has_a_document_type_of_its_own() -> None:
    names = {content.schema for case in CASES for content in documents(*case)[:1]}
    types = [schema_of(name).document_type for name in names]
    assert len(set(types)) == len(types) == 11


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_sentence_tells_what_is_left_out(language: str) -> None:
    sizes = re.compile(r"(?:tumour of|Tumor von) [0-9]")
    nodes = re.compile(r"[0-9] (?:of|von) [0-9]+ (?:lymph|Lymph)")
    margin = re.compile(r"nearest margin|reaches the margin|nächsten Rand|erreicht den Rand")
    grade = re.compile(r"differentiated|differenziert")
    for content in documents("pathology_report", language):
        page = " ".join(printed_texts(content))
        told = {
            "tumour_size": sizes,
            "nodes_positive": nodes,
            "nodes_examined": nodes,
            "margins": margin,
            "grade": grade,
        }
        for key, pattern in told.items():
            assert key in content.annotation or not pattern.search(page), (key, page)
    for content in documents("imaging_report", language):
        page = " ".join(printed_texts(content) - {content.annotation.get("technique")})
        assert "largest_lesion" in content.annotation or not re.search(r"[0-9] (?:mm|cm)\b", page)


# --- people -----------------------------------------------------------------------------------------------------------


def test_telephones_are_fictional() -> None:
    rng = random.Random(1)
    for _ in range(200):
        assert re.fullmatch(r"\([2-9][0-9]{2}\) 555-01[0-9]{2}", telephone(rng, "en"))
        assert telephone(rng, "de")[:-4] in ("030 23125", "069 90009", "040 66969", "0221 4710", "089 99998")


def test_people_have_the_age_that_was_asked_for() -> None:
    rng = random.Random(2)
    today = date(2024, 2, 29)
    ages = [make_person(rng, "en", today, ages=(40, 60)).age_on(today) for _ in range(300)]
    assert min(ages) >= 40 and max(ages) <= 60


def test_every_label_of_a_pair_is_short() -> None:
    for kind, language in CASES:
        for content in documents(kind, language)[:30]:
            for block in content.blocks:
                pairs: tuple[Pair, ...] = block.pairs if isinstance(block, Pairs) else ()
                assert all(len(pair.label) <= 40 and pair.value for pair in pairs)
