"""Checkpoints of the learner (to go on exactly) and exports of the policy (a plain Hugging Face folder).

A checkpoint folder holds `deepspeed/` (parameters and optimizer shards), `rng_rank_<r>.pt`, `client_state.json` and,
written last, `manifest.json` with the layout and every file's size and sha256. A folder without it is not a checkpoint.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from huggingface_hub import save_torch_state_dict

from learner.config import LearnerConfig
from learner.errors import CheckpointError
from learner.weights import stream_weights

MANIFEST = "manifest.json"
_CHUNK = 2**24


def save_checkpoint(
    engine: Any, folder: Path, client_state: dict[str, Any], config: LearnerConfig, *, rank: int
) -> None:
    """Write the checkpoint into `folder`. Collective. `client_state` is any JSON of the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (folder / MANIFEST).unlink(missing_ok=True)
    torch.distributed.barrier()
    engine.save_checkpoint(str(folder), tag="deepspeed", save_latest=False)
    torch.save(_rng_state(), folder / f"rng_rank_{rank}.pt")
    if rank == 0:
        (folder / "client_state.json").write_text(json.dumps(client_state, indent=1) + "\n")
    torch.distributed.barrier()
    files = _digest_together(folder, sorted(_files(folder)), rank)
    if rank == 0:
        manifest = {"layout": _layout(config), "files": files}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    torch.distributed.barrier()


def load_checkpoint(engine: Any, folder: Path, config: LearnerConfig, *, rank: int) -> dict[str, Any]:
    """Restore the engine and the random states; returns the client state. Collective.

    Raises CheckpointError, on every rank, naming the file that is missing or damaged or the setting that differs.
    """
    manifest = _read_manifest(folder)
    if manifest["layout"] != (layout := _layout(config)):
        differing = {key: (manifest["layout"].get(key), value) for key, value in layout.items()}
        told = ", ".join(f"{key} {was} != {now}" for key, (was, now) in differing.items() if was != now)
        raise CheckpointError(f"checkpoint {folder} was written by another layout (checkpoint != config): {told}")
    for name in manifest["files"]:
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint {folder} is damaged: {name} is missing; use an earlier checkpoint")
    found = _digest_together(folder, sorted(manifest["files"]), rank)
    damaged = [name for name, expected in manifest["files"].items() if found[name] != expected]
    if damaged:
        raise CheckpointError(
            f"checkpoint {folder} is damaged: {', '.join(damaged)} differ(s) from {MANIFEST}; use an earlier checkpoint"
        )
    engine.load_checkpoint(str(folder), tag="deepspeed")
    _set_rng_state(torch.load(folder / f"rng_rank_{rank}.pt", weights_only=False))
    client_state: dict[str, Any] = json.loads((folder / "client_state.json").read_text())
    return client_state


def export_policy(policy: Any, processor: Any, folder: Path, dtype: torch.dtype, *, rank: int) -> None:
    """Write weights in `dtype`, config, generation config, tokenizer, processor and chat template. Collective."""
    state = {name: tensor for bucket in stream_weights(policy, dtype, rank=rank) for name, tensor in bucket.items()}
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
    torch.distributed.barrier()


def _layout(config: LearnerConfig) -> dict[str, Any]:
    names = ("num_ranks", "zero_stage", "dtype", "freeze_vision", "offload_optimizer")
    return {name: getattr(config, name) for name in names}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a complete checkpoint: {MANIFEST}, written last, is missing")
    try:
        manifest = json.loads(path.read_text())
        return {"layout": dict(manifest["layout"]), "files": dict(manifest["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {MANIFEST} is not readable ({error})") from error


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _digest_together(folder: Path, names: list[str], rank: int) -> dict[str, dict[str, Any]]:
    """Size and sha256 of the files, each read by one rank."""
    world_size = torch.distributed.get_world_size()
    mine = {name: _digest(folder / name) for name in names[rank::world_size]}
    shares: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(shares, mine)
    return {name: digest for share in shares for name, digest in sorted(share.items())}


def _digest(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _rng_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
