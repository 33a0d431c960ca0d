"""Parameter counts from a config.json alone are those of the models that transformers makes of it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto import CONFIG_MAPPING

from learner.config import LearnerConfig, LoraConfig
from learner.families import FAMILIES, projectors
from learner.lora import attach_lora
from learner.model import freeze
from medvie_rl.errors import UserError
from medvie_rl.fit.shape import SHAPE_TYPES, read_shape
from tiny_policy import make_policy

SHIPPED = Path("medvie_rl/fit/policies")
# metadata.total_size of each model.safetensors.index.json on the Hugging Face hub, over 2 bytes
HUB = {
    "Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen2.5-VL-32B-Instruct": 33_452_718_336,
    "Qwen2.5-VL-72B-Instruct": 73_410_777_344,
    "Qwen3-VL-8B-Instruct": 8_767_123_696,
}


def test_what_can_be_planned_can_be_trained() -> None:
    assert SHAPE_TYPES == FAMILIES


def test_every_shipped_shape_is_checked() -> None:
    assert {path.stem for path in SHIPPED.glob("*.json")} == set(HUB)


@pytest.mark.parametrize("name", HUB)
def test_counts_of_shipped_shapes_are_those_of_the_hub(name: str) -> None:
    assert read_shape(f"Qwen/{name}").num_parameters == HUB[name]


@pytest.mark.parametrize("name", ["Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-7B-Instruct", "Qwen3-VL-8B-Instruct"])
def test_counts_of_shipped_shapes_are_those_of_transformers(name: str) -> None:
    content = json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
    config = CONFIG_MAPPING[content["model_type"]](
        text_config=content["text_config"],
        vision_config=content["vision_config"],
        tie_word_embeddings=content["tie_word_embeddings"],
    )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    shape = read_shape(f"Qwen/{name}")
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())
    assert shape.vision_parameters == sum(p.numel() for p in model.model.visual.parameters())
    assert shape.vision.projector_parameters == sum(
        p.numel() for module in projectors(model.model.visual) for p in module.parameters()
    )
    assert shape.head_dim == model.model.language_model.layers[0].self_attn.head_dim


def test_a_policy_folder_and_a_flat_config(tmp_path: Path) -> None:
    nano = read_shape("medvie_rl/nano/policy")
    config = AutoConfig.from_pretrained("medvie_rl/nano/policy")
    assert nano.num_parameters == 3_000_576
    flat = config.text_config.to_dict() | config.to_dict()  # as Qwen2.5-VL's lies on the hub
    del flat["text_config"]
    (tmp_path / "config.json").write_text(json.dumps(flat | {"model_type": "qwen2_5_vl"}), encoding="utf-8")
    assert read_shape(str(tmp_path)).num_parameters == nano.num_parameters


@pytest.mark.parametrize(
    ("family", "vision_targets"),
    [
        ("qwen2_5_vl", []),
        ("qwen2_5_vl", ["qkv", "merger.mlp.0", "gate_proj"]),
        ("qwen3_vl", []),
        ("qwen3_vl", ["qkv", "merger.linear_fc1", "linear_fc2"]),
    ],
)
def test_adapters_are_counted_as_they_are_bound(family: str, vision_targets: list[str], tmp_path: Path) -> None:
    lora = LoraConfig(rank=3, targets=["q_proj", "down_proj"], vision_targets=vision_targets)
    policy = make_policy(family=family)
    policy.config.save_pretrained(tmp_path)
    attach_lora(policy, lora)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert read_shape(str(tmp_path)).trained_parameters(LearnerConfig(lora=lora)) == trained


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("vision", "projector"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_is_frozen_is_not_counted(family: str, vision: bool, projector: bool, tmp_path: Path) -> None:
    policy = make_policy(family=family)
    policy.config.save_pretrained(tmp_path)
    learner = LearnerConfig(freeze_vision=vision, freeze_projector=projector)
    freeze(policy, learner)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert read_shape(str(tmp_path)).trained_parameters(learner) == trained


def test_what_cannot_be_planned_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the shapes known without one are .*Qwen2\.5-VL-7B-Instruct"):
        read_shape("somebody/else")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(UserError, match="model_type 'llama', expected qwen2_5_vl or qwen3_vl"):
        read_shape(str(tmp_path))
    with pytest.raises(UserError, match=r"learner\.lora\.targets: 'k_porj' names no linear layer"):
        read_shape("Qwen/Qwen2.5-VL-7B-Instruct").trained_parameters(
            LearnerConfig(lora=LoraConfig(rank=1, targets=["k_porj"]))
        )
