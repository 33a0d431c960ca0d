"""Running a command as a user would, watching its memory, and reading what a run of the product logged."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from medvie_rl.bench.step_settings import CONFIG
from medvie_rl.run import read_metrics

_MEMORY_SECONDS = 0.5  # between two looks at a command's memory
_ONLY_STEPS = (
    "evaluation.every=0",
    "checkpoint.every=0",
    "data.num_validation=1",
    "data.num_test=1",
    "wandb.mode=disabled",
)


class Finished(NamedTuple):
    """What a command printed, and the most memory that it and all that it started held together."""

    output: str
    peak_mib: float


def run_steps(overrides: Sequence[str], num_steps: int) -> tuple[list[dict[str, Any]], float]:
    """Train for so many steps with nothing in between; the metrics of every step, and the peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        settings = (*overrides, *_ONLY_STEPS, f"num_steps={num_steps}", f"output_dir={folder}")
        finished = run_command([sys.executable, "-m", "medvie_rl", "train", "--config", str(CONFIG), *settings])
        (run,) = Path(folder).iterdir()
        return read_steps(run), finished.peak_mib


def read_steps(run: Path) -> list[dict[str, Any]]:
    """The metrics of every step of the run in a folder."""
    return [line for line in read_metrics(run) if "time/step" in line]


def run_command(command: Sequence[str]) -> Finished:
    """Run a command to its end. Raises RuntimeError with its last words if it fails."""
    peaks: list[float] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        watch = threading.Thread(target=_watch_memory, args=(process, peaks), daemon=True)
        watch.start()
        output, _ = process.communicate()
        watch.join()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {(errors.read() or output).strip()[-2000:]}")
    return Finished(output, max(peaks, default=0.0))


def _watch_memory(process: "subprocess.Popen[str]", peaks: list[float]) -> None:
    """Proportional set sizes in MiB, summed over the process and all its descendants: shared pages count once."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for member in (root, *root.children(recursive=True)):
                try:
                    total += member.memory_full_info().pss
                except psutil.Error:
                    continue  # it ended meanwhile
        except psutil.NoSuchProcess:
            return
        peaks.append(total / 2**20)
        try:
            process.wait(_MEMORY_SECONDS)
        except subprocess.TimeoutExpired:
            continue
