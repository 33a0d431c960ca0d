"""One rank of the learner: a DeepSpeed engine around the policy that updates it from groups of responses."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from learner.config import LearnerConfig
from learner.loss_config import Loss
from learner.meeting import join_ranks
from learner.out_of_memory import saying_what_to_lower
from learner.packing import ImageFeatures, ImagePixels, PackedRows, pack_rows
from learner.types import ALL, ResponseKl, SharedBucket, TrainingGroup, UpdateBatch, UpdateCost, UpdateStats

_LOOPBACK = Path("/sys/class/net/lo")


class LearnerWorker:
    """One of `config.num_ranks` ranks. Methods marked collective must be called on every rank."""

    def __init__(
        self,
        config: LearnerConfig,
        model: str,
        rank: int = 0,
        world_size: int = 1,
        master_address: str = "127.0.0.1",
        master_port: int = 29500,
        loss: Loss | None = None,
    ) -> None:
        """`model` is a Hugging Face folder or hub name; `loss` is by default that of `config` for an unpipelined run.

        Collective: returns when all ranks have met at the address.
        """
        if world_size != config.num_ranks:
            raise ValueError(f"world_size must equal learner.num_ranks = {config.num_ranks}, got {world_size}")
        self.config, self.rank, self.world_size = config, rank, world_size
        self._loss = loss or config.loss.resolved(pipelined=False)
        self._device = _set_environment(rank, world_size, master_address, master_port)
        torch.set_num_threads(config.num_threads)

        from learner.model import ImageStore, load_policy, load_processor

        join_ranks(rank, world_size, master_address, master_port, on_gpu=self._device.type == "cuda")
        self.processor = load_processor(model)
        self.images = ImageStore(self.processor, config.pixel_cache_mib * 2**20)
        self.policy = load_policy(model, config)
        self._make_engine(model)

    def _make_engine(self, model: str) -> None:
        """The DeepSpeed engine around the policy, and what updates it."""
        import deepspeed  # reads the environment when imported

        from learner.deepspeed_config import deepspeed_config
        from learner.features import FeatureCache
        from learner.model import PolicyModule
        from learner.reference import Reference, base_digest
        from learner.update import Updater

        config, on_gpu = self.config, self._device.type == "cuda"
        module = PolicyModule(self.policy)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module,
            model_parameters=_parameter_groups(module, config.weight_decay),
            config=deepspeed_config(config, on_gpu=on_gpu),
            dist_init_required=False,
        )
        self.features = FeatureCache(
            module.encode,
            self.images.preprocess,
            config.feature_cache_mib * 2**20,
            self._device if config.feature_cache_device == "policy" else torch.device("cpu"),
            in_step=config.zero_stage == 3 and self.world_size > 1,
        )
        self.reference_digest = base_digest(model)
        reference = Reference(config, model, self.engine, device=self._device) if self._loss.needs_reference else None
        self._updater = Updater(
            config, self._loss, self.engine, self.optimizer, self.pack, reference=reference, device=self._device
        )

    def summary(self) -> str:
        """What is trained: the adapters and what they are bound to, or how much of the policy."""
        if lora := getattr(self.policy, "lora_summary", ""):
            return str(lora)
        counts = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in self.policy.parameters()]
        trained, total = sum(count for count, trains in counts if trains), sum(count for count, _ in counts)
        return f"full fine-tuning: {trained / 1e6:.1f} of {total / 1e6:.1f} M parameters trained"

    def add_images(self, images: Mapping[str, bytes]) -> None:
        """Encoded images by the keys that groups name."""
        self.images.add(images)

    def update(self, batch: UpdateBatch) -> tuple[UpdateStats, UpdateCost]:
        """One optimizer step per minibatch. Collective.

        Raises, on every rank and naming the queries, NonFiniteError when a loss or gradient is not finite, ParityError
        when sampler and learner differ by more than the batch allows; OutOfMemoryError, with what to lower, on one.
        """
        with saying_what_to_lower(self.config), self._features_of(batch):
            return self._updater.update(batch)

    def reference_kl(self, batch: UpdateBatch) -> list[ResponseKl]:
        """KL(sampler || reference) of this rank's responses. Collective."""
        with saying_what_to_lower(self.config), self._features_of(batch):
            found: list[ResponseKl] = self._updater.reference_kl(batch)
        return found

    # --- weights for the engines; `dtype` is theirs, the policy's own by default --------------------------------------

    def gather_weights(
        self, dtype: str | None = None, *, part: str = ALL, digests: bool = True
    ) -> list[list[np.ndarray]]:
        """Buckets (see learner.weights) on rank 0, [] elsewhere. Collective.

        They may share the policy's memory: an actor's caller gets a copy, another must use them before an update.
        """
        from learner import weights

        return weights.gather_weights(self.policy, self._dtype(dtype), rank=self.rank, part=part, digests=digests)

    def adapter_settings(self) -> str:
        """The adapter_config.json of the LoRA adapter."""
        from learner.lora import adapter_settings

        return adapter_settings(self.policy)

    def weight_headers(self, dtype: str | None = None, *, part: str = ALL) -> list[np.ndarray]:
        """The headers of the buckets that `broadcast_weights` and `share_next` send. Any one rank."""
        from learner import weights

        return weights.weight_headers(self.policy, self._dtype(dtype), part=part)

    def weight_bytes(self, dtype: str | None = None, *, part: str = ALL) -> int:
        """How many bytes a part of the weights has. Any one rank."""
        from learner import weights

        return weights.weight_bytes(self.policy, self._dtype(dtype), part=part)

    def open_broadcasts(self, address: str, port: int, *, group_size: int, seconds: float) -> None:
        """Meet engines with `group_size` - 1 processes in all, on rank 0. Returns when they have come."""
        from learner.sending import WeightBroadcaster

        self._broadcaster = WeightBroadcaster(
            address, port, group_size=group_size, seconds=seconds, device=self._device
        )

    def broadcast_weights(self, dtype: str | None = None, *, part: str = ALL, digests: bool = True) -> dict[str, str]:
        """Send the weights to all engines in the group; the digests by name on rank 0, {} elsewhere. Collective."""
        from learner.weights import stream_weights

        if self.rank == 0:
            sent: dict[str, str] = self._broadcaster.send(self.policy, self._dtype(dtype), part=part, digests=digests)
            return sent
        for _ in stream_weights(self.policy, self._dtype(dtype), with_tensors=False, part=part):
            pass
        return {}

    def share_weights(self, dtype: str | None = None, *, part: str = ALL, digests: bool = True) -> None:
        """Begin to share buckets with engines on this rank's device, which `share_next` does one by one."""
        from learner.sending import shared_buckets

        kind = self._dtype(dtype)
        self._shared = shared_buckets(self.policy, kind, part=part, device=self._device, digests=digests)

    def share_next(self) -> SharedBucket | None:
        """The next bucket, None after the last. The one before is taken back. Collective."""
        return next(self._shared, None)

    def read_exported(
        self, folder: str | Path, dtype: str | None = None, *, part: str = ALL, digests: bool = True
    ) -> list[list[np.ndarray]]:
        """The weights, or the adapter, of a policy that `export` wrote, as buckets. Any one rank."""
        from learner.export import read_exported

        return read_exported(Path(folder), self._dtype(dtype), part=part, digests=digests)

    # --- GPU memory ---------------------------------------------------------------------------------------------------

    def offload(self) -> None:
        """Lend the GPU memory of weights and optimizer to engines on the same device. Collective."""
        from learner.offloading import offload

        offload(self.engine, self.policy, self._device)

    def reload(self) -> None:
        """Take it back. Collective."""
        from learner.offloading import reload

        reload(self.engine, self.policy, self._device)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write everything needed to go on exactly into `folder`. Collective."""
        from learner.checkpoint import save_checkpoint

        digest = self.reference_digest
        save_checkpoint(self.engine, Path(folder), self.config, rank=self.rank, reference_digest=digest)

    def load(self, folder: str | Path) -> None:
        """Restore what `save` wrote, also with another number of ranks or ZeRO stage. Collective.

        Raises DamagedCheckpointError, or CheckpointError for the checkpoint of another policy.
        """
        from learner.checkpoint import load_checkpoint

        digest = self.reference_digest
        load_checkpoint(self.engine, Path(folder), self.config, rank=self.rank, reference_digest=digest)

    def export(self, folder: str | Path, dtype: str | None = None) -> None:
        """Write the policy as a plain Hugging Face folder with its processor. Collective."""
        from learner.export import export_policy

        export_policy(self.policy, self.processor, Path(folder), self._dtype(dtype), rank=self.rank)

    def pack(self, groups: Sequence[TrainingGroup]) -> PackedRows:
        """The groups as packed rows on this rank's device; with a frozen vision tower their features must be held."""
        config = self.policy.config
        rows = pack_rows(
            groups,
            self._image,
            self._prompt_positions,
            image_token_id=config.image_token_id,
            merge_size=config.vision_config.spatial_merge_size,
            pad_token_id=self.processor.tokenizer.pad_token_id or 0,
        )
        on_device = {
            field.name: value.to(self._device)
            for field in fields(rows)
            if isinstance(value := getattr(rows, field.name), Tensor)
        }
        return replace(rows, **on_device)

    def _dtype(self, name: str | None) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, name or self.config.dtype)
        return dtype

    def _prompt_positions(self, prompt_ids: Tensor, grids: Tensor | None) -> Tensor:
        token_types = (prompt_ids == self.policy.config.image_token_id).int()
        return self.policy.model.get_rope_index(prompt_ids, token_types, image_grid_thw=grids)[0]

    def _image(self, key: str) -> ImagePixels | ImageFeatures:
        return self.images.pixels(key) if self.config.trains_vision else self.features[key]

    def _features_of(self, batch: UpdateBatch) -> AbstractContextManager[None]:
        """Holds the features of the batch's images. Collective under ZeRO-3."""
        if self.config.trains_vision:
            return nullcontext()
        groups = [group for minibatch in batch.minibatches for group in minibatch]
        return self.features.holding([key for group in groups for key in group.image_keys])


def _set_environment(rank: int, world_size: int, address: str, port: int) -> torch.device:
    """What DeepSpeed reads when it is imported and when ranks meet; returns this rank's device."""
    num_gpus = torch.cuda.device_count()
    local_rank = rank % num_gpus if num_gpus else 0
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }
    if address.startswith("127.") and _LOOPBACK.exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK.name)  # gloo would listen on the machine's own address
    if num_gpus:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    os.environ["DS_ACCELERATOR"] = "cpu"
    return torch.device("cpu")


def _parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay, biases and norms without."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
