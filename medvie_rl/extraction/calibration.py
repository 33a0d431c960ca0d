"""Confidence in a value: the probability that it is right, from what the traces, the policy and the page say of it.

Two logistic regressions (Platt scaling over several features: Platt, "Probabilistic Outputs for Support Vector
Machines", 1999; Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) are fitted on annotated documents
that the policy was not trained on: one for the values that were answered, one for the keys that were left out. How far
their probabilities can be trusted is measured on documents that had no part in the fit, by turns (cross-validation).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medvie_rl.errors import UserError
from medvie_rl.files import write_atomically

FILE = "calibration.json"
MIN_DOCUMENTS = 10
_NUM_FOLDS = 5
_NUM_BINS = 10
_STRENGTH = 1.0  # inverse of the L2 penalty's
_LEAST_PROBABILITY = 1e-6


class Evidence(NamedTuple):
    """What is known of one value, or of one key that was left out (which has votes only)."""

    agreeing: float  # share of the traces that say the same
    probability: float | None = None  # of its tokens
    on_page: bool | None = None  # None: not told
    left_out: bool = False

    def features(self) -> list[float]:
        """The numbers that the regression takes; what is not known is neutral."""
        if self.left_out:
            return [self.agreeing]
        known = self.probability is not None
        logprob = math.log(max(self.probability or 0.0, _LEAST_PROBABILITY)) if known else 0.0
        page = 0.0 if self.on_page is None else 1.0 if self.on_page else -1.0
        return [self.agreeing, logprob, page]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How far the confidences of documents without part in the fit can be trusted.

    `bins` holds (mean confidence, share that is right, number) of values by confidence, [0, 0.1), ... [0.9, 1].
    `expected_error` is the expected calibration error: the mean distance of the two over all values. `coverage` holds
    (share of values taken, share of wrong ones among these) when the surest are taken first.
    """

    num_documents: int
    num_values: int
    num_right: int
    expected_error: float
    bins: tuple[tuple[float, float, int], ...]
    coverage: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns evidence into confidence, for one policy asked in one way: `asked` is how."""

    answered: tuple[float, ...]  # weights of the features, the bias last
    left_out: tuple[float, ...]
    review_below: float  # confidence from which on values need no second look
    asked: Mapping[str, Any]  # number of traces, temperature and the like: with others it does not hold
    values: Curve
    omissions: Curve

    def confidence(self, evidence: Evidence) -> float:
        """The probability that it is right, in (0, 1)."""
        return _apply(self.left_out if evidence.left_out else self.answered, evidence)

    def holds_for(self, asked: Mapping[str, Any]) -> bool:
        """Whether a policy that is asked like this is asked as in the calibration."""
        return self.asked == asked

    def write(self, path: Path) -> None:
        """As JSON, at once."""
        write_atomically(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


class Judged(NamedTuple):
    """One value or omission of a document, and whether it is right."""

    document: str
    evidence: Evidence
    is_right: bool


def read_calibration(policy: Path) -> Calibration | None:
    """That of a policy folder, None where it has none; raises UserError for a damaged file."""
    path = policy / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values, omissions = (Curve(**_tuples(content.pop(name))) for name in ("values", "omissions"))
        return Calibration(**_tuples(content), values=values, omissions=omissions)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a calibration ({error}); make it anew with medvie calibrate") from error


def fit(judged: Sequence[Judged], *, asked: Mapping[str, Any], max_error: float) -> Calibration:
    """Fit on judged values of documents that the policy was not trained on.

    The threshold of review is the lowest confidence from which on at most a share `max_error` of the values is wrong,
    as far as the documents tell. Raises UserError for too few documents, or where all values are right or all wrong.
    """
    values = [item for item in judged if not item.evidence.left_out]
    omissions = [item for item in judged if item.evidence.left_out]
    num_documents = len({item.document for item in judged})
    if num_documents < MIN_DOCUMENTS:
        raise UserError(f"a calibration needs {MIN_DOCUMENTS} annotated documents with answers, got {num_documents}")
    if len({item.is_right for item in values}) < 2:
        kind = "right" if values and values[0].is_right else "wrong"
        raise UserError(
            f"all {len(values)} values on these documents are {kind}: nothing tells the right from the wrong ones; "
            "take more documents"
        )
    held_out = _held_out(values)
    return Calibration(
        answered=_fit(values),
        left_out=_fit(omissions),
        review_below=_threshold(held_out, max_error),
        asked=dict(asked),
        values=curve(held_out),
        omissions=curve(_held_out(omissions)),
    )


def curve(found: Sequence[tuple[str, float, bool]]) -> Curve:
    """Of (document, confidence, whether it is right); see `Curve`. Naeini et al., AAAI 2015, for the expected error."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_NUM_BINS)]
    for _, confidence, is_right in found:
        bins[min(_NUM_BINS - 1, int(confidence * _NUM_BINS))].append((confidence, is_right))
    means = [
        (sum(item[0] for item in members) / len(members), sum(item[1] for item in members) / len(members), len(members))
        for members in bins
        if members
    ]
    surest_first = sorted(found, key=lambda item: -item[1])
    wrong, coverage = 0, []
    for number, (_, _, is_right) in enumerate(surest_first, start=1):
        wrong += not is_right
        coverage.append((number / len(found), wrong / number))
    step = max(1, len(coverage) // 100)
    return Curve(
        num_documents=len({document for document, _, _ in found}),
        num_values=len(found),
        num_right=sum(is_right for _, _, is_right in found),
        expected_error=sum(abs(said - right) * number for said, right, number in means) / max(1, len(found)),
        bins=tuple(means),
        coverage=tuple(coverage[step - 1 :: step]),
    )


def _threshold(found: Sequence[tuple[str, float, bool]], max_error: float) -> float:
    """The lowest confidence such that at most `max_error` of the values from it on are wrong; 1 where there is none."""
    wrong, threshold = 0, 1.0
    ordered = sorted(found, key=lambda item: -item[1])
    for number, (_, confidence, is_right) in enumerate(ordered, start=1):
        wrong += not is_right
        next_is_equal = number < len(ordered) and ordered[number][1] == confidence
        if wrong / number <= max_error and not next_is_equal:
            threshold = confidence
    return threshold


def _held_out(judged: Sequence[Judged]) -> list[tuple[str, float, bool]]:
    """(document, confidence, whether it is right) where the confidence comes from a fit without that document."""
    from sklearn.model_selection import GroupKFold

    documents = [item.document for item in judged]
    num_folds = min(_NUM_FOLDS, len(set(documents)))
    if num_folds < 2:
        return []
    found = []
    for fitted_on, others in GroupKFold(num_folds).split(documents, groups=documents):
        weights = _fit([judged[index] for index in fitted_on])
        found += [
            (judged[index].document, _apply(weights, judged[index].evidence), judged[index].is_right)
            for index in others
        ]
    return found


def _fit(judged: Sequence[Judged]) -> tuple[float, ...]:
    """Weights of the features and the bias. Where all are right, or all wrong, the smoothed share is all there is."""
    from sklearn.linear_model import LogisticRegression

    num_features = len(judged[0].evidence.features()) if judged else 1
    num_right = sum(item.is_right for item in judged)
    if num_right in (0, len(judged)):
        share = (num_right + 1) / (len(judged) + 2)
        return (*[0.0] * num_features, math.log(share / (1 - share)))
    model = LogisticRegression(C=_STRENGTH).fit(
        [item.evidence.features() for item in judged], [item.is_right for item in judged]
    )
    return (*map(float, model.coef_[0]), float(model.intercept_[0]))


def _apply(weights: tuple[float, ...], evidence: Evidence) -> float:
    *slopes, bias = weights
    score = bias + sum(slope * feature for slope, feature in zip(slopes, evidence.features(), strict=True))
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, score))))


def _tuples(content: Any) -> Any:
    """Lists of JSON as tuples, inside them as well; objects stay."""
    if isinstance(content, dict):
        return {key: _tuples(value) for key, value in content.items()}
    return tuple(_tuples(item) for item in content) if isinstance(content, list) else content
