"""Dermatology reports: one lesion or rash with its site, size, dermoscopy, diagnosis and plan."""

import random

from medvie_rl.data.synth.blocks import Block, Content, Items, Letterhead, Pair, Pairs, Paragraph, Signature, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day
from medvie_rl.data.synth.people import contact_lines, institution, make_doctor, make_person
from medvie_rl.data.synth.words_skin import COMPLAINTS, DISEASES, SITES, SkinDisease

LANGUAGES = ("en", "de")
_LEFT_OUT = {
    "birth_date": 0.2,
    "visit_date": 0.1,
    "complaint": 0.3,
    "skin_type": 0.4,
    "site": 0.1,
    "size": 0.2,
    "duration": 0.35,
    "description": 0.15,
    "dermoscopy": 0.2,
    "code": 0.35,
    "plan": 0.15,
    "follow_up": 0.4,
    "dermatologist": 0.15,
}
_TITLES = {
    "en": ("Dermatology report", "Skin examination", "Dermatology clinic letter", "Dermatological consultation"),
    "de": (
        "Dermatologischer Befund",
        "Hautarztbericht",
        "Ambulanzbericht Dermatologie",
        "Hautärztlicher Befundbericht",
    ),
}
_SPANS = {
    "en": (("{n} weeks", 2, 12), ("{n} months", 2, 18), ("{n} years", 2, 20)),
    "de": (("{n} Wochen", 2, 12), ("{n} Monaten", 2, 18), ("{n} Jahren", 2, 20)),
}
_FACE_ONLY = "L71.9"


def dermatology_report(rng: random.Random, language: str) -> Content:
    """A visit for one disease. Rashes have no size, and some diseases no dermoscopy."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    day = random_day(rng)
    person = make_person(rng, language, day)
    disease = rng.choice(DISEASES)
    heads = [
        draft.pair("patient", person.printed_name(rng)),
        draft.pair("birth_date", draft.day(person.birth_date)),
        draft.pair("visit_date", draft.day(day)),
        draft.pair("skin_type", rng.choice(("I", "II", "II", "III", "III", "IV", "V", "VI"))),
        draft.others(2),
    ]
    findings = [draft.pair("site", _site(draft, disease))]
    if disease.sizes[1]:
        findings.append(draft.pair("size", _size(draft, disease)))
    pattern, least, most = rng.choice(_SPANS[language])
    findings.append(draft.pair("duration", pattern.format(n=rng.randint(least, most))))
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads))]
    blocks += _section(draft, "complaint", rng.choice(COMPLAINTS[language]))
    facts = draft.shuffled(findings)
    blocks += [Pairs(pairs=facts)] if facts else []
    blocks += _section(draft, "description", rng.choice(disease.looks[language]))
    if disease.dermoscopy[language]:
        blocks += _section(draft, "dermoscopy", rng.choice(disease.dermoscopy[language]))
    told = draft.pair("diagnosis", disease.name[language]) + draft.pair("code", disease.code)
    blocks.append(Pairs(pairs=tuple(told)))
    if draft.keeps("plan"):
        points = rng.sample(disease.plan[language], rng.randint(1, len(disease.plan[language])))
        draft.annotation["plan"] = points
        blocks.append(Items(title=draft.heading("plan"), items=tuple(points), numbered=rng.random() < 0.5))
    later = draft.pair("follow_up", draft.day(days_later(day, 7 * rng.choice((2, 4, 6, 12, 26, 52)))))
    blocks += [Pairs(pairs=tuple(later))] if later else []
    if draft.keeps("dermatologist"):
        draft.annotation["dermatologist"] = make_doctor(rng, language)
        blocks.append(Signature(name=draft.annotation["dermatologist"], caption=draft.heading("dermatologist")))
    name = institution(rng, language, "dermatology")
    return Content(
        kind="dermatology_report",
        document_type="dermatology report",
        specialty="dermatology",
        language=language,
        schema="dermatology_report",
        letterhead=Letterhead(name=name, lines=contact_lines(rng, language)) if rng.random() < 0.85 else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _site(draft: Draft, disease: SkinDisease) -> str:
    sites: tuple[str, ...] = SITES[draft.language]
    if disease.code == _FACE_ONLY:
        sites = tuple(site for site in sites if site.lower().endswith(("cheek", "nose", "nase")) or "Wange" in site)
    side = draft.rng.choice({"en": ("left", "right"), "de": ("links", "rechts")}[draft.language])
    site = draft.rng.choice(sites).format(side=side)
    return site[0].upper() + site[1:]


def _size(draft: Draft, disease: SkinDisease) -> str:
    size = draft.rng.randint(*disease.sizes)
    if draft.rng.random() < 0.5:
        return f"{size} mm"
    return f"{size} x {max(2, size - draft.rng.randint(1, max(1, size // 3)))} mm"


def _section(draft: Draft, key: str, text: str) -> list[Block]:
    if not draft.keeps(key):
        return []
    draft.annotation[key] = text
    if len(text) < 60 and draft.rng.random() < 0.3:
        return [Pairs(pairs=(Pair(label=draft.label(key), value=text),))]
    return [Paragraph(title=draft.heading(key), text=text)]
