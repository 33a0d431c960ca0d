"""The losses as the papers write them, over one response at a time; CASES pairs each with its settings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.loss_config import LossConfig

MAX_RESPONSE_TOKENS = 9  # Dr. GRPO's constant denominator


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """R tokens. Only `logprobs` and `entropies` carry a gradient."""

    logprobs: Tensor  # [R]
    entropies: Tensor  # [R]
    old: Tensor  # [R] of the policy at the start of the update
    sampler: Tensor  # [R]
    reference: Tensor  # [R]
    reward: float


Formula = Callable[[list[list[Response]]], Tensor]


def standardized(rewards: Tensor) -> Tensor:
    return (rewards - rewards.mean()) / (rewards.var(correction=0).sqrt() + 1e-6)


def with_advantages(
    groups: list[list[Response]], advantages: Callable[[Tensor], Tensor] = standardized
) -> Iterator[tuple[Response, Tensor]]:
    for group in groups:
        rewards = torch.tensor([response.reward for response in group], dtype=torch.float64)
        yield from zip(group, advantages(rewards), strict=True)


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """PPO: min(r A, clip(r, 1 - low, 1 + high) A)."""
    return torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - low, 1 + high) * advantage)


def token_level(terms: Sequence[Tensor]) -> Tensor:
    """The objective's mean over all tokens, as a loss."""
    return -sum(term.sum() for term in terms) / sum(len(term) for term in terms)


def paper(groups: list[list[Response]]) -> Tensor:
    return token_level([clipped((o.logprobs - o.sampler).exp(), a, 0.2, 0.28) for o, a in with_advantages(groups)])


def grpo(groups: list[list[Response]]) -> Tensor:
    terms = []
    for o, advantage in with_advantages(groups):
        kl = (o.reference - o.logprobs).exp() - (o.reference - o.logprobs) - 1
        term = clipped((o.logprobs - o.sampler).exp(), advantage, 0.2, 0.2) - 0.04 * kl
        terms.append(term.sum() / len(term))
    return -sum(terms) / len(terms)


def dr_grpo(groups: list[list[Response]]) -> Tensor:
    terms = [
        clipped((o.logprobs - o.sampler).exp(), advantage, 0.2, 0.2).sum()
        for o, advantage in with_advantages(groups, lambda rewards: rewards - rewards.mean())
    ]
    return -sum(terms) / (len(terms) * MAX_RESPONSE_TOKENS)


def rloo(groups: list[list[Response]]) -> Tensor:
    terms = []
    for group in groups:
        rewards = [o.reward - 0.05 * float((o.sampler - o.reference).sum()) for o in group]
        for index, o in enumerate(group):
            others = [reward for other, reward in enumerate(rewards) if other != index]
            terms.append((rewards[index] - sum(others) / len(others)) * o.logprobs.sum())
    return -sum(terms) / len(terms)


def reinforce_pp(groups: list[list[Response]]) -> Tensor:
    responses = [o for group in groups for o in group]
    rewards = torch.stack([o.reward - 0.01 * (o.sampler - o.reference).sum() for o in responses])
    return token_level(
        [
            clipped((o.logprobs - o.sampler).exp(), advantage, 0.2, 0.2)
            for o, advantage in zip(responses, standardized(rewards), strict=True)
        ]
    )


def reinforce_pp_baseline(groups: list[list[Response]]) -> Tensor:
    centred = list(with_advantages(groups, lambda rewards: rewards - rewards.mean()))
    deviation = torch.stack([advantage for _, advantage in centred]).var(correction=0).sqrt() + 1e-6
    return token_level(
        [
            clipped((o.logprobs - o.sampler).exp(), advantage / deviation, 0.2, 0.2)
            - 0.01 * (o.logprobs - o.reference) ** 2 / 2
            for o, advantage in centred
        ]
    )


def gspo(groups: list[list[Response]]) -> Tensor:
    terms = []
    for o, advantage in with_advantages(groups):
        sequence_ratio = ((o.logprobs - o.sampler).sum() / len(o.logprobs)).exp()
        terms.append(clipped(sequence_ratio, advantage, 3e-4, 4e-4))
    return -sum(terms) / len(terms)


def cispo(groups: list[list[Response]]) -> Tensor:
    terms = []
    for o, advantage in with_advantages(groups):
        ratio = (o.logprobs - o.sampler).exp().detach()
        terms.append(torch.clamp(ratio, 0.0, 5.0) * advantage * o.logprobs)
    return token_level(terms)


def with_kl(estimate: Callable[[Tensor, Tensor], Tensor]) -> Formula:
    """`estimate(policy's logprobs, reference's)`, whose mean over tokens is added."""

    def formula(groups: list[list[Response]]) -> Tensor:
        responses = [o for group in groups for o in group]
        return paper(groups) - token_level([0.3 * estimate(o.logprobs, o.reference) for o in responses])

    return formula


def with_entropy(groups: list[list[Response]]) -> Tensor:
    return paper(groups) + token_level([0.1 * o.entropies for group in groups for o in group])


def with_importance(weight: Callable[[Tensor], Tensor]) -> Formula:
    """`weight(log old - log sampler)` of a response; the ratio is to the old policy then."""

    def formula(groups: list[list[Response]]) -> Tensor:
        return token_level(
            [
                weight(o.old - o.sampler) * clipped((o.logprobs - o.old).exp(), advantage, 0.2, 0.28)
                for o, advantage in with_advantages(groups)
            ]
        )

    return formula


def masked(weight: Tensor) -> Tensor:
    return torch.where((weight > 1.2) | (weight < 1 / 1.2), torch.zeros_like(weight), weight)


CASES: dict[str, tuple[LossConfig, Formula]] = {
    "paper": (LossConfig(), paper),
    "grpo": (LossConfig(preset="grpo"), grpo),
    "dr_grpo": (LossConfig(preset="dr_grpo"), dr_grpo),
    "dapo": (LossConfig(preset="dapo"), paper),  # what it does besides is done to the responses
    "rloo": (LossConfig(preset="rloo"), rloo),
    "reinforce_pp": (LossConfig(preset="reinforce_pp"), reinforce_pp),
    "reinforce_pp_baseline": (LossConfig(preset="reinforce_pp_baseline"), reinforce_pp_baseline),
    "gspo": (LossConfig(preset="gspo", importance="none"), gspo),
    "cispo": (LossConfig(preset="cispo"), cispo),
    "kl k1": (LossConfig(kl_coefficient=0.3, kl_estimator="k1"), with_kl(lambda p, q: p - q)),
    "kl k2": (LossConfig(kl_coefficient=0.3, kl_estimator="k2"), with_kl(lambda p, q: (p - q) ** 2 / 2)),
    "kl k3": (LossConfig(kl_coefficient=0.3, kl_estimator="k3"), with_kl(lambda p, q: (q - p).exp() - (q - p) - 1)),
    "entropy bonus": (LossConfig(entropy_coefficient=0.1), with_entropy),
    "truncated token weights": (
        LossConfig(importance="truncate", importance_max=1.2),
        with_importance(lambda log_weight: log_weight.exp().clamp(max=1.2)),
    ),
    "truncated sequence weights": (
        LossConfig(importance="truncate", importance_max=1.2, importance_level="sequence"),
        with_importance(lambda log_weight: log_weight.sum().exp().clamp(max=1.2)),
    ),
    "masked token weights": (
        LossConfig(importance="mask", importance_max=1.2),
        with_importance(lambda log_weight: masked(log_weight.exp())),
    ),
    "masked sequence weights": (
        LossConfig(importance="mask", importance_max=1.2, importance_level="sequence"),
        with_importance(lambda log_weight: masked(log_weight.sum().exp())),
    ),
}
