"""Choosing a diverse subset of documents: k-center greedy, which picks what is farthest from all picks so far.

Greedy k-center covers within twice the best possible radius (Gonzalez, 1985; as active learning: Sener and Savarese,
arXiv 1708.00489). Every document type gets its share of the picks.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvie_rl.data.store import Document

Array = np.ndarray[Any, np.dtype[np.float64]]
_SAME = 9  # decimals of a squared distance: rounding must not decide between equals


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A subset and why it is what it is. Distances are those of the features, which have no unit."""

    ids: tuple[str, ...]  # in the order of choice: any first part is a good smaller subset
    distances: tuple[float, ...]  # of each pick to the nearest one before it; of the first to the centre of all
    max_radius: tuple[float, ...]  # after each pick: the largest distance of a document to its nearest pick
    mean_radius: tuple[float, ...]  # after each pick: the mean of these
    clusters: dict[str, str]  # every document's nearest pick
    quotas: dict[str, int]  # picks of each document type; empty where types were not looked at

    def sizes(self) -> dict[str, int]:
        """How many documents each pick stands for, itself included."""
        counts = Counter(self.clusters.values())
        return {pick: counts[pick] for pick in self.ids}


def select_documents(
    documents: Sequence[Document], features: Array, *, num: int, seed: int, stratify: bool = True
) -> Selection:
    """Pick `num` documents; `features` is [documents, columns].

    The same documents give the same picks in whatever order they come; the seed draws the first one. All are picked if
    there are no more than `num`. Raises ValueError if features and documents do not go together.
    """
    if num < 1:
        raise ValueError(f"num: expected at least 1, got {num}")
    if len(features) != len(documents) or features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"expected finite features [{len(documents)}, columns], got an array {features.shape}")
    if not documents:
        raise ValueError("there are no documents to choose from")
    order = sorted(range(len(documents)), key=lambda index: documents[index].id)
    rows = np.asarray(features, dtype=np.float64)[order]
    types = [documents[index].document_type for index in order]
    ids = [documents[index].id for index in order]
    num = min(num, len(ids))
    limits = type_quotas(types, num) if stratify else {}
    picked, distances, radii, nearest = _k_center(rows, types, limits, num, seed)
    of_type = Counter(types[index] for index in picked)
    return Selection(
        ids=tuple(ids[index] for index in picked),
        distances=tuple(distances),
        max_radius=tuple(largest for largest, _ in radii),
        mean_radius=tuple(mean for _, mean in radii),
        clusters={name: ids[picked[pick]] for name, pick in zip(ids, nearest, strict=True)},
        quotas={name: of_type[name] for name in limits},
    )


def coverage(features: Array, picked: Sequence[int]) -> tuple[float, float]:
    """The largest and the mean distance of all rows to the nearest of the picked ones; smaller is better."""
    rows = np.asarray(features, dtype=np.float64)
    lengths = (rows**2).sum(axis=1)
    squared = np.min([_squared_distances(rows, lengths, index) for index in picked], axis=0)
    return float(np.sqrt(squared.max())), float(np.sqrt(squared).mean())


def type_quotas(types: Sequence[str], num: int) -> dict[str, int]:
    """The most of `num` picks that each document type gets: in proportion, but one at least.

    With fewer picks than types every type may get one, and what is farthest decides which do. A type gets no more than
    it has documents; ties go to the type with more documents, then by name.
    """
    counts = Counter(types)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    quotas = dict.fromkeys(ranked, 1)
    for _ in range(num - sum(quotas.values())):
        open_types = [name for name in ranked if quotas[name] < counts[name]]
        if not open_types:
            break
        behind = max(open_types, key=lambda name: counts[name] / (quotas[name] + 0.5))  # as Sainte-Laguë allots seats
        quotas[behind] += 1
    return quotas


def _k_center(
    rows: Array, types: Sequence[str], quotas: dict[str, int], num: int, seed: int
) -> tuple[list[int], list[float], list[tuple[float, float]], Any]:
    """Picks, the distance of each when it was picked, the radii after each, and every row's nearest pick by rank."""
    lengths = (rows**2).sum(axis=1)
    open_rows = np.ones(len(rows), dtype=bool)
    left = dict(quotas)
    by_type = {name: np.array([kind == name for kind in types]) for name in quotas}
    nearest = np.zeros(len(rows), dtype=np.int64)
    squared = np.full(len(rows), np.inf)
    pick = random.Random(seed).randrange(len(rows))
    distance = float(np.linalg.norm(rows[pick] - rows.mean(axis=0)))
    picked: list[int] = []
    distances: list[float] = []
    radii: list[tuple[float, float]] = []
    while True:
        to_pick = _squared_distances(rows, lengths, pick)
        closer = to_pick < squared
        squared[closer], nearest[closer] = to_pick[closer], len(picked)
        nearest[pick] = len(picked)  # a copy of an earlier pick stands for itself
        picked.append(pick)
        distances.append(distance)
        radii.append((float(np.sqrt(squared.max())), float(np.sqrt(squared).mean())))
        open_rows[pick] = False
        if quotas:
            left[types[pick]] -= 1
            if left[types[pick]] == 0:
                open_rows[by_type[types[pick]]] = False
        if len(picked) == num:
            return picked, distances, radii, nearest
        pick = int(np.argmax(np.where(open_rows, squared, -1.0)))  # the first of equals: documents are sorted by id
        distance = float(np.sqrt(squared[pick]))


def _squared_distances(rows: Array, lengths: Array, index: int) -> Array:
    squared: Array = (lengths - 2 * (rows @ rows[index]) + lengths[index]).clip(min=0.0).round(_SAME)
    squared[index] = 0.0
    return squared
