"""LearnerConfig refuses nonsense, and the learning-rate schedules give hand-computed values."""

import math
from typing import Any

import pytest

from learner.config import LearnerConfig, LoraConfig, learning_rate_at


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("zero_stage", 0),
        ("dtype", "float16"),
        ("lr_schedule", "step"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("attention", "dense"),
        ("feature_cache_device", "disk"),
        ("max_grad_norm", 0.0),
        ("max_tokens_per_micro_batch", 0),
        ("min_lr_ratio", 1.5),
        ("num_ranks", 0),
        ("adam_beta2", 1.0),
        ("warmup_steps", -1),
    ],
)
def test_refuses_naming_setting_and_value(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"learner\.{setting} .*got {value!r}"):
        LearnerConfig(**{setting: value})


def test_refuses_adapters_that_cannot_be() -> None:
    for setting, value in (("rank", -1), ("alpha", 0.0)):
        with pytest.raises(ValueError, match=rf"learner\.lora\.{setting} .*got {value!r}"):
            LoraConfig(**{setting: value})
    with pytest.raises(ValueError, match=r"learner\.lora\.targets: name at least one"):
        LoraConfig(rank=4, targets=[])
    for frozen in ({"freeze_vision": False}, {"freeze_projector": False}):
        with pytest.raises(ValueError, match=r"must be true with learner\.lora\.rank > 0"):
            LearnerConfig(lora=LoraConfig(rank=4), **frozen)


def test_refuses_to_offload_parameters_without_zero_3() -> None:
    with pytest.raises(ValueError, match=r"learner\.offload_parameters needs learner\.zero_stage 3, got 2"):
        LearnerConfig(zero_stage=2, offload_parameters=True)
    LearnerConfig(zero_stage=3, offload_parameters=True)


@pytest.mark.parametrize(
    ("settings", "freezes_projector", "trains_vision"),
    [
        ({}, True, False),
        ({"freeze_projector": False}, False, True),
        ({"freeze_vision": False}, False, True),
        ({"freeze_vision": False, "freeze_projector": True}, True, True),
        ({"lora": LoraConfig(rank=4)}, True, False),
        ({"lora": LoraConfig(rank=4, vision_targets=["qkv"])}, True, True),
        ({"lora": LoraConfig(rank=0, vision_targets=["qkv"])}, True, False),
    ],
)
def test_what_is_trained(settings: dict[str, Any], freezes_projector: bool, trains_vision: bool) -> None:
    config = LearnerConfig(**settings)
    assert (config.freezes_projector, config.trains_vision) == (freezes_projector, trains_vision)


def test_warmup_then_cosine() -> None:
    config = LearnerConfig(learning_rate=1.0, lr_schedule="cosine", warmup_steps=2, min_lr_ratio=0.2)
    rates = [learning_rate_at(config, step, 6) for step in range(6)]
    expected = [0.5, 1.0, 1.0, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.6, 0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_linear_and_constant() -> None:
    linear = LearnerConfig(learning_rate=2.0, lr_schedule="linear", min_lr_ratio=0.5)
    assert [learning_rate_at(linear, step, 4) for step in range(4)] == pytest.approx([2.0, 1.75, 1.5, 1.25])
    constant = LearnerConfig(learning_rate=2.0, warmup_steps=4)
    assert [learning_rate_at(constant, step, 6) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_step_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="got step 4 of 4"):
        learning_rate_at(LearnerConfig(), 4, 4)
