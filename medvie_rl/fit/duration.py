"""First-order seconds of a step: floating-point operations and bytes over rates.

A forward pass takes 2 operations for each parameter and token, a backward pass twice as many (arXiv 2001.08361, table
1), half of them for the gradients of weights, and attention 4 x layers x width for each pair of tokens that see each
other.
Peaks are the GPU's; what is achieved of them is the reader's to say.
"""

import math
from dataclasses import dataclass

from medvie_rl.config import Config
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import BYTES, Rates, Workload
from medvie_rl.fit.rollout import engine_memory, kv_bytes
from medvie_rl.fit.shape import PolicyShape
from medvie_rl.fit.weight_path import HOST_BANDWIDTH, WeightPath, link_rate, weight_path

_REDUCE_SECONDS = 1e-5  # assumed: the delay of an all-reduce within a node


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Seconds of a step by part. With a pipeline, sampling and learning run at the same time."""

    sampling: float
    learning: float
    optimizer: float
    gathering: float  # ZeRO's own traffic
    syncing: float
    sync: WeightPath  # its parts
    step: float
    learner_flops: float  # of all ranks in one step


def duration(
    config: Config, shape: PolicyShape, work: Workload, gpu: Gpu, rates: Rates, *, gpus_per_node: int
) -> Duration:
    """The estimate for one step with all groups trained on."""
    operations = learner_flops(config, shape, work)
    learning = operations * _largest_share(config) / (rates.learner * gpu.tflops * 1e12)
    sampling = sampling_seconds(config, shape, work, gpu, rates)
    optimizer, gathering = _optimizer(config, shape, gpu), _gathering(config, shape, work, gpu, rates, gpus_per_node)
    sync = weight_path(config, shape, gpu, rates, gpus_per_node=gpus_per_node)
    update = learning + optimizer + gathering
    step = (max(sampling, update) if config.pipeline_depth else sampling + update) + sync.seconds
    return Duration(
        sampling=sampling,
        learning=learning,
        optimizer=optimizer,
        gathering=gathering,
        syncing=sync.seconds,
        sync=sync,
        step=step,
        learner_flops=operations,
    )


def _largest_share(config: Config) -> float:
    """Of a step's groups, on the rank that has the most: groups are not divided among ranks."""
    minibatches = config.learner.minibatches_per_step
    of_rank = math.ceil(config.queries_per_step / minibatches / config.learner.num_ranks)
    return minibatches * of_rank / config.queries_per_step


def forward_flops(shape: PolicyShape, work: Workload, num_responses: int) -> float:
    """One row: the prompt once and the responses behind it, each seeing the prompt and itself."""
    prompt, response = work.prompt_tokens, work.response_tokens
    tokens = prompt + num_responses * response
    pairs = prompt**2 / 2 + num_responses * response * (prompt + response / 2)
    head = 2 * shape.embedding_parameters * num_responses * response  # logits of response tokens only
    return 2 * shape.layer_parameters * tokens + 4 * shape.layers * shape.query * pairs + head


def learner_flops(config: Config, shape: PolicyShape, work: Workload) -> float:
    """Of all ranks in one step. Images are taken as known from earlier steps while the vision tower is frozen."""
    learner, loss = config.learner, config.loss
    forward = forward_flops(shape, work, 1 if config.method == "sft" else config.num_traces)
    passes = 1.0 + (1.0 if learner.lora.rank else 2.0) + (1.0 if learner.gradient_checkpointing else 0.0)
    if loss.needs_reference:
        passes += 1
    updates = learner.epochs_per_step
    row = updates * passes * forward
    if loss.corrects_sampler and learner.minibatches_per_step * updates > 1:
        row += updates * forward
    if learner.trains_vision:
        row += updates * passes * encoder_flops(shape, work)
    return config.queries_per_step * row


def encoder_flops(shape: PolicyShape, work: Workload) -> float:
    """The vision tower on a query's pages, attention within windows left out."""
    return 2 * shape.vision_parameters * work.image_tokens * shape.vision.merge**2


def sampling_seconds(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu, rates: Rates) -> float:
    """Of the engine with the most queries: reading their prompts once each, then writing in waves of as many sequences
    as it holds. A token of all of them reads the weights and their caches once, or takes its operations if that is
    longer."""
    rollout = config.rollout
    gpus, size = rollout.tensor_parallel_size, BYTES[rollout.dtype]
    queries = math.ceil(config.queries_per_step / rollout.num_workers)
    prefill = forward_flops(shape, work, 0) + encoder_flops(shape, work)
    rate = gpus * rates.prefill * gpu.tflops * 1e12
    reading = queries * (prefill / rate + _reducing(shape, work.prompt_tokens, gpus, size, gpu, rates))
    at_once = _num_at_once(config, shape, work, gpu)
    waves = math.ceil(queries * config.num_traces / at_once)
    cached = 2 * shape.layers * shape.key_value * size * (work.prompt_tokens + work.response_tokens / 2)
    parameters = shape.layer_parameters + shape.embedding_parameters
    bandwidth = gpus * rates.decode * gpu.bandwidth * 1e12
    of_token = max((size * parameters + at_once * cached) / bandwidth, 2 * parameters * at_once / rate)
    of_token += _reducing(shape, at_once, gpus, size, gpu, rates)
    return reading + waves * work.response_tokens * of_token


def _reducing(shape: PolicyShape, tokens: int, num_gpus: int, size: int, gpu: Gpu, rates: Rates) -> float:
    """A tensor parallel forward pass of so many tokens: two all-reduces a layer (arXiv 1909.08053, section 3), of S
    bytes among n GPUs each 2 S (n - 1) / n / B (nccl-tests, doc/PERFORMANCE.md) and a delay."""
    if num_gpus == 1:
        return 0.0
    of_bytes = 2 * (1 - 1 / num_gpus) * size * tokens * shape.hidden / (1e9 * rates.link * gpu.link)
    return 2 * shape.layers * (of_bytes + _REDUCE_SECONDS)


def _num_at_once(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu) -> int:
    """Sequences that an engine writes at the same time: as many as it may, and its KV cache holds on average."""
    engine = engine_memory(config, shape, gpu.memory_gib * 2**30)
    shared = config.num_traces if config.rollout.enable_prefix_caching else 1
    of_sequence = kv_bytes(config.rollout, shape, math.ceil(work.prompt_tokens / shared + work.response_tokens))
    return max(1, min(engine.concurrency, int(engine.kv_cache / of_sequence)))


def _optimizer(config: Config, shape: PolicyShape, gpu: Gpu) -> float:
    """Adam reads and writes its state once: 28 bytes a parameter."""
    learner = config.learner
    updates = learner.epochs_per_step * learner.minibatches_per_step
    bandwidth = HOST_BANDWIDTH * 1e9 if learner.offload_optimizer else gpu.bandwidth * 1e12
    return updates * 28 * shape.trained_parameters(learner) / learner.num_ranks / bandwidth


def _gathering(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu, rates: Rates, gpus_per_node: int) -> float:
    """ZeRO's traffic (arXiv 1910.02054, section 7): gradients once a micro-batch, gathered weights twice under ZeRO-3,
    a third time with gradient checkpointing; under ZeRO-1 and 2 updated weights once an optimizer step."""
    learner = config.learner
    if learner.num_ranks == 1:
        return 0.0
    row = work.prompt_tokens + config.num_traces * work.response_tokens
    tokens = config.queries_per_step * row / learner.num_ranks * learner.epochs_per_step
    updates = learner.epochs_per_step * learner.minibatches_per_step
    micro_batches = max(updates, math.ceil(tokens / learner.max_tokens_per_micro_batch))
    size, trained = BYTES[learner.dtype], shape.trained_parameters(learner)
    sent = micro_batches * size * trained
    if learner.zero_stage == 3:
        gathered = shape.num_parameters - (0 if learner.trains_vision else shape.vision_parameters)
        sent += micro_batches * (3 if learner.gradient_checkpointing else 2) * size * gathered
    else:
        sent += updates * size * trained
    rate = link_rate(learner.num_ranks, gpu, rates, gpus_per_node)
    return sent * (1 - 1 / learner.num_ranks) / (1e9 * rate)
