"""Loading a DeepSpeed checkpoint into another number of ranks or ZeRO stage.

DeepSpeed's universal checkpoint (arXiv 2406.18820) cuts the shards up by parameter, which any layout can load. Its
converter and loaders assume one ZeRO stage; what they miss when the stage changes is put in here.
"""

import contextlib
import io
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from deepspeed.checkpoint.ds_to_universal import main as convert_to_universal

from learner.errors import CheckpointError

_TAG = "universal"
_MODEL_STATES = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")  # ZeRO-1 and 2, ZeRO-3
_GLOBAL_STATE = ("loss_scaler", "dynamic_loss_scale", "overflow", "clip_grad", "ds_version")


@contextlib.contextmanager
def relay(shards: Path, shapes: Mapping[str, Sequence[int]], *, rank: int) -> Iterator[Path]:
    """A folder beside `shards`, for the time of the context, whose content any layout can load. Collective.

    `shapes` are those of the trained parameters by name. Rank 0 writes the folder, which takes as much room as the
    shards, and twice that while they are converted. Raises CheckpointError, on every rank, if that fails.
    """
    folder = shards.parent / ".relaid"
    try:
        _convert_on_rank_0(shards, shapes, folder, rank)
        yield folder
        torch.distributed.barrier()
    finally:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def load_relaid(engine: Any, folder: Path) -> None:
    """Load what `relay` made: what is trained, the float32 masters and the optimizer states. Collective."""
    groups = engine.optimizer.optimizer.param_groups
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    engine._config.load_universal_checkpoint = (
        True  # what `load_universal` in the dictionary sets; nothing else reads it
    )
    try:
        engine.load_checkpoint(str(folder), tag=_TAG)
    finally:
        engine._config.load_universal_checkpoint = False
    for group, own in zip(groups, settings, strict=True):
        group.update(own)  # ZeRO-3 gives every group the settings of the first, weight decay included
    for state in engine.optimizer.optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()  # ZeRO-3 gives all groups one counter, which each would count up


def _convert_on_rank_0(shards: Path, shapes: Mapping[str, Sequence[int]], folder: Path, rank: int) -> None:
    failure: Exception | None = None
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _convert(shards, shapes, folder)
        except Exception as error:  # whatever it is, the other ranks wait to hear of it
            failure = error
    told = [None if failure is None else f"{type(failure).__name__}: {failure}"]
    torch.distributed.broadcast_object_list(told, src=0)
    if told[0] is not None:
        raise CheckpointError(f"{shards} cannot be converted to another number of ranks ({told[0]})") from failure


def _convert(shards: Path, shapes: Mapping[str, Sequence[int]], relaid: Path) -> None:
    folder = relaid / _TAG
    folder.mkdir(parents=True)
    shards = _with_states(shards, relaid / "completed")
    arguments = Namespace(
        input_folder=str(shards),
        output_folder=str(folder),
        num_extract_workers=1,  # more would be forked, which a process with threads must not be
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        convert_to_universal(arguments)
    optimizer_state = _optimizer_state(shards)
    torch.save(optimizer_state, folder / "zero" / "optimizer_state.pt")
    step = optimizer_state["optimizer_state_dict"]["state"][0]["step"]
    for name, shape in shapes.items():
        _complete_parameter(folder / "zero" / name, shape, step)
    _complete_counters(folder)


def _with_states(shards: Path, folder: Path) -> Path:
    """The shards, or before the first update, when the optimizer has no states yet, a copy with those it starts from:
    zeros."""
    if _base_state(_first_shard(shards))["state"]:
        return shards
    folder.mkdir()
    for file in shards.iterdir():
        if not file.name.endswith("_optim_states.pt"):
            (folder / file.name).symlink_to(file.absolute())
            continue
        content = torch.load(file, map_location="cpu", weights_only=False, mmap=True)
        own = content["optimizer_state_dict"]
        masters = own.get("fp32_flat_groups") or own["single_partition_of_fp32_groups"]
        _base_state(content)["state"] = {
            group: {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(weights),
                "exp_avg_sq": torch.zeros_like(weights),
            }
            for group, weights in enumerate(masters)
        }
        torch.save(content, folder / file.name)
    return folder


def _first_shard(shards: Path) -> dict[str, Any]:
    (shard,) = shards.glob("*zero_pp_rank_0_*_optim_states.pt")
    content: dict[str, Any] = torch.load(shard, map_location="cpu", weights_only=False, mmap=True)
    return content


def _base_state(content: Mapping[str, Any]) -> dict[str, Any]:
    """The state of PyTorch's optimizer within a shard of any stage."""
    own = content["optimizer_state_dict"]
    base: dict[str, Any] = own["base_optimizer_state"] if "base_optimizer_state" in own else own["optimizer_state_dict"]
    return base


def _optimizer_state(shards: Path) -> dict[str, Any]:
    """The optimizer's global state, from the shard of rank 0, as the loaders of all stages expect it."""
    content = _first_shard(shards)
    own, base = content["optimizer_state_dict"], _base_state(content)
    state: dict[str, Any] = {name: own[name] for name in _GLOBAL_STATE if name in own}
    state["ds_version"] = content["ds_version"]
    state["param_groups"] = base["param_groups"]
    state["optimizer_state_dict"] = {
        "param_groups": base["param_groups"],
        "state": {0: {"step": base["state"][0]["step"]}},
    }
    return state


def _complete_parameter(folder: Path, shape: Sequence[int], step: Any) -> None:
    """The count of steps, which a conversion from ZeRO-3 leaves out, and the shape of its tensors, which it loses."""
    torch.save(step, folder / "step.pt")
    for name in ("fp32", "exp_avg", "exp_avg_sq"):
        content = torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=False)
        if torch.is_tensor(content):
            torch.save({"param": content.view(*shape)}, folder / f"{name}.pt")


def _complete_counters(folder: Path) -> None:
    """The engine's counters under the name that each stage looks for, without the shard of rank 0 beside them."""
    (written,) = (folder / name for name in _MODEL_STATES if (folder / name).is_file())
    counters = torch.load(written, map_location="cpu", weights_only=False) | {"module": {}}
    for file in folder.glob("*_model_states.pt"):
        file.unlink()
    for name in _MODEL_STATES:
        torch.save(counters, folder / name)
