"""Receiving weights: safetensors buckets are checked, then loaded through vLLM's layerwise reload.

Loading new weights into a running engine is not an assignment: on CPU most layers hold packed copies instead of their
parameters, on GPU quantised ones do. vLLM's layerwise reload builds each layer anew from checkpoint tensors and copies
the result into the storage in use. It leaves two things to us: a tied output head keeps a packed copy of the *old*
embedding, and layers that received only some of their tensors are processed as if complete, so the names are checked
before anything is touched.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
_DIGEST_PREFIX = "sha256:"
_HEADER_LENGTH_BYTES = 8  # a safetensors file: u64 length, JSON header of that length, tensor bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTensor:
    """One tensor inside a bucket, not copied. `bytes` is a view of the bucket's memory."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: np.ndarray  # [num_bytes], uint8
    expected_digest: str | None

    def digest(self) -> str:
        """sha256 of the tensor's bytes, as hex."""
        return hashlib.sha256(self.bytes.data).hexdigest()

    def tensor(self) -> torch.Tensor:
        """The values, sharing the bucket's memory, which may be read-only: never write into it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return torch.from_numpy(self.bytes).view(self.dtype).view(self.shape)


def read_bucket(bucket: np.ndarray) -> list[WireTensor]:
    """The tensors of one bucket (a safetensors file in a 1-D uint8 array), in the order of their bytes."""
    if bucket.dtype != np.uint8 or bucket.ndim != 1 or bucket.size < _HEADER_LENGTH_BYTES:
        raise ValueError(f"a weight bucket must be a 1-D uint8 array, got {bucket.dtype} of shape {bucket.shape}")
    start = _HEADER_LENGTH_BYTES + int.from_bytes(bucket[:_HEADER_LENGTH_BYTES].tobytes(), "little")
    try:
        header: dict[str, Any] = json.loads(bucket[_HEADER_LENGTH_BYTES:start].tobytes())
    except ValueError as error:
        raise ValueError(f"a weight bucket of {bucket.size} bytes does not start with a safetensors header") from error
    metadata: dict[str, str] = header.pop("__metadata__", {})
    tensors = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if start + end > bucket.size:
            raise ValueError(f"{name}: the weight bucket is cut off ({bucket.size} bytes, {start + end} needed)")
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name}: unknown dtype {entry['dtype']!r}; known are {', '.join(_DTYPES)}")
        tensors.append(
            WireTensor(
                name=name,
                dtype=_DTYPES[entry["dtype"]],
                shape=tuple(entry["shape"]),
                bytes=bucket[start + begin : start + end],
                expected_digest=metadata.get(_DIGEST_PREFIX + name),
            )
        )
    return tensors


def sent_digests(buckets: Sequence[np.ndarray]) -> dict[str, str]:
    """The digest of every tensor by name, each compared with the one sent along.

    Raises ValueError naming the tensors whose bytes differ or that came without a digest.
    """
    found, different, absent = {}, [], []
    for bucket in buckets:
        for tensor in read_bucket(bucket):
            found[tensor.name] = tensor.digest()
            if tensor.expected_digest is None:
                absent.append(tensor.name)
            elif tensor.expected_digest != found[tensor.name]:
                different.append(tensor.name)
    if different:
        raise ValueError(f"weights arrived damaged, their sha256 digests differ: {_listed(different)}")
    if absent:
        raise ValueError(f"weights arrived without a digest ('sha256:<name>' in the metadata): {_listed(absent)}")
    return found


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest over all names and digests."""
    return hashlib.sha256("".join(f"{name}:{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


class WeightReceiver:
    """Methods added to vLLM's worker (`worker_extension_cls`), so that they run wherever the model's shards live."""

    model_runner: Any
    model_config: Any
    vllm_config: Any

    def check_weight_names(self, names: Sequence[str], kept: Sequence[str]) -> None:
        """Raise ValueError naming what the model needs and did not get, and what it got and does not know.

        A part of the model of which nothing came needs nothing if all of it is among the names `kept`.
        """
        model = self.model_runner.get_model()
        rename = model.hf_to_vllm_mapper.get_rename_mapper().map_name
        renamed, held = ({name: rename(name) for name in given} for given in (names, kept))
        sent_parts = {_part(target) for target in renamed.values()}
        needed = _unstacked_parameter_names(model) - {
            target for target in held.values() if _part(target) not in sent_parts
        }
        tied = {f"{name}.weight" for name, _ in _tied_heads(model)}
        missing = sorted(needed - set(renamed.values()))
        unknown = sorted(name for name, target in renamed.items() if target not in needed | tied)
        repeated = len(names) - len(renamed)
        if missing or unknown or repeated:
            raise ValueError(
                "the weights do not fit the model, nothing was loaded:"
                + (f" missing {_listed(missing)};" if missing else "")
                + (f" unknown {_listed(unknown)};" if unknown else "")
                + (f" {repeated} names were sent twice;" if repeated else "")
                + f" the model needs {len(needed)} tensors, got {len(names)}"
            )

    def load_buckets(self, buckets: Sequence[np.ndarray]) -> None:
        """Replace the weights of the parts of which some come, bucket by bucket. The caches are the caller's."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

        model = self.model_runner.get_model()
        rename = model.hf_to_vllm_mapper.get_rename_mapper().map_name
        sent_parts = {_part(rename(tensor.name)) for bucket in buckets for tensor in read_bucket(bucket)}
        parts = [module for name, module in model.named_children() if name in sent_parts]
        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            for part in parts:
                initialize_layerwise_reload(part)
            model.load_weights(_checkpoint_tensors(buckets, self.model_config.dtype))
            for part in parts:
                finalize_layerwise_reload(part, self.model_config)
            for _, head in _tied_heads(model):
                head.quant_method.process_weights_after_loading(head)


def _part(name: str) -> str:
    """The part of the model, such as its vision tower, that a tensor of vLLM's name belongs to."""
    return name.partition(".")[0]


def _checkpoint_tensors(buckets: Sequence[np.ndarray], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for bucket in buckets:
        for wire in read_bucket(bucket):
            tensor = wire.tensor()
            yield wire.name, tensor.to(dtype) if tensor.is_floating_point() else tensor


def _unstacked_parameter_names(model: torch.nn.Module) -> set[str]:
    """vLLM's parameter names, with its fused layers (qkv_proj, gate_up_proj) as the parts that checkpoints hold."""
    parts: dict[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    names = set()
    for name, _ in model.named_parameters():
        module, _, leaf = name.rpartition(".")
        parent, _, fused = module.rpartition(".")
        names |= {f"{parent}.{part}.{leaf}".lstrip(".") for part in parts.get(fused, [fused])}
    return names


def _tied_heads(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Output heads that share the weight of an embedding, whose own copies a reload does not renew."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    embeddings = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead)
    }
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, ParallelLMHead) and id(module.weight) in embeddings
    ]


def _listed(names: Sequence[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
