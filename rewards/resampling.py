"""The arithmetic under the metrics: a row of totals for each document, rates of totals, bootstraps over documents.

Documents are what varies from one test set to another, so they are what is drawn: all responses to one document come
together, and every rate of a resample is that of the summed totals of the documents drawn.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.reward import is_exact
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score

_RESAMPLES_AT_ONCE = 256

Interval = tuple[float, float]
LeafPredicate = Callable[[Leaf], bool]

# The columns of a row of totals.
_CORRECT, _PREDICTED, _TRUE, _EARNED, _WEIGHT_PREDICTED, _WEIGHT_TRUE = range(6)
_DOCUMENT_F1, _DOCUMENTS, _EXACT, _VALID, _RESPONSES = range(6, 11)
_NUM_TOTALS = 11

RATES = (
    "precision",
    "recall",
    "f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "document_f1",
    "exact_document_rate",
    "valid_json_rate",
)


def document_totals(scores: Sequence[Score], where: LeafPredicate | None = None) -> NDArray[np.float64]:
    """Totals by document [num_documents, C], documents in the order of their ids.

    `where` keeps only the leaves for which it is true, in all that is about leaves. A document of which it keeps none
    has no document F1.
    """
    rows: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for score in scores:
        rows[score.document_id].append(_response_totals(score, where))
    totals = np.array([np.sum(rows[document], axis=0) for document in sorted(rows)])
    num_responses = np.maximum(totals[:, _DOCUMENTS], 1.0)
    totals[:, _DOCUMENT_F1] /= num_responses
    totals[:, _DOCUMENTS] /= num_responses
    return totals


def _response_totals(score: Score, where: LeafPredicate | None) -> NDArray[np.float64]:
    leaves = [leaf for leaf in score.leaves if where is None or where(leaf)]
    correct = sum(leaf.outcome is LeafOutcome.CORRECT for leaf in leaves)
    answered = [leaf.weight for leaf in leaves if leaf.answered is not None]
    true = [leaf.weight for leaf in leaves if leaf.true is not None]
    has_f1 = bool(leaves) or where is None
    is_valid = score.status is AnswerStatus.OK
    totals = np.zeros(_NUM_TOTALS)
    totals[[_CORRECT, _PREDICTED, _TRUE]] = correct, len(answered), len(true)
    totals[_EARNED] = sum(leaf.weight * leaf.credit for leaf in leaves)
    totals[[_WEIGHT_PREDICTED, _WEIGHT_TRUE]] = sum(answered), sum(true)
    totals[_DOCUMENT_F1] = micro_rates(correct, len(answered), len(true))[2] if has_f1 and is_valid else 0.0
    totals[[_DOCUMENTS, _EXACT, _VALID, _RESPONSES]] = has_f1, is_exact(score), is_valid, 1
    return totals


def rates(totals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Each of `RATES` [N] for totals [N, C]; 1 for nothing to answer and nothing answered, 0 where undefined."""
    column = totals.T
    micro = _rates(column[_CORRECT], column[_PREDICTED], column[_TRUE])
    weighted = _rates(column[_EARNED], column[_WEIGHT_PREDICTED], column[_WEIGHT_TRUE])
    num_documents = column[_DOCUMENTS]
    document_f1 = _share(column[_DOCUMENT_F1] + (num_documents == 0), num_documents + (num_documents == 0))
    exact, valid = (_share(column[name], column[_RESPONSES]) for name in (_EXACT, _VALID))
    return dict(zip(RATES, (*micro, *weighted, document_f1, exact, valid), strict=True))


def micro_rates(correct: float, predicted: float, true: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of totals; all 1 for nothing to answer and nothing answered, else 0 where undefined."""
    if not predicted and not true:
        return 1.0, 1.0, 1.0
    return (
        float(correct / predicted) if predicted else 0.0,
        float(correct / true) if true else 0.0,
        float(2 * correct / (predicted + true)),
    )


def micro_rates_of(counts: LeafCounts) -> tuple[float, float, float]:
    """`micro_rates` of counted leaves."""
    return micro_rates(counts.correct, counts.predicted, counts.true)


def _rates(
    correct: NDArray[np.float64], predicted: NDArray[np.float64], true: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    nothing = (predicted + true == 0).astype(np.float64)
    return (
        _share(correct + nothing, predicted + nothing),
        _share(correct + nothing, true + nothing),
        _share(2 * correct + nothing, predicted + true + nothing),
    )


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def resample(totals: Any, num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums over documents drawn with replacement: [num_resamples, C] from [num_documents, C], dense or SciPy sparse."""
    return np.concatenate(list(resample_parts(totals, num_resamples, seed)))


def resample_parts(totals: Any, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """`resample` in parts of a few hundred, for many columns."""
    generator = np.random.default_rng(seed)
    num_documents = totals.shape[0]
    shares = np.full(num_documents, 1 / num_documents)
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        yield generator.multinomial(num_documents, shares, size=size).astype(np.float64) @ totals


def interval(samples: NDArray[np.float64]) -> Interval:
    """The 95% percentile interval of samples [N]; NaN without any."""
    if not samples.size:
        return math.nan, math.nan
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)
