"""Prescriptions: one to eight drugs for the patient's diagnoses, as a table or as a block for each drug."""

import random
from datetime import date
from typing import Any

from medvie_rl.data.synth.blocks import (
    Block,
    Content,
    Emphasis,
    Items,
    Letterhead,
    Pair,
    Pairs,
    Signature,
    Stamp,
    TableBlock,
    Title,
)
from medvie_rl.data.synth.kinds.draft import Draft, random_day
from medvie_rl.data.synth.kinds.medicines import Medicine, choose_diagnoses, choose_drugs, prescribe
from medvie_rl.data.synth.people import Person, contact_lines, institution, make_doctor, make_person
from medvie_rl.data.synth.words_diagnoses import Diagnosis

LANGUAGES = ("en", "de", "vi")
_LEFT_OUT = {"birth_date": 0.3, "date": 0.15, "prescriber": 0.2, "facility": 0.15, "diagnosis": 0.35}
_TITLES = {
    "en": ("Prescription", "Rx", "Medication order", "Outpatient prescription"),
    "de": ("Rezept", "Verordnung", "Privatrezept", "Arzneimittelverordnung"),
    "vi": ("ĐƠN THUỐC", "TOA THUỐC", "ĐƠN THUỐC NGOẠI TRÚ"),
}
_VIETNAMESE_DIAGNOSES = {
    "hypertension": "Tăng huyết áp",
    "diabetes": "Đái tháo đường týp 2",
    "reflux": "Trào ngược dạ dày thực quản",
    "back_pain": "Đau lưng",
    "bronchitis": "Viêm phế quản cấp",
    "dyslipidaemia": "Rối loạn lipid máu",
    "gout": "Gút",
    "sinusitis": "Viêm xoang cấp",
    "tonsillitis": "Viêm amiđan cấp",
    "asthma": "Hen phế quản",
    "migraine": "Đau nửa đầu",
}


def prescription(rng: random.Random, language: str) -> Content:
    """A prescription. Vietnamese ones are annotated as lists (`prescription_vi`), others with a row for each drug."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    day = random_day(rng)
    person, diagnoses, medicines = _case(rng, language, day)
    if language == "vi":
        return _vietnamese(draft, person, day, diagnoses, medicines)
    heads = [
        draft.pair("patient", person.printed_name(rng)),
        draft.pair("birth_date", draft.day(person.birth_date)),
        draft.pair("date", draft.day(day)),
        draft.others(),
    ]
    facility = institution(rng, language, rng.choice(("practice", "hospital")))
    letterhead = None
    if draft.keeps("facility"):
        draft.annotation["facility"] = facility
        if rng.random() < 0.75:
            letterhead = Letterhead(name=facility, lines=contact_lines(rng, language))
        else:
            heads.append([Pair(label=draft.label("facility"), value=facility)])
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language]))]
    told, listed = _diagnoses(draft, diagnoses)
    doctor = make_doctor(rng, language)
    signs = draft.keeps("prescriber")
    if signs:
        draft.annotation["prescriber"] = doctor
        if rng.random() < 0.4:
            heads.append([Pair(label=draft.label("prescriber"), value=doctor)])
            signs = False
    blocks += [Pairs(pairs=draft.shuffled([*heads, told])), *listed, *_drugs(draft, medicines)]
    if signs:
        blocks.append(Signature(name=doctor, caption=draft.heading("prescriber")))
    if letterhead and rng.random() < 0.25:
        blocks.append(Stamp(lines=(letterhead.name, *letterhead.lines[:1])))
    return Content(
        kind="prescription",
        document_type="prescription",
        specialty="general practice",
        language=language,
        schema="prescription",
        letterhead=letterhead,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _case(rng: random.Random, language: str, day: date) -> tuple[Person, list[Diagnosis], list[Medicine]]:
    """Somebody with diagnoses and the drugs for them; the sex and the age fit the diagnoses."""
    while True:
        person = make_person(rng, language, day)
        count = rng.choice((1, 1, 2, 2, 3, 4))
        diagnoses = choose_diagnoses(rng, sex=person.sex, age=person.age_on(day), count=count)
        drugs = choose_drugs(rng, diagnoses, sex=person.sex, most=8)
        if drugs:
            return person, diagnoses, [prescribe(rng, drug, language) for drug in drugs]


def _diagnoses(draft: Draft, diagnoses: list[Diagnosis]) -> tuple[list[Pair], list[Block]]:
    """The diagnoses as a pair where there is one, as a list otherwise."""
    if not draft.keeps("diagnosis"):
        return [], []
    names = [draft.rng.choice(diagnosis.names[draft.language]) for diagnosis in diagnoses]
    if draft.rng.random() < 0.25:
        names = [f"{name} ({diagnosis.code})" for name, diagnosis in zip(names, diagnoses, strict=True)]
    draft.annotation["diagnosis"] = names
    if len(names) == 1:
        return [Pair(label=draft.label("diagnosis"), value=names[0])], []
    return [], [Items(title=draft.heading("diagnosis"), items=tuple(names), numbered=draft.rng.random() < 0.5)]


def _drugs(draft: Draft, medicines: list[Medicine]) -> list[Block]:
    rng = draft.rng
    in_name, with_quantity, with_usage = rng.random() < 0.4, rng.random() < 0.85, rng.random() < 0.92
    rows: list[dict[str, Any]] = []
    for medicine in medicines:
        is_pack = medicine.form in ("cream", "eye")  # their "strength" is the size of the pack
        row: dict[str, Any] = {"name": medicine.name}
        if in_name and not is_pack:
            row["name"] += f" {medicine.strength}"
        elif not is_pack:
            row["dose"] = medicine.strength
        if with_quantity:
            row["quantity"] = medicine.strength if is_pack else medicine.quantity
        if with_usage:
            row["usage"] = list(medicine.usage)
        rows.append(row)
    draft.annotation["medicines"] = rows
    fits = all(len(row.get("usage", ())) <= 1 for row in rows)
    if fits and rng.random() < 0.65:
        return [_table(draft, rows)]
    emphasis: Emphasis = rng.choice(("plain", "bold", "bold", "handwritten"))
    return [_block(draft, index, row, emphasis) for index, row in enumerate(rows, start=1)]


def _table(draft: Draft, rows: list[dict[str, Any]]) -> TableBlock:
    columns = [key for key in ("name", "dose", "quantity", "usage") if any(key in row for row in rows)]
    if draft.rng.random() < 0.3 and "quantity" in columns:
        columns.append(columns.pop(columns.index("quantity")))

    def cell(row: dict[str, Any], key: str) -> str:
        value = row.get(key, "")
        return value[0] if isinstance(value, list) else str(value)

    return TableBlock(
        columns=tuple(draft.heading(key) for key in columns),
        rows=tuple(tuple(cell(row, key) for key in columns) for row in rows),
    )


def _block(draft: Draft, index: int, row: dict[str, Any], emphasis: Emphasis) -> Pairs:
    pairs = [Pair(label=draft.rng.choice((f"{index}.", f"{index})")), value=row["name"], emphasis=emphasis)]
    if "dose" in row:
        pairs.append(Pair(label=draft.label("dose"), value=row["dose"], emphasis="plain"))
    if "quantity" in row:
        pairs.append(Pair(label=draft.label("quantity"), value=row["quantity"], emphasis="plain"))
    for number, usage in enumerate(row.get("usage", ())):
        written: Emphasis = "handwritten" if emphasis == "handwritten" else "plain"
        pairs.append(Pair(label=draft.label("usage") if number == 0 else "", value=usage, emphasis=written))
    return Pairs(pairs=tuple(pairs))


def _vietnamese(
    draft: Draft, person: Person, day: date, diagnoses: list[Diagnosis], medicines: list[Medicine]
) -> Content:
    """A numbered block for each drug, as outpatient prescriptions in Vietnam have."""
    rng = draft.rng
    heads = [Pair(label=draft.label("patient"), value=person.printed_name(rng))]
    heads += [Pair(label=draft.label("sex"), value=draft.sex(person.sex)), *draft.others(2)]
    told = [_VIETNAMESE_DIAGNOSES[item.key] for item in diagnoses if item.key in _VIETNAMESE_DIAGNOSES]
    if told and rng.random() < 0.7:
        heads.append(Pair(label=draft.label("diagnosis"), value="; ".join(told)))
    blocks: list[Block] = [Title(text=rng.choice(_TITLES["vi"])), Pairs(pairs=tuple(heads))]
    names, quantities, usages = [], [], []
    for index, medicine in enumerate(medicines, start=1):
        is_pack = medicine.form in ("cream", "eye")
        names.append(f"{medicine.name.upper() if rng.random() < 0.5 else medicine.name} {medicine.strength}")
        quantities.append(f"1 {'tuýp' if medicine.form == 'cream' else 'lọ'}" if is_pack else medicine.quantity)
        usages.append("; ".join(medicine.usage))
        pairs = [Pair(label=f"{index})", value=names[-1], emphasis="bold")]
        pairs += [Pair(label="SL:", value=quantities[-1]), Pair(label="", value=usages[-1])]
        blocks.append(Pairs(pairs=tuple(pairs)))
    # The lists are unordered sets of values: what two drugs share is said twice and annotated twice.
    draft.annotation |= {"drug_names": names, "quantities": quantities, "usages": usages}
    if draft.keeps("date"):
        draft.annotation["date"] = draft.day(day)
        blocks.append(Pairs(pairs=(Pair(label="", value=draft.annotation["date"]),)))
    blocks.append(Signature(name=make_doctor(rng, "vi"), caption=draft.heading("prescriber")))
    facility = institution(rng, "vi", rng.choice(("practice", "hospital")))
    return Content(
        kind="prescription",
        document_type="prescription (Vietnamese outpatient)",
        specialty="general practice",
        language="vi",
        schema="prescription_vi",
        letterhead=Letterhead(name=facility, lines=contact_lines(rng, "vi")),
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )
