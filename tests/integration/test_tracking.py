"""W&B shows what is in the run directory, also when its client dies, and cannot cost a run."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from wandb.sdk import wandb_run
from wandb_files import history_of

from medvie_rl.config import load_config
from medvie_rl.run import Run, RunState


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
    first, second = sorted(run.folder.glob(f"wandb/offline-run-*-{state.wandb_id}"))
    assert history_of(first) == {}
    assert {step: values["reward/mean"] for step, values in history_of(second).items()} == {1: 0.25, 2: 0.5}


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
