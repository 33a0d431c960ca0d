"""Finds labels of keys in the recognised cells of a page: "Date of birth: ...", "Dx ...", a heading."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz

from medvie_rl.ocr_baseline.vocabulary import phrases_of
from rewards.schema import FieldSpec
from rewards.values import fold_text

_MIN_SIMILARITY = 86.0  # of 100: one or two letters of a long label are misread
_MIN_FUZZY = 5  # letters; shorter labels must be exact
_MAX_WORDS = 5  # of a label
_MAX_WORDS_OF_CELL = 8  # where a label without a colon may stand in the middle: not in running text
_QUALIFIER = 0.9  # what "Patient name" is worth as the label of a key "patient"
_FORMS = (1.0, 0.95, 0.85, 0.75)  # with a colon, a cell of its own, at the start, in the middle of a cell
_WORD = re.compile(r"[^\s:：]+")
_COLON = re.compile(r"[ .]*[:：]|[ .]*=(?= )")
_IDLE_WORDS = frozenset(
    ("patient", "name", "no", "number", "nr", "of", "the", "date", "day", "sample", "invoice", "total")
)
_ANY_LABEL = re.compile(r"[^\W\d_][^:：]{1,40}[:：](?!\d\d)")
_EDGES = " .,;()[]*#-–·•"


@dataclass(frozen=True, slots=True)
class Label:
    """A label in a cell: where it stands, and how sure a sign it is of each key it may be of (none: of no key)."""

    start: int
    end: int  # behind its colon
    worth: Mapping[str, float] = field(default_factory=dict)
    has_colon: bool = False


def find_labels(text: str, specs: Sequence[FieldSpec]) -> list[Label]:
    """The labels of a cell from left to right, none inside another; also what looks like one of no key."""
    words = list(_WORD.finditer(text))
    found = sorted(_candidates(text, words, specs), key=_order)
    taken: list[Label] = []
    for label in found:
        if all(label.end <= other.start or other.end <= label.start for other in taken):
            taken.append(label)
    return sorted(taken, key=lambda label: label.start)


def similarity(text: str, spec: FieldSpec) -> float:
    """How sure a sign of the key a whole text is, 0 to 1."""
    return _worth(_plain(text), [spec]).get(spec.key, 0.0)


def _order(label: Label) -> tuple[bool, bool, int]:
    return not label.has_colon, not label.worth, label.start - label.end


def _candidates(text: str, words: Sequence[re.Match[str]], specs: Sequence[FieldSpec]) -> Iterator[Label]:
    first_colon = _COLON.search(text)
    for start in range(len(words)):
        for end in range(start, min(start + _MAX_WORDS, len(words))):
            span = words[start].start(), words[end].end()
            colon = _COLON.match(text, span[1])
            behind = colon.end() if colon else span[1]
            form = _form(text, words, start, behind, has_colon=colon is not None)
            if form is None or (start and first_colon and behind == first_colon.end()):
                continue  # "Due" of "Due Date:" belongs to the label
            worth = _worth(_plain(text[span[0] : span[1]]), specs, exact=form == _FORMS[3])
            if worth:
                scored = {key: value * form for key, value in worth.items()}
                yield Label(span[0], behind, scored, has_colon=colon is not None)
    if unknown := _ANY_LABEL.match(text):
        yield Label(0, unknown.end(), has_colon=True)


def _form(text: str, words: Sequence[re.Match[str]], start: int, end: int, *, has_colon: bool) -> float | None:
    if has_colon:
        return _FORMS[0]
    is_last = not text[end:].strip(_EDGES)
    if start == 0:
        return _FORMS[1 if is_last else 2]
    return None if is_last or len(words) > _MAX_WORDS_OF_CELL else _FORMS[3]


def _worth(plain: str, specs: Sequence[FieldSpec], *, exact: bool = False) -> dict[str, float]:
    """What a text is worth as the label of each key, where it is worth anything."""
    if not plain:
        return {}
    found = {}
    kept = [word for word in plain.split() if word not in _IDLE_WORDS]
    shorter = " ".join(kept) if kept and len(kept) < len(plain.split()) and not exact else ""
    for spec in specs:
        best = 0.0
        for phrase, worth in phrases_of(spec):
            likeness = max(_likeness(plain, phrase, exact), _QUALIFIER * _likeness(shorter, phrase, exact))
            best = max(best, worth * likeness)
        if best:
            found[spec.key] = best
    return found


def _likeness(text: str, phrase: str, exact: bool) -> float:
    if text == phrase:
        return 1.0
    if exact or min(len(text), len(phrase)) < _MIN_FUZZY:
        return 0.0
    ratio = fuzz.ratio(text, phrase, score_cutoff=_MIN_SIMILARITY)
    return ratio / 100


def _plain(text: str) -> str:
    return fold_text(text).strip(_EDGES)
