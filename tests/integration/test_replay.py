"""A recorded run, learned from again, gives the same numbers to the bit; a record that was changed does not."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medvie_rl.records import read_records, write_records
from runs import metrics_of, only_run, records_of, run_to_end, train_command, without_times

# Sampled ahead, so that the sampler's logprobs weigh in the loss.
SHORT = (
    "num_steps=3", "queries_per_step=4", "num_traces=4", "pipeline_depth=1", "data.num_validation=4", "data.num_test=4",
    "evaluation.every=0", "evaluation.bootstrap_samples=50", "checkpoint.every=0", "rollout.num_workers=1",
    "rollout.num_threads=2", "wandb.mode=disabled",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    output_dir = tmp_path_factory.mktemp("recorded")
    run_to_end(train_command(output_dir, *SHORT))
    return only_run(output_dir)


def replay(run: Path, output_dir: Path) -> tuple[Path, str]:
    """Replay a run with its own configuration; the new run's folder and what it printed."""
    output = run_to_end(train_command(output_dir, "--replay", str(run), config=str(run / "config.yaml")))
    return only_run(output_dir), output


def test_a_replay_learns_the_same_to_the_bit(recorded_run: Path, tmp_path: Path) -> None:
    folder, _ = replay(recorded_run, tmp_path)
    found, expected = metrics_of(folder), metrics_of(recorded_run)
    assert without_times(found) == without_times(expected)
    assert [entry["step"] for entry in found] == [0, 1, 2, 3]
    assert all("loss/loss" in entry and entry["loss/importance_weight"] != 1 for entry in found[2:])
    assert records_of(folder) == records_of(recorded_run)


def test_a_changed_logprob_changes_the_loss_and_a_replay_ends_with_the_records(
    recorded_run: Path, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    shutil.copytree(recorded_run, planted, ignore=shutil.ignore_patterns("best", "checkpoints"))
    (planted / "rollouts" / "step-000003.parquet").unlink()
    path = planted / "rollouts" / "step-000002.parquet"
    records = read_records(path)
    rewards = {
        query: {record.reward for record in records if record.query == query} for query in {r.query for r in records}
    }
    chosen = next(index for index, record in enumerate(records) if len(rewards[record.query]) > 1)
    logprobs = records[chosen].sampler_logprobs
    assert logprobs is not None
    records[chosen] = replace(records[chosen], sampler_logprobs=(logprobs[0] - 0.25, *logprobs[1:]))
    write_records(path, records)

    folder, output = replay(planted, tmp_path / "runs")
    found, expected = without_times(metrics_of(folder)), without_times(metrics_of(recorded_run))
    assert found[:2] == expected[:2] and [entry["step"] for entry in found] == [0, 1, 2]
    assert found[2]["loss/loss"] != expected[2]["loss/loss"]
    assert found[2]["loss/importance_weight"] > expected[2]["loss/importance_weight"]
    assert found[2]["reward/mean"] == expected[2]["reward/mean"]
    assert f"stopped after step 2: {planted} recorded no more steps" in output


def test_scoring_again_changes_no_reward(recorded_run: Path) -> None:
    command = [sys.executable, "-m", "medvie_rl", "rollouts", str(recorded_run), "--rescore", "--json"]
    found = json.loads(run_to_end(command))
    assert (found["all"]["num_responses"], found["all"]["num_changed"]) == (3 * 4 * 4, 0)
    assert [step["reward"][1] for step in found["steps"]] == [
        entry["reward/mean"] for entry in metrics_of(recorded_run)[1:]
    ]
    changed = json.loads(run_to_end([*command[:-1], "reward.format_weight=0.3", "--json"]))
    assert changed["all"]["num_changed"] > 0
