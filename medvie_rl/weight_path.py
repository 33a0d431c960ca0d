"""The weight path: what the learner holds comes into every engine, versioned, by one of three transports.

- `ObjectStore`: the learner puts its weights into Ray's object store once, engines read them from there without a copy
  of their own. Works everywhere, over several hosts, too.
- `Broadcast`: rank 0 of the learner and all engines form a process group (NCCL between GPUs, gloo between CPUs).
- `Ipc`: engines read the memory of learner ranks on the same device (CUDA IPC; on a CPU shared memory).

A LoRA adapter that stays apart from the base is small and takes the object store whatever the transport is. So does
everything that an engine needs at another time than at a sync: one that took another's place, an exported policy.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.actors import ActorGroup, wait_for
from cluster.errors import GangError
from cluster.pool import WorkerPool
from learner.types import ADAPTER, ALL, FROZEN, TRAINED, SharedBucket
from medvie_rl.config import Config
from rollout.types import WeightReceipt


class Loading(Protocol):
    """Engines that are loading weights."""

    def result(self) -> list[WeightReceipt]:
        """Wait for them."""
        ...


class Transport(Protocol):
    """One way for whole weights to travel."""

    def send(self, engines: WorkerPool, part: str, version: int) -> Loading:
        """Bring a part of the learner's weights (see learner.types) into every live engine. The learner may change its
        weights as soon as this returns."""
        ...


class WeightPath:
    """What the engines hold, and how it gets there."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._config, self._learners = config, learners
        self._store = ObjectStore(config, learners)
        self._transport: Transport = _TRANSPORTS[config.transport](config, learners)
        self._version = 0  # of the weights that engines hold or are loading; 0 is the base
        self._loading: Loading | None = None  # while they are not known to have them
        self._synced = False  # whether the engines hold what the learner sent, its frozen part included
        self._exported: Path | None = None  # the policy that they hold in its place
        self._num_bytes: dict[str, int] = {}  # by part

    @property
    def version(self) -> int:
        """Of the weights by which engines answer what they are asked next."""
        return self._version

    def start_sync(self, engines: WorkerPool, version: int) -> int:
        """Begin to bring the learner's weights into every engine; returns how many bytes each of them gets. A frozen
        vision tower is sent the first time only, and of a LoRA policy whose adapter stays apart the adapter alone."""
        self.finish_sync()
        part = ADAPTER if self._config.adapter_apart else TRAINED if self._synced else ALL
        self._version, self._synced, self._exported = version, True, None
        transport = self._store if part == ADAPTER else self._transport
        try:
            self._loading = transport.send(engines, part, version)
        except Exception:
            self._synced = False  # whatever arrived, the next sync sends all
            raise
        if part not in self._num_bytes:
            size = self._learners.actors[0].weight_bytes.remote(self._config.rollout.dtype, part=part)
            (self._num_bytes[part],) = wait_for([size], "the size of the weights")
        return self._num_bytes[part]

    def finish_sync(self) -> WeightReceipt | None:
        """Wait until all engines hold the weights that were sent last; None if that was known already. Raises
        RuntimeError if they hold different ones."""
        if self._loading is None:
            return None
        loading, self._loading = self._loading, None
        receipts = loading.result()
        if len({receipt.digest for receipt in receipts}) > 1:
            raise RuntimeError(f"the engines hold different weights after loading version {self._version}")
        return receipts[0]

    def load(self, engines: WorkerPool, policy: Path, version: int) -> None:
        """Bring the weights of an exported policy into every engine, in place of the learner's."""
        self.finish_sync()
        self._version, self._synced, self._exported = version, False, policy
        self._loading = self._store.send_exported(engines, policy, version)
        self.finish_sync()

    def bring(self, engine: Any) -> list[Any]:
        """Let an engine that took another's place hold what the others do; returns what to wait for."""
        if self._exported is not None:
            return [self._store.give_exported(engine, self._exported, self._version)]
        return [self._store.give_again(engine, self._version)] if self._synced else []


class ObjectStore:
    """Weights through Ray's object store."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._learners = learners
        self._settings = {"dtype": config.rollout.dtype, "digests": config.rollout.verify_digests}
        self._adapter_apart = config.adapter_apart
        self._sent: tuple[Any, str] | None = None  # the buckets that were last sent, and which part they are

    def send(self, engines: WorkerPool, part: str, version: int) -> Loading:
        """As Transport says; of the adapter, too."""
        buckets = self.gather(part)
        self._sent = (buckets, part)
        return engines.start_broadcast(lambda engine: self.give(engine, buckets, part, version), _loading(version))

    def give(self, engine: Any, buckets: Any, part: str, version: int) -> Any:
        """Reference to the receipt of one engine that gets these buckets."""
        if part == ADAPTER:
            settings = self._learners.actors[0].adapter_settings.remote()
            return engine.update_adapter.remote(buckets, settings, version)
        return engine.update_weights.remote(buckets, version, keep_rest=part == TRAINED)

    def give_again(self, engine: Any, version: int) -> Any:
        """Reference to the receipt of one engine that gets all that was sent, though it has nothing yet.

        The buckets that were sent are still here: the learner may be ahead of them. What another transport has sent it
        still holds, since it sends before it returns, and nothing is sampled between an update and that.
        """
        if self._sent is None:
            return self.give(engine, self.gather(ALL), ALL, version)
        buckets, part = self._sent
        if part == TRAINED:
            return engine.update_weights.remote(buckets, version, rest=self.gather(FROZEN))
        return self.give(engine, buckets, part, version)

    def send_exported(self, engines: WorkerPool, policy: Path, version: int) -> Loading:
        """Bring an exported policy into every live engine."""
        buckets, part = self._read(policy)
        return engines.start_broadcast(lambda engine: self.give(engine, buckets, part, version), _loading(version))

    def give_exported(self, engine: Any, policy: Path, version: int) -> Any:
        """Reference to the receipt of one engine that gets an exported policy."""
        return self.give(engine, *self._read(policy), version)

    def _read(self, policy: Path) -> tuple[Any, str]:
        """Reference to the buckets of an exported policy, and which part they are."""
        part = ADAPTER if self._adapter_apart else ALL
        rank = self._learners.actors[0]
        return rank.read_exported.remote(policy.absolute(), part=part, **self._settings), part

    def gather(self, part: str) -> Any:
        """Reference to the buckets of a part of the learner's weights."""
        gathered = [rank.gather_weights.remote(part=part, **self._settings) for rank in self._learners.actors]
        wait_for(gathered, "the learner's weights")
        return gathered[0]


class Broadcast:
    """Weights from the learner's rank 0 to all engines in a process group, which is made anew when engines have
    changed."""

    def __init__(self, config: Config, learners: ActorGroup) -> None:
        self._learners = learners
        self._settings = {"dtype": config.rollout.dtype, "digests": config.rollout.verify_digests}
        self._num_processes = config.rollout.tensor_parallel_size  # of an engine
        self._seconds = config.sync.seconds
        self._members: list[Any] = []

    def send(self, engines: WorkerPool, part: str, version: int) -> Loading:
        """As Transport says. Raises GangError if an engine dies on the way: the others wait for it in vain then, and
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
        return _Loaded(_undamaged(others[len(ranks) - 1 :], sent))

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

    def send(self, engines: WorkerPool, part: str, version: int) -> Loading:
        """As Transport says. Raises GangError if an engine dies on the way."""
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
        return _Loaded(_undamaged(receipts, digests))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Engines that have loaded their weights."""

    receipts: list[WeightReceipt]

    def result(self) -> list[WeightReceipt]:
        return self.receipts


_TRANSPORTS: Mapping[str, Callable[[Config, ActorGroup], Transport]] = {
    "object_store": ObjectStore,
    "broadcast": Broadcast,
    "ipc": Ipc,
}


def _loading(version: int) -> str:
    return f"loading weight version {version}"


@contextmanager
def _all_or_none(version: int) -> Iterator[None]:
    """Raises GangError for whatever goes wrong inside, while engines hold some of both weights."""
    try:
        yield
    except RuntimeError as error:
        raise GangError(
            f"weight version {version} did not reach every engine ({error}); sync.transport=object_store survives the "
            "loss of an engine at any time"
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
