"""Matches what was answered in one place of a document, a value or a list of values, with what is true there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from rewards.compare import canonical_value, same_meaning, text_credit
from rewards.schema import FieldSpec
from rewards.types import Leaf, LeafOutcome
from rewards.values import Scalar, is_left_out, is_scalar, leaf_values

_MAX_TEXTS = 64  # wrong items of a list of free texts, and true ones, that are compared with one another
_MAX_MEANINGS = 2_000  # comparisons of meaning for one list


class Slot(NamedTuple):
    """A place for a value: a key, or a cell of a table's row.

    `position` is () for a key and (row,) for a cell. Where the answer has another shape than the schema, `in_shape` is
    false, and nothing in it is correct.
    """

    spec: FieldSpec
    key: str
    weight: float
    position: tuple[int, ...] = ()
    in_shape: bool = True

    def pair(self, outcome: LeafOutcome, answered: Any, true: Any, credit: float = 0.0, *item: int) -> Leaf:
        """A true leaf, and the predicted one that belongs to it (None where it was omitted)."""
        return Leaf(self.key, self.spec.kind, outcome, answered, true, (*self.position, *item), self.weight, credit)

    def surplus(self, outcome: LeafOutcome, value: Any) -> list[Leaf]:
        """All leaves in `value` as predicted ones without truth."""
        return surplus(self.key, self.spec.kind, self.weight, outcome, value)


def surplus(key: str, kind: str, weight: float, outcome: LeafOutcome, value: Any) -> list[Leaf]:
    """All leaves in `value` as predicted ones without truth."""
    return [Leaf(key, kind, outcome, answered, None, None, weight, 0.0) for answered in leaf_values(value)]


def match_slot(slot: Slot, value: Any, true: Any) -> list[Leaf]:
    """The fate of every leaf of one slot; raises ValueError for a truth of another shape than the schema."""
    if slot.spec.many:
        return _match_many(slot, value, true_list(slot.key, true))
    if isinstance(true, list | tuple | Mapping) and not is_left_out(true):
        raise ValueError(f"key {slot.key!r}: the truth must be one value, got {true!r}")
    return _match_scalar(slot, value, true)


def true_list(key: str, true: Any) -> Sequence[Any]:
    """The items of a truth that must be a list, none where it is left out."""
    if is_left_out(true):
        return []
    if not isinstance(true, list | tuple):
        raise ValueError(f"key {key!r}: the truth must be a list, got {true!r}")
    return true


def _match_scalar(slot: Slot, value: Any, true: Any) -> list[Leaf]:
    """One expected scalar. Of a list or object in its place, the first leaf is the answer and the rest is invented."""
    answered = leaf_values(value)
    if is_left_out(true):
        return slot.surplus(LeafOutcome.HALLUCINATED, answered)
    if not answered:
        return [slot.pair(LeafOutcome.OMITTED, None, true)]
    outcome, credit = _compare(slot, answered[0], true, is_scalar(value))
    return [slot.pair(outcome, answered[0], true, credit), *slot.surplus(LeafOutcome.HALLUCINATED, answered[1:])]


def _compare(slot: Slot, answered: Scalar, true: Scalar, is_plain: bool) -> tuple[LeafOutcome, float]:
    """The outcome of a pair and the part of its weight that it earns."""
    if slot.in_shape and is_plain:
        credit = text_credit(slot.spec, answered, true)
        if credit:
            return (LeafOutcome.CORRECT if credit == 1.0 else LeafOutcome.CLOSE), credit
    return (LeafOutcome.CONVENTION if same_meaning(slot.spec, answered, true) else LeafOutcome.MISREAD), 0.0


def _match_many(slot: Slot, value: Any, true: Sequence[Any]) -> list[Leaf]:
    """A list as a multiset: equal items first, then the nearest free texts, items of the same meaning, the rest."""
    is_list = isinstance(value, list | tuple)
    given = value if isinstance(value, list | tuple) else [value]
    items = [(leaf, slot.in_shape and is_list and is_scalar(item)) for item in given for leaf in leaf_values(item)]
    waiting: dict[Any, list[int]] = defaultdict(list)
    for index in reversed([i for i, item in enumerate(true) if not is_left_out(item)]):
        waiting[canonical_value(slot.spec, true[index])].append(index)
    leaves: list[Leaf] = []
    wrong: list[tuple[Scalar, bool]] = []
    for answered, fits in items:
        form = canonical_value(slot.spec, answered)
        if fits and waiting.get(form):
            index = waiting[form].pop()
            leaves.append(slot.pair(LeafOutcome.CORRECT, answered, true[index], 1.0, index))
        elif fits and form in waiting:
            leaves.extend(slot.surplus(LeafOutcome.DUPLICATE, answered))
        else:
            wrong.append((answered, fits))
    rest = sorted(index for indices in waiting.values() for index in indices)
    paired = _pair_wrong(slot.spec, wrong, true, rest)
    for place, (answered, _) in enumerate(wrong):
        if place in paired:
            index, outcome, credit = paired[place]
            leaves.append(slot.pair(outcome, answered, true[index], credit, index))
        else:
            leaves.extend(slot.surplus(LeafOutcome.HALLUCINATED, answered))
    taken = {index for index, _, _ in paired.values()}
    leaves.extend(slot.pair(LeafOutcome.OMITTED, None, true[index], 0.0, index) for index in rest if index not in taken)
    return leaves


_Pairs = dict[int, tuple[int, LeafOutcome, float]]  # place of a wrong item -> index of the true one, outcome, credit


def _pair_wrong(spec: FieldSpec, wrong: Sequence[tuple[Scalar, bool]], true: Sequence[Any], rest: list[int]) -> _Pairs:
    """A true item for each wrong one, as long as there are some: the more it earns and means the same, the better."""
    pairs = _close_pairs(spec, wrong, true, rest)
    free = [index for index in rest if index not in {index for index, _, _ in pairs.values()}]
    places = [place for place in range(len(wrong)) if place not in pairs]
    most = max(1, _MAX_MEANINGS // max(1, len(places)))  # which true items are looked at; the class alone hangs on it
    for place in places:
        found = next((index for index in free[:most] if same_meaning(spec, wrong[place][0], true[index])), None)
        if found is not None:
            pairs[place] = (found, LeafOutcome.CONVENTION, 0.0)
            free.remove(found)
    unpaired = [place for place in places if place not in pairs]
    return pairs | {place: (index, LeafOutcome.MISREAD, 0.0) for place, index in zip(unpaired, free, strict=False)}


def _close_pairs(spec: FieldSpec, wrong: Sequence[tuple[Scalar, bool]], true: Sequence[Any], rest: list[int]) -> _Pairs:
    """Free texts and what they are nearly, assigned so that they earn the most together, whatever their order."""
    places = [place for place, (_, fits) in enumerate(wrong) if fits and spec.kind == "free_text"][:_MAX_TEXTS]
    candidates = rest[:_MAX_TEXTS]
    if not places or not candidates:
        return {}
    credits = np.array([[text_credit(spec, wrong[place][0], true[index]) for index in candidates] for place in places])
    assigned = zip(*linear_sum_assignment(credits, maximize=True), strict=True)
    return {
        places[row]: (candidates[column], LeafOutcome.CLOSE, float(credits[row, column]))
        for row, column in assigned
        if credits[row, column] > 0
    }
