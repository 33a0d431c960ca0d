"""Real actors run on the cores that were meant for them, and on no others."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.actors import ActorGroup, wait_for
from cluster.config import ClusterConfig
from cluster.cores import describe_places, usable_cores
from cluster.pinning import plan_places
from cluster.placement import Bundle, Reservation
from cluster.session import connect
from runs import ROOT, SMALL, TIMEOUT_SECONDS, metrics_of, train_command

CORES, PROBLEM = usable_cores()
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason=f"needs two cores that nobody is pinned to ({PROBLEM})")


class Worker:
    """Notes where its threads may run."""

    def __init__(self) -> None:
        self._at_start = os.sched_getaffinity(0)

    def cores(self) -> list[tuple[int, ...]]:
        """Of the constructor, of all threads that are there, and of one that starts now; equal ones once."""
        threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
        found = [self._at_start, *(os.sched_getaffinity(thread) for thread in threads)]
        late = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        late.start()
        late.join()
        return sorted({tuple(sorted(cores)) for cores in found})


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    here = {"PYTHONPATH": str(Path(__file__).parent)}  # where the actors find the class above
    with connect(ClusterConfig(local_cpus=4, object_store_mib=80), num_cpus=4, environment=here):
        yield


@pytest.fixture
def groups() -> Iterator[tuple[ActorGroup, ActorGroup]]:
    reservation = Reservation([Bundle(cpus=1), Bundle(cpus=1)], timeout_seconds=60)
    made = tuple(ActorGroup(reservation, [seat]) for seat in reservation.seats())
    yield made
    for group in made:
        group.close()
    reservation.close()


def cores_of(group: ActorGroup) -> list[list[tuple[int, ...]]]:
    found: list[list[tuple[int, ...]]] = wait_for([actor.cores.remote() for actor in group.actors], "cores")
    return found


@pytest.mark.parametrize("in_turns", [False, True])
def test_actors_run_where_they_were_placed(groups: tuple[ActorGroup, ActorGroup], in_turns: bool) -> None:
    places, notes = plan_places([(group, 1) for group in groups], in_turns=in_turns)
    for group, of_group in zip(groups, places, strict=True):
        group.start(Worker, [()], {}, of_group)
    expected = [(CORES[0],), (CORES[0 if in_turns else 1],)]
    assert [cores_of(group) for group in groups] == [[[cores]] for cores in expected]
    assert notes == [] and describe_places(("a", "b"), places) == f"cores: a {expected[0][0]}; b {expected[1][0]}"
    groups[0].restart(0)
    assert cores_of(groups[0]) == [[expected[0]]]


def test_where_cores_are_too_few_nothing_is_pinned_and_that_is_said(groups: tuple[ActorGroup, ActorGroup]) -> None:
    places, notes = plan_places([(groups[0], len(CORES)), (groups[1], 1)], in_turns=False)
    assert places == [[None], [None]] and describe_places(("a", "b"), places) == ""
    (note,) = notes
    wanted = f"{len(CORES) + 1} threads work at the same time, but {len(CORES)} cores are free"
    assert note.startswith("cores are not pinned on ") and note.endswith(wanted)
    groups[0].start(Worker, [()], {}, places[0])
    assert cores_of(groups[0]) == [[tuple(sorted(os.sched_getaffinity(0)))]]


def test_engine_and_learner_of_a_pipelined_run_have_no_core_in_common(tmp_path: Path) -> None:
    layout = ("pipeline_depth=1", "rollout.num_threads=1", "learner.num_threads=1", "num_steps=2")
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(train_command(tmp_path / "runs", *SMALL, *layout), cwd=ROOT, stdout=file)
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not any(metrics_of(run) for run in tmp_path.glob("runs/*")):  # engine and learner have worked
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        found = {_kind(child): _cores(child) for child in psutil.Process(process.pid).children(recursive=True)}
        assert process.wait(TIMEOUT_SECONDS) == 0
    finally:
        process.kill()
    assert found["RolloutWorker"] == {(CORES[0],)} and found["LearnerWorker"] == {(CORES[1],)}
    (run,) = tmp_path.glob("runs/*")
    staleness = [(line["rollout/staleness"], line["rollout/staleness_max"]) for line in metrics_of(run)[1:]]
    assert staleness == [(0.0, 0.0), (1.0, 1.0)]
    assert all(line["time/generation"] > 0 for line in metrics_of(run)[1:])
    assert f"cores: rollout engines {CORES[0]}; learner ranks {CORES[1]}" in log.read_text(encoding="utf-8")


def _kind(process: psutil.Process) -> str:
    """The class of an actor's process."""
    return " ".join(process.cmdline()).partition("ray::")[2].partition(".")[0].partition(" ")[0]


def _cores(process: psutil.Process) -> set[tuple[int, ...]]:
    """Where the threads of a process may run."""
    return {tuple(sorted(os.sched_getaffinity(thread.id))) for thread in process.threads()}
