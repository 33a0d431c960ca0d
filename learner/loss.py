"""The policy loss: token-level clipped ratio with clip-higher, as sums, so that any split over micro-batches and ranks
gives the same gradient after one division by the global number of response tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLossSums:
    """Sums over the N response tokens of a micro-batch; only `loss` carries a gradient."""

    loss: Tensor  # []
    num_clipped: Tensor  # []
    kl: Tensor  # [], k3 estimate of KL(sampler || learner)
    logprob_difference: Tensor  # [], of absolute differences learner - sampler
    logprob_difference_max: Tensor  # [], a maximum, not a sum


def clipped_policy_loss(
    logprobs: Tensor,  # [N] of the policy being trained
    sampler_logprobs: Tensor,  # [N] of the policy that sampled the tokens
    advantages: Tensor,  # [N] of the token's response
    *,
    clip_low: float,
    clip_high: float,
) -> PolicyLossSums:
    """Sum over tokens of -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = exp(logprob - sampler_logprob).

    The clipped surrogate of PPO with group-relative advantages (GRPO, arXiv 2402.03300, eq. 3), aggregated over tokens
    and with an upper bound of its own (clip-higher; DAPO, arXiv 2503.14476, eq. 8 and 10). A token counts as clipped
    where the clipped term is the smaller one, so its gradient is zero.

    The old policy is the sampler: its processed logprobs equal the learner's own to rounding when it sampled with the
    learner's weights, they need no extra forward pass, and they stay right over several minibatches and epochs.
    """
    log_ratio = logprobs - sampler_logprobs
    ratio = log_ratio.exp()
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    with torch.no_grad():
        difference = log_ratio.detach().abs()
        sums = {
            "num_clipped": (clipped < unclipped).sum().to(logprobs.dtype),
            "kl": k3(log_ratio.detach()).sum(),
            "logprob_difference": difference.sum(),
            "logprob_difference_max": difference.max() if len(difference) else difference.sum(),
        }
    return PolicyLossSums(loss=-torch.minimum(unclipped, clipped).sum(), **sums)


def k3(log_ratio: Tensor) -> Tensor:
    """Per-token estimate of KL(q || p) from samples of q, log_ratio = log p - log q: exp(x) - 1 - x >= 0.

    Schulman, "Approximating KL Divergence" (2020): unbiased, and of low variance when p is near q.
    """
    return torch.expm1(log_ratio) - log_ratio
