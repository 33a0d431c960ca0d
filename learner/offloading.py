"""Lending the learner's GPU memory to engines on the same device, while they sample."""

from typing import Any

import torch
from torch import nn


def offload(engine: Any, policy: nn.Module, device: torch.device) -> None:
    """Move weights and optimizer states (by DeepSpeed, ZeRO-1 and 2), and what of the policy is frozen, of which
    DeepSpeed knows nothing, to CPU memory. On a CPU everything stays where it is."""
    engine.offload_states(pin_memory=device.type == "cuda")
    _move_frozen(policy, torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reload(engine: Any, policy: nn.Module, device: torch.device) -> None:
    """Move it back."""
    engine.reload_states()
    _move_frozen(policy, device)


def _move_frozen(policy: nn.Module, device: torch.device) -> None:
    frozen = [parameter for parameter in policy.parameters() if not parameter.requires_grad]
    for tensor in (*frozen, *policy.buffers()):
        tensor.data = tensor.data.to(device)
