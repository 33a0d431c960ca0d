"""Self-consistency: several traces answer, the one that agrees most with the others is the answer, they vote on it.

Choosing by agreement is minimum Bayes risk decoding (Kumar and Byrne, "Minimum Bayes-Risk Decoding for Statistical
Machine Translation", NAACL 2004) with the F1 of this project's own comparison as the gain: "75 µg" and "75 mcg" agree,
rows may come in another order, and the answer stays one coherent object, whose rows nobody mixed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medvie_rl.extraction.places import Place, place_of, values_of, well_shaped
from rewards.matching import match_document
from rewards.schema import Schema
from rewards.types import Leaf, LeafCounts, LeafOutcome
from rewards.values import is_left_out

_AGREEING = (LeafOutcome.CORRECT, LeafOutcome.CLOSE)


class Votes(NamedTuple):
    """What all answers say of the chosen one. Shares are of all traces, the chosen one and those without answer too."""

    chosen: int
    agreeing: dict[Place, float]  # of each value: share of the traces that say the same there
    leaving_out: dict[str, float]  # of each key that the answer leaves out: share of the traces that leave it out


def vote(schema: Schema, answers: Sequence[Mapping[str, Any] | None]) -> Votes | None:
    """Choose among the answers of one document (None: a trace without one); None where there is no answer at all.

    Of equals the first is chosen.
    """
    given = [index for index, answer in enumerate(answers) if answer is not None]
    if not given:
        return None
    compared = {(one, other): _compare(schema, answers[one], answers[other]) for one in given for other in given}
    gains = {one: sum(_f1(LeafCounts.of(compared[one, other])) for other in given) for one in given}
    chosen = max(given, key=lambda index: (gains[index], -index))
    answer = answers[chosen] or {}
    votes = Counter(place for other in given for place in _agreeing(schema, compared[chosen, other]))
    return Votes(
        chosen=chosen,
        agreeing={value.place: votes[value.place] / len(answers) for value in values_of(schema, answer)},
        leaving_out={
            key: sum(is_left_out((answers[other] or {}).get(key)) for other in given) / len(answers)
            for key in schema.keys
            if is_left_out(answer.get(key))
        },
    )


def agreeing_places(schema: Schema, answer: Mapping[str, Any], other: Mapping[str, Any]) -> set[Place]:
    """The places of an answer at which another one, or the truth, says the same."""
    return _agreeing(schema, _compare(schema, answer, other))


def _compare(schema: Schema, answer: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> tuple[Leaf, ...]:
    return match_document(schema, schema.keys, well_shaped(schema, answer or {}), other or {})


def _agreeing(schema: Schema, leaves: Sequence[Leaf]) -> set[Place]:
    places = {place_of(leaf, schema) for leaf in leaves if leaf.outcome in _AGREEING}
    return {place for place in places if place is not None}


def _f1(counts: LeafCounts) -> float:
    """Two answers that say nothing agree."""
    num_leaves = counts.predicted + counts.true
    return 2 * counts.correct / num_leaves if num_leaves else 1.0
