"""Shared memory of this machine, where a Ray that is started here has its object store."""

import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def free_shared_memory(folder: Path = SHARED_MEMORY) -> int | None:
    """Free bytes; None where there is no such place, as on systems other than Linux: Ray falls back to files there."""
    return shutil.disk_usage(folder).free if folder.is_dir() else None
