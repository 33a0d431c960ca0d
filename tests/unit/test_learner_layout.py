"""Responses as a prefix tree: what several begin with is there once, and each is found whole again."""

from hypothesis import given
from hypothesis import strategies as st

from learner.layout import Branch, RowLayout, paths_of, prefix_tree

Paths = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=8)


def test_a_tree_by_hand() -> None:
    branches, of_path = prefix_tree([(5, 6, 9), (), (5, 6, 7, 8), (7,), (5, 6, 9), (5, 6)])
    assert branches == (Branch(0, 2), Branch(2, 2), Branch(2, 1), Branch(0, 1))  # 56, 5678, 569, 7
    assert of_path == [2, -1, 1, 3, 2, 0]
    assert paths_of(branches) == [[0, 1], [0, 1, 2, 3], [0, 1, 4], [5]]
    assert RowLayout(10, branches, 4).num_tokens == 16
    assert prefix_tree([]) == prefix_tree(()) == ((), []) and paths_of(()) == []


@given(Paths)
def test_every_sequence_is_found_again_and_no_token_is_there_twice(paths: list[tuple[int, ...]]) -> None:
    branches, of_path = prefix_tree(paths)
    tokens: dict[int, int] = {}
    offsets = paths_of(branches)
    for path, number in zip(paths, of_path, strict=True):
        where = offsets[number] if number >= 0 else []
        assert len(where) == len(path) and where == sorted(where)
        for place, token in zip(where, path, strict=True):
            assert tokens.setdefault(place, token) == token
    distinct = {path[:length] for path in paths for length in range(1, len(path) + 1)}
    assert sorted(tokens) == list(range(len(distinct))) == list(range(sum(branch.own for branch in branches)))
    assert prefix_tree(paths[::-1])[0] == branches


@given(Paths)
def test_the_order_is_preorder(paths: list[tuple[int, ...]]) -> None:
    """What sees a token lies behind it without a gap: flex attention's mask relies on it."""
    offsets = paths_of(prefix_tree(paths)[0])
    for token in {place for path in offsets for place in path}:
        seen_by = {place for path in offsets if token in path for place in path if place >= token}
        assert seen_by == set(range(token, token + len(seen_by)))
