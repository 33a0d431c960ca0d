"""First-order seconds of a sync: from the learner's shards into every engine, bucket by bucket.

Collectives take what NVIDIA's nccl-tests derive for large messages (doc/PERFORMANCE.md): an all-gather of S bytes among
n ranks S (n - 1) / n / B, a broadcast S / B, however many receive it, where B is the bandwidth of the narrowest link.
A ring passes on chunks (arXiv 2507.04786), so each of the p processes but the first adds a hop to every bucket. What
our own code does beside (learner/weights.py, rollout/weights.py): hashing on both sides at the same time, and loading.
"""

import math
from dataclasses import dataclass

from medvie_rl.config import Config
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import BYTES, Rates
from medvie_rl.fit.shape import PolicyShape

HOST_BANDWIDTH = 50.0  # GB/s, assumed, of CPU memory: an optimizer in it, weights through Ray's object store
HASH_BANDWIDTH = 1.2  # GB/s, measured: sha256 on one core (AMD EPYC with SHA instructions); one thread hashes
CHUNK = 512 * 1024  # bytes that a hop of NCCL's ring passes on at once, with its protocol for large messages
HOP_SECONDS = 5e-6  # assumed, the latency of a hop


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPath:
    """Seconds by part, one after the other. `num_bytes` is what each engine gets."""

    num_bytes: float
    gathering: float  # each bucket from its shards, under ZeRO-3
    sending: float
    hashing: float  # rollout.verify_digests
    loading: float  # into the engine's own tensors

    @property
    def seconds(self) -> float:
        return self.gathering + self.sending + self.hashing + self.loading


def weight_path(config: Config, shape: PolicyShape, gpu: Gpu, rates: Rates, *, gpus_per_node: int) -> WeightPath:
    """The estimate for every sync but the first, which also sends a frozen vision tower."""
    size, ranks = bytes_of_sync(config, shape), config.learner.num_ranks
    gathering = 0.0
    if config.learner.zero_stage == 3 and ranks > 1:
        gathering = size * (1 - 1 / ranks) / (1e9 * link_rate(ranks, gpu, rates, gpus_per_node))
    return WeightPath(
        num_bytes=size,
        gathering=gathering,
        sending=_sending(config, shape, size, gpu, rates, gpus_per_node),
        hashing=size / (1e9 * HASH_BANDWIDTH) if config.rollout.verify_digests else 0.0,
        loading=2 * size / (1e12 * gpu.bandwidth),  # read what came, write where it belongs
    )


def bytes_of_sync(config: Config, shape: PolicyShape) -> float:
    """From the second sync on: a frozen vision tower is not sent again, of LoRA the adapter alone is sent."""
    size = BYTES[config.rollout.dtype]
    if config.adapter_apart:
        return size * shape.trained_parameters(config.learner)
    frozen = 0 if config.learner.trains_vision else shape.vision_parameters
    return size * (shape.num_parameters - frozen)


def link_rate(num_gpus: int, gpu: Gpu, rates: Rates, gpus_per_node: int) -> float:
    """GB/s of the narrowest link of a ring through so many GPUs: it enters and leaves each node once."""
    within = rates.link * gpu.link
    return within if num_gpus <= gpus_per_node else min(within, rates.network)


def _sending(config: Config, shape: PolicyShape, size: float, gpu: Gpu, rates: Rates, gpus_per_node: int) -> float:
    transport = "object_store" if config.adapter_apart else config.transport
    if transport == "ipc":
        return 2 * size / (1e12 * gpu.bandwidth)  # packed, and copied out
    rollout_gpus = config.rollout.num_workers * config.rollout.tensor_parallel_size
    if transport == "object_store":
        # Into the store and out of it; nodes that have an object give it on, so holders double (assumed).
        doublings = math.ceil(math.log2(math.ceil(config.num_gpus / gpus_per_node)))
        return size * (2 / (1e9 * HOST_BANDWIDTH) + doublings / (1e9 * rates.network))
    rate = 1e9 * link_rate(config.num_gpus, gpu, rates, gpus_per_node)
    hops = (shape.layers + 2) * (rollout_gpus - 1) * (HOP_SECONDS + CHUNK / rate)
    return size / rate + hops
