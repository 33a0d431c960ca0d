"""Case studies: documents with the answers of all arms beside the page, chosen by rule and not by taste."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvie_rl.compared import by_place, in_words
from medvie_rl.data.inline_image import InlineImage, inline_image
from medvie_rl.data.store import Split
from medvie_rl.report.gallery import Cell
from medvie_rl.study.answers import Row
from medvie_rl.study.sheets import Measured
from rewards.types import Leaf, LeafOutcome

_SIDE = 850  # pixels of a page's longer side
_MAX_PAGES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseField:
    """A value as it is on the page, empty where it is not there, and the answer of each arm."""

    key: str
    on_page: str
    answers: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A document with all its values; `f1` and `responses` are the arms'."""

    document: str
    document_type: str
    pages: tuple[InlineImage, ...]
    f1: tuple[float, ...]
    fields: tuple[CaseField, ...]
    responses: tuple[str, ...]


_NOTHING = Cell(text="", outcome="")


def choose_cases(measured: Measured) -> list[str]:
    """Ids of `num_cases` documents at even distances in the order of the change in F1 from the baseline to the last
    arm, from the largest loss to the largest gain; of equal changes the first by id."""
    first, last = (_of_arm(measured, arm) for arm in (measured.study.baseline, measured.arms[-1]))
    order = sorted(first, key=lambda document: (last[document]["f1"] - first[document]["f1"], document))
    num = min(measured.study.num_cases, len(order))
    return [order[round(place * (len(order) - 1) / max(num - 1, 1))] for place in range(num)]


def cases(measured: Measured, split: Split) -> list[Case]:
    """The chosen documents with the answers of the first seed of every arm."""
    answers = {arm: _of_arm(measured, arm) for arm in measured.arms}
    documents = {document.id: document for document in split.documents}
    found = []
    for name in choose_cases(measured):
        rows = [answers[arm][name] for arm in measured.arms]
        pages = list(split.images(documents[name]).values())[:_MAX_PAGES]
        found.append(
            Case(
                document=name,
                document_type=rows[0]["document_type"],
                pages=tuple(inline_image(page, side=_SIDE) for page in pages),
                f1=tuple(row["f1"] for row in rows),
                fields=tuple(_fields(rows)),
                responses=tuple(row["response"] for row in rows),
            )
        )
    return found


def _of_arm(measured: Measured, arm: str) -> dict[str, Row]:
    """The rows of the first seed under the first condition, by document."""
    seed = min(row["seed"] for row in measured.rows)
    condition = measured.conditions[0]
    return {
        row["document"]: row
        for row in measured.rows
        if (row["arm"], row["seed"], row["condition"]) == (arm, seed, condition)
    }


def _fields(rows: Sequence[Row]) -> Iterator[CaseField]:
    of_arms = [dict(by_place(_leaf(leaf) for leaf in row["leaves"])) for row in rows]
    for place in dict.fromkeys(place for leaves in of_arms for place in leaves):
        leaves = [of_arm.get(place) for of_arm in of_arms]
        true = next((in_words(leaf.true) for leaf in leaves if leaf and leaf.true is not None), "")
        said = (Cell(text=in_words(leaf.answered), outcome=leaf.outcome) if leaf else _NOTHING for leaf in leaves)
        yield CaseField(key=place[0], on_page=true, answers=tuple(said))


def _leaf(recorded: Mapping[str, Any]) -> Leaf:
    position = None if recorded["position"] is None else tuple(recorded["position"])
    outcome = LeafOutcome(recorded["outcome"])
    return Leaf(**{**recorded, "outcome": outcome, "position": position, "weight": 1.0, "credit": 0.0})
