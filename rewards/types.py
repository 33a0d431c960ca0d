"""What crosses the reward actor's boundary: requests in, scores out, down to every leaf.

A leaf is one scalar: the value of a key, one item of a list, one cell of a table (then its key is `table.column`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class LeafOutcome(StrEnum):
    """What became of a leaf. Every predicted and every true leaf has exactly one of these.

    The first four are a predicted and a true leaf in one; `misassociated` is one of each, together or apart. `close`,
    `convention` and `misread` are the three ways of a wrong value.
    """

    CORRECT = "correct"
    CLOSE = "close"  # free text in nearly the true words, which earns a part
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
    TIMEOUT = "timeout"  # scoring took too long and was killed
    CRASHED = "crashed"  # scoring ended its process
    COMPONENT_ERROR = "component_error"  # a reward component of the user raised, and the configuration says to count it


class Leaf(NamedTuple):
    """One leaf's fate. `answered` is None for a true leaf nobody answered, `true` for a predicted leaf without truth.

    `position` says where in the truth of its key it belongs: () for a plain value, (item,) in a list, (row,) in a
    table, (row, item) for a list in a table's cell; None where there is no truth. `kind` is that of the key, and empty
    for a key that the schema does not have. `credit` is what the leaf earns of `weight`: 1 where correct, a part where
    close, else 0.
    """

    key: str
    kind: str
    outcome: LeafOutcome
    answered: str | int | float | bool | None
    true: str | int | float | bool | None
    position: tuple[int, ...] | None
    weight: float
    credit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafCounts:
    """Number of leaves by outcome. Both sides of `misassociated` are equal over all keys, for one key perhaps not."""

    correct: int = 0
    close: int = 0
    convention: int = 0
    misread: int = 0
    misassociated: int = 0  # predicted leaves
    misassociated_true: int = 0  # true leaves
    hallucinated: int = 0
    duplicate: int = 0
    omitted: int = 0

    @property
    def wrong_value(self) -> int:
        """Number of pairs of a predicted and a true leaf under one key that are not equal."""
        return self.close + self.convention + self.misread

    @property
    def predicted(self) -> int:
        """Number of predicted leaves."""
        return self.correct + self.wrong_value + self.misassociated + self.hallucinated + self.duplicate

    @property
    def true(self) -> int:
        """Number of true leaves."""
        return self.correct + self.wrong_value + self.misassociated_true + self.omitted

    @property
    def precision(self) -> float:
        """Share of predicted leaves that are correct, 0 where none is predicted."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of true leaves that are correct, 0 where there is none."""
        return self.correct / self.true if self.true else 0.0

    def __add__(self, other: "LeafCounts") -> "LeafCounts":
        names = self.__dataclass_fields__  # of every response of a step
        return LeafCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @classmethod
    def of(cls, leaves: Iterable[Leaf]) -> "LeafCounts":
        """Count `leaves`."""
        counts = dict.fromkeys(cls.__dataclass_fields__, 0)  # by name; called for every response
        for leaf in leaves:
            if leaf.outcome is LeafOutcome.MISASSOCIATED:
                counts["misassociated"] += leaf.answered is not None
                counts["misassociated_true"] += leaf.true is not None
            else:
                counts[leaf.outcome.value] += 1
        return cls(**counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One response to score. `truth` is the document's annotation; keys beyond `asked` are not looked at.

    `columns` names the asked columns of each table that is asked in part; its others count as not asked for.
    `num_tokens` is the response's length, `max_tokens` the most that the sampler allowed; 0 where not known.
    """

    query_id: str
    document_id: str
    schema: str
    asked: tuple[str, ...]
    truth: Mapping[str, Any]
    response: str
    reasoning: bool
    truncated: bool
    num_tokens: int = 0
    max_tokens: int = 0
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The reward of one response and everything that explains it.

    `components` holds what each part added to the reward; they add up to it. Precision and recall here are strict and
    unweighted; the reward uses `weighted_precision` and `weighted_recall`, over clinical weights and with the partial
    credit of free text. `faults` says what cost the format share.
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
