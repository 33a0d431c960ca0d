"""The policy of a checkpoint written without its ranks: one process, no optimizer states, on CPU."""

import contextlib
import io
import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed

from learner.config import LearnerConfig
from learner.errors import CheckpointError
from learner.manifest import file_digests, read_manifest


def export_checkpoint(checkpoint: Path, model: str, config: LearnerConfig, folder: Path, dtype: str) -> None:
    """Write the policy that a checkpoint of any layout holds as `LearnerWorker.export` would, in `dtype`.

    `model` is the base that the checkpoint was trained from: what is frozen comes from there. Raises
    DamagedCheckpointError, or CheckpointError if the base, with `config`, has other trained parameters.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    from learner.checkpoint import DEEPSPEED, check_same_parameters
    from learner.export import export_policy
    from learner.model import PolicyModule, load_policy, load_processor

    manifest = read_manifest(checkpoint)
    manifest.check(checkpoint, file_digests(checkpoint, manifest.files))
    policy = load_policy(model, replace(config, attention="split"))  # the one for CPU; it is not run here
    module = PolicyModule(policy)
    check_same_parameters(checkpoint, manifest, module)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        weights = get_fp32_state_dict_from_zero_checkpoint(
            str(checkpoint), tag=DEEPSPEED, exclude_frozen_parameters=True
        )
    missing = sorted(manifest.facts["parameters"].keys() - weights.keys())
    if missing:
        raise CheckpointError(f"checkpoint {checkpoint} has no weights for {missing[0]}, which was trained")
    module.load_state_dict(weights, strict=False)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    export_policy(policy, load_processor(model), folder, getattr(torch, dtype), rank=0)
