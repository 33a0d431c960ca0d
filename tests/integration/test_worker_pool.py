"""A pool of Ray actors loses workers, and no work."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.session import connect
from squarers import FAIL, HANG, Pool, squares


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with connect(ClusterConfig(local_cpus=2, object_store_mib=80), num_cpus=2, environment={}):
        yield


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    made = Pool(tmp_path)
    yield made
    made.close()


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
    pool.work_until(lambda: pool.pool.num_live == 2)
    assert "squarer 1 is back" in pool.said and pool.pool.num_lost == 1
    pids = {pid for _, pid in pool.submit(range(4)).result()}
    assert len(pids) == 2 and pool.pids[1] not in pids


def test_a_worker_that_hangs_is_replaced_after_its_deadline(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, call_seconds=8, health_seconds=20))
    try:
        started = time.monotonic()
        work = pool.submit(range(4), 1.0)
        time.sleep(0.3)
        os.kill(pool.pids[1], signal.SIGSTOP)
        assert squares(work.result()) == [0, 1, 4, 9]
        assert 8 < time.monotonic() - started < 16, "each worker's deadline is that of its own work"
        assert "did not finish its work by the deadline (cluster.call_seconds)" in pool.said[0]
        deadline = time.monotonic() + 30
        while psutil.pid_exists(pool.pids[1]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not psutil.pid_exists(pool.pids[1])
    finally:
        pool.close()


def test_a_worker_that_hangs_without_work_is_found_before_it_gets_any(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, call_seconds=600, health_seconds=1))
    try:
        os.kill(pool.pids[0], signal.SIGSTOP)
        assert squares(pool.submit(range(4)).result()) == [0, 1, 4, 9]
        assert "did not answer within 1 s (a sign of life)" in pool.said[0]
    finally:
        pool.close()


def test_where_all_are_lost_it_waits_for_another(pool: Pool) -> None:
    work = pool.submit(range(4), 2.0)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert squares(work.result()) == [0, 1, 4, 9]
    assert pool.pool.num_lost == 2


def test_a_newcomer_that_hangs_as_it_is_prepared_is_replaced(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, call_seconds=4, health_seconds=20))
    try:
        (tmp_path / HANG).touch()
        os.kill(pool.pids[1], signal.SIGKILL)
        pool.work_until(lambda: pool.told("is back"))
        assert [said.split(" (")[0] for said in pool.said] == [
            "squarer 1 is lost",
            "squarer 1 could not be started",
            "squarer 1 is back",
        ]
        assert pool.said[1].endswith(
            "did not answer within 4 s (to be where the others are)); trying again, going on with 1 of 2"
        )
        hung, taken_in = sorted(tmp_path.glob("pid-*"), key=os.path.getmtime)[2:]
        assert not psutil.pid_exists(int(hung.name[4:]))
        assert {pid for _, pid in pool.submit(range(4)).result()} == {pool.pids[0], int(taken_in.name[4:])}
    finally:
        pool.close()


def test_a_newcomer_that_cannot_start_is_given_up_and_the_others_go_on(pool: Pool) -> None:
    (pool.folder / FAIL).touch()
    os.kill(pool.pids[1], signal.SIGKILL)
    pool.work_until(lambda: pool.told("given up"))
    reason = "(an actor died: RuntimeError: no squarer today)"
    assert pool.said[1:] == [
        f"squarer 1 could not be started {reason}; trying again, going on with 1 of 2",
        f"squarer 1 could not be started {reason}; trying again, going on with 1 of 2",
        f"squarer 1 could not be started 3 times in a row {reason} and is given up; going on with 1 of 2",
    ]
    assert squares(pool.submit(range(4)).result()) == [0, 1, 4, 9] and pool.pool.num_lost == 1
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(ClusterError, match=r"no squarer is left, and none .*; the last one: .*no squarer today"):
        pool.submit(range(4))


def test_a_newcomer_that_comes_while_the_others_work_gets_the_next_work(pool: Pool) -> None:
    os.kill(pool.pids[1], signal.SIGKILL)
    assert squares(pool.submit(range(4)).result()) == [0, 1, 4, 9]
    assert pool.pool.num_live == 1, "it was back before there was any work"
    long = pool.submit([5, 6], 15.0)
    while pool.pool.num_live < 2:
        pool.submit([])
        time.sleep(0.2)
    assert "squarer 1 is back" in pool.said
    (newcomer,) = {pid for _, pid in pool.submit([1, 2]).result()} - {pool.pids[0]}
    assert newcomer != pool.pids[1]
    assert long.result() == [(25, pool.pids[0]), (36, pool.pids[0])]


def test_an_error_of_a_worker_is_not_a_lost_worker(pool: Pool) -> None:
    with pytest.raises(ValueError, match="13 brings bad luck"):
        pool.submit([1, 13]).result()
    assert pool.pool.num_lost == 0


def test_a_broadcast_leaves_out_who_died(pool: Pool) -> None:
    os.kill(pool.pids[0], signal.SIGKILL)
    assert pool.pool.broadcast(lambda actor: actor.pid.remote(), "pids") == pool.pids[1:]


def test_a_broadcast_that_nobody_waits_for_comes_after_the_work_before_it(pool: Pool) -> None:
    started = time.monotonic()
    work = pool.submit(range(4), 2.0)
    broadcast = pool.pool.start_broadcast(lambda actor: actor.pid.remote(), "pids")
    more = pool.submit(range(2))
    assert time.monotonic() - started < 1.0
    assert squares(more.result()) == [0, 1] and broadcast.result() == pool.pids
    assert time.monotonic() - started > 2.0 and squares(work.result()) == [0, 1, 4, 9]


def test_a_broadcast_finds_who_died_before_and_who_took_its_place(pool: Pool) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    broadcast = pool.pool.start_broadcast(lambda actor: actor.pid.remote(), "pids")
    pids = broadcast.result()
    assert pids and not set(pids) & set(pool.pids) and pool.pool.num_lost == 2


def test_too_many_losses_end_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ClusterConfig(resource_timeout_seconds=60, max_lost_workers=0))
    try:
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(ClusterError, match=r"1 squarers were lost, more than cluster.max_lost_workers = 0"):
            pool.submit(range(4)).result()
    finally:
        pool.close()
