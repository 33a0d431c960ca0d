"""A pool of Ray actors loses workers, and no work."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.actors import ActorGroup, Bundle, wait_for
from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.pool import WorkerPool
from cluster.session import connect

CONFIG = ClusterConfig(resource_timeout_seconds=60, call_seconds=60, health_seconds=20, max_lost_workers=3)


class Squarer:
    """Squares numbers slowly; it must be prepared first if it takes another's place."""

    def __init__(self, folder: str) -> None:
        number = sum(1 for _ in Path(folder).iterdir())
        (Path(folder) / str(os.getpid())).touch()
        self._prepared = number < 2

    def pid(self) -> int:
        return os.getpid()

    def prepare(self) -> None:
        self._prepared = True

    def square(self, numbers: Sequence[int], seconds: float) -> list[tuple[int, int]]:
        assert self._prepared, "it got work before it was prepared"
        time.sleep(seconds)
        if 13 in numbers:
            raise ValueError("13 brings bad luck")
        return [(number * number, os.getpid()) for number in numbers]


class Pool:
    """Two workers, and what the pool says."""

    def __init__(self, folder: Path, config: ClusterConfig = CONFIG) -> None:
        self.group = ActorGroup([Bundle(cpus=1), Bundle(cpus=1)], timeout_seconds=60)
        self.group.start(Squarer, [(str(folder),)] * 2, {"PYTHONPATH": str(Path(__file__).parent)})
        self.said: list[str] = []
        self.pool = WorkerPool(
            self.group,
            config,
            what="squarer",
            prepare=lambda actor: wait_for([actor.prepare.remote()], "preparation"),
            notice=self.said.append,
        )
        self.pids: list[int] = wait_for([actor.pid.remote() for actor in self.group.actors], "the start")

    def submit(self, numbers: Sequence[int], seconds: float = 0.0) -> Any:
        return self.pool.submit(numbers, lambda actor, share: actor.square.remote(list(share), seconds))


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with connect(ClusterConfig(local_cpus=2, object_store_mib=80), num_cpus=2, environment={}):
        yield


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    made = Pool(tmp_path)
    yield made
    made.group.close()


def squares(results: Sequence[tuple[int, int]]) -> list[int]:
    return [square for square, _ in results]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_shares_are_contiguous_and_results_in_order(pool: Pool) -> None:
    results = pool.submit(range(5)).result()
    assert squares(results) == [0, 1, 4, 9, 16]
    assert [pool.pids.index(pid) for _, pid in results] == [0, 0, 0, 1, 1]
    assert squares(pool.submit([7]).result()) == [49] and pool.submit([]).result() == []


def test_what_a_killed_worker_had_to_do_is_done_by_the_other_and_it_is_replaced(pool: Pool) -> None:
    work = pool.submit(range(4), 2.0)
    time.sleep(0.5)
    os.kill(pool.pids[1], signal.SIGKILL)
    results = work.result()
    assert squares(results) == [0, 1, 4, 9] and {pid for _, pid in results} == {pool.pids[0]}
    assert "squarer 1 is lost (an actor died" in pool.said[0] and "going on with 1 of 2" in pool.said[0]
    deadline = time.monotonic() + 60
    while pool.pool.num_live < 2 and time.monotonic() < deadline:
        assert squares(pool.submit(range(4)).result()) == [0, 1, 4, 9]
        time.sleep(0.2)
    assert "squarer 1 is back" in pool.said and pool.pool.num_lost == 1
    pids = {pid for _, pid in pool.submit(range(4)).result()}
    assert len(pids) == 2 and pool.pids[1] not in pids


def test_a_worker_that_hangs_is_replaced_after_its_deadline(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, call_seconds=4, health_seconds=20))
    try:
        work = pool.submit(range(4), 1.0)
        time.sleep(0.3)
        os.kill(pool.pids[0], signal.SIGSTOP)
        assert squares(work.result()) == [0, 1, 4, 9]
        assert "did not finish its work by the deadline (cluster.call_seconds)" in pool.said[0]
        deadline = time.monotonic() + 30
        while not gone(pool.pids[0]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert gone(pool.pids[0])
    finally:
        pool.group.close()


def test_a_worker_that_hangs_without_work_is_found_before_it_gets_any(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, call_seconds=600, health_seconds=1))
    try:
        os.kill(pool.pids[0], signal.SIGSTOP)
        assert squares(pool.submit(range(4)).result()) == [0, 1, 4, 9]
        assert "did not answer within 1 s (a sign of life)" in pool.said[0]
    finally:
        pool.group.close()


def test_where_all_are_lost_it_waits_for_another(pool: Pool) -> None:
    work = pool.submit(range(4), 2.0)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert squares(work.result()) == [0, 1, 4, 9]
    assert pool.pool.num_lost == 2


def test_an_error_of_a_worker_is_not_a_lost_worker(pool: Pool) -> None:
    with pytest.raises(ValueError, match="13 brings bad luck"):
        pool.submit([1, 13]).result()
    assert pool.pool.num_lost == 0


def test_a_broadcast_leaves_out_who_died(pool: Pool) -> None:
    os.kill(pool.pids[0], signal.SIGKILL)
    assert pool.pool.broadcast(lambda actor: actor.pid.remote(), "pids") == pool.pids[1:]


def test_too_many_losses_end_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, max_lost_workers=0))
    try:
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(ClusterError, match=r"1 squarers were lost, more than cluster.max_lost_workers = 0"):
            pool.submit(range(4)).result()
    finally:
        pool.group.close()
