"""The run directory: what a resumed run keeps and forgets, what it may change, the best policy's card."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from policy_folders import fill, seal

from medvie_rl.config import Config, load_config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.policy_card import read_policy_card
from medvie_rl.resume import LAYOUT_KEYS
from medvie_rl.run import Run, RunState
from medvie_rl.run_folder import has_checkpoint
from rollout.types import RolloutGroup


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(Path("conf/local.yaml"), [f"output_dir={tmp_path}", "wandb.mode=disabled"])


def test_two_runs_never_share_a_directory(config: Config) -> None:
    assert Run.create(config).folder != Run.create(config).folder


def test_a_checkpoint_holds_state_configuration_and_batches_in_flight(config: Config) -> None:
    run = Run.create(config)
    group = RolloutGroup(query_id="q", prompt_ids=(1, 2), rollouts=())
    state = RunState(step=2, weight_version=2, best_step=0, best_value=0.5)
    run.save(state, seal, {3: [group]})
    found = run.checkpoints.restore(lambda folder: None, print)
    assert found is not None and found[1] == state
    assert run.in_flight(found[0]) == {3: [group]}
    assert load_config(found[0] / "config.yaml") == config


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(config: Config) -> None:
    run = Run.create(config)
    run.start_logging(RunState())
    for step in range(5):
        run.log(step, {"reward/mean": step / 10})
        run.record_rollouts(step, [])
    for name in ("step-000002", "step-000004", "before", "after"):
        run.record_evaluation(name, {})
    run.finish({"before": {}, "after": {}, "delta_f1": 0.0})
    run.save(RunState(step=3), seal, {})
    with pytest.raises(ConfigError, match="another process works on this run"):
        Run.open(run.folder)
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "rew')  # killed while writing
    folder = run.folder
    del run
    again = Run.open(folder)
    assert again.config == config
    again.start_logging(RunState(step=3))
    assert [entry["step"] for entry in again.metrics()] == [0, 1, 2, 3]
    assert sorted(path.name for path in (folder / "rollouts").iterdir()) == [
        "step-000000.parquet", "step-000001.parquet", "step-000002.parquet", "step-000003.parquet",
    ]  # fmt: skip
    assert sorted(path.stem for path in (folder / "evaluations").iterdir()) == ["before", "step-000002"]
    assert not (folder / "summary.json").exists()


def test_a_run_that_has_ended_keeps_its_end(config: Config) -> None:
    run = Run.create(config)
    run.record_evaluation("after", {})
    run.start_logging(RunState(step=config.num_steps))
    assert run.evaluation("after") == {}


def test_a_run_that_goes_on_elsewhere_keeps_the_old_configuration(config: Config) -> None:
    folder = Run.create(config).folder
    other = load_config(folder / "config.yaml", ["learner.num_ranks=2", "learner.zero_stage=3"])
    run = Run.open(folder, other)
    assert load_config(folder / "config.yaml") == config  # until it went on
    run.start_logging(RunState(step=4))
    assert load_config(folder / "config.yaml") == other
    assert load_config(folder / "config-step-4.yaml") == config
    del run
    Run.open(folder).start_logging(RunState(step=5))
    assert not (folder / "config-step-5.yaml").exists()
    again = load_config(folder / "config.yaml", ["learner.num_ranks=1"])
    Run.open(folder, again).start_logging(RunState(step=4))
    assert load_config(folder / "config-step-4.yaml") == config
    assert load_config(folder / "config-step-4-2.yaml") == other
    assert load_config(folder / "config.yaml") == again


def test_a_run_that_goes_on_keeps_what_its_numbers_depend_on(config: Config) -> None:
    folder = Run.create(config).folder
    other = load_config(folder / "config.yaml", ["learner.num_ranks=2", "seed=2", "num_steps=50"])
    with pytest.raises(ConfigError) as told:
        Run.open(folder, other)
    message = str(told.value)
    assert "differ: num_steps (was 40, now 50), seed (was 1, now 2); to train further, start a new run" in message
    assert "Only these may change: " in message and "learner.zero_stage" in message and "cluster.*" in message


def test_an_edited_configuration_is_told_from_that_of_the_checkpoint(config: Config) -> None:
    run = Run.create(config)
    run.save(RunState(step=2), seal, {})
    folder = run.folder
    del run
    edited = load_config(folder / "config.yaml", ["learner.learning_rate=0.5", "rollout.num_workers=2"])
    (folder / "config.yaml").write_text(to_yaml(edited), encoding="utf-8")
    for changed in (None, edited):
        with pytest.raises(ConfigError, match=r"these keys differ: learner\.learning_rate \(was 0\.0001, now 0\.5\)"):
            Run.open(folder, changed)
    layout = load_config(folder / "checkpoints" / "step-000002" / "config.yaml", ["rollout.num_workers=2"])
    (folder / "config.yaml").write_text(to_yaml(layout), encoding="utf-8")
    assert Run.open(folder).config == layout


def test_a_run_of_another_version_is_said_to_be_one(config: Config) -> None:
    folder = Run.create(config).folder
    text = to_yaml(config).replace("learning_rate:", "clip_low: 0.2\n  learning_rate:")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as told:
        Run.open(folder)
    assert "made by another version of medvie" in str(told.value) and "its best/ can still be used" in str(told.value)
    assert "unknown key 'learner.clip_low'" in str(told.value) and "did you mean" not in str(told.value)


def test_a_run_with_checkpoints_and_without_inputs_is_left_as_it_is(config: Config) -> None:
    run = Run.create(config)
    run.save(RunState(step=2), seal, {})
    with pytest.raises(ConfigError, match=r"inputs\.json: this file is missing"):
        run.check_inputs({"prompt": "1"})
    assert not (run.folder / "inputs.json").exists()


def test_a_preset_that_is_named_replaces_the_loss_of_the_file(config: Config) -> None:
    """The configuration that a run keeps names every ingredient, which would leave the preset nothing."""
    stored = Run.create(config).folder / "config.yaml"
    sequences = load_config(stored, ["learner.loss.preset=gspo", "learner.loss.clip_low=0.01"])
    fresh = load_config(Path("conf/local.yaml"), ["learner.loss.preset=gspo"])
    assert (config.loss.ratio, sequences.loss.ratio) == ("token", "sequence")
    assert sequences.loss == replace(fresh.loss, clip_low=0.01)
    assert load_config(stored, ["learner.loss.clip_low=0.1"]).loss == replace(config.loss, clip_low=0.1)


def test_keys_of_the_layout_exist(config: Config) -> None:
    for key in LAYOUT_KEYS:
        part: Any = asdict(config)
        for name in key.rstrip(".").split("."):
            part = part[name]
        assert isinstance(part, dict) == key.endswith("."), key


def test_a_named_folder_takes_a_run_once(config: Config, tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint is begun anew; one with a checkpoint never is."""
    folder = tmp_path / "deep" / "run"
    run = Run.create(config, folder)
    run.check_inputs({"schema": "1"})
    run.record_rollouts(1, [])
    (folder / "checkpoints" / ".step-000000.partial").mkdir()
    with pytest.raises(ConfigError, match="another process works on this run"):
        Run.create(config, folder)
    del run
    assert not has_checkpoint(folder)
    run = Run.create(replace(config, seed=7), folder)
    assert not list(folder.glob("rollouts/*")) + list(folder.glob("checkpoints/*")) + list(folder.glob("inputs.json"))
    run.save(RunState(), seal, {})
    assert has_checkpoint(folder) and load_config(folder / "config.yaml").seed == 7
    with pytest.raises(ConfigError, match="there is a run with checkpoints"):
        Run.create(config, folder)


@pytest.mark.parametrize("name", ["notes.txt", "best", "src"])
def test_no_folder_of_somebody_else_is_taken(config: Config, tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text("mine: true\n", encoding="utf-8")
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"not the directory of a run without checkpoint, but it holds {name}"):
        Run.create(config, tmp_path)
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "mine: true\n"


@pytest.mark.parametrize(
    "name", ["checkpoints/model.ckpt", "checkpoints/step-1/x", "rollouts/mine.jsonl", "evaluations/table.csv"]
)
def test_no_folder_that_looks_like_a_run_is_taken(config: Config, tmp_path: Path, name: str) -> None:
    run = Run.create(config, tmp_path / "run")
    file = run.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine", encoding="utf-8")
    folder = run.folder
    del run
    held = "/".join(name.split("/")[:2])
    with pytest.raises(ConfigError, match=f"not the directory of a run without checkpoint, but it holds {held};"):
        Run.create(config, folder)
    assert file.read_text(encoding="utf-8") == "mine"


def test_no_folder_with_another_configuration_is_taken(config: Config, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "wandb").mkdir()
    with pytest.raises(ConfigError, match="but it holds wandb"):
        Run.create(config, tmp_path)
    (tmp_path / "config.yaml").write_text("mine: true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"but its config\.yaml is none of a run"):
        Run.create(config, tmp_path)
    assert (tmp_path / "wandb").is_dir()


def test_other_inputs_are_refused(config: Config) -> None:
    run = Run.create(config)
    run.check_inputs({"schema a": "1", "prompt": "2"})
    run.check_inputs({"schema a": "1", "prompt": "2"})
    with pytest.raises(ConfigError, match="other inputs: prompt is gone, schema a was changed, schema b is new"):
        run.check_inputs({"schema a": "3", "schema b": "1"})


def test_metrics_that_are_not_finite_are_refused(config: Config) -> None:
    run = Run.create(config)
    run.start_logging(RunState())
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.log(1, {"loss/loss": float("nan")})


def test_the_best_policy_says_where_it_is_from_and_how_to_ask_it(config: Config) -> None:
    run = Run.create(config)
    assert run.best_policy_step() == -1
    for step in (0, 4):
        run.replace_best(fill, step=step)
        assert run.best_policy_step() == step
    card = read_policy_card(run.best_policy)
    assert card is not None
    assert (card.run, card.reasoning) == (run.folder.name, True)
    assert card.rollout["max_response_tokens"] == config.rollout.max_response_tokens
    assert (run.best_policy / "prompt.yaml").read_text(encoding="utf-8") == Path(config.prompt).read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("name", ["weights", "medvie.json", "manifest.json", "prompt.yaml"])
def test_a_best_policy_that_was_torn_counts_as_none(config: Config, name: str) -> None:
    """So that the run exports it again; a file may lose its end, or all, when the power goes."""
    run = Run.create(config)
    run.replace_best(fill, step=4)
    file = run.best_policy / name
    content = file.read_bytes()
    for torn in (content[:-3], b""):
        file.write_bytes(torn)
        assert run.best_policy_step() == -1
    run.replace_best(fill, step=4)
    assert run.best_policy_step() == 4 and file.read_bytes() == content
    assert not list(run.folder.glob(".best.*"))


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a run directory \(it has no config\.yaml\)"):
        Run.open(tmp_path)


def test_the_summary_is_valid_json_for_machines(config: Config) -> None:
    run = Run.create(replace(config))
    run.finish({"before": {"f1": 0.5}, "after": {"f1": 0.7}, "delta_f1": 0.2})
    assert json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))["delta_f1"] == 0.2
