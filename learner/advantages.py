"""Group-relative advantages: how much better a response is than the others of the same query."""

from collections.abc import Sequence
from math import fsum, isfinite, sqrt

EPSILON = 1e-6


def group_advantages(rewards: Sequence[float], *, normalize: bool = True, epsilon: float = EPSILON) -> list[float]:
    """Advantages of the responses of one query.

    GRPO (arXiv 2402.03300, section 4.1.2): A_i = (r_i - mean(r)) / (std(r) + epsilon), with the population standard
    deviation. With `normalize=False`, Dr. GRPO (arXiv 2503.20783): A_i = r_i - mean(r). A group whose rewards are all
    equal gives zeros exactly. Raises ValueError on an empty group or a reward that is not finite.
    """
    if not rewards:
        raise ValueError("a group needs at least one reward, got none")
    if not all(isfinite(reward) for reward in rewards):
        raise ValueError(f"rewards must be finite, got {list(rewards)}")
    if uninformative(rewards):
        return [0.0] * len(rewards)
    mean = fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if not normalize:
        return centred
    std = sqrt(fsum(value * value for value in centred) / len(rewards))
    return [value / (std + epsilon) for value in centred]


def uninformative(rewards: Sequence[float]) -> bool:
    """Whether all rewards are equal: nothing to learn from the group, every advantage is zero."""
    return all(reward == rewards[0] for reward in rewards)
