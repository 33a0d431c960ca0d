"""Larger policies on more GPUs, on paper: the layout with the shortest step, and what that step consists of.

Seconds are those of duration.py and weight_path.py, memory that of estimate.py; this module tries layouts, adds the
driver, and says what bounds a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from medvie_rl.config import Config
from medvie_rl.fit.duration import Duration, duration
from medvie_rl.fit.estimate import estimate
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import Rates, Workload
from medvie_rl.fit.shape import PolicyShape

DRIVER_US = 610.0  # CPU time of the driver for each rollout: driver_overhead_us_per_rollout of `make bench`
_TENSOR_PARALLEL = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """GPUs of one kind in nodes of the same size, and how fast the rest is."""

    gpu: Gpu
    num_gpus: int
    gpus_per_node: int
    rates: Rates
    driver_us: float = DRIVER_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A layout and its step."""

    config: Config
    seconds: Duration
    driver: float  # seconds, taken as one after the other with the rest
    work: Workload
    num_gpus: int

    @property
    def step(self) -> float:
        return self.seconds.step + self.driver

    @property
    def rollouts(self) -> int:
        return self.config.queries_per_step * self.config.num_traces

    @property
    def rollouts_per_second(self) -> float:
        return self.rollouts / self.step

    @property
    def tokens_per_second_and_gpu(self) -> float:
        """Prompt and response of every rollout, however often they are computed, as EasyR1 counts them."""
        tokens = self.work.prompt_tokens + self.work.response_tokens
        return self.rollouts_per_second * tokens / self.num_gpus

    @property
    def bound(self) -> str:
        """The largest part of what a step waits for."""
        found = self.seconds
        update = {"passes": found.learning, "optimizer": found.optimizer, "ZeRO traffic": found.gathering}
        sampling = {"sampling": found.sampling}
        waits = {"driver": self.driver, "weights": found.syncing}
        if not self.config.pipeline_depth:
            waits |= update | sampling
        else:
            waits |= sampling if found.sampling >= sum(update.values()) else update
        return max(waits, key=lambda name: waits[name])


def best_layout(config: Config, shape: PolicyShape, work: Workload, cluster: Cluster) -> Planned | None:
    """The layout with the shortest step among those that fit, None if none does.

    Tried are split, as far ahead as the configuration says, with every division into whole nodes, or into GPUs of a
    single one; colocated by turns; every tensor parallel size; the optimizer in CPU memory; and smaller micro-batches.
    """
    fitting = [
        _planned(candidate, shape, work, cluster)
        for candidate in _layouts(config, shape, cluster)
        if estimate(candidate, shape, work, cluster.gpu).fits
    ]
    return min(fitting, key=lambda planned: planned.step, default=None)


def _planned(config: Config, shape: PolicyShape, work: Workload, cluster: Cluster) -> Planned:
    seconds = duration(config, shape, work, cluster.gpu, cluster.rates, gpus_per_node=cluster.gpus_per_node)
    driver = 1e-6 * cluster.driver_us * config.queries_per_step * config.num_traces
    return Planned(config=config, seconds=seconds, driver=driver, work=work, num_gpus=cluster.num_gpus)


def _layouts(config: Config, shape: PolicyShape, cluster: Cluster) -> Iterator[Config]:
    whole = config.learner.max_tokens_per_micro_batch
    sizes = sorted({whole, max(config.rollout.max_model_len, whole // 2)}, reverse=True)
    for offload in (False, True):
        for tokens in sizes:
            learner = replace(
                config.learner,
                offload_optimizer=offload,
                max_tokens_per_micro_batch=tokens,
                offload_while_sampling=False,
            )
            base = replace(config, learner=learner)
            yield from _split(base, shape, cluster)
            yield from _colocated(base, shape, cluster)


def _split(config: Config, shape: PolicyShape, cluster: Cluster) -> Iterator[Config]:
    unit = 1 if cluster.num_gpus <= cluster.gpus_per_node else cluster.gpus_per_node
    for ranks in range(unit, min(cluster.num_gpus, config.queries_per_step + 1), unit):
        yield from _engines(config, shape, ranks, cluster.num_gpus - ranks, layout="split")


def _colocated(config: Config, shape: PolicyShape, cluster: Cluster) -> Iterator[Config]:
    if cluster.num_gpus <= config.queries_per_step:
        on_policy = replace(config, pipeline_depth=0)
        yield from _engines(on_policy, shape, cluster.num_gpus, cluster.num_gpus, layout="colocated")


def _engines(config: Config, shape: PolicyShape, ranks: int, gpus: int, *, layout: str) -> Iterator[Config]:
    """So many ranks, and engines of every size on so many GPUs."""
    learner = replace(config.learner, num_ranks=ranks, zero_stage=3 if ranks > 1 else 1, offload_parameters=False)
    for size in _TENSOR_PARALLEL:
        if gpus % size or shape.heads % size:
            continue
        rollout = replace(
            config.rollout,
            num_workers=gpus // size,
            tensor_parallel_size=size,
            sleep_while_learning=layout == "colocated",
        )
        yield replace(
            config,
            learner=learner,
            rollout=rollout,
            cluster=replace(config.cluster, layout=layout),
            sync=replace(config.sync, transport="auto"),
        )
