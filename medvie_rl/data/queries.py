"""The stream of training queries (a document and a random subset of its keys) and the queries of an evaluation.

The paper's sampling: for every training query a random subset of the keys is asked for (arXiv 2506.13363). A share of
keys that the document does not have is mixed in; the right answer is to leave those out. The stream is a pure function
of (seed, position), so that a resumed run continues it exactly.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvie_rl.data.store import Document
from rewards.schema import Schema
from rewards.values import is_left_out


@dataclass(kw_only=True)
class QueryConfig:
    """How training queries are drawn."""

    min_keys: int = 2
    max_keys: int = 6
    absent_fraction: float = 0.3  # expected share of asked keys that are not on the document
    reasoning_fraction: float = 1.0  # share of queries that ask for reasoning before the JSON, 0 = direct answers only

    def __post_init__(self) -> None:
        if not 1 <= self.min_keys <= self.max_keys:
            raise ValueError(
                f"queries: expected 1 <= min_keys <= max_keys, got min_keys={self.min_keys}, max_keys={self.max_keys}"
            )
        for name in ("absent_fraction", "reasoning_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"queries.{name}: expected a share between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A document plus the keys asked for. `truth` holds the asked keys that the document has."""

    id: str
    document: Document
    keys: tuple[str, ...]
    truth: Mapping[str, Any]
    reasoning: bool


class QueryStream:
    """The endless stream of training queries of a run."""

    def __init__(
        self, documents: Sequence[Document], schemas: Mapping[str, Schema], config: QueryConfig, *, seed: int
    ) -> None:
        if not documents:
            raise ValueError("the training split has no documents")
        self._documents = documents
        self._schemas = schemas
        self._config = config
        self._seed = seed

    def take(self, start: int, num: int) -> list[Query]:
        """The queries at positions start, ..., start + num - 1."""
        return [self.at(position) for position in range(start, start + num)]

    def at(self, position: int) -> Query:
        """The query at a position: documents in an order shuffled anew every epoch, keys drawn at random."""
        epoch, index = divmod(position, len(self._documents))
        order = list(range(len(self._documents)))
        random.Random(stable_hash("epoch", self._seed, epoch)).shuffle(order)
        document = self._documents[order[index]]
        rng = random.Random(stable_hash("query", self._seed, position))
        keys = _draw_keys(rng, self._schemas[document.schema], document, self._config)
        reasoning = rng.random() < self._config.reasoning_fraction
        return _query(f"train-{position}", document, keys, reasoning=reasoning)


def evaluation_queries(documents: Sequence[Document], schemas: Mapping[str, Schema], *, reasoning: bool) -> list[Query]:
    """One query a document that asks for every key of its schema, in the schema's order."""
    return [
        _query(f"eval-{document.id}", document, schemas[document.schema].keys, reasoning=reasoning)
        for document in documents
    ]


def stable_hash(*parts: object) -> int:
    """A 63-bit hash that is the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _draw_keys(rng: random.Random, schema: Schema, document: Document, config: QueryConfig) -> tuple[str, ...]:
    present = [key for key in schema.keys if not is_left_out(document.annotation.get(key))]
    absent = [key for key in schema.keys if key not in present]
    num_keys = rng.randint(config.min_keys, config.max_keys)
    num_absent = min(len(absent), sum(rng.random() < config.absent_fraction for _ in range(num_keys)))
    num_present = min(len(present), num_keys - num_absent)
    keys = rng.sample(present, num_present) + rng.sample(absent, num_absent)
    if not keys:
        keys = [rng.choice(schema.keys)]
    rng.shuffle(keys)
    return tuple(keys)


def _query(query_id: str, document: Document, keys: Sequence[str], *, reasoning: bool) -> Query:
    truth = {key: document.annotation[key] for key in keys if not is_left_out(document.annotation.get(key))}
    return Query(id=query_id, document=document, keys=tuple(keys), truth=truth, reasoning=reasoning)
