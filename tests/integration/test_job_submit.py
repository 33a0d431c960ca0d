"""Runs through Ray's job API: the metrics of the direct run, and what a stop leaves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import RayNodes, ray_nodes

from runs import (
    SMALL,
    assert_same_run,
    metrics_of,
    newest_metrics,
    only_run,
    resume_command,
    run_to_end,
    summary_of,
    without_times,
)

JOB = ["exec", "python", "-m", "medvie_rl", "train", "--config", "conf/local.yaml", *SMALL]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """A head node on loopback, which gives jobs the time to stop that the documentation asks for."""
    patience = {"RAY_JOB_STOP_WAIT_TIME_S": "300"}
    with ray_nodes(tmp_path_factory.mktemp("head"), num_cpus=3, environment=patience) as nodes:
        yield nodes


def test_a_submitted_job_equals_the_direct_run(head: RayNodes, small_run: Path, tmp_path: Path) -> None:
    result = head.submit(job=[*JOB, f"output_dir={tmp_path}"])
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-6000:]
    assert re.search(r"step 6/6 .*validation F1", result.stdout), "progress must be readable in the job's log"
    folder = only_run(tmp_path)
    assert without_times(metrics_of(folder)) == without_times(metrics_of(small_run))
    assert summary_of(folder) == summary_of(small_run)
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["num_steps"] == 6


@pytest.mark.full
def test_a_stopped_job_leaves_a_checkpoint_to_go_on_from(head: RayNodes, small_run: Path, tmp_path: Path) -> None:
    result = head.submit("--no-wait", "--submission-id", "stopped", job=[*JOB, f"output_dir={tmp_path}"])
    assert result.returncode == 0, result.stderr
    for entry in newest_metrics(tmp_path, told=lambda: head.ray("job", "logs", "stopped").stdout):
        if entry["step"] >= 1:
            break
    head.ray("job", "stop", "stopped")
    said = head.ray("job", "logs", "stopped").stdout
    assert "SIGTERM: stopping when this step is done and a checkpoint written" in said
    folder = only_run(tmp_path)
    assert f"stopped by SIGTERM: go on with --resume {folder}" in said
    assert "stopped" in head.ray("job", "status", "stopped").stdout.lower()
    run_to_end(resume_command(folder))
    assert_same_run(folder, small_run)


@pytest.mark.full
def test_a_job_for_which_there_is_no_room_fails_and_says_what_is_missing(head: RayNodes, tmp_path: Path) -> None:
    large = ["rollout.num_workers=64", "cluster.resource_timeout_seconds=3", f"output_dir={tmp_path}"]
    result = head.submit(job=[*JOB, *large])
    assert result.returncode == 1
    assert re.search(r"error: no room for 66 actors after 3 s: needs [\d.]+ CPU, free [\d.]+ of 3", result.stdout)
