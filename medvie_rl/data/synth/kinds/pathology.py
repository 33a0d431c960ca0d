"""Pathology reports: macroscopy, microscopy and diagnosis agree in side, size, depth, nodes and stage."""

import random
from dataclasses import dataclass

from medvie_rl.data.synth.blocks import Block, Content, Letterhead, Pair, Pairs, Paragraph, Signature, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day, sentences
from medvie_rl.data.synth.people import Sex, contact_lines, institution, make_doctor, make_person, record_number
from medvie_rl.data.synth.words_pathology import BENIGN, TUMOURS, Tumour

LANGUAGES = ("en", "de")
_LEFT_OUT = {
    "birth_date": 0.15,
    "sex": 0.3,
    "accession": 0.1,
    "received_on": 0.2,
    "reported_on": 0.2,
    "clinical": 0.3,
    "specimen": 0.1,
    "macroscopy": 0.12,
    "microscopy": 0.12,
    "tumour_size": 0.35,
    "grade": 0.3,
    "tnm": 0.2,
    "margins": 0.25,
    "nodes_positive": 0.3,
    "nodes_examined": 0.3,
    "pathologist": 0.15,
}
_TITLES = {
    "en": ("Pathology report", "Histopathology report", "Surgical pathology report", "Histology report"),
    "de": (
        "Pathologischer Befund",
        "Histologischer Befund",
        "Pathologisch-anatomische Begutachtung",
        "Histologie-Befund",
    ),
}
_SIDES = {"en": {"left": "left", "right": "right"}, "de": {"left": "links", "right": "rechts"}}
_CLINICAL = {
    "en": (
        "Suspicious mass on imaging.",
        "Biopsy-proven carcinoma.",
        "Staging resection.",
        "Palpable lump for three months.",
    ),
    "de": (
        "Verdächtige Raumforderung in der Bildgebung.",
        "Bioptisch gesichertes Karzinom.",
        "Tastbarer Knoten seit drei Monaten.",
    ),
}
_GRADE_WORDS = {
    "en": {"G1": "well differentiated", "G2": "moderately differentiated", "G3": "poorly differentiated"},
    "de": {"G1": "gut differenziert", "G2": "mäßig differenziert", "G3": "schlecht differenziert"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The facts that every section of a report says."""

    tumour: Tumour
    side: str
    size: int  # greatest dimension in mm
    stage: int  # of pT
    grade: str
    nodes: int
    positive: int
    margin: int  # distance to the nearest margin in mm, 0 where the tumour reaches it

    @property
    def tnm(self) -> str:
        steps = sum(self.positive >= step for step in self.tumour.nodal_steps)
        return f"pT{self.stage} {f'pN{steps}' if self.nodes else 'pNX'}"


def pathology_report(rng: random.Random, language: str) -> Content:
    """A resected tumour with its stage; for one in five a benign biopsy without any."""
    draft = Draft(rng, language, left_out=_LEFT_OUT)
    received = random_day(rng)
    case = None if rng.random() < 0.2 else _draw_case(rng)
    needs: Sex | None = "female" if case and case.tumour.needs == "female" else None
    person = make_person(rng, language, received, ages=(32, 86), sex=needs)
    heads = [
        draft.pair("patient", person.printed_name(rng)),
        draft.pair("birth_date", draft.day(person.birth_date)),
        draft.pair("sex", draft.sex(person.sex), person.sex),
        draft.pair("accession", record_number(rng)),
        draft.pair("received_on", draft.day(received)),
        draft.pair("reported_on", draft.day(days_later(received, rng.randint(1, 12)))),
        draft.others(2),
    ]
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads))]
    blocks += _benign(draft) if case is None else _malignant(draft, case)
    if draft.keeps("pathologist"):
        draft.annotation["pathologist"] = make_doctor(rng, language)
        blocks.append(Signature(name=draft.annotation["pathologist"], caption=draft.heading("pathologist")))
    name = institution(rng, language, "pathology")
    return Content(
        kind="pathology_report",
        document_type="pathology report",
        specialty="pathology",
        language=language,
        schema="pathology_report",
        letterhead=Letterhead(name=name, lines=contact_lines(rng, language)) if rng.random() < 0.85 else None,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _draw_case(rng: random.Random) -> _Case:
    tumour = rng.choice(TUMOURS)
    size = round(min(max(rng.lognormvariate(3.25, 0.5), 6), 110))
    if tumour.limits:
        stage = 1 + sum(size > limit for limit in tumour.limits)
    else:
        stage = rng.choices((1, 2, 3, 4), (0.15, 0.25, 0.45, 0.15))[0]
    nodes = rng.randint(*tumour.num_nodes)
    is_nodal = nodes > 0 and rng.random() < 0.18 * stage + 0.1
    return _Case(
        tumour=tumour,
        side=rng.choice(("left", "right")),
        size=size,
        stage=stage,
        grade=rng.choice(("G1", "G2", "G2", "G3")) if tumour.graded else "",
        nodes=nodes,
        positive=min(nodes, 1 + int(rng.expovariate(0.45))) if is_nodal else 0,
        margin=0 if rng.random() < 0.15 else rng.randint(1, 30),
    )


def _benign(draft: Draft) -> list[Block]:
    specimen, microscopy, diagnosis = draft.rng.choice(BENIGN)[draft.language]
    size = f"{draft.rng.randint(2, 6)} mm"
    gross = {"en": "{n} tissue fragments up to {size}.", "de": "{n} Gewebepartikel bis {size}."}[draft.language]
    sections = (
        ("specimen", specimen),
        ("macroscopy", gross.format(n=draft.rng.randint(2, 7), size=size)),
        ("microscopy", microscopy),
        ("diagnosis", diagnosis),
    )
    return [block for key, text in sections for block in _section(draft, key, text)]


def _malignant(draft: Draft, case: _Case) -> list[Block]:
    rng, language, tumour = draft.rng, draft.language, case.tumour
    side = _SIDES[language][case.side]
    words = {"side": side, "Side": side.capitalize()}
    specimen = rng.choice(tumour.specimens[language]).format(**words)
    size = f"{case.size} mm" if rng.random() < 0.6 else f"{draft.number(case.size / 10, 1)} cm"
    margins = _margins(draft, case)
    facts = [
        draft.pair("tumour_size", size),
        draft.pair("grade", case.grade) if case.grade else [],
        draft.pair("tnm", case.tnm),
        draft.pair("margins", margins),
    ]
    if case.nodes:
        facts += [draft.pair("nodes_positive", str(case.positive)), draft.pair("nodes_examined", str(case.nodes))]
    table = draft.shuffled(facts)
    blocks = _section(draft, "clinical", rng.choice(_CLINICAL[language])) + _section(draft, "specimen", specimen)
    blocks += _section(draft, "macroscopy", _macroscopy(draft, case, size))
    blocks += _section(draft, "microscopy", _microscopy(draft, case))
    # What running text says is on the page, too: it is annotated, and what is left out is not said there either.
    if "macroscopy" in draft.annotation:
        draft.annotation["tumour_size"] = size
    if "microscopy" in draft.annotation and case.nodes:
        draft.annotation |= {"nodes_positive": str(case.positive), "nodes_examined": str(case.nodes)}
    diagnosis = f"{tumour.name[language]}."
    if "grade" in draft.annotation:
        diagnosis = f"{tumour.name[language]}, {_GRADE_WORDS[language][case.grade]}."
    if "specimen" in draft.annotation and rng.random() < 0.5:
        diagnosis = f"{specimen}: {diagnosis}"
    endings: list[list[Block]] = [_section(draft, "diagnosis", diagnosis), [Pairs(pairs=table)] if table else []]
    if rng.random() < 0.4:
        endings.reverse()
    return blocks + [block for ending in endings for block in ending]


def _macroscopy(draft: Draft, case: _Case, size: str) -> str:
    rng = draft.rng
    whole = [case.size + rng.randint(15, 60), case.size + rng.randint(5, 40), rng.randint(20, 60)]
    measures = " x ".join(str(length) for length in sorted(whole, reverse=True)) + " mm"
    shade = rng.randrange(3)
    says_margin = "margins" in draft.annotation
    if draft.language == "de":
        colours = ("grauweißer", "gelblicher", "derber grauer")
        return sentences(
            f"Präparat von {measures}.",
            f"Auf der Schnittfläche ein {colours[shade]} Tumor von {size}.",
            ("Der Tumor erreicht den Rand.", f"Abstand zum nächsten Rand {case.margin} mm.")[case.margin > 0]
            if says_margin
            else "",
        )
    colours = ("grey-white", "tan", "firm yellowish")
    return sentences(
        f"Specimen measuring {measures}.",
        f"The cut surface shows a {colours[shade]} tumour of {size}.",
        ("The tumour reaches the margin.", f"Distance to the nearest margin {case.margin} mm.")[case.margin > 0]
        if says_margin
        else "",
    )


def _microscopy(draft: Draft, case: _Case) -> str:
    rng, language = draft.rng, draft.language
    pattern = rng.choice(case.tumour.pattern[language])
    depth = case.tumour.depths[language][case.stage - 1] if case.tumour.depths else ""
    vessels = rng.random() < 0.25
    if language == "de":
        return sentences(
            f"Tumorgewebe: {pattern}.",
            f"Der Tumor {depth}." if depth else "",
            "Gefäßeinbrüche nachweisbar." if vessels else "Keine Gefäßeinbrüche.",
            f"Metastasen in {case.positive} von {case.nodes} Lymphknoten." if case.nodes else "",
        )
    return sentences(
        f"The tumour consists of {pattern}.",
        f"It {depth}." if depth else "",
        "Lymphovascular invasion is present." if vessels else "No lymphovascular invasion.",
        f"Metastasis in {case.positive} of {case.nodes} lymph nodes." if case.nodes else "",
    )


def _margins(draft: Draft, case: _Case) -> str:
    german = draft.language == "de"
    if not case.margin:
        return draft.rng.choice(("R1", "tumorbefallen (R1)") if german else ("involved (R1)", "positive, R1"))
    clear = (
        ("R0", f"tumorfrei, Abstand {case.margin} mm")
        if german
        else ("clear (R0)", f"negative, closest {case.margin} mm")
    )
    return draft.rng.choice(clear)


def _section(draft: Draft, key: str, text: str) -> list[Block]:
    """A section with a heading; a short one stands beside its label for some documents."""
    if not draft.keeps(key):
        return []
    draft.annotation[key] = text
    if len(text) < 50 and draft.rng.random() < 0.3:
        return [Pairs(pairs=(Pair(label=draft.label(key), value=text),))]
    return [Paragraph(title=draft.heading(key), text=text)]
