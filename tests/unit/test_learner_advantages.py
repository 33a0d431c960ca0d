"""Group-relative advantages against hand-computed values."""

import math

import pytest

from learner.advantages import group_advantages, uninformative


def test_grpo_divides_by_population_deviation() -> None:
    # mean 0.5, deviations 0.5 and -0.5, population standard deviation 0.5
    assert group_advantages([1.0, 0.0, 1.0, 0.0], epsilon=0.0) == [1.0, -1.0, 1.0, -1.0]
    # mean 2, population variance (4 + 1 + 1 + 4 + 0) / 5 = 2
    expected = [value / math.sqrt(2) for value in (-2, -1, 0, 1, 2)]
    assert group_advantages([0, 1, 2, 3, 4], epsilon=0.0) == pytest.approx(expected, rel=1e-12)


def test_dr_grpo_only_centres() -> None:
    assert group_advantages([3.0, 1.0, 2.0], normalize=False) == [1.0, -1.0, 0.0]


def test_equal_rewards_give_exact_zeros() -> None:
    assert uninformative([0.1, 0.1, 0.1]) and not uninformative([0.1, 0.1, 0.2])
    assert group_advantages([0.1, 0.1, 0.1]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rewards", [[], [1.0, math.nan]])
def test_refuses_empty_groups_and_non_finite_rewards(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="got"):
        group_advantages(rewards)
