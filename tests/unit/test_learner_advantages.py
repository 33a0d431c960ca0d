"""Advantages of every method against hand-computed values."""

import math

import pytest

from learner.advantages import batch_advantages, group_advantages, uninformative
from learner.loss_config import ADVANTAGES

BATCH = [[3.0, 1.0, 2.0], [0.0, 4.0]]


def test_grpo_divides_by_population_deviation() -> None:
    # mean 0.5, deviations 0.5 and -0.5, population standard deviation 0.5
    assert group_advantages([1.0, 0.0, 1.0, 0.0], epsilon=0.0) == [1.0, -1.0, 1.0, -1.0]
    # mean 2, population variance (4 + 1 + 1 + 4 + 0) / 5 = 2
    expected = [value / math.sqrt(2) for value in (-2, -1, 0, 1, 2)]
    assert group_advantages([0, 1, 2, 3, 4], epsilon=0.0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # means 2 and 2, deviations sqrt(2/3) and 2
        ("grpo", [[math.sqrt(1.5), -math.sqrt(1.5), 0.0], [-1.0, 1.0]]),
        ("dr_grpo", [[1.0, -1.0, 0.0], [-2.0, 2.0]]),
        # 3 - (1 + 2) / 2, 1 - (3 + 2) / 2, 2 - (3 + 1) / 2; 0 - 4, 4 - 0
        ("rloo", [[1.5, -1.5, 0.0], [-4.0, 4.0]]),
        # mean of all 2, variance (1 + 1 + 0 + 4 + 4) / 5 = 2
        ("reinforce_pp", [[1 / math.sqrt(2), -1 / math.sqrt(2), 0.0], [-math.sqrt(2), math.sqrt(2)]]),
        ("reinforce_pp_baseline", [[1 / math.sqrt(2), -1 / math.sqrt(2), 0.0], [-math.sqrt(2), math.sqrt(2)]]),
    ],
)
def test_methods(method: str, expected: list[list[float]]) -> None:
    found = batch_advantages(BATCH, method, epsilon=0.0)
    for group, of_group in zip(found, expected, strict=True):
        assert group == pytest.approx(of_group, rel=1e-12, abs=1e-15)


def test_a_batch_mean_is_not_the_group_means() -> None:
    # groups with means 1 and 3; mean of all 2, variance (4 + 0 + 0 + 4) / 4 = 2; around the groups' means 1
    rewards = [[0.0, 2.0], [2.0, 4.0]]
    low, high = batch_advantages(rewards, "reinforce_pp", epsilon=0.0)
    assert low == pytest.approx([-math.sqrt(2), 0.0]) and high == pytest.approx([0.0, math.sqrt(2)])
    assert batch_advantages(rewards, "reinforce_pp_baseline", epsilon=0.0) == [[-1.0, 1.0], [-1.0, 1.0]]


def test_epsilon_is_added_to_the_deviation() -> None:
    assert batch_advantages([[1.0, 0.0]], "grpo", epsilon=0.5) == [[0.5, -0.5]]
    assert batch_advantages([[1.0, 0.0]], "reinforce_pp", epsilon=0.5) == [[0.5, -0.5]]
    assert batch_advantages([[1.0, 0.0]], "reinforce_pp_baseline", epsilon=0.5) == [[0.5, -0.5]]


@pytest.mark.parametrize("method", ADVANTAGES)
def test_equal_rewards_give_exact_zeros(method: str) -> None:
    assert uninformative([0.1, 0.1, 0.1]) and not uninformative([0.1, 0.1, 0.2])
    assert batch_advantages([[0.1, 0.1, 0.1]], method) == [[0.0, 0.0, 0.0]]
    of_equal, _ = batch_advantages([[0.1, 0.1, 0.1], [0.0, 1.0]], method)
    assert (of_equal == [0.0] * 3) == (method != "reinforce_pp")  # whose baseline is that of the batch


@pytest.mark.parametrize("method", ADVANTAGES)
@pytest.mark.parametrize("rewards", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_refuses_empty_groups_and_non_finite_rewards(method: str, rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="got"):
        batch_advantages([[0.0, 1.0], rewards], method)


def test_refuses_what_cannot_be_computed() -> None:
    with pytest.raises(ValueError, match="at least two rewards in a group, got 1"):
        batch_advantages([[1.0, 0.0], [1.0]], "rloo")
    with pytest.raises(ValueError, match="unknown advantage 'gae'"):
        batch_advantages([[1.0]], "gae")
