"""The weight path: what the learner holds comes into every engine, versioned, by one of three transports.

- `ObjectStore`: the learner puts its weights into Ray's object store once, engines read them from there without a copy
  of their own. Works everywhere, over several hosts, too.
- `Broadcast`: rank 0 of the learner and all engines form a process group (NCCL between GPUs, gloo between CPUs).
- `Ipc`: engines read the memory of learner ranks on the same device (CUDA IPC; on a CPU shared memory).

A LoRA adapter that stays apart from the base is small and takes the object store whatever the transport is. So does
everything that an engine needs at another time than at a sync: one that took another's place, an exported policy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from cluster.actors import ActorGroup, wait_for
from cluster.errors import ClusterError
from cluster.pool import WorkerPool
from learner.types import ALL, TRAINED, SharedBucket
from medvie_rl.config import Config
from medvie_rl.sync_config import takes_turns
from rollout.types import WeightReceipt


class Transport(Protocol):
    """One way for whole weights to travel."""

    def send(self, engines: WorkerPool, part: str, version: int) -> list[WeightReceipt]:
        """Bring a part of the learner's weights (see learner.types) into every live engine."""
        ...


class WeightPath:
    """What the engines hold, and how it gets there."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._config, self._learners = config, learners
        self._store = ObjectStore(config, learners)
        self._transport: Transport = _TRANSPORTS[config.transport](config, learners)
        self._version = 0  # of the weights in the engines; 0 is the base
        self._synced = False  # whether the engines hold what the learner sent, its frozen part included
        self._exported: Path | None = None  # the policy that they hold in its place

    @property
    def version(self) -> int:
        """Of the weights that the engines hold."""
        return self._version

    def sync(self, engines: WorkerPool, version: int) -> WeightReceipt:
        """Bring the learner's weights into every engine. A frozen vision tower is sent the first time only, and of a
        LoRA policy whose adapter stays apart the adapter alone."""
        self._version, self._exported = version, None
        if self._config.adapter_apart:
            receipts = self._store.send_adapter(engines, version)
        else:
            receipts = self._transport.send(engines, TRAINED if self._synced else ALL, version)
        self._synced = True
        return _checked(receipts, version)

    def load(self, engines: WorkerPool, policy: Path, version: int) -> None:
        """Bring the weights of an exported policy into every engine, in place of the learner's."""
        self._version, self._synced, self._exported = version, False, policy
        _checked(self._store.send_exported(engines, policy, version), version)

    def bring(self, engine: Any) -> list[Any]:
        """Let an engine that took another's place hold what the others do; returns what to wait for.

        The learner still holds what it sent: it is changed by updates only, and a sync follows each before anything is
        sampled. Raises ClusterError where engines and learner take turns on a GPU, which the newcomer does not know.
        """
        if takes_turns(self._config):
            raise ClusterError(
                "an engine that shares its GPU with the learner (rollout.sleep_while_learning, "
                "learner.offload_while_sampling) cannot be replaced in the middle of a run; go on with --resume"
            )
        if self._exported is not None:
            return [self._store.give_exported(engine, self._exported, self._version)]
        if not self._synced:
            return []
        if self._config.adapter_apart:
            return [self._store.give_adapter(engine, self._version)]
        return [engine.update_weights.remote(self._store.gather(ALL), self._version)]


class ObjectStore:
    """Weights through Ray's object store."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._learners = learners
        self._settings = {"dtype": config.rollout.dtype, "digests": config.rollout.verify_digests}
        self._adapter_apart = config.adapter_apart

    def send(self, engines: WorkerPool, part: str, version: int) -> list[WeightReceipt]:
        buckets = self.gather(part)
        return engines.broadcast(
            lambda engine: engine.update_weights.remote(buckets, version, keep_rest=part == TRAINED), _loading(version)
        )

    def send_adapter(self, engines: WorkerPool, version: int) -> list[WeightReceipt]:
        """Bring the learner's adapter into every live engine."""
        buckets, settings = self._adapter()
        return engines.broadcast(
            lambda engine: engine.update_adapter.remote(buckets, settings, version), _loading(version)
        )

    def give_adapter(self, engine: Any, version: int) -> Any:
        """Reference to the receipt of one engine that gets the learner's adapter."""
        buckets, settings = self._adapter()
        return engine.update_adapter.remote(buckets, settings, version)

    def send_exported(self, engines: WorkerPool, policy: Path, version: int) -> list[WeightReceipt]:
        """Bring an exported policy into every live engine."""
        return engines.broadcast(lambda engine: self.give_exported(engine, policy, version), _loading(version))

    def give_exported(self, engine: Any, policy: Path, version: int) -> Any:
        """Reference to the receipt of one engine that gets an exported policy."""
        rank = self._learners.actors[0]
        buckets = rank.read_exported.remote(policy.absolute(), adapter_only=self._adapter_apart, **self._settings)
        if self._adapter_apart:
            return engine.update_adapter.remote(buckets, rank.adapter_settings.remote(), version)
        return engine.update_weights.remote(buckets, version)

    def gather(self, part: str, *, adapter_only: bool = False) -> Any:
        """Reference to the buckets of a part of the learner's weights."""
        gathered = [
            rank.gather_weights.remote(part=part, adapter_only=adapter_only, **self._settings)
            for rank in self._learners.actors
        ]
        wait_for(gathered, "the learner's weights")
        return gathered[0]

    def _adapter(self) -> tuple[Any, Any]:
        return self.gather(ALL, adapter_only=True), self._learners.actors[0].adapter_settings.remote()


class Broadcast:
    """Weights from the learner's rank 0 to all engines in a process group, which is made anew when engines have
    changed."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._learners = learners
        self._settings = {"dtype": config.rollout.dtype, "digests": config.rollout.verify_digests}
        self._num_processes = config.rollout.tensor_parallel_size  # of an engine
        self._seconds = config.sync.seconds
        self._members: list[Any] = []

    def send(self, engines: WorkerPool, part: str, version: int) -> list[WeightReceipt]:
        """As Transport says. Raises ClusterError if an engine dies on the way: the others wait for it in vain then, and
        hold some of both weights."""
        engines.broadcast(lambda engine: engine.__ray_ready__.remote(), "engines to end their work")  # dead ones go
        ranks = self._learners.actors
        headers = ranks[0].weight_headers.remote(self._settings["dtype"], part=part)
        with _all_or_none(version):
            if engines.live != self._members:
                self._meet(engines.live)
            sending = [rank.broadcast_weights.remote(part=part, **self._settings) for rank in ranks]
            receiving = [
                engine.receive_weights.remote(headers, version, keep_rest=part == TRAINED) for engine in self._members
            ]
            sent, *others = wait_for([*sending, *receiving], _loading(version))
        return _undamaged(others[len(ranks) - 1 :], sent)

    def _meet(self, engines: list[Any]) -> None:
        address, port = self._learners.meeting_point(0)
        settings = {"group_size": 1 + len(engines) * self._num_processes, "seconds": self._seconds}
        meeting = [self._learners.actors[0].open_broadcasts.remote(address, port, **settings)]
        for index, engine in enumerate(engines):
            first_rank = 1 + index * self._num_processes
            meeting.append(engine.join_broadcasts.remote(address, port, first_rank=first_rank, **settings))
        wait_for(meeting, "learner and engines to meet")
        self._members = engines


class Ipc:
    """Weights in the memory of learner ranks, bucket by bucket, read by the engines on the same devices."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._learners = learners
        self._dtype, self._digests = config.rollout.dtype, config.rollout.verify_digests

    def send(self, engines: WorkerPool, part: str, version: int) -> list[WeightReceipt]:
        """As Transport says. Raises ClusterError if an engine dies on the way."""
        engines.broadcast(lambda engine: engine.__ray_ready__.remote(), "engines to end their work")  # dead ones go
        ranks, members, what = self._learners.actors, engines.live, _loading(version)
        digests: dict[str, str] = {}
        with _all_or_none(version):
            (headers,) = wait_for([ranks[0].weight_headers.remote(self._dtype, part=part)], what)
            beginning = [rank.share_weights.remote(self._dtype, part=part, digests=self._digests) for rank in ranks]
            beginning += [engine.begin_shared.remote(headers, version, keep_rest=part == TRAINED) for engine in members]
            wait_for(beginning, what)
            for index in range(len(headers)):
                buckets: list[SharedBucket] = wait_for([rank.share_next.remote() for rank in ranks], what)
                digests |= buckets[0].digests
                handles = {bucket.device: bucket.handle for bucket in buckets}
                wait_for([engine.load_shared.remote(index, handles) for engine in members], what)
            wait_for([rank.share_next.remote() for rank in ranks], what)  # the last one is taken back
            receipts = wait_for([engine.end_shared.remote() for engine in members], what)
        return _undamaged(receipts, digests)


_TRANSPORTS: Mapping[str, Callable[[Config, ActorGroup], Transport]] = {
    "object_store": ObjectStore,
    "broadcast": Broadcast,
    "ipc": Ipc,
}


def _loading(version: int) -> str:
    return f"loading weight version {version}"


@contextmanager
def _all_or_none(version: int) -> Iterator[None]:
    """Raises ClusterError for whatever goes wrong inside, while engines hold some of both weights."""
    try:
        yield
    except (ClusterError, RuntimeError) as error:
        raise ClusterError(
            f"weight version {version} did not reach every engine ({error}). Go on with --resume; "
            "sync.transport=object_store survives the loss of an engine at any time"
        ) from error


def _undamaged(receipts: list[WeightReceipt], sent: Mapping[str, str]) -> list[WeightReceipt]:
    """Raises RuntimeError naming the tensors that arrived otherwise than they were sent; without digests none are."""
    for receipt in receipts:
        different = [name for name, digest in receipt.digests.items() if sent[name] != digest]
        if different:
            raise RuntimeError(
                f"weight version {receipt.version} arrived damaged, {len(different)} sha256 digests differ: "
                f"{', '.join(different[:12])}"
            )
    return receipts


def _checked(receipts: Sequence[WeightReceipt], version: int) -> WeightReceipt:
    if len({receipt.digest for receipt in receipts}) > 1:
        raise RuntimeError(f"the engines hold different weights after loading version {version}")
    return receipts[0]
