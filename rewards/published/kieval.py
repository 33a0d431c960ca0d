"""KIEval, written from its definition."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from rewards.published.pairs import Pair, checked

_Path = tuple[str, ...]  # the key of an entity, from the document's key on
_Entities = Counter[tuple[_Path, str]]  # path and text, as often as it stands there


@dataclass(frozen=True, slots=True, kw_only=True)
class KIEvalScores:
    """KIEval of one or more documents; all rates 0 to 1, micro over the counts of all documents unless named macro.

    An answered entity that equals a true one of its place is a true positive. What is left is a false positive or a
    false negative; one of each at the same place are one `wrong_matches` (a value to correct), the others are
    `no_matches` (a value to add or to delete). `aligned` is the share of entities that need no correction,
    true_positives / (true_positives + wrong_matches + no_matches). `entity_macro_f1` is the mean over all keys with an
    entity on either side.

    Entity rates and `aligned` are 1 where neither side has an entity; group rates are None where neither has a group.
    """

    entity_precision: float
    entity_recall: float
    entity_f1: float
    entity_macro_f1: float
    group_precision: float | None
    group_recall: float | None
    group_f1: float | None
    aligned: float
    true_positives: int
    false_positives: int
    false_negatives: int
    wrong_matches: int
    no_matches: int
    group_true_positives: int
    group_false_positives: int
    group_false_negatives: int
    num_documents: int


def kieval(pairs: Iterable[Pair]) -> KIEvalScores:
    """KIEval (arXiv 2503.05488) over pairs of truth and answer, one pair for the scores of one document.

    A key of the document holds groups where it holds an object or a list of objects, else entities without a group.
    Within a group a list is several entities of one key, and an object extends the key. The answered groups of a key
    are matched to its true groups so that as many entities as possible are equal (Hungarian method, exact); entities
    of different groups never match. A group is a true positive when all its entities are equal.

    Entities are equal when their texts are, character by character, a number or true and false being the text JSON has
    for it; null is no entity. The authors' code differs in this: it refuses what is not text, compares the lists
    within a group by order too when it compares whole groups, and says 0 where nothing was to answer nor answered.
    """
    tally, num_documents = _Tally(), 0
    for pair in pairs:
        tally.add_document(*(_split(value) for value in checked(*pair)))
        num_documents += 1
    return tally.scores(num_documents)


@dataclass(slots=True)
class _Document:
    loose: _Entities  # the entities without a group
    groups: dict[str, list[_Entities]]


@dataclass(slots=True)
class _Tally:
    true_positives: Counter[_Path] = field(default_factory=Counter)
    false_positives: Counter[_Path] = field(default_factory=Counter)
    false_negatives: Counter[_Path] = field(default_factory=Counter)
    wrong_matches: int = 0
    group_true_positives: int = 0
    group_false_positives: int = 0
    group_false_negatives: int = 0

    def add_document(self, true: _Document, answered: _Document) -> None:
        self._add_entities(true.loose, answered.loose)
        for key in true.groups | answered.groups:
            self._add_groups(true.groups.get(key, []), answered.groups.get(key, []))

    def _add_groups(self, true: list[_Entities], answered: list[_Entities]) -> None:
        matches = _match(true, answered)
        correct = sum(true[row] == answered[column] for row, column in matches.items())
        self.group_true_positives += correct
        self.group_false_positives += len(answered) - correct
        self.group_false_negatives += len(true) - correct
        nothing: _Entities = Counter()
        for row, group in enumerate(true):
            self._add_entities(group, answered[matches[row]] if row in matches else nothing)
        for column in set(range(len(answered))) - set(matches.values()):
            self._add_entities(nothing, answered[column])

    def _add_entities(self, true: _Entities, answered: _Entities) -> None:
        correct, missed, invented = (
            Counter(path for path, _ in entities.elements())
            for entities in (true & answered, true - answered, answered - true)
        )
        self.true_positives.update(correct)
        self.false_positives.update(invented)
        self.false_negatives.update(missed)
        self.wrong_matches += (missed & invented).total()

    def scores(self, num_documents: int) -> KIEvalScores:
        by_outcome = self.true_positives, self.false_positives, self.false_negatives
        true_positives, false_positives, false_negatives = (by_key.total() for by_key in by_outcome)
        precision, recall, f1 = _rates(true_positives, false_positives, false_negatives) or (1.0,) * 3
        group_counts = self.group_true_positives, self.group_false_positives, self.group_false_negatives
        group_precision, group_recall, group_f1 = _rates(*group_counts) or (None,) * 3
        of_keys = [_rates(*(by_key[key] for by_key in by_outcome)) for key in set().union(*by_outcome)]
        f1_of_keys = [rates[2] for rates in of_keys if rates]
        no_matches = false_positives + false_negatives - 2 * self.wrong_matches
        num_aligned = true_positives + self.wrong_matches + no_matches
        return KIEvalScores(
            entity_precision=precision,
            entity_recall=recall,
            entity_f1=f1,
            entity_macro_f1=fsum(f1_of_keys) / len(f1_of_keys) if f1_of_keys else 1.0,
            group_precision=group_precision,
            group_recall=group_recall,
            group_f1=group_f1,
            aligned=true_positives / num_aligned if num_aligned else 1.0,
            true_positives=true_positives,
            false_positives=false_positives,
            false_negatives=false_negatives,
            wrong_matches=self.wrong_matches,
            no_matches=no_matches,
            group_true_positives=self.group_true_positives,
            group_false_positives=self.group_false_positives,
            group_false_negatives=self.group_false_negatives,
            num_documents=num_documents,
        )


def _split(value: Any) -> _Document:
    document = _Document(Counter(), {})
    for key, held in value.items() if isinstance(value, dict) else [("", value)]:
        for item in _flat(held):
            if isinstance(item, dict):
                document.groups.setdefault(key, []).append(Counter(_entities((key,), item)))
            else:
                document.loose.update(_entities((key,), item))
    return document


def _entities(path: _Path, value: Any) -> Iterator[tuple[_Path, str]]:
    for item in _flat(value):
        if isinstance(item, dict):
            for key, held in item.items():
                yield from _entities((*path, key), held)
        elif item is not None:
            yield path, item if isinstance(item, str) else json.dumps(item)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _match(true: list[_Entities], answered: list[_Entities]) -> dict[int, int]:
    """The answered group of each matched true group; as many matches as the shorter side has groups."""
    if not true or not answered:
        return {}
    from scipy.optimize import linear_sum_assignment  # here, because it takes 0.3 s

    num_equal = [[(group & other).total() for other in answered] for group in true]  # [num_true, num_answered]
    rows, columns = linear_sum_assignment(num_equal, maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _rates(correct: int, false_positives: int, false_negatives: int) -> tuple[float, float, float] | None:
    """Precision, recall and F1, 0 where undefined; None for nothing on both sides."""
    predicted, true = correct + false_positives, correct + false_negatives
    if not predicted and not true:
        return None
    return (
        correct / predicted if predicted else 0.0,
        correct / true if true else 0.0,
        2 * correct / (predicted + true),
    )
