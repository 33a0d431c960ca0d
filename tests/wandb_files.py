"""Reading what W&B's client wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2


def history_of(folder: Path) -> dict[int, dict[str, Any]]:
    """What the one `.wandb` file in a folder of W&B holds, by step."""
    logged: dict[int, dict[str, Any]] = {}
    for record in _records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            logged.setdefault(record.history.step.num, {}).update(
                {name: json.loads(value) for name, value in items.items()}
            )
    return logged


def artifacts_of(folder: Path) -> list[Any]:
    """The artifacts that it holds: ArtifactRecord of W&B's protocol."""
    return [record.artifact for record in _records(folder) if record.WhichOneof("record_type") == "artifact"]


def _records(folder: Path) -> Iterator[Any]:
    (file,) = folder.glob("run-*.wandb")
    for data in _leveldb_records(file.read_bytes()):
        yield wandb_internal_pb2.Record.FromString(data)


def _leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    record, position = b"", 7
    while position + 7 <= len(content):
        room = 32_768 - position % 32_768  # a record does not straddle blocks
        if room < 7:
            position += room
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
