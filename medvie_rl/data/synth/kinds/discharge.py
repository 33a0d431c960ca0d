"""Discharge summaries: dates, diagnoses with ICD-10 codes, procedures, course and medication that fit each other."""

import random
from datetime import date

from medvie_rl.data.synth.blocks import (
    Block,
    Content,
    Items,
    Letterhead,
    Pair,
    Pairs,
    Paragraph,
    Signature,
    TableBlock,
    Title,
)
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day, sentences
from medvie_rl.data.synth.kinds.medicines import choose_diagnoses, choose_drugs, prescribe
from medvie_rl.data.synth.people import Person, contact_lines, institution, make_doctor, make_person
from medvie_rl.data.synth.words_diagnoses import DIAGNOSES, Diagnosis
from medvie_rl.data.synth.words_drugs import Drug
from medvie_rl.data.synth.words_stays import ALLERGIES, FOLLOW_UPS, STAYS, Stay

LANGUAGES = ("en", "de")
_LEFT_OUT = {
    "birth_date": 0.15,
    "sex": 0.3,
    "facility": 0.12,
    "ward": 0.25,
    "admitted_on": 0.1,
    "discharged_on": 0.1,
    "length_of_stay": 0.4,
    "principal_code": 0.3,
    "other_diagnoses": 0.2,
    "procedures": 0.2,
    "course": 0.15,
    "allergies": 0.4,
    "medicines": 0.12,
    "follow_up": 0.25,
    "physician": 0.15,
}
_TITLES = {
    "en": ("Discharge summary", "Hospital discharge letter", "Inpatient discharge summary", "Discharge report"),
    "de": ("Entlassungsbrief", "Arztbrief", "Entlassbericht", "Vorläufiger Entlassungsbrief"),
}


def discharge_summary(rng: random.Random, language: str) -> Content:
    """The summary of one stay; further diagnoses befall the patient's sex and age, and the drugs are for them all."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    admitted = random_day(rng)
    key = rng.choice(tuple(STAYS))
    principal, stay = DIAGNOSES[key], STAYS[key]
    person = make_person(rng, language, admitted, ages=(principal.ages[0] + 1, principal.ages[1] - 1))
    days = rng.randint(*stay.days)
    others = [
        diagnosis
        for diagnosis in choose_diagnoses(rng, sex=person.sex, age=person.age_on(admitted), count=rng.randint(1, 5))
        if diagnosis.key not in STAYS
    ]
    facility = institution(rng, language, "hospital")
    heads = _heads(draft, person, stay, admitted, days)
    in_letterhead = draft.keeps("facility")
    if in_letterhead:
        draft.annotation["facility"] = facility
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=heads)]
    blocks += _diagnoses(draft, principal, others)
    sections = [_procedures(draft, stay), _course(draft, stay, days), _allergies(draft)]
    rng.shuffle(sections)
    blocks += [block for section in sections for block in section]
    blocks += _medicines(draft, [principal, *others], person) + _follow_up(draft)
    if draft.keeps("physician"):
        draft.annotation["physician"] = make_doctor(rng, language)
        blocks.append(Signature(name=draft.annotation["physician"], caption=draft.heading("physician")))
    return Content(
        kind="discharge_summary",
        document_type="discharge summary",
        specialty=stay.ward["en"].lower(),
        language=language,
        schema="discharge_summary",
        letterhead=Letterhead(name=facility, lines=contact_lines(rng, language)) if in_letterhead else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _heads(draft: Draft, person: Person, stay: Stay, admitted: date, days: int) -> tuple[Pair, ...]:
    dates = draft.pair("admitted_on", draft.day(admitted)) + draft.pair(
        "discharged_on", draft.day(days_later(admitted, days))
    )
    return draft.shuffled(
        [
            draft.pair("patient", person.printed_name(draft.rng)),
            draft.pair("birth_date", draft.day(person.birth_date)),
            draft.pair("sex", draft.sex(person.sex), person.sex),
            dates + draft.pair("length_of_stay", str(days)),
            draft.pair("ward", stay.ward[draft.language]),
            draft.others(2),
        ]
    )


def _diagnoses(draft: Draft, principal: Diagnosis, others: list[Diagnosis]) -> list[Block]:
    rng, language = draft.rng, draft.language
    name = rng.choice(principal.names[language])
    draft.annotation["principal_diagnosis"] = name
    pairs = [Pair(label=draft.label("principal_diagnosis"), value=name, emphasis="bold")]
    pairs += draft.pair("principal_code", principal.code)
    blocks: list[Block] = [Pairs(pairs=tuple(pairs))]
    if not others or not draft.keeps("other_diagnoses"):
        return blocks
    coded = rng.random() < 0.6
    names = [rng.choice(diagnosis.names[language]) for diagnosis in others]
    draft.annotation["other_diagnoses"] = [
        {"diagnosis": name} | ({"code": diagnosis.code} if coded else {})
        for name, diagnosis in zip(names, others, strict=True)
    ]
    title = draft.heading("other_diagnoses")
    if not coded:
        return [*blocks, Items(title=title, items=tuple(names), numbered=rng.random() < 0.6)]
    rows = tuple((name, diagnosis.code) for name, diagnosis in zip(names, others, strict=True))
    columns = ({"en": "Diagnosis", "de": "Diagnose"}[language], draft.heading("code"))
    return [*blocks, TableBlock(title=title, columns=columns, rows=rows)]


def _procedures(draft: Draft, stay: Stay) -> list[Block]:
    if not draft.keeps("procedures"):
        return []
    known = stay.procedures[draft.language]
    chosen = draft.rng.sample(known, draft.rng.randint(1, len(known)))
    draft.annotation["procedures"] = chosen
    return [Items(title=draft.heading("procedures"), items=tuple(chosen), numbered=draft.rng.random() < 0.4)]


def _course(draft: Draft, stay: Stay, days: int) -> list[Block]:
    if not draft.keeps("course"):
        return []
    first, *others = stay.course[draft.language]
    told = [sentence for sentence in others if draft.rng.random() < 0.8]
    text = sentences(first, *told).format(n=draft.rng.randint(2, max(2, min(5, days - 1))))
    draft.annotation["course"] = text
    return [Paragraph(title=draft.heading("course"), text=text)]


def _allergies(draft: Draft) -> list[Block]:
    if not draft.keeps("allergies"):
        return []
    chosen = draft.rng.sample(ALLERGIES[draft.language], draft.rng.choice((1, 1, 1, 2, 3)))
    draft.annotation["allergies"] = chosen
    if len(chosen) == 1:
        return [Pairs(pairs=(Pair(label=draft.label("allergies"), value=chosen[0], emphasis="bold"),))]
    return [Items(title=draft.heading("allergies"), items=tuple(chosen))]


def _medicines(draft: Draft, diagnoses: list[Diagnosis], person: Person) -> list[Block]:
    drugs = choose_drugs(draft.rng, diagnoses, sex=person.sex, most=9)
    drugs = [drug for drug in drugs if drug.form not in ("cream", "eye")]  # whose strength is in the name
    drugs = [drug for drug in drugs if not _is_allergic(draft, drug)]
    if not drugs or not draft.keeps("medicines"):
        return []
    medicines = [prescribe(draft.rng, drug, draft.language) for drug in drugs]
    rows = [{"name": item.name, "dose": item.strength, "frequency": item.frequency} for item in medicines]
    draft.annotation["medicines"] = rows
    return [
        TableBlock(
            title=draft.heading("medicines"),
            columns=tuple(draft.heading(key) for key in ("name", "dose", "frequency")),
            rows=tuple(tuple(row.values()) for row in rows),
        )
    ]


def _is_allergic(draft: Draft, drug: Drug) -> bool:
    """Whether the document names an allergy to this drug or its kin."""
    told, name = draft.annotation.get("allergies", ()), drug.names["en"].lower()
    if "Penicillin" in told and ("cillin" in name or name.startswith("cef")):
        return True
    return "Ibuprofen" in told and name in (
        "ibuprofen",
        "naproxen",
        "diclofenac",
        "etoricoxib",
        "metamizole",
        "aspirin",
    )


def _follow_up(draft: Draft) -> list[Block]:
    if not draft.keeps("follow_up"):
        return []
    chosen = draft.rng.sample(FOLLOW_UPS[draft.language], draft.rng.randint(1, 3))
    text = sentences(*(sentence.format(n=draft.rng.choice((2, 4, 6, 10))) for sentence in chosen))
    draft.annotation["follow_up"] = text
    return [Paragraph(title=draft.heading("follow_up"), text=text)]
