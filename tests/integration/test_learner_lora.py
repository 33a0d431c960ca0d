"""LoRA on real peft: what it binds, what it leaves alone, and that merged and adapter exports are the policy."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.batching import make_update_batches
from learner.config import LearnerConfig, LoraConfig
from learner.export import read_exported
from learner.lora import adapters_off
from learner.model import load_policy
from learner.types import ADAPTER, TrainingGroup
from learner.worker import LearnerWorker
from learner_ranks import NANO, TEMPERATURE, file_of, learner_config, make_groups, make_images, prompt_inputs, run_ranks

IMAGES = make_images()
LANGUAGE = LoraConfig(rank=4, alpha=16.0)
BOTH = LoraConfig(rank=4, alpha=16.0, targets=["q_proj", "down_proj"], vision_targets=["qkv", "proj", "merger.mlp.0"])


@pytest.fixture(scope="module")
def groups() -> list[TrainingGroup]:
    policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    return make_groups(policy, AutoProcessor.from_pretrained(NANO), IMAGES)


def updated_worker(groups: list[TrainingGroup], rank: int = 0, port: int = 29500, **settings: Any) -> LearnerWorker:
    config = learner_config(**({"freeze_vision": True, "lora": LANGUAGE} | settings))
    worker = LearnerWorker(config, NANO, rank, config.num_ranks, "127.0.0.1", port)
    worker.add_images(IMAGES)
    batches = make_update_batches(groups, config, learning_rate=2e-4, temperature=TEMPERATURE, max_response_tokens=64)
    for _ in range(2):
        worker.update(batches[rank])
    return worker


def tensors_of(buckets: list[Any]) -> dict[str, Tensor]:
    return {name: tensor for bucket in buckets for name, tensor in safetensors.torch.load(file_of(bucket)).items()}


def logits_of(policy: Any) -> Tensor:
    """By transformers' own attention, which a policy to train is switched to."""
    policy.set_attn_implementation("sdpa")
    inputs = prompt_inputs(AutoProcessor.from_pretrained(NANO), [IMAGES["image0"]])
    with torch.no_grad():
        logits: Tensor = policy.eval()(**inputs, use_cache=False).logits
    return logits


def policy_with(lora: LoraConfig, **settings: Any) -> Any:
    return load_policy(NANO, LearnerConfig(lora=lora, **settings))


# --- what is bound ----------------------------------------------------------------------------------------------------


def test_language_targets_bind_in_the_language_model_only() -> None:
    policy = policy_with(LANGUAGE)
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 7 * 4 and all(".lora_" in name for name in trained)
    assert all(name.startswith("model.language_model.layers.") for name in trained)  # the tower has gate_proj as well
    assert policy.lora_summary == (
        "LoRA rank 4: 28 modules (q_proj 4, k_proj 4, v_proj 4, o_proj 4, gate_proj 4, up_proj 4, down_proj 4), "
        "0.1 of 3.1 M parameters trained"
    )
    layer = policy.model.language_model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 4.0
    assert not layer.lora_B["default"].weight.any() and layer.lora_A["default"].weight.std() > 0
    assert torch.equal(logits_of(policy), logits_of(policy_with(LoraConfig())))


def test_vision_targets_bind_in_the_tower_and_projector_only() -> None:
    policy = policy_with(
        LoraConfig(rank=4, targets=["gate_proj"], vision_targets=["gate_proj", "proj", "merger.mlp.2"])
    )
    bound = {name.split(".lora_")[0] for name, p in policy.named_parameters() if p.requires_grad}
    blocks = {f"model.visual.blocks.{i}.{name}" for i in range(2) for name in ("mlp.gate_proj", "attn.proj")}
    layers = {f"model.language_model.layers.{i}.mlp.gate_proj" for i in range(4)}
    assert bound == blocks | layers | {"model.visual.merger.mlp.2"}  # not patch_embed.proj, a convolution


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            {"targets": ["q_proj", "qkv"]},
            r"targets: 'qkv' names no linear layer of model\.language_model; there are .*self_attn\.q_proj",
        ),
        (
            {"vision_targets": ["q_proj"]},
            r"vision_targets: 'q_proj' names no linear layer of model\.visual; there are attn\.proj, .*merger\.mlp\.0",
        ),
    ],
)
def test_a_target_that_binds_nothing_is_refused(lora: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_with(LoraConfig(rank=4, **lora))


def test_adapters_are_drawn_the_same_every_time_and_leave_the_generator_alone() -> None:
    first = policy_with(LANGUAGE)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    second = policy_with(LANGUAGE)
    assert torch.equal(torch.rand(3), expected)
    pairs = zip(first.named_parameters(), second.named_parameters(), strict=True)
    assert all(torch.equal(a, b) and name == other for (name, a), (other, b) in pairs)


# --- training and exports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [LANGUAGE, BOTH], ids=["language", "both"])
def test_exports_are_the_policy_and_the_base_stays(
    groups: list[TrainingGroup], tmp_path: Path, lora: LoraConfig
) -> None:
    worker = updated_worker(groups, lora=lora)
    base = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    own = dict(worker.policy.named_parameters())
    for name, parameter in base.named_parameters():
        layer, _, kind = name.rpartition(".")
        live = own[name] if name in own else own[f"{layer}.base_layer.{kind}"]
        assert torch.equal(live, parameter), name

    before = {name: tensor.detach().clone() for name, tensor in own.items()}
    worker.export(tmp_path / "policy", "float32")
    merged, adapter = worker.gather_weights("float32"), worker.gather_weights("float32", part=ADAPTER)
    assert all(torch.equal(own[name], tensor) for name, tensor in before.items())

    live = logits_of(worker.policy)
    with adapters_off(worker.policy):
        assert torch.equal(logits_of(worker.policy), logits_of(base))
    rounding = 1e-5 * live.abs().max()
    assert (live - logits_of(base)).abs().max() > 1000 * rounding
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "policy")
    assert not hasattr(plain, "peft_config") and (logits_of(plain) - live).abs().max() < rounding

    from peft import PeftModel

    again = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    with_adapter = PeftModel.from_pretrained(again, tmp_path / "policy" / "adapter")
    assert (logits_of(with_adapter) - live).abs().max() < rounding

    sent, written = tensors_of(merged), tensors_of(read_exported(tmp_path / "policy", torch.float32))
    assert sent.keys() == written.keys() and all(torch.equal(sent[name], written[name]) for name in sent)
    in_file = safetensors.torch.load_file(tmp_path / "policy" / "adapter" / "adapter_model.safetensors")
    assert in_file.keys() == tensors_of(adapter).keys()
    settings = json.loads((tmp_path / "policy" / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["inference_mode"]) == (4, 16.0, True)


def updated_weights(rank: int, port: int, stage: int, groups: list[TrainingGroup]) -> tuple[Any, Any]:
    torch.set_num_threads(1)
    worker = updated_worker(groups, rank, port, num_ranks=2, zero_stage=stage, gradient_checkpointing=True)
    return worker.gather_weights("float32"), worker.gather_weights("float32", part=ADAPTER)


def test_shards_are_merged_as_one_rank_merges(groups: list[TrainingGroup]) -> None:
    (merged, adapter), (nothing, no_adapter) = run_ranks(updated_weights, 2, 3, groups)
    assert nothing == [] and no_adapter == []
    worker = updated_worker(groups)
    for found, expected in (
        (tensors_of(merged), tensors_of(worker.gather_weights("float32"))),
        (tensors_of(adapter), tensors_of(worker.gather_weights("float32", part=ADAPTER))),
    ):
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.allclose(found[name], tensor, atol=2e-5), name
    base = dict(safetensors.torch.load_file(Path(NANO) / "model.safetensors"))
    assert any((tensors_of(merged)[name] - base[name].float()).abs().max() > 1e-4 for name in base)
