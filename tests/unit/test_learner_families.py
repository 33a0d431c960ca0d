"""A policy of each family, by the learner's packed rows and by transformers one response per row: images whose
features are kept, images that train, and planted faults in what Qwen3-VL feeds into its first layers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from learner.attention import SHARED_PROMPT
from learner.config import LearnerConfig
from learner.families import FAMILIES, encoder_output, joined_features, projectors
from learner.model import PolicyModule, load_policy
from learner.packing import ImageFeatures, PackedRows
from learner.weights import stream_weights
from tiny_policy import (
    BANNED,
    GRIDS,
    TEMPERATURE,
    Policy,
    make_group,
    make_images,
    make_policy,
    naive_forward,
    pack,
    packed_forward,
)
from tiny_policy import relative_errors as errors

GROUPS = [make_group("one", ("a",), (5, 1, 7), 10), make_group("two images", ("c", "b"), (3, 6), 11)]
IMAGES = make_images()
HIDDEN = 32


class Case:
    """A policy with its vision tower frozen, its rows with kept features, and what transformers computes of them."""

    def __init__(self, family: str) -> None:
        self.policy: Policy = make_policy(family=family)
        self.policy.model.visual.requires_grad_(False)
        module = PolicyModule(self.policy)
        self.features = {
            key: ImageFeatures(features=module.encode(IMAGES[key]), grid=grid) for key, grid in GRIDS.items()
        }
        self.rows: PackedRows = pack(self.policy, self.features, GROUPS)  # type: ignore[arg-type]
        self.expected = torch.cat([logprobs for _, logprobs, _ in naive_forward(self.policy, IMAGES, GROUPS)])
        self.expected_gradients = self.gradients(self.expected)

    def gradients(self, logprobs: Tensor) -> dict[str, Tensor]:
        named = {name: p for name, p in self.policy.named_parameters() if p.requires_grad}
        found = torch.autograd.grad((self.rows.advantages * logprobs).mean(), list(named.values()))
        return dict(zip(named, found, strict=True))

    def off(self, rows: PackedRows) -> tuple[float, float]:
        """The largest difference of a logprob, and the largest relative error of a gradient."""
        # Also for the backward pass, which computes layers again under gradient checkpointing.
        self.policy.set_attn_implementation({"text_config": SHARED_PROMPT, "vision_config": "sdpa"})
        found, _ = PolicyModule(self.policy)(rows, temperature=TEMPERATURE, banned_token_ids=BANNED)
        gradients = errors(self.gradients(found), self.expected_gradients)
        return (found - self.expected).abs().max().item(), max(gradients.values())


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def deepstack() -> Case:
    return Case("qwen3_vl")


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_kept_features_give_what_transformers_gives(case: Case, checkpointing: bool) -> None:
    if checkpointing:
        case.policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    logprobs, gradients = case.off(case.rows)
    case.policy.gradient_checkpointing_disable()
    assert logprobs < 1e-5 and gradients < 1e-5


def test_features_of_all_projectors_are_kept(case: Case) -> None:
    count = len(projectors(case.policy.model.visual))
    assert count == (3 if case.policy.config.model_type == "qwen3_vl" else 1)
    assert all(image.features.shape[1] == count * HIDDEN for image in case.features.values())
    (rejoined,) = {joined_features(encoder_output(image, HIDDEN)).equal(image) for image in [case.rows.image_features]}
    assert rejoined


def faulty_features(case: Case) -> Iterator[tuple[str, Tensor]]:
    assert case.rows.image_features is not None
    of_projector, first, second = case.rows.image_features.split(HIDDEN, dim=1)
    yield "left out", torch.cat([of_projector, torch.zeros_like(first), torch.zeros_like(second)], dim=1)
    yield "one left out", torch.cat([of_projector, first, torch.zeros_like(second)], dim=1)
    yield "layers swapped", torch.cat([of_projector, second, first], dim=1)
    yield "tokens shifted by one", torch.cat([of_projector, first.roll(1, 0), second.roll(1, 0)], dim=1)
    yield "of the other image", torch.cat([of_projector, first.roll(6, 0), second.roll(6, 0)], dim=1)


def test_faults_in_kept_deepstack_features_are_caught(deepstack: Case) -> None:
    for fault, features in faulty_features(deepstack):
        logprobs, gradients = deepstack.off(replace(deepstack.rows, image_features=features))
        assert logprobs > 1e-3 and gradients > 1e-3, fault


def test_deepstack_left_out_of_images_that_train_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(family="qwen3_vl")
    rows = pack(policy, IMAGES, GROUPS)
    expected = torch.cat([logprobs for _, logprobs, _ in naive_forward(policy, IMAGES, GROUPS)])
    assert (packed_forward(policy, rows)[0] - expected).abs().max() < 1e-5
    monkeypatch.setattr(policy.model.language_model, "_deepstack_process", lambda hidden, *_: hidden)
    assert (packed_forward(policy, rows)[0] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_travel_under_the_names_that_transformers_writes(family: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    policy = make_policy(family=family)
    policy.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    sent: dict[str, Tensor] = {}
    for bucket in stream_weights(policy, torch.float32, with_tensors=True):
        sent |= bucket
    assert sent.keys() == saved.keys()
    assert all(sent[name].equal(saved[name]) for name in saved)


def test_a_policy_of_another_family_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    AutoConfig.for_model("qwen2_vl").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the learner trains qwen2_5_vl and qwen3_vl, this policy is 'qwen2_vl'"):
        load_policy(str(tmp_path), LearnerConfig())
