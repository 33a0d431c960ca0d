"""Assigns the rows of an answered table to the rows of the true one."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rewards.compare import canonical_value, same_meaning
from rewards.schema import FieldSpec
from rewards.values import is_scalar, leaf_values

RowForms = list[list[Hashable | None]]  # [num_rows][num_columns], None for an empty cell

# What a row key in another convention is worth beside an equal one, so that two of them never outweigh it.
_SAME_MEANING = 0.4
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

    One equal cell of a row key outweighs all other cells of the table together; one of the same meaning counts less
    than half. Ties go to the nearest position. An answered row whose key is that of a true row already taken by a
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
    nearness = np.abs(np.array(rows)[:, None] - np.array(true_rows)[None, :])
    scores: NDArray[np.float64] = -nearness / (4.0 * (len(answered.cells) + len(true.cells)) ** 2)
    for index, column in enumerate(spec.columns):
        is_key = column.key in spec.row_keys
        codes: dict[Hashable, int] = {}
        right = [_code(codes, true.forms[row][index], -2) for row in true_rows]
        left = [_code(codes, answered.forms[row][index], -1) for row in rows]
        scores += np.equal.outer(left, right) * (key_weight if is_key else 1.0)
        if is_key:
            lonely, lonely_true = set(left).difference(right, (-1,)), set(right).difference(left, (-2,))
            for i, j in product(_places(left, lonely), _places(right, lonely_true)):
                if _same_key(column, answered.cells[rows[i]], true.cells[true_rows[j]]):
                    scores[i, j] += _SAME_MEANING * key_weight
    return scores


def _code(codes: dict[Hashable, int], form: Hashable | None, empty: int) -> int:
    return empty if form is None else codes.setdefault(form, len(codes))


def _places(codes: Sequence[int], wanted: set[int]) -> list[int]:
    return [place for place, code in enumerate(codes) if code in wanted]


def _same_key(column: FieldSpec, answered: Mapping[str, Any], true: Mapping[str, Any]) -> bool:
    return not column.many and same_meaning(column, answered[column.key], true[column.key])


def _assign(scores: NDArray[np.float64], rows: Sequence[int], true_rows: Sequence[int]) -> dict[int, int]:
    """The true row of each answered row, by the best assignment of `scores` [len(rows), len(true_rows)]."""
    left, right = linear_sum_assignment(scores, maximize=True)
    return {rows[i]: true_rows[j] for i, j in zip(left.tolist(), right.tolist(), strict=True)}
