"""Metrics over many scores: strict micro precision, recall and F1 with bootstrap intervals, error classes, per key.

All counts are unweighted leaves unless a name says weighted. Intervals are 95% percentile bootstraps over documents:
all responses to one document are drawn together.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.reward import is_exact
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score

_RESAMPLES_AT_ONCE = 256
ERROR_CLASSES = tuple(outcome.value for outcome in LeafOutcome if outcome is not LeafOutcome.CORRECT)

Interval = tuple[float, float]
LeafPredicate = Callable[[Leaf], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMetrics:
    """Precision, recall and F1 of one key, or of one column of a table (`table.column`)."""

    precision: float
    recall: float
    f1: float
    counts: LeafCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionMetrics:
    """What a set of scores amounts to. `error_rates` are shares of the true leaves for convention, misread,
    misassociated and omitted, and of the predicted leaves for hallucinated and duplicate.
    """

    precision: float
    recall: float
    f1: float
    precision_ci95: Interval
    recall_ci95: Interval
    f1_ci95: Interval
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    reward: float
    valid_json_rate: float
    well_formed_rate: float
    exact_document_rate: float
    num_documents: int
    num_responses: int
    counts: LeafCounts
    error_rates: Mapping[str, float]
    statuses: Mapping[str, int]
    per_key: Mapping[str, KeyMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """After minus before on the same queries, each with its 95% paired bootstrap interval over documents."""

    delta_precision: float
    delta_recall: float
    delta_f1: float
    delta_precision_ci95: Interval
    delta_recall_ci95: Interval
    delta_f1_ci95: Interval
    num_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GainByErrorClass:
    """Where a gain came from, by error class.

    `mended` counts the leaves that were in a class before and are right after (hallucinated and duplicate leaves that
    are gone), `broken` the opposite. `f1_gain` splits the change of micro F1; its values add up to `delta_f1`.
    """

    delta_f1: float
    f1_gain: Mapping[str, float]
    mended: Mapping[str, int]
    broken: Mapping[str, int]
    before: LeafCounts
    after: LeafCounts


def extraction_metrics(
    scores: Sequence[Score], *, where: LeafPredicate | None = None, num_resamples: int = 1_000, seed: int = 0
) -> ExtractionMetrics:
    """Metrics of `scores`; raises ValueError for none.

    `where` keeps only the leaves for which it is true, in all that is about leaves; a condition on `leaf.true` leaves
    out invented leaves, which have none. What is about whole responses (reward, valid_json_rate, well_formed_rate,
    exact_document_rate) stays over all of each response.
    """
    if not scores:
        raise ValueError("metrics need at least one score, got none")
    kept = [_kept(score, where) for score in scores]
    counts = LeafCounts.of(leaf for leaves in kept for leaf in leaves)
    totals = _document_totals(scores, where)
    samples = _resample(totals, num_resamples, seed)
    precision, recall, f1 = _rates(*totals.sum(axis=0))
    weighted = _rates(*_leaf_totals([leaf for leaves in kept for leaf in leaves], weighted=True))
    intervals = [_interval(sample) for sample in _rate_arrays(samples)]
    num = len(scores)
    return ExtractionMetrics(
        precision=precision,
        recall=recall,
        f1=f1,
        precision_ci95=intervals[0],
        recall_ci95=intervals[1],
        f1_ci95=intervals[2],
        weighted_precision=weighted[0],
        weighted_recall=weighted[1],
        weighted_f1=weighted[2],
        reward=sum(score.reward for score in scores) / num,
        valid_json_rate=sum(score.status is AnswerStatus.OK for score in scores) / num,
        well_formed_rate=sum(score.status is AnswerStatus.OK and not score.faults for score in scores) / num,
        exact_document_rate=sum(map(is_exact, scores)) / num,
        num_documents=len(totals),
        num_responses=num,
        counts=counts,
        error_rates=_error_rates(counts),
        statuses=dict(sorted(Counter(score.status.value for score in scores).items())),
        per_key=_per_key(leaf for leaves in kept for leaf in leaves),
    )


def paired_bootstrap(
    before: Sequence[Score],
    after: Sequence[Score],
    *,
    where: LeafPredicate | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of two systems on the same queries; raises ValueError where the queries differ."""
    _check_paired(before, after)
    first, second = _document_totals(before, where), _document_totals(after, where)
    deltas = np.subtract(_rates(*second.sum(axis=0)), _rates(*first.sum(axis=0)))
    drawn = _resample(np.concatenate([first, second], axis=1), num_resamples, seed)
    differences = np.subtract(_rate_arrays(drawn[:, 3:]), _rate_arrays(drawn[:, :3]))
    return PairedDifference(
        delta_precision=float(deltas[0]),
        delta_recall=float(deltas[1]),
        delta_f1=float(deltas[2]),
        delta_precision_ci95=_interval(differences[0]),
        delta_recall_ci95=_interval(differences[1]),
        delta_f1_ci95=_interval(differences[2]),
        num_documents=len(first),
    )


def gain_by_error_class(before: Sequence[Score], after: Sequence[Score]) -> GainByErrorClass:
    """Split the change of micro F1 by error class; raises ValueError where the queries differ.

    With F = 2 C / S, where C counts the correct and S the predicted plus the true leaves, any two systems obey
    dF = (2 dC - mean(F) dS) / mean(S) exactly. C is the true leaves less the convention, misread, misassociated and
    omitted ones, and S changes with the omitted, hallucinated and duplicate ones only. So dF is a sum over the classes,
    of the change of each class's count times
        -2 / mean(S)                 convention, misread, misassociated
        -(2 - mean(F)) / mean(S)     omitted
        -mean(F) / mean(S)           hallucinated, duplicate.
    """
    _check_paired(before, after)
    first, second = (LeafCounts.of(leaf for score in scores for leaf in score.leaves) for scores in (before, after))
    mended, broken = _transitions(before, after)
    f1, f1_after = (_rates(counts.correct, counts.predicted, counts.true)[2] for counts in (first, second))
    mean_f1, mean_size = (f1 + f1_after) / 2, (first.predicted + first.true + second.predicted + second.true) / 2
    factors = dict.fromkeys(ERROR_CLASSES, -2.0) | {
        "omitted": -(2 - mean_f1),
        "hallucinated": -mean_f1,
        "duplicate": -mean_f1,
    }
    deltas = {name: getattr(second, name) - getattr(first, name) for name in ERROR_CLASSES}
    return GainByErrorClass(
        delta_f1=f1_after - f1,
        f1_gain={name: factors[name] * deltas[name] / mean_size if mean_size else 0.0 for name in ERROR_CLASSES},
        mended=mended,
        broken=broken,
        before=first,
        after=second,
    )


def _transitions(before: Sequence[Score], after: Sequence[Score]) -> tuple[dict[str, int], dict[str, int]]:
    mended, broken = dict.fromkeys(ERROR_CLASSES, 0), dict.fromkeys(ERROR_CLASSES, 0)
    for first, second in zip(_by_query(before), _by_query(after), strict=True):
        outcomes, outcomes_after = _true_outcomes(first), _true_outcomes(second)
        if outcomes.keys() != outcomes_after.keys():
            where = f"query {first.query_id!r} of {first.document_id!r}"
            raise ValueError(f"{where}: before and after differ in their truth")
        for leaf, outcome in outcomes.items():
            later = outcomes_after[leaf]
            if later is LeafOutcome.CORRECT and outcome is not LeafOutcome.CORRECT:
                mended[outcome.value] += 1
            elif outcome is LeafOutcome.CORRECT and later is not LeafOutcome.CORRECT:
                broken[later.value] += 1
        for name in (LeafOutcome.HALLUCINATED, LeafOutcome.DUPLICATE):
            change = getattr(second.counts, name.value) - getattr(first.counts, name.value)
            mended[name.value] += max(-change, 0)
            broken[name.value] += max(change, 0)
    return mended, broken


def _true_outcomes(score: Score) -> dict[tuple[str, int | None], LeafOutcome]:
    return {(leaf.key, leaf.position): leaf.outcome for leaf in score.leaves if leaf.true is not None}


def _by_query(scores: Sequence[Score]) -> list[Score]:
    return sorted(scores, key=lambda score: (score.document_id, score.query_id))


def _check_paired(before: Sequence[Score], after: Sequence[Score]) -> None:
    first, second = (Counter((score.document_id, score.query_id) for score in scores) for scores in (before, after))
    if first != second:
        odd = next(iter((first - second) + (second - first)))
        raise ValueError(f"both systems must answer the same queries; query {odd[1]!r} of {odd[0]!r} does not pair")
    if not first:
        raise ValueError("metrics need at least one score, got none")


def _kept(score: Score, where: LeafPredicate | None) -> list[Leaf]:
    return [leaf for leaf in score.leaves if where is None or where(leaf)]


def _leaf_totals(leaves: Sequence[Leaf], *, weighted: bool = False) -> tuple[float, float, float]:
    """Correct, predicted and true leaves."""
    weights = np.array([leaf.weight if weighted else 1.0 for leaf in leaves])
    flags = np.array(
        [(leaf.outcome is LeafOutcome.CORRECT, leaf.answered is not None, leaf.true is not None) for leaf in leaves],
        dtype=np.float64,
    ).reshape(-1, 3)
    correct, predicted, true = weights @ flags
    return float(correct), float(predicted), float(true)


def _document_totals(scores: Sequence[Score], where: LeafPredicate | None) -> NDArray[np.float64]:
    """[num_documents, 3]: correct, predicted and true leaves, documents in the order of their ids."""
    leaves: dict[str, list[Leaf]] = defaultdict(list)
    for score in scores:
        leaves[score.document_id].extend(_kept(score, where))
    return np.array([_leaf_totals(leaves[document]) for document in sorted(leaves)])


def _resample(totals: NDArray[np.float64], num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums over documents drawn with replacement: [num_resamples, C] from [num_documents, C]."""
    generator = np.random.default_rng(seed)
    shares = np.full(len(totals), 1 / len(totals))
    sums = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        sums.append(generator.multinomial(len(totals), shares, size=size) @ totals)
    return np.concatenate(sums)


def _rate_arrays(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, recall and F1 [3, N] of [N, 3] totals, with the conventions of `_rates`."""
    correct, predicted, true = totals.T
    nothing = (predicted + true == 0).astype(np.float64)
    return np.stack(
        [
            (correct + nothing) / np.maximum(predicted, 1.0),
            (correct + nothing) / np.maximum(true, 1.0),
            (2 * correct + nothing) / np.maximum(predicted + true, 1.0),
        ]
    )


def _rates(correct: float, predicted: float, true: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of totals; all 1 for nothing to answer and nothing answered, else 0 where undefined."""
    if not predicted and not true:
        return 1.0, 1.0, 1.0
    return (
        float(correct / predicted) if predicted else 0.0,
        float(correct / true) if true else 0.0,
        float(2 * correct / (predicted + true)),
    )


def _interval(samples: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def _error_rates(counts: LeafCounts) -> dict[str, float]:
    bases = dict.fromkeys(ERROR_CLASSES, counts.true) | dict.fromkeys(("hallucinated", "duplicate"), counts.predicted)
    numbers = asdict(counts) | {"misassociated": counts.misassociated_true}
    return {name: numbers[name] / bases[name] if bases[name] else 0.0 for name in ERROR_CLASSES}


def _per_key(leaves: Iterable[Leaf]) -> dict[str, KeyMetrics]:
    by_key: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        by_key[leaf.key].append(leaf)
    metrics = {}
    for key in sorted(by_key):
        counts = LeafCounts.of(by_key[key])
        precision, recall, f1 = _rates(counts.correct, counts.predicted, counts.true)
        metrics[key] = KeyMetrics(precision=precision, recall=recall, f1=f1, counts=counts)
    return metrics
