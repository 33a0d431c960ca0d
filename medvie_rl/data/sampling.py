"""Draws for training queries that are off unless configured: rare and hard keys, parts of tables, other words."""

import difflib
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medvie_rl.data.store import Document
from rewards.schema import FieldSpec, Schema
from rewards.values import is_left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWeights:
    """How readily each key is drawn, by (schema, key). `matter` is false where all are alike."""

    matter: bool
    rarity: Mapping[tuple[str, str], float]
    given: Mapping[tuple[str, str], float]

    @classmethod
    def of(
        cls,
        documents: Iterable[Document],
        schemas: Mapping[str, Schema],
        key_weights: Mapping[str, float],
        *,
        rarity: float,
    ) -> "KeyWeights":
        """The weight of a key is that of `key_weights` ("schema.key", else 1) times n ** -rarity, where n is the number
        of `documents` that have it; raises ValueError for a name that no schema has."""
        names = check_key_weights(key_weights, schemas)
        given = {names[name]: weight for name, weight in key_weights.items()}
        counts: Counter[tuple[str, str]] = Counter()
        if rarity:
            counts.update(
                (document.schema, key)
                for document in documents
                for key, value in document.annotation.items()
                if not is_left_out(value)
            )
        return cls(
            matter=bool(given or rarity),
            rarity={key: count**-rarity for key, count in counts.items()},
            given=given,
        )

    def sample(
        self, rng: random.Random, schema: Schema, keys: Sequence[str], num: int, *, by_rarity: bool = True
    ) -> list[str]:
        """`num` different keys, each drawn from those left with a probability in proportion to its weight.

        Keys that a document does not have are drawn without `by_rarity`: rare keys are absent often enough, and asking
        for them where they are not would teach to leave them out.
        """

        def waiting_time(key: str) -> float:  # the first `num` of exponential clocks: Efraimidis and Spirakis 2006
            weight = self.given.get((schema.name, key), 1.0)
            weight *= self.rarity.get((schema.name, key), 1.0) if by_rarity else 1.0
            return -math.log(1.0 - rng.random()) / weight

        times = {key: waiting_time(key) for key in keys}
        return sorted(keys, key=times.__getitem__)[:num]


def draw_columns(
    rng: random.Random, schema: Schema, keys: Sequence[str], fraction: float
) -> dict[str, tuple[str, ...]]:
    """The columns of the tables that are asked in part: row keys always, and some of the others, not all.

    A table that has none to leave out is asked as a whole.
    """
    columns: dict[str, tuple[str, ...]] = {}
    if not fraction:
        return columns
    for key in keys:
        spec = schema.field(key)
        others = [column.key for column in spec.columns if column.key not in spec.row_keys]
        least = min(1, len(others) - 1) if spec.row_keys else 1
        if not 0 <= least < len(others) or rng.random() >= fraction:
            continue
        chosen = {*spec.row_keys, *rng.sample(others, rng.randint(least, len(others) - 1))}
        columns[key] = tuple(column.key for column in spec.columns if column.key in chosen)
    return columns


def draw_paraphrases(
    rng: random.Random,
    schema: Schema,
    keys: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    fraction: float,
) -> dict[str, str]:
    """Other descriptions by key and `table.column`, for every asked one that has paraphrases, or for none."""
    if not fraction or rng.random() >= fraction:
        return {}
    return {name: rng.choice(spec.paraphrases) for name, spec in described(schema, keys, columns) if spec.paraphrases}


def longest_descriptions(schema: Schema) -> dict[str, str]:
    """For every key and `table.column` the longest description that a query may give it, by characters."""
    return {
        name: max((spec.description, *spec.paraphrases), key=len)
        for name, spec in described(schema, schema.keys, {})
        if spec.paraphrases
    }


def described(schema: Schema, keys: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[tuple[str, FieldSpec]]:
    """All that a query describes, by name: its keys, and the asked columns as `table.column`."""
    found = []
    for key in keys:
        spec = schema.field(key)
        found.append((key, spec))
        asked = columns.get(key)
        found += [(f"{key}.{column.key}", column) for column in spec.columns if asked is None or column.key in asked]
    return found


def check_key_weights(names: Iterable[str], schemas: Mapping[str, Schema]) -> dict[str, tuple[str, str]]:
    """(schema, key) by each of the names "schema.key"; raises ValueError for one that no schema has."""
    known = {f"{schema.name}.{key}": (schema.name, key) for schema in schemas.values() for key in schema.keys}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the schemas are {', '.join(sorted(schemas))}"
            raise ValueError(f"queries.key_weights: {name!r} is no key of a schema; expected SCHEMA.KEY, {hint}")
    return {name: known[name] for name in names}
