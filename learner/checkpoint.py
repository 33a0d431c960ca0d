"""Checkpoints of the learner: everything needed to go on exactly.

A checkpoint folder holds `deepspeed/` (what is trained, with its float32 masters and optimizer states, a shard a rank),
`rng_rank_<r>.pt` and, written last, `manifest.json`: the layout that wrote it, the names and shapes of the trained
parameters, the digest of the reference policy, and every file's size and sha256. What is frozen is not in it: it comes
from the base.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed

from learner.config import LearnerConfig
from learner.errors import CheckpointError
from learner.manifest import MANIFEST, FileDigest, Manifest, file_digests, files_below, read_manifest, write_manifest
from learner.relayout import load_relaid, relay

DEEPSPEED = "deepspeed"
_LAYOUT = ("num_ranks", "zero_stage")  # differ: DeepSpeed's shards are converted


def save_checkpoint(engine: Any, folder: Path, config: LearnerConfig, *, rank: int, reference_digest: str) -> None:
    """Write the checkpoint into `folder`. Collective."""
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (folder / MANIFEST).unlink(missing_ok=True)
    torch.distributed.barrier()
    engine.save_checkpoint(str(folder), tag=DEEPSPEED, save_latest=False, exclude_frozen_parameters=True)
    torch.save(_rng_state(), folder / f"rng_rank_{rank}.pt")
    torch.distributed.barrier()
    files = _digest_together(folder, files_below(folder), rank, sync=True)
    if rank == 0:
        facts = {
            "layout": {name: getattr(config, name) for name in _LAYOUT},
            "dtype": config.dtype,
            "parameters": trained_parameters(engine.module),
            "reference_digest": reference_digest,
        }
        write_manifest(folder, facts, {name: digest for name, digest in files.items() if digest})
    torch.distributed.barrier()


def load_checkpoint(engine: Any, folder: Path, config: LearnerConfig, *, rank: int, reference_digest: str) -> None:
    """Restore what is trained, the optimizer and the random states. Collective.

    The number of ranks and the ZeRO stage may differ from those that wrote it; a rank that was not there then takes the
    random states of another. Raises DamagedCheckpointError, on every rank and before anything is changed, naming the
    files that are damaged, and CheckpointError for the checkpoint of another policy.
    """
    manifest = read_manifest(folder)
    manifest.check(folder, _digest_together(folder, sorted(manifest.files), rank))
    _check_fits(folder, manifest, engine, config, reference_digest)
    written = manifest.facts["layout"]
    if written == {name: getattr(config, name) for name in _LAYOUT}:
        # What is frozen is not in the checkpoint; that nothing else is missing was checked above.
        engine.load_checkpoint(str(folder), tag=DEEPSPEED, load_module_strict=False)
    else:
        with relay(folder / DEEPSPEED, manifest.facts["parameters"], rank=rank) as relaid:
            load_relaid(engine, relaid)
    state = torch.load(folder / f"rng_rank_{rank % written['num_ranks']}.pt", weights_only=False)
    _set_rng_state(state)


def trained_parameters(module: torch.nn.Module) -> dict[str, list[int]]:
    """The shapes of the parameters that are trained, by name; under ZeRO-3 those of the whole parameters."""
    return {
        name: list(getattr(parameter, "ds_shape", parameter.shape))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def check_same_parameters(folder: Path, manifest: Manifest, module: torch.nn.Module) -> None:
    """Raise CheckpointError unless what is trained in the policy is what the checkpoint holds."""
    written, trained = manifest.facts["parameters"], trained_parameters(module)
    if written != trained:
        names = sorted(name for name in written.keys() | trained.keys() if written.get(name) != trained.get(name))
        name = names[0]
        raise CheckpointError(
            f"checkpoint {folder} holds other trained parameters than the configured policy has: {len(names)} differ, "
            f"{name} for instance is {written.get(name, 'not trained')} there and {trained.get(name, 'not trained')} "
            "here; set the model, learner.lora and learner.freeze_* that the run started with"
        )


def _check_fits(folder: Path, manifest: Manifest, engine: Any, config: LearnerConfig, reference_digest: str) -> None:
    """Raise CheckpointError if the checkpoint is of another policy: no earlier one of the run would fit either."""
    facts = manifest.facts
    if facts["dtype"] != config.dtype:
        raise CheckpointError(f"checkpoint {folder} is of learner.dtype {facts['dtype']}, configured is {config.dtype}")
    if facts["reference_digest"] != reference_digest:
        raise CheckpointError(
            f"checkpoint {folder} was trained from the base policy with digest {facts['reference_digest'] or 'none'}, "
            f"the configured model has {reference_digest or 'none'}; put the base back that the run started from"
        )
    check_same_parameters(folder, manifest, engine.module)


def _digest_together(folder: Path, names: list[str], rank: int, *, sync: bool = False) -> dict[str, FileDigest | None]:
    """Digests of the files, each read by one rank."""
    world_size = torch.distributed.get_world_size()
    shares: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(shares, file_digests(folder, names[rank::world_size], sync=sync))
    return {name: digest for share in shares for name, digest in share.items()}


def _rng_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
