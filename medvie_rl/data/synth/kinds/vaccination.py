"""Vaccination cards: series with intervals in their usual order, a row for each dose."""

import random
from dataclasses import dataclass
from datetime import date
from typing import Any

from medvie_rl.data.synth.blocks import Block, Content, Items, Letterhead, Pairs, Signature, TableBlock, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day
from medvie_rl.data.synth.people import contact_lines, institution, make_doctor, make_person, record_number
from medvie_rl.data.synth.words_stays import ALLERGIES

LANGUAGES = ("en", "de")
_LEFT_OUT = {"birth_date": 0.1, "sex": 0.3, "record": 0.4, "facility": 0.3, "allergies": 0.4, "next_due": 0.4}
_TITLES = {
    "en": ("Vaccination card", "Immunization record", "Certificate of vaccination", "Personal immunisation record"),
    "de": ("Impfausweis", "Impfpass", "Impfbescheinigung", "Internationaler Impfausweis"),
}
_BOOSTER_YEARS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Doses with the least and the most days between one and the next; brands are invented."""

    disease: dict[str, str]
    brands: tuple[str, ...]
    intervals: tuple[tuple[int, int], ...]
    least_age: int = 0  # years
    licensed_on: date = date(1990, 1, 1)


_SERIES = (
    _Series(
        disease={"en": "Tetanus, diphtheria", "de": "Tetanus, Diphtherie"},
        brands=("Tedivar", "Diftavel"),
        intervals=((28, 56), (180, 365)),
    ),
    _Series(
        disease={"en": "Tetanus, diphtheria, pertussis", "de": "Tetanus, Diphtherie, Pertussis"},
        brands=("Trisolin", "Pertuvax"),
        intervals=(),
    ),
    _Series(
        disease={"en": "Measles, mumps, rubella", "de": "Masern, Mumps, Röteln"},
        brands=("Trimorix", "Rubifen"),
        intervals=((28, 200),),
    ),
    _Series(
        disease={"en": "Hepatitis B", "de": "Hepatitis B"},
        brands=("Hepabel B", "Behevac"),
        intervals=((28, 40), (120, 200)),
    ),
    _Series(
        disease={"en": "Hepatitis A", "de": "Hepatitis A"}, brands=("Hepabel A", "Avanal"), intervals=((180, 365),)
    ),
    _Series(disease={"en": "Influenza", "de": "Influenza"}, brands=("Influx", "Grippavel"), intervals=()),
    _Series(
        disease={"en": "COVID-19", "de": "COVID-19"},
        brands=("Covigen", "Coronix"),
        intervals=((21, 42), (150, 240)),
        licensed_on=date(2021, 1, 4),
    ),
    _Series(
        disease={"en": "Pneumococcal disease", "de": "Pneumokokken"}, brands=("Pneumor 20", "Pneulin"), intervals=()
    ),
    _Series(
        disease={"en": "Tick-borne encephalitis", "de": "FSME"},
        brands=("Encevir", "Tickovac"),
        intervals=((28, 90), (150, 365)),
    ),
    _Series(
        disease={"en": "Herpes zoster", "de": "Herpes zoster"},
        brands=("Zostrix", "Herpelan"),
        intervals=((60, 180),),
        least_age=50,
    ),
    _Series(disease={"en": "Rabies", "de": "Tollwut"}, brands=("Rabisan", "Lyssavel"), intervals=((7, 8), (14, 21))),
    _Series(disease={"en": "Typhoid", "de": "Typhus"}, brands=("Typhinol", "Salvacin"), intervals=()),
    _Series(disease={"en": "Yellow fever", "de": "Gelbfieber"}, brands=("Yellovac", "Amarix"), intervals=()),
)


def vaccination_card(rng: random.Random, language: str) -> Content:
    """One to six series of somebody; doses of a series are in order and as far apart as its schedule says."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    start = days_later(random_day(rng), -1900)  # so that the last dose is no later than documents are
    person = make_person(rng, language, start, ages=(16, 80))
    chosen = [series for series in _SERIES if person.age_on(start) >= series.least_age]
    chosen = rng.sample(chosen, rng.randint(1, 6))
    doctors = [make_doctor(rng, language) for _ in range(rng.randint(1, 3))]
    doses = [dose for series in chosen for dose in _doses(draft, series, start, doctors)]
    doses.sort(key=lambda dose: dose[0])
    heads = [
        draft.pair("patient", person.printed_name(rng)),
        draft.pair("birth_date", draft.day(person.birth_date)),
        draft.pair("sex", draft.sex(person.sex), person.sex),
        draft.pair("record", record_number(rng)),
    ]
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads))]
    blocks.append(_table(draft, [row for _, row in doses]))
    if draft.keeps("allergies"):
        allergies = rng.sample(ALLERGIES[language], rng.choice((1, 1, 2)))
        draft.annotation["allergies"] = allergies
        blocks.append(Items(title=draft.heading("allergies"), items=tuple(allergies)))
    last = doses[-1][0]
    due = draft.pair("next_due", draft.day(date(last.year + _BOOSTER_YEARS, last.month, min(last.day, 28))))
    blocks += [Pairs(pairs=tuple(due))] if due else []
    facility = institution(rng, language, "practice")
    letterhead = None
    if draft.keeps("facility"):
        draft.annotation["facility"] = facility
        letterhead = Letterhead(name=facility, lines=contact_lines(rng, language))
    if "given_by" not in draft.annotation["vaccinations"][0] and rng.random() < 0.4:
        blocks.append(Signature(name=doctors[0]))
    return Content(
        kind="vaccination_card",
        document_type="vaccination card",
        specialty="general practice",
        language=language,
        schema="vaccination_card",
        letterhead=letterhead,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _doses(draft: Draft, series: _Series, start: date, doctors: list[str]) -> list[tuple[date, dict[str, Any]]]:
    rng, day = draft.rng, days_later(start, draft.rng.randint(0, 1500))
    if day < series.licensed_on:
        day = days_later(series.licensed_on, rng.randint(0, 600))
    brand, given = rng.choice(series.brands), rng.randint(1, len(series.intervals) + 1)
    doses = []
    for number in range(1, given + 1):
        if number > 1:
            day = days_later(day, rng.randint(*series.intervals[number - 2]))
        row = {
            "vaccine": brand,
            "disease": series.disease[draft.language],
            "dose_number": str(number),
            "given_on": draft.day(day),
            "lot": _lot(rng),
            "given_by": rng.choice(doctors),
        }
        doses.append((day, row))
    return doses


def _lot(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(2))
    return rng.choice(
        (f"{letters}{rng.randint(1000, 9999)}", f"{rng.randint(10, 99)}{letters}{rng.randint(100, 999)}A")
    )


def _table(draft: Draft, rows: list[dict[str, Any]]) -> TableBlock:
    left_out = {"disease": 0.3, "dose_number": 0.35, "lot": 0.2, "given_by": 0.4}
    columns = [key for key in rows[0] if draft.rng.random() >= left_out.get(key, 0.0)]
    if draft.rng.random() < 0.5:
        columns.sort(key=lambda key: key != "given_on")
    draft.annotation["vaccinations"] = [{key: row[key] for key in columns} for row in rows]
    return TableBlock(
        columns=tuple(draft.heading(key) for key in columns),
        rows=tuple(tuple(row[key] for key in columns) for row in rows),
    )
