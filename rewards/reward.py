"""The verifiable reward of one response: precision and recall of its answer, and a small share for the format.

    reward = (1 - f) * (p * P + r * R) / (p + r) + f * well_formed - overlong

with f = format_weight, p = precision_weight, r = recall_weight, and P and R over leaves weighted by the schema: the sum
of weight * credit (1 for a correct leaf, a part for free text in nearly the true words) over the sum of the weights of
the predicted and of the true leaves. With `f_beta` = b set, F_b = (1 + b²) P R / (b² P + R), van Rijsbergen's measure,
takes the place of the mix, and is 0 where P = R = 0. Without the overlong penalty the reward lies between 0 and 1.

`overlong` is the soft penalty of DAPO (arXiv 2503.14476, eq. 13), times overlong_penalty: with L tokens of at most M,
and B = overlong_buffer * M, it is 0 up to L = M - B, rises linearly to 1 at M, and stays there. Every response pays it,
valid or not; L and M must be known.

What the corner cases mean, so that none of them can be gained from:
- nothing to answer and nothing answered: P = R = 1;
- nothing to answer and something answered: P = R = 0, so that inventing is worth less than silence;
- something to answer and nothing answered: P = R = 0;
- a key that the document does not have, answered with null or left out: the same thing, and right;
- a key that the document has, answered with null or left out: the same thing, an omission;
- no valid JSON object: 0 (but for the overlong penalty), also where there is nothing to answer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards.config import RewardConfig
from rewards.matching import match_document
from rewards.parsing import parse_response
from rewards.schema import Schema
from rewards.types import AnswerStatus, Leaf, LeafCounts, Score

__all__ = ["RewardConfig", "is_exact", "score_response"]


def score_response(
    schema: Schema,
    asked: Sequence[str],
    truth: Mapping[str, Any],
    response: str,
    *,
    reasoning: bool,
    truncated: bool,
    config: RewardConfig,
    num_tokens: int = 0,
    max_tokens: int = 0,
    query_id: str = "",
    document_id: str = "",
) -> Score:
    """Score one response without the user's components. `truth` may hold more keys than `asked`; these do not count.

    Whatever the response is, this does not raise; it does for an asked key that the schema does not have (KeyError), a
    truth of the wrong shape, and an overlong penalty where num_tokens or max_tokens is not known (ValueError).
    """
    parsed = parse_response(response, reasoning=reasoning, truncated=truncated, limits=config.parse_limits())
    is_valid = parsed.answer is not None
    leaves = match_document(schema, asked, truth, parsed.answer if parsed.answer is not None else {})
    counts, (earned, predicted, true) = LeafCounts.of(leaves), _weights(leaves)
    precision, recall = _rates(counts.correct, counts.predicted, counts.true, is_valid)
    weighted_precision, weighted_recall = _rates(earned, predicted, true, is_valid)
    components = _content(weighted_precision, weighted_recall, config)
    components["format"] = config.format_weight if is_valid and not parsed.faults else 0.0
    if config.overlong_penalty:
        components["overlong"] = _overlong(num_tokens, max_tokens, config)
    return Score(
        query_id=query_id,
        document_id=document_id,
        schema=schema.name,
        reward=math.fsum(components.values()),
        components=components,
        precision=precision,
        recall=recall,
        f1=_f_beta(precision, recall, 1.0),
        weighted_precision=weighted_precision,
        weighted_recall=weighted_recall,
        counts=counts,
        leaves=leaves,
        status=parsed.status,
        detail=parsed.detail,
        faults=parsed.faults,
        answer=parsed.answer,
    )


def is_exact(score: Score) -> bool:
    """Whether the answer is valid and without any wrong, missing or surplus leaf."""
    counts = score.counts
    return score.status is AnswerStatus.OK and counts.correct == counts.predicted == counts.true


def _weights(leaves: Iterable[Leaf]) -> tuple[float, float, float]:
    """The weight that is earned, and the weights of the predicted and of the true leaves."""
    earned = predicted = true = 0.0
    for leaf in leaves:
        earned += leaf.weight * leaf.credit
        predicted += leaf.weight * (leaf.answered is not None)
        true += leaf.weight * (leaf.true is not None)
    return earned, predicted, true


def _rates(earned: float, predicted: float, true: float, is_valid: bool) -> tuple[float, float]:
    """(precision, recall); see the corner cases above."""
    if not is_valid:
        return 0.0, 0.0
    if not predicted and not true:
        return 1.0, 1.0
    return earned / predicted if predicted else 0.0, earned / true if true else 0.0


def _content(precision: float, recall: float, config: RewardConfig) -> dict[str, float]:
    share = 1 - config.format_weight
    if config.f_beta is not None:
        return {"f_beta": share * _f_beta(precision, recall, config.f_beta)}
    share /= config.precision_weight + config.recall_weight
    return {
        "precision": share * config.precision_weight * precision,
        "recall": share * config.recall_weight * recall,
    }


def _f_beta(precision: float, recall: float, beta: float) -> float:
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _overlong(num_tokens: int, max_tokens: int, config: RewardConfig) -> float:
    if num_tokens < 1 or max_tokens < 1:
        raise ValueError(
            "reward.overlong_penalty needs to know how long the response is and how long it could be, got "
            f"num_tokens={num_tokens} and max_tokens={max_tokens}; name both, or set the penalty to 0"
        )
    buffer = config.overlong_buffer * max_tokens
    over = (num_tokens - (max_tokens - buffer)) / buffer
    return 0.0 - config.overlong_penalty * min(max(over, 0.0), 1.0)
