"""Which recorded runs can be replayed, with which configuration, and what a replay takes of them."""

import shutil
from pathlib import Path

import pytest

from medvie_rl.cli import main
from medvie_rl.config import Config, load_config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.errors import ConfigError, UserError
from medvie_rl.plan import describe_plan
from medvie_rl.records import read_records, write_records
from medvie_rl.replay import Replay, check_replay, reason_to_end
from recorded_run import NUM_STEPS, NUM_TRACES, make_run


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def data() -> RunData:
    return load_run_data(load_config(Path("conf/local.yaml")))


def replaying(run: Path, *overrides: str) -> Config:
    return load_config(run / "config.yaml", [f"records.replay={run}", *overrides])


def test_a_replay_takes_what_was_recorded(recorded: Path, data: RunData) -> None:
    config = replaying(recorded)
    check_replay(config, data)
    replay = Replay(config, data)
    for step in range(NUM_STEPS):
        queries, groups = replay.take(step)
        records = read_records(recorded / "rollouts" / f"step-{step + 1:06d}.parquet")
        assert [query.id for query in queries] == [f"train-{2 * step}", f"train-{2 * step + 1}"]
        assert [group.query_id for group in groups] == [query.id for query in queries]
        texts = [rollout.text for group in groups for rollout in group.rollouts]
        assert texts == [record.response for record in records] and len(groups[0].rollouts) == NUM_TRACES
        for query in queries:
            assert dict(query.truth) == {
                key: query.document.annotation[key] for key in query.keys if query.document.annotation.get(key)
            }
    assert replay.in_flight() == {}


def test_a_replay_ends_with_the_records(recorded: Path) -> None:
    config = replaying(recorded, "num_steps=40")
    assert [bool(reason_to_end(config, step)) for step in (1, 3, 4)] == [False, False, True]
    assert reason_to_end(config, 4) == f"{recorded} recorded no more steps"
    assert reason_to_end(replaying(recorded, "num_steps=4"), 4) == ""  # it has come to its own end
    assert reason_to_end(load_config(Path("conf/local.yaml")), 4) == ""


def test_a_replay_must_learn_as_the_run_sampled(recorded: Path, data: RunData) -> None:
    for override, message in (
        ("pipeline_depth=1", "pipeline_depth: .* was sampled with 0, which its replay needs, got 1"),
        ("rollout.temperature=1.0", r"rollout\.temperature: .* was sampled with 0\.8, .* got 1\.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_replay(replaying(recorded, override), data)


def test_what_cannot_be_replayed_is_told_before_anything_starts(
    recorded: Path, tmp_path: Path, data: RunData, capsys: pytest.CaptureFixture[str]
) -> None:
    private = make_run(tmp_path / "private", "records.private=true")
    with pytest.raises(UserError, match=r"not kept \(records\.private\), without which they cannot be learned from"):
        check_replay(replaying(private, "records.private=false"), data)

    bounded = tmp_path / "bounded"
    shutil.copytree(recorded, bounded)
    (bounded / "rollouts" / "step-000001.parquet").unlink()
    with pytest.raises(UserError, match="begins at step 1, but the records begin at step 2"):
        check_replay(replaying(bounded), data)

    path = recorded / "rollouts" / "step-000003.parquet"
    config = replaying(recorded)
    few = load_run_data(
        load_config(Path("conf/local.yaml"), ["data.train_split=validation", "data.validation_split=train"])
    )
    with pytest.raises(UserError, match=r"step-000001\.parquet, query train-0: the training split has no document"):
        check_replay(config, few)
    write_records(path, read_records(path)[:1])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"step-000003\.parquet: damaged"):
        check_replay(config, data)

    assert main(["train", "--config", "conf/local.yaml", "--replay", str(tmp_path), "--dry-run"]) == 2
    assert f"{tmp_path}: not a run directory" in capsys.readouterr().err
    assert main(["train", "--resume", str(recorded), "--replay", str(recorded)]) == 2
    assert "--replay goes with --config" in capsys.readouterr().err


def test_the_plan_says_what_is_replayed(recorded: Path) -> None:
    assert f"Batches: as {recorded} recorded them, at most 40 steps" in describe_plan(replaying(recorded))
