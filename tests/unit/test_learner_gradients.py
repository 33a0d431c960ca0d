"""Gradients of every loss over packed rows equal those of the papers' formulas, one response per row, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from learner.advantages import batch_advantages
from learner.batching import plan_micro_batches, split_long_group
from learner.loss import LossTokens, kl_estimate, policy_loss, token_weights
from learner.loss_config import PRESETS, LossConfig
from learner.packing import ImagePixels, PackedRows
from learner.types import TrainingGroup
from paper_losses import CASES, MAX_RESPONSE_TOKENS, Response
from tiny_policy import (
    in_double,
    make_group,
    make_images,
    make_policy,
    naive_forward,
    pack,
    packed_forward,
    relative_errors,
)

GROUPS = [
    make_group("one image", ("a",), (5, 1, 7), 10),
    make_group("two images", ("b", "c"), (3, 6), 11),
    make_group("same image", ("c",), (8, 2, 1, 4), 12),
]
REWARDS = [[0.9, 0.2, 0.4], [0.0, 1.0], [0.3, 0.7, 0.1, 0.8]]
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Packed rows after their forward pass."""

    rows: PackedRows
    logprobs: Tensor  # [N]
    entropies: Tensor  # [N]


class Setting:
    """The policy, the responses one per row, and the same in micro-batches; every loss is taken of the same passes."""

    def __init__(self) -> None:
        self.policy = make_policy().double()
        images = {key: replace(image, patches=image.patches.double()) for key, image in make_images().items()}
        with in_double():
            _, self.logprobs, self.entropies = zip(*naive_forward(self.policy, images, GROUPS), strict=True)
            self.whole = self._forward([GROUPS], images)
            split = [part for group in GROUPS for part in split_long_group(group, 30)]
            self.split = self._forward(plan_micro_batches(split, 64, 5), images)

    def _forward(self, plan: list[list[TrainingGroup]], images: dict[str, ImagePixels]) -> list[MicroBatch]:
        made = []
        for groups in plan:
            rows = pack(self.policy, images, groups)
            logprobs, entropies = packed_forward(self.policy, rows, entropy_gradient=True)
            made.append(MicroBatch(rows=rows, logprobs=logprobs, entropies=entropies))
        return made

    def responses(self, noise: float) -> list[list[Response]]:
        """One per row; the sampler's and the old policy's logprobs are off the policy's by `noise`."""
        generator = torch.Generator().manual_seed(3)

        def off(logprobs: Tensor, by: float) -> Tensor:
            return logprobs.detach() + by * torch.randn(len(logprobs), generator=generator, dtype=torch.float64)

        computed = iter(zip(self.logprobs, self.entropies, strict=True))
        return [
            [
                Response(
                    logprobs=logprobs,
                    entropies=entropies,
                    old=off(logprobs, noise),
                    sampler=off(logprobs, noise),
                    reference=off(logprobs, 0.3),
                    reward=reward,
                )
                for reward, (logprobs, entropies) in zip(rewards, computed, strict=False)
            ]
            for rewards in REWARDS
        ]

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        names, parameters = zip(*self.policy.named_parameters(), strict=True)
        return dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))

    def packed_loss(
        self,
        config: LossConfig,
        responses: list[list[Response]],
        micro_batches: list[MicroBatch],
        *,
        denominators: Sequence[dict[str, int]] | None = None,
        ratio_over: Tensor | None = None,
    ) -> Tensor:
        """The sum over micro-batches, as the learner makes it. To plant faults: denominators of each micro-batch in
        place of the global ones, and other responses that tokens belong to where ratios are taken."""
        loss = config.resolved(pipelined=False)
        advantages = batch_advantages(
            [[learned_reward(o, config) for o in group] for group in responses], loss.advantage
        )
        of_trace = {
            (group.query_id, trace): (o, advantage)
            for group, found, of_group in zip(GROUPS, responses, advantages, strict=True)
            for trace, (o, advantage) in enumerate(zip(found, of_group, strict=True))
        }
        total = torch.zeros((), dtype=torch.float64)
        for number, micro_batch in enumerate(micro_batches):
            rows = micro_batch.rows
            packed = [of_trace[trace] for trace in rows.traces]
            if not packed:
                continue
            weights = token_weights(
                rows.response,
                loss.aggregation,
                max_response_tokens=MAX_RESPONSE_TOKENS,
                dtype=torch.float64,
                **(denominators[number] if denominators else GLOBAL),
            )
            tokens = LossTokens(
                logprobs=micro_batch.logprobs,
                old_logprobs=torch.cat([o.old if loss.corrects_sampler else o.sampler for o, _ in packed]),
                sampler_logprobs=torch.cat([o.sampler for o, _ in packed]),
                reference_logprobs=torch.cat([o.reference for o, _ in packed]) if loss.needs_reference else None,
                entropies=micro_batch.entropies,
                advantages=torch.tensor([advantage for _, advantage in packed], dtype=torch.float64)[rows.response],
                response=rows.response if ratio_over is None else ratio_over,
                weights=weights,
            )
            total = total + policy_loss(tokens, loss).loss
        return total


GLOBAL = {
    "num_tokens": sum(len(response.token_ids) for group in GROUPS for response in group.responses),
    "num_responses": sum(len(group.responses) for group in GROUPS),
}


def learned_reward(response: Response, config: LossConfig) -> float:
    loss = config.resolved(pipelined=False)
    if not loss.kl_coefficient or loss.kl_in == "loss":
        return response.reward
    kl = kl_estimate(response.sampler, response.reference, loss.kl_estimator).sum().item()
    return response.reward - loss.kl_coefficient * kl


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


def noise_of(case: str) -> float:
    return 1e-3 if case == "gspo" else 0.3  # so that some responses lie within the clip range


def worst(setting: Setting, found: Tensor, expected: Tensor) -> float:
    return max(relative_errors(setting.gradients(found), setting.gradients(expected)).values())


def test_every_preset_is_compared() -> None:
    assert set(PRESETS) <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_the_papers_formula(setting: Setting, case: str) -> None:
    config, formula = CASES[case]
    responses = setting.responses(noise_of(case))
    expected = formula(responses)
    for micro_batches in (setting.whole, setting.split):
        found = setting.packed_loss(config, responses, micro_batches)
        assert found.item() == pytest.approx(expected.item(), rel=1e-11)
        assert worst(setting, found, expected) <= TOLERANCE


def test_the_comparison_is_of_unlike_cases(setting: Setting) -> None:
    """Splits are splits, clips and bounds hit some of the tokens only, and no two formulas have the same gradient."""
    assert len(setting.split) >= 5 and len(setting.whole) == 1
    traces = [trace for micro_batch in setting.split for trace in micro_batch.rows.traces]
    assert sorted(traces) == sorted(setting.whole[0].rows.traces)

    responses = [o for group in setting.responses(0.3) for o in group]
    ratio = torch.cat([(o.logprobs - o.sampler).exp() for o in responses])
    weights = [torch.cat([o.old - o.sampler for o in responses])]
    weights.append(torch.stack([(o.old - o.sampler).sum() for o in responses]))
    narrow = [o for group in setting.responses(1e-3) for o in group]
    sequence_ratio = torch.stack([(o.logprobs - o.sampler).mean().exp() for o in narrow])
    bounds = [(ratio, 0.8, 1.28), (sequence_ratio, 1 - 3e-4, 1 + 4e-4), *((w.exp(), 1 / 1.2, 1.2) for w in weights)]
    for values, low, high in bounds:
        below, above = (values < low).sum(), (values > high).sum()
        assert below > 0 and above > 0 and below + above < len(values)

    found = {
        case: setting.gradients(formula(setting.responses(noise_of(case)))) for case, (_, formula) in CASES.items()
    }
    del found["dapo"]
    for case, other in combinations(found, 2):
        assert max(relative_errors(found[case], found[other]).values()) > 1e-3, (case, other)


def test_planted_faults_are_caught(setting: Setting) -> None:
    """Denominators of a micro-batch (or rank) in place of the global ones; a sequence ratio over the wrong tokens."""
    (whole,) = setting.whole
    of_part = [{"num_tokens": len(part.rows.targets), "num_responses": len(part.rows.traces)} for part in setting.split]

    def error(case: str, micro_batches: list[MicroBatch], **fault: Any) -> float:
        config, formula = CASES[case]
        responses = setting.responses(noise_of(case))
        return worst(setting, setting.packed_loss(config, responses, micro_batches, **fault), formula(responses))

    for case in ("paper", "grpo", "dr_grpo", "rloo"):
        assert error(case, setting.split, denominators=of_part) > 0.1, case
    response = whole.rows.response
    group_of_response = torch.tensor([number for number, group in enumerate(GROUPS) for _ in group.responses])
    for tokens in (torch.cat([response[1:], response[-1:]]), group_of_response[response]):  # a token off; of its group
        assert error("gspo", [whole], ratio_over=tokens) > 1e-2
        assert error("masked sequence weights", [whole], ratio_over=tokens) > 1e-2
