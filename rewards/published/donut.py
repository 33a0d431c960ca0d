"""Donut's tree edit accuracy and field F1, written from their definition."""

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from rewards.published.pairs import Pair, checked

MAX_NODES = 400

_ROOT, _ROW, _LEAF = "<root>", "<subtree>", "<leaf>"


def donut_nted_accuracy(truth: Any, answer: Any, *, max_nodes: int = MAX_NODES) -> float | None:
    """Donut's accuracy max(0, 1 - TED(answer, truth) / TED(nothing, truth)), arXiv 2111.15664 section 3; 0 to 1.

    TED is the edit distance of ordered trees (Zhang and Shasha 1989) with the costs of the authors' code: a text costs
    its length to insert or remove, and its Levenshtein distance to change; a key or a row costs 1; turning a text into
    a key or a row, or back, costs 1 plus its length. For a truth without content, where the authors' code divides by
    zero, 1 for an answer without content, else 0.

    None, not computed, where a tree has more than `max_nodes` nodes, counted without what both trees share at their
    ends: `zss` takes time and memory cubic in them, 2 s and 0.1 GB at 220 (two tables of 20 × 5 values), 10 s and
    0.5 GB at 400.
    """
    truth, answer = checked(truth, answer)
    true_tree, answered_tree = (_tree(_ROOT, _normalised(value)) for value in (truth, answer))
    size, answered_size = _size_below(true_tree), _size_below(answered_tree)
    if not size:
        return float(not answered_size)
    if answered_size >= 2 * size:  # the distance is at least the difference of the sizes; spares endless repetitions
        return 0.0
    distance = _tree_distance(answered_tree, true_tree, max_nodes)
    return None if distance is None else max(0.0, 1 - distance / size)


def donut_f1(pairs: Iterable[Pair]) -> float:
    """Donut's field F1 (arXiv 2111.15664 section 3), micro over all pairs of truth and answer; 0 to 1.

    A field is the path of a key, without positions in lists, and a text: a value in another row still counts. 1 where
    there is nothing to answer and nothing answered.
    """
    correct = num_fields = 0
    for pair in pairs:
        true, answered = (Counter(_fields("", _normalised(value))) for value in checked(*pair))
        correct += (true & answered).total()
        num_fields += true.total() + answered.total()
    return 2 * correct / num_fields if num_fields else 1.0


class _Node(NamedTuple):
    label: str
    children: tuple["_Node", ...]
    text: str | None  # None for the root, a key or a row
    weight: int  # what inserting or removing it costs


def _normalised(value: Any) -> Any:
    """Objects of lists of objects or texts, keys by length and name; what is empty or zero is dropped."""
    if not value:
        return {}
    if isinstance(value, dict):
        items = ((key, _normalised(value[key])) for key in sorted(value, key=lambda key: (len(key), key)))
        return {key: item if isinstance(item, list) else [item] for key, item in items if item}
    if not isinstance(value, list):
        return [str(value).strip()]
    if _is_rows(value):
        return [row for row in map(_normalised, value) if row]
    texts = (str(item).strip() for item in value if type(item) in (str, int, float))  # the authors drop true and false
    return [text for text in texts if text]


def _is_rows(items: list[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def _fields(path: str, content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, item in content.items():
            yield from _fields(f"{path}.{key}" if path else key, item)
    elif isinstance(content, list):
        for item in content:
            yield from _fields(path, item)
    else:
        yield path, content


def _tree(label: str, content: Any) -> _Node:
    if isinstance(content, dict):
        return _node(label, tuple(_tree(key, item) for key, item in content.items()))
    if _is_rows(content):
        return _node(label, tuple(_tree(_ROW, row) for row in content))
    return _node(label, tuple(_node(f"{_LEAF}{text}") for text in content))


def _node(label: str, children: tuple[_Node, ...] = ()) -> _Node:
    # The mark may also stand in a key or in a value; the authors read it wherever it stands, and so do we.
    text = label.replace(_LEAF, "") if _LEAF in label else None
    return _Node(label, children, text, 1 if text is None else len(text))


def _nodes(tree: _Node) -> Iterator[_Node]:
    rest = [tree]
    while rest:
        node = rest.pop()
        yield node
        rest.extend(node.children)


def _size_below(tree: _Node) -> int:
    """The cost of inserting all nodes but the root, which is the distance to the bare root."""
    return sum(node.weight for node in _nodes(tree)) - tree.weight


def _tree_distance(first: _Node, second: _Node, max_nodes: int) -> float | None:
    """The distance of two trees whose roots have the same label; None where one is too large after trimming."""
    first, second = _trimmed(first, second)
    if not first.children or not second.children:
        return float(_size_below(first) + _size_below(second))
    if max(sum(1 for _ in _nodes(tree)) for tree in (first, second)) > max_nodes:
        return None
    import zss  # here, because it takes 0.1 s

    weight = attrgetter("weight")
    distance = zss.distance(
        first,
        second,
        get_children=attrgetter("children"),
        insert_cost=weight,
        remove_cost=weight,
        update_cost=_update_cost,
    )
    return float(distance)


def _trimmed(first: _Node, second: _Node) -> tuple[_Node, _Node]:
    """Smaller trees at the same distance.

    The costs obey the triangle inequality. Some cheapest mapping therefore pairs two roots of the same label, and
    pairs equal first or last children node by node, so that both cost nothing and can go.
    """
    while True:
        left, right = first.children, second.children
        start, stop, most = 0, 0, min(len(left), len(right))
        while start < most and left[start] == right[start]:
            start += 1
        while stop < most - start and left[-1 - stop] == right[-1 - stop]:
            stop += 1
        left, right = left[start : len(left) - stop], right[start : len(right) - stop]
        if not (len(left) == len(right) == 1 and left[0].label == right[0].label):
            return first._replace(children=left), second._replace(children=right)
        first, second = left[0], right[0]


def _update_cost(first: _Node, second: _Node) -> int:
    if first.text is None and second.text is None:
        return int(first.label != second.label)
    if first.text is None or second.text is None:
        return 1 + len(first.text or second.text or "")
    return int(Levenshtein.distance(first.text, second.text))
