"""Laboratory reports: 5 to 30 results by panel, with units, reference ranges and marks that follow from the values."""

import random
from dataclasses import dataclass
from typing import Any

from medvie_rl.data.synth.blocks import Block, Content, Letterhead, Pair, Pairs, Paragraph, Signature, TableBlock, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day
from medvie_rl.data.synth.people import contact_lines, institution, make_doctor, make_person
from medvie_rl.data.synth.values import affected_analytes, draw_conditions, draw_values, upper_limits_by_age
from medvie_rl.data.synth.words_analytes import (
    ANALYTES,
    GERMAN_FINDINGS,
    PANELS,
    SEROLOGY,
    SEROLOGY_PANEL,
    URINE,
    URINE_PANEL,
    Analyte,
)

SCHEMA = "laboratory_report"
LANGUAGES = ("en", "de")
_LEFT_OUT = {"birth_date": 0.12, "sex": 0.15, "collected_at": 0.15, "fasting": 0.4, "laboratory": 0.12}
_TITLES = {
    "en": ("Laboratory report", "Laboratory Results", "Clinical laboratory report", "Pathology results", "Lab report"),
    "de": ("Laborbefund", "Laborbericht", "Befundbericht Labor", "Endbefund", "Laborergebnisse"),
}
_NOTES = {
    "en": (
        "Results relate only to the samples received.",
        "Please interpret in the clinical context.",
        "Electronically validated.",
        "Reference ranges are for adults.",
    ),
    "de": (
        "Die Ergebnisse gelten nur für die eingesandten Proben.",
        "Bitte im klinischen Zusammenhang bewerten.",
        "Elektronisch validiert.",
        "Referenzbereiche für Erwachsene.",
    ),
}
_MARKS = (
    {"high": "H", "low": "L"},
    {"high": "High", "low": "Low"},
    {"high": "↑", "low": "↓"},
    {"high": "+", "low": "-"},
    {"high": "*H", "low": "*L"},
    {"high": "*", "low": "*"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One printed row. `level` is where the value lies, whether or not the report marks it."""

    panel: str
    name: str
    value: str
    unit: str = ""
    reference: str = ""
    level: str = ""
    loinc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    """What a report shows: how it marks, whether units have a column of their own, and the other columns."""

    marks: dict[str, str] | None
    unit_column: bool
    has_reference: bool
    has_loinc: bool
    groups: bool


def laboratory_report(rng: random.Random, language: str) -> Content:
    """A report of somebody with up to two conditions. The marks follow from the printed value and range."""
    draft = Draft(rng, language, order="ymd", left_out=_LEFT_OUT)
    day = random_day(rng)
    person = make_person(rng, language, day)
    system = rng.choice(("conventional", "conventional", "si"))
    style = _style(rng, has_loinc=language == "en" and system == "conventional" and rng.random() < 0.35)
    conditions = draw_conditions(rng)
    values = draw_values(rng, sex=person.sex, age=person.age_on(day), conditions=conditions)
    panels = _panels(rng, affected_analytes(conditions))
    results = _results(draft, values, panels, sex=person.sex, age=person.age_on(day), system=system)
    laboratory = institution(rng, language, "laboratory")
    heads: list[list[Pair]] = [draft.pair("patient", person.printed_name(rng))]
    heads += [draft.pair("birth_date", draft.day(person.birth_date))]
    heads += [draft.pair("sex", draft.sex(person.sex), person.sex)]
    time = f"{rng.randint(6, 17):02d}:{rng.randint(0, 59):02d}"
    heads += [draft.pair("collected_at", draft.day(day) + rng.choice((" ", ", ", "  ")) + time)]
    fasting = rng.random() < 0.6
    yes_no = {"en": ("yes", "no"), "de": ("ja", "nein")}[language]
    heads += [draft.pair("fasting", yes_no[0] if fasting else yes_no[1], fasting), draft.others()]
    names_laboratory = draft.keeps("laboratory")
    if names_laboratory:
        draft.annotation["laboratory"] = laboratory
    in_letterhead = names_laboratory and rng.random() < 0.75
    if names_laboratory and not in_letterhead:
        heads.append([Pair(label=draft.label("laboratory"), value=laboratory)])
    table = _table(draft, results, style)
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads)), table]
    if rng.random() < 0.4:
        blocks.append(Paragraph(title="", text=rng.choice(_NOTES[language])))
    if rng.random() < 0.5:
        blocks.append(Signature(name=make_doctor(rng, language)))
    return Content(
        kind="laboratory_report",
        document_type="laboratory report",
        specialty="laboratory medicine",
        language=language,
        schema=SCHEMA,
        letterhead=Letterhead(name=laboratory, lines=contact_lines(rng, language)) if in_letterhead else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
        footer=draft.day(days_later(day, rng.randint(0, 3)))
        if rng.random() < 0.3 and "collected_at" in draft.annotation
        else "",
    )


def _style(rng: random.Random, *, has_loinc: bool) -> _Style:
    marks = rng.choice(_MARKS) if rng.random() < 0.9 else None
    needs_range = marks is not None and marks["high"] == marks["low"]  # else nobody could tell a high value from a low
    return _Style(
        marks=marks,
        unit_column=rng.random() < 0.65,
        has_reference=needs_range or rng.random() < 0.85,
        has_loinc=has_loinc,
        groups=rng.random() < 0.7,
    )


def _panels(rng: random.Random, affected: frozenset[str]) -> list[str]:
    """All panels in a random order, those with what is affected earlier: they are ordered for a reason."""
    suspected = {ANALYTES[key].panel for key in affected if key in ANALYTES}
    places = {panel: rng.random() - (0.5 if panel in suspected else 0.0) for panel in (*PANELS, "urine", "serology")}
    return sorted(places, key=lambda panel: places[panel])


def _results(
    draft: Draft, values: dict[str, float], panels: list[str], *, sex: str, age: int, system: str
) -> list[Result]:
    rng, wanted = draft.rng, draft.rng.randint(5, 30)
    by_age = upper_limits_by_age(age) if rng.random() < 0.5 else {}
    results: list[Result] = []
    for panel in panels:
        if panel == "urine":
            more = _urine(draft)
        elif panel == "serology":
            more = _serology(draft)
        else:
            chosen = [analyte for analyte in ANALYTES.values() if analyte.panel == panel and rng.random() < 0.85]
            title = rng.choice(PANELS[panel][draft.language])
            more = [
                _result(draft, analyte, values[analyte.key], sex=sex, system=system, title=title, by_age=by_age)
                for analyte in chosen
                if _is_measured(analyte.key, values, sex)
            ]
        results += more[: wanted - len(results)]
        if len(results) >= wanted:
            return results
    return results


def _is_measured(key: str, values: dict[str, float], sex: str) -> bool:
    return not (key == "psa" and sex == "female") and not (key == "ldl" and values["tg"] >= 400)


def _result(draft: Draft, analyte: Analyte, value: float, *, sex: str, system: str, title: str, by_age: Any) -> Result:
    units = analyte.systems[system]
    bounds = analyte.bounds[sex]
    low = None if bounds.low is None else round(bounds.low * units.factor, units.decimals)
    upper = by_age.get(analyte.key, bounds.high)
    high = None if upper is None else round(upper * units.factor, units.decimals)
    shown, sign = round(value * units.factor, units.decimals), ""
    if analyte.detection_limit is not None and value < analyte.detection_limit:
        shown, sign = round(analyte.detection_limit * units.factor, units.decimals), "<"
    elif analyte.key == "egfr" and shown > 90 and by_age:  # the laboratories that print limits by age
        shown, sign = 90.0, ">"
    dash = draft.rng.choice(("-", "-", " - ", "–", " – "))
    return Result(
        panel=title,
        name=draft.rng.choice(analyte.names[draft.language]),
        value=sign + (" " if sign and draft.rng.random() < 0.3 else "") + draft.number(shown, units.decimals),
        unit=units.unit,
        reference=_reference(draft, low, high, units.decimals, dash),
        level=level(shown, sign, low, high),
        loinc=analyte.loinc,
    )


def _reference(draft: Draft, low: float | None, high: float | None, decimals: int, dash: str) -> str:
    if low is None or high is None:
        limit = high if low is None else low
        assert limit is not None
        return ("<" if low is None else ">") + draft.rng.choice((" ", "")) + draft.number(limit, decimals)
    return f"{draft.number(low, decimals)}{dash}{draft.number(high, decimals)}"


def level(shown: float, sign: str, low: float | None, high: float | None) -> str:
    """Where a printed value lies: "high", "low" or "" within the printed range (whose open limits exclude)."""
    if sign == "<":
        return "low" if low is not None and shown <= low else ""
    if sign == ">":
        return "high" if high is not None and shown >= high else ""
    if low is None:
        return "high" if high is not None and shown >= high else ""
    if high is None:
        return "low" if shown <= low else ""
    return "high" if shown > high else "low" if shown < low else ""


def _urine(draft: Draft) -> list[Result]:
    rng, title = draft.rng, draft.rng.choice(URINE_PANEL[draft.language])
    sick = rng.random() < 0.4
    results = []
    for english, german, healthy, others in URINE:
        finding = rng.choice(others) if sick and rng.random() < 0.4 else healthy
        words = (finding, healthy)
        if draft.language == "de":
            words = (GERMAN_FINDINGS.get(finding, finding), GERMAN_FINDINGS.get(healthy, healthy))
        name = english if draft.language == "en" else german
        results.append(Result(panel=title, name=name, value=words[0], reference=words[1]))
    value = rng.choice((5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.5))
    reference = f"{draft.number(5, 1)}-{draft.number(8, 1)}"
    results.append(
        Result(panel=title, name="pH", value=draft.number(value, 1), reference=reference, level=level(value, "", 5, 8))
    )
    return results


def _serology(draft: Draft) -> list[Result]:
    rng, title = draft.rng, draft.rng.choice(SEROLOGY_PANEL[draft.language])
    results = []
    for english, german, healthy, others, reference in SEROLOGY:
        is_ill = bool(others) and rng.random() < 0.2
        value = rng.choice(others if is_ill else healthy)
        level_ = "high" if is_ill and ":" in value else ""
        if draft.language == "de":
            value, reference = GERMAN_FINDINGS.get(value, value), GERMAN_FINDINGS.get(reference, reference)
        name = english if draft.language == "en" else german
        results.append(Result(panel=title, name=name, value=value, reference=reference, level=level_))
    return results


def _table(draft: Draft, results: list[Result], style: _Style) -> TableBlock:
    """The table, and its rows in the annotation of `draft`."""
    columns = {"test": draft.heading("test")}
    if style.has_loinc:
        columns["loinc"] = draft.heading("loinc")
    columns["value"] = draft.heading("value")
    if style.unit_column:
        columns["unit"] = draft.heading("unit")
    if style.has_reference:
        columns["reference"] = draft.heading("reference")
    if style.marks:
        columns["flag"] = draft.heading("flag")
        if draft.rng.random() < 0.3:  # the mark in front of the range
            columns = {
                key: columns[key] for key in sorted(columns, key=lambda key: (key == "reference") - (key == "test"))
            }
    rows, truths = [], []
    for result in results:
        cells, truth = _row(result, style)
        rows.append(tuple(cells[key] for key in columns))
        truths.append(truth)
    draft.annotation["results"] = truths
    order = list(columns)
    bold = style.marks is not None and draft.rng.random() < 0.5
    at = order.index("value")
    return TableBlock(
        columns=tuple(columns.values()),
        rows=tuple(rows),
        group_titles=_groups(results) if style.groups else None,
        bold_cells=frozenset((i, at) for i, result in enumerate(results) if bold and result.level),
        numeric_columns=frozenset((at,)),
    )


def _row(result: Result, style: _Style) -> tuple[dict[str, str], dict[str, Any]]:
    value = f"{result.value} {result.unit}".strip()
    reference = f"{result.reference} {result.unit}".strip()
    truth = {"test": result.name, "value": value}
    cells = {"test": result.name, "value": result.value if style.unit_column else value, "unit": result.unit}
    if style.has_loinc:
        cells["loinc"] = result.loinc
        if result.loinc:
            truth["loinc"] = result.loinc
    cells["reference"] = result.reference if style.unit_column else reference
    if style.has_reference:
        truth["reference"] = reference
    cells["flag"] = style.marks.get(result.level, "") if style.marks else ""
    if cells["flag"]:
        truth["flag"] = result.level
    return cells, truth


def _groups(results: list[Result]) -> dict[int, str]:
    starts: dict[int, str] = {}
    for index, result in enumerate(results):
        if index == 0 or results[index - 1].panel != result.panel:
            starts[index] = result.panel
    return starts
