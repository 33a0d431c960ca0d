"""Every transport brings the same weights into every engine, over real actors; damage and lost engines are seen."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from cluster.actors import ActorGroup, wait_for
from cluster.errors import ClusterError
from cluster.placement import Bundle, Reservation
from cluster.pool import WorkerPool
from cluster.session import connect
from learner.worker import LearnerWorker
from learner_ranks import NANO, batches_of, make_groups, make_images
from medvie_rl.config import load_config
from medvie_rl.environment import run_environment
from medvie_rl.sync_config import SyncConfig
from medvie_rl.weight_path import WeightPath
from medvie_rl.workers import learner_environment
from rollout.config import AdapterSlot, worker_environment
from rollout.types import RolloutGroup
from rollout.worker import RolloutWorker
from rollout_engine import ROOT, make_requests, slip_images

SETTINGS = (
    "rollout.max_response_tokens=16",
    "rollout.kv_cache_gib=0.25",
    "learner.zero_stage=3",
    "cluster.object_store_mib=256",
    "sync.seconds=120",
)
TRANSPORTS = ("object_store", "broadcast", "ipc")


class FaultyLearner(LearnerWorker):
    """A rank that can be made to send damaged bytes."""

    def plant(self, fault: bool) -> None:
        import learner.sending

        if not hasattr(self, "_sound"):
            self._sound = learner.sending.packed

        def damaged(tensors: dict[str, Any]) -> Any:
            payload = self._sound(tensors)
            payload[-3] ^= 1
            return payload

        learner.sending.packed = damaged if fault else self._sound


class Engine(RolloutWorker):
    """An engine that says which process it is."""

    def pid(self) -> int:
        return os.getpid()


class Run:
    """Two learner ranks under ZeRO-3, two engines, and what the engines answer."""

    def __init__(self, *overrides: str) -> None:
        self.config = load_config(ROOT / "conf" / "local.yaml", [*SETTINGS, f"model={NANO}", *overrides])
        processor = AutoProcessor.from_pretrained(NANO)
        policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
        self.groups = make_groups(policy, processor, make_images())
        self.learners = self._start_learners()
        self.engines = self._start_engines()
        wait_for([actor.pid.remote() for actor in self.engines.actors], "engines")
        self.said: list[str] = []
        self.path = self.weight_path("object_store")
        self.pool = WorkerPool(
            self.engines,
            self.config.cluster,
            what="engine",
            prepare=lambda engine: self.path.bring(engine),
            notice=self.said.append,
        )
        self.images = slip_images(4)
        self.requests = make_requests(processor, self.images, num_traces=2, greedy=False)
        self.version = 0

    def weight_path(self, transport: str) -> WeightPath:
        """Another path to the same engines, which hold nothing that it sent."""
        return WeightPath(replace(self.config, sync=SyncConfig(transport=transport)), self.learners)

    def update(self) -> None:
        """Change the policy."""
        batches = batches_of(self.groups, self.config.learner)
        ranks = zip(self.learners.actors, batches, strict=True)
        wait_for([rank.update.remote(batch) for rank, batch in ranks], "the update")

    def sync(self) -> Any:
        self.version += 1
        num_bytes = self.path.start_sync(self.pool, self.version)
        receipt = self.path.finish_sync()
        assert receipt is not None and receipt.num_bytes == num_bytes and self.path.finish_sync() is None
        return receipt

    def answers(self) -> list[list[RolloutGroup]]:
        """Of every live engine to the same requests, without the version."""
        return [_without_version(groups) for groups in self.pool.broadcast(self._ask, "answers")]

    def close(self) -> None:
        self.engines.close()
        self.learners.close()

    def _ask(self, engine: Any) -> Any:
        requests = [replace(request, weight_version=self.version) for request in self.requests]
        return engine.generate.remote(requests, self.images)

    def _start_learners(self) -> ActorGroup:
        config = self.config.learner
        group = ActorGroup(Reservation([Bundle(cpus=0.5)] * 2, timeout_seconds=60))
        address, port = group.meeting_point(0)
        arguments = [(config, self.config.model, rank, 2, address, port) for rank in range(2)]
        group.start(FaultyLearner, arguments, _with_tests_path(learner_environment(config, on_gpu=False)))
        wait_for([actor.add_images.remote(make_images()) for actor in group.actors], "learner")
        return group

    def _start_engines(self) -> ActorGroup:
        config, lora = self.config.rollout, self.config.learner.lora
        group = ActorGroup(Reservation([Bundle(cpus=0.5)] * 2, timeout_seconds=60))
        slot = AdapterSlot(rank=lora.rank, vision=bool(lora.vision_targets)) if lora.rank else None
        group.start(Engine, [(config, self.config.model, slot)] * 2, _with_tests_path(worker_environment(config)))
        return group


def _without_version(groups: list[RolloutGroup]) -> list[RolloutGroup]:
    return [
        replace(group, rollouts=tuple(replace(rollout, weight_version=0) for rollout in group.rollouts))
        for group in groups
    ]


def _with_tests_path(environment: dict[str, str]) -> dict[str, str]:
    folder = Path(__file__).parent
    return environment | {"PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent)])}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    config = load_config(ROOT / "conf" / "local.yaml", SETTINGS).cluster
    with connect(config, num_cpus=4, environment=run_environment(allow_downloads=False)):
        yield


@pytest.fixture(scope="module")
def run(ray_here: None) -> Iterator[Run]:
    made = Run()
    yield made
    made.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_arrives_is_what_the_object_store_brings(run: Run, transport: str) -> None:
    run.path = run.weight_path("object_store")
    run.sync()
    before = run.answers()

    run.path = run.weight_path(transport)
    for first in (True, False):  # all weights, then all but the frozen vision tower
        run.update()
        receipt = run.sync()
        found = run.answers()
        assert found[0] == found[1] != before[0]
        assert receipt.num_tensors == len(receipt.digests) > 40
        assert any("visual" in name for name in receipt.digests) == first
        run.path, path = run.weight_path("object_store"), run.path
        expected = run.sync()
        assert run.answers() == found
        assert expected.digest == receipt.digest and expected.num_tensors >= receipt.num_tensors
        run.path = path
        before = found


@pytest.mark.parametrize("transport", ["broadcast", "ipc"])
def test_bytes_that_change_on_the_way_are_seen(run: Run, transport: str) -> None:
    run.path = run.weight_path(transport)
    wait_for([rank.plant.remote(True) for rank in run.learners.actors], "fault")
    try:
        with pytest.raises((RuntimeError, ClusterError), match=r"arrived damaged.*weight"):
            run.sync()
    finally:
        wait_for([rank.plant.remote(False) for rank in run.learners.actors], "fault")
    receipt = run.sync()
    run.path = run.weight_path("object_store")
    assert run.sync().digest == receipt.digest


@pytest.mark.parametrize("transport", [pytest.param("object_store", marks=pytest.mark.full), "broadcast"])
def test_a_sync_leaves_out_who_died_and_takes_in_who_came(run: Run, transport: str) -> None:
    run.path, num_lost = run.weight_path(transport), run.pool.num_lost
    run.sync()
    run.update()
    run.sync()
    (victim, _) = run.pool.broadcast(lambda engine: engine.pid.remote(), "pids")
    os.kill(victim, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(victim)] if psutil.pid_exists(victim) else [], timeout=10)
    run.update()
    run.sync()
    assert run.pool.num_lost == num_lost + 1 and len(run.answers()) == 1
    expected = run.answers()[0]
    while run.pool.num_live < 2:
        run.pool.broadcast(lambda engine: engine.__ray_ready__.remote(), "a sign of life")
    found = run.answers()  # the newcomer has got what the other had been sent
    assert len(found) == 2 and found[0] == found[1] == expected
    run.update()
    run.sync()
    assert run.answers()[0] == run.answers()[1] != found[0]


def test_an_adapter_travels_alone(ray_here: None) -> None:
    run = Run("learner.lora.rank=4", "learner.zero_stage=1")
    try:
        run.sync()
        base = run.answers()
        run.update()
        receipt = run.sync()
        found = run.answers()
        assert receipt.num_tensors == 2 * 7 * 4 and all(".lora_" in name for name in receipt.digests)
        assert found[0] == found[1] != base[0]
    finally:
        run.close()
