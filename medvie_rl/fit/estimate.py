"""Whether a configuration fits: the moments at which a GPU is fullest, and what to change where one is too full."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from medvie_rl.config import Config
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import GIB, Item, Workload, total
from medvie_rl.fit.learner import CONTEXT, LearnerMemory, learner_memory
from medvie_rl.fit.rollout import EngineMemory, engine_memory
from medvie_rl.fit.shape import PolicyShape
from medvie_rl.layout_config import takes_turns

_MARGIN = 0.97  # of a GPU's memory may be planned with: other processes, fragments


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is on one GPU (or in one process on a CPU) when it is fullest. `room` is 0 where nothing bounds it."""

    where: str
    items: list[Item]
    room: float

    @property
    def needed(self) -> float:
        return total(self.items)

    @property
    def fits(self) -> bool:
        return not self.room or self.needed <= self.room


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Memory of a configuration on a kind of GPU, or on CPUs."""

    learner: LearnerMemory
    engine: EngineMemory
    moments: list[Moment]
    problems: list[str]  # why it would not run
    notes: list[str]

    @property
    def fits(self) -> bool:
        return not self.problems and all(moment.fits for moment in self.moments)

    @property
    def excess(self) -> float:
        """Bytes that are missing, over all moments."""
        return sum(max(0.0, moment.needed - moment.room) for moment in self.moments if moment.room)


def estimate(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu | None) -> Estimate:
    """Memory of every GPU; without a GPU, of every process on a CPU, with nothing to compare it to."""
    gpu_bytes = gpu.memory_gib * GIB if gpu else 0.0
    learner = learner_memory(
        config.learner,
        shape,
        work,
        needs_reference=config.loss.needs_reference,
        num_traces=config.num_traces,
        on_gpu=config.cluster.on_gpus,
    )
    engine = engine_memory(config, shape, gpu_bytes if config.cluster.on_gpus else 0.0)
    moments = _moments(config, shape, learner, engine, gpu_bytes * _MARGIN)
    return Estimate(
        learner=learner,
        engine=engine,
        moments=moments,
        problems=list(_problems(config, shape, engine)),
        notes=list(_notes(config, engine)),
    )


def _moments(
    config: Config, shape: PolicyShape, learner: LearnerMemory, engine: EngineMemory, room: float
) -> list[Moment]:
    on_gpus = config.cluster.on_gpus
    of_learner = [*learner.learning, Item(name="context", num_bytes=CONTEXT, why="assumed")]
    if not on_gpus:
        of_learner = learner.learning
    if config.cluster.layout != "colocated":
        return [
            Moment(where="learner rank", items=of_learner, room=room if on_gpus else 0.0),
            Moment(where="rollout engine", items=engine.sampling, room=room if on_gpus else 0.0),
        ]
    if not takes_turns(config):
        return [Moment(where="learner and engine on a GPU", items=[*of_learner, *engine.sampling], room=room)]
    context = Item(name="context", num_bytes=CONTEXT, why="assumed, of the learner")
    stays = [context] if config.learner.offload_while_sampling else [context, *learner.states]
    sleeps = config.rollout.sleep_while_learning
    meanwhile = engine.asleep if sleeps else engine.sampling
    woken = [*engine.weights, *engine.asleep] if sleeps else engine.sampling  # weights first, the KV cache after a sync
    syncing = [context, *learner.states, *_of_engine(woken)]
    bucket = Item(name="bucket", num_bytes=8.0 * shape.largest_layer, why="the largest layer, packed and merged")
    return [
        Moment(where="GPU while learning", items=[*of_learner, *_of_engine(meanwhile)], room=room),
        Moment(where="GPU while sampling", items=[*stays, *_of_engine(engine.sampling)], room=room),
        Moment(where="GPU during a sync", items=[*syncing, *([] if config.adapter_apart else [bucket])], room=room),
    ]


def _of_engine(items: list[Item]) -> list[Item]:
    return [replace(item, name=f"engine: {item.name}") for item in items]


def _problems(config: Config, shape: PolicyShape, engine: EngineMemory) -> Iterator[str]:
    if config.cluster.on_gpus and engine.kv_cache < engine.kv_smallest:
        yield (
            f"the engine's KV cache would have {engine.kv_cache / GIB:.1f} GiB, less than the "
            f"{engine.kv_smallest / GIB:.1f} GiB of one sequence of rollout.max_model_len"
        )
    heads = config.rollout.tensor_parallel_size
    if shape.heads % heads:
        yield f"rollout.tensor_parallel_size: {heads} does not divide the {shape.heads} attention heads"


def _notes(config: Config, engine: EngineMemory) -> Iterator[str]:
    if 0 < engine.kv_cache < engine.kv_wanted:
        share = engine.kv_cache / engine.kv_wanted
        yield (
            f"the KV cache holds {share:.0%} of {engine.concurrency} sequences at their longest: if all are long, some "
            "wait (slower, nothing fails)"
        )


def ways_to_fit(config: Config, shape: PolicyShape, work: Workload, gpu: Gpu) -> list[str]:
    """Settings that would make it fit, each alone; if none does, one list of those that do together, or nothing."""
    alone: dict[str, str] = {}  # of each key the mildest value
    for settings in _changes(config, shape):
        changed = _with(config, settings)
        if changed and estimate(changed, shape, work, gpu).fits:
            alone.setdefault(settings[-1].partition("=")[0], " ".join(settings))
    if alone:
        return list(alone.values())
    together: dict[str, str] = {}
    for settings in _changes(config, shape):
        changed = _with(config, settings)
        if changed is None:
            continue
        before, after = estimate(config, shape, work, gpu), estimate(changed, shape, work, gpu)
        if after.excess < before.excess or len(after.problems) < len(before.problems):
            config = changed
            together |= {setting.partition("=")[0]: setting for setting in settings}
        if after.fits:
            return [" ".join(together.values())]
    return []


def _changes(config: Config, shape: PolicyShape) -> Iterator[list[str]]:
    """Settings worth trying, those that cost least first."""
    learner, rollout = config.learner, config.rollout
    shared = config.cluster.layout == "colocated"
    if shared and not takes_turns(config):
        yield ["rollout.sleep_while_learning=true", "learner.offload_while_sampling=true"]
    if not learner.gradient_checkpointing:
        yield ["learner.gradient_checkpointing=true"]
    for tokens in (learner.max_tokens_per_micro_batch // 2, rollout.max_model_len):
        if rollout.max_model_len <= tokens < learner.max_tokens_per_micro_batch:
            yield [f"learner.max_tokens_per_micro_batch={tokens}"]
    if learner.num_ranks > 1:
        for stage in range(learner.zero_stage + 1, 4):
            yield [f"learner.zero_stage={stage}"]
    yield ["learner.deepspeed.zero_optimization.reduce_bucket_size=50000000"]
    for utilization in (0.9, 0.7, 0.5):
        if utilization != rollout.gpu_memory_utilization and not rollout.kv_cache_gib:
            yield [f"rollout.gpu_memory_utilization={utilization:g}"]
    if not rollout.enforce_eager:
        yield ["rollout.enforce_eager=true"]
    if rollout.max_num_batched_tokens > 2048:
        yield ["rollout.max_num_batched_tokens=2048"]
    for size in (2, 4, 8):
        if size > rollout.tensor_parallel_size and not shape.heads % size and not shared:
            yield [f"rollout.tensor_parallel_size={size}"]
    if not learner.offload_optimizer and not learner.lora.rank:
        yield ["learner.offload_optimizer=true"]
    for factor in (2, 4, 8):
        ranks = learner.num_ranks * factor
        if not shared and ranks <= config.queries_per_step:
            yield ["learner.zero_stage=3", f"learner.num_ranks={ranks}"]
    if not learner.lora.rank:
        yield ["learner.freeze_vision=true", "learner.freeze_projector=null", "learner.lora.rank=16"]


def _with(config: Config, settings: list[str]) -> Config | None:
    """The configuration with these settings, None if they do not go with the others."""
    try:
        for setting in settings:
            key, _, text = setting.partition("=")
            config = _replaced(config, key.split("."), _value(text))
    except ValueError:
        return None
    return config


def _value(text: str) -> object:
    words = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    number = float(text)
    return int(number) if math.isclose(number, round(number)) else number


def _replaced(holder: Any, keys: list[str], value: object) -> Any:
    """`holder`, a dataclass or dictionary, with one setting replaced; a dataclass checks itself."""
    first, *rest = keys
    if isinstance(holder, dict):
        return holder | {first: _replaced(holder.get(first, {}), rest, value) if rest else value}
    return replace(holder, **{first: _replaced(getattr(holder, first), rest, value) if rest else value})
