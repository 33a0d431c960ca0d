"""LearnerConfig refuses nonsense, and the learning-rate schedules give hand-computed values."""

import math

import pytest

from learner.config import LearnerConfig, learning_rate_at


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("zero_stage", 0),
        ("dtype", "float16"),
        ("lr_schedule", "step"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("clip_low", 1.0),
        ("clip_high", 0.0),
        ("min_lr_ratio", 1.5),
        ("num_ranks", 0),
        ("adam_beta2", 1.0),
        ("warmup_steps", -1),
    ],
)
def test_refuses_naming_setting_and_value(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"learner\.{setting} .*got {value!r}"):
        LearnerConfig(**{setting: value})


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
