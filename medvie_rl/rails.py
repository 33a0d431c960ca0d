"""Safety rails of a run: what is counted when training goes astray, and when it is stopped."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any


@dataclass(kw_only=True)
class RailsConfig:
    """When a step is counted as suspicious, and when a run ends early: after it, as after its last step."""

    window: int = 10  # steps over which gradient norms and rewards are compared
    gradient_spike: float = 5.0  # a norm above this many times the window's median is counted
    max_logprob_difference: float = 0.0  # fail when sampler and learner differ by more in an on-policy step; 0 = never
    stop_reward_share: float = 0.0  # stop when the window's mean reward falls below this share of its best; 0 = never
    stop_reference_kl: float = 0.0  # stop when the KL to the reference exceeds this; 0 = never
    stop_sampler_kl: float = 0.0  # stop when the KL between sampler and learner exceeds this; 0 = never

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"rails.window: expected at least 2 steps, got {self.window}")
        if self.gradient_spike <= 1:
            raise ValueError(f"rails.gradient_spike: expected a factor above 1, got {self.gradient_spike}")
        if not 0 <= self.stop_reward_share < 1:
            raise ValueError(f"rails.stop_reward_share: expected 0 (never) or below 1, got {self.stop_reward_share}")
        for name in ("max_logprob_difference", "stop_reference_kl", "stop_sampler_kl"):
            if getattr(self, name) < 0:
                raise ValueError(f"rails.{name}: expected 0 (never) or more, got {getattr(self, name)}")


class Rails:
    """Watches the metrics of one step after the other."""

    def __init__(self, config: RailsConfig, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """`history` is the metrics that a resumed run has logged before: it goes on as if it had not been stopped."""
        self._config = config
        self._norms: deque[float] = deque(maxlen=config.window)
        self._rewards: deque[float] = deque(maxlen=config.window)
        self._best_reward = float("-inf")
        self._num_spikes = 0
        for metrics in history:
            self.observe(metrics)

    def observe(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Take in a step's metrics; returns the counters to log with it."""
        norm, reward = metrics.get("loss/gradient_norm"), metrics.get("reward/mean")
        if norm is not None:
            full = len(self._norms) == self._config.window
            self._num_spikes += full and norm > self._config.gradient_spike * median(self._norms)
            self._norms.append(norm)
        if reward is not None:
            self._rewards.append(reward)
            if len(self._rewards) == self._config.window:
                self._best_reward = max(self._best_reward, fmean(self._rewards))
        return {"loss/gradient_spikes": float(self._num_spikes)}

    def reason_to_stop(self, metrics: Mapping[str, Any]) -> str:
        """Why the run should end after the step whose metrics `observe` was given last; empty if it should go on."""
        config = self._config
        if config.stop_reward_share and len(self._rewards) == config.window:
            mean = fmean(self._rewards)
            # penalties can keep rewards below zero, where a share of the best is better than the best
            if self._best_reward > 0 and mean < config.stop_reward_share * self._best_reward:
                return (
                    f"the mean reward of the last {config.window} steps is {mean:.3f}, below rails.stop_reward_share = "
                    f"{config.stop_reward_share:g} of the best, {self._best_reward:.3f}"
                )
        for limit, name in (
            ("stop_reference_kl", "loss/reference_kl"),
            ("stop_sampler_kl", "loss/sampler_kl"),
        ):
            bound, value = getattr(config, limit), metrics.get(name)
            if bound and value is not None and value > bound:
                return f"{name} is {value:.4g}, above rails.{limit} = {bound:g}"
        return ""
