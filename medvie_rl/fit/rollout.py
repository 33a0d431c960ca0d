"""Memory of a rollout engine on each of its GPUs, and in its KV cache.

vLLM takes `gpu_memory_utilization` of a GPU, and the KV cache gets what weights and the largest step leave. A block of
it takes 2 x layers x block size x KV heads x head size x bytes (arXiv 2309.06180, section 4.1; vLLM's
`FullAttentionSpec.page_size_bytes`), the KV heads spread over the tensor parallel ranks.
"""

import math
from dataclasses import dataclass

from learner.config import LearnerConfig
from medvie_rl.config import Config
from medvie_rl.fit.items import BYTES, GIB, Item, count, total
from medvie_rl.fit.shape import PolicyShape
from rollout.config import AdapterSlot, RolloutConfig

CONTEXT = 1.0 * GIB  # assumed: the CUDA context and libraries of an engine's process
_GRAPHS = 1.0 * GIB  # assumed: recorded CUDA graphs
_DEFAULT_BLOCK = 16  # tokens: vLLM's on GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Bytes on each GPU of an engine. `kv_wanted` holds all sequences of a step that run at once at their longest."""

    weights: list[Item]
    working: list[Item]
    kv_cache: float
    kv_smallest: float  # one sequence of max_model_len: with less vLLM does not start
    kv_wanted: float
    concurrency: int  # sequences at once

    @property
    def sampling(self) -> list[Item]:
        """While it samples."""
        return [*self.weights, *self.working, Item(name="KV cache", num_bytes=self.kv_cache, why="what is left for it")]

    @property
    def host(self) -> float:
        """Bytes of CPU memory for each GPU while it sleeps."""
        return total(self.weights)

    @property
    def asleep(self) -> list[Item]:
        """While it sleeps, its weights and cache given back."""
        return [item for item in self.working if item.name in ("context", "CUDA graphs")]


def engine_memory(config: Config, shape: PolicyShape, gpu_bytes: float) -> EngineMemory:
    """The estimate for one GPU, or with `gpu_bytes` 0 for one engine on CPUs, of an engine."""
    rollout = config.rollout
    on_gpu = gpu_bytes > 0
    weights = _weights(config.learner, rollout, shape, adapter=config.adapter_apart)
    working = _working(rollout, shape, on_gpu=on_gpu)
    concurrency = _concurrency(config)
    if rollout.kv_cache_gib:
        kv_cache = rollout.kv_cache_gib * GIB
    else:
        kv_cache = rollout.gpu_memory_utilization * gpu_bytes - total([*weights, *working])
    return EngineMemory(
        weights=weights,
        working=working,
        kv_cache=kv_cache,
        kv_smallest=kv_bytes(rollout, shape, rollout.max_model_len),
        kv_wanted=_kv_wanted(config, shape, concurrency),
        concurrency=concurrency,
    )


def kv_bytes(rollout: RolloutConfig, shape: PolicyShape, tokens: int) -> float:
    """Of one sequence on each rank of an engine, in whole blocks."""
    block = rollout.block_size or _DEFAULT_BLOCK
    heads = max(1, shape.key_value_heads // rollout.tensor_parallel_size)  # fewer heads than ranks are repeated
    of_block = 2 * shape.layers * block * heads * shape.head_dim * BYTES[rollout.dtype]
    return math.ceil(tokens / block) * of_block


def _weights(learner: LearnerConfig, rollout: RolloutConfig, shape: PolicyShape, *, adapter: bool) -> list[Item]:
    size, ranks = BYTES[rollout.dtype], rollout.tensor_parallel_size
    # vLLM's vision tower is spread over the ranks as well; norms and biases, which are not, are small.
    how = f"{size} bytes × {count(shape.num_parameters)} parameters{f' over {ranks} GPUs' if ranks > 1 else ''}"
    items = [Item(name="weights", num_bytes=size * shape.num_parameters / ranks, why=how)]
    if adapter:
        slot = AdapterSlot(rank=learner.lora.rank, vision=bool(learner.lora.vision_targets))
        room = shape.layers * sum(sum(dims) for dims in shape.linears().values()) * slot.room
        items.append(Item(name="adapter", num_bytes=size * room, why=f"room for LoRA of rank {slot.room}"))
    return items


def _working(rollout: RolloutConfig, shape: PolicyShape, *, on_gpu: bool) -> list[Item]:
    size, ranks = BYTES[rollout.dtype], rollout.tensor_parallel_size
    tokens = max(rollout.max_num_batched_tokens, rollout.max_model_len)
    step = tokens * size * (3 * shape.intermediate / ranks + 6 * shape.hidden)
    sampler = 12 * rollout.max_num_seqs * shape.vocabulary  # logits, logprobs and a copy in float32
    patches = tokens * shape.vision.merge**2
    # What a further projector makes is kept besides, and in a buffer from which the first layers take it.
    features = tokens * shape.hidden * (2 * shape.vision.projectors - 1)
    encoder = size * (patches * (4 * shape.vision.hidden + 3 * shape.vision.intermediate / ranks) + features)
    items = [
        Item(name="largest step", num_bytes=step, why=f"{tokens:,} tokens (rollout.max_num_batched_tokens)"),
        Item(name="sampler", num_bytes=sampler, why=f"{rollout.max_num_seqs} sequences × {shape.vocabulary:,} words"),
        Item(name="image encoder", num_bytes=encoder, why=f"pages of {tokens:,} image tokens, and their features"),
    ]
    if on_gpu:
        items.append(Item(name="context", num_bytes=CONTEXT, why="assumed"))
        if not rollout.enforce_eager:
            items.append(Item(name="CUDA graphs", num_bytes=_GRAPHS, why="assumed"))
    return items


def _concurrency(config: Config) -> int:
    of_step = math.ceil(config.queries_per_step / config.rollout.num_workers) * config.num_traces
    return min(config.rollout.max_num_seqs, of_step)


def _kv_wanted(config: Config, shape: PolicyShape, concurrency: int) -> float:
    rollout = config.rollout
    prompts = math.ceil(concurrency / config.num_traces) if rollout.enable_prefix_caching else concurrency
    responses = concurrency * kv_bytes(rollout, shape, rollout.max_response_tokens)
    return prompts * kv_bytes(rollout, shape, rollout.max_prompt_tokens) + responses
