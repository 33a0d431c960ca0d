"""One rank of the learner: a DeepSpeed engine around the policy that updates it from groups of responses."""

import os
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from learner.batching import plan_micro_batches
from learner.config import LearnerConfig
from learner.loss import clipped_policy_loss
from learner.packing import PackedRows, pack_rows
from learner.types import TrainingGroup, UpdateBatch, UpdateStats


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
    ) -> None:
        """`model` is a Hugging Face folder or hub name. Collective: returns when all ranks have met at the address."""
        if world_size != config.num_ranks:
            raise ValueError(f"world_size must equal learner.num_ranks = {config.num_ranks}, got {world_size}")
        self.config, self.rank, self.world_size = config, rank, world_size
        self._device = _set_environment(rank, world_size, master_address, master_port)
        torch.set_num_threads(config.num_threads)

        import deepspeed  # reads the environment when imported

        from learner.deepspeed_config import deepspeed_config
        from learner.model import ImageStore, PolicyModule, load_policy, load_processor

        _join(rank, world_size, on_gpu=self._device.type == "cuda")
        self.processor = load_processor(model)
        self.images = ImageStore(self.processor, config.pixel_cache_mib * 2**20)
        self.policy = load_policy(
            model,
            getattr(torch, config.dtype),
            freeze_vision=config.freeze_vision,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        module = PolicyModule(self.policy)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module,
            model_parameters=_parameter_groups(module, config.weight_decay),
            config=deepspeed_config(config, on_gpu=self._device.type == "cuda"),
            dist_init_required=False,
        )

    def add_images(self, images: Mapping[str, bytes]) -> None:
        """Encoded images by the keys that groups name."""
        self.images.add(images)

    def update(self, batch: UpdateBatch) -> UpdateStats:
        """One optimizer step per minibatch. Collective.

        Raises FloatingPointError, on every rank and naming the queries, when a loss or gradient is not finite.
        """
        started = time.perf_counter()
        sums = _Sums(self._device)
        gradient_norms = []
        for index, groups in enumerate(batch.minibatches):
            plan = plan_micro_batches(groups, self.config.max_tokens_per_micro_batch, batch.num_micro_batches[index])
            if len(plan) != batch.num_micro_batches[index]:
                raise ValueError(
                    f"minibatch {index} needs {len(plan)} micro-batches on rank {self.rank}, the batch says "
                    f"{batch.num_micro_batches[index]}; make it with make_update_batches and the learner's own config"
                )
            suspects: set[str] = set()
            for micro_batch in plan:
                suspects |= self._accumulate(micro_batch, batch, index, sums)
            self._raise_together(suspects, f"the loss of minibatch {index} is not finite")
            gradient_norms.append(self._step(batch.learning_rate, index, groups))
        return sums.stats(
            gradient_norm=sum(gradient_norms) / len(gradient_norms),
            num_optimizer_steps=len(gradient_norms),
            started=started,
        )

    def gather_weights(self, dtype: str | None = None) -> list[np.ndarray]:
        """Buckets of safetensors bytes on rank 0 (see learner.weights), [] elsewhere; `dtype` is the receiver's, the
        policy's own by default. Collective."""
        from learner import weights

        return weights.gather_weights(self.policy, getattr(torch, dtype or self.config.dtype), rank=self.rank)

    def read_exported(self, folder: str | Path, dtype: str | None = None) -> list[np.ndarray]:
        """The weights of a policy that `export` wrote, as buckets in the receiver's dtype. Any one rank."""
        from learner.exported import read_exported

        return read_exported(Path(folder), getattr(torch, dtype or self.config.dtype))

    def save(self, folder: str | Path, client_state: dict[str, Any]) -> None:
        """Write everything needed to go on exactly into `folder`, `client_state` (JSON) included. Collective."""
        from learner.checkpoint import save_checkpoint

        save_checkpoint(self.engine, Path(folder), client_state, self.config, rank=self.rank)

    def load(self, folder: str | Path) -> dict[str, Any]:
        """Restore what `save` wrote; returns the client state. Raises CheckpointError. Collective."""
        from learner.checkpoint import load_checkpoint

        return load_checkpoint(self.engine, Path(folder), self.config, rank=self.rank)

    def export(self, folder: str | Path, dtype: str | None = None) -> None:
        """Write the policy as a plain Hugging Face folder with its processor. Collective."""
        from learner.checkpoint import export_policy

        export_policy(
            self.policy, self.processor, Path(folder), getattr(torch, dtype or self.config.dtype), rank=self.rank
        )

    def pack(self, groups: list[TrainingGroup]) -> PackedRows:
        """The groups as packed rows on this rank's device."""
        config = self.policy.config
        rows = pack_rows(
            groups,
            self.images.pixels,
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

    def _prompt_positions(self, prompt_ids: Tensor, grids: Tensor | None) -> Tensor:
        token_types = (prompt_ids == self.policy.config.image_token_id).int()
        return self.policy.model.get_rope_index(prompt_ids, token_types, image_grid_thw=grids)[0]

    def _accumulate(self, micro_batch: list[TrainingGroup], batch: UpdateBatch, index: int, sums: "_Sums") -> set[str]:
        """Forward and backward of one micro-batch; the queries whose loss is not finite."""
        rows = self.pack(micro_batch)
        logprobs, entropies = self.engine(rows, temperature=batch.temperature, banned_token_ids=batch.banned_token_ids)
        loss = clipped_policy_loss(
            logprobs,
            rows.sampler_logprobs,
            rows.advantages,
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
        )
        # DeepSpeed averages gradients over ranks; the denominator is already the global number of tokens.
        scale = self.world_size / batch.num_response_tokens[index]
        self.engine.backward(loss.loss * scale, scale_wrt_gas=False)
        if sums.add(loss, entropies, first_pass=index == 0):
            return set()
        with torch.no_grad():
            log_ratio = logprobs - rows.sampler_logprobs
            finite = log_ratio.isfinite() & (log_ratio.exp() * rows.advantages).isfinite()  # [N]
        bad_rows = set((rows.predicting[~finite] // rows.input_ids.shape[1]).tolist())
        return {rows.query_ids[row] for row in bad_rows} or set(rows.query_ids)

    def _step(self, learning_rate: float, index: int, groups: tuple[TrainingGroup, ...]) -> float:
        """Optimizer step; returns the norm of the gradient before clipping."""
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = learning_rate
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm())
        if not self.engine.was_step_applied() or not np.isfinite(norm):
            queries = {group.query_id for group in groups}
            self._raise_together(queries, f"the gradient of minibatch {index} is not finite")
        return norm

    def _raise_together(self, queries: set[str], what: str) -> None:
        """Raise on every rank when any rank has suspects, so that none waits for a rank that is gone."""
        of_ranks: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(of_ranks, sorted(queries))
        suspects = sorted({query for of_rank in of_ranks for query in of_rank})
        if suspects:
            raise FloatingPointError(
                f"{what}: queries {', '.join(suspects)}; look at their documents and rewards, lower "
                "learner.learning_rate, or go on from the last checkpoint"
            )


class _Sums:
    """Running sums over response tokens; `sampler` sums are of the first minibatch, before any update."""

    def __init__(self, device: torch.device) -> None:
        # loss, clipped, entropy, tokens, sampler kl, sampler difference, sampler tokens
        self._sums = torch.zeros(7, dtype=torch.float64, device=device)
        self._max = torch.zeros(1, dtype=torch.float64, device=device)

    def add(self, loss: Any, entropies: Tensor, *, first_pass: bool) -> bool:
        """Add a micro-batch; False when its loss or statistics are not finite."""
        tokens = torch.tensor(float(len(entropies)), device=self._sums.device)
        values = [loss.loss.detach(), loss.num_clipped, entropies.sum(), tokens]
        values += [loss.kl, loss.logprob_difference, tokens] if first_pass else [torch.zeros_like(tokens)] * 3
        stacked = torch.stack([value.double() for value in values])
        self._sums += stacked
        if first_pass:
            self._max = torch.maximum(self._max, loss.logprob_difference_max.double())
        return bool(stacked.isfinite().all())

    def stats(self, *, gradient_norm: float, num_optimizer_steps: int, started: float) -> UpdateStats:
        """Means over all ranks. Collective."""
        torch.distributed.all_reduce(self._sums)
        torch.distributed.all_reduce(self._max, op=torch.distributed.ReduceOp.MAX)
        loss, clipped, entropy, tokens, kl, difference, sampler_tokens = self._sums.tolist()
        return UpdateStats(
            loss=loss / tokens,
            gradient_norm=gradient_norm,
            clip_fraction=clipped / tokens,
            entropy=entropy / tokens,
            sampler_kl=kl / sampler_tokens,
            sampler_logprob_difference=difference / sampler_tokens,
            sampler_logprob_difference_max=self._max.item(),
            num_tokens=int(tokens),
            num_optimizer_steps=num_optimizer_steps,
            seconds=time.perf_counter() - started,
        )


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
    if num_gpus:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    os.environ["DS_ACCELERATOR"] = "cpu"
    return torch.device("cpu")


def _join(rank: int, world_size: int, *, on_gpu: bool) -> None:
    """Meet the other ranks, once per process."""
    import deepspeed

    if not torch.distributed.is_initialized():
        # Only DeepSpeed inference uses this operator, and joining would compile it first (minutes, a C++ compiler).
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", verbose=False)
    met = (torch.distributed.get_rank(), torch.distributed.get_world_size())
    if met != (rank, world_size):
        raise RuntimeError(f"this process is already rank {met[0]} of {met[1]}; one LearnerWorker layout per process")


def _parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay, biases and norms without."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
