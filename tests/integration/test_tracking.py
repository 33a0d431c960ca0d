"""W&B shows what is in the run directory, also when its client dies, and cannot cost a run."""

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from policy_folders import fill, seal
from wandb.sdk import wandb_run
from wandb_files import artifacts_of, history_of

from medvie_rl.config import load_config
from medvie_rl.data.load import load_run_data
from medvie_rl.records import read_records
from medvie_rl.run import Run, RunState, run_config


def wandb_clients() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "wandb-core" in " ".join(child.cmdline())]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(load_config(Path("conf/local.yaml"), [f"output_dir={tmp_path}"]))


def test_what_a_client_held_that_a_signal_ended_is_shown_by_the_next(run: Run) -> None:
    state, said = RunState(), []
    run.start_logging(state, said.append)
    run.log(1, {"reward/mean": 0.25})
    (client,) = wandb_clients()
    client.send_signal(signal.SIGTERM)  # as the stop of a Ray job does
    client.wait(30)
    run.log(2, {"reward/mean": 0.5})
    run.finish({"before": {"f1": 0.1}, "after": {"f1": 0.2}, "delta_f1": 0.1})
    run.close()
    assert said == []
    first, second = sorted(run.folder.glob(f"wandb/offline-run-*-{state.wandb_id}*"))
    assert history_of(first) == {}
    assert {step: values["reward/mean"] for step, values in history_of(second).items()} == {1: 0.25, 2: 0.5}


def test_rollouts_are_shown_without_values_unless_asked_for(tmp_path: Path, small_run: Path) -> None:
    data = load_run_data(run_config(small_run))
    records = read_records(small_run / "rollouts/step-000002.parquet")
    shown = {}
    for with_values in (False, True):
        overrides = [f"output_dir={tmp_path}", "wandb.num_samples=3", f"wandb.with_values={with_values}".lower()]
        run = Run.create(load_config(Path("conf/local.yaml"), overrides))
        run.start_logging(RunState(), print, data.find)
        run.record_rollouts(1, records)
        run.log(1, {"reward/mean": 0.5})
        run.record_rollouts(2, records)
        run.log(2, {"reward/mean": 0.5, "eval/f1": 0.25})
        run.close()
        (folder,) = run.folder.glob("wandb/offline-run-*")
        history = history_of(folder)
        for step in (1, 2):
            assert sum(history[step]["reward/distribution/values"]) == len(records)
        assert "samples/nrows" not in history[1] and history[2]["samples/nrows"] == 3
        (table,) = folder.glob("files/media/table/samples*.table.json")
        shown[with_values] = json.loads(table.read_text(encoding="utf-8"))
        waiting = [path.read_bytes() for path in (run.folder / "wandb/artifacts/staging").iterdir()]
        assert sum(content.startswith(b"\x89PNG") for content in waiting) == (3 if with_values else 0)
    lowest, _, highest = shown[True]["data"]
    reward = shown[True]["columns"].index("reward")
    assert (lowest[reward], highest[reward]) == (
        min(record.reward for record in records), max(record.reward for record in records),
    )  # fmt: skip
    assert shown[True]["columns"][-3:] == ["image", "response", "truth"]
    assert [row[: len(shown[False]["columns"])] for row in shown[True]["data"]] == shown[False]["data"]
    texts = json.dumps(shown[False])
    assert not any(str(row[-1]) in texts or str(row[-2]) in texts for row in shown[True]["data"])


def test_a_resumed_run_continues_its_own_and_holds_all_of_it(tmp_path: Path) -> None:
    run, state = Run.create(load_config(Path("conf/local.yaml"), [f"output_dir={tmp_path}"])), RunState()
    run.start_logging(state)
    for step in (1, 2, 3):
        run.log(step, {"reward/mean": step / 10})
    run.close()
    run.save(RunState(step=2, wandb_id=state.wandb_id), seal, {})
    folder = run.folder
    del run
    again = Run.open(folder)
    again.start_logging(RunState(step=2, wandb_id=state.wandb_id))
    again.log(3, {"reward/mean": 0.5})
    again.close()
    folders = sorted(folder.glob(f"wandb/offline-run-*-{state.wandb_id}*"))
    assert {step: values["reward/mean"] for step, values in history_of(folders[-1]).items()} == {1: 0.1, 2: 0.2, 3: 0.5}


def test_the_best_policy_is_an_artifact_where_asked_for(tmp_path: Path) -> None:
    overrides = [f"output_dir={tmp_path}", "wandb.log_best_policy=true"]
    run = Run.create(load_config(Path("conf/local.yaml"), overrides))
    run.start_logging(RunState())
    run.replace_best(fill, step=0)
    run.finish({"before": {}, "after": {}, "delta_f1": 0.0})
    run.close()
    (folder,) = run.folder.glob("wandb/offline-run-*")
    (artifact,) = artifacts_of(folder)
    assert artifact.type == "model" and "weights" in {entry.path for entry in artifact.manifest.contents}


def test_a_run_goes_on_without_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    said: list[str] = []
    run.start_logging(RunState(), said.append)
    monkeypatch.setattr(wandb_run.Run, "log", broken)
    for step in (1, 2):
        run.log(step, {"reward/mean": 0.5})
    run.close()
    assert [entry["step"] for entry in run.metrics()] == [1, 2]
    (notice,) = said
    assert notice.startswith("W&B does not work any more (no space left on device)")
