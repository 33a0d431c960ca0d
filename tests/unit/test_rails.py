"""The safety rails count spikes and end a run for each of their reasons, also when it was resumed in between."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from medvie_rl.rails import Rails, RailsConfig


def reasons(config: RailsConfig, history: Sequence[Mapping[str, float]]) -> list[str]:
    rails = Rails(config)
    found = []
    for metrics in history:
        rails.observe(metrics)
        found.append(rails.reason_to_stop(metrics))
    return found


def spikes(config: RailsConfig, norms: Sequence[float]) -> list[float]:
    rails = Rails(config)
    return [rails.observe({"loss/gradient_norm": norm})["loss/gradient_spikes"] for norm in norms]


def test_a_spike_is_many_times_the_median_of_a_full_window_before_it() -> None:
    config = RailsConfig(window=3, gradient_spike=4.0)
    # the median of 1, 2, 1 is 1: 4 is none; of 2, 1, 4 it is 2: 8 is none, 9 is one; of 1, 4, 9 it is 4: 17 is one
    assert spikes(config, [1, 2, 1, 4, 8]) == [0, 0, 0, 0, 0]
    assert spikes(config, [1, 2, 1, 4, 9, 17]) == [0, 0, 0, 0, 1, 2]
    assert spikes(config, [1, 100]) == [0, 0]


def test_a_step_without_an_update_changes_no_window() -> None:
    rails = Rails(RailsConfig(window=2, gradient_spike=2.0))
    for metrics in ({"loss/gradient_norm": 1.0}, {}, {"loss/gradient_norm": 1.0}, {"reward/mean": 0.5}):
        assert rails.observe(metrics) == {"loss/gradient_spikes": 0.0}
    assert rails.observe({"loss/gradient_norm": 2.1}) == {"loss/gradient_spikes": 1.0}


def test_stops_when_the_reward_collapses() -> None:
    config = RailsConfig(window=2, stop_reward_share=0.5)
    rewards = [{"reward/mean": value} for value in (0.2, 0.6, 1.0, 0.4, 0.4, 0.3)]
    # means of two: 0.4, 0.8 (the best), 0.7, 0.4 (half of it, not below), 0.35
    *before, last = reasons(config, rewards)
    assert before == [""] * 5
    assert last == (
        "the mean reward of the last 2 steps is 0.350, below rails.stop_reward_share = 0.5 of the best, 0.800"
    )
    assert reasons(RailsConfig(window=2), rewards) == [""] * 6


def test_rewards_below_zero_do_not_stop_a_run() -> None:
    rewards = [{"reward/mean": value} for value in (-0.5, -0.4, -0.3, -0.6)]
    assert reasons(RailsConfig(window=2, stop_reward_share=0.5), rewards) == [""] * 4


@pytest.mark.parametrize("kl", ["reference_kl", "sampler_kl"])
def test_stops_when_a_kl_is_too_large(kl: str) -> None:
    history: list[dict[str, float]] = [{f"loss/{kl}": 0.1}, {}, {f"loss/{kl}": 0.2}, {f"loss/{kl}": 0.25}]
    found = reasons(RailsConfig(**{f"stop_{kl}": 0.2}), history)
    assert found == ["", "", "", f"loss/{kl} is 0.25, above rails.stop_{kl} = 0.2"]
    assert reasons(RailsConfig(), history) == [""] * 4


def test_a_resumed_run_goes_on_as_if_it_had_not_been_stopped() -> None:
    config = RailsConfig(window=3, gradient_spike=2.0, stop_reward_share=0.7)
    history: list[dict[str, Any]] = [{"step": 0, "eval/f1": 0.1}]
    history += [
        {"step": step, "loss/gradient_norm": norm, "reward/mean": reward}
        for step, (norm, reward) in enumerate(
            zip((1, 1, 1, 5, 1, 1, 9, 1), (0.9, 0.9, 0.9, 0.8, 0.6, 0.6, 0.5, 0.5), strict=True), start=1
        )
    ]
    whole = Rails(config)
    expected = [(whole.observe(metrics), whole.reason_to_stop(metrics)) for metrics in history]
    assert expected[-1][0] == {"loss/gradient_spikes": 2.0} and expected[-1][1] and not expected[-3][1]
    for stopped in range(len(history)):
        resumed = Rails(config, history[:stopped])
        rest = [(resumed.observe(metrics), resumed.reason_to_stop(metrics)) for metrics in history[stopped:]]
        assert rest == expected[stopped:]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("window", 1),
        ("gradient_spike", 1.0),
        ("stop_reward_share", 1.0),
        ("stop_reward_share", -0.1),
        ("stop_reference_kl", -1.0),
        ("stop_sampler_kl", -1.0),
    ],
)
def test_refuses_naming_setting_and_value(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"rails\.{setting}: expected .*got {value}"):
        RailsConfig(**{setting: value})  # type: ignore[arg-type]
