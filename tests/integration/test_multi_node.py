"""A run over several nodes, submitted as a job; two of the nodes break down on the way."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_nodes import RayNodes, can_be_apart, ray_nodes

from runs import (
    SMALL,
    learned,
    metrics_of,
    newest_metrics,
    only_run,
    records_of,
    run_to_end,
    share_of_equal_tokens,
    train_command,
)

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

SECONDS = 900
SPREAD = (
    *SMALL,
    "num_steps=24",
    "evaluation.every=12",
    "checkpoint.every=3",
    "learner.num_ranks=2",
    "learner.num_threads=1",
    "learner.zero_stage=3",
    "rollout.num_workers=2",
    "rollout.num_threads=1",
    "cluster.learner_cpus=1",
    "cluster.rollout_cpus=1",
    "cluster.max_failures=1",
)
SOON = {  # Ray takes a node for dead after 3 s without a sign of life
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@pytest.mark.skipif(not can_be_apart(), reason="nodes with mounts of their own need `unshare --mount` (root)")
def test_a_job_over_five_nodes_survives_the_loss_of_an_engines_and_of_a_ranks_node(
    small_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "nodes").mkdir()
    with ray_nodes(tmp_path / "nodes", num_cpus=1, apart=True, environment=SOON) as nodes:
        for _ in range(4):
            nodes.add(num_cpus=1)  # room for one rank or engine each
        job = [
            "exec",
            "python",
            "-m",
            "medvie_rl",
            "train",
            "--config",
            "conf/local.yaml",
            f"output_dir={tmp_path / 'runs'}",
        ]
        result = nodes.submit("--no-wait", "--submission-id", "spread", job=[*job, *SPREAD])
        assert result.returncode == 0, result.stderr

        _wait_for(nodes, tmp_path, lambda entry: entry["step"] >= 2)
        ranks, engines = nodes.holding("ray::LearnerWorker"), nodes.holding("ray::RolloutWorker")
        assert not {node.pid for node in ranks} & {node.pid for node in engines}, "a node has one CPU"
        assert len(ranks) + len(engines) >= 3, "and the head one, too"
        _replace(nodes, engines[0])
        _wait_for(nodes, tmp_path, lambda entry: entry.get("rollout/live_workers") == 1)
        _wait_for(nodes, tmp_path, lambda entry: entry.get("rollout/live_workers") == 2)

        _replace(nodes, nodes.holding("ray::LearnerWorker")[0])
        deadline = time.monotonic() + SECONDS
        while "succeeded" not in (status := nodes.ray("job", "status", "spread").stdout):
            assert "failed" not in status and time.monotonic() < deadline, nodes.ray("job", "logs", "spread").stdout
            time.sleep(2)
        said = nodes.ray("job", "logs", "spread").stdout
    assert re.search(r"rollout worker \d is lost .*; starting another, going on with 1 of 2", said)
    assert re.search(r"rollout worker \d is back", said)
    assert "all actors start anew from the last checkpoint (failure 1 of cluster.max_failures = 1)" in said

    folder = only_run(tmp_path / "runs")
    steps = [entry for entry in metrics_of(folder) if "reward/mean" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 25))
    replay = ("--replay", str(folder), "learner.num_ranks=1", "learner.zero_stage=1", "learner.num_threads=2")
    run_to_end(train_command(tmp_path / "again", *replay, config=str(folder / "config.yaml")))
    replayed = learned(metrics_of(only_run(tmp_path / "again")))
    for ours, theirs in zip(learned(steps), replayed, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-4)

    share = share_of_equal_tokens(records_of(folder)[1], records_of(small_run)[1])
    print(f"{share:.4f} of the first step's tokens are those of a run on one node")
    assert share > 0.95


def _replace(nodes: RayNodes, node: psutil.Process) -> None:
    nodes.break_down(node)
    nodes.add(num_cpus=1)


def _wait_for(nodes: RayNodes, folder: Path, reached: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the newest metrics are so."""
    for entry in newest_metrics(
        folder / "runs", told=lambda: nodes.ray("job", "logs", "spread").stdout, seconds=SECONDS
    ):
        if reached(entry):
            return
