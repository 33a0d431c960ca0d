"""Weights out: one bucket per decoder layer, as the pieces of a safetensors file.

A bucket is a list of uint8 arrays or tensors, [num_bytes] each, that make a safetensors file when laid behind one
another: its header first, then the bytes of its tensors, which need no copy of their own so.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import deepspeed
import numpy as np
import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from learner import lora
from learner.types import ADAPTER, ALL, FROZEN, TRAINED

_LAYER = re.compile(r"^.*?\.(?:layers|blocks)\.\d+\.")
_CPU = torch.device("cpu")
_META = torch.device("meta")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8  # bytes, of a safetensors header


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
    policy: Any,
    dtype: torch.dtype,
    *,
    with_tensors: bool,
    part: str = ALL,
    device: torch.device = _CPU,
) -> Iterator[dict[str, Tensor]]:
    """A part of the weights (see learner.types) bucket by bucket, under the names that save_pretrained writes, the
    adapter under peft's.

    Collective under ZeRO-3, where one bucket is gathered at a time: every rank must exhaust it. Ranks without
    `with_tensors` get empty dictionaries. Tensors that need no conversion, gathering or move to the `device` are the
    policy's own memory: use them before its next update.
    """
    for bucket in _buckets_of(policy, part):
        parameters = [parameter for _, parameter in bucket]
        sharded = any(hasattr(parameter, "ds_id") for parameter in parameters)
        with deepspeed.zero.GatheredParameters(parameters) if sharded else nullcontext():
            tensors: dict[str, Tensor] = {}
            if with_tensors:
                found = _named(policy, bucket, part)
                tensors = {name: tensor.to(device, dtype, copy=sharded) for name, tensor in found.items()}
        yield tensors if part == ADAPTER or not tensors else revert_weight_conversion(policy, tensors)


def weight_headers(policy: Any, dtype: torch.dtype, *, part: str = ALL) -> list[np.ndarray]:
    """The headers of the buckets that `stream_weights` gives, without digests. Nothing is gathered."""
    return [header_of(tensors) for tensors in _shapes(policy, dtype, part)]


def weight_bytes(policy: Any, dtype: torch.dtype, *, part: str = ALL) -> int:
    """How many bytes of tensors `stream_weights` gives. Nothing is gathered."""
    return sum(tensor.nbytes for tensors in _shapes(policy, dtype, part) for tensor in tensors.values())


def _shapes(policy: Any, dtype: torch.dtype, part: str) -> Iterator[dict[str, Tensor]]:
    """What `stream_weights` gives, as tensors without values."""
    for bucket in _buckets_of(policy, part):
        shapes = [(name, torch.empty(_full_shape(parameter), device=_META)) for name, parameter in bucket]
        tensors = {name: tensor.to(dtype) for name, tensor in _named(policy, shapes, part).items()}
        yield tensors if part == ADAPTER or not tensors else revert_weight_conversion(policy, tensors)


def _named(policy: Any, bucket: Sequence[tuple[str, Tensor]], part: str) -> dict[str, Tensor]:
    return lora.adapter_only(bucket) if part == ADAPTER else lora.merged(policy, bucket)


def _buckets_of(policy: Any, part: str) -> Iterator[list[tuple[str, nn.Parameter]]]:
    trains_vision = any(parameter.requires_grad for parameter in policy.model.visual.parameters())
    for bucket in parameter_buckets(policy).values():
        frozen = not trains_vision and bucket[0][0].startswith(f"{lora.VISION}.")
        if part != (TRAINED if frozen else FROZEN):
            yield bucket


def _full_shape(parameter: nn.Parameter) -> Sequence[int]:
    shape: Sequence[int] = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def bytes_of(tensor: Tensor) -> Tensor:
    """[num_bytes], uint8: the tensor's memory, a copy only if it is not contiguous."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def header_of(tensors: Mapping[str, Tensor], digests: Mapping[str, str] | None = None) -> np.ndarray:
    """The header of a safetensors file with these tensors in this order, [num_bytes], uint8. Its metadata maps
    "sha256:<name>" to the hex digest, if there are digests."""
    entries: dict[str, Any] = {}
    if digests:
        entries["__metadata__"] = {f"sha256:{name}": digest for name, digest in digests.items()}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return np.frombuffer(len(text).to_bytes(8, "little") + text, dtype=np.uint8)


def make_bucket(tensors: Mapping[str, Tensor], *, digests: bool = True) -> list[np.ndarray]:
    """CPU tensors as a bucket that shares their memory, with a digest of each unless told otherwise."""
    pieces = {name: bytes_of(tensor).numpy() for name, tensor in tensors.items()}
    found = {name: digest_of_bytes(piece) for name, piece in pieces.items()} if digests else None
    return [header_of(tensors, found), *pieces.values()]


def digest_of_bytes(piece: np.ndarray) -> str:
    """sha256, as hex."""
    return hashlib.sha256(piece.data).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of the bytes of a tensor, wherever it is."""
    return digest_of_bytes(bytes_of(tensor).cpu().numpy())


def gather_weights(
    policy: Any, dtype: torch.dtype, *, rank: int, part: str = ALL, digests: bool = True
) -> list[list[np.ndarray]]:
    """The buckets of `stream_weights` on rank 0, an empty list on the others. Collective under ZeRO-3."""
    streamed = stream_weights(policy, dtype, with_tensors=rank == 0, part=part)
    return [make_bucket(tensors, digests=digests) for tensors in streamed if tensors]
