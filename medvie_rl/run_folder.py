"""Where a run's directory may lie, and that it is nobody else's."""

import fcntl
import shutil
import time
from pathlib import Path
from typing import IO

from medvie_rl.checkpoints import Checkpoints
from medvie_rl.config import Config, load_config
from medvie_rl.errors import ConfigError

_RAY_PACKAGES = "working_dir_files"  # where Ray unpacks the working directory of a job
FOLDERS = ("rollouts", "evaluations", "checkpoints")
_LOCK = ".lock"
# What a run makes before its first checkpoint: before it has a config.yaml, and after. Patterns of Path.glob.
_WITHOUT_CONFIG = (*FOLDERS, _LOCK, ".config.yaml.partial")
_BEFORE_CHECKPOINT = (
    *_WITHOUT_CONFIG, "config.yaml", "config-step-0*.yaml", "inputs.json", "metrics.jsonl", "wandb", "failures",
    ".config*.yaml.partial", ".inputs.json.partial", ".metrics.jsonl.partial", "checkpoints/.step-*",
    "rollouts/step-*.parquet", "rollouts/.step-*", "evaluations/*.json", "evaluations/.*.json.partial",
    "report.html", ".report.html.partial",
)  # fmt: skip


def new_folder(config: Config) -> Path:
    """Make the folder of a new run below `output_dir`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = output_folder(config.output_dir) / f"{config.name}-seed{config.seed}-{stamp}"
    for folder in (base, *(base.with_name(f"{base.name}-{attempt}") for attempt in range(1, 1000))):
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise ConfigError(f"{base}: a thousand runs of this name were started in this second; set another name")


def output_folder(output_dir: str | Path) -> Path:
    """A relative folder lies below the current one; in a submitted job, whose own folder is temporary, below home."""
    in_job_package = _RAY_PACKAGES in Path.cwd().parts
    return (Path.home() / "medvie" if in_job_package else Path.cwd()) / output_dir


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a run in the folder that can be gone on with."""
    return bool(Checkpoints(folder / "checkpoints", keep=1).folders())


def check_is_free(folder: Path) -> None:
    """Raise ConfigError unless the folder is new, empty, or of a run that has no checkpoint and nothing else in it."""
    if has_checkpoint(folder):
        raise ConfigError(f"{folder}: there is a run with checkpoints; go on with it, or name another folder")
    refusal = f"{folder}: not the directory of a run without checkpoint"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{refusal}; name another folder")
    config = folder / "config.yaml"
    known = {
        path
        for pattern in (_BEFORE_CHECKPOINT if config.is_file() else _WITHOUT_CONFIG)
        for path in folder.glob(pattern)
    }
    found = {*folder.glob("*"), *(path for name in FOLDERS for path in (folder / name).glob("*"))}
    if found - known:
        raise ConfigError(f"{refusal}, but it holds {min(found - known).relative_to(folder)}; name another folder")
    if config.is_file():
        try:
            load_config(config)
        except ConfigError as error:
            raise ConfigError(
                f"{refusal}, but its config.yaml is none of a run ({error}); name another folder"
            ) from error


def clear(folder: Path) -> None:
    """Remove what a run left, its config.yaml at the end: if this is cut short, it is still known as a run."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.yaml"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # actors of a run that was killed may still write into it
        elif path.name != _LOCK:
            path.unlink(missing_ok=True)


def lock(folder: Path) -> IO[bytes]:
    """Held as long as the run's object lives: two processes must not write the same run."""
    file = (folder / _LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: another process works on this run; wait until it has ended") from error
    return file
