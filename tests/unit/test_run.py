"""The run directory: atomic checkpoints, what a resumed run forgets, the best policy's card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medvie_rl.config import Config, load_config
from medvie_rl.errors import ConfigError
from medvie_rl.policy_card import read_policy_card
from medvie_rl.run import Run, RunState


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(Path("conf/local.yaml"), [f"output_dir={tmp_path}", "wandb.mode=disabled"])


def fill(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text("w", encoding="utf-8")


def test_two_runs_never_share_a_directory(config: Config) -> None:
    assert Run.create(config).folder != Run.create(config).folder


def test_the_newest_complete_checkpoint_counts_and_old_ones_go(config: Config) -> None:
    run = Run.create(config)
    assert run.checkpoints() == []
    for step in (0, 2, 4, 6):
        run.save(RunState(step=step, weight_version=step, best_step=0, best_f1=0.5), fill)

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save(RunState(step=8), fail)
    folders, states = zip(*run.checkpoints(), strict=True)
    assert [folder.name for folder in folders] == ["step-000006", "step-000004", "step-000000"]  # the best is kept
    assert states[0] == RunState(step=6, weight_version=6, best_step=0, best_f1=0.5)
    assert (folders[0] / "weights").read_text(encoding="utf-8") == "w"


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(config: Config) -> None:
    run = Run.create(config)
    run.start_logging(RunState())
    for step in range(5):
        run.log(step, {"reward/mean": step / 10})
        run.record_rollouts(step, [{"step": step}])
    run.save(RunState(step=3), fill)
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
        "step-000000.jsonl", "step-000001.jsonl", "step-000002.jsonl", "step-000003.jsonl",
    ]  # fmt: skip


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


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a run directory \(it has no config\.yaml\)"):
        Run.open(tmp_path)


def test_the_summary_is_valid_json_for_machines(config: Config) -> None:
    run = Run.create(replace(config))
    run.finish({"before": {"f1": 0.5}, "after": {"f1": 0.7}, "delta_f1": 0.2})
    assert json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))["delta_f1"] == 0.2
