"""Assigns the rows of an answered table to the rows of the true one."""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from rewards.compare import canonical_value, same_meaning, text_credit
from rewards.schema import FieldSpec
from rewards.values import is_scalar, leaf_values

RowForms = list[list[Hashable | None]]  # [num_rows][num_columns], None for an empty cell

# What a row key in another convention, and one in nearly the same letters, is worth beside an equal one, so that two of
# them never outweigh it.
_SAME_MEANING, _NEAR_KEY = 0.4, 0.3
_MIN_NEAR = 0.6  # similarity of keys that tells rows apart
_MIN_SAME_NAME = 0.8  # similarity of a misspelt key to the true one; "hydroxyzine" and "hydralazine" have 0.73
_MAX_LONELY = 64  # keys, on either side, that nobody has word for word and that are compared with one another
_SPELT = frozenset(("text", "free_text", "person_name"))  # a misspelt code is another code
_NUMBERED = re.compile(r"[^\W\d_]+[0-9]\w*")
# How far one equal row key outweighs all the other cells of both rows that an exchange could win.
_DOMINANCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAssignment:
    """`true_of[i]` is the true row of answered row i, None for a row too many; `duplicates` are those said twice."""

    true_of: tuple[int | None, ...]
    duplicates: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one side, and the canonical form of every cell."""

    cells: Sequence[Mapping[str, Any]]
    forms: RowForms

    @classmethod
    def of(cls, spec: FieldSpec, cells: Sequence[Mapping[str, Any]]) -> "Rows":
        """Read `cells` by the columns of `spec`."""
        return cls(
            cells=cells, forms=[[_form(column, row.get(column.key)) for column in spec.columns] for row in cells]
        )


def assign_rows(spec: FieldSpec, answered: Rows, true: Rows) -> RowAssignment:
    """Optimal assignment (Hungarian) by the number of equal cells.

    One equal cell of a row key outweighs all other cells of the table together; one of the same meaning, or in nearly
    the same letters, counts less than half. Other cells count by their weight, lists and free texts in part. Ties go to
    the nearest position. An answered row whose key is that of a true row already taken by a
    better one is a duplicate, and takes no other true row.
    """
    row_keys = [index for index, column in enumerate(spec.columns) if column.key in spec.row_keys]
    keys, true_keys = (_keys(rows, row_keys or range(len(spec.columns))) for rows in (answered, true))
    pairs = _settled(keys, true_keys) if len(row_keys) == 1 else {}
    rows = [index for index in range(len(keys)) if index not in pairs]
    true_rows = sorted(set(range(len(true_keys))).difference(pairs.values()))
    present = {key for key in true_keys if any(form is not None for form in key)}
    scores = _agreement(spec, answered, true, rows, true_rows)
    found = _assign(scores, rows, true_rows)
    duplicates = frozenset(
        index
        for index in rows
        if keys[index] in present and (index not in found or keys[index] != true_keys[found[index]])
    )
    if not duplicates.isdisjoint(found):
        kept = [place for place, index in enumerate(rows) if index not in duplicates]
        found = _assign(scores[kept], [rows[place] for place in kept], true_rows)
    pairs |= found
    return RowAssignment(true_of=tuple(map(pairs.get, range(len(keys)))), duplicates=duplicates)


_Key = tuple[Hashable | None, ...]


def _settled(keys: Sequence[_Key], true_keys: Sequence[_Key]) -> dict[int, int]:
    """The pairs of rows whose single row key stands once on either side.

    Every optimal assignment has them: what giving up such an equal key could win elsewhere, two keys of the same
    meaning and the other cells of two rows, is less than it.
    """
    num, num_true = Counter(keys), Counter(true_keys)
    place = {key: position for position, key in enumerate(true_keys) if num_true[key] == 1 and key != (None,)}
    return {index: place[key] for index, key in enumerate(keys) if key in place and num[key] == 1}


def _form(column: FieldSpec, cell: Any) -> Hashable | None:
    if column.many:
        items = leaf_values(cell)
        return frozenset(Counter(canonical_value(column, item) for item in items).items()) if items else None
    if isinstance(cell, str):
        return canonical_value(column, cell) if cell.strip() else None
    return canonical_value(column, cell) if is_scalar(cell) else None


def _keys(rows: Rows, columns: Sequence[int]) -> list[_Key]:
    return [tuple([row[index] for index in columns]) for row in rows.forms]


def _agreement(
    spec: FieldSpec, answered: Rows, true: Rows, rows: Sequence[int], true_rows: Sequence[int]
) -> NDArray[np.float64]:
    """How well each of some answered `rows` fits each of some `true_rows`: [len(rows), len(true_rows)]."""
    if not rows or not true_rows:
        return np.zeros((len(rows), len(true_rows)))
    key_weight = float(_DOMINANCE * len(spec.columns) * (min(len(rows), len(true_rows)) + 1))
    heaviest = max(column.weight for column in spec.columns)
    nearness = np.abs(np.array(rows)[:, None] - np.array(true_rows)[None, :])
    scores: NDArray[np.float64] = -nearness / (4e3 * (len(answered.cells) + len(true.cells)) ** 2)
    for index, column in enumerate(spec.columns):
        is_key = column.key in spec.row_keys
        codes: dict[Hashable, int] = {}
        right = [_code(codes, true.forms[row][index], -2) for row in true_rows]
        left = [_code(codes, answered.forms[row][index], -1) for row in rows]
        scores += np.equal.outer(left, right) * (key_weight if is_key else column.weight / heaviest)
        lonely, lonely_true = set(left).difference(right, (-1,)), set(right).difference(left, (-2,))
        places, true_places = _places(left, lonely)[:_MAX_LONELY], _places(right, lonely_true)[:_MAX_LONELY]
        for i, j in product(places, true_places):
            pair = answered.forms[rows[i]][index], true.forms[true_rows[j]][index]
            cells = answered.cells[rows[i]][column.key], true.cells[true_rows[j]][column.key]
            if is_key:
                scores[i, j] += key_weight * _key_likeness(column, cells, pair)
            else:
                scores[i, j] += column.weight / heaviest * _likeness(column, cells, pair)
    return scores


def is_same_row(spec: FieldSpec, answered: Rows, index: int, true: Rows, position: int) -> bool:
    """Whether an answered row is about what a true row is about.

    One of its row keys is equal, of the same meaning or misspelt, or the true row has none. Else it names another drug
    or test, or nothing.
    """
    keys = [place for place, column in enumerate(spec.columns) if column.key in spec.row_keys]
    forms, true_forms = answered.forms[index], true.forms[position]
    if any(forms[place] == true_forms[place] for place in keys if true_forms[place] is not None):
        return True
    pairs = [place for place in keys if true_forms[place] is not None]
    return not pairs or any(
        _is_same_name(spec.columns[place], answered.cells[index], true.cells[position], forms[place], true_forms[place])
        for place in pairs
        if forms[place] is not None and not spec.columns[place].many
    )


def _is_same_name(column: FieldSpec, answered: Mapping[str, Any], true: Mapping[str, Any], *forms: Any) -> bool:
    if same_meaning(column, answered[column.key], true[column.key]):
        return True
    if column.kind not in _SPELT or _ratio(*forms) < _MIN_SAME_NAME:
        return False
    names, true_names = (_NUMBERED.findall(str(form)) for form in forms)
    return names == true_names  # vitamin B1 is not a misspelt vitamin B12


def _key_likeness(column: FieldSpec, cells: tuple[Any, Any], forms: tuple[Any, Any]) -> float:
    """What a row key that is not equal is worth, of what an equal one is."""
    if column.many:
        return 0.0
    if same_meaning(column, *cells):
        return _SAME_MEANING
    ratio = _ratio(*forms) if column.kind in _SPELT else 0.0
    return _NEAR_KEY * ratio if ratio >= _MIN_NEAR else 0.0


def _likeness(column: FieldSpec, cells: tuple[Any, Any], forms: tuple[Any, Any]) -> float:
    """How much of a cell that is not equal is right, below 1."""
    if column.many:
        answered, true = (Counter(dict(form)) for form in forms)
        return (answered & true).total() / max(answered.total(), true.total())
    return 0.99 * text_credit(column, *cells) if column.kind == "free_text" else 0.0


def _ratio(form: Hashable, other: Hashable) -> float:
    """Similarity in [0, 1] of two texts in canonical form."""
    return float(Levenshtein.normalized_similarity(str(form), str(other)))


def _code(codes: dict[Hashable, int], form: Hashable | None, empty: int) -> int:
    return empty if form is None else codes.setdefault(form, len(codes))


def _places(codes: Sequence[int], wanted: set[int]) -> list[int]:
    return [place for place, code in enumerate(codes) if code in wanted]


def _assign(scores: NDArray[np.float64], rows: Sequence[int], true_rows: Sequence[int]) -> dict[int, int]:
    """The true row of each answered row, by the best assignment of `scores` [len(rows), len(true_rows)]."""
    left, right = linear_sum_assignment(scores, maximize=True)
    return {rows[i]: true_rows[j] for i, j in zip(left.tolist(), right.tolist(), strict=True)}
