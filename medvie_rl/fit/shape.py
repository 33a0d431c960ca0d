"""The shape of a policy, read from its config.json: how many parameters sit where. Needs neither weights nor torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.config import LearnerConfig
from medvie_rl.errors import UserError

_SHIPPED = Path(__file__).parent / "policies"  # config.json, cut down to shapes, of policies that recipes name
SHAPE_TYPES = ("qwen2_5_vl", "qwen3_vl")  # learner.families.FAMILIES, which needs torch


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The vision tower and, in the same module, the projectors: one, and one more for each DeepStack layer."""

    depth: int
    hidden: int
    intermediate: int
    merge: int  # patches by patches make an image token
    projectors: int
    tower_parameters: int
    projector_parameters: int
    linears: dict[str, tuple[int, int]]  # (in, out) of the linear layers by name, those of the blocks once
    block_linears: int  # how many blocks have them


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyShape:
    """Dimensions and parameter counts of a policy."""

    name: str
    model_type: str
    layers: int
    hidden: int
    intermediate: int
    query: int  # heads times their size
    key_value: int  # the same of keys
    heads: int
    key_value_heads: int
    head_dim: int
    head_norms: bool  # whether each head of queries and keys has a norm
    vocabulary: int
    tied: bool
    layer_parameters: int  # of all decoder layers and the last norm
    vision: VisionShape

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, which is the output head, too, where they are tied."""
        return self.vocabulary * self.hidden

    @property
    def vision_parameters(self) -> int:
        return self.vision.tower_parameters + self.vision.projector_parameters

    @property
    def num_parameters(self) -> int:
        embeddings = self.embedding_parameters * (1 if self.tied else 2)
        return embeddings + self.layer_parameters + self.vision_parameters

    @property
    def largest_layer(self) -> int:
        """Parameters of the largest bucket in which weights travel: a decoder layer or the embedding."""
        return max(self.embedding_parameters, self.layer_parameters // self.layers)

    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of the linear layers of a decoder layer."""
        h, f = self.hidden, self.intermediate
        return {
            "q_proj": (h, self.query), "k_proj": (h, self.key_value), "v_proj": (h, self.key_value),
            "o_proj": (self.query, h), "gate_proj": (h, f), "up_proj": (h, f), "down_proj": (f, h),
        }  # fmt: skip

    def trained_parameters(self, learner: LearnerConfig) -> int:
        """How many parameters an update changes: of LoRA rank x (in + out) for each layer (arXiv 2106.09685).

        Raises UserError for a LoRA target that names no linear layer.
        """
        if not learner.lora.rank:
            frozen = self.vision.tower_parameters if learner.freeze_vision else 0
            frozen += self.vision.projector_parameters if learner.freezes_projector else 0
            return self.num_parameters - frozen
        counts = {name: self.layers for name in self.linears()}
        total = sum(_adapted(self.linears(), counts, target, "targets") for target in learner.lora.targets)
        vision = self.vision
        counts = {name: 1 if "merger" in name else vision.block_linears for name in vision.linears}
        total += sum(
            _adapted(vision.linears, counts, target, "vision_targets") for target in learner.lora.vision_targets
        )
        return learner.lora.rank * total


def read_shape(model: str) -> PolicyShape:
    """The shape of a policy folder, a config.json or a hub name whose shape is shipped; else raises UserError."""
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        path = _SHIPPED / f"{model.split('/')[-1]}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _SHIPPED.glob("*.json")))
        raise UserError(
            f"model: {model} is no folder with a config.json, which is all that is needed here, no weights; the shapes "
            f"known without one are {known}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _shape(model, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the configuration of a policy that can be planned ({error!r})") from error


def _shape(name: str, content: dict[str, Any]) -> PolicyShape:
    model_type = content["model_type"]
    if model_type not in SHAPE_TYPES:
        raise ValueError(f"model_type {model_type!r}, expected {' or '.join(SHAPE_TYPES)}")
    text = content.get("text_config") or content  # on the hub Qwen2.5-VL's lies at the top
    h, f, layers = text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]
    heads = text["num_attention_heads"]
    key_value_heads = text.get("num_key_value_heads") or heads
    head_dim = text.get("head_dim") or h // heads
    query, key_value = heads * head_dim, key_value_heads * head_dim
    # Qwen2.5 has biases at q, k and v; Qwen3 has none, and norms of the heads of q and k.
    head_norms = model_type == "qwen3_vl"
    extra = 2 * head_dim if head_norms else query + 2 * key_value
    layer = 2 * h * query + 2 * h * key_value + extra + 3 * h * f + 2 * h
    return PolicyShape(
        name=name,
        model_type=model_type,
        layers=layers,
        hidden=h,
        intermediate=f,
        query=query,
        key_value=key_value,
        heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        head_norms=head_norms,
        vocabulary=text["vocab_size"],
        tied=bool(content.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        layer_parameters=layers * layer + h,
        vision=_vision(model_type, content["vision_config"]),
    )


def _vision(model_type: str, content: dict[str, Any]) -> VisionShape:
    h, f, depth, out = (
        content["hidden_size"],
        content["intermediate_size"],
        content["depth"],
        content["out_hidden_size"],
    )
    merge = content["spatial_merge_size"]
    patch = content.get("in_channels", 3) * content.get("temporal_patch_size", 2) * content["patch_size"] ** 2
    wide = h * merge**2
    projector = wide * wide + wide + wide * out + out
    attention = 3 * h * h + 3 * h + h * h + h
    linears = {"attn.qkv": (h, 3 * h), "attn.proj": (h, h)}
    num_deepstack = len(content.get("deepstack_visual_indexes", ()))
    if model_type == "qwen2_5_vl":  # RMS norms, gated MLP
        block = attention + 2 * (h * f + f) + f * h + h + 2 * h
        tower = patch * h + depth * block
        projector += h
        linears |= {"mlp.gate_proj": (h, f), "mlp.up_proj": (h, f), "mlp.down_proj": (f, h)}
        linears |= {"merger.mlp.0": (wide, wide), "merger.mlp.2": (wide, out)}
    else:  # layer norms, plain MLP, learned positions; the other projectors have wider norms
        block = attention + h * f + f + f * h + h + 4 * h
        tower = patch * h + h + content["num_position_embeddings"] * h + depth * block
        linears |= {"mlp.linear_fc1": (h, f), "mlp.linear_fc2": (f, h)}
        for merger in ("merger", *(f"deepstack_merger_list.{index}" for index in range(num_deepstack))):
            linears |= {f"{merger}.linear_fc1": (wide, wide), f"{merger}.linear_fc2": (wide, out)}
        projector = (1 + num_deepstack) * projector + 2 * h + num_deepstack * 2 * wide
    return VisionShape(
        depth=depth,
        hidden=h,
        intermediate=f,
        merge=merge,
        projectors=1 + num_deepstack,
        tower_parameters=tower,
        projector_parameters=projector,
        linears=linears,
        block_linears=depth,
    )


def _adapted(linears: dict[str, tuple[int, int]], counts: dict[str, int], target: str, key: str) -> int:
    """Sum of in + out over the layers that a target names: a name or the end of one."""
    found = [name for name in linears if name == target or name.endswith(f".{target}")]
    if not found:
        raise UserError(f"learner.lora.{key}: {target!r} names no linear layer; there are {', '.join(linears)}")
    return sum(counts[name] * sum(linears[name]) for name in found)
