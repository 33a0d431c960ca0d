"""Decides whether an answered value is right, and what a wrong one still is worth or was meant to say."""

import re
from collections.abc import Hashable
from functools import lru_cache

from rewards.dates import read_day, read_moment, read_time, same_day, same_moment, same_time
from rewards.kinds import Comparison, canonical_form, plain_code
from rewards.measures import same_measure, turning_words
from rewards.schema import FieldSpec
from rewards.similarity import MAX_CHARACTERS, text_similarity
from rewards.values import Scalar, fold_text

_TITLES = frozenset(("dr", "mr", "mrs", "ms", "miss", "prof", "md", "sr", "sra", "dra", "herr", "frau", "mme"))
_IDLE_SIGNS = re.compile(r"""[\s.,;:!()\[\]{}"'*#_|]+|(?<=[^\W\d_])-(?=[^\W\d_])""")
_NO_CODE = re.compile(r"(?:(?!(?<=[0-9])[.,][0-9])[\W_])+")
_MAX_LENIENT = 300  # characters; beyond it only the strict comparison counts, and nothing is cached

_ABBREVIATIONS: dict[str, str] = {
    spelling: names.split()[0]
    for names in (
        "male m man masc masculine masculino männlich homme",
        "female f w fem woman feminine femenino feminino weiblich femme",
        "yes y true 1",
        "no n false 0",
        "positive pos + reactive",
        "negative neg - nonreactive non-reactive",
    )
    for spelling in names.split()
}


def canonical_value(spec: FieldSpec, value: Scalar) -> Hashable:
    """What strict comparison compares: two values are the same answer when these are equal.

    By kind, and as the options of the spec say: text and free_text fold Unicode, case and idle blanks; person_name the
    same, with its blanks; code ignores case, blanks and the dot of ICD-10; enum is one of the choices up to case;
    boolean is "yes" or "true" or a mark; number is without words, quantity with its unit, both with comparators,
    ratios, ranges and powers of ten; date, and datetime with a time, must be written in the field's order with four
    digits of year; time is to the minute or to the second. A JSON number equals its text.
    """
    return canonical_form(spec.comparison, value)


def is_correct(spec: FieldSpec, answered: Scalar, true: Scalar) -> bool:
    """Strict comparison. A truth that does not read as its kind is right only in the same text."""
    return canonical_form(spec.comparison, answered) == canonical_form(spec.comparison, true)


def text_credit(spec: FieldSpec, answered: Scalar, true: Scalar) -> float:
    """What an answer earns of its weight, in [0, 1]: 1 where right, and a part for free text that is nearly right.

    The part is the share of the words that is right (see `rewards.similarity.text_similarity`), 0.99 where nothing but
    punctuation differs. It is 0 below the spec's `min_similarity`, where a number, a side or a negation differs, beyond
    `MAX_CHARACTERS`, and with `ignore_blanks`, which leaves no words.
    """
    if is_correct(spec, answered, true):
        return 1.0
    if spec.kind != "free_text" or spec.ignore_blanks:
        return 0.0
    if any(isinstance(value, str) and len(value) > MAX_CHARACTERS for value in (answered, true)):
        return 0.0
    texts = (fold_text(value, keep_case=spec.case_sensitive) for value in (answered, true))
    return min(text_similarity(*texts, floor=spec.min_similarity), 0.99)


def same_meaning(spec: FieldSpec, answered: Scalar, true: Scalar) -> bool:
    """Whether `answered` carries the information of `true`, in whatever convention.

    number: one number among words, or the other decimal sign ("45 y" for 45). quantity: unit missing on one side,
    convertible (0.5 g for 500 mg), or followed by words. date: another order, a two-digit year, a time behind it. time:
    no seconds for ":00", without its colon, a day or a time zone beside it. enum: the first letter of one choice, or a
    usual abbreviation. code: other punctuation, or a description behind it. person_name: order of the words, commas,
    titles. text: case and punctuation, but neither signs nor what stands between two digits.
    """
    if any(isinstance(value, str) and len(value) > _MAX_LENIENT for value in (answered, true)):
        return is_correct(spec, answered, true)
    return _same_meaning(spec.comparison, answered, true)


@lru_cache(maxsize=65_536, typed=True)
def _same_meaning(how: Comparison, answered: Scalar, true: Scalar) -> bool:
    if canonical_form(how, answered) == canonical_form(how, true):
        return True
    if how.kind in ("number", "quantity"):
        return same_measure(answered, true, how.decimal)
    folded, folded_true = fold_text(answered), fold_text(true)
    if how.kind in ("date", "time", "datetime"):
        return turning_words(folded) == turning_words(folded_true) and _same_time(how, folded, folded_true)
    if how.kind == "enum":
        return _same_choice(folded, folded_true, how.choices)
    if how.kind == "code":
        return _same_code(folded, folded_true)
    if how.kind == "person_name":
        return _name_words(folded) == _name_words(folded_true)
    return how.kind != "boolean" and _letters(folded) == _letters(folded_true)


def _same_time(how: Comparison, folded: str, folded_true: str) -> bool:
    if how.kind == "date":
        day = read_day(folded_true, how.date_order)
        return day is not None and same_day(folded, day)
    if how.kind == "time":
        time = read_time(folded_true)
        return time is not None and same_time(folded, time)
    moment = read_moment(folded_true, how.date_order)
    return moment is not None and same_moment(folded, moment)


def _same_choice(folded: str, folded_true: str, choices: tuple[str, ...]) -> bool:
    plain, plain_true = folded.strip(" .,;:()"), folded_true.strip(" .,;:()")
    if plain == plain_true:
        return True
    initials = [fold_text(choice)[:1] for choice in choices]
    if len(plain) == 1 and initials.count(plain) == 1:
        return plain == plain_true[:1]
    meaning = _ABBREVIATIONS.get(plain or folded)
    return meaning is not None and meaning == _ABBREVIATIONS.get(plain_true or folded_true)


def _same_code(folded: str, folded_true: str) -> bool:
    first = re.split(r"[\s:;,(]+", folded.strip(" ()[]"))[0]
    code, *answers = (_NO_CODE.sub("", plain_code(text)) for text in (folded_true, folded, first))
    return bool(code) and code in answers


def _name_words(folded: str) -> list[str]:
    return sorted(word for word in re.split(r"[\s,.;]+", folded) if word and word not in _TITLES)


def _letters(folded: str) -> str:
    """`folded` without punctuation; between two digits everything stays, a comma as a point, and so does the point of
    ".5". Signs as in "A+" stay, and a question mark.
    """

    def keep(match: re.Match[str]) -> str:
        before, behind = folded[: match.start()][-1:], folded[match.end() : match.end() + 1]
        if not behind.isdecimal():
            return ""
        if before.isdecimal():
            return match[0].replace(",", ".")
        return "." if match[0][-1] in ".," and (not before or len(match[0]) > 1) else ""

    return _IDLE_SIGNS.sub(keep, folded)
