"""Exports of the policy, a plain Hugging Face folder, and reading one back as weight buckets for engines."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from learner.lora import adapter_config, has_lora
from learner.types import ADAPTER, ALL
from learner.weights import make_bucket, stream_weights

ADAPTER_FOLDER = "adapter"


def export_policy(policy: Any, processor: Any, folder: Path, dtype: torch.dtype, *, rank: int) -> None:
    """Write weights in `dtype`, config, generation config, tokenizer, processor and chat template. Collective.

    With LoRA the weights are merged ones, and the adapter by itself is in `adapter/`, as peft and vLLM load it.
    """
    state = _gathered(stream_weights(policy, dtype, with_tensors=rank == 0))
    adapter = {}
    if has_lora(policy):
        adapter = _gathered(stream_weights(policy, dtype, with_tensors=rank == 0, part=ADAPTER))
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_torch_state_dict(state, folder, max_shard_size="5GB")
        config = policy.config.__class__.from_dict(policy.config.to_dict())
        config.architectures = [policy.__class__.__name__]
        for part in (config, config.text_config, config.vision_config):
            part.dtype = dtype
        config.text_config.use_cache = True
        config.save_pretrained(folder)
        if policy.can_generate():
            policy.generation_config.save_pretrained(folder)
        processor.save_pretrained(folder)
    if adapter:
        (folder / ADAPTER_FOLDER).mkdir(exist_ok=True)
        safetensors.torch.save_file(adapter, folder / ADAPTER_FOLDER / "adapter_model.safetensors", {"format": "pt"})
        adapter_config(policy).save_pretrained(folder / ADAPTER_FOLDER)
    if rank == 0:
        for path in folder.rglob("*.safetensors"):  # safetensors lets nobody else read what it writes
            path.chmod((folder / "config.json").stat().st_mode)
    torch.distributed.barrier()


def _gathered(buckets: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Copies: safetensors writes no views of larger memory, as DeepSpeed's parameters are."""
    return {name: tensor.clone() for bucket in buckets for name, tensor in bucket.items()}


def read_exported(folder: Path, dtype: torch.dtype, *, part: str = ALL, digests: bool = True) -> list[list[np.ndarray]]:
    """One bucket for each weight file of the folder, or of the adapter in it; raises FileNotFoundError if it has
    none."""
    folder = folder / ADAPTER_FOLDER if part == ADAPTER else folder
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected an exported policy, found no .safetensors file")
    buckets = []
    for file in files:
        tensors = {name: tensor.to(dtype) for name, tensor in safetensors.torch.load_file(file).items()}
        buckets.append(make_bucket(tensors, digests=digests))
    return buckets
