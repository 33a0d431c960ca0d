"""Advantages: how much better a response is than the others of the same query, or of the batch."""

from collections.abc import Sequence
from math import fsum, isfinite, sqrt

EPSILON = 1e-6


def batch_advantages(rewards: Sequence[Sequence[float]], method: str, *, epsilon: float = EPSILON) -> list[list[float]]:
    """Advantages of all responses of a batch; `rewards[g][i]` is the reward of response i of group g.

    - `grpo` (arXiv 2402.03300, section 4.1.2): (r_i - mean(r)) / (std(r) + epsilon) within the group.
    - `dr_grpo` (arXiv 2503.20783): r_i - mean(r) within the group.
    - `rloo` (arXiv 2402.14740): r_i minus the mean of the group's other rewards.
    - `reinforce_pp` (REINFORCE++, arXiv 2501.03262): (r - mean) / (std + epsilon) over the whole batch. We deviate
      where a KL is in the reward: every token gets that of its whole response, not only of the tokens from it on.
    - `reinforce_pp_baseline` (ibid.): r - mean within the group, then divided by the batch's std + epsilon.

    Standard deviations are of the population. A group (for `reinforce_pp` a batch) whose rewards are all equal gives
    zeros exactly. Raises ValueError on an empty group, a reward that is not finite, a group of one where others are
    needed.
    """
    for group in rewards:
        _check(group)
    if method in ("grpo", "dr_grpo"):
        return [group_advantages(group, normalize=method == "grpo", epsilon=epsilon) for group in rewards]
    if method == "rloo":
        return [_leave_one_out(group) for group in rewards]
    if method == "reinforce_pp":
        flat = iter(group_advantages([reward for group in rewards for reward in group], epsilon=epsilon))
        return [[next(flat) for _ in group] for group in rewards]
    if method == "reinforce_pp_baseline":
        centred = [group_advantages(group, normalize=False) for group in rewards]
        std = _deviation([value for group in centred for value in group])
        return [[value / (std + epsilon) for value in group] for group in centred]
    raise ValueError(f"unknown advantage {method!r}")


def group_advantages(rewards: Sequence[float], *, normalize: bool = True, epsilon: float = EPSILON) -> list[float]:
    """Rewards minus their mean, divided by their standard deviation + epsilon if `normalize`."""
    _check(rewards)
    if uninformative(rewards):
        return [0.0] * len(rewards)
    mean = fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if not normalize:
        return centred
    std = _deviation(centred)
    return [value / (std + epsilon) for value in centred]


def uninformative(rewards: Sequence[float]) -> bool:
    """Whether all rewards are equal: the group says nothing about which response is better."""
    return all(reward == rewards[0] for reward in rewards)


def _leave_one_out(rewards: Sequence[float]) -> list[float]:
    if len(rewards) < 2:
        raise ValueError("a leave-one-out baseline needs at least two rewards in a group, got 1")
    if uninformative(rewards):
        return [0.0] * len(rewards)
    total = fsum(rewards)
    return [reward - (total - reward) / (len(rewards) - 1) for reward in rewards]


def _deviation(centred: Sequence[float]) -> float:
    return sqrt(fsum(value * value for value in centred) / len(centred))


def _check(rewards: Sequence[float]) -> None:
    if not rewards:
        raise ValueError("a group needs at least one reward, got none")
    if not all(isfinite(reward) for reward in rewards):
        raise ValueError(f"rewards must be finite, got {list(rewards)}")
