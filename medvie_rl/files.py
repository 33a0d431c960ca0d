"""Writing where somebody else's files may lie, and where a reader may come before the end."""

import os
from pathlib import Path

from medvie_rl.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write a text so that `path` holds all of it or what it held before; raises OSError where it cannot be written."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def check_new_folder(path: Path) -> None:
    """Raise UserError unless `path` is free for a new folder: it is not there, or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: this folder is not empty; name a new one")
