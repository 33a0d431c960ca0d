"""Rates of arms with 95% intervals, and paired differences: a bootstrap over documents and seeds.

Both are drawn with replacement, each by itself, since every seed's policy answers the same documents: a draw of seeds
and a draw of documents give a resample of all pairs of them. Rates are those of summed counts. All arms share the
draws, so that differences are paired by document and by seed. With three seeds the part of the seeds is a rough one,
and too small on average (it sees two thirds of their variance).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvie_rl.study.answers import Row
from rewards.resampling import Interval, interval

Floats = NDArray[np.float64]
Keep = Callable[[Row, Mapping[str, object]], bool]  # of a row and one of its leaves

NUM_RESAMPLES = 2_000
_COLUMNS = (
    "correct", "predicted", "true", "hallucinated", "duplicate", "omitted", "misassociated", "wrong", "tokens",
    "answers",
)  # fmt: skip
_WRONG = ("close", "convention", "misread")
# Numerator and denominator of each measure, as sums of columns.
_RATIOS: Mapping[str, tuple[tuple[tuple[str, float], ...], tuple[str, ...]]] = {
    "f1": ((("correct", 2.0),), ("predicted", "true")),
    "precision": ((("correct", 1.0),), ("predicted",)),
    "recall": ((("correct", 1.0),), ("true",)),
    "hallucinated": ((("hallucinated", 1.0), ("duplicate", 1.0)), ("predicted",)),
    "omitted": ((("omitted", 1.0),), ("true",)),
    "misassociated": ((("misassociated", 1.0),), ("true",)),
    "misread": ((("wrong", 1.0),), ("true",)),
    "tokens": ((("tokens", 1.0),), ("answers",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    ci95: Interval

    @property
    def is_clear(self) -> bool:
        """Of a difference: whether the interval leaves out 0."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


class Bootstrap:
    """Counts of some arms on the same documents with the same seeds, and their resamples."""

    def __init__(self, rows: Iterable[Row], *, keep: Keep | None = None, seed: int = 0) -> None:
        """`keep` says which leaves count; without it all do. Arms must have answered the same documents with the same
        seeds: ValueError if not."""
        totals: dict[tuple[str, int, str], Floats] = {}
        for row in rows:
            totals[row["arm"], row["seed"], row["document"]] = _totals(row, keep)
        self.arms = list(dict.fromkeys(arm for arm, _, _ in totals))
        seeds = sorted({each for _, each, _ in totals})
        documents = sorted({document for _, _, document in totals})
        if len(totals) != len(self.arms) * len(seeds) * len(documents):
            raise ValueError("arms are compared on the same documents with the same seeds, these are not")
        self.num_seeds, self.num_documents = len(seeds), len(documents)
        generator = np.random.default_rng(seed)
        of_seeds = _draws(generator, len(seeds))  # [B, S]
        of_documents = _draws(generator, len(documents))  # [B, D]
        self._totals: dict[str, Floats] = {}  # [C]
        self._samples: dict[str, Floats] = {}  # [B, C]
        for arm in self.arms:
            counts = np.array([[totals[arm, each, document] for document in documents] for each in seeds])  # [S, D, C]
            self._totals[arm] = counts.sum(axis=(0, 1))
            self._samples[arm] = np.einsum("bs,bd,sdc->bc", of_seeds, of_documents, counts, optimize=True)

    def estimate(self, arm: str, measure: str) -> Estimate:
        """A measure of an arm (see `study.config.MEASURES`), NaN where nothing can be counted."""
        samples = _ratio(self._samples[arm], measure)
        return Estimate(value=float(_ratio(self._totals[arm], measure)), ci95=interval(samples[~np.isnan(samples)]))

    def difference(self, arm: str, other: str, measure: str) -> Estimate:
        """The measure of an arm less that of another one, paired."""
        values = _ratio(self._totals[arm], measure) - _ratio(self._totals[other], measure)
        samples = _ratio(self._samples[arm], measure) - _ratio(self._samples[other], measure)
        return Estimate(value=float(values), ci95=interval(samples[~np.isnan(samples)]))

    def num_true(self, arm: str) -> int:
        """True values of one seed's documents."""
        return round(float(self._totals[arm][_COLUMNS.index("true")]) / self.num_seeds)


def complete(rows: Sequence[Row]) -> list[Row]:
    """The rows of seeds that every arm has, for tables of a study of which some runs are missing."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["arm"], set()).add(row["seed"])
    shared = set.intersection(*seeds.values()) if seeds else set()
    return [row for row in rows if row["seed"] in shared]


def _totals(row: Row, keep: Keep | None) -> Floats:
    counts = dict.fromkeys(_COLUMNS, 0.0)
    for leaf in row["leaves"]:
        if keep is not None and not keep(row, leaf):
            continue
        outcome = leaf["outcome"]
        counts["predicted"] += leaf["answered"] is not None
        counts["true"] += leaf["true"] is not None
        if outcome in _WRONG:
            counts["wrong"] += 1
        elif outcome == "misassociated":
            counts["misassociated"] += leaf["true"] is not None
        else:
            counts[outcome] += 1
    counts |= {"tokens": row["num_tokens"], "answers": 1}
    return np.array([counts[name] for name in _COLUMNS])


def _draws(generator: np.random.Generator, num: int) -> Floats:
    return generator.multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES).astype(np.float64)


def _ratio(totals: Floats, measure: str) -> Floats:
    """A measure [...] of totals [..., C]; NaN where its denominator is 0."""
    parts, whole = _RATIOS[measure]
    above = np.sum([totals[..., _COLUMNS.index(name)] * factor for name, factor in parts], axis=0)
    below = np.sum([totals[..., _COLUMNS.index(name)] for name in whole], axis=0)
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return ratio
