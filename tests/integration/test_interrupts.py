"""A signal lets the step end, leaves a checkpoint and nothing else behind; the run then goes on as if undisturbed."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from runs import ROOT, SMALL, assert_same_run, metrics_of, restartable_command, run_to_end

_SECONDS = 300


@pytest.mark.parametrize(
    ("number", "returncode"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.full)],
)
def test_a_stopped_run_goes_on(number: signal.Signals, returncode: int, small_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = restartable_command(folder, *SMALL)
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
    gone, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "the run left processes behind"
    run_to_end(command)
    assert_same_run(folder, small_run)
