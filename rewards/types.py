"""What crosses the reward actor's boundary: requests in, scores out, down to every leaf.

A leaf is one scalar: the value of a key, one item of a list, one cell of a table (then its key is `table.column`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class LeafOutcome(StrEnum):
    """What became of a leaf. Every predicted and every true leaf has exactly one of these.

    The first three are a predicted and a true leaf in one; `misassociated` is one of each, together or apart.
    """

    CORRECT = "correct"
    CONVENTION = "convention"  # the right information in a wrong form
    MISREAD = "misread"  # another value than the true one
    MISASSOCIATED = "misassociated"  # a true value of the document, under another key or in another row
    HALLUCINATED = "hallucinated"  # predicted only: the key is absent from the document, or was not asked for
    DUPLICATE = "duplicate"  # predicted only: a key, list item or row once more
    OMITTED = "omitted"  # true only


class AnswerStatus(StrEnum):
    """How a response ended up as an answer; anything but `ok` earns the floor of the reward."""

    OK = "ok"
    NO_JSON = "no_json"
    INVALID_JSON = "invalid_json"
    TRAILING_TEXT = "trailing_text"
    SEVERAL_OBJECTS = "several_objects"
    UNCLOSED_REASONING = "unclosed_reasoning"
    TRUNCATED = "truncated"  # the token limit came before a valid object
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TOO_MANY_VALUES = "too_many_values"
    BAD_NUMBER = "bad_number"  # NaN, Infinity, out of range, or too many digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One leaf's fate. `answered` is None for a true leaf nobody answered, `true` for a predicted leaf without truth.

    `position` is the item or row of the truth that it belongs to, None where there is no truth.
    """

    key: str
    outcome: LeafOutcome
    answered: str | int | float | bool | None
    true: str | int | float | bool | None
    position: int | None
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafCounts:
    """Number of leaves by outcome. Both sides of `misassociated` are equal over all keys, for one key perhaps not."""

    correct: int = 0
    convention: int = 0
    misread: int = 0
    misassociated: int = 0  # predicted leaves
    misassociated_true: int = 0  # true leaves
    hallucinated: int = 0
    duplicate: int = 0
    omitted: int = 0

    @property
    def predicted(self) -> int:
        """Number of predicted leaves."""
        return self.correct + self.convention + self.misread + self.misassociated + self.hallucinated + self.duplicate

    @property
    def true(self) -> int:
        """Number of true leaves."""
        return self.correct + self.convention + self.misread + self.misassociated_true + self.omitted

    def __add__(self, other: "LeafCounts") -> "LeafCounts":
        return LeafCounts(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})

    @classmethod
    def of(cls, leaves: Iterable[Leaf]) -> "LeafCounts":
        """Count `leaves`."""
        counts = dict.fromkeys((item.name for item in fields(cls)), 0)
        for leaf in leaves:
            if leaf.outcome is LeafOutcome.MISASSOCIATED:
                counts["misassociated"] += leaf.answered is not None
                counts["misassociated_true"] += leaf.true is not None
            else:
                counts[leaf.outcome.value] += 1
        return cls(**counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One response to score. `truth` is the document's annotation; keys beyond `asked` are not looked at."""

    query_id: str
    document_id: str
    schema: str
    asked: tuple[str, ...]
    truth: Mapping[str, Any]
    response: str
    reasoning: bool
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The reward of one response and everything that explains it.

    `components` holds what each part added to the reward. Precision and recall here are unweighted; the reward uses
    `weighted_precision` and `weighted_recall`. `faults` says what cost the format share.
    """

    query_id: str
    document_id: str
    schema: str
    reward: float
    components: Mapping[str, float]
    precision: float
    recall: float
    f1: float
    weighted_precision: float
    weighted_recall: float
    counts: LeafCounts
    leaves: tuple[Leaf, ...]
    status: AnswerStatus
    detail: str
    faults: tuple[str, ...]
    answer: dict[str, Any] | None
