"""First-order seconds of a step, and bytes of a sync: floating-point operations and bytes over rates.

A forward pass takes 2 operations for each parameter and token, a backward pass twice as many (arXiv 2001.08361, table
1), half of them for the gradients of weights, and attention 4 x layers x width for each pair of tokens that see each
other.
Peaks are the GPU's; what is achieved of them is the reader's to say.
"""

import math
from dataclasses import dataclass

from medvie_rl.config import Config
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import BYTES, Workload
from medvie_rl.fit.rollout import engine_memory
from medvie_rl.fit.shape import PolicyShape

HOST_BANDWIDTH = 50.0  # GB/s, assumed, of CPU memory: an optimizer in it, weights through Ray's object store


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is achieved of the peaks."""

    learner: float = 0.2  # of the GPU's operations in updates
    prefill: float = 0.4  # the same where engines read prompts
    decode: float = 0.5  # of the GPU's memory bandwidth where engines write responses
    link: float = 0.6  # of what GPUs are connected by
    network: float = 25.0  # GB/s of a node's connection to others, where the learner or a sync spans nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Seconds of a step by part. With a pipeline, sampling and learning run at the same time."""

    sampling: float
    learning: float
    optimizer: float
    gathering: float  # ZeRO's own traffic
    syncing: float
    sync_bytes: float  # that the learner sends
    step: float
    learner_flops: float  # of all ranks in one step


def duration(
    config: Config, shape: PolicyShape, work: Workload, gpu: Gpu, rates: Rates, *, gpus_per_node: int
) -> Duration:
    """The estimate for one step with all groups trained on."""
    operations = learner_flops(config, shape, work)
    ranks = config.learner.num_ranks
    learning = operations / ranks / (rates.learner * gpu.tflops * 1e12)
    sampling = _sampling(config, shape, work, gpu, rates)
    optimizer, gathering = _optimizer(config, shape, gpu), _gathering(config, shape, work, gpu, rates, gpus_per_node)
    sync_bytes = bytes_of_sync(config, shape)
    syncing = sync_bytes / (1e9 * _sync_rate(config, gpu, rates, gpus_per_node))
    update = learning + optimizer + gathering
    step = (max(sampling, update) if config.pipeline_depth else sampling + update) + syncing
    return Duration(
        sampling=sampling,
        learning=learning,
        optimizer=optimizer,
        gathering=gathering,
        syncing=syncing,
        sync_bytes=sync_bytes,
        step=step,
        learner_flops=operations,
    )


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


def bytes_of_sync(config: Config, shape: PolicyShape) -> float:
    """From the second sync on: a frozen vision tower is not sent again, of LoRA the adapter alone is sent."""
    size = BYTES[config.rollout.dtype]
    if config.adapter_apart:
        return size * shape.trained_parameters(config.learner)
    frozen = 0 if config.learner.trains_vision else shape.vision_parameters
    return size * (shape.num_parameters - frozen)


def _sampling(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu, rates: Rates) -> float:
    rollout = config.rollout
    gpus = rollout.tensor_parallel_size
    queries = config.queries_per_step / rollout.num_workers
    prefill = forward_flops(shape, work, 0) + encoder_flops(shape, work)
    reading = queries * prefill / (gpus * rates.prefill * gpu.tflops * 1e12)
    at_once = engine_memory(config, shape, gpu.memory_gib * 2**30).concurrency
    waves = math.ceil(queries * config.num_traces / at_once)
    size = BYTES[rollout.dtype]
    cached = 2 * shape.layers * shape.key_value * size * (work.prompt_tokens + work.response_tokens / 2)
    weights = size * (shape.layer_parameters + shape.embedding_parameters)
    of_token = (weights + at_once * cached) / (gpus * rates.decode * gpu.bandwidth * 1e12)
    return reading + waves * work.response_tokens * of_token


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
    spans = learner.num_ranks > gpus_per_node
    rate = rates.network if spans else rates.link * gpu.link  # a ring crosses between nodes once
    return sent * (1 - 1 / learner.num_ranks) / (1e9 * rate)


def _sync_rate(config: Config, gpu: Gpu, rates: Rates, gpus_per_node: int) -> float:
    """GB/s. Loading in the engine is not counted."""
    transport = "object_store" if config.adapter_apart else config.transport
    if transport == "ipc":
        return gpu.bandwidth * 1000 / 2
    if transport == "object_store":
        return min(HOST_BANDWIDTH / 2, rates.network)
    within = config.num_gpus <= gpus_per_node
    return rates.link * gpu.link if within else rates.network
