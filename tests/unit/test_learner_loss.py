"""The clipped token-level loss against hand-computed values, gradients included."""

import math

import pytest
import torch

from learner.loss import clipped_policy_loss, k3


def test_loss_clip_fraction_and_gradient_by_hand() -> None:
    # ratios: 1 (free), 1.5 with A > 0 (clipped at 1.28), 1.5 with A < 0 (not clipped),
    # 0.5 with A > 0 (not clipped), 0.5 with A < 0 (clipped at 0.8)
    ratios = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5], dtype=torch.float64)
    advantages = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    sampler = torch.full((5,), -1.0, dtype=torch.float64)
    logprobs = (sampler + ratios.log()).requires_grad_()
    sums = clipped_policy_loss(logprobs, sampler, advantages, clip_low=0.2, clip_high=0.28)
    assert sums.loss.item() == pytest.approx(-(2.0 + 1.28 - 1.5 + 0.5 - 0.8), rel=1e-12)
    assert sums.num_clipped.item() == 2
    sums.loss.backward()
    # d(-rho A) / d logprob = -rho A where free, 0 where clipped
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2.0, 0.0, 1.5, -0.5, 0.0], rel=1e-12)


def test_clip_higher_lets_unlikely_tokens_grow_further() -> None:
    logprobs = torch.tensor([math.log(1.25)], requires_grad=True)
    zero, one = torch.zeros(1), torch.ones(1)
    higher = clipped_policy_loss(logprobs, zero, one, clip_low=0.2, clip_high=0.28)
    symmetric = clipped_policy_loss(logprobs, zero, one, clip_low=0.2, clip_high=0.2)
    assert (higher.num_clipped.item(), symmetric.num_clipped.item()) == (0, 1)
    assert higher.loss.item() == pytest.approx(-1.25) and symmetric.loss.item() == pytest.approx(-1.2)


def test_sampler_statistics_are_sums() -> None:
    sampler = torch.tensor([-1.0, -2.0])
    sums = clipped_policy_loss(sampler + torch.tensor([0.5, -0.25]), sampler, torch.ones(2), clip_low=0.2, clip_high=1)
    assert sums.logprob_difference.item() == pytest.approx(0.75)
    assert sums.logprob_difference_max.item() == pytest.approx(0.5)
    expected = (math.exp(0.5) - 1 - 0.5) + (math.exp(-0.25) - 1 + 0.25)
    assert sums.kl.item() == pytest.approx(expected, rel=1e-6)


def test_k3_is_exact_in_expectation() -> None:
    q, p = torch.tensor([0.7, 0.3], dtype=torch.float64), torch.tensor([0.4, 0.6], dtype=torch.float64)
    log_ratio = p.log() - q.log()
    assert (q * k3(log_ratio)).sum().item() == pytest.approx((q * (q.log() - p.log())).sum().item(), rel=1e-12)


def test_no_tokens_is_zero() -> None:
    empty = torch.zeros(0, requires_grad=True)
    sums = clipped_policy_loss(empty, torch.zeros(0), torch.zeros(0), clip_low=0.2, clip_high=0.28)
    assert sums.loss.item() == 0 and sums.logprob_difference_max.item() == 0
