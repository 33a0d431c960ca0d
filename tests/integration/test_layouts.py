"""More ranks and workers, other documents: the same loop."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from medvie_rl.data.importing import import_folder
from rewards.schema import load_schema
from runs import (
    LOOPBACK,
    ROOT,
    SMALL,
    assert_same_run,
    at_step,
    learned,
    listening,
    metrics_of,
    only_run,
    processes_titled,
    records_of,
    run_to_end,
    share_of_equal_tokens,
    summary_of,
    train_command,
)

REAL = ROOT.parent / "shared" / "real_documents" / "vaipe_prescriptions_vi"
TWO_BY_TWO = (
    *SMALL,
    "num_steps=4",
    "learner.num_ranks=2",
    "learner.zero_stage=3",
    "learner.num_threads=1",
    "rollout.num_workers=2",
    "rollout.num_threads=1",
)


@pytest.fixture(scope="module")
def two_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two ranks under ZeRO-3 and two engines."""
    output_dir = tmp_path_factory.mktemp("two_by_two")
    run_to_end(train_command(output_dir, *TWO_BY_TWO))
    return only_run(output_dir)


def test_two_ranks_under_zero3_and_two_engines_learn_what_one_of_each_does(
    two_by_two: Path, small_run: Path, tmp_path: Path
) -> None:
    metrics = metrics_of(two_by_two)
    assert [entry["step"] for entry in metrics] == [0, 1, 2, 3, 4]
    for entry in metrics[1:]:
        assert entry["loss/sampler_logprob_difference_max"] < 1e-4
        assert entry["loss/gradient_norm"] > 0

    replay = (*SMALL, "num_steps=4", "--replay", str(two_by_two))
    run_to_end(train_command(tmp_path, *replay))
    replayed = metrics_of(only_run(tmp_path))
    for ours, theirs in zip(learned(metrics), learned(replayed), strict=True):
        assert len(ours) > 20 and ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)

    share = share_of_equal_tokens(records_of(two_by_two)[1], records_of(small_run)[1])
    print(f"{share:.4f} of the first step's tokens are those of a run of one rank and one engine")
    assert share > 0.95


@pytest.mark.full
def test_after_the_loss_of_a_rank_all_start_anew_within_the_run(two_by_two: Path, tmp_path: Path) -> None:
    command = train_command(tmp_path, *TWO_BY_TWO, "cluster.max_failures=1")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        at_step(process, tmp_path, step=3)
        ranks = processes_titled(psutil.Process(process.pid), "ray::LearnerWorker")
        assert len(ranks) == 2
        reached_at = listening(psutil.Process(process.pid).children(recursive=True))
        assert reached_at and reached_at <= LOOPBACK, "a run on one machine listens to nobody else"
        os.kill(ranks[1].pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "all actors start anew from the last checkpoint (failure 1 of cluster.max_failures = 1)" in said
    assert_same_run(only_run(tmp_path), two_by_two)


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason="the real documents are not beside this checkout (../shared)")
def test_real_prescriptions_train_and_evaluate(tmp_path: Path) -> None:
    schema = load_schema(ROOT / "conf/schemas/prescription_vi.yaml")
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    report = import_folder(REAL, schema, tmp_path / "data", shares=shares)
    assert report.imported == {"train": 6, "validation": 3, "test": 3}
    settings = (f"data.path={tmp_path / 'data'}", "data.num_validation=0", "data.num_test=0")
    room = ("rollout.max_model_len=1024", "rollout.max_response_tokens=256")
    run_to_end(train_command(tmp_path / "runs", *SMALL, *settings, *room, "num_steps=2"))
    summary = summary_of(only_run(tmp_path / "runs"))
    assert summary["num_eval_documents"] == 3
    assert 0 <= summary["after"]["f1"] <= 1
