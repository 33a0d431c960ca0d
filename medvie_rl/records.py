"""Every rollout of a run with its reward and where that came from: one Parquet file a step, one row a response.

rollouts/step-N.parquet, compressed by zstd; pages carry checksums. The columns are the fields of `RolloutRecord`. Those
in `TEXTS` can hold a patient's data and take nearly all of the room; the file's metadata says if and why it has none.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medvie_rl.batch import ScoredGroup
from medvie_rl.errors import UserError
from medvie_rl.files import write_atomically
from medvie_rl.records_config import RecordsConfig
from rewards.types import AnswerStatus, LeafCounts, LeafOutcome
from rollout.types import FinishReason

FOLDER, PATTERN = "rollouts", "step-*.parquet"
TEXTS = ("response", "prompt_ids", "token_ids", "sampler_logprobs", "detail")
_VERSION = "1"
_PRIVATE, _TOO_MUCH = "records.private", "records.max_gib"  # why a file has no texts


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """One response. The fields in `TEXTS` are None where they were not kept, or not read."""

    step: int  # from 1, as in the metrics
    query: str
    document: str
    trace: int
    keys: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]  # of tables that are asked in part
    descriptions: Mapping[str, str]  # that took the place of the schema's
    reasoning: bool
    response: str | None
    prompt_ids: tuple[int, ...] | None  # [P]
    token_ids: tuple[int, ...] | None  # [R]
    sampler_logprobs: tuple[float, ...] | None  # [R]
    num_tokens: int
    finish_reason: FinishReason
    weight_version: int
    reward: float
    components: Mapping[str, float]
    precision: float
    recall: float
    status: AnswerStatus
    detail: str | None
    faults: tuple[str, ...]
    counts: LeafCounts
    outcomes: tuple[tuple[str, LeafOutcome], ...]  # of every leaf, by key
    generate_seconds: float  # of the whole step
    score_seconds: float

    @property
    def id(self) -> tuple[int, str, int]:
        """Unique in a run."""
        return self.step, self.query, self.trace


_INTS, _FLOATS, _STRINGS = pa.list_(pa.int32()), pa.list_(pa.float64()), pa.list_(pa.string())
_SCHEMA = pa.schema(
    {
        "step": pa.int32(), "query": pa.string(), "document": pa.string(), "trace": pa.int32(), "keys": _STRINGS,
        "columns": pa.map_(pa.string(), _STRINGS), "descriptions": pa.map_(pa.string(), pa.string()),
        "reasoning": pa.bool_(), "response": pa.string(), "prompt_ids": _INTS, "token_ids": _INTS,
        "sampler_logprobs": _FLOATS, "num_tokens": pa.int32(), "finish_reason": pa.string(),
        "weight_version": pa.int64(), "reward": pa.float64(), "components": pa.map_(pa.string(), pa.float64()),
        "precision": pa.float64(), "recall": pa.float64(), "status": pa.string(), "detail": pa.string(),
        "faults": _STRINGS, "counts": pa.struct({item.name: pa.int32() for item in fields(LeafCounts)}),
        "outcomes": pa.list_(pa.struct({"key": pa.string(), "outcome": pa.string()})),
        "generate_seconds": pa.float64(), "score_seconds": pa.float64(),
    }
)  # fmt: skip
assert _SCHEMA.names == [item.name for item in fields(RolloutRecord)]


def rollout_records(
    step: int, groups: Sequence[ScoredGroup], seconds: Mapping[str, float] | None = None
) -> list[RolloutRecord]:
    """Every response of a step; `seconds` by phase, of which those of generation and score are kept."""
    seconds = seconds or {}
    return [
        RolloutRecord(
            step=step,
            query=group.query.id,
            document=group.query.document.id,
            trace=trace,
            keys=group.query.keys,
            columns=group.query.columns,
            descriptions=group.query.descriptions,
            reasoning=group.query.reasoning,
            response=rollout.text,
            prompt_ids=group.group.prompt_ids,
            token_ids=rollout.token_ids,
            sampler_logprobs=rollout.logprobs,
            num_tokens=len(rollout.token_ids),
            finish_reason=rollout.finish_reason,
            weight_version=rollout.weight_version,
            reward=score.reward,
            components=score.components,
            precision=score.precision,
            recall=score.recall,
            status=score.status,
            detail=score.detail,
            faults=score.faults,
            counts=score.counts,
            outcomes=tuple((leaf.key, leaf.outcome) for leaf in score.leaves),
            generate_seconds=seconds.get("generation", 0.0),
            score_seconds=seconds.get("score", 0.0),
        )
        for group in groups
        for trace, (rollout, score) in enumerate(zip(group.group.rollouts, group.scores, strict=True))
    ]


def without_texts(record: RolloutRecord) -> RolloutRecord:
    """What may be kept of a record in private."""
    nothing: dict[str, Any] = dict.fromkeys(TEXTS)
    return replace(record, **nothing)


def as_json(record: RolloutRecord) -> dict[str, Any]:
    """A record as JSON holds it."""
    content = {item.name: getattr(record, item.name) for item in fields(record)}
    return content | {"counts": asdict(record.counts)}


class RecordWriter:
    """Writes the records of a run, bounded as the configuration says."""

    def __init__(self, folder: Path, config: RecordsConfig) -> None:
        self._folder = folder
        self._config = config
        self._without_texts: set[Path] = set()
        self._told: set[str] = set()
        self.notice: Callable[[str], None] = print  # told once when texts, and once when files are given up

    def write(self, step: int, records: Sequence[RolloutRecord]) -> None:
        """Write a step, in the place of what is there of it; then give up what is too much of the steps before."""
        path = self._folder / f"step-{step:06d}.parquet"
        self._without_texts.discard(path)
        if self._config.private:
            write_records(path, map(without_texts, records), texts_left_out=_PRIVATE)
        else:
            write_records(path, records)
        self._give_up_oldest(path)

    def _give_up_oldest(self, newest: Path) -> None:
        sizes = {path: path.stat().st_size for path in sorted(self._folder.glob(PATTERN))}
        too_much = sum(sizes.values()) - self._config.max_gib * 2**30
        older = [path for path in sizes if path != newest]
        for path in older:
            if too_much <= 0:
                return
            if path not in self._without_texts and not texts_left_out(path):
                self._tell("responses, tokens and logprobs of the oldest steps are given up; their numbers stay", path)
                write_records(path, map(without_texts, read_records(path)), texts_left_out=_TOO_MUCH)
                too_much -= sizes[path] - path.stat().st_size
                sizes[path] = path.stat().st_size
            self._without_texts.add(path)
        for path in older:
            if too_much <= 0:
                return
            self._tell("the oldest steps are given up", path)
            path.unlink()
            too_much -= sizes[path]

    def _tell(self, what: str, first: Path) -> None:
        if what not in self._told:
            self._told.add(what)
            size = f"{self._config.max_gib:g} GiB"
            self.notice(
                f"{self._folder} is larger than records.max_gib, {size}: from now on {what} ({first.name} first)"
            )


def write_records(path: Path, records: Iterable[RolloutRecord], *, texts_left_out: str = "") -> None:
    """Write a step's records aside and rename them; `texts_left_out` says why they have no texts."""
    about = {"medvie_records_version": _VERSION, "medvie_texts_left_out": texts_left_out}
    table = pa.Table.from_arrays(_columns(list(records)), schema=_SCHEMA.with_metadata(about))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=[name for name in _SCHEMA.names if name not in TEXTS],
        column_encoding={"sampler_logprobs.list.element": "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )
    write_atomically(path, sink.getvalue().to_pybytes())


def recorded_steps(run: Path) -> dict[int, Path]:
    """The files of a run by step, ascending.

    Raises UserError if the folder is no run, recorded no rollouts, or lacks a step between those that it has.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: not a run directory (it has no config.yaml)")
    found = {int(path.stem.removeprefix("step-")): path for path in sorted((run / FOLDER).glob(PATTERN))}
    if not found:
        raise UserError(
            f"{run}: no recorded rollouts ({FOLDER}/{PATTERN}): the run has not taken a step yet, was supervised "
            "fine-tuning, which samples nothing, or was made by another version of medvie"
        )
    for step in range(min(found), max(found)):
        if step not in found:
            raise UserError(f"{run / FOLDER}: step-{step:06d}.parquet is missing; put it back from a copy")
    return found


def records_digest(run: Path) -> str:
    """sha256 of all that a run has recorded; raises UserError as `recorded_steps` does."""
    digest = hashlib.sha256()
    for path in recorded_steps(run).values():
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def texts_left_out(path: Path) -> str:
    """The setting for which a file holds no texts, empty where it does; raises UserError for a damaged file."""
    try:
        return _check_format(path, pq.read_schema(path))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def read_records(path: Path, *, texts: bool = True) -> list[RolloutRecord]:
    """The records of a step, `texts` left unread if they are not wanted.

    Raises UserError naming the file if it is damaged or not one of ours.
    """
    names = [name for name in _SCHEMA.names if texts or name not in TEXTS]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_format(path, file.schema_arrow)
            rows = file.read(columns=names).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    return [_from_row(row) for row in rows]


def with_texts(records: Sequence[RolloutRecord], files: Mapping[int, Path]) -> list[RolloutRecord]:
    """The same records read with their texts, where these were kept. `files` are those of `recorded_steps`."""
    wanted: dict[int, set[tuple[int, str, int]]] = defaultdict(set)
    for record in records:
        wanted[record.step].add(record.id)
    found = {whole.id: whole for step, ids in wanted.items() for whole in read_records(files[step]) if whole.id in ids}
    return [found[record.id] for record in records]


def check_has_texts(files: Iterable[Path], what_for: str) -> None:
    """Raise UserError, naming the file and the setting, if one of them has no texts, which `what_for` needs."""
    for path in files:
        setting = texts_left_out(path)
        if setting:
            raise UserError(f"{path}: responses and tokens were not kept ({setting}), without which {what_for}")


def _check_format(path: Path, schema: pa.Schema) -> str:
    about = schema.metadata or {}
    version = about.get(b"medvie_records_version", b"none").decode(errors="replace")
    if version != _VERSION or not schema.equals(_SCHEMA):
        raise UserError(
            f"{path}: expected recorded rollouts of format version {_VERSION}, got {version}; another version of "
            "medvie made this file, which can read it"
        )
    left_out: bytes = about.get(b"medvie_texts_left_out", b"")
    return left_out.decode()


def _damaged(path: Path, error: Exception) -> UserError:
    what = next(iter(str(error).splitlines()), type(error).__name__)
    return UserError(f"{path}: damaged, not readable as recorded rollouts ({what}); put it back from a copy")


def _columns(records: Sequence[RolloutRecord]) -> list[pa.Array]:
    """By column, without an object for every row and leaf: that is most of what the driver of a large run does."""
    columns = []
    for field in _SCHEMA:
        values = [getattr(record, field.name) for record in records]
        if make := _MAKERS.get(field.name):
            columns.append(make(values, field.type))
        else:
            stored = _STORED.get(field.name)
            columns.append(pa.array(map(stored, values) if stored else values, type=field.type, size=len(values)))
    return columns


def _shared_lists(lists: Sequence[tuple[int, ...] | None], kind: pa.DataType) -> pa.Array:
    """Lists as a column in which one that several rows have in common, as the traces of a query their prompt, is
    converted once."""
    distinct = {id(item): item for item in lists}
    row_of = {identity: row for row, identity in enumerate(distinct)}
    rows = pa.array([row_of[id(item)] for item in lists], type=pa.int64())
    return pa.array(distinct.values(), type=kind, size=len(distinct)).take(rows)


def _counts(counts: Sequence[LeafCounts], kind: pa.DataType) -> pa.Array:
    columns = [pa.array([getattr(of_row, field.name) for of_row in counts], type=field.type) for field in kind]
    return pa.StructArray.from_arrays(columns, fields=list(kind))


def _outcomes(outcomes: Sequence[tuple[tuple[str, LeafOutcome], ...]], kind: pa.DataType) -> pa.Array:
    leaf = list(kind.value_type)
    columns = [
        pa.array([pair[place] for of_row in outcomes for pair in of_row], type=field.type)
        for place, field in enumerate(leaf)
    ]
    ends = pa.array(accumulate(map(len, outcomes), initial=0), type=pa.int32())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(columns, fields=leaf), type=kind)


def _storable(text: str | None) -> str | None:
    """A half of a surrogate pair is no text: what a policy or an error may say must not end the run."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


_STORED: Mapping[str, Callable[[Any], Any]] = {
    "columns": lambda columns: list(columns.items()),
    "descriptions": lambda descriptions: list(descriptions.items()),
    "response": _storable,
    "components": lambda components: list(components.items()),
    "detail": _storable,
}  # what a field's column holds of it
_MAKERS: Mapping[str, Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    "prompt_ids": _shared_lists,
    "counts": _counts,
    "outcomes": _outcomes,
}


def _from_row(row: dict[str, Any]) -> RolloutRecord:
    def optional(name: str) -> tuple[Any, ...] | None:
        return None if row.get(name) is None else tuple(row[name])

    return RolloutRecord(
        **row
        | {
            "keys": tuple(row["keys"]),
            "columns": {key: tuple(names) for key, names in row["columns"]},
            "descriptions": dict(row["descriptions"]),
            "response": row.get("response"),
            "prompt_ids": optional("prompt_ids"),
            "token_ids": optional("token_ids"),
            "sampler_logprobs": optional("sampler_logprobs"),
            "finish_reason": FinishReason(row["finish_reason"]),
            "components": dict(row["components"]),
            "status": AnswerStatus(row["status"]),
            "detail": row.get("detail"),
            "faults": tuple(row["faults"]),
            "counts": LeafCounts(**row["counts"]),
            "outcomes": tuple((leaf["key"], LeafOutcome(leaf["outcome"])) for leaf in row["outcomes"]),
        }
    )
