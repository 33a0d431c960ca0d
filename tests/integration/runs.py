"""Starting real runs of the `medvie` command from tests, and reading what they leave."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
)


def train_command(output_dir: Path, *overrides: str, config: str = "conf/local.yaml") -> list[str]:
    """The command line of a run whose directory will lie in `output_dir`."""
    return [sys.executable, "-m", "medvie_rl", "train", "--config", config, f"output_dir={output_dir}", *overrides]


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command in the repository."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


def run_to_end(command: list[str]) -> str:
    """Run a command that must succeed; its output, which is shown if it fails."""
    result = run(command)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return result.stdout


def only_run(output_dir: Path) -> Path:
    """The one run directory in `output_dir`."""
    (folder,) = output_dir.iterdir()
    return folder


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The logged metrics of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


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
