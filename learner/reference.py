"""The reference policy: the base that the run started from, frozen, to which the loss measures the KL."""

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed
from huggingface_hub import snapshot_download
from torch import Tensor

from learner.config import LearnerConfig
from learner.deepspeed_config import reference_config
from learner.lora import adapters_off
from learner.manifest import file_digests
from learner.model import PolicyModule, load_policy
from learner.packing import PackedRows


class Reference:
    """Logprobs under the base. With LoRA it is the policy with its adapters off, else a frozen copy."""

    def __init__(self, config: LearnerConfig, model: str, engine: Any, *, device: torch.device) -> None:
        """`engine` is the policy's. Collective."""
        self._policy = engine.module.policy if config.lora.rank else None
        self._forward: Any = engine if config.lora.rank else _frozen_copy(config, model, device)

    def logprobs(self, rows: PackedRows, *, temperature: float, banned_token_ids: tuple[int, ...] = ()) -> Tensor:
        """[N] without gradient, of the same rows as the policy's. Where the vision tower trains, the rows hold pixels
        and the base's own tower sees them. Collective under ZeRO-3."""
        as_base = adapters_off(self._policy) if self._policy is not None else nullcontext()
        with torch.no_grad(), as_base:
            logprobs: Tensor
            logprobs, _ = self._forward(rows, temperature=temperature, banned_token_ids=banned_token_ids)
        return logprobs


def base_digest(model: str) -> str:
    """sha256 over the names and bytes of the base's weight files. Collective: each rank reads a share of them.

    Raises FileNotFoundError if there are none.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(snapshot_download(model, local_files_only=True, allow_patterns=["*.safetensors"]))
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise FileNotFoundError(f"{folder}: expected the base policy's weights, found no .safetensors file")
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shares: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(shares, file_digests(folder, names[rank::world_size]))
    digests = sorted((name, digest["sha256"]) for share in shares for name, digest in share.items())
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()


def _frozen_copy(config: LearnerConfig, model: str, device: torch.device) -> Any:
    """The base as a module; sharded over the ranks, if there are several, whatever the policy's ZeRO stage."""
    policy = load_policy(model, config, lora=False)
    policy.requires_grad_(False)
    if not config.trains_vision:
        policy.model.visual = None  # rows come with the features of the policy's tower, which is the same
    module = PolicyModule(policy)
    if config.num_ranks == 1 and not config.offload_parameters:
        return module.to(device)
    settings = reference_config(config, on_gpu=device.type == "cuda")
    return deepspeed.initialize(model=module, config=settings, dist_init_required=False)[0]
