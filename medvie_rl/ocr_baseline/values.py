"""Finds in a text of a page what reads as a value of a key's kind, in the form that the schema asks for."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medvie_rl.ocr_baseline.vocabulary import words_of
from rewards.dates import DateOrder, read_day
from rewards.kinds import parse_value
from rewards.numbers import parse_measure, quantities
from rewards.schema import FieldSpec
from rewards.values import fold_text

_ORDERS: tuple[DateOrder, ...] = ("dmy", "ymd", "mdy")  # the first that reads, where the schema's own does not
_FORMATS = {"ymd": "%Y-%m-%d", "dmy": "%d/%m/%Y", "mdy": "%m/%d/%Y"}
_MONTH = r"[^\W\d_]{3,10}\.?"
_DATE = re.compile(
    rf"(?<!\d)(?:\d{{1,4}} ?[-/.] ?\d{{1,2}} ?[-/.] ?(?:\d{{4}}|\d{{2}})(?!\d{{3}})"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?[ -]?{_MONTH}[ ,-]*\d{{4}}|{_MONTH} ?\d{{1,2}}(?:st|nd|rd|th)?,? ?\d{{4}}"
    r"|\d{4}年 ?\d{1,2}月 ?\d{1,2}日)"
)
_TIME = re.compile(r"(?<![\d:])\d{1,2}[:h]\d{2}(?::\d{2})?(?: ?[ap]\.?m\b\.?)?(?![\d:])", re.IGNORECASE)
_NUMERAL = r"\d[\d.,]*(?:[eE]\d+)?"
_UNIT = r"[%°‰µμA-Za-zÀ-ỹ][%°µμA-Za-zÀ-ỹ0-9²³^*]*(?: ?/ ?[µμA-Za-zÀ-ỹ0-9.²³^*]+)*"
_NUMBER = re.compile(rf"(?:[<>≤≥~±]=? ?)?-?{_NUMERAL}(?: ?[-–:] ?{_NUMERAL})?")
_QUANTITY = re.compile(rf"(?:[<>≤≥~]=? ?)?{_NUMERAL}(?: ?(?:[-–x×/]|\+/-) ?{_NUMERAL})* ?(?:x ?10[*^]?\d+ ?)?{_UNIT}")
_MONEY = re.compile(r"(?:(?:RM|USD|EUR|[$€£])\s?)?-?\d[\d,]*[.,]\d{2}(?!\d)")
_PHONE = re.compile(r"(?!\d{1,4}[-/.]\d{1,2}[-/.]\d{2})\+?\(?\d[\d ()./-]{5,}\d")
_CODE = re.compile(r"(?=[^\s]*\d)[\w#][\w./#-]*\w|\d")
_ICD = re.compile(r"\b[A-TV-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?\b")
_TITLES = re.compile(r"^(?:(?:dr|prof|mr|mrs|ms|med|herr|frau|bs|ys|ths)\b\.? ?)+", re.IGNORECASE)
_NAME_END = re.compile(r"\d|[;:()/]|\s{2,}|, ?(?=[a-zß-ÿ\d])")
_EDGES = " \t:;,|=*_-–·•"
_SHAPES = (("date", "day"), ("time",), ("telephone", "phone", "tel"),
           ("total", "subtotal", "price", "prices", "tax", "sum", "cash", "change"))  # fmt: skip
_SHAPE_PATTERNS = (_DATE, _TIME, _PHONE, _MONEY)


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and where in the text it stands."""

    value: str | bool
    start: int
    end: int


def find_value(spec: FieldSpec, text: str) -> Found | None:
    """The first value of the key's kind in a text that stands where its value is expected; None where there is none."""
    return next(_FINDERS[spec.kind](spec, text), None) if text.strip(_EDGES) else None


def typical(spec: FieldSpec) -> re.Pattern[str] | None:
    """What the value looks like, wherever it stands; None for what may be any words, or any number.

    A date that the schema compares as text still looks like one.
    """
    if spec.kind in ("date", "datetime"):
        return _DATE
    if spec.kind == "time":
        return _TIME
    if spec.kind == "quantity":
        return _QUANTITY
    words = words_of(spec)
    if spec.kind == "code" and "icd" in words:
        return _ICD
    if spec.kind in ("text", "code"):
        own = set(fold_text(spec.key).split("_"))
        return next(
            (pattern for names, pattern in zip(_SHAPES, _SHAPE_PATTERNS, strict=True) if own & set(names)), None
        )
    return None


def find_unlabelled(spec: FieldSpec, text: str) -> Found | None:
    """The first value that shows by itself what it is: of a quantity one with a unit that is no part of a date."""
    if spec.kind == "quantity":
        without = _DATE.sub(lambda match: " " * len(match.group()), text)
        return next(_measures(spec, without, _QUANTITY), None)
    return find_value(spec, text)


def _texts(spec: FieldSpec, text: str) -> Iterator[Found]:
    pattern = typical(spec)
    if pattern is None:
        yield _stripped(text, 0, len(text))
    else:
        yield from (_stripped(text, *match.span()) for match in pattern.finditer(text))


def _names(spec: FieldSpec, text: str) -> Iterator[Found]:
    end = match.start() if (match := _NAME_END.search(text.strip(_EDGES))) else len(text.strip(_EDGES))
    found = _stripped(text.strip(_EDGES), 0, end)
    name = _TITLES.sub("", str(found.value)).strip(_EDGES)
    if not re.search(r"[^\W\d_]{2}", name):
        return
    last, comma, first = name.partition(",")
    if comma and "," not in first and re.search(r"first.*last", spec.description):
        name = f"{first.strip()} {last.strip()}"
    start = text.find(str(found.value))
    yield Found(name, start, start + len(str(found.value)))


def _codes(spec: FieldSpec, text: str) -> Iterator[Found]:
    pattern = typical(spec) or _CODE
    yield from (_stripped(text, *match.span()) for match in pattern.finditer(text))


def _choices(spec: FieldSpec, text: str) -> Iterator[Found]:
    """A choice as a word, or its initial alone where no other choice has it."""
    for word in re.finditer(r"[^\W_]+(?:[ -][^\W_]+)*", text):
        for choice in spec.choices:
            match = re.search(rf"\b{re.escape(choice)}\b", word.group(), re.IGNORECASE)
            if match:
                yield Found(choice, word.start() + match.start(), word.start() + match.end())
    initials = [fold_text(choice)[:1] for choice in spec.choices]
    for word in re.finditer(r"\b[^\W\d_]\b", text):
        if initials.count(fold_text(word.group())) == 1:
            yield Found(spec.choices[initials.index(fold_text(word.group()))], *word.span())


def _booleans(spec: FieldSpec, text: str) -> Iterator[Found]:
    for word in re.finditer(r"\[ ?x? ?\]|\w+|[✓✔☑☒☐□√]", text, re.IGNORECASE):
        truth = parse_value(spec.comparison, word.group())
        if isinstance(truth, bool) and not word.group().isdigit():
            yield Found(truth, *word.span())


def _numbers(spec: FieldSpec, text: str) -> Iterator[Found]:
    return _measures(spec, text, _NUMBER)


def _quantities(spec: FieldSpec, text: str) -> Iterator[Found]:
    """Numbers with a unit, else numbers."""
    yield from _measures(spec, text, _QUANTITY)
    yield from _measures(spec, text, _NUMBER)


def _measures(spec: FieldSpec, text: str, pattern: re.Pattern[str]) -> Iterator[Found]:
    for match in pattern.finditer(text):
        found = _stripped(text, *match.span())
        if (
            quantities(parse_measure(found.value, spec.decimal))
            and parse_value(spec.comparison, found.value) is not None
        ):
            yield found


def _dates(spec: FieldSpec, text: str) -> Iterator[Found]:
    for match in _DATE.finditer(text):
        day = as_day(match.group(), spec.date_order)
        if day:
            yield Found(day, *match.span())


def as_day(text: str, order: DateOrder) -> str | None:
    """A printed day as a schema with this order wants it: as it is if it reads so, else turned into the order."""
    folded = fold_text(text)
    for other in (order, *_ORDERS):
        day = read_day(folded, other)
        if day is not None:
            return text if other == order else day.strftime(_FORMATS[order])
    return None


def _times(spec: FieldSpec, text: str) -> Iterator[Found]:
    for match in _TIME.finditer(text):
        if parse_value(spec.comparison, match.group()) is not None:
            yield Found(match.group(), *match.span())


def _moments(spec: FieldSpec, text: str) -> Iterator[Found]:
    for match in _DATE.finditer(text):
        day, time = as_day(match.group(), spec.date_order), _TIME.search(text, match.end())
        if day and time and parse_value(spec.comparison, f"{day} {time.group()}") is not None:
            yield Found(f"{day} {time.group()}", match.start(), time.end())


def _stripped(text: str, start: int, end: int) -> Found:
    part = text[start:end]
    start += len(part) - len(part.lstrip(_EDGES))
    value = part.strip(_EDGES)
    return Found(value, start, start + len(value))


_FINDERS: dict[str, Callable[[FieldSpec, str], Iterator[Found]]] = {
    "text": _texts,
    "free_text": lambda spec, text: iter((_stripped(text, 0, len(text)),)),
    "person_name": _names,
    "code": _codes,
    "enum": _choices,
    "boolean": _booleans,
    "number": _numbers,
    "quantity": _quantities,
    "date": _dates,
    "time": _times,
    "datetime": _moments,
}
