"""Demonstrations: the training queries of a run, each with the response that supervised fine-tuning teaches.

The queries are those of `QueryStream`: the same documents and, seed for seed, the same random subsets of keys that
reinforcement learning asks for. The response is the annotation as JSON, behind reasoning where there are traces.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvie_rl.data.queries import Query, QueryConfig, QueryStream
from medvie_rl.data.store import Document
from medvie_rl.traces import RecordedResponse, Trace
from rewards.parsing import REASONING_END, REASONING_START
from rewards.schema import FieldSpec, Schema
from rewards.values import is_left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A query and the text that answers it, without the end of the turn."""

    query: Query
    response: str


class DemonstrationStream:
    """The endless stream of demonstrations of a run: a pure function of (seed, position)."""

    def __init__(
        self,
        documents: Sequence[Document],
        schemas: Mapping[str, Schema],
        config: QueryConfig,
        *,
        seed: int,
        traces: Mapping[str, Sequence[Trace]] | None = None,
        compact: bool = True,
    ) -> None:
        """`traces`, by document, say what to reason; documents without any are left out. None: direct answers only.

        Raises ValueError if no document is left.
        """
        if traces is None and config.reasoning_fraction > 0:
            raise ValueError("demonstrations with reasoning need traces; set queries.reasoning_fraction to 0")
        kept = [document for document in documents if traces is None or traces.get(document.id)]
        if not kept:
            raise ValueError(f"sft.traces: none of the {len(documents)} training documents has a trace")
        self._queries = QueryStream(kept, schemas, config, seed=seed)
        self._schemas, self._traces, self._compact = schemas, traces, compact
        self._num_documents = len(kept)
        self.num_skipped = len(documents) - len(kept)

    def take(self, start: int, num: int) -> list[Demonstration]:
        """The demonstrations at positions start, ..., start + num - 1."""
        return [self.at(position) for position in range(start, start + num)]

    def at(self, position: int) -> Demonstration:
        """The demonstration at a position. A document's traces take turns, one an epoch."""
        query = self._queries.at(position)
        schema = self._schemas[query.document.schema]
        if self._traces is None:
            return self._direct(query, schema)
        of_document = self._traces[query.document.id]
        trace = of_document[position // self._num_documents % len(of_document)]
        if isinstance(trace, RecordedResponse):
            asked = _ask(query, schema, trace.keys, columns=trace.columns, descriptions=trace.descriptions)
            return Demonstration(query=replace(asked, reasoning=trace.reasoning), response=trace.text)
        if not query.reasoning:
            return self._direct(query, schema)
        query = _ask(query, schema, trace.keys) if trace.keys else query
        reasoning = f"{REASONING_START}{trace.text}{REASONING_END}"
        return Demonstration(query=query, response=reasoning + answer_text(query, schema, compact=self._compact))

    def _direct(self, query: Query, schema: Schema) -> Demonstration:
        return Demonstration(query=query, response=answer_text(query, schema, compact=self._compact))


def answer_text(query: Query, schema: Schema, *, compact: bool = True) -> str:
    """What the document says of the asked keys as one JSON object, in the order asked, columns in the schema's order.

    Whatever the document does not have is left out: keys, cells of a row, rows.
    """
    answer = {key: _without_gaps(query.truth[key], schema.field(key)) for key in query.keys if key in query.truth}
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":") if compact else None)


def _without_gaps(value: Any, spec: FieldSpec) -> Any:
    if isinstance(value, list | tuple):
        return [_without_gaps(item, spec) for item in value if not is_left_out(item)]
    if isinstance(value, Mapping):
        cells = [(column.key, column, value.get(column.key)) for column in spec.columns]
        return {name: _without_gaps(cell, column) for name, column, cell in cells if not is_left_out(cell)}
    return value


def _ask(
    query: Query,
    schema: Schema,
    keys: tuple[str, ...],
    *,
    columns: Mapping[str, tuple[str, ...]] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> Query:
    """The query with other keys asked about the same document."""
    asked, annotation = schema.restricted(columns or {}), query.document.annotation
    values = {key: _without_gaps(annotation.get(key), asked.field(key)) for key in keys}
    return replace(
        query,
        keys=keys,
        truth={key: value for key, value in values.items() if not is_left_out(value)},
        columns=columns or {},
        descriptions=descriptions or {},
    )
