"""A run that was killed and resumed ends with the numbers of one that was not."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from runs import ROOT, SMALL, metrics_of, only_run, run, run_to_end, summary_of, train_command, without_times


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(small_run: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        train_command(tmp_path, *SMALL), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    kill_after_step(process, tmp_path, step=3)  # the newest checkpoint is that of step 2
    folder = only_run(tmp_path)
    assert not (folder / "summary.json").exists()
    run_to_end([*train_command(tmp_path)[:4], "--resume", str(folder)])
    assert without_times(metrics_of(folder)) == without_times(metrics_of(small_run))
    assert summary_of(folder) == summary_of(small_run)
    first, second = [sorted((each / "rollouts").iterdir()) for each in (folder, small_run)]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_run_without_a_usable_checkpoint_does_not_begin_anew(small_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / small_run.name
    shutil.copytree(small_run, folder)
    for weights in folder.glob("checkpoints/*/deepspeed/**/*.pt"):
        weights.write_bytes(weights.read_bytes()[:-100])
    result = run([*train_command(tmp_path)[:4], "--resume", str(folder)])
    assert result.returncode == 2
    assert "none of its 2 checkpoints can be used; start a new run" in result.stderr
    assert metrics_of(folder) == metrics_of(small_run)


def kill_after_step(process: "subprocess.Popen[bytes]", output_dir: Path, *, step: int) -> None:
    """SIGKILL a run as soon as it has logged `step`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        files = list(output_dir.glob("*/metrics.jsonl"))
        if files and any(entry["step"] >= step for entry in metrics_of(files[0].parent)):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)
    raise AssertionError(f"the run did not reach step {step}")
