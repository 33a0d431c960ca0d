"""Precision, recall and F1 of parts of a test set: by document type, kind, key, rarity of the key, and layout.

The paper names where such a model fails (arXiv 2506.13363): hallucinations in rare fields, missing fields in complex
layouts, values bound to the wrong field or row. These are the tables in which such a failure stands out.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rewards.matching import UNKNOWN_KEY
from rewards.metrics import error_rates
from rewards.resampling import Interval, interval, micro_rates_of, resample_parts
from rewards.types import Leaf, LeafCounts, LeafOutcome, Score
from rewards.values import is_left_out, leaf_values

GROUPS = ("all", "document_type", "kind", "key", "rarity", "leaves", "rows", "columns")

# Names of buckets with the first number (or share) that each holds.
_RARITY = (("never", 0.0), ("< 10%", 1e-12), ("10-50%", 0.1), ("50-90%", 0.5), (">= 90%", 0.9))
_LEAVES = (("0", 0), ("1-5", 1), ("6-10", 6), ("11-20", 11), ("21-50", 21), ("> 50", 51))
_ROWS = (("0", 0), ("1-2", 1), ("3-5", 3), ("6-10", 6), ("> 10", 11))
_COLUMNS = (("0", 0), ("1-3", 1), ("4-6", 4), ("> 6", 7))
_BUCKETS = {"rarity": _RARITY, "leaves": _LEAVES, "rows": _ROWS, "columns": _COLUMNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """One group of leaves. `num_leaves` counts the true ones; the rates are those of `metrics.error_rates`.

    `num_documents` are those with a leaf in the group or, for groups of whole documents, all that belong to it. Draws
    of the bootstrap without any leaf of the group are left out of its interval.
    """

    group: str
    name: str
    num_documents: int
    num_leaves: int
    precision: float
    recall: float
    f1: float
    f1_ci95: Interval
    hallucination_rate: float
    omission_rate: float
    misassociation_rate: float
    duplicate_rate: float
    counts: LeafCounts

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How complex a document is: leaves, rows of tables, and columns of its widest row."""

    num_leaves: int
    num_rows: int
    num_columns: int


def layout_of(truth: Mapping[str, Any]) -> Layout:
    """The layout of an annotation; rows are the objects inside lists, and what is left out does not count."""
    widths = [sum(not is_left_out(cell) for cell in row.values()) for row in _rows(truth)]
    return Layout(num_leaves=len(leaf_values(truth)), num_rows=len(widths), num_columns=max(widths, default=0))


@dataclass(frozen=True, slots=True)
class KeyFrequencies:
    """In how many training documents of its document type each key (and each column of a table) is present."""

    _num_present: Counter[tuple[str, str]] = field(default_factory=Counter)
    _num_documents: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, annotations: Iterable[tuple[str, Mapping[str, Any]]]) -> "KeyFrequencies":
        """Count (schema name, annotation) of training documents."""
        frequencies = cls()
        for schema, annotation in annotations:
            frequencies._num_documents[schema] += 1
            frequencies._num_present.update((schema, key) for key in _present_keys(annotation))
        return frequencies

    def share(self, schema: str, key: str) -> float:
        """Share of the training documents that have `key`; 0 for a schema without training documents."""
        return self._num_present[schema, key] / max(self._num_documents[schema], 1)

    def bucket(self, schema: str, key: str) -> str:
        """The name of the rarity that `key` has."""
        return _bucket("rarity", self.share(schema, key))


def breakdown(
    scores: Sequence[Score],
    *,
    document_types: Mapping[str, str] | None = None,
    layouts: Mapping[str, Layout] | None = None,
    frequencies: KeyFrequencies | None = None,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, tuple[GroupMetrics, ...]]:
    """The groups of each of `GROUPS`; raises ValueError for no scores.

    `document_types` and `layouts` are by document id; without the first, the schema's name stands for the type. Without
    `layouts` or `frequencies` the groups by layout or by rarity are empty. Buckets nobody falls into are left out.
    """
    if not scores:
        raise ValueError("a breakdown needs at least one score, got none")
    positions = {name: index for index, name in enumerate(sorted({score.document_id for score in scores}))}
    parts: dict[tuple[str, str], _Part] = defaultdict(_Part)
    for score in scores:
        document = positions[score.document_id]
        for group in _document_groups(score, document_types, layouts):
            parts[group].documents.add(document)
            parts[group].extend(document, score.leaves)
        for leaf in score.leaves:
            for group in _leaf_groups(score, leaf, frequencies):
                parts[group].documents.add(document)
                parts[group].extend(document, (leaf,))
    order = sorted(parts, key=_group_order)
    intervals = _intervals([parts[group] for group in order], len(positions), num_resamples, seed)
    tables: dict[str, list[GroupMetrics]] = {name: [] for name in GROUPS}
    for group, f1_ci95 in zip(order, intervals, strict=True):
        tables[group[0]].append(parts[group].metrics(*group, f1_ci95))
    return {name: tuple(table) for name, table in tables.items()}


@dataclass(slots=True)
class _Part:
    """The leaves of one group, each with the position of its document."""

    documents: set[int] = field(default_factory=set)
    leaves: list[Leaf] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def extend(self, document: int, leaves: Sequence[Leaf]) -> None:
        self.leaves.extend(leaves)
        self.positions.extend([document] * len(leaves))

    def totals(self) -> NDArray[np.float64]:
        """[num_leaves, 3]: whether each is correct, predicted, true."""
        flags = [
            (leaf.outcome is LeafOutcome.CORRECT, leaf.answered is not None, leaf.true is not None)
            for leaf in self.leaves
        ]
        return np.array(flags, dtype=np.float64).reshape(-1, 3)

    def metrics(self, group: str, name: str, f1_ci95: Interval) -> GroupMetrics:
        counts = LeafCounts.of(self.leaves)
        precision, recall, f1 = micro_rates_of(counts)
        shares = error_rates(counts)
        return GroupMetrics(
            group=group,
            name=name,
            num_documents=len(self.documents),
            num_leaves=counts.true,
            precision=precision,
            recall=recall,
            f1=f1,
            f1_ci95=f1_ci95,
            hallucination_rate=shares["hallucinated"],
            omission_rate=shares["omitted"],
            misassociation_rate=shares["misassociated"],
            duplicate_rate=shares["duplicate"],
            counts=counts,
        )


def _document_groups(
    score: Score, document_types: Mapping[str, str] | None, layouts: Mapping[str, Layout] | None
) -> Iterator[tuple[str, str]]:
    yield "all", "all"
    yield "document_type", score.schema if document_types is None else document_types[score.document_id]
    if layouts is not None:
        layout = layouts[score.document_id]
        yield "leaves", _bucket("leaves", layout.num_leaves)
        yield "rows", _bucket("rows", layout.num_rows)
        yield "columns", _bucket("columns", layout.num_columns)


def _leaf_groups(score: Score, leaf: Leaf, frequencies: KeyFrequencies | None) -> Iterator[tuple[str, str]]:
    yield "kind", leaf.kind or UNKNOWN_KEY
    yield "key", leaf.key
    if frequencies is not None:
        yield "rarity", frequencies.bucket(score.schema, leaf.key)


def _intervals(parts: Sequence[_Part], num_documents: int, num_resamples: int, seed: int) -> list[Interval]:
    """The interval of F1 of every part, all from the same draws of documents."""
    flags = [part.totals() for part in parts]
    rows = np.concatenate([np.repeat(np.array(part.positions, dtype=np.int64), 3) for part in parts])
    columns = np.concatenate([np.tile(np.arange(3) + 3 * i, len(part.leaves)) for i, part in enumerate(parts)])
    totals = csr_array((np.concatenate(flags).ravel(), (rows, columns)), shape=(num_documents, 3 * len(parts)))
    samples = [_f1_samples(sums, len(parts)) for sums in resample_parts(totals, num_resamples, seed)]
    f1 = np.concatenate(samples)  # [num_resamples, num_parts], NaN where a draw has no leaf of the part
    return [
        interval(column[~np.isnan(column)]) if part.leaves else (1.0, 1.0)
        for part, column in zip(parts, f1.T, strict=True)
    ]


def _f1_samples(sums: NDArray[np.float64], num_parts: int) -> NDArray[np.float64]:
    correct, predicted, true = sums.reshape(len(sums), num_parts, 3).transpose(2, 0, 1)
    size = predicted + true
    return np.divide(2 * correct, size, out=np.full_like(size, np.nan), where=size > 0)


def _group_order(group: tuple[str, str]) -> tuple[int, int, bool, str]:
    """Groups in the order of `GROUPS`, buckets as they rise, else by name with what is in no schema last."""
    kind, name = group
    buckets = [bucket for bucket, _ in _BUCKETS.get(kind, ())]
    return GROUPS.index(kind), buckets.index(name) if buckets else 0, UNKNOWN_KEY in name, name


def _bucket(group: str, number: float) -> str:
    buckets = _BUCKETS[group]
    return buckets[bisect_right([first for _, first in buckets], number) - 1][0]


def _present_keys(annotation: Mapping[str, Any]) -> set[str]:
    present = set()
    for key, value in annotation.items():
        if is_left_out(value):
            continue
        present.add(key)
        for row in value if isinstance(value, list | tuple) else ():
            if isinstance(row, Mapping):
                present.update(f"{key}.{name}" for name, cell in row.items() if not is_left_out(cell))
    return present


def _rows(value: Any, in_list: bool = False) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if in_list and not is_left_out(value):
            yield value
        for item in value.values():
            yield from _rows(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _rows(item, in_list=True)
