"""Starting real runs of the `medvie` command from tests, and reading what they leave."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from medvie_rl.records import RolloutRecord, read_records, recorded_steps

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 600
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
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


def learned(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What depends on the records and the learner alone, of the steps of a run."""
    return [
        {name: value for name, value in entry.items() if name.startswith(("loss/", "reward/"))}
        for entry in metrics
        if "reward/mean" in entry
    ]


def share_of_equal_tokens(ours: Sequence[RolloutRecord], theirs: Sequence[RolloutRecord]) -> float:
    """Of the longer of each two responses to the same query, trace by trace."""
    num_tokens = num_equal = 0
    for record, other in zip(ours, theirs, strict=True):
        assert (record.query, record.trace, record.prompt_ids) == (other.query, other.trace, other.prompt_ids)
        assert record.token_ids is not None and other.token_ids is not None
        num_tokens += max(record.num_tokens, other.num_tokens)
        num_equal += sum(a == b for a, b in zip(record.token_ids, other.token_ids, strict=False))
    return num_equal / num_tokens


def at_step(process: "subprocess.Popen[Any]", output_dir: Path, *, step: int) -> None:
    """Wait until the run in `output_dir` has done a step."""
    for entry in newest_metrics(output_dir, told=lambda: f"the run did not come to step {step}"):
        if entry["step"] >= step:
            return
        assert process.poll() is None, "the run ended before"


def newest_metrics(
    output_dir: Path, *, told: Callable[[], str], seconds: float = TIMEOUT_SECONDS
) -> Iterator[dict[str, Any]]:
    """The newest metrics of the run in `output_dir`, again and again; step -1 before there are any. Fails after
    `seconds`, with what `told` returns then."""
    deadline = time.monotonic() + seconds
    while True:
        yield next((entry for run in output_dir.glob("*") for entry in reversed(metrics_of(run))), {"step": -1})
        assert time.monotonic() < deadline, told()
        time.sleep(0.01)


def processes_titled(root: psutil.Process, title: str) -> list[psutil.Process]:
    """Those that `root` has started, by the beginning of their command line."""
    return [process for process in root.children(recursive=True) if title_of(process).startswith(title)]


def listening(processes: Sequence[psutil.Process]) -> set[str]:
    """The addresses at which others can reach them."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = process.net_connections("inet")
            found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def title_of(process: psutil.Process) -> str:
    """Its command line; empty if it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
