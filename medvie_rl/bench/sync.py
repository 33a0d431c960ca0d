"""A sync of weights taken apart: how long they travel, beside a plain copy of the same bytes, and how they load."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cluster.actors import ActorGroup, wait_for
from cluster.config import ClusterConfig
from cluster.placement import Bundle, Reservation
from cluster.session import connect
from learner.worker import LearnerWorker
from medvie_rl.bench.step_settings import CONFIG
from medvie_rl.bench.types import Result
from medvie_rl.config import Config, load_config
from medvie_rl.environment import run_environment
from medvie_rl.workers import learner_environment
from rollout.config import worker_environment
from rollout.worker import RolloutWorker

_REPEATS = 7  # of everything, by turns
_OBJECT_STORE_MIB = 4096
# Nano's architecture, widened to 1.0 GiB of float32
_WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 32}


class _Learner(LearnerWorker):
    """A rank that times what its host does with the same bytes."""

    def plain_copy(self) -> float:
        """Seconds to copy all weights into memory of this process that has been used before, on one thread."""
        pieces = [piece for bucket in self.gather_weights(digests=False) for piece in bucket]
        if not hasattr(self, "_copies"):
            self._copies = [np.ones_like(piece) for piece in pieces]
        started = time.perf_counter()
        for copy, piece in zip(self._copies, pieces, strict=True):
            np.copyto(copy, piece)
        return time.perf_counter() - started


class _Engine(RolloutWorker):
    """An engine that can be handed weights without loading them."""

    def arrived(self, buckets: Sequence[Any]) -> int:
        """How many bytes are here to be read."""
        return sum(len(piece) for bucket in buckets for piece in bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Medians."""

    num_bytes: int
    transport: float  # seconds from the learner's memory until an engine may read them
    plain_copy: float
    load: float
    digests: float  # seconds that hashing adds to a whole sync, on both sides together
    whole: float  # seconds of a sync with digests


def bench_nano_transport() -> Result:
    """The embedded policy."""
    return _transport("sync_vs_memcpy_nano", _measure_nano())


def bench_gib_transport() -> Result:
    """A random model of 1 GiB."""
    return _transport("sync_vs_memcpy_1gb", _measure_gib())


def bench_nano_load() -> Result:
    """The embedded policy."""
    return _load("sync_load_seconds_nano", _measure_nano())


def bench_gib_load() -> Result:
    """A random model of 1 GiB."""
    return _load("sync_load_seconds_1gb", _measure_gib())


def _transport(name: str, found: _Measured) -> Result:
    return Result(
        name=name,
        value=found.transport / found.plain_copy,
        unit=f"times the seconds of a plain copy, {found.num_bytes / 2**20:,.0f} MiB of float32",
        better="lower",
        compared_with=(
            f"a copy within the learner's process, on one thread, into memory used before: {found.plain_copy:.4f} s; "
            f"from the learner's memory through Ray's object store to where an engine reads: {found.transport:.4f} s; "
            f"a whole sync with loading and digests: {found.whole:.4f} s, of which digests on both sides are "
            f"{found.digests:.4f} s; medians of {_REPEATS} by turns"
        ),
    )


def _load(name: str, found: _Measured) -> Result:
    return Result(
        name=name,
        value=found.load,
        unit=f"s for {found.num_bytes / 2**20:,.0f} MiB of float32 into one engine of one thread",
        better="lower",
        compared_with=(
            f"vLLM's layerwise reload, which packs the weights anew for this CPU; a plain copy of the same bytes: "
            f"{found.plain_copy:.4f} s ({found.load / found.plain_copy:.1f} times); medians of {_REPEATS} by turns"
        ),
    )


@cache
def _measure_nano() -> _Measured:
    return _measure(_config(load_config(CONFIG).model))


@cache
def _measure_gib() -> _Measured:
    with tempfile.TemporaryDirectory() as folder:
        _save_wide(load_config(CONFIG).model, Path(folder))
        return _measure(_config(folder))


def _config(model: str) -> Config:
    """The shipped configuration with all of the policy trained, so that all of it travels."""
    overrides = ("learner.freeze_vision=false", "learner.num_ranks=1", "rollout.num_workers=1", f"model={model}")
    return load_config(CONFIG, overrides)


def _save_wide(model: str, folder: Path) -> None:
    """A policy of nano's kind with random weights, with nano's processor."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    config = AutoConfig.from_pretrained(model)
    for name, value in (_WIDE | {"num_key_value_heads": _WIDE["num_attention_heads"]}).items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    config.vision_config.out_hidden_size = _WIDE["hidden_size"]
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoProcessor.from_pretrained(model).save_pretrained(folder)


def _measure(config: Config) -> _Measured:
    ray_settings = ClusterConfig(object_store_mib=_OBJECT_STORE_MIB)
    environment = run_environment(allow_downloads=False)
    with connect(ray_settings, num_cpus=2, environment=environment):
        learner, engine = _start(config)
        seconds: dict[str, list[float]] = {}
        num_bytes = 0
        for index in range(_REPEATS + 1):
            found, num_bytes = _once(learner.actors[0], engine.actors[0], version=index)
            if index:  # the first warms up
                for name, value in found.items():
                    seconds.setdefault(name, []).append(value)
        for group in (engine, learner):
            group.close()
    medians = {name: median(values) for name, values in seconds.items()}
    return _Measured(
        num_bytes=num_bytes,
        transport=medians["transport"],
        plain_copy=medians["plain_copy"],
        load=medians["load"],
        digests=max(0.0, medians["whole"] - medians["transport"] - medians["load"]),
        whole=medians["whole"],
    )


def _start(config: Config) -> tuple[ActorGroup, ActorGroup]:
    learner, engine = (ActorGroup(Reservation([Bundle(cpus=1)], timeout_seconds=60)) for _ in range(2))
    address, port = learner.meeting_point(0)
    arguments = (config.learner, config.model, 0, 1, address, port)
    learner.start(_Learner, [arguments], learner_environment(config.learner, on_gpu=False))
    wait_for([learner.actors[0].__ray_ready__.remote()], "the learner")
    rollout = replace(config.rollout, kv_cache_gib=1.0)
    engine.start(_Engine, [(rollout, config.model)], worker_environment(rollout))
    wait_for([engine.actors[0].__ray_ready__.remote()], "the engine")
    return learner, engine


def _once(learner: Any, engine: Any, *, version: int) -> tuple[Mapping[str, float], int]:
    """Seconds of each part, and the bytes that travelled."""
    seconds = {"plain_copy": wait_for([learner.plain_copy.remote()], "the copy")[0]}
    started = time.perf_counter()
    (num_bytes,) = wait_for([engine.arrived.remote(learner.gather_weights.remote(digests=False))], "weights")
    seconds["transport"] = time.perf_counter() - started
    started = time.perf_counter()
    buckets = learner.gather_weights.remote(digests=True)
    (receipt,) = wait_for([engine.update_weights.remote(buckets, version)], "the sync")
    return seconds | {"whole": time.perf_counter() - started, "load": receipt.seconds}, num_bytes
