"""Reading an exported policy back as weight buckets, to give it to engines in place of the learner's own weights."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from learner.weights import pack_bucket


def read_exported(folder: Path, dtype: torch.dtype) -> list[np.ndarray]:
    """One bucket for each weight file of the folder; raises FileNotFoundError if it has none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected an exported policy, found no .safetensors file")
    buckets = []
    for file in files:
        tensors = safetensors.torch.load_file(file)
        buckets.append(pack_bucket({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    return buckets
