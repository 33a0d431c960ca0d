"""The field's published metrics over plain JSON pairs (truth, answer), so that results compare with published tables.

ANLS* (Peer et al. 2024, arXiv 2402.03848) by its authors' package; Donut's tree edit accuracy and field F1 (Kim et al.
2022, arXiv 2111.15664) and KIEval (Khang et al. 2025, arXiv 2503.05488) from their definitions. None of them knows what
kind of value a key holds: they compare text.

Truth and answer are values as `json.loads` makes them. An answer of None is a response without valid JSON; one nested
deeper than MAX_DEPTH counts as None. A truth nested that deep is a ValueError. No other value raises.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import fsum
from operator import attrgetter
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

MAX_DEPTH = 64  # levels of objects and lists; all code here, the authors' included, recurses over them
MAX_NODES = 400

Pair = tuple[Any, Any]  # truth, answer


def anls_star(truth: Any, answer: Any) -> float:
    """ANLS* (arXiv 2402.03848) of one answer, 0 to 1.

    An answer of None earns 1 where the truth is null or empty, else 0. The authors' code matches lists in pure Python:
    0.15 s for two tables of 20 × 5 values, 2 s where the answer repeats its rows up to 300; every list within a
    list doubles it.
    """
    from anls_star import anls_score  # here, because it takes 0.1 s

    truth, answer = _checked(truth, answer)
    if answer is None:
        return float(truth in (None, {}, [], ""))
    if isinstance(truth, list) and isinstance(answer, str):
        if not truth:
            return 0.0  # the authors' code raises
        if all(isinstance(item, str) for item in truth):
            truth = tuple(truth)  # they read such a list as alternatives too, but with a warning
    return float(anls_score(truth, answer))


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
    truth, answer = _checked(truth, answer)
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
        true, answered = (Counter(_fields("", _normalised(value))) for value in _checked(*pair))
        correct += (true & answered).total()
        num_fields += true.total() + answered.total()
    return 2 * correct / num_fields if num_fields else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KIEvalScores:
    """KIEval of one or more documents; all rates 0 to 1, micro over the counts of all documents unless named macro.

    An answered entity that equals a true one of its place is a true positive. What is left is a false positive or a
    false negative; one of each at the same place are one `wrong_matches` (a value to correct), the others are
    `no_matches` (a value to add or to delete). `aligned` is the share of entities that need no correction,
    true_positives / (true_positives + wrong_matches + no_matches). `entity_macro_f1` is the mean over all keys with an
    entity on either side.

    Entity rates and `aligned` are 1 where neither side has an entity; group rates are None where neither has a group.
    """

    entity_precision: float
    entity_recall: float
    entity_f1: float
    entity_macro_f1: float
    group_precision: float | None
    group_recall: float | None
    group_f1: float | None
    aligned: float
    true_positives: int
    false_positives: int
    false_negatives: int
    wrong_matches: int
    no_matches: int
    group_true_positives: int
    group_false_positives: int
    group_false_negatives: int
    num_documents: int


def kieval(pairs: Iterable[Pair]) -> KIEvalScores:
    """KIEval (arXiv 2503.05488) over pairs of truth and answer, one pair for the scores of one document.

    A key of the document holds groups where it holds an object or a list of objects, else entities without a group.
    Within a group a list is several entities of one key, and an object extends the key. The answered groups of a key
    are matched to its true groups so that as many entities as possible are equal (Hungarian method, exact); entities
    of different groups never match. A group is a true positive when all its entities are equal.

    Entities are equal when their texts are, character by character, a number or true and false being the text JSON has
    for it; null is no entity. The authors' code differs in this: it refuses what is not text, compares the lists
    within a group by order too when it compares whole groups, and says 0 where nothing was to answer nor answered.
    """
    tally, num_documents = _Tally(), 0
    for pair in pairs:
        tally.add_document(*(_split(value) for value in _checked(*pair)))
        num_documents += 1
    return tally.scores(num_documents)


def _checked(truth: Any, answer: Any) -> Pair:
    if _is_too_deep(truth):
        raise ValueError(f"the truth is nested deeper than {MAX_DEPTH} levels")
    return truth, None if _is_too_deep(answer) else answer


def _is_too_deep(value: Any) -> bool:
    containers = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [container for container in containers if isinstance(container, dict | list)]
        if not containers:
            return False
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
        ]
    return True


# --- Donut ---

_ROOT, _ROW, _LEAF = "<root>", "<subtree>", "<leaf>"


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


# --- KIEval ---

_Path = tuple[str, ...]  # the key of an entity, from the document's key on
_Entities = Counter[tuple[_Path, str]]  # path and text, as often as it stands there


@dataclass(slots=True)
class _Document:
    loose: _Entities  # the entities without a group
    groups: dict[str, list[_Entities]]


@dataclass(slots=True)
class _Tally:
    true_positives: Counter[_Path] = field(default_factory=Counter)
    false_positives: Counter[_Path] = field(default_factory=Counter)
    false_negatives: Counter[_Path] = field(default_factory=Counter)
    wrong_matches: int = 0
    group_true_positives: int = 0
    group_false_positives: int = 0
    group_false_negatives: int = 0

    def add_document(self, true: _Document, answered: _Document) -> None:
        self._add_entities(true.loose, answered.loose)
        for key in true.groups | answered.groups:
            self._add_groups(true.groups.get(key, []), answered.groups.get(key, []))

    def _add_groups(self, true: list[_Entities], answered: list[_Entities]) -> None:
        matches = _match(true, answered)
        correct = sum(true[row] == answered[column] for row, column in matches.items())
        self.group_true_positives += correct
        self.group_false_positives += len(answered) - correct
        self.group_false_negatives += len(true) - correct
        nothing: _Entities = Counter()
        for row, group in enumerate(true):
            self._add_entities(group, answered[matches[row]] if row in matches else nothing)
        for column in set(range(len(answered))) - set(matches.values()):
            self._add_entities(nothing, answered[column])

    def _add_entities(self, true: _Entities, answered: _Entities) -> None:
        correct, missed, invented = (
            Counter(path for path, _ in entities.elements())
            for entities in (true & answered, true - answered, answered - true)
        )
        self.true_positives.update(correct)
        self.false_positives.update(invented)
        self.false_negatives.update(missed)
        self.wrong_matches += (missed & invented).total()

    def scores(self, num_documents: int) -> KIEvalScores:
        by_outcome = self.true_positives, self.false_positives, self.false_negatives
        true_positives, false_positives, false_negatives = (by_key.total() for by_key in by_outcome)
        precision, recall, f1 = _rates(true_positives, false_positives, false_negatives) or (1.0,) * 3
        group_counts = self.group_true_positives, self.group_false_positives, self.group_false_negatives
        group_precision, group_recall, group_f1 = _rates(*group_counts) or (None,) * 3
        of_keys = [_rates(*(by_key[key] for by_key in by_outcome)) for key in set().union(*by_outcome)]
        f1_of_keys = [rates[2] for rates in of_keys if rates]
        no_matches = false_positives + false_negatives - 2 * self.wrong_matches
        num_aligned = true_positives + self.wrong_matches + no_matches
        return KIEvalScores(
            entity_precision=precision,
            entity_recall=recall,
            entity_f1=f1,
            entity_macro_f1=fsum(f1_of_keys) / len(f1_of_keys) if f1_of_keys else 1.0,
            group_precision=group_precision,
            group_recall=group_recall,
            group_f1=group_f1,
            aligned=true_positives / num_aligned if num_aligned else 1.0,
            true_positives=true_positives,
            false_positives=false_positives,
            false_negatives=false_negatives,
            wrong_matches=self.wrong_matches,
            no_matches=no_matches,
            group_true_positives=self.group_true_positives,
            group_false_positives=self.group_false_positives,
            group_false_negatives=self.group_false_negatives,
            num_documents=num_documents,
        )


def _split(value: Any) -> _Document:
    document = _Document(Counter(), {})
    for key, held in value.items() if isinstance(value, dict) else [("", value)]:
        for item in _flat(held):
            if isinstance(item, dict):
                document.groups.setdefault(key, []).append(Counter(_entities((key,), item)))
            else:
                document.loose.update(_entities((key,), item))
    return document


def _entities(path: _Path, value: Any) -> Iterator[tuple[_Path, str]]:
    for item in _flat(value):
        if isinstance(item, dict):
            for key, held in item.items():
                yield from _entities((*path, key), held)
        elif item is not None:
            yield path, item if isinstance(item, str) else json.dumps(item)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _match(true: list[_Entities], answered: list[_Entities]) -> dict[int, int]:
    """The answered group of each matched true group; as many matches as the shorter side has groups."""
    if not true or not answered:
        return {}
    from scipy.optimize import linear_sum_assignment  # here, because it takes 0.3 s

    num_equal = [[(group & other).total() for other in answered] for group in true]  # [num_true, num_answered]
    rows, columns = linear_sum_assignment(num_equal, maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _rates(correct: int, false_positives: int, false_negatives: int) -> tuple[float, float, float] | None:
    """Precision, recall and F1, 0 where undefined; None for nothing on both sides."""
    predicted, true = correct + false_positives, correct + false_negatives
    if not predicted and not true:
        return None
    return (
        correct / predicted if predicted else 0.0,
        correct / true if true else 0.0,
        2 * correct / (predicted + true),
    )
