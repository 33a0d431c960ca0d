"""Receiving weights: safetensors buckets are checked, then loaded through vLLM's layerwise reload.

Loading new weights into a running engine is not an assignment: on CPU most layers hold packed copies instead of their
parameters, on GPU quantised ones do. vLLM's layerwise reload builds each layer anew from checkpoint tensors and copies
the result into the storage in use. It leaves two things to us: a tied output head keeps a packed copy of the *old*
embedding, and layers that received only some of their tensors are processed as if complete, so the names are checked
before anything is touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rollout.receiving import BroadcastGroup, open_shared
from rollout.wire import Bucket, checkpoint_tensors, listed, read_bucket, read_header


class WeightReceiver:
    """Methods added to vLLM's worker (`worker_extension_cls`), so that they run wherever the model's shards live."""

    model_runner: Any
    model_config: Any
    vllm_config: Any

    rank: int
    device: torch.device
    _group: BroadcastGroup | None = None

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
                + (f" missing {listed(missing)};" if missing else "")
                + (f" unknown {listed(unknown)};" if unknown else "")
                + (f" {repeated} names were sent twice;" if repeated else "")
                + f" the model needs {len(needed)} tensors, got {len(names)}"
            )

    def begin_loading(self, names: Sequence[str]) -> None:
        """Make the parts of the model that these tensors belong to ready to be replaced, whole."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        for part in self._parts_of(names):
            initialize_layerwise_reload(part)

    def load_bucket(self, bucket: Bucket) -> None:
        """Load some of the tensors."""
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            self.model_runner.get_model().load_weights(checkpoint_tensors(bucket, self.model_config.dtype))

    def end_loading(self, names: Sequence[str]) -> None:
        """Put the loaded parts into use. The caches are the caller's."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            for part in self._parts_of(names):
                finalize_layerwise_reload(part, self.model_config)
            for _, head in _tied_heads(self.model_runner.get_model()):
                head.quant_method.process_weights_after_loading(head)

    def load_buckets(self, buckets: Sequence[Bucket]) -> None:
        """Replace the parts of the model of which these buckets hold some."""
        self._load(buckets, [tensor.name for bucket in buckets for tensor in read_bucket(bucket)])

    # --- from the learner's device to this one ------------------------------------------------------------------------

    def join_broadcasts(self, address: str, port: int, first_rank: int, group_size: int, seconds: float) -> None:
        """Meet the learner's rank 0 and all other engines; this engine's processes are the ranks from `first_rank`."""
        place = first_rank + self.rank
        self._group = BroadcastGroup(
            address, port, rank=place, group_size=group_size, seconds=seconds, device=self.device
        )

    def load_broadcast(self, headers: Sequence[np.ndarray], digests: bool) -> dict[str, str]:
        """Replace what the buckets with these headers hold by what is broadcast; returns the digests by name."""
        group = self._group
        found: dict[str, str] = {}
        assert group is not None, "join_broadcasts comes first"

        def received() -> Iterable[Bucket]:
            for bucket in group.receive(headers):
                found.update(_digests_of(bucket) if digests else {})
                yield bucket

        self._load(received(), [entry.name for header in headers for entry in read_header(header)[0]])
        return found

    def load_shared(self, header: np.ndarray, handles: Mapping[str, bytes], digests: bool) -> dict[str, str]:
        """Load the bucket that a process on the same device shares, between `begin_loading` and `end_loading`."""
        bucket = open_shared(header, handles, self.device)
        self.load_bucket(bucket)
        return _digests_of(bucket) if digests else {}

    def _load(self, buckets: Iterable[Bucket], names: Sequence[str]) -> None:
        self.begin_loading(names)
        for bucket in buckets:
            self.load_bucket(bucket)
        self.end_loading(names)

    def _parts_of(self, names: Sequence[str]) -> list[torch.nn.Module]:
        model = self.model_runner.get_model()
        rename = model.hf_to_vllm_mapper.get_rename_mapper().map_name
        parts = {_part(rename(name)) for name in names}
        return [module for name, module in model.named_children() if name in parts]


def _digests_of(bucket: Bucket) -> dict[str, str]:
    return {tensor.name: tensor.digest() for tensor in read_bucket(bucket)}


def _part(name: str) -> str:
    """The part of the model, such as its vision tower, that a tensor of vLLM's name belongs to."""
    return name.partition(".")[0]


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
