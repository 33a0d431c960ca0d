"""The documents that a report shows: chosen by rule, with their pages, and every value before and after."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from medvie_rl.compared import ComparedValue, compare_values, cut, in_words
from medvie_rl.config import Config
from medvie_rl.data.inline_image import InlineImage, inline_image
from medvie_rl.data.store import Document, Split, open_split
from medvie_rl.report.data import Compared
from rewards.schema import Schema
from rewards.types import AnswerStatus, Leaf, Score

MAX_PAGES = 4  # of a document
_MAX_VALUES = 150  # of a document
_MAX_VALUE, _MAX_RESPONSE = 500, 8_000  # characters
_SIDES = (1400, 1100, 850, 650, 500, 380)  # pixels of a page's longer side: the first that fits
REASONS = ("improved most", "got worse", "worst after", "at random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An answered value with what became of it; both empty where an answer has no such value."""

    text: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value of a document, or `times` that look the same; `name` is its key or column, `true` is empty where the
    page does not have it."""

    name: str
    true: str
    before: Cell
    after: Cell
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldGroup:
    """Plain values (no title), or a row of a table."""

    title: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One policy's whole answer; `problem` says why it could not be read, where it could not."""

    label: str
    f1: float
    response: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDocument:
    """A document as it is shown. `reasons` are those for which it was chosen, `absent` the keys that it rightly lacks
    in both answers, `num_hidden` the values that are not shown, there being too many."""

    id: str
    document_type: str
    language: str
    reasons: tuple[str, ...]
    num_pages: int
    groups: tuple[FieldGroup, ...]
    num_hidden: int
    absent: tuple[str, ...]
    answers: tuple[Answered, Answered]

    @property
    def change(self) -> float:
        """The change in F1."""
        return self.answers[1].f1 - self.answers[0].f1


class Pages:
    """The page images of a run's documents, as far as the dataset is still there; `problem` says why not."""

    def __init__(self, config: Config, of: str) -> None:
        self.problem = ""
        self._split: Split | None = None
        self._documents: dict[str, Document] = {}
        try:
            self._split = open_split(config.data.path, getattr(config.data, f"{of}_split"))
            self._documents = {document.id: document for document in self._split}
        except ValueError as error:
            self.problem = str(error)

    def of(self, document_id: str) -> Document | None:
        """The document, without its images."""
        return self._documents.get(document_id)

    def inline(self, document_id: str, max_bytes: int) -> tuple[list[InlineImage], str]:
        """The first pages of a document, each of no more than `max_bytes` in the file, and what is wrong with them."""
        if self._split is None:
            return [], self.problem
        try:
            contents = self._split.images(self._documents[document_id]).values()
            fitting = [_fitting(content, max_bytes) for content in list(contents)[:MAX_PAGES]]
        except ValueError as error:
            return [], f"The pages cannot be read: {error}"
        found = [image for image in fitting if image is not None]
        left_out = len(found) < len(fitting)
        return found, "Pages are left out, with which the file would be too large." if left_out else ""


def choose(before: Sequence[Score], after: Sequence[Score], num: int, seed: int) -> dict[int, tuple[str, ...]]:
    """Up to `num` documents, each with the rules that name it, in the order in which they were chosen.

    The rules take turns: the largest gain in F1, the largest loss, the lowest F1 after, and at random by `seed`.
    """
    changes = [second.f1 - first.f1 for first, second in zip(before, after, strict=True)]
    every = range(len(changes))
    at_random = random.Random(seed).sample(every, len(changes))
    ranked = (
        sorted((index for index in every if changes[index] > 0), key=lambda index: -changes[index]),
        sorted((index for index in every if changes[index] < 0), key=lambda index: changes[index]),
        sorted((index for index in every if after[index].f1 < 1), key=lambda index: after[index].f1),
        at_random,
    )
    chosen: dict[int, list[str]] = {}
    for reason, index in _in_turns(ranked):
        if len(chosen) == num and index not in chosen:
            break
        chosen.setdefault(index, []).append(reason)
    return {index: tuple(reasons) for index, reasons in chosen.items()}


def _in_turns(ranked: Sequence[Sequence[int]]) -> Iterator[tuple[str, int]]:
    for turn in zip_longest(*ranked):
        yield from ((reason, index) for reason, index in zip(REASONS, turn, strict=True) if index is not None)


def show(compared: Compared, pages: Pages, chosen: Mapping[int, tuple[str, ...]]) -> list[ShownDocument]:
    """The chosen documents, by their position among the compared ones."""
    return [_show(compared, pages, index, reasons) for index, reasons in chosen.items()]


def _show(compared: Compared, pages: Pages, index: int, reasons: tuple[str, ...]) -> ShownDocument:
    case = compared.recorded.cases[index]
    scores = (compared.comparison.other.scores[index], compared.scores.system.scores[index])
    responses = (compared.recorded.before[index].response, compared.recorded.after[index].response)
    values = sorted(compare_values(*scores), key=lambda value: _order(case.schema, value))
    document = pages.of(case.id)
    first, second = (
        Answered(label=label, f1=score.f1, response=cut(response, _MAX_RESPONSE), problem=_problem(score))
        for label, score, response in zip(compared.labels, scores, responses, strict=True)
    )
    return ShownDocument(
        id=case.id,
        document_type=case.document_type,
        language="" if document is None else document.language,
        reasons=reasons,
        num_pages=0 if document is None else len(document.image_keys),
        groups=tuple(_groups(case.schema, values[:_MAX_VALUES])),
        num_hidden=max(len(values) - _MAX_VALUES, 0),
        absent=tuple(_absent(case.schema, values)),
        answers=(first, second),
    )


def _order(schema: Schema, value: ComparedValue) -> tuple[int, bool, tuple[int, ...], int]:
    """As the schema has the keys, tables row by row, what has no truth last and as it was answered."""
    table, column = _table_and_column(schema, value.key)
    keys = list(schema.keys)
    place = keys.index(table) if table in keys else len(keys)
    if not column or value.position is None:
        return place, value.position is None, (), 0
    columns = [spec.key for spec in schema.field(table).columns]
    return place, False, value.position[:1], columns.index(column) if column in columns else len(columns)


def _groups(schema: Schema, values: Iterable[ComparedValue]) -> Iterator[FieldGroup]:
    by_title: dict[str, list[Field]] = {}
    for value in values:
        title, name = _title_and_name(schema, value)
        shown = Field(name=name, true=cut(value.true, _MAX_VALUE), before=_cell(value.before), after=_cell(value.after))
        of_title = by_title.setdefault(title, [])
        if of_title and replace(of_title[-1], times=1) == shown:  # what is given twice is often given ten times
            of_title[-1] = replace(shown, times=of_title[-1].times + 1)
        else:
            of_title.append(shown)
    for title, fields in by_title.items():
        yield FieldGroup(title=title, fields=tuple(fields))


def _title_and_name(schema: Schema, value: ComparedValue) -> tuple[str, str]:
    """The row of a table, empty for plain values, and the name there; places are counted from 1."""
    table, column = _table_and_column(schema, value.key)
    if not column:
        return "", " ".join([table, *(str(item + 1) for item in value.position or ())])
    if value.position is None:
        return f"{table}, in no row of the page", column
    row, *item = value.position
    return f"{table}, row {row + 1}", " ".join([column, *(str(place + 1) for place in item)])


def _table_and_column(schema: Schema, key: str) -> tuple[str, str]:
    """A leaf's key and, where that is a table, the column; without the schema's knowing it, the key as it is."""
    table, _, column = key.partition(".")
    return (key, "") if key in schema.keys or table not in schema.keys else (table, column)


def _cell(leaf: Leaf | None) -> Cell:
    if leaf is None:
        return Cell(text="", outcome="")
    return Cell(text=cut(in_words(leaf.answered), _MAX_VALUE), outcome=leaf.outcome.value)


def _absent(schema: Schema, values: Iterable[ComparedValue]) -> list[str]:
    """The keys about which neither the page nor an answer says anything."""
    said = {_table_and_column(schema, value.key)[0] for value in values}
    return [key for key in schema.keys if key not in said]


def _problem(score: Score) -> str:
    return "" if score.status is AnswerStatus.OK else f"{score.status.value}: {score.detail}".removesuffix(": ")


def _fitting(content: bytes, max_bytes: int) -> InlineImage | None:
    images = (inline_image(content, side=side) for side in _SIDES)
    return next((image for image in images if len(image.uri) <= max_bytes), None)
