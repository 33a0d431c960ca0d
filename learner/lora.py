"""Low-rank adapters on the policy's linear layers, in place of full fine-tuning.

With W frozen, a layer computes W x + alpha / rank * B A x (arXiv 2106.09685, section 4.1). B starts at zero, so the
policy starts as its base; A is drawn from a fixed seed, so that ranks agree and runs repeat. The library (peft) takes
seconds to import, so that is done where it is used.
"""

import copy
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from learner.config import LoraConfig

SEED = 2106_09685  # of the adapters' A; which one does not matter
_ADAPTER = "default"  # peft's name for the only adapter
_LANGUAGE, VISION = "model.language_model", "model.visual"


def attach_lora(policy: Any, config: LoraConfig) -> str:
    """Freeze the policy and put adapters into it, in place and in its dtype; a line that says what was bound.

    Raises ValueError for a target that names no linear layer. A target is a layer's name or the end of it (`q_proj`,
    `merger.mlp.0`); targets of the language model never bind in the vision tower, nor the other way round.
    """
    import peft

    counts = _count_bound(policy, _LANGUAGE, config.targets, "targets")
    counts |= _count_bound(policy, VISION, config.vision_targets, "vision_targets")
    parts = ((_LANGUAGE, config.targets), (VISION, config.vision_targets))
    pattern = "|".join(_pattern(part, targets) for part, targets in parts if targets)
    others = [
        name
        for name, module in policy.named_modules()
        if re.fullmatch(pattern, name) and not isinstance(module, nn.Linear)
    ]
    alpha: Any = config.alpha  # peft says int and takes any number
    adapters = peft.LoraConfig(
        r=config.rank,
        lora_alpha=alpha,
        target_modules=pattern,
        exclude_modules=others or None,
        base_model_name_or_path=policy.name_or_path,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        peft.inject_adapter_in_model(adapters, policy, _ADAPTER)
    if (bound := len(_layers(policy))) != sum(counts.values()):
        raise RuntimeError(f"LoRA bound {bound} modules, expected {sum(counts.values())}: {counts}")
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in policy.parameters())
    told = ", ".join(f"{target} {count}" for target, count in counts.items())
    return (
        f"LoRA rank {config.rank}: {sum(counts.values())} modules ({told}), "
        f"{trained / 1e6:.1f} of {total / 1e6:.1f} M parameters trained"
    )


def has_lora(policy: Any) -> bool:
    """Whether `attach_lora` was called on the policy."""
    return bool(getattr(policy, "peft_config", None))


@contextmanager
def adapters_off(policy: Any) -> Iterator[None]:
    """The policy computes as its base inside."""
    layers = _layers(policy).values()
    # peft's own switch also changes requires_grad, on which DeepSpeed's hooks depend.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def merged(policy: Any, parameters: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters under the base's own names, adapters multiplied into copies of the weights, those in float32.

    `parameters` holds a layer's adapter wherever it holds its weight.
    """
    found: dict[str, Tensor] = {}
    layers, given = _layers(policy), dict(parameters)
    for name, parameter in parameters:
        layer, _, rest = name.partition(".base_layer.")
        if rest == "weight":
            a, b = (given[f"{layer}.lora_{part}.{_ADAPTER}.weight"].detach().float() for part in "AB")
            found[f"{layer}.weight"] = parameter.detach().float() + layers[layer].scaling[_ADAPTER] * (b @ a)
        elif ".lora_" not in name:
            found[name.replace(".base_layer.", ".")] = parameter.detach()
    return found


def adapter_only(parameters: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The adapters among the parameters, under the names that peft writes."""
    return {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": parameter.detach()
        for name, parameter in parameters
        if ".lora_" in name
    }


def adapter_config(policy: Any) -> Any:
    """The peft configuration to save beside the adapter's weights."""
    config = copy.copy(policy.peft_config[_ADAPTER])
    config.inference_mode = True
    return config


def adapter_settings(policy: Any) -> str:
    """What `adapter_config` writes."""
    with tempfile.TemporaryDirectory() as folder:
        adapter_config(policy).save_pretrained(folder)
        return (Path(folder) / "adapter_config.json").read_text(encoding="utf-8")


def _layers(policy: Any) -> dict[str, Any]:
    """The linear layers with adapters, by name."""
    if not has_lora(policy):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in policy.named_modules() if isinstance(module, LoraLayer)}


def _pattern(part: str, targets: Sequence[str]) -> str:
    return rf"{re.escape(part)}\.(?:.+\.)?(?:{'|'.join(re.escape(target) for target in targets)})"


def _count_bound(policy: Any, part: str, targets: Sequence[str], key: str) -> dict[str, int]:
    """Linear layers of the part by the target that names them."""
    linear = [
        f"{part}.{name}" for name, module in policy.get_submodule(part).named_modules() if isinstance(module, nn.Linear)
    ]
    counts: dict[str, int] = {}
    for target in targets:
        bound = sum(bool(re.fullmatch(_pattern(part, [target]), name)) for name in linear)
        if not bound:
            there_are = sorted({re.sub(r"^.*\.\d+\.", "", name.removeprefix(f"{part}.")) for name in linear})
            raise ValueError(
                f"learner.lora.{key}: {target!r} names no linear layer of {part}; there are {', '.join(there_are)}"
            )
        counts[target if part == _LANGUAGE else f"visual {target}"] = bound
    return counts
