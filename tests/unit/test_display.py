"""What a person sees of a step."""

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
