"""The parts of the losses against values computed by hand, gradients included."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from learner.loss import LossTokens, importance_weights, kl_estimate, policy_loss, token_weights
from learner.loss_config import Loss, LossConfig


def loss_of(**settings: Any) -> Loss:
    return LossConfig(**settings).resolved(pipelined=False)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tokens_of(
    ratios: Tensor, advantages: Tensor, response: tuple[int, ...] | None = None, **others: Tensor
) -> LossTokens:
    """Tokens whose probability was 1 / e at sampling and has changed by `ratios`; of weight 1, all of one response."""
    sampler = torch.full_like(ratios, -1.0)
    given: dict[str, Any] = {
        "logprobs": (sampler + ratios.log()).requires_grad_(),
        "old_logprobs": sampler,
        "sampler_logprobs": sampler,
        "reference_logprobs": None,
        "entropies": torch.zeros_like(ratios),
        "advantages": advantages,
        "response": torch.tensor(response or (0,) * len(ratios)),
        "weights": torch.ones_like(ratios),
    }
    return LossTokens(**(given | others))


def gradient(tokens: LossTokens, loss: Loss) -> list[float]:
    (found,) = torch.autograd.grad(policy_loss(tokens, loss).loss, tokens.logprobs)
    return found.tolist()


# ratio 1: free; 1.5 with A > 0: clipped at 1.28, with A < 0: free; 0.5 with A > 0: free, with A < 0: clipped at 0.8
RATIOS, ADVANTAGES = tensor(1.0, 1.5, 1.5, 0.5, 0.5), tensor(2.0, 1.0, -1.0, 1.0, -1.0)


def test_clip() -> None:
    tokens, loss = tokens_of(RATIOS, ADVANTAGES), loss_of()
    sums = policy_loss(tokens, loss)
    assert sums.of_tokens.tolist() == pytest.approx([-2.0, -1.28, 1.5, -0.5, 0.8], rel=1e-12)
    assert sums.loss.item() == pytest.approx(-(2.0 + 1.28 - 1.5 + 0.5 - 0.8), rel=1e-12)
    assert (sums.num_clipped.item(), sums.num_explosions.item()) == (2, 0)
    assert sums.ratio_max.item() == pytest.approx(1.5) and sums.importance.item() == 5
    # d(-rho A) / d logprob = -rho A where free, 0 where clipped
    assert gradient(tokens, loss) == pytest.approx([-2.0, 0.0, 1.5, -0.5, 0.0], rel=1e-12)


def test_clip_higher_lets_unlikely_tokens_grow_further() -> None:
    tokens = tokens_of(tensor(1.25), tensor(1.0))
    higher, symmetric = policy_loss(tokens, loss_of()), policy_loss(tokens, loss_of(clip_high=0.2))
    assert (higher.num_clipped.item(), symmetric.num_clipped.item()) == (0, 1)
    assert (higher.loss.item(), symmetric.loss.item()) == (pytest.approx(-1.25), pytest.approx(-1.2))


def test_cispo_bounds_the_weight_and_loses_no_gradient() -> None:
    tokens, loss = tokens_of(RATIOS, ADVANTAGES), loss_of(surrogate="cispo", clip_low=0.2, clip_high=0.28)
    bounded = [1.0, 1.28, 1.28, 0.8, 0.8]
    sums = policy_loss(tokens, loss)
    logprobs = [-1 + math.log(ratio) for ratio in RATIOS.tolist()]
    expected = [-w * a * lp for w, a, lp in zip(bounded, ADVANTAGES.tolist(), logprobs, strict=True)]
    assert sums.of_tokens.tolist() == pytest.approx(expected, rel=1e-12) and sums.num_clipped.item() == 4
    assert gradient(tokens, loss) == pytest.approx([-2.0, -1.28, 1.28, -0.8, 0.8], rel=1e-12)
    assert policy_loss(tokens, loss_of(preset="cispo")).num_clipped.item() == 0  # between 0 and 5


def test_reinforce_is_the_weighted_log_likelihood() -> None:
    tokens, loss = tokens_of(tensor(1.0, 0.5), tensor(2.0, -1.0)), loss_of(preset="rloo", kl_coefficient=0.0)
    sums = policy_loss(tokens, loss)
    assert sums.loss.item() == pytest.approx(2.0 * 1.0 - 1.0 * (1.0 + math.log(2)), rel=1e-12)
    assert gradient(tokens, loss) == [-2.0, 1.0] and sums.num_clipped.item() == 0


def test_sequence_ratio_is_the_geometric_mean_of_the_response() -> None:
    # response 0: (2 * 0.5 * 1.331) ** (1/3) = 1.1, free with A = 1; response 1: 1.5, clipped at 1.28
    tokens = tokens_of(tensor(2.0, 0.5, 1.331, 1.5), tensor(1.0, 1.0, 1.0, 1.0), (0, 0, 0, 1))
    loss = loss_of(ratio="sequence")
    sums = policy_loss(tokens, loss)
    assert sums.of_tokens.tolist() == pytest.approx([-1.1, -1.1, -1.1, -1.28], rel=1e-12)
    assert sums.num_clipped.item() == 1 and sums.ratio_max.item() == pytest.approx(1.5)
    # each token moves the ratio of three tokens by a third
    assert gradient(tokens, loss) == pytest.approx([-1.1, -1.1, -1.1, 0.0], rel=1e-12)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("token", [1 / 10] * 4),
        ("sequence", [1 / (5 * 3)] * 3 + [1 / 5]),
        ("sequence_sum", [1 / 5] * 4),
        ("constant", [1 / (5 * 8)] * 4),
    ],
)
def test_token_weights(aggregation: str, expected: list[float]) -> None:
    response = torch.tensor([0, 0, 0, 1])  # of five responses and ten tokens over all ranks
    found = token_weights(
        response, aggregation, num_tokens=10, num_responses=5, max_response_tokens=8, dtype=torch.float64
    )
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    tokens = tokens_of(tensor(1.0, 1.0, 1.0, 1.0), tensor(1.0, 2.0, 3.0, 4.0), (0, 0, 0, 1), weights=found)
    weighted = [weight * advantage for weight, advantage in zip(expected, (1.0, 2.0, 3.0, 4.0), strict=True)]
    assert policy_loss(tokens, loss_of()).loss.item() == pytest.approx(-sum(weighted), rel=1e-12)
    assert gradient(tokens, loss_of()) == pytest.approx([-value for value in weighted], rel=1e-12)


@pytest.mark.parametrize(
    ("estimator", "values", "slopes"),
    [  # x = log reference - log policy: log 2 and -log 4; slopes of the estimates in log policy: 1, -x and 1 - exp(x)
        ("k1", [-math.log(2), math.log(4)], [1.0, 1.0]),
        ("k2", [math.log(2) ** 2 / 2, math.log(4) ** 2 / 2], [-math.log(2), math.log(4)]),
        ("k3", [2 - 1 - math.log(2), 0.25 - 1 + math.log(4)], [-1.0, 0.75]),
    ],
)
def test_kl_estimates(estimator: str, values: list[float], slopes: list[float]) -> None:
    policy = tensor(-1.0, -1.0).requires_grad_()
    reference = tensor(-1 + math.log(2), -1 - math.log(4))
    assert kl_estimate(policy, reference, estimator).tolist() == pytest.approx(values, rel=1e-12)
    tokens = tokens_of(tensor(1.0, 1.0), tensor(0.0, 0.0), reference_logprobs=reference)
    in_loss = loss_of(kl_coefficient=0.5, kl_estimator=estimator)
    sums = policy_loss(tokens, in_loss)
    assert sums.loss.item() == pytest.approx(0.5 * sum(values), rel=1e-12)
    assert sums.reference_kl.item() == pytest.approx(sum(values), rel=1e-12)
    assert gradient(tokens, in_loss) == pytest.approx([0.5 * slope for slope in slopes], rel=1e-12)
    in_reward = policy_loss(tokens, replace(in_loss, kl_in="reward"))  # counted, but no part of the loss
    assert (in_reward.loss.item(), in_reward.reference_kl.item()) == (0, pytest.approx(sum(values), rel=1e-12))


def test_k1_and_k3_are_exact_in_expectation_and_k2s_gradient_is() -> None:
    logits = tensor(0.3, -0.2, 1.1).requires_grad_()
    policy, reference = logits.log_softmax(0), tensor(0.4, 0.5, 0.1).log()
    probabilities = policy.detach().exp()
    kl = (policy.exp() * (policy - reference)).sum()
    for estimator in ("k1", "k3"):
        expected = (probabilities * kl_estimate(policy, reference, estimator)).sum().item()
        assert expected == pytest.approx(kl.item(), rel=1e-12)
    (of_kl,) = torch.autograd.grad(kl, logits, retain_graph=True)
    (of_reverse,) = torch.autograd.grad(-(reference.exp() * policy).sum(), logits, retain_graph=True)
    gradients = {"k1": torch.zeros(3, dtype=torch.float64), "k2": of_kl, "k3": of_reverse}
    for estimator, expected_gradient in gradients.items():
        mean = (probabilities * kl_estimate(policy, reference, estimator)).sum()
        (found,) = torch.autograd.grad(mean, logits, retain_graph=True)
        assert torch.allclose(found, expected_gradient, atol=1e-12), estimator


def test_entropy_bonus() -> None:
    entropies = tensor(0.5, 2.0).requires_grad_()
    tokens = tokens_of(tensor(1.0, 1.0), tensor(1.0, 1.0), entropies=entropies)
    loss = policy_loss(tokens, loss_of(entropy_coefficient=0.1)).loss
    assert loss.item() == pytest.approx(-2 - 0.1 * 2.5, rel=1e-12)
    (found,) = torch.autograd.grad(loss, entropies)
    assert found.tolist() == [-0.1, -0.1]


# pi_old / pi_sampler of five tokens: 3, 0.25, 1.5 of one response (product 1.125), 4, 0.8 of another (3.2)
OLD_OVER_SAMPLER, OF_RESPONSE = tensor(3.0, 0.25, 1.5, 4.0, 0.8), (0, 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("correction", "level", "expected", "num_bounded"),
    [
        ("none", "token", [1.0] * 5, 0),
        ("truncate", "token", [2.0, 0.25, 1.5, 2.0, 0.8], 2),
        ("mask", "token", [0.0, 0.0, 1.5, 0.0, 0.8], 3),
        ("truncate", "sequence", [1.125] * 3 + [2.0] * 2, 2),
        ("mask", "sequence", [1.125] * 3 + [0.0] * 2, 2),
    ],
)
def test_importance_weights(correction: str, level: str, expected: list[float], num_bounded: int) -> None:
    old = torch.full((5,), -1.0, dtype=torch.float64)
    tokens = tokens_of(
        torch.ones(5, dtype=torch.float64), tensor(1.0, 1.0, 2.0, 1.0, -1.0), OF_RESPONSE,
        old_logprobs=old, sampler_logprobs=old - OLD_OVER_SAMPLER.log(),
    )  # fmt: skip
    loss = loss_of(importance=correction, importance_level=level)
    weights, bounded = importance_weights(tokens, loss)
    assert weights.tolist() == pytest.approx(expected, rel=1e-12) and bounded.sum().item() == num_bounded
    sums = policy_loss(tokens, loss)
    advantages = tokens.advantages.tolist()
    assert sums.of_tokens.tolist() == pytest.approx([-w * a for w, a in zip(expected, advantages, strict=True)])
    assert gradient(tokens, loss) == pytest.approx([-w * a for w, a in zip(expected, advantages, strict=True)])
    assert sums.importance.item() == pytest.approx(sum(expected)) and sums.num_bounded.item() == num_bounded


def test_a_weight_that_overflows_is_bounded_not_infinite() -> None:
    ones = torch.ones(1, dtype=torch.float64)
    tokens = tokens_of(ones, ones, old_logprobs=-ones, sampler_logprobs=-1e4 * ones)
    for correction, expected in (("truncate", 2.0), ("mask", 0.0)):
        weights, _ = importance_weights(tokens, loss_of(importance=correction))
        assert weights.item() == pytest.approx(expected)


def test_the_weight_is_between_old_and_sampler_the_ratio_between_policy_and_old() -> None:
    # pi / pi_old = 1.2, pi_old / pi_sampler = 1.5
    tokens = tokens_of(tensor(1.8), tensor(1.0), old_logprobs=tensor(-1 + math.log(1.5)))
    corrected = policy_loss(tokens, loss_of(importance="truncate"))
    assert corrected.loss.item() == pytest.approx(-1.5 * 1.2, rel=1e-12) and corrected.num_clipped.item() == 0


def test_explosions_are_counted_against_the_sampler() -> None:
    sums = policy_loss(tokens_of(tensor(10.5, 1 / 10.5, 9.5, 1.0), torch.zeros(4, dtype=torch.float64)), loss_of())
    assert sums.num_explosions.item() == 2 and sums.ratio_max.item() == pytest.approx(10.5)


def test_a_token_that_is_not_finite_is_found() -> None:
    sums = policy_loss(tokens_of(tensor(1.0, 1.0), tensor(1.0, math.inf)), loss_of())
    assert sums.of_tokens.isfinite().tolist() == [True, False] and not sums.loss.isfinite()


@pytest.mark.parametrize("settings", [{}, {"preset": "gspo"}, {"importance": "mask", "importance_level": "sequence"}])
def test_no_tokens_is_zero_with_a_gradient(settings: dict[str, Any]) -> None:
    empty = torch.zeros(0, dtype=torch.float64)
    tokens = replace(tokens_of(empty, empty), response=torch.zeros(0, dtype=torch.long))
    sums = policy_loss(tokens, loss_of(**settings))
    assert (sums.loss.item(), sums.ratio_max.item(), sums.num_clipped.item()) == (0, 0, 0) and sums.loss.requires_grad
    for aggregation in ("token", "sequence", "sequence_sum", "constant"):
        found = token_weights(tokens.response, aggregation, num_tokens=3, num_responses=2, max_response_tokens=8)
        assert found.shape == (0,)
