"""Where the tokens of a shared-prompt row lie: the prompt, behind it the responses as a prefix tree, and padding.

Responses of one prompt often begin alike. What several begin with is there once: the distinct responses are sorted, and
each but the first goes on where it leaves the one before it, so the tokens behind the prompt are the tree in preorder.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Branch(NamedTuple):
    """A response: the first `shared` tokens of the branch before it in the row, then `own` >= 1 tokens of its own."""

    shared: int
    own: int


class RowLayout(NamedTuple):
    """Numbers of tokens of one row. The rows' tokens are those of [B, T] flattened, so rows may also lie behind one
    another in a single one [1, M]."""

    prompt: int
    branches: tuple[Branch, ...]
    padding: int

    @property
    def num_tokens(self) -> int:
        """Without the padding."""
        return self.prompt + sum(branch.own for branch in self.branches)


Layout = tuple[RowLayout, ...]


def prefix_tree(paths: Sequence[tuple[int, ...]]) -> tuple[tuple[Branch, ...], list[int]]:
    """The branches of the tree of token sequences, and the number of each sequence's branch, -1 for an empty one."""
    branches: list[Branch] = []
    of_path = [-1] * len(paths)
    before: tuple[int, ...] = ()
    for number in sorted(range(len(paths)), key=paths.__getitem__):
        path = paths[number]
        shared = _num_common(before, path)
        if shared < len(path):  # else it is the one before once more
            branches.append(Branch(shared, len(path) - shared))
            before = path
        of_path[number] = len(branches) - 1
    return tuple(branches), of_path


def paths_of(branches: Sequence[Branch]) -> list[list[int]]:
    """The tokens on each branch's path from the root, as offsets behind the prompt."""
    paths: list[list[int]] = []
    start = 0
    for shared, own in branches:
        before = paths[-1][:shared] if paths else []
        paths.append([*before, *range(start, start + own)])
        start += own
    return paths


def _num_common(first: Sequence[int], second: Sequence[int]) -> int:
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))
