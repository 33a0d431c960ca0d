"""Reasoning traces that demonstrations are made of: from a JSONL file, or from the responses that a run recorded.

A line of the file is one trace; a document may have several:

    {"document": "visit-007", "reasoning": "Patient: Ana Silva\\nBorn 02.03.1961", "keys": ["patient", "born"]}

`keys`, which may be left out, are the keys that the reasoning is about: they are asked for then, in that order.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from medvie_rl.data.store import Document
from medvie_rl.errors import ConfigError, UserError, did_you_mean
from medvie_rl.records import RolloutRecord, check_has_texts, read_records, recorded_steps, records_digest
from rewards.parsing import REASONING_END, REASONING_START
from rewards.schema import Schema
from rollout.types import FinishReason

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningTrace:
    """What to think about a document before its annotation is given. Without `keys` those that the query draws."""

    text: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedResponse:
    """A whole response that a policy gave, and the query that it was given to."""

    text: str
    keys: tuple[str, ...]
    reasoning: bool
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)


Trace = ReasoningTrace | RecordedResponse
Traces = dict[str, list[Trace]]
"""By the id of the document."""


def read_traces(
    source: Path,
    documents: Mapping[str, Document],
    schemas: Mapping[str, Schema],
    *,
    min_reward: float,
    modes: Collection[bool] = (True, False),
) -> Traces:
    """The traces of a file or a run directory.

    Of a run: for every query its response with the highest reward, the first of several, if that is at least
    `min_reward` and was not cut off. Only queries with reasoning (True) or without (False) as in `modes`. `documents`
    are those of the training split by id. Raises UserError, naming file and line or response, for what cannot be used,
    and for a run that did not keep the responses of every step that it has recorded.
    """
    _check_exists(source)
    traces: Traces = {}
    if source.is_dir():
        for where, record in _best_responses(source, min_reward, modes):
            document = _document(where, record.document, documents)
            trace = _recorded_response(record)
            _check_keys(where, trace.keys, schemas[document.schema])
            traces.setdefault(document.id, []).append(trace)
        if not traces:
            raise ConfigError(
                f"sft.traces: no response that {source} recorded has a reward of at least {min_reward:g} and is of the "
                "kind that queries.reasoning_fraction asks for; lower sft.min_reward"
            )
        return traces
    for where, entry in _lines(source):
        trace_of = _reasoning_trace(where, entry)
        document = _document(where, entry["document"], documents)
        _check_keys(where, trace_of.keys, schemas[document.schema])
        traces.setdefault(document.id, []).append(trace_of)
    if not traces:
        raise ConfigError(f"sft.traces: {source} has no lines")
    return traces


def traces_digest(source: Path) -> str:
    """sha256 of the file, or of all rollouts that the run has recorded. Raises ConfigError if there is neither."""
    _check_exists(source)
    if source.is_dir():
        return _of_run(records_digest, source)
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_exists(source: Path) -> None:
    if not source.exists():
        raise ConfigError(f"sft.traces: there is no file or run directory {source}")


def _of_run(read: Callable[[Path], T], run: Path) -> T:
    try:
        return read(run)
    except UserError as error:
        raise ConfigError(f"sft.traces: {error}") from error


def _best_responses(run: Path, min_reward: float, modes: Collection[bool]) -> Iterator[tuple[str, RolloutRecord]]:
    files = _of_run(recorded_steps, run).values()
    check_has_texts(files, "sft.traces cannot learn from the run")
    for file in files:
        best: dict[str, RolloutRecord] = {}
        for record in read_records(file):
            if record.finish_reason is not FinishReason.STOP or record.reasoning not in modes:
                continue
            leader = best.get(record.query)
            if leader is None or record.reward > leader.reward:
                best[record.query] = record
        for record in best.values():
            if record.reward >= min_reward:
                yield f"{file}, query {record.query}", record


def _recorded_response(record: RolloutRecord) -> RecordedResponse:
    assert record.response is not None  # see check_has_texts
    return RecordedResponse(
        text=record.response,
        keys=record.keys,
        reasoning=record.reasoning,
        columns=record.columns,
        descriptions=record.descriptions,
    )


def _reasoning_trace(where: str, entry: Mapping[str, Any]) -> ReasoningTrace:
    unknown = sorted(entry.keys() - {"document", "reasoning", "keys"})
    if unknown:
        raise ConfigError(f"{where}: expected document, reasoning and perhaps keys, got {unknown[0]!r}")
    for name in ("document", "reasoning"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise ConfigError(f"{where}: {name!r} must be a text, got {entry.get(name)!r}")
    for tag in (REASONING_START, REASONING_END):
        if tag in entry["reasoning"]:
            raise ConfigError(f"{where}: 'reasoning' is what stands between the tags; leave {tag} out")
    keys = entry.get("keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise ConfigError(f"{where}: 'keys' must be a list of different keys, got {keys!r}")
    return ReasoningTrace(text=entry["reasoning"].strip(), keys=tuple(keys))


def _document(where: str, name: str, documents: Mapping[str, Document]) -> Document:
    if name not in documents:
        raise ConfigError(f"{where}: the training split has no document {name!r}{did_you_mean(name, documents)}")
    return documents[name]


def _check_keys(where: str, keys: Collection[str], schema: Schema) -> None:
    for key in keys:
        if key not in schema.keys:
            raise ConfigError(f"{where}: schema {schema.name!r} has no key {key!r}{did_you_mean(key, schema.keys)}")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON object of a JSONL file with the place where it stands, for messages."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}: not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: expected a JSON object, got {line.strip()[:60]!r}")
        yield where, entry
