"""Presets hold what the papers say, what is named takes the place of a preset's, and nonsense is refused."""

import math
from typing import Any

import pytest

from learner.loss_config import ADVANTAGES, PRESETS, LossConfig

COMMON: dict[str, Any] = {
    "advantage": "grpo", "surrogate": "clip", "ratio": "token", "aggregation": "token", "clip_low": 0.2,
    "clip_high": 0.2, "overlong": "keep", "kl_coefficient": 0.0, "kl_in": "loss", "kl_estimator": "k3",
    "entropy_coefficient": 0.0,
}  # fmt: skip
EXPECTED: dict[str, dict[str, Any]] = {
    "paper": {"clip_high": 0.28},
    "grpo": {"aggregation": "sequence", "kl_coefficient": 0.04},
    "dr_grpo": {"advantage": "dr_grpo", "aggregation": "constant"},
    "dapo": {"clip_high": 0.28, "overlong": "drop"},
    "rloo": {
        "advantage": "rloo", "surrogate": "reinforce", "aggregation": "sequence_sum", "kl_coefficient": 0.05,
        "kl_in": "reward", "kl_estimator": "k1", "clip_high": 0.28,
    },
    "reinforce_pp": {"advantage": "reinforce_pp", "kl_coefficient": 0.01, "kl_in": "reward", "kl_estimator": "k1"},
    "reinforce_pp_baseline": {"advantage": "reinforce_pp_baseline", "kl_coefficient": 0.01, "kl_estimator": "k2"},
    "gspo": {"ratio": "sequence", "aggregation": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0},
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    loss = LossConfig(preset=preset).resolved(pipelined=False)
    for name, value in (COMMON | EXPECTED[preset]).items():
        assert getattr(loss, name) == value, name
    assert loss.needs_reference == (loss.kl_coefficient > 0)
    assert loss.regularizes == (loss.kl_coefficient > 0 and loss.kl_in == "loss")


def test_the_default_is_the_papers_and_what_is_named_takes_its_place() -> None:
    assert LossConfig().preset == "paper"
    loss = LossConfig(preset="grpo", clip_high=0.3, kl_coefficient=0.0).resolved(pipelined=False)
    assert (loss.clip_low, loss.clip_high, loss.aggregation) == (0.2, 0.3, "sequence")
    assert (loss.kl_coefficient, loss.needs_reference, loss.regularizes) == (0.0, False, False)
    assert LossConfig(entropy_coefficient=0.1).resolved(pipelined=False).regularizes


@pytest.mark.parametrize(
    ("importance", "on_policy", "pipelined"),
    [("auto", "none", "truncate"), ("none", "none", "none"), ("mask", "mask", "mask")],
)
def test_auto_corrects_the_sampler_in_pipelined_runs(importance: str, on_policy: str, pipelined: str) -> None:
    config = LossConfig(importance=importance)
    assert config.resolved(pipelined=False).importance == on_policy
    loss = config.resolved(pipelined=True)
    assert (loss.importance, loss.corrects_sampler) == (pipelined, pipelined != "none")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("preset", "ppo"),
        ("advantage", "gae"),
        ("surrogate", "ppo"),
        ("ratio", "group"),
        ("aggregation", "mean"),
        ("overlong", "mask"),
        ("kl_in", "advantage"),
        ("kl_estimator", "k4"),
        ("importance_level", "response"),
        ("clip_low", 1.5),
        ("clip_low", 0.0),
        ("clip_high", 0.0),
        ("clip_high", math.inf),
        ("kl_coefficient", -0.1),
        ("entropy_coefficient", math.nan),
        ("importance_max", 0.5),
    ],
)
def test_refuses_naming_setting_and_value(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"learner\.loss\.{setting} .*got {value!r}"):
        LossConfig(**{setting: value})  # type: ignore[arg-type]


def test_refuses_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"learner\.loss\.kl_in: with advantage grpo .*use kl_in loss"):
        LossConfig(kl_coefficient=0.1, kl_in="reward")
    LossConfig(kl_coefficient=0.1, kl_in="reward", advantage="rloo")
    with pytest.raises(ValueError, match=r"learner\.loss\.ratio: .*surrogate clip only, got cispo"):
        LossConfig(preset="gspo", surrogate="cispo")


def test_advantages_by_name_exist() -> None:
    assert {preset["advantage"] for preset in PRESETS.values()} == set(ADVANTAGES)


def test_auto_corrects_what_the_sampler_s_rounding_would_clip() -> None:
    chosen = {
        (preset, pipelined): LossConfig(preset=preset).resolved(pipelined=pipelined).importance
        for preset in ("paper", "gspo")
        for pipelined in (False, True)
    }
    assert chosen == {
        ("paper", False): "none",
        ("paper", True): "truncate",
        ("gspo", False): "truncate",
        ("gspo", True): "truncate",
    }
