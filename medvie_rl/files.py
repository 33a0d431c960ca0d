"""Writing where somebody else's files may lie, and where a reader may come before the end."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from medvie_rl.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a text or bytes so that `path` holds all of it or what it held before; raises OSError where it cannot be
    written."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def sync_file(path: Path) -> None:
    """Bring what was written to a file to the disk, if it is there."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def check_new_folder(path: Path) -> None:
    """Raise UserError unless `path` is free for a new folder: it is not there, or an empty folder."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: this link leads nowhere; name a new folder")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{path}: no folder can be made there, for {above} is a file; name another one")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: this folder is not empty; name a new one")


@contextlib.contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A name beside `path` for a new folder, which takes its place at the end of the context, or goes if that fails.

    `path` must be free (see check_new_folder).
    """
    target = path.resolve()
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
