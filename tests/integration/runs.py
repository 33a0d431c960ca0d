"""Starting real runs of the `medvie` command from tests, and reading what they leave."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvie_rl.records import RolloutRecord, read_records, recorded_steps

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 600
# A run of the shipped configuration, made small: about a minute on two cores, most of it starting.
SMALL = (
    "num_steps=6",
    "queries_per_step=6",
    "num_traces=4",
    "data.num_validation=12",
    "data.num_test=16",
    "evaluation.every=2",
    "evaluation.bootstrap_samples=200",
    "checkpoint.every=2",
    "rollout.num_workers=1",
    "rollout.num_threads=2",
    "learner.num_ranks=1",
    "learner.num_threads=2",
)


def train_command(output_dir: Path, *overrides: str, config: str = "conf/local.yaml") -> list[str]:
    """The command line of a run whose directory will lie in `output_dir`."""
    return [sys.executable, "-m", "medvie_rl", "train", "--config", config, f"output_dir={output_dir}", *overrides]


def run(command: list[str], *, seconds: float = TIMEOUT_SECONDS) -> "subprocess.CompletedProcess[str]":
    """Run a command in the repository."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


def run_to_end(command: list[str], *, seconds: float = TIMEOUT_SECONDS) -> str:
    """Run a command that must succeed; its output, which is shown if it fails."""
    result = run(command, seconds=seconds)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return result.stdout


def only_run(output_dir: Path) -> Path:
    """The one run directory in `output_dir`."""
    (folder,) = output_dir.iterdir()
    return folder


def restartable_command(folder: Path, *overrides: str, config: str = "conf/local.yaml") -> list[str]:
    """The command line of a run in `folder`, which goes on with it when given again."""
    command = [sys.executable, "-m", "medvie_rl", "train", "--config", config, "--resume-if-exists", str(folder)]
    return [*command, *overrides]


def resume_command(folder: Path, *overrides: str) -> list[str]:
    """The command line that goes on with a run."""
    return [sys.executable, "-m", "medvie_rl", "train", "--resume", str(folder), *overrides]


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The logged metrics of a run, none if it has not got that far."""
    path = folder / "metrics.jsonl"
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = content[: content.rfind("\n") + 1]  # the last line of a run that goes on may be half written
    return [json.loads(line) for line in whole.splitlines()]


def without_times(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics that the determinism contract covers: all but times and memory."""
    return [
        {name: value for name, value in entry.items() if not name.startswith(("time/", "memory/"))} for entry in metrics
    ]


def summary_of(folder: Path) -> dict[str, Any]:
    """summary.json without the seconds."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary.pop("seconds")
    return summary


def assert_same_run(folder: Path, other: Path) -> None:
    """Two runs left the same numbers and records, to the bit: all but times and memory."""
    assert without_times(metrics_of(folder)) == without_times(metrics_of(other))
    assert summary_of(folder) == summary_of(other)
    assert records_of(folder) == records_of(other)
    ours, theirs = (
        {path.name: path.read_bytes() for path in (each / "evaluations").iterdir()} for each in (folder, other)
    )
    assert ours.keys() == theirs.keys()
    assert [file for file in ours if ours[file] != theirs[file]] == []


def records_of(folder: Path) -> dict[int, list[RolloutRecord]]:
    """The recorded rollouts of a run by step, without the seconds."""
    return {
        step: [replace(record, generate_seconds=0.0, score_seconds=0.0) for record in read_records(path)]
        for step, path in recorded_steps(folder).items()
    }
