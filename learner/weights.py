"""Weights out: one bucket per decoder layer, as safetensors bytes with a digest per tensor."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import deepspeed
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from learner import lora
from learner.types import ALL, FROZEN, TRAINED

_LAYER = re.compile(r"^.*?\.(?:layers|blocks)\.\d+\.")


def parameter_buckets(policy: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Parameters by bucket: one per decoder layer or vision block, one per module tree for the rest. A tied parameter
    appears once, under its first name."""
    buckets: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in policy.named_parameters():
        match = _LAYER.match(name)
        bucket = match.group() if match else ".".join(name.split(".")[:3])
        buckets.setdefault(bucket, []).append((name, parameter))
    return buckets


def stream_weights(
    policy: Any, dtype: torch.dtype, *, rank: int, adapter_only: bool = False, part: str = ALL
) -> Iterator[dict[str, Tensor]]:
    """CPU copies of the weights bucket by bucket, under the names that save_pretrained writes; with LoRA the merged
    weights under the base's names or, with `adapter_only`, the adapter under peft's. `part` is ALL, or with a vision
    tower of which nothing trains TRAINED, all but that, or FROZEN, that alone.

    Collective under ZeRO-3, where one bucket is gathered at a time: every rank must exhaust it. Ranks other than 0
    get empty dictionaries.
    """
    trains_vision = any(parameter.requires_grad for parameter in policy.model.visual.parameters())
    for bucket in parameter_buckets(policy).values():
        frozen = not trains_vision and bucket[0][0].startswith(f"{lora.VISION}.")
        if part == (TRAINED if frozen else FROZEN):
            continue
        parameters = [parameter for _, parameter in bucket]
        sharded = any(hasattr(parameter, "ds_id") for parameter in parameters)
        with deepspeed.zero.GatheredParameters(parameters) if sharded else nullcontext():
            copies: dict[str, Tensor] = {}
            if rank == 0:
                tensors = lora.adapter_only(bucket) if adapter_only else lora.merged(policy, bucket)
                copies = {name: tensor.to("cpu", dtype, copy=True) for name, tensor in tensors.items()}
        yield copies if adapter_only or not copies else revert_weight_conversion(policy, copies)


def pack_bucket(tensors: dict[str, Tensor]) -> np.ndarray:
    """The tensors as one safetensors file in a uint8 array; its metadata maps "sha256:<name>" to the hex digest."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {f"sha256:{name}": tensor_digest(tensor) for name, tensor in contiguous.items()}
    return np.frombuffer(safetensors.torch.save(contiguous, metadata=metadata), dtype=np.uint8)


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of the bytes of a contiguous CPU tensor."""
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def gather_weights(
    policy: Any, dtype: torch.dtype, *, rank: int, adapter_only: bool = False, part: str = ALL
) -> list[np.ndarray]:
    """The buckets of `stream_weights` on rank 0, an empty list on the others. Collective under ZeRO-3."""
    streamed = stream_weights(policy, dtype, rank=rank, adapter_only=adapter_only, part=part)
    return [pack_bucket(tensors) for tensors in streamed if tensors]
