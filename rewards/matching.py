"""Pairs an answer's leaves with the truth's and says what became of each.

Scalars pair by key, lists as multisets, tables by optimal assignment of rows. A wrong value of a present key is one
wrong predicted leaf and one wrong true leaf. Order of rows and list items never matters.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rewards.compare import canonical_value
from rewards.rows import Rows, assign_rows, is_same_row
from rewards.schema import FieldSpec, Schema
from rewards.slots import Slot, match_slot, surplus, true_list
from rewards.types import Leaf, LeafOutcome
from rewards.values import is_left_out, repeated_keys

_TEXTS = frozenset(("text", "free_text", "person_name"))
_NUMBERS = frozenset(("number", "quantity"))
_FEW_VALUES = frozenset(("enum", "boolean"))
UNKNOWN_KEY = "(not in the schema)"


def match_document(
    schema: Schema, asked: Sequence[str], truth: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[Leaf, ...]:
    """The fate of every leaf of `answer` and of every leaf of `truth` under the `asked` keys.

    A null, blank or empty value is left out. An answered key that was not asked for is hallucinated, leaf by leaf; a
    second occurrence of a key is a duplicate. A plain value where the schema has a list (or the reverse) is never
    correct: at best a wrong convention. Free text is close where it earns a part (`compare.text_credit`). A wrong value
    that is the truth of another asked key of a comparable kind, or of the same column in another row, is misassociated;
    so are a value under an absent key and the omitted leaf it belongs to, and what is right in a row whose `row_keys`
    name another drug or test than the true row, or none. Choices of an enum and booleans are too few for that across
    keys: there they are misread.

    Keys and columns that the schema does not have go by the name `UNKNOWN_KEY`. Raises KeyError for such an asked key,
    ValueError for a truth of the wrong shape.
    """
    leaves: list[Leaf] = []
    specs: dict[str, FieldSpec] = {}
    for key in dict.fromkeys(asked):
        spec = schema.field(key)
        leaves.extend(_match_key(spec, answer.get(key), truth.get(key)))
        for column in spec.leaf_specs():
            specs[_leaf_key(spec, column)] = column
    _find_misassociated(leaves, specs)
    for key, value in answer.items():
        if key not in asked:
            leaves.extend(_key_surplus(schema, key, value, LeafOutcome.HALLUCINATED))
    for key, value in repeated_keys(answer):
        leaves.extend(_key_surplus(schema, key, value, LeafOutcome.DUPLICATE))
    return tuple(leaves)


def _match_key(spec: FieldSpec, value: Any, true: Any) -> list[Leaf]:
    if spec.kind == "table":
        return _match_table(spec, value, true_list(spec.key, true))
    return match_slot(Slot(spec, spec.key, spec.weight), value, true)


def _match_table(spec: FieldSpec, value: Any, true: Sequence[Any]) -> list[Leaf]:
    """Rows by optimal assignment, then cell by cell; see `rewards.rows`."""
    if not all(isinstance(row, Mapping) for row in true):
        raise ValueError(f"key {spec.key!r}: the rows of the truth must be objects, got {true!r}")
    is_list = isinstance(value, list | tuple)
    items = value if isinstance(value, list | tuple) else [value]
    stray = [item for item in items if not isinstance(item, Mapping)]
    leaves = surplus(spec.key, spec.kind, spec.weight, LeafOutcome.HALLUCINATED, stray)
    answered_rows = Rows.of(spec, [item for item in items if isinstance(item, Mapping) and not is_left_out(item)])
    true_rows = Rows.of(spec, true)
    assignment = assign_rows(spec, answered_rows, true_rows)
    columns = [(column, _leaf_key(spec, column), spec.weight * column.weight) for column in spec.columns]
    names = {column.key for column in spec.columns}
    for index, row in enumerate(answered_rows.cells):
        position = assignment.true_of[index]
        if position is None:
            outcome = LeafOutcome.DUPLICATE if index in assignment.duplicates else LeafOutcome.HALLUCINATED
            leaves.extend(_cells_surplus(spec, [*row.items(), *repeated_keys(row)], outcome))
            continue
        place, true_row, num_leaves = (position,), true[position], len(leaves)
        forms = zip(columns, answered_rows.forms[index], true_rows.forms[position], strict=True)
        for (column, key, weight), form, true_form in forms:
            cell, true_cell = row.get(column.key), true_row.get(column.key)
            if form == true_form and form is not None and is_list and not column.many:  # most cells end here
                leaves.append(Leaf(key, column.kind, LeafOutcome.CORRECT, cell, true_cell, place, weight, 1.0))
            else:
                leaves.extend(match_slot(Slot(column, key, weight, place, is_list), cell, true_cell))
        if spec.row_keys and not is_same_row(spec, answered_rows, index, true_rows, position):
            leaves[num_leaves:] = map(_bound_to_another, leaves[num_leaves:])
        if not names.issuperset(row):
            unknown = [(name, cell) for name, cell in row.items() if name not in names]
            leaves.extend(_cells_surplus(spec, unknown, LeafOutcome.HALLUCINATED))
        leaves.extend(_cells_surplus(spec, repeated_keys(row), LeafOutcome.DUPLICATE))
    for position in sorted(set(range(len(true))).difference(assignment.true_of)):
        for column, key, weight in columns:
            slot = Slot(column, key, weight, (position,))
            leaves.extend(match_slot(slot, None, true[position].get(column.key)))
    return leaves


def _bound_to_another(leaf: Leaf) -> Leaf:
    """A cell in a row that names another drug or test, or none: what is right in it is right by chance."""
    if leaf.outcome in (LeafOutcome.CORRECT, LeafOutcome.CLOSE):
        return leaf._replace(outcome=LeafOutcome.MISASSOCIATED, credit=0.0)
    return leaf


def _cells_surplus(spec: FieldSpec, cells: Sequence[tuple[str, Any]], outcome: LeafOutcome) -> list[Leaf]:
    """All leaves of cells without truth, under the keys of their columns."""
    leaves = []
    for name, cell in cells:
        column = next((column for column in spec.columns if column.key == name), None)
        if column is None:
            leaves.extend(surplus(f"{spec.key}.{UNKNOWN_KEY}", "", spec.weight, outcome, cell))
        else:
            key, weight = _leaf_key(spec, column), spec.weight * column.weight
            leaves.extend(surplus(key, column.kind, weight, outcome, cell))
    return leaves


def _key_surplus(schema: Schema, key: str, value: Any, outcome: LeafOutcome) -> list[Leaf]:
    """All leaves under a top-level key that has no truth: never asked for, or given again."""
    if key not in schema.keys:
        return surplus(UNKNOWN_KEY, "", 1.0, outcome, value)
    spec = schema.field(key)
    leaves = []
    for item in value if spec.kind == "table" and isinstance(value, list | tuple) else [value]:
        if spec.kind == "table" and isinstance(item, Mapping):
            leaves.extend(_cells_surplus(spec, [*item.items(), *repeated_keys(item)], outcome))
        else:
            leaves.extend(surplus(key, spec.kind, spec.weight, outcome, item))
    return leaves


def _find_misassociated(leaves: list[Leaf], specs: Mapping[str, FieldSpec]) -> None:
    """Turn wrong values that are true elsewhere into misassociated ones, in place; see `match_document`."""
    suspects = [
        index
        for index, leaf in enumerate(leaves)
        if leaf.outcome in (LeafOutcome.MISREAD, LeafOutcome.HALLUCINATED) and leaf.key in specs
    ]
    if not suspects:
        return
    truths: dict[str, dict[Any, list[int]]] = {key: defaultdict(list) for key in specs}  # the omitted ones last
    for index, leaf in enumerate(leaves):
        if leaf.true is not None:
            truths[leaf.key][canonical_value(specs[leaf.key], leaf.true)].append(index)
    for index in suspects:
        leaf = leaves[index]
        places = (truths[other].get(form, []) for other, form in _forms_elsewhere(leaf, specs))
        if leaf.outcome is LeafOutcome.MISREAD:
            if any(places):
                leaves[index] = leaf._replace(outcome=LeafOutcome.MISASSOCIATED)
            continue
        omitted = next((i for found in places for i in found if leaves[i].outcome is LeafOutcome.OMITTED), None)
        if omitted is not None:
            for moved in (index, omitted):
                leaves[moved] = leaves[moved]._replace(outcome=LeafOutcome.MISASSOCIATED)


def _forms_elsewhere(leaf: Leaf, specs: Mapping[str, FieldSpec]) -> Iterator[tuple[str, Any]]:
    """The answered value as each comparable key reads it, the leaf's own key first (another row, another item)."""
    assert leaf.answered is not None
    own = specs[leaf.key]
    yield leaf.key, canonical_value(own, leaf.answered)
    for key, spec in specs.items():
        if key != leaf.key and _comparable(own, spec):
            yield key, canonical_value(spec, leaf.answered)


def _comparable(spec: FieldSpec, other: FieldSpec) -> bool:
    if {spec.kind, other.kind} & _FEW_VALUES:
        return False
    return spec.kind == other.kind or any({spec.kind, other.kind} <= group for group in (_TEXTS, _NUMBERS))


def _leaf_key(spec: FieldSpec, column: FieldSpec) -> str:
    return f"{spec.key}.{column.key}" if spec.columns else spec.key
