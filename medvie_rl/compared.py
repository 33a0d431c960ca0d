"""A document's values as they are and as two policies answered them, side by side."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rewards.types import Leaf, Score

Place = tuple[str, tuple[int, ...] | None, int]  # key, position in the truth, which of those without one


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """One value of a document, or one answered without truth. None where an answer has no such value."""

    key: str
    position: tuple[int, ...] | None  # as `Leaf.position`
    before: Leaf | None
    after: Leaf | None

    @property
    def true(self) -> str:
        """The true value, empty where there is none."""
        return next((in_words(leaf.true) for leaf in (self.before, self.after) if leaf and leaf.true is not None), "")


def compare_values(before: Score, after: Score) -> list[ComparedValue]:
    """All values of two answers to the same query: true ones pair by their place, others under a key as they come."""
    first, second = dict(by_place(before.leaves)), dict(by_place(after.leaves))
    return [
        ComparedValue(key=place[0], position=place[1], before=first.get(place), after=second.get(place))
        for place in dict.fromkeys([*first, *second])
    ]


def in_words(value: str | int | float | bool | None) -> str:
    """A value as JSON has it but for the quotes, empty where there is none."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def cut(text: str, most: int) -> str:
    """A text, or its first `most` characters and how many are behind them."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def by_place(leaves: Iterable[Leaf]) -> Iterator[tuple[Place, Leaf]]:
    """Leaves by their place in the truth, those without one numbered under their key."""
    num_without: Counter[str] = Counter()
    for leaf in leaves:
        yield (leaf.key, leaf.position, num_without[leaf.key] if leaf.true is None else -1), leaf
        num_without[leaf.key] += leaf.true is None
