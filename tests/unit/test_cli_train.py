"""`medvie train`: which run is started or gone on with, and what is refused before anything starts."""

from pathlib import Path

import pytest

from learner.manifest import file_digests, files_below, write_manifest
from medvie_rl.cli import main
from medvie_rl.config import load_config
from medvie_rl.run import Run, RunState

LOCAL = ["--config", "conf/local.yaml"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with one checkpoint."""
    run = Run.create(load_config(Path("conf/local.yaml"), ["wandb.mode=disabled"]), tmp_path / "run")
    run.save(RunState(step=2), seal, {})
    return run.folder


def seal(folder: Path) -> None:
    files = {name: digest for name, digest in file_digests(folder, files_below(folder)).items() if digest}
    write_manifest(folder, {}, files)


def test_the_layout_may_change_when_a_run_goes_on(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run_dir), "--dry-run", "learner.num_ranks=2", "learner.zero_stage=3"]) == 0
    assert "2 DeepSpeed ranks" in capsys.readouterr().out
    assert main(["train", "--resume", str(run_dir), "--dry-run", "learner.learning_rate=1"]) == 2
    assert "learner.learning_rate (was 0.0001, now 1.0)" in capsys.readouterr().err


def test_a_restarted_job_goes_on_with_its_own_run_only(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--resume-if-exists", str(run_dir), "--dry-run", "wandb.mode=disabled"]
    assert main(["train", *LOCAL, *there]) == 0
    assert main(["train", *LOCAL, *there, "rollout.num_workers=2"]) == 0
    assert main(["train", *LOCAL, *there, "num_traces=4"]) == 2
    assert "num_traces (was 8, now 4)" in capsys.readouterr().err
    assert main(["train", *LOCAL, "--resume-if-exists", str(run_dir.with_name("new")), "--dry-run", "seed=3"]) == 0


def test_one_way_at_a_time(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run_dir), "--resume-if-exists", str(run_dir)]) == 2
    assert "--resume-if-exists goes with --config" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--resume-if-exists", str(run_dir)])


def test_exports_that_are_not_there(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    for arguments, told in (
        ([], "it has no best policy yet"),
        (["--step", "7"], "expected best, last or a step that"),
        (["--step", "newest"], "it keeps 2"),
        (["--adapter"], "its learner.lora.rank is 0, so it has no adapter"),
    ):
        assert main(["export", str(run_dir), *out, *arguments]) == 2
        assert told in capsys.readouterr().err
    assert main(["export", str(run_dir), "--out", str(run_dir)]) == 2
    assert "this folder is not empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
