"""How the keys of a schema may be called on a page: their own words, those of their descriptions, and common synonyms.

The synonyms are those that forms and receipts use everywhere; none is of one layout. Labels of your own documents go
into a key's `paraphrases`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from rewards.schema import FieldSpec
from rewards.values import fold_text

_SYNONYMS = """
patient | patient name | name | pt | pat | full name
birth date | date of birth | dob | birthday | born | geb | geburtsdatum | born on
sex | gender | geschlecht
age | alter
date | day | datum | on | ngày
doctor | dr | physician | prescriber | attending physician | arzt | bs
diagnosis | diagnoses | dx | diag | diagnose | chẩn đoán
code | icd | icd-10 | icd code
drug | medicine | medication | rx | drug name | präparat
dose | strength | dosage | dosis
freq | frequency | sig | usage | directions | einnahme
quantity | qty | amount | sl | menge | pack size
test | analyte | parameter | untersuchung
result | value | ergebnis | wert
reference | reference range | ref range | normal range | ref | referenzbereich
vaccine | vac | vaccination | impfstoff
lot | batch | lot number | lot no | batch number | charge | ch-b
exam | examination | study | procedure
indication | indications | reason for exam | clinical history | history | reason
impression | conclusion | assessment | opinion | beurteilung
findings | finding | befund
comparison | prior | previous study
total | grand total | total amount | amount due | sum | gesamtbetrag | summe | net total | balance due
subtotal | sub total | sub-total | net amount | zwischensumme
tax | vat | gst | mwst | sales tax
cash | tendered | cash tendered | bar
change | change due | rückgeld
telephone | tel | phone | phone no | telefon
address | adresse | location
invoice number | invoice no | invoice # | inv no | rechnungsnummer
receipt number | receipt no | bill no | doc no | ticket | belegnummer
item | description | article | product | artikel | service | items
unit price | price | rate | s/price | u/price | einzelpreis
amount | line total | total | betrag
time | uhrzeit
flag | abnormal
ward | station | department
"""
_GROUPS = [[fold_text(name.strip()) for name in line.split("|")] for line in _SYNONYMS.strip().splitlines()]
_SYNONYMS_OF = {name: group for group in reversed(_GROUPS) for name in group}
_SYNONYMS_OF |= {group[0]: group for group in _GROUPS}  # a word of two groups is that which it heads
_WORTH = (1.0, 0.95, 0.9, 0.85)  # own name, paraphrase, synonym, description
_IDLE = re.compile(
    r"^(?:section|full|the|a|an|day of|name of|number of|known|main|every|each|value|their|its)\s+(?:the )?"
)
_BEHIND = re.compile(r"[,;:(]| as (?:printed|written)| with(?:out)? | where | if | in | from | during ")
_INITIALS = re.compile(r"\b(?!Y{2,}|M{2,}|D{2,})[A-Z][A-Z0-9-]{1,5}\b")  # but those of a date's format
_MAX_PHRASE_WORDS = 4


@lru_cache(maxsize=1024)
def phrases_of(spec: FieldSpec) -> tuple[tuple[str, float], ...]:
    """(folded phrase, how sure a sign of the key it is: above 0, up to 1), each phrase once."""
    found: dict[str, float] = {}
    for phrase, worth in _phrases(spec):
        if phrase and len(phrase.split()) <= _MAX_PHRASE_WORDS:
            found[phrase] = max(worth, found.get(phrase, 0.0))
    return tuple(found.items())


def words_of(spec: FieldSpec) -> frozenset[str]:
    """All words that a key and its description consist of, folded and in the singular."""
    words = re.findall(r"[^\W\d_]+", fold_text(f"{spec.key.replace('_', ' ')} {spec.description}"))
    return frozenset(word for each in words for word in (each, each.removesuffix("s")))


def _phrases(spec: FieldSpec) -> Iterator[tuple[str, float]]:
    own, paraphrase, synonym, described = _WORTH
    name = fold_text(spec.key.replace("_", " "))
    for each in dict.fromkeys((name, name.removesuffix("s"), name.removesuffix(" on"), f"{name}s")):
        yield each, own if each == name else synonym
        for other in _SYNONYMS_OF.get(each, ()):
            yield other, own if other == name else synonym
    for text in spec.paraphrases:
        yield from ((fold_text(text), paraphrase), (_core(text), paraphrase))
    yield _core(spec.description), described
    for other in _SYNONYMS_OF.get(_core(spec.description), ()):
        yield other, described
    for initials in _INITIALS.findall(spec.description):
        yield fold_text(initials), described


def _core(description: str) -> str:
    """What a description is about, without how to write it: "day of birth as printed" is "birth"."""
    text = _BEHIND.split(fold_text(description), maxsplit=1)[0].strip()
    while (shorter := _IDLE.sub("", text)) != text:
        text = shorter
    return text
