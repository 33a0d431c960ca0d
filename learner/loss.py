"""The loss family as pure functions of a micro-batch's response tokens.

Every loss is a weighted sum over tokens whose weights hold the global denominators (`token_weights`), so any split over
micro-batches and ranks gives the same gradient. The parts, each chosen by name (`learner/loss_config.py`):

    loss = sum_t weight_t * (importance_t * surrogate_t + kl_coefficient * kl_t - entropy_coefficient * entropy_t)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.loss_config import Loss

EXPLOSION = 10.0  # a probability that changed by more than this factor is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTokens:
    """The N response tokens of a micro-batch, of S responses. Only `logprobs` (and `entropies`) carry a gradient."""

    logprobs: Tensor  # [N] of the policy being trained
    old_logprobs: Tensor  # [N] of the policy at the start of the update, or of the sampler in its place
    sampler_logprobs: Tensor  # [N] of the policy that sampled the tokens
    reference_logprobs: Tensor | None  # [N]
    entropies: Tensor  # [N] of the policy's distribution
    advantages: Tensor  # [N] of the token's response
    response: Tensor  # [N] which of the S responses the token belongs to
    weights: Tensor  # [N] see token_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """The loss, and sums over tokens for the statistics; only `loss` carries a gradient."""

    loss: Tensor  # []
    of_tokens: Tensor  # [N] the loss's parts, to find those that are not finite
    num_clipped: Tensor  # []
    ratio_max: Tensor  # [], a maximum, not a sum
    num_explosions: Tensor  # []
    importance: Tensor  # []
    num_bounded: Tensor  # []
    reference_kl: Tensor  # []


def policy_loss(tokens: LossTokens, loss: Loss) -> LossSums:
    """The loss of a micro-batch's tokens, by the ingredients of `loss`."""
    log_ratio = tokens.logprobs - tokens.old_logprobs
    if loss.ratio == "sequence":
        log_ratio = _of_response(log_ratio, tokens.response, mean=True)
    surrogate, clipped = _SURROGATES[loss.surrogate](tokens, log_ratio, loss)
    weight, bounded = importance_weights(tokens, loss)
    of_tokens = weight * surrogate
    kl = torch.zeros_like(tokens.logprobs)
    if tokens.reference_logprobs is not None:
        kl = kl_estimate(tokens.logprobs, tokens.reference_logprobs, loss.kl_estimator)
        if loss.kl_in == "loss":
            of_tokens = of_tokens + loss.kl_coefficient * kl
    if loss.entropy_coefficient:
        of_tokens = of_tokens - loss.entropy_coefficient * tokens.entropies
    with torch.no_grad():
        drift = (tokens.logprobs - tokens.sampler_logprobs).abs()
        ratio = log_ratio.exp()
        statistics = {
            "of_tokens": of_tokens.detach(),
            "num_clipped": clipped.sum(),
            "ratio_max": ratio.max() if len(ratio) else ratio.sum(),
            "num_explosions": (drift > _log(EXPLOSION, drift)).sum(),
            "importance": weight.sum(),
            "num_bounded": bounded.sum(),
            "reference_kl": kl.detach().sum(),
        }
    return LossSums(loss=(tokens.weights * of_tokens).sum(), **statistics)


def token_weights(
    response: Tensor,
    aggregation: str,
    *,
    num_tokens: int,
    num_responses: int,
    max_response_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weights [N] of the tokens in the loss; `response` [N] says which response a token belongs to.

    The numbers are of the whole minibatch, over all ranks, where the papers write them for one group. For groups of
    equal size that is the same, but for `token`, where DAPO's own code counts over the minibatch, too.
    - `token`: 1 / num_tokens, every token counts the same (DAPO, arXiv 2503.14476, eq. 8).
    - `sequence`: 1 / (num_responses * length of the response), every response counts the same (GRPO, arXiv 2402.03300,
      eq. 3).
    - `sequence_sum`: 1 / num_responses, the log-probability of whole responses (RLOO, arXiv 2402.14740).
    - `constant`: 1 / (num_responses * max_response_tokens), no length in the denominator (Dr. GRPO, arXiv 2503.20783).
    """
    ones = torch.ones(len(response), dtype=dtype, device=response.device)
    if aggregation == "token":
        return ones / num_tokens
    if aggregation == "sequence":
        return ones / (num_responses * torch.bincount(response)[response]) if len(response) else ones
    if aggregation == "sequence_sum":
        return ones / num_responses
    if aggregation == "constant":
        return ones / (num_responses * max_response_tokens)
    raise ValueError(f"unknown aggregation {aggregation!r}")


def importance_weights(tokens: LossTokens, loss: Loss) -> tuple[Tensor, Tensor]:
    """Weights [N] between sampler and learner, without gradient, and which of them [N] were bounded.

    w = pi_old / pi_sampler of the token, or of the whole response (the product over its tokens). `truncate` takes
    min(w, importance_max): truncated importance sampling, as in IMPALA (arXiv 1802.01561), and for engines that differ
    from the learner in Yao et al., "Your efficient RL framework secretly brings you off-policy RL training" (2025).
    `mask` gives weight 0 outside [1 / importance_max, importance_max].
    """
    log_weight = (tokens.old_logprobs - tokens.sampler_logprobs).detach()
    if not loss.corrects_sampler:
        return torch.ones_like(log_weight), torch.zeros_like(log_weight, dtype=torch.bool)
    if loss.importance_level == "sequence":
        log_weight = _of_response(log_weight, tokens.response, mean=False)
    limit = _log(loss.importance_max, log_weight)
    above = log_weight > limit
    if loss.importance == "truncate":
        return torch.minimum(log_weight, limit).exp(), above
    outside = above | (log_weight < -limit)
    return log_weight.exp().masked_fill(outside, 0.0), outside


def kl_estimate(logprobs: Tensor, reference_logprobs: Tensor, estimator: str) -> Tensor:
    """Per-token estimates [N] of KL(policy || reference) from samples of the policy; x = log reference - log policy.

    Schulman, "Approximating KL Divergence" (2020): `k1` = -x, unbiased; `k2` = x^2 / 2, biased and of low variance;
    `k3` = exp(x) - 1 - x, unbiased and never negative. That is said of their values, as a KL in the reward needs it. As
    terms of a loss their gradients matter: in expectation k2's is that of KL(policy || reference), k3's that of
    KL(reference || policy), and k1's is zero.
    """
    x = reference_logprobs - logprobs
    if estimator == "k1":
        return -x
    if estimator == "k2":
        return x.square() / 2
    if estimator == "k3":
        return torch.expm1(x) - x
    raise ValueError(f"unknown KL estimator {estimator!r}")


def _clip(tokens: LossTokens, log_ratio: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A): PPO's surrogate, with an upper bound of its own (clip-higher).

    GRPO, arXiv 2402.03300, eq. 3; DAPO, arXiv 2503.14476, eq. 10; with the ratio of whole responses GSPO, arXiv
    2507.18071, eq. 5. A token is clipped where the clipped term is the smaller one, so its gradient is zero.
    """
    ratio = log_ratio.exp()
    unclipped = ratio * tokens.advantages
    clipped = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high) * tokens.advantages
    return -torch.minimum(unclipped, clipped), clipped < unclipped


def _cispo(tokens: LossTokens, log_ratio: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """-stop_gradient(clip(r, 1 - clip_low, 1 + clip_high)) A log pi: CISPO (arXiv 2506.13585, eq. 4 and 5)."""
    ratio = log_ratio.detach().exp()
    bounded = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high)
    return -bounded * tokens.advantages * tokens.logprobs, bounded != ratio


def _reinforce(tokens: LossTokens, log_ratio: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """-A log pi (REINFORCE); with A = 1 the negative log-likelihood of supervised fine-tuning."""
    return -tokens.advantages * tokens.logprobs, torch.zeros_like(log_ratio, dtype=torch.bool)


_SURROGATES = {"clip": _clip, "cispo": _cispo, "reinforce": _reinforce}


def _of_response(values: Tensor, response: Tensor, *, mean: bool) -> Tensor:
    """[N] -> [N]: every token gets the sum (or mean) over the tokens of its response."""
    num_responses = int(response.max()) + 1 if len(response) else 0
    sums = torch.zeros(num_responses, dtype=values.dtype, device=values.device).index_add(0, response, values)
    if mean:
        sums = sums / torch.bincount(response, minlength=num_responses).clamp(min=1)
    return sums[response]


def _log(value: float, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=like.dtype, device=like.device).log()
