"""Pairs an answer's leaves with the truth's and says what became of each.

Scalars pair by key, lists as multisets, tables by optimal assignment of rows. A wrong value of a present key is one
wrong predicted leaf and one wrong true leaf. Order of rows and list items never matters.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewards.compare import canonical_value, is_correct, same_meaning
from rewards.rows import assign_rows
from rewards.schema import FieldSpec, Schema
from rewards.types import Leaf, LeafOutcome
from rewards.values import Scalar, is_left_out, is_scalar, leaf_values, repeated_keys

_TEXTS = frozenset(("text", "free_text", "person_name"))
_NUMBERS = frozenset(("number", "quantity"))
UNKNOWN_KEY = "(not in the schema)"


def match_document(
    schema: Schema, asked: Sequence[str], truth: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[Leaf, ...]:
    """The fate of every leaf of `answer` and of every leaf of `truth` under the `asked` keys.

    A null, blank or empty value is left out. An answered key that was not asked for is hallucinated, leaf by leaf; a
    second occurrence of a key is a duplicate. A plain value where the schema has a list (or the reverse) is never
    correct: at best a wrong convention. A wrong value that is the truth of another asked key of a comparable kind, or
    of the same column in another row, is misassociated; so are a value under an absent key and the omitted leaf it
    belongs to. Choices of an enum are too few for that across keys: there they are misread.

    Keys and columns that the schema does not have go by the name `UNKNOWN_KEY`. Raises KeyError for such an asked key,
    ValueError for a truth of the wrong shape.
    """
    leaves: list[Leaf] = []
    specs: dict[str, FieldSpec] = {}
    for key in dict.fromkeys(asked):
        spec = schema.field(key)
        leaves.extend(_match_key(spec, answer.get(key), truth.get(key)))
        specs |= {_leaf_key(spec, column): column for column in spec.leaf_specs()}
    leaves = _find_misassociated(leaves, specs)
    for key, value in answer.items():
        if key not in asked:
            leaves.extend(_key_surplus(schema, key, value, LeafOutcome.HALLUCINATED))
    for key, value in repeated_keys(answer):
        leaves.extend(_key_surplus(schema, key, value, LeafOutcome.DUPLICATE))
    return tuple(leaves)


def _match_key(spec: FieldSpec, value: Any, true: Any) -> list[Leaf]:
    is_list = spec.many or spec.kind == "table"
    if not is_left_out(true) and is_list != isinstance(true, list | tuple):
        raise ValueError(f"key {spec.key!r}: the truth must be {'a list' if is_list else 'one value'}, got {true!r}")
    if is_list:
        match = _match_table if spec.kind == "table" else _match_many
        return match(spec, value, [] if is_left_out(true) else list(true))
    return _match_scalar(spec, spec.key, spec.weight, value, true, position=0)


def _match_scalar(
    spec: FieldSpec, key: str, weight: float, value: Any, true: Any, *, position: int, in_shape: bool = True
) -> list[Leaf]:
    """One expected scalar. Of a list or object in its place, the first leaf is the answer and the rest is invented."""
    answered = leaf_values(value)
    in_shape = in_shape and is_scalar(value)
    if is_left_out(true):
        return _surplus(key, weight, answered, LeafOutcome.HALLUCINATED)
    if not answered:
        return [_leaf(key, weight, LeafOutcome.OMITTED, None, true, position)]
    outcome = _compare(spec, answered[0], true, in_shape)
    first = _leaf(key, weight, outcome, answered[0], true, position)
    return [first, *_surplus(key, weight, answered[1:], LeafOutcome.HALLUCINATED)]


def _compare(spec: FieldSpec, answered: Scalar, true: Scalar, in_shape: bool) -> LeafOutcome:
    if in_shape and is_correct(spec, answered, true):
        return LeafOutcome.CORRECT
    return LeafOutcome.CONVENTION if same_meaning(spec, answered, true) else LeafOutcome.MISREAD


def _match_many(spec: FieldSpec, value: Any, true: list[Any]) -> list[Leaf]:
    """A list as a multiset: equal items first, then items of the same meaning, then what is left in order."""
    is_list = isinstance(value, list | tuple)
    given = value if isinstance(value, list | tuple) else [value]
    items = [(leaf, is_list and is_scalar(item)) for item in given for leaf in leaf_values(item)]
    waiting: dict[Any, list[int]] = defaultdict(list)
    for position in reversed([i for i, item in enumerate(true) if not is_left_out(item)]):
        waiting[canonical_value(spec, true[position])].append(position)
    leaves: list[Leaf] = []
    wrong: list[Scalar] = []
    for answered, in_shape in items:
        form = canonical_value(spec, answered)
        if in_shape and waiting.get(form):
            position = waiting[form].pop()
            leaves.append(_leaf(spec.key, spec.weight, LeafOutcome.CORRECT, answered, true[position], position))
        elif in_shape and form in waiting:
            leaves.extend(_surplus(spec.key, spec.weight, answered, LeafOutcome.DUPLICATE))
        else:
            wrong.append(answered)
    rest = sorted(position for positions in waiting.values() for position in positions)
    for outcome in (LeafOutcome.CONVENTION, LeafOutcome.MISREAD):
        still_wrong = []
        for answered in wrong:
            found = [i for i in rest if outcome is LeafOutcome.MISREAD or same_meaning(spec, answered, true[i])][:1]
            for position in found:
                rest.remove(position)
                leaves.append(_leaf(spec.key, spec.weight, outcome, answered, true[position], position))
            if not found:
                still_wrong.append(answered)
        wrong = still_wrong
    leaves.extend(_surplus(spec.key, spec.weight, wrong, LeafOutcome.HALLUCINATED))
    leaves.extend(_leaf(spec.key, spec.weight, LeafOutcome.OMITTED, None, true[i], i) for i in rest)
    return leaves


def _match_table(spec: FieldSpec, value: Any, true: list[Any]) -> list[Leaf]:
    """Rows by optimal assignment, then cell by cell; see `rewards.rows`."""
    is_list = isinstance(value, list | tuple)
    items = list(value) if is_list else [value]
    rows = [item for item in items if isinstance(item, Mapping) and not is_left_out(item)]
    leaves: list[Leaf] = []
    for item in items:
        if not isinstance(item, Mapping):
            leaves.extend(_surplus(spec.key, spec.weight, item, LeafOutcome.HALLUCINATED))
    assignment = assign_rows(spec, rows, true)
    for index, row in enumerate(rows):
        position = assignment.true_of[index]
        if position is None:
            outcome = LeafOutcome.DUPLICATE if index in assignment.duplicates else LeafOutcome.HALLUCINATED
            leaves.extend(_row_surplus(spec, row, outcome))
        else:
            leaves.extend(_match_row(spec, row, true[position], position, is_list))
    for position in sorted(set(range(len(true))) - set(assignment.true_of)):
        leaves.extend(_match_row(spec, {}, true[position], position, is_list))
    return leaves


def _match_row(spec: FieldSpec, row: Mapping[str, Any], true: Mapping[str, Any], position: int, ok: bool) -> list[Leaf]:
    leaves = []
    for column in spec.columns:
        weight = spec.weight * column.weight
        cell, true_cell = row.get(column.key), true.get(column.key)
        key = _leaf_key(spec, column)
        leaves.extend(_match_scalar(column, key, weight, cell, true_cell, position=position, in_shape=ok))
    known = {column.key for column in spec.columns}
    unknown = {name: cell for name, cell in row.items() if name not in known}
    leaves.extend(_row_surplus(spec, unknown, LeafOutcome.HALLUCINATED))
    for name, cell in repeated_keys(row):
        leaves.extend(_row_surplus(spec, {name: cell}, LeafOutcome.DUPLICATE))
    return leaves


def _row_surplus(spec: FieldSpec, row: Mapping[str, Any], outcome: LeafOutcome) -> list[Leaf]:
    """All leaves of a row without truth, under the keys of their columns."""
    weights = {column.key: spec.weight * column.weight for column in spec.columns}
    cells = [*row.items(), *repeated_keys(row)]
    leaves = []
    for name, cell in cells:
        known = name if name in weights else UNKNOWN_KEY
        leaves.extend(_surplus(f"{spec.key}.{known}", weights.get(name, spec.weight), cell, outcome))
    return leaves


def _key_surplus(schema: Schema, key: str, value: Any, outcome: LeafOutcome) -> list[Leaf]:
    """All leaves under a top-level key that has no truth: never asked for, or given again."""
    if key not in schema.keys:
        return _surplus(UNKNOWN_KEY, 1.0, value, outcome)
    spec = schema.field(key)
    if spec.kind != "table":
        return _surplus(key, spec.weight, value, outcome)
    leaves = []
    for item in value if isinstance(value, list | tuple) else [value]:
        is_row = isinstance(item, Mapping)
        leaves.extend(_row_surplus(spec, item, outcome) if is_row else _surplus(key, spec.weight, item, outcome))
    return leaves


def _surplus(key: str, weight: float, value: Any, outcome: LeafOutcome) -> list[Leaf]:
    return [_leaf(key, weight, outcome, answered, None, None) for answered in leaf_values(value)]


def _find_misassociated(leaves: list[Leaf], specs: Mapping[str, FieldSpec]) -> list[Leaf]:
    """Turn wrong values that are true elsewhere into misassociated ones; see `match_document`."""
    truths: dict[str, dict[Any, list[int]]] = {key: defaultdict(list) for key in specs}
    omitted: Counter[tuple[str, Any]] = Counter()
    for index, leaf in enumerate(leaves):
        if leaf.true is not None:
            truths[leaf.key][canonical_value(specs[leaf.key], leaf.true)].append(index)
            omitted[leaf.key, canonical_value(specs[leaf.key], leaf.true)] += leaf.outcome is LeafOutcome.OMITTED
    found: set[int] = set()
    for index, leaf in enumerate(leaves):
        spec = specs.get(leaf.key)
        if spec is None or leaf.answered is None:
            continue
        if leaf.outcome is LeafOutcome.MISREAD and _is_true_elsewhere(leaf, specs, truths):
            found.add(index)
        elif leaf.outcome is LeafOutcome.HALLUCINATED:
            for other, form in _forms_elsewhere(leaf, specs):
                if omitted[other, form]:
                    omitted[other, form] -= 1
                    places = (i for i in truths[other][form] if leaves[i].outcome is LeafOutcome.OMITTED)
                    found |= {index, next(i for i in places if i not in found)}
                    break
    return [
        replace(leaf, outcome=LeafOutcome.MISASSOCIATED) if index in found else leaf
        for index, leaf in enumerate(leaves)
    ]


def _is_true_elsewhere(
    leaf: Leaf, specs: Mapping[str, FieldSpec], truths: Mapping[str, Mapping[Any, list[int]]]
) -> bool:
    return any(truths[other].get(form) for other, form in _forms_elsewhere(leaf, specs))


def _forms_elsewhere(leaf: Leaf, specs: Mapping[str, FieldSpec]) -> list[tuple[str, Any]]:
    """The answered value as each comparable key reads it, the leaf's own key first (another row, another item)."""
    assert leaf.answered is not None
    own = specs[leaf.key]
    others = [key for key, spec in specs.items() if key != leaf.key and _comparable(own, spec)]
    return [(key, canonical_value(specs[key], leaf.answered)) for key in (leaf.key, *others)]


def _comparable(spec: FieldSpec, other: FieldSpec) -> bool:
    if spec.kind == "enum" or other.kind == "enum":
        return False
    return spec.kind == other.kind or any({spec.kind, other.kind} <= group for group in (_TEXTS, _NUMBERS))


def _leaf_key(spec: FieldSpec, column: FieldSpec) -> str:
    return f"{spec.key}.{column.key}" if spec.columns else spec.key


def _leaf(key: str, weight: float, outcome: LeafOutcome, answered: Any, true: Any, position: int | None) -> Leaf:
    return Leaf(key=key, outcome=outcome, answered=answered, true=true, position=position, weight=weight)
