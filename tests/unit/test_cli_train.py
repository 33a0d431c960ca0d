"""`medvie train`: which run is started or gone on with, and what is refused before anything starts."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from learner.manifest import file_digests, files_below, write_manifest
from medvie_rl.cli import main
from medvie_rl.config import load_config
from medvie_rl.export import export
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
        (["--step", "2", "--adapter"], "its learner.lora.rank is 0, so it has no adapter"),
        (["--step", "2"], "inputs.json: this file is missing"),
        (["--step", "2", "--set", "seed=3"], "seed (was 1, now 3)"),
    ):
        assert main(["export", str(run_dir), *out, *arguments]) == 2
        assert told in capsys.readouterr().err
    (run_dir / "inputs.json").write_text('{"prompt": "0", "base policy config.json": "0"}', encoding="utf-8")
    for moved, told in (
        ("prompt=gone.yaml", "(gone.yaml: no such prompt file;"),
        ("model=gone", "its model (gone) or its prompt (conf/prompts/nano.yaml) cannot be read"),
        ("prompt=conf/prompts/nano.yaml", "other inputs: base policy chat_template.jinja is new"),
        ("prompt=conf/prompts/nano.yaml", "prompt was changed"),
    ):
        assert main(["export", str(run_dir), *out, "--step", "2", "--set", moved]) == 2
        assert told in capsys.readouterr().err
    assert main(["export", str(run_dir), "--out", str(run_dir)]) == 2
    assert "this folder is not empty" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_places_where_no_export_can_lie(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out, told in (("file/below", "file is a file"), ("link", "this link leads nowhere")):
        assert main(["export", str(run_dir), "--out", str(tmp_path / out)]) == 2
        assert told in capsys.readouterr().err


def test_an_export_is_one_policy_while_the_run_replaces_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run exchanges the folder after half of it was copied, twice."""
    config = load_config(Path("conf/local.yaml"), ["wandb.mode=disabled"])
    run = Run.create(config, tmp_path / "run")
    steps = iter((1, 2))

    def replace_best(step: int) -> None:
        def write(folder: Path) -> None:
            folder.mkdir()
            for name in "ab":
                (folder / name).write_text(str(step), encoding="utf-8")

        run.replace_best(write, step=step)

    def copy(source: str, target: str) -> object:
        if Path(source).name == "b" and (step := next(steps, None)):
            replace_best(step)
        return shutil.copyfile(source, target)

    replace_best(0)
    copytree = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", partial(copytree, copy_function=copy))
    export(run.folder, tmp_path / "out")
    assert [(tmp_path / "out" / name).read_text(encoding="utf-8") for name in "ab"] == ["2", "2"]
    assert '"step": 2' in (tmp_path / "out" / "medvie.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "medvie.json", "prompt.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_supervised_fine_tuning_is_gone_on_with_in_the_same_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--resume-if-exists", str(tmp_path / "run"), "--dry-run", "wandb.mode=disabled"]
    assert main(["sft", *LOCAL, *there]) == 0
    direct = ["queries.reasoning_fraction=0", "evaluation.reasoning=false", "wandb.mode=disabled"]
    run = Run.create(load_config(Path("conf/local.yaml"), ["method=sft", *direct]), tmp_path / "run")
    run.save(RunState(step=2), seal, {})
    assert main(["sft", *LOCAL, *there, "rollout.num_workers=2"]) == 0
    assert main(["sft", *LOCAL, *there, "num_steps=3"]) == 2
    assert "num_steps (was 40, now 3)" in capsys.readouterr().err
    assert main(["sft", *LOCAL, "--dry-run", "sft.traces=nowhere.jsonl"]) == 2
    assert "sft.traces: there is no file or run directory nowhere.jsonl" in capsys.readouterr().err
