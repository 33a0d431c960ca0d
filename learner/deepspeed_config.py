"""The DeepSpeed dictionary, derived from LearnerConfig in this one place."""

from collections.abc import Mapping
from typing import Any

from learner.config import LearnerConfig


def deepspeed_config(config: LearnerConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`, with the user's overrides (`config.deepspeed`) merged key by key."""
    zero: dict[str, Any] = {"stage": config.zero_stage, "overlap_comm": False}
    if config.zero_stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": False}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    if config.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": on_gpu}
    derived: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # the number of micro-batches differs from minibatch to minibatch
        "gradient_clipping": config.max_grad_norm,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "betas": [config.adam_beta1, config.adam_beta2],
                "eps": config.adam_epsilon,
                "weight_decay": config.weight_decay,
                "torch_adam": True,  # the plain PyTorch optimizer: no kernels to compile
            },
        },
        "wall_clock_breakdown": False,
    }
    return merge(derived, config.deepspeed)


def reference_config(config: LearnerConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The dictionary for a policy that is only evaluated: ZeRO-3 without an optimizer."""
    zero: dict[str, Any] = {"stage": 3, "overlap_comm": False}
    if config.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": on_gpu}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "zero_optimization": zero,
        "wall_clock_breakdown": False,
    }


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` put in, nested dictionaries key by key."""
    merged = dict(base)
    for key, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
