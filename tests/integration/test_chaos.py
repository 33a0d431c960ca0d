"""A real run on a cluster that misbehaves: engines killed and stopped as they sample, a full object store."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from runs import ROOT, SMALL, metrics_of, records_of, train_command

pytestmark = pytest.mark.full

_STORE_BYTES = 128 * 2**20
_SECONDS = 900
_TWO_ENGINES = ("rollout.num_workers=2", "rollout.num_threads=1", "evaluation.every=0", "checkpoint.every=3")


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster whose object store is full of what somebody else keeps there."""
    shared_memory = set(os.listdir("/dev/shm"))
    context = ray.init(num_cpus=4, object_store_memory=_STORE_BYTES, include_dashboard=False, log_to_driver=False)
    kept = [ray.put(np.zeros(10 * 2**20, np.uint8)) for _ in range(_STORE_BYTES // (10 * 2**20) - 1)]
    yield context.address_info["address"]
    assert len(kept) > 8
    ray.shutdown()
    assert set(os.listdir("/dev/shm")) <= shared_memory, "segments were left behind"


def test_a_run_survives_killed_and_stopped_engines_and_a_full_object_store(cluster: str, tmp_path: Path) -> None:
    settings = (*SMALL, *_TWO_ENGINES, f"cluster.address={cluster}", "cluster.call_seconds=45")
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(train_command(tmp_path / "runs", *settings), cwd=ROOT, stdout=file, stderr=file)
    try:
        _at(process, tmp_path, step=1)
        os.kill(_engine_at_work(process).pid, signal.SIGKILL)
        _at(process, tmp_path, step=3)
        os.kill(_engine_at_work(process).pid, signal.SIGSTOP)
        assert process.wait(_SECONDS) == 0, log.read_text(encoding="utf-8")[-5000:]
    finally:
        process.kill()
    said = log.read_text(encoding="utf-8")
    assert said.count("is lost") == 2 and "an actor died" in said and "by the deadline" in said
    (folder,) = (tmp_path / "runs").iterdir()
    steps = [entry for entry in metrics_of(folder) if "reward/mean" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["rollout/lost_workers"] == 2
    planned = [(f"train-{position}", trace) for position in range(36) for trace in range(4)]
    records = [record for _, of_step in sorted(records_of(folder).items()) for record in of_step]
    assert [(record.query, record.trace) for record in records] == planned
    deadline = time.monotonic() + 30
    while (left := _engines()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, "engines of the run are still there"


def _at(process: "subprocess.Popen[bytes]", folder: Path, *, step: int) -> None:
    """Wait until the run has done a step."""
    deadline = time.monotonic() + _SECONDS
    while not any(entry["step"] >= step for run in folder.glob("runs/*") for entry in metrics_of(run)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def _engine_at_work(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """An engine in the middle of sampling."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        for engine in _engines():
            if _title(engine).startswith("ray::RolloutWorker.generate"):
                time.sleep(0.1)
                return engine
    raise AssertionError("no engine was seen sampling")


def _engines() -> list[psutil.Process]:
    return [child for child in psutil.process_iter() if _title(child).startswith("ray::RolloutWorker")]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""
