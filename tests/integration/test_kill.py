"""Real runs killed at any moment, in any part, end with the numbers of one that was never interrupted."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runs import (
    ROOT,
    SMALL,
    assert_same_run,
    metrics_of,
    only_run,
    processes_titled,
    restartable_command,
    run_to_end,
    train_command,
)

PIPELINED = "pipeline_depth=1"
DEADLINE_SECONDS = 400
KillFunction = Callable[[psutil.Process], None]


@pytest.fixture(scope="module")
def pipelined_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that generates a batch ahead and was never interrupted."""
    output_dir = tmp_path_factory.mktemp("pipelined")
    run_to_end(train_command(output_dir, *SMALL, PIPELINED))
    return only_run(output_dir)


def kill_driver(driver: psutil.Process) -> None:
    """The driver alone; what it started is left to itself."""
    os.kill(driver.pid, signal.SIGKILL)


def kill_rank(driver: psutil.Process) -> None:
    """The process of the learner's only rank, among those that the driver started."""
    (rank,) = processes_titled(driver, "ray::LearnerWorker")
    os.kill(rank.pid, signal.SIGKILL)


def kill_job(driver: psutil.Process) -> None:
    """Driver, Ray and actors at once, as when a machine goes down or a scheduler takes it back."""
    for process in [driver, *driver.children(recursive=True)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it died with its parent


KILLS: dict[str, KillFunction] = {"driver": kill_driver, "rank": kill_rank, "job": kill_job}
SHORT = [("driver", "writing", 0)]
LONG = [
    (kill, moment, depth)
    for kill in KILLS
    for moment in ("anywhere", "writing")
    for depth in (0, 1)
    if (kill, moment, depth) not in SHORT
]


@pytest.mark.parametrize(
    ("kill", "moment", "depth"), [*SHORT, *(pytest.param(*each, marks=pytest.mark.full) for each in LONG)]
)
def test_a_killed_run_ends_with_the_numbers_of_an_uninterrupted_one(
    kill: str, moment: str, depth: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uninterrupted: Path = request.getfixturevalue("pipelined_run" if depth else "small_run")
    folder = tmp_path / "run"
    command = restartable_command(folder, *SMALL, *([PIPELINED] if depth else []))
    with (tmp_path / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
    started: list[psutil.Process] = []
    try:
        _wait_for(moment, folder, process, seed=f"{kill} {moment} {depth}")
        driver = psutil.Process(process.pid)
        started = driver.children(recursive=True)
        KILLS[kill](driver)
        process.wait(DEADLINE_SECONDS)
        _check_killed(kill, moment, process.returncode, folder)
        run_to_end(command)  # at once, whatever is left of the first
    finally:
        process.kill()
        for left_over in started:
            if left_over.is_running():
                left_over.kill()
    assert_same_run(folder, uninterrupted)
    assert not list(folder.glob("checkpoints/.*"))


def _check_killed(kill: str, moment: str, returncode: int, folder: Path) -> None:
    assert not (folder / "summary.json").exists()
    if kill == "rank":
        assert returncode == 1 and "an actor died" in (folder.parent / "errors.txt").read_text(encoding="utf-8")
        return
    assert returncode == -signal.SIGKILL
    if moment == "writing":
        assert list(folder.glob("checkpoints/.step-*.partial")), "the checkpoint was complete before the kill"


@pytest.mark.full
def test_a_run_killed_before_its_first_checkpoint_is_begun_anew(small_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = restartable_command(folder, *SMALL)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in _watch(process):
        if (folder / "inputs.json").is_file():
            break
    kill_job(psutil.Process(process.pid))
    process.wait()
    assert not list(folder.glob("checkpoints/*"))
    run_to_end(command)
    assert_same_run(folder, small_run)


def _wait_for(moment: str, folder: Path, process: "subprocess.Popen[bytes]", *, seed: str) -> None:
    """Wait for a moment that is drawn at random: after a step, or while a checkpoint after the first is written."""
    chance = random.Random(seed)
    step, seconds = chance.choice((2, 3)), chance.uniform(0.0, 2.0)
    print(f"seed {seed!r}: killed {f'{seconds:.2f} s after' if moment == 'anywhere' else 'while saving'} step {step}")
    for _ in _watch(process):
        if moment == "anywhere":
            if any(entry["step"] >= step for entry in metrics_of(folder)):
                time.sleep(seconds)
                return
        elif list(folder.glob("checkpoints/.step-00000[2-6]*.partial")):
            return


def _watch(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the run ended before it could be killed: {process.communicate()}"
        yield
        time.sleep(0.002)
    process.kill()
    raise AssertionError("the run did not come to the moment at which it is killed")
