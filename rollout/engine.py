"""One vLLM engine in this process: starting it, replacing its weights, lending its GPU memory to the learner."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rollout.config import AdapterSlot, RolloutConfig, worker_environment
from rollout.types import WeightReceipt

if TYPE_CHECKING:
    from rollout.wire import Bucket

_ADAPTER = "policy"  # the name of the only adapter


class Engine:
    """A vLLM engine whose weights are versioned and change between batches only."""

    def __init__(self, config: RolloutConfig, model: str, adapter: AdapterSlot | None = None) -> None:
        """`model` is a Hugging Face folder or hub name. With `adapter` the engine samples from the model with a LoRA
        adapter beside its weights, once `update_adapter` has brought one."""
        os.environ.update(worker_environment(config))  # before vllm is imported
        logging.getLogger("vllm").setLevel(config.log_level)  # of what it says before it has configured its logger
        import torch

        torch.set_num_threads(config.num_threads)  # vLLM forbids it once its engine exists
        from vllm import LLM
        from vllm.platforms import current_platform

        is_cpu = current_platform.is_cpu()
        if is_cpu and not config.kv_cache_gib:
            raise ValueError("rollout.kv_cache_gib is 0, which only a GPU engine understands; set it, for example to 1")
        if is_cpu and config.sleep_while_learning:
            raise ValueError("rollout.sleep_while_learning lends GPU memory, of which this engine has none; set false")
        self._config = config
        self._weight_version = 0
        self._broken_update: int | None = None
        self._digests: dict[str, str] = {}  # of the tensors that were last sent, by name
        self._adapter: Any = None  # vLLM's request for it
        self._llm = LLM(model, **_engine_arguments(config, is_cpu=is_cpu, adapter=adapter))

    @property
    def weight_version(self) -> int:
        """Version of the weights in use; 0 is the checkpoint the engine was started from."""
        return self._weight_version

    # --- weights from Ray's object store ------------------------------------------------------------------------------

    def update_weights(
        self, buckets: "Sequence[Bucket]", version: int, *, rest: "Sequence[Bucket]" = (), keep_rest: bool = False
    ) -> WeightReceipt:
        """Replace all weights by those in the buckets (see rollout.wire; Hugging Face names) and reset the caches.

        A frozen vision tower may come apart from the others, in `rest`. With `keep_rest`, a part of the model of which
        nothing comes keeps what it was sent before. Names and digests are checked before the engine is touched: on a
        ValueError it still works with its old weights.
        """
        from rollout.wire import read_bucket, sent_digests

        buckets = [*buckets, *rest]
        tensors = [tensor for bucket in buckets for tensor in read_bucket(bucket)]
        kept = self._check_update([tensor.name for tensor in tensors], version, keep_rest)
        verify = self._config.verify_digests
        digests = sent_digests(buckets) if verify else {tensor.name: "" for tensor in tensors}
        started = time.monotonic()
        with self._replacing(version):
            self._llm.collective_rpc("load_buckets", args=(buckets,))
        num_bytes = sum(len(tensor.bytes) for tensor in tensors)
        return self._holds(version, kept, digests, num_bytes=num_bytes, seconds=time.monotonic() - started)

    def update_adapter(self, buckets: "Sequence[Bucket]", settings: str, version: int) -> WeightReceipt:
        """Replace the LoRA adapter, in place, and reset the caches; the model's own weights stay.

        The buckets hold it under peft's names, `settings` is its adapter_config.json. Raises ValueError for damaged
        bytes, with the old adapter still in use.
        """
        from safetensors.torch import save_file
        from vllm.lora.request import LoRARequest

        from rollout.wire import read_bucket, sent_digests

        tensors = [tensor for bucket in buckets for tensor in read_bucket(bucket)]
        digests = sent_digests(buckets) if self._config.verify_digests else {tensor.name: "" for tensor in tensors}
        self._check_idle(version)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="medvie-adapter-") as folder:  # vLLM reads an adapter once
            save_file({tensor.name: tensor.tensor() for tensor in tensors}, Path(folder, "adapter_model.safetensors"))
            Path(folder, "adapter_config.json").write_text(settings, encoding="utf-8")
            with self._replacing(version):
                self._llm.llm_engine.add_lora(LoRARequest(_ADAPTER, 1, folder, load_inplace=True))
        self._adapter = LoRARequest(_ADAPTER, 1, folder)
        num_bytes = sum(len(tensor.bytes) for tensor in tensors)
        return self._holds(version, [], digests, num_bytes=num_bytes, seconds=time.monotonic() - started)

    # --- weights from the learner's devices ---------------------------------------------------------------------------

    def join_broadcasts(self, address: str, port: int, *, first_rank: int, group_size: int, seconds: float) -> None:
        """Meet the learner, rank 0 of the group, and all other engines at the address. Returns when all have come."""
        self._llm.collective_rpc("join_broadcasts", args=(address, port, first_rank, group_size, seconds))

    def receive_weights(self, headers: Sequence[np.ndarray], version: int, *, keep_rest: bool = False) -> WeightReceipt:
        """As `update_weights`, with the bytes behind these headers broadcast by the learner meanwhile.

        Names are checked before the engine is touched, digests by whoever has the sender's and the receipt's.
        """
        names, num_bytes = _named(headers)
        kept = self._check_update(names, version, keep_rest)
        started = time.monotonic()
        with self._replacing(version):
            verify = self._config.verify_digests
            found: list[dict[str, str]] = self._llm.collective_rpc("load_broadcast", args=(headers, verify))
        digests = _of_all_processes(found) if verify else dict.fromkeys(names, "")
        return self._holds(version, kept, digests, num_bytes=num_bytes, seconds=time.monotonic() - started)

    def begin_shared(self, headers: Sequence[np.ndarray], version: int, *, keep_rest: bool = False) -> None:
        """As `update_weights`, with the buckets of these headers to come one by one, by `load_shared`, until
        `end_shared`."""
        names, _ = _named(headers)
        self._shared = (version, self._check_update(names, version, keep_rest), headers)
        self._shared_digests = dict.fromkeys(names, "")  # filled as they come
        self._shared_seconds = 0.0
        self._broken_update = version
        self._llm.collective_rpc("begin_loading", args=(names,))

    def load_shared(self, index: int, handles: Mapping[str, bytes]) -> None:
        """Load bucket `index`, which processes on this engine's devices share: handles by device."""
        started = time.monotonic()
        header, verify = self._shared[2][index], self._config.verify_digests
        found: list[dict[str, str]] = self._llm.collective_rpc("load_shared", args=(header, handles, verify))
        self._shared_digests |= _of_all_processes(found)
        self._shared_seconds += time.monotonic() - started

    def end_shared(self) -> WeightReceipt:
        """Put what was loaded into use."""
        started = time.monotonic()
        version, kept, headers = self._shared
        names, num_bytes = _named(headers)
        with self._replacing(version):
            self._llm.collective_rpc("end_loading", args=(names,))
        seconds = self._shared_seconds + time.monotonic() - started
        return self._holds(version, kept, self._shared_digests, num_bytes=num_bytes, seconds=seconds)

    # --- GPU memory ---------------------------------------------------------------------------------------------------

    def sleep(self) -> None:
        """Give the GPU memory of weights and KV cache back; the weights wait in CPU memory."""
        self._llm.sleep(level=1)

    def wake_up(self, *, part: str) -> None:
        """Take the GPU memory of `weights`, as they were, or of `kv_cache`, empty, again."""
        self._llm.wake_up(tags=[part])

    # --- what every update does ---------------------------------------------------------------------------------------

    def _check_idle(self, version: int) -> None:
        if self._llm.llm_engine.has_unfinished_requests():
            raise RuntimeError(f"weight version {version} arrived while requests are in flight; update between batches")

    def _check_update(self, names: Sequence[str], version: int, keep_rest: bool) -> list[str]:
        """The names that keep what they were sent before. Raises ValueError for names that do not fit the model."""
        self._check_idle(version)
        coming = set(names)
        kept = [name for name in self._digests if name not in coming] if keep_rest else []
        self._llm.collective_rpc("check_weight_names", args=(names, kept))
        return kept

    @contextmanager
    def _replacing(self, version: int) -> Iterator[None]:
        """An error inside leaves an engine that refuses to sample; else the caches are reset at the end."""
        self._broken_update = version
        yield
        self._reset_caches()
        self._broken_update = None

    def _holds(
        self, version: int, kept: Sequence[str], digests: Mapping[str, str], *, num_bytes: int, seconds: float
    ) -> WeightReceipt:
        from rollout.wire import digest_of

        self._digests = {name: self._digests[name] for name in kept} | dict(digests)
        self._weight_version = version
        verified = self._config.verify_digests
        return WeightReceipt(
            version=version,
            num_tensors=len(digests),
            num_bytes=num_bytes,
            digests=dict(digests) if verified else {},
            digest=digest_of(self._digests) if verified else "",
            seconds=seconds,
        )

    def _reset_caches(self) -> None:
        """Forget keys, values and image embeddings; the processor's cache holds pixels, which no weights touch."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache: blocks are still in use")
        self._llm.llm_engine.reset_encoder_cache()


def _named(headers: Sequence[np.ndarray]) -> tuple[list[str], int]:
    """(names of the tensors, bytes in all) of buckets with these headers."""
    from rollout.wire import read_header

    entries = [entry for header in headers for entry in read_header(header)[0]]
    return [entry.name for entry in entries], sum(entry.end - entry.begin for entry in entries)


def _of_all_processes(found: Sequence[dict[str, str]]) -> dict[str, str]:
    if any(other != found[0] for other in found[1:]):
        raise RuntimeError("the processes of one engine were sent different weights")
    return found[0]


def _engine_arguments(config: RolloutConfig, *, is_cpu: bool, adapter: AdapterSlot | None) -> dict[str, Any]:
    arguments = {
        "load_format": "safetensors",  # else vLLM takes a folder's pickled weights where there are no others
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": max(config.max_num_batched_tokens, config.max_model_len),
        "enable_chunked_prefill": not is_cpu,  # on CPU a seeded request in a chunked prefill kills the engine
        "enable_prefix_caching": config.enable_prefix_caching,
        "block_size": config.block_size or None,
        "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30) or None,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": config.enforce_eager,
        "enable_sleep_mode": config.sleep_while_learning,
        "seed": config.seed,
        "use_tqdm_on_load": False,
        "limit_mm_per_prompt": {"image": config.max_images_per_prompt, "video": 0},
        "logprobs_mode": "processed_logprobs",
        "structured_outputs_config": {"backend": "guidance"},  # the others are slow, or blow up, on bounded texts
        "worker_extension_cls": "rollout.weights.WeightReceiver",
    }
    if adapter is not None:
        arguments |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": adapter.room,
            "enable_tower_connector_lora": adapter.vision,
        }
    return arguments
