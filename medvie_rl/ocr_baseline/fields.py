"""Finds the values of a schema's keys on pages: by labels first, then by their looks and places."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medvie_rl.ocr_baseline.labels import Label
from medvie_rl.ocr_baseline.page import NUMBERED, Cell, Page
from medvie_rl.ocr_baseline.values import find_unlabelled, find_value, typical
from medvie_rl.ocr_baseline.vocabulary import words_of
from rewards.schema import FieldSpec

_PLACES = (1.0, 0.98, 0.93)  # in the label's cell, right of it, below it
_MIN_REPEATED = 0.8  # of the worth of a label that may stand for several values
_ISSUERS = frozenset(
    ("company", "merchant", "shop", "store", "seller", "supplier", "facility", "hospital", "laboratory")
)
_COMPANY = re.compile(
    r"\b(?:ltd|inc|llc|corp|gmbh|ag|kg|s\.?a\.?|plc|co|sdn\.? ?bhd|s/b|pty|mart|store|clinic|hospital)\b\.?",
    re.IGNORECASE,
)
_NO_ADDRESS = re.compile(
    r"\b(?:tel|te1|ph|phone|fax|www|gst|vat|invoice|receipt|open|reg no)\b|@"
    r"|^\W*[\d ()/+-]{7,}\W*$|^\(?[\w-]*\d{5}[\w-]*\)?$",
    re.IGNORECASE,
)
_REGISTRATION = re.compile(r"\s*\([\w-]*\d[\w-]*\)$")
_TOP = 0.35  # of the page: who issued a document stands there
_MAX_WORDS_OF_VALUE = 6  # of a cell in which a value without a label is looked for
_MAX_ADDRESS_LINES = 5
_LIST_SIGNS = re.compile(r"\s*[;,•·]\s*")
_NAME = re.compile(r"[^\W\d_][\w'-]+, [^\W\d_][\w'-]+")

Value = str | bool | list[str | bool]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that a key may have, and how sure a sign of it stands beside it."""

    key: str
    worth: float
    value: str | bool
    label: tuple[int, int, int]  # page, cell, start of the label: each names one key
    cells: tuple[Cell, ...]


def find_fields(specs: Sequence[FieldSpec], pages: Sequence[Page], used: set[Cell]) -> dict[str, Value]:
    """The values of scalar keys and lists that there is evidence of; cells that are `used` are left alone."""
    candidates = sorted(_labelled(specs, pages, used), key=lambda each: -each.worth)
    found: dict[str, Value] = {}
    owner: dict[tuple[int, int, int], str] = {}
    by_key = {spec.key: spec for spec in specs}
    several: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        key, spec = candidate.key, by_key[candidate.key]
        if owner.setdefault(candidate.label, key) != key:
            continue
        if spec.many and (key not in several or candidate.worth >= _MIN_REPEATED):
            several.setdefault(key, []).append(candidate)
        elif not spec.many and key not in found:
            found[key] = candidate.value
        else:
            continue
        used.update(candidate.cells)
    for key, members in several.items():
        in_order = sorted({candidate.label: candidate for candidate in members}.items())
        found[key] = [item for _, candidate in in_order for item in _items(by_key[key], candidate.value)]
    missing = [spec for spec in specs if spec.key not in found]
    return found | _unlabelled(missing, pages, used)


def _labelled(specs: Sequence[FieldSpec], pages: Sequence[Page], used: set[Cell]) -> Iterator[Candidate]:
    for page_number, page in enumerate(pages):
        for cell_number, cell in enumerate(page.cells):
            for index, label in enumerate(cell.labels):
                end = cell.labels[index + 1].start if index + 1 < len(cell.labels) else len(cell.text)
                for spec in specs:
                    if cell in used or spec.key not in label.worth:
                        continue
                    for place, (text, cells) in enumerate(_texts_at(spec, page, cell, label, end)):
                        value = find_value(spec, text) if text else None
                        if value is not None:
                            worth = label.worth[spec.key] * _PLACES[place]
                            where = page_number, cell_number, label.start
                            yield Candidate(spec.key, worth, value.value, where, cells)
                            break


def _texts_at(
    spec: FieldSpec, page: Page, cell: Cell, label: Label, end: int
) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    """What stands behind a label, right of its cell and below it; a text of several lines as one."""
    inline = cell.text[label.end : end]
    goes_on = spec.kind in ("text", "free_text") and typical(spec) is None
    if inline.strip(" .,;:-_"):
        lines = page.paragraph(cell, is_long=spec.kind == "free_text") if goes_on and end == len(cell.text) else [cell]
        yield " ".join([inline.strip(), *(line.text for line in lines[1:])]), tuple(lines)
        return  # what stands elsewhere belongs to another label
    yield "", ()
    any_words = spec.kind in ("text", "free_text", "person_name") and typical(spec) is None
    right_first = label.has_colon or not (any_words and page.is_stacked(cell))
    for neighbour in (page.right_of(cell) if right_first else None, page.below(cell)):
        if neighbour is None:
            yield "", ()
            continue
        own = neighbour.labels[0].start if neighbour.labels else len(neighbour.text)
        lines = page.paragraph(neighbour, is_long=spec.kind == "free_text") if goes_on else [neighbour]
        yield " ".join([neighbour.text[:own], *(line.text for line in lines[1:])]), tuple(lines)


def _items(spec: FieldSpec, value: str | bool) -> list[str | bool]:
    if isinstance(value, bool) or spec.kind != "text" or typical(spec) is not None:
        return [value]
    return [item for item in _LIST_SIGNS.split(value) if item]


def _unlabelled(specs: Sequence[FieldSpec], pages: Sequence[Page], used: set[Cell]) -> dict[str, Value]:
    """Values without a label, where only one key can be meant: the one that looks so, the issuer at the top, a list."""
    found: dict[str, Value] = {}
    free = [cell for page in pages for cell in page.cells if cell not in used]
    patterns = {spec: typical(spec) for spec in specs if not spec.many and _shows_itself(spec)}
    for spec, pattern in patterns.items():
        num_rivals = sum(other is pattern for other in patterns.values())
        if spec.kind == "enum" or (pattern is not None and num_rivals == 1):
            _take_first(spec, free, found)
        elif spec.kind == "person_name" and sum(other.kind == "person_name" for other in specs) == 1:
            _take_first(spec, [cell for cell in free if _NAME.fullmatch(cell.text.strip())], found)
    issuers = [spec for spec in specs if _ISSUERS & words_of(spec) and "address" not in words_of(spec)]
    if pages and issuers and issuers[0].kind == "text":
        _take_issuer(issuers[0], [spec for spec in specs if "address" in words_of(spec)], pages[0], found)
    _take_numbered(specs, free, found)
    return found


def _shows_itself(spec: FieldSpec) -> bool:
    """Whether a value can be told from others by its looks: a sum of money cannot, there are many on a page."""
    return spec.kind not in ("text", "number") or bool({"date", "time"} & set(spec.key.split("_")))


def _take_first(spec: FieldSpec, cells: Sequence[Cell], found: dict[str, Value]) -> None:
    for cell in cells:
        is_short = len(cell.text.split()) <= _MAX_WORDS_OF_VALUE
        value = find_unlabelled(spec, cell.text) if is_short else None
        if value is not None:
            found[spec.key] = value.value
            return


def _take_issuer(spec: FieldSpec, addresses: Sequence[FieldSpec], page: Page, found: dict[str, Value]) -> None:
    """The first company at the top of a page, else its first words; as the address the lines below, up to a label."""
    names = [cell for cell in page.cells if _is_name(cell)]
    head = next((cell for cell in names if _COMPANY.search(cell.text)), next(iter(names), None))
    if head is None:
        return
    name = _REGISTRATION.sub("", head.text.strip())
    found[spec.key] = [name] if spec.many else name
    lines: list[str | bool] = []
    for row in page.rows[head.row + 1 : head.row + 1 + _MAX_ADDRESS_LINES]:
        text = row[0].text.strip()
        if lines and (row[0].begins_with_label or _NO_ADDRESS.search(text)):
            break
        if not row[0].begins_with_label and not _NO_ADDRESS.search(text):
            lines.append(text)
    if addresses and any(re.search(r"\d", str(line)) for line in lines):
        found[addresses[0].key] = lines if addresses[0].many else " ".join(map(str, lines))


def _is_name(cell: Cell) -> bool:
    letters = sum(character.isalpha() for character in cell.text)
    is_top = cell.line.box.y0 < _TOP and not cell.begins_with_label
    return is_top and letters >= 3 and 2 * letters > len(cell.text) and not _NO_ADDRESS.search(cell.text)


def _take_numbered(specs: Sequence[FieldSpec], cells: Sequence[Cell], found: dict[str, Value]) -> None:
    """The items of a numbered list, for the first key that wants every one of something."""
    spec = next((spec for spec in specs if spec.many and {"every", "each"} & words_of(spec)), None)
    items = [NUMBERED.sub("", cell.text).strip() for cell in cells if NUMBERED.match(cell.text)]
    if spec is not None and len(items) > 1 and spec.kind == "text":
        found[spec.key] = list(items)
