"""The stream of training queries (a document and a random subset of its keys) and the queries of an evaluation.

The paper's sampling: for every training query a random subset of the keys is asked for (arXiv 2506.13363). A share of
keys that the document does not have is mixed in; the right answer is to leave those out. The stream is a pure function
of (seed, position), so that a resumed run continues it exactly, and any number of processes can each make a part of it.

Rare and hard keys can be drawn more often, tables asked by some of their columns, descriptions put in other words. Each
of these draws from a generator of its own (see `sampling.py`): switching one on changes nothing else of the stream.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvie_rl.data.sampling import KeyWeights, draw_columns, draw_paraphrases
from medvie_rl.data.store import Document
from rewards.schema import Schema
from rewards.values import is_left_out

_SHARES = ("absent_fraction", "reasoning_fraction", "column_fraction", "paraphrase_fraction")
_PREFIX = "train-"  # of the ids of training queries


@dataclass(kw_only=True)
class QueryConfig:
    """How training queries are drawn. An evaluation asks for every key, whole tables, in the schema's own words."""

    min_keys: int = 2
    max_keys: int = 6
    absent_fraction: float = 0.3  # expected share of asked keys that are not on the document
    reasoning_fraction: float = 1.0  # share of queries that ask for reasoning before the JSON, 0 = direct answers only
    rare_key_weight: float = 0.0  # 1 = keys in inverse proportion to how many training documents have them, 0 = alike
    key_weights: dict[str, float] = field(default_factory=dict)  # "schema.key": how much more often, 1 where not named
    column_fraction: float = 0.0  # share of asked tables that are asked by a random part of their columns
    paraphrase_fraction: float = 0.0  # share of queries that describe their keys in a paraphrase of the schema

    def __post_init__(self) -> None:
        if not 1 <= self.min_keys <= self.max_keys:
            raise ValueError(
                f"queries: expected 1 <= min_keys <= max_keys, got min_keys={self.min_keys}, max_keys={self.max_keys}"
            )
        for name in _SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"queries.{name}: expected a share between 0 and 1, got {getattr(self, name)}")
        if not 0.0 <= self.rare_key_weight <= 10.0:
            raise ValueError(
                f"queries.rare_key_weight: expected 0 (every key alike) up to 10, got {self.rare_key_weight}; 1 draws "
                "keys in inverse proportion to the training documents that have them"
            )
        for key, weight in self.key_weights.items():
            if not isinstance(weight, int | float) or not 0.0 < weight <= 1e6:
                raise ValueError(
                    f"queries.key_weights: expected a weight above 0 and up to 1e6 for {key!r}, got {weight!r}; as an "
                    "override it is queries.key_weights={SCHEMA.KEY: 2.0}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A document plus the keys asked for. `truth` holds of them what the document has.

    `columns` names the asked columns of each table that is asked in part, in the schema's order. `descriptions` are
    those that take the place of the schema's, by key and by `table.column`.
    """

    id: str
    document: Document
    keys: tuple[str, ...]
    truth: Mapping[str, Any]
    reasoning: bool
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)


class QueryStream:
    """The endless stream of training queries of a run."""

    def __init__(
        self, documents: Sequence[Document], schemas: Mapping[str, Schema], config: QueryConfig, *, seed: int
    ) -> None:
        """Raises ValueError for no documents, and for `key_weights` of keys that no schema has."""
        if not documents:
            raise ValueError("the training split has no documents")
        self._documents = documents
        self._schemas = schemas
        self._config = config
        self._seed = seed
        self._weights = KeyWeights.of(documents, schemas, config.key_weights, rarity=config.rare_key_weight)
        self._order: tuple[int, list[int]] = (-1, [])  # of the epoch last asked for

    def take(self, start: int, num: int) -> list[Query]:
        """The queries at positions start, ..., start + num - 1."""
        return [self.at(position) for position in range(start, start + num)]

    def of_id(self, query_id: str) -> Query:
        """The query of this stream that has the id."""
        return self.at(int(query_id.removeprefix(_PREFIX)))

    def at(self, position: int) -> Query:
        """The query at a position: documents in an order shuffled anew every epoch, keys drawn at random."""
        epoch, index = divmod(position, len(self._documents))
        document = self._documents[self._epoch(epoch)[index]]
        schema, config = self._schemas[document.schema], self._config
        rng = random.Random(stable_hash("query", self._seed, position))
        keys = self._draw_keys(rng, self._own("weights", position), schema, document)
        reasoning = rng.random() < config.reasoning_fraction
        columns = draw_columns(self._own("columns", position), schema, keys, config.column_fraction)
        words = self._own("paraphrases", position)
        descriptions = draw_paraphrases(words, schema, keys, columns, config.paraphrase_fraction)
        return make_query(
            f"{_PREFIX}{position}", document, keys, reasoning=reasoning, columns=columns, descriptions=descriptions
        )

    def _epoch(self, epoch: int) -> list[int]:
        if self._order[0] != epoch:
            order = list(range(len(self._documents)))
            random.Random(stable_hash("epoch", self._seed, epoch)).shuffle(order)
            self._order = (epoch, order)
        return self._order[1]

    def _own(self, purpose: str, position: int) -> random.Random:
        return random.Random(stable_hash(purpose, self._seed, position))

    def _draw_keys(
        self, rng: random.Random, weighted: random.Random, schema: Schema, document: Document
    ) -> tuple[str, ...]:
        config = self._config
        present = [key for key in schema.keys if not is_left_out(document.annotation.get(key))]
        absent = [key for key in schema.keys if key not in present]
        num_keys = rng.randint(config.min_keys, config.max_keys)
        num_absent = min(len(absent), sum(rng.random() < config.absent_fraction for _ in range(num_keys)))
        num_present = min(len(present), num_keys - num_absent)
        chosen, chosen_absent = rng.sample(present, num_present), rng.sample(absent, num_absent)
        if self._weights.matter:
            chosen = self._weights.sample(weighted, schema, present, num_present)
            chosen_absent = self._weights.sample(weighted, schema, absent, num_absent, by_rarity=False)
        keys = (chosen + chosen_absent) or [rng.choice(schema.keys)]
        rng.shuffle(keys)
        return tuple(keys)


def make_query(
    name: str,
    document: Document,
    keys: tuple[str, ...],
    *,
    reasoning: bool,
    columns: Mapping[str, tuple[str, ...]],
    descriptions: Mapping[str, str],
) -> Query:
    """The query that asks a document for these keys, with what the document has of them."""
    return Query(
        id=name,
        document=document,
        keys=keys,
        truth=_truth(document, keys, columns),
        reasoning=reasoning,
        columns=columns,
        descriptions=descriptions,
    )


def evaluation_queries(documents: Sequence[Document], schemas: Mapping[str, Schema], *, reasoning: bool) -> list[Query]:
    """One query a document that asks for every key of its schema, in the schema's order."""
    return [
        make_query(
            f"eval-{document.id}",
            document,
            schemas[document.schema].keys,
            reasoning=reasoning,
            columns={},
            descriptions={},
        )
        for document in documents
    ]


def stable_hash(*parts: object) -> int:
    """A 63-bit hash that is the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rollout_seed(run_seed: int, step: int, query_id: str) -> int:
    """The seed of a query's traces, 63-bit; the engine samples trace i from this plus i."""
    return stable_hash("rollout", run_seed, step, query_id)


def _truth(document: Document, keys: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the document has of the asked keys, tables asked in part by their asked columns."""
    truth = {}
    for key in keys:
        value = document.annotation.get(key)
        if key in columns and isinstance(value, list | tuple):
            value = [{name: cell for name, cell in row.items() if name in columns[key]} for row in value]
        if not is_left_out(value):
            truth[key] = value
    return truth
