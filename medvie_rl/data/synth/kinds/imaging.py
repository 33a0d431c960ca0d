"""Radiology: chest X-rays by section, and CT, MR, X-ray and ultrasound reports with a header."""

import random
from dataclasses import dataclass
from datetime import date

from medvie_rl.data.synth.blocks import Block, Content, Items, Letterhead, Pair, Pairs, Paragraph, Signature, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day, sentences
from medvie_rl.data.synth.people import contact_lines, institution, make_doctor, make_person, record_number
from medvie_rl.data.synth.words_imaging import CHEST_XRAY, COMPARISONS, EXAMS, Exam

LANGUAGES = ("en", "de")
_LEFT_OUT_CHEST = {"exam": 0.15, "indication": 0.25, "comparison": 0.35, "findings": 0.0, "impression": 0.1}
_LEFT_OUT = {
    "birth_date": 0.25,
    "exam_date": 0.1,
    "accession": 0.35,
    "laterality": 0.1,
    "contrast": 0.3,
    "indication": 0.2,
    "technique": 0.35,
    "comparison": 0.4,
    "largest_lesion": 0.4,
    "radiologist": 0.2,
    "impression": 0.1,
}
_TITLES = {
    "en": ("Radiology report", "Imaging report", "Diagnostic imaging report", "Report of examination"),
    "de": ("Radiologischer Befund", "Befundbericht", "Radiologischer Befundbericht", "Untersuchungsbericht"),
}
_SIDES = {"en": {"left": "left", "right": "right"}, "de": {"left": "links", "right": "rechts"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Sentences about the organs with the conclusions that follow from them; `size` of the measured lesion or ""."""

    findings: tuple[str, ...]
    conclusions: tuple[str, ...]
    size: str


def compose_findings(draft: Draft, exam: Exam) -> Findings:
    """A sentence for each organ. What is abnormal is concluded with the same side; at most one finding has a size."""
    rng, language = draft.rng, draft.language
    sick = rng.choice((0.0, 0.25, 0.45))
    findings: list[str] = []
    conclusions: list[str] = []
    size = ""
    for organ in exam.organs:
        if rng.random() >= sick:
            findings.append(rng.choice(organ.normal[language]))
            continue
        chosen = [pair for pair in organ.abnormal[language] if not (size and "{size}" in pair[0])]
        if not chosen:
            findings.append(rng.choice(organ.normal[language]))
            continue
        finding, conclusion = rng.choice(chosen)
        if "{size}" in finding:
            size = _size(draft)
        side = _SIDES[language][rng.choice(("left", "right"))]
        words = {"side": side, "Side": side.capitalize(), "size": size, "n": str(rng.randint(2, 6))}
        findings.append(finding.format(**words))
        conclusions.append(conclusion.format(**words))
    rng.shuffle(findings)
    return Findings(
        findings=tuple(findings), conclusions=tuple(conclusions) or (rng.choice(exam.clear[language]),), size=size
    )


def _size(draft: Draft) -> str:
    if draft.rng.random() < 0.5:
        return f"{draft.rng.randint(4, 48)} mm"
    return f"{draft.number(draft.rng.uniform(0.6, 4.8), 1)} cm"


def chest_xray(rng: random.Random, language: str) -> Content:
    """A chest X-ray section by section, the key `exam` as the title or as a section."""
    draft = Draft(rng, language, left_out=_LEFT_OUT_CHEST)
    day = random_day(rng)
    composed = compose_findings(draft, CHEST_XRAY)
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language]))]
    heads = draft.others()
    if rng.random() < 0.6:
        heads.append(Pair(label=draft.label("patient"), value=make_person(rng, language, day).printed_name(rng)))
    heads += draft.pair("exam", rng.choice(CHEST_XRAY.names[language]))
    if heads:
        rng.shuffle(heads)
        blocks.append(Pairs(pairs=tuple(heads)))
    blocks += _section(draft, "indication", rng.choice(CHEST_XRAY.indications[language]))
    blocks += _section(draft, "comparison", _comparison(draft, day))
    blocks += _section(draft, "findings", sentences(*composed.findings))
    blocks += _section(draft, "impression", sentences(*composed.conclusions))
    if rng.random() < 0.5:
        blocks.append(Signature(name=make_doctor(rng, language)))
    return Content(
        kind="chest_xray",
        document_type="radiology report (chest X-ray)",
        specialty="radiology",
        language=language,
        schema="radiology_report",
        letterhead=_letterhead(draft) if rng.random() < 0.7 else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def imaging_report(rng: random.Random, language: str) -> Content:
    """A report of one of several examinations; the side of the header is that of the examined joint."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    day = random_day(rng)
    person = make_person(rng, language, day)
    exam = rng.choice(EXAMS)
    composed = compose_findings(draft, exam)
    heads = [
        draft.pair("patient", person.printed_name(rng)),
        draft.pair("birth_date", draft.day(person.birth_date)),
        draft.pair("exam_date", draft.day(day)),
        draft.pair("accession", record_number(rng)),
        draft.pair("exam", rng.choice(exam.names[language])),
        draft.others(2),
    ]
    if exam.has_side:
        side = rng.choice(("left", "right"))
        heads.append(draft.pair("laterality", _SIDES[language][side], side))
    if exam.contrast == "sometimes":
        given = rng.random() < 0.6
        yes_no = {"en": ("yes", "no"), "de": ("ja", "nein")}[language]
        heads.append(draft.pair("contrast", yes_no[0] if given else yes_no[1], given))
    doctor = make_doctor(rng, language)
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads))]
    blocks += _section(draft, "indication", rng.choice(exam.indications[language]))
    blocks += _section(draft, "technique", rng.choice(exam.techniques[language]))
    blocks += _section(draft, "comparison", _comparison(draft, day))
    blocks += _section(draft, "findings", sentences(*composed.findings))
    if composed.size:
        measured = draft.pair("largest_lesion", composed.size)
        blocks += [Pairs(pairs=tuple(measured))] if measured else []
        draft.annotation["largest_lesion"] = composed.size  # the findings say it in any case
    blocks += _section(draft, "impression", sentences(*composed.conclusions))
    if draft.keeps("radiologist"):
        draft.annotation["radiologist"] = doctor
        blocks.append(Signature(name=doctor, caption=draft.heading("radiologist")))
    if rng.random() < 0.15:
        word = {"en": "Copies to", "de": "Kopie an"}[language]
        blocks.append(Items(title=word, items=(institution(rng, language, "practice"),)))
    return Content(
        kind="imaging_report",
        document_type="imaging report",
        specialty="radiology",
        language=language,
        schema="imaging_report",
        letterhead=_letterhead(draft) if rng.random() < 0.85 else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _section(draft: Draft, key: str, text: str) -> list[Block]:
    if not draft.keeps(key):
        return []
    draft.annotation[key] = text
    return [Paragraph(title=draft.heading(key), text=text)]


def _comparison(draft: Draft, day: date) -> str:
    earlier = days_later(day, -draft.rng.randint(20, 900))
    return draft.rng.choice(COMPARISONS[draft.language]).format(day=draft.day(earlier))


def _letterhead(draft: Draft) -> Letterhead:
    name = institution(draft.rng, draft.language, "radiology")
    return Letterhead(name=name, lines=contact_lines(draft.rng, draft.language))
