"""Going on with a run: from a damaged checkpoint, in another layout, and what is refused."""

import shutil
from pathlib import Path
from statistics import fmean

import pytest

from medvie_rl.config import load_config
from runs import SMALL, assert_same_run, metrics_of, records_of, resume_command, run, run_to_end


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of a run that has ended."""
    return Path(shutil.copytree(small_run, tmp_path / small_run.name))


def test_a_flipped_byte_costs_the_newest_checkpoint_only(copied_run: Path, small_run: Path) -> None:
    newest = max((copied_run / "checkpoints").iterdir())
    (shard,) = newest.glob("deepspeed/*optim_states.pt")
    flip_byte(shard)
    told = run_to_end(resume_command(copied_run))
    assert f"checkpoint {newest} is damaged: deepspeed/{shard.name} was changed; going on from the checkpoint" in told
    assert_same_run(copied_run, small_run)


@pytest.mark.full
def test_a_best_policy_that_a_power_cut_tore_is_exported_again(copied_run: Path, small_run: Path) -> None:
    weights = copied_run / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4096] + bytes(4096))  # the last page never came to the disk
    run_to_end(resume_command(copied_run))
    assert_same_run(copied_run, small_run)
    names = sorted(path.name for path in (small_run / "best").iterdir())
    assert names == sorted(path.name for path in (copied_run / "best").iterdir())
    for name in names:
        found, expected = ((folder / "best" / name).read_bytes() for folder in (copied_run, small_run))
        assert found == expected, name


def test_a_run_without_a_usable_checkpoint_does_not_begin_anew(copied_run: Path, small_run: Path) -> None:
    folders = list((copied_run / "checkpoints").iterdir())
    for weights in copied_run.glob("checkpoints/*/deepspeed/*optim_states.pt"):
        weights.write_bytes(weights.read_bytes()[:-100])
    result = run(resume_command(copied_run))
    assert result.returncode == 2
    assert f"none of its {len(folders)} checkpoints can be used; start a new run" in result.stderr
    assert metrics_of(copied_run) == metrics_of(small_run)


def test_a_run_goes_on_in_another_layout(copied_run: Path, small_run: Path) -> None:
    """The rounding differs, so that here and there another token is sampled; the rest is the same run."""
    shutil.rmtree(max((copied_run / "checkpoints").iterdir()))
    layout = ("learner.num_ranks=2", "learner.zero_stage=3", "learner.num_threads=1", "rollout.num_workers=2")
    run_to_end(resume_command(copied_run, *layout, "rollout.num_threads=1"))
    assert load_config(copied_run / "config.yaml").learner.num_ranks == 2
    assert load_config(copied_run / "config-step-4.yaml") == load_config(small_run / "config.yaml")
    found, expected = metrics_of(copied_run), metrics_of(small_run)
    assert found[:5] == expected[:5] and [entry["step"] for entry in found] == list(range(7))
    assert found[6]["sync/weight_version"] == expected[6]["sync/weight_version"]
    assert found[5]["loss/sampler_logprob_difference_max"] < 1e-4
    assert found[5]["loss/learning_rate"] == expected[5]["loss/learning_rate"]
    ours, theirs = (
        [(record.query, record.trace, record.response) for record in records_of(each)[5]]
        for each in (copied_run, small_run)
    )
    assert len(ours) == 6 * 4 and fmean(a == b for a, b in zip(ours, theirs, strict=True)) > 0.8


@pytest.mark.full
def test_a_run_of_two_ranks_goes_on_with_one(tmp_path: Path) -> None:
    layout = ("learner.num_ranks=2", "learner.zero_stage=3", "learner.num_threads=1", "learner.lora.rank=4")
    command = [
        *resume_command(tmp_path)[:4],
        "--config",
        "conf/local.yaml",
        "--resume-if-exists",
        str(tmp_path / "run"),
    ]
    run_to_end([*command, *SMALL, *layout])
    before = metrics_of(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000006")
    run_to_end(resume_command(tmp_path / "run", "learner.num_ranks=1", "learner.zero_stage=1"))
    after = metrics_of(tmp_path / "run")
    assert after[:5] == before[:5] and len(after) == 7
    assert after[5]["loss/loss"] == pytest.approx(before[5]["loss/loss"], abs=1e-2)


def test_other_inputs_and_other_settings_are_refused(copied_run: Path) -> None:
    result = run(resume_command(copied_run, "data.num_train=50"))
    assert result.returncode == 2 and "data.num_train (was 0, now 50)" in result.stderr
    inputs = copied_run / "inputs.json"
    inputs.write_text(
        inputs.read_text(encoding="utf-8").replace(
            '"base policy model.safetensors": "', '"base policy model.safetensors": "0'
        )
    )
    result = run(resume_command(copied_run))
    assert result.returncode == 2
    assert "the run started from other inputs: base policy model.safetensors was changed" in result.stderr


def flip_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
