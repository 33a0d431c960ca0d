"""The manifest of a checkpoint folder: size and sha256 of every file, and facts about it. No heavy imports.

It is written last, so a folder without it is not a complete checkpoint, and it holds the sha256 of its own content, so
that no byte of the folder can change unnoticed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.errors import DamagedCheckpointError

MANIFEST = "manifest.json"

FileDigest = dict[str, Any]  # {"size": bytes, "sha256": hex}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest says: `facts` are its writer's, any JSON."""

    facts: Mapping[str, Any]
    files: Mapping[str, FileDigest]  # by path relative to the folder

    def check(self, folder: Path, found: Mapping[str, FileDigest | None]) -> None:
        """Raise DamagedCheckpointError unless `found`, the digests of the files, None for a missing one, are these."""
        wrong = [
            f"{name} is missing" if found[name] is None else f"{name} was changed"
            for name, expected in sorted(self.files.items())
            if found[name] != expected
        ]
        if wrong:
            raise DamagedCheckpointError(folder, ", ".join(wrong))


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Mapping[str, FileDigest]) -> None:
    """Write the manifest, and bring it and the names of all files to the disk."""
    content: dict[str, Any] = {"facts": facts, "files": files}
    text = json.dumps(content | {"sha256": _own_digest(content)}, indent=1)
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    for directory in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_names(directory)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; raises DamagedCheckpointError if there is none or it was changed."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        content = json.loads(text)
        own = content.pop("sha256")
        manifest = Manifest(facts=dict(content["facts"]), files=dict(content["files"]))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(folder, f"{MANIFEST}, written last, is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(folder, f"{MANIFEST} is not readable ({error})") from error
    if own != _own_digest(content):
        raise DamagedCheckpointError(folder, f"{MANIFEST} was changed")
    return manifest


def files_below(folder: Path) -> list[str]:
    """The relative paths of all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def file_digests(folder: Path, names: Iterable[str], *, sync: bool = False) -> dict[str, FileDigest | None]:
    """Size and sha256 of files, None for one that is not there. `sync` brings their content to the disk as well."""
    return {name: _file_digest(folder / name, sync=sync) if (folder / name).is_file() else None for name in names}


def sync_names(directory: Path) -> None:
    """Bring the names in a directory to the disk, so that what was written or renamed there outlives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_digest(path: Path, *, sync: bool) -> FileDigest:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        size = file.tell()
        if sync:
            os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _own_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
