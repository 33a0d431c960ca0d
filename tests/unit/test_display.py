"""What a person sees of a step."""

import time
from pathlib import Path

import pytest

from medvie_rl.config import load_config
from medvie_rl.display import Display


def test_failures_of_scoring_have_a_line_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(Path("runs/r"), load_config(Path("conf/local.yaml")))
    metrics = {"reward/mean": 0.5, "time/step": 1.0, "reward/timeout": 2.0, "reward/crashed": 0.0}
    display.step(3, metrics | {"reward/component_error": 1.0})
    display.step(4, metrics | {"reward/timeout": 0.0})
    failed, third, fourth = capsys.readouterr().out.splitlines()
    assert failed == (
        "step 3: scoring failed: 2 timed out, 1 raised in a reward component; see medvie rollouts runs/r --step 3"
    )
    assert third.startswith("step 3/40  reward 0.500 ") and fourth.startswith("step 4/40  reward 0.500 ")


def test_at_a_terminal_a_notice_stays_and_a_status_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Display(Path("runs/r"), load_config(Path("conf/local.yaml"))) as display:
        display.status("starting Ray")
        time.sleep(0.5)  # the progress line is drawn ten times a second
        display.notice("rollout worker 1 is lost")
        display.status("scoring")
    lines = [line.rsplit("\x1b[2K", 1)[-1] for line in capsys.readouterr().out.splitlines()]  # once parts are erased
    assert any(line != "starting Ray" and "starting Ray" in line for line in lines), "a status is on the progress line"
    assert "rollout worker 1 is lost" in lines, "a notice is a line of its own"
