"""Assigns the rows of an answered table to the rows of the true one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rewards.compare import canonical_value, same_meaning
from rewards.schema import FieldSpec
from rewards.values import is_left_out, is_scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAssignment:
    """`true_of[i]` is the true row of answered row i, None for a row too many; `duplicates` are those said twice."""

    true_of: tuple[int | None, ...]
    duplicates: frozenset[int]


def assign_rows(
    spec: FieldSpec, answered: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]
) -> RowAssignment:
    """Optimal assignment (Hungarian) by the number of equal cells.

    One equal cell of a row key outweighs all other cells of the table together; one of the same meaning counts nearly
    half. Ties go to the nearest position. An answered row whose key is that of a true row already taken by a better one
    is a duplicate, and takes no other true row.
    """
    if not answered or not true:
        return RowAssignment(true_of=(None,) * len(answered), duplicates=frozenset())
    forms = _forms(spec, answered), _forms(spec, true)
    scores = _agreement(spec, answered, true, *forms)
    pairs = _assign(scores)
    keys = [column.key for column in spec.columns].index
    row_keys = [keys(name) for name in spec.row_keys] or list(range(len(spec.columns)))
    answered_keys, true_keys = ([tuple(row[i] for i in row_keys) for row in rows] for rows in forms)
    present = set(true_keys)
    duplicates = frozenset(
        index
        for index, key in enumerate(answered_keys)
        if key in present and any(form is not None for form in key) and key != _key_at(true_keys, pairs.get(index))
    )
    if any(index in pairs for index in duplicates):
        kept = [index for index in range(len(answered)) if index not in duplicates]
        pairs = {kept[row]: column for row, column in _assign(scores[kept]).items()}
    return RowAssignment(true_of=tuple(pairs.get(index) for index in range(len(answered))), duplicates=duplicates)


def _forms(spec: FieldSpec, rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The canonical form of every cell, None where there is none."""
    return [
        [
            canonical_value(column, row[column.key])
            if is_scalar(row.get(column.key)) and not is_left_out(row[column.key])
            else None
            for column in spec.columns
        ]
        for row in rows
    ]


def _agreement(
    spec: FieldSpec,
    answered: Sequence[Mapping[str, Any]],
    true: Sequence[Mapping[str, Any]],
    forms: list[list[Any]],
    true_forms: list[list[Any]],
) -> NDArray[np.float64]:
    """How well each answered row fits each true row: [num_answered, num_true]."""
    num_columns = len(spec.columns)
    key_weight = float(num_columns * (min(len(answered), len(true)) + 1))
    nearness = np.abs(np.arange(len(answered))[:, None] - np.arange(len(true))[None, :])
    scores: NDArray[np.float64] = -nearness / (4.0 * (len(answered) + len(true)) ** 2)
    for index, column in enumerate(spec.columns):
        is_key = column.key in spec.row_keys
        codes = {form: code for code, form in enumerate({row[index] for row in true_forms} - {None})}
        left = np.array([codes.get(row[index], -1) for row in forms])
        right = np.array([codes.get(row[index], -2) for row in true_forms])
        equal = left[:, None] == right[None, :]
        scores += equal * (key_weight if is_key else 1.0)
        if is_key:
            for i in np.flatnonzero(left == -1):
                for j in np.flatnonzero(right >= 0):
                    if forms[i][index] is not None and same_meaning(
                        column, answered[i][column.key], true[j][column.key]
                    ):
                        scores[i, j] += 0.49 * key_weight  # two of these never beat one equal cell
    return scores


def _assign(scores: NDArray[np.float64]) -> dict[int, int]:
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True)}


def _key_at(keys: Sequence[tuple[Any, ...]], position: int | None) -> tuple[Any, ...] | None:
    return None if position is None else keys[position]
