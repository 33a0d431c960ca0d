"""A signal lets the step end, leaves a checkpoint and nothing else behind; the run then goes on as if undisturbed."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from runs import ROOT, SMALL, assert_same_run, metrics_of, restartable_command, run_to_end

_SECONDS = 300


def test_a_stopped_run_goes_on(small_run: Path, tmp_path: Path) -> None:
    command = restartable_command(tmp_path / "run", *SMALL)
    stop_and_go_on(command, tmp_path / "run", signal.SIGTERM, 143)
    assert_same_run(tmp_path / "run", small_run)


def test_a_run_that_is_terminated_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    command = restartable_command(tmp_path / "run", *SMALL)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.startswith("starting rollout engines") for line in process.stdout)
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 143 and errors.endswith("stopped by SIGTERM\n")
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "the run left processes behind"


@pytest.mark.full
def test_so_does_one_that_replaces_groups_and_generates_ahead(tmp_path: Path) -> None:
    settings = (*SMALL, "dynamic_sampling.max_rounds=2", "pipeline_depth=1")
    run_to_end(restartable_command(tmp_path / "uninterrupted", *settings))
    command = restartable_command(tmp_path / "run", *settings)
    stop_and_go_on(command, tmp_path / "run", signal.SIGINT, 130)
    assert_same_run(tmp_path / "run", tmp_path / "uninterrupted")
    steps = [entry for entry in metrics_of(tmp_path / "run") if "rollout/sampled_groups" in entry]
    assert len(steps) == 6 and max(entry["rollout/sampled_groups"] for entry in steps) > 6


def stop_and_go_on(command: list[str], folder: Path, number: signal.Signals, returncode: int) -> None:
    """Stop the run after its first step by a signal, and let it go on."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + _SECONDS
    while not any(entry["step"] == 1 for entry in metrics_of(folder)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == returncode
    assert f"stopped by {number.name}: go on with --resume {folder}" in errors
    last = metrics_of(folder)[-1]["step"]
    assert last < 6 and (folder / "checkpoints" / f"step-{last:06d}" / "manifest.json").is_file()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "the run left processes behind"
    run_to_end(command)
