"""Metrics over many scores: strict micro precision, recall and F1, their relatives, error classes, per key, intervals.

Everything is about unweighted leaves and counts only what is correct, unless a name says weighted: those use the
clinical weights and the partial credit of free text, as the reward does. Intervals are 95% percentile bootstraps over
documents (see `rewards.resampling`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np

from rewards.resampling import (
    RATES,
    Interval,
    LeafPredicate,
    document_totals,
    interval,
    micro_rates_of,
    rates,
    resample,
)
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score

ERROR_CLASSES = tuple(outcome.value for outcome in LeafOutcome if outcome is not LeafOutcome.CORRECT)
SURPLUS_CLASSES = ("hallucinated", "duplicate")  # of predicted leaves without a true one


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMetrics:
    """Precision, recall and F1 of one key, or of one column of a table (`table.column`)."""

    precision: float
    recall: float
    f1: float
    counts: LeafCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionMetrics:
    """What a set of scores amounts to.

    `precision`, `recall` and `f1` are micro averages over leaves, `macro_*` the means over the keys that occur in truth
    or answers (columns of tables are keys), `document_f1` is the mean over documents. `error_rates` are shares of the
    true leaves for close, convention, misread, misassociated and omitted, and of the predicted leaves for hallucinated
    and duplicate.
    """

    precision: float
    recall: float
    f1: float
    precision_ci95: Interval
    recall_ci95: Interval
    f1_ci95: Interval
    macro_precision: float
    macro_recall: float
    macro_f1: float
    document_f1: float
    document_f1_ci95: Interval
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    weighted_f1_ci95: Interval
    reward: float
    valid_json_rate: float
    valid_json_rate_ci95: Interval
    well_formed_rate: float
    exact_document_rate: float
    exact_document_rate_ci95: Interval
    num_documents: int
    num_responses: int
    counts: LeafCounts
    error_rates: Mapping[str, float]
    statuses: Mapping[str, int]
    per_key: Mapping[str, KeyMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


_METRIC_NAMES = frozenset(item.name for item in fields(ExtractionMetrics))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """After minus before on the same queries, each with its 95% paired bootstrap interval over documents."""

    delta_precision: float
    delta_precision_ci95: Interval
    delta_recall: float
    delta_recall_ci95: Interval
    delta_f1: float
    delta_f1_ci95: Interval
    delta_weighted_precision: float
    delta_weighted_precision_ci95: Interval
    delta_weighted_recall: float
    delta_weighted_recall_ci95: Interval
    delta_weighted_f1: float
    delta_weighted_f1_ci95: Interval
    delta_document_f1: float
    delta_document_f1_ci95: Interval
    delta_exact_document_rate: float
    delta_exact_document_rate_ci95: Interval
    delta_valid_json_rate: float
    delta_valid_json_rate_ci95: Interval
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
    leaves = [leaf for score in scores for leaf in score.leaves if where is None or where(leaf)]
    counts = LeafCounts.of(leaves)
    totals = document_totals(scores, where)
    samples = rates(resample(totals, num_resamples, seed))
    headline: dict[str, Any] = {name: float(values[0]) for name, values in rates(totals.sum(axis=0)[None]).items()}
    headline |= {f"{name}_ci95": interval(samples[name]) for name in RATES if f"{name}_ci95" in _METRIC_NAMES}
    per_key = _per_key(leaves)
    num = len(scores)
    return ExtractionMetrics(
        **headline,
        macro_precision=_mean_over(per_key, "precision"),
        macro_recall=_mean_over(per_key, "recall"),
        macro_f1=_mean_over(per_key, "f1"),
        reward=sum(score.reward for score in scores) / num,
        well_formed_rate=sum(score.status is AnswerStatus.OK and not score.faults for score in scores) / num,
        num_documents=len(totals),
        num_responses=num,
        counts=counts,
        error_rates=error_rates(counts),
        statuses=dict(sorted(Counter(score.status.value for score in scores).items())),
        per_key=per_key,
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
    first, second = document_totals(before, where), document_totals(after, where)
    num_totals = first.shape[1]
    point, point_after = (rates(totals.sum(axis=0)[None]) for totals in (first, second))
    drawn = resample(np.concatenate([first, second], axis=1), num_resamples, seed)
    samples, samples_after = rates(drawn[:, :num_totals]), rates(drawn[:, num_totals:])
    deltas: dict[str, Any] = {f"delta_{name}": float(point_after[name][0] - point[name][0]) for name in RATES}
    deltas |= {f"delta_{name}_ci95": interval(samples_after[name] - samples[name]) for name in RATES}
    return PairedDifference(**deltas, num_documents=len(first))


def gain_by_error_class(before: Sequence[Score], after: Sequence[Score]) -> GainByErrorClass:
    """Split the change of micro F1 by error class; raises ValueError where the queries differ.

    With F = 2 C / S, where C counts the correct and S the predicted plus the true leaves, any two systems obey
    dF = (2 dC - mean(F) dS) / mean(S) exactly. C is the true leaves less the close, convention, misread,
    misassociated and omitted ones, and S changes with the omitted, hallucinated and duplicate ones only. So dF is a sum
    over the classes, of the change of each class's count times
        -2 / mean(S)                 close, convention, misread, misassociated
        -(2 - mean(F)) / mean(S)     omitted
        -mean(F) / mean(S)           hallucinated, duplicate.
    """
    _check_paired(before, after)
    first, second = (LeafCounts.of(leaf for score in scores for leaf in score.leaves) for scores in (before, after))
    mended, broken = _transitions(before, after)
    f1, f1_after = (micro_rates_of(counts)[2] for counts in (first, second))
    mean_f1, mean_size = (f1 + f1_after) / 2, (first.predicted + first.true + second.predicted + second.true) / 2
    factors = dict.fromkeys(ERROR_CLASSES, -2.0) | dict.fromkeys(SURPLUS_CLASSES, -mean_f1)
    factors["omitted"] = -(2 - mean_f1)
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
        for name in SURPLUS_CLASSES:
            change = getattr(second.counts, name) - getattr(first.counts, name)
            mended[name] += max(-change, 0)
            broken[name] += max(change, 0)
    return mended, broken


def _true_outcomes(score: Score) -> dict[tuple[str, tuple[int, ...] | None], LeafOutcome]:
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


def error_rates(counts: LeafCounts) -> dict[str, float]:
    """The share of each error class, as `ExtractionMetrics.error_rates`; 0 where there is no leaf to share."""
    bases = dict.fromkeys(ERROR_CLASSES, counts.true) | dict.fromkeys(SURPLUS_CLASSES, counts.predicted)
    numbers = asdict(counts) | {"misassociated": counts.misassociated_true}
    return {name: numbers[name] / bases[name] if bases[name] else 0.0 for name in ERROR_CLASSES}


def _per_key(leaves: Iterable[Leaf]) -> dict[str, KeyMetrics]:
    by_key: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        by_key[leaf.key].append(leaf)
    metrics = {}
    for key in sorted(by_key):
        counts = LeafCounts.of(by_key[key])
        precision, recall, f1 = micro_rates_of(counts)
        metrics[key] = KeyMetrics(precision=precision, recall=recall, f1=f1, counts=counts)
    return metrics


def _mean_over(per_key: Mapping[str, KeyMetrics], name: str) -> float:
    return fmean(getattr(metrics, name) for metrics in per_key.values()) if per_key else 1.0
