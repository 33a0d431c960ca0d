"""Gradients out of DeepSpeed equal those of plain transformers, one response per row and without packing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.config import LoraConfig
from learner_ranks import (
    NANO,
    Case,
    Found,
    gradients_of_case,
    gradients_of_cases,
    make_groups,
    make_images,
    naive_responses,
    run_ranks,
)
from paper_losses import CASES
from tiny_policy import relative_errors

TOLERANCE = 1e-4
SPLIT, WHOLE = {"max_tokens_per_micro_batch": 110}, {"max_tokens_per_micro_batch": 4096}
FULL: dict[str, Any] = {"freeze_vision": False}
LORA: dict[str, Any] = {"freeze_vision": True, "lora": LoraConfig(rank=4, alpha=8.0)}
PEFT = peft.LoraConfig(
    r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj", lora_dropout=0.0
)
IMAGES = make_images()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    loss: float
    gradients: dict[str, Tensor]  # by the policy's own names
    kls: dict[tuple[str, int], float]  # KL(sampler || base) of the responses by k1 or k3


class Reference:
    """The plain policy, in full or with peft's adapters around it."""

    def __init__(self) -> None:
        self.processor = AutoProcessor.from_pretrained(NANO)
        self.base = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32).eval()
        self.groups = make_groups(self.base, self.processor, IMAGES)
        self.gradients = cache(self._gradients)
        self._adapters: dict[str, Tensor] = {}

    def with_adapters(self, found: Sequence[Found]) -> "Reference":
        """Remembers the learner's adapters, the same in every case, to compare with."""
        for case in found:
            if case.adapters:
                assert not self._adapters or all(torch.equal(a, self._adapters[n]) for n, a in case.adapters.items())
                self._adapters = case.adapters
        return self

    def _gradients(self, loss: str, *, lora: bool) -> Expected:
        policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32).train()
        if lora:
            policy = peft.get_peft_model(policy, PEFT)
            parameters = {n.removeprefix("base_model.model."): p for n, p in policy.named_parameters() if ".lora_" in n}
            assert parameters.keys() == self._adapters.keys()
            for name, parameter in parameters.items():
                parameter.data.copy_(self._adapters[name])
        else:
            parameters = dict(policy.named_parameters())
        config, formula = CASES[loss]
        responses = naive_responses(policy, self.base, self.processor, IMAGES, self.groups)
        value = formula(responses)
        gradients = torch.autograd.grad(value, list(parameters.values()))
        k1 = config.resolved(pipelined=False).kl_estimator == "k1"
        kls = {}
        for group, of_group in zip(self.groups, responses, strict=True):
            for trace, o in enumerate(of_group):
                difference = o.sampler - o.reference
                estimate = difference if k1 else (-difference).exp() - 1 + difference
                kls[group.query_id, trace] = estimate.sum().item()
        return Expected(loss=value.item(), gradients=dict(zip(parameters, gradients, strict=True)), kls=kls)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def worst(case: Case, found: Found, reference: Reference) -> float:
    expected = reference.gradients(case.loss, lora="lora" in case.settings)
    (gradients,) = found.gradients
    return max(relative_errors(gradients, expected.gradients).values())


def check(case: Case, found: Found, reference: Reference) -> None:
    expected = reference.gradients(case.loss, lora="lora" in case.settings)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4, abs=1e-6), case
    assert worst(case, found, reference) <= TOLERANCE, case
    if found.reference_kl and "k2" not in case.loss and "baseline" not in case.loss:
        assert found.reference_kl == pytest.approx(expected.kls, abs=1e-4)


def test_one_rank(reference: Reference) -> None:
    cases = [
        Case(settings=FULL | SPLIT | {"zero_stage": 2}, loss="entropy bonus"),
        Case(settings=LORA | WHOLE, loss="truncated token weights"),
        Case(settings=LORA | SPLIT, loss="rloo"),
    ]
    found = [gradients_of_case(case, reference.groups) for case in cases]
    reference.with_adapters(found)
    for case, of_case in zip(cases, found, strict=True):
        check(case, of_case, reference)


def test_two_ranks(reference: Reference) -> None:
    """Shares are uneven. Dividing by a rank's own numbers, not by the global ones, would be seen."""
    cases = [
        Case(settings=LORA | SPLIT | {"zero_stage": 3}, loss="grpo"),
        Case(settings=FULL | WHOLE | {"zero_stage": 2}, loss="gspo"),
    ]
    faulty = Case(settings=LORA | SPLIT | {"zero_stage": 3}, own_denominators=True)
    *found, of_faulty = run_ranks(gradients_of_cases, 2, 2, [*cases, faulty], reference.groups)[0]
    reference.with_adapters(found)
    for case, of_case in zip(cases, found, strict=True):
        check(case, of_case, reference)
    assert worst(faulty, of_faulty, reference) > 0.1


@pytest.mark.full
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_every_layout(reference: Reference, num_ranks: int) -> None:
    cases = [
        Case(settings=trained | split | {"zero_stage": stage})
        for stage, trained, split in product((1, 2, 3), (FULL, LORA), (SPLIT, WHOLE))
    ]
    check_in_processes(cases, num_ranks, reference)


@pytest.mark.full
@pytest.mark.parametrize(("num_ranks", "stage"), [(1, 1), (2, 3)])
def test_every_loss(reference: Reference, num_ranks: int, stage: int) -> None:
    cases = [Case(settings=LORA | SPLIT | {"zero_stage": stage}, loss=loss) for loss in CASES]
    cases += [Case(settings=FULL | WHOLE | {"zero_stage": stage}, loss=loss) for loss in ("gspo", "cispo", "dr_grpo")]
    check_in_processes(cases, num_ranks, reference)


def check_in_processes(cases: Sequence[Case], num_ranks: int, reference: Reference) -> None:
    found = run_ranks(gradients_of_cases, num_ranks, num_ranks, cases, reference.groups)[0]
    reference.with_adapters(found)
    for case, of_case in zip(cases, found, strict=True):
        check(case, of_case, reference)
