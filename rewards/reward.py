"""The verifiable reward of one response: precision and recall of its answer, and a small share for the format.

    reward = (1 - f) * (p * P + r * R) / (p + r) + f * well_formed

with f = format_weight, p = precision_weight, r = recall_weight, and P and R over leaves weighted by the schema. The
best reward is 1. A response without a valid JSON object gets 0.

What the corner cases mean, so that none of them can be gained from:
- nothing to answer and nothing answered: P = R = 1;
- nothing to answer and something answered: P = R = 0, so that inventing is worth less than silence;
- something to answer and nothing answered: P = R = 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.matching import match_document
from rewards.parsing import ParseLimits, parse_response
from rewards.schema import Schema
from rewards.types import AnswerStatus, Leaf, LeafCounts, LeafOutcome, Score


@dataclass
class RewardConfig:
    """Weights of the reward and bounds on what is parsed. Raises ValueError for weights that make no reward."""

    precision_weight: float = 0.5
    recall_weight: float = 0.5
    format_weight: float = 0.1  # share of the reward that a well-formed response earns
    max_response_characters: int = 65_536
    max_json_depth: int = 16
    max_json_values: int = 2_048

    def __post_init__(self) -> None:
        for name in ("precision_weight", "recall_weight", "format_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"reward.{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.precision_weight + self.recall_weight == 0:
            raise ValueError("reward.precision_weight and reward.recall_weight are both 0; one must be above 0")
        if self.format_weight >= 1:
            raise ValueError(f"reward.format_weight must be below 1, got {self.format_weight!r}; it is a share")
        for name in ("max_response_characters", "max_json_depth", "max_json_values"):
            if getattr(self, name) < 1:
                raise ValueError(f"reward.{name} must be at least 1, got {getattr(self, name)!r}")

    def parse_limits(self) -> ParseLimits:
        """The bounds, as the parser takes them."""
        return ParseLimits(
            max_characters=self.max_response_characters,
            max_depth=self.max_json_depth,
            max_values=self.max_json_values,
        )


@dataclass(frozen=True, slots=True)
class _Rates:
    precision: float
    recall: float
    f1: float = field(init=False)

    def __post_init__(self) -> None:
        total = self.precision + self.recall
        object.__setattr__(self, "f1", 2 * self.precision * self.recall / total if total else 0.0)


def score_response(
    schema: Schema,
    asked: Sequence[str],
    truth: Mapping[str, Any],
    response: str,
    *,
    reasoning: bool,
    truncated: bool,
    config: RewardConfig,
    query_id: str = "",
    document_id: str = "",
) -> Score:
    """Score one response. `truth` may hold more keys than `asked`; only the asked ones count.

    Whatever the response is, this does not raise; it does for an asked key that the schema does not have.
    """
    parsed = parse_response(response, reasoning=reasoning, truncated=truncated, limits=config.parse_limits())
    leaves = match_document(schema, asked, truth, {} if parsed.answer is None else parsed.answer)
    is_valid = parsed.answer is not None
    plain = _rates(leaves, is_valid, weighted=False)
    weighted = _rates(leaves, is_valid, weighted=True)
    content_share = (1 - config.format_weight) / (config.precision_weight + config.recall_weight)
    components = {
        "precision": content_share * config.precision_weight * weighted.precision,
        "recall": content_share * config.recall_weight * weighted.recall,
        "format": config.format_weight if is_valid and not parsed.faults else 0.0,
    }
    return Score(
        query_id=query_id,
        document_id=document_id,
        schema=schema.name,
        reward=math.fsum(components.values()),
        components=components,
        precision=plain.precision,
        recall=plain.recall,
        f1=plain.f1,
        weighted_precision=weighted.precision,
        weighted_recall=weighted.recall,
        counts=LeafCounts.of(leaves),
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


def _rates(leaves: Iterable[Leaf], is_valid: bool, *, weighted: bool) -> _Rates:
    correct = predicted = true = 0.0
    for leaf in leaves:
        weight = leaf.weight if weighted else 1.0
        correct += weight * (leaf.outcome is LeafOutcome.CORRECT)
        predicted += weight * (leaf.answered is not None)
        true += weight * (leaf.true is not None)
    if not is_valid:
        return _Rates(0.0, 0.0)
    if not predicted and not true:
        return _Rates(1.0, 1.0)
    return _Rates(correct / predicted if predicted else 0.0, correct / true if true else 0.0)
