"""Which cores a node has for a run, and which of them each actor gets."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cores import Place, assign_cores, describe_places, usable_cores

ALLOWED = sorted(os.sched_getaffinity(0))
several_cores = pytest.mark.skipif(len(ALLOWED) < 2, reason="on one core nothing can be told apart")


@pytest.mark.parametrize(
    ("sides", "num_cores", "in_turns", "expected"),
    [
        ([[1], [1]], 2, False, [[(0,)], [(1,)]]),
        ([[1, 1], [1, 1]], 2, True, [[(0,), (1,)], [(0,), (1,)]]),
        ([[1, 1], [1, 1]], 2, False, None),  # they would have to share
        ([[2], [2]], 2, True, [[(0, 1)], [(0, 1)]]),
        ([[4, 4], [2, 2, 2]], 16, False, [[(0, 1, 2, 3), (4, 5, 6, 7)], [(8, 9), (10, 11), (12, 13)]]),
        ([[4, 4], [2, 2, 2]], 16, True, [[(0, 1, 2, 3), (4, 5, 6, 7)], [(0, 1), (2, 3), (4, 5)]]),
        ([[4, 4], [2, 2, 2]], 13, False, None),
        ([[4, 4], [2, 2, 2]], 7, True, None),
        ([[], [3]], 4, False, [[], [(0, 1, 2)]]),  # of the engines none is on this node
        ([[1], [1]], 0, True, None),
    ],
)
def test_sides_share_cores_only_when_they_take_turns(
    sides: list[list[int]], num_cores: int, in_turns: bool, expected: list[list[tuple[int, ...]]] | None
) -> None:
    assert assign_cores(sides, range(num_cores), in_turns=in_turns) == expected


def test_cores_are_given_out_in_the_order_of_the_node() -> None:
    assert assign_cores([[2], [1]], (5, 7, 1, 3), in_turns=False) == [[(5, 7)], [(1,)]]


@pytest.mark.parametrize(
    ("cores", "expected"), [((3,), "3"), ((0, 1, 2), "0-2"), ((0, 2, 4), "0,2,4"), ((1, 0), "1,0"), (None, "-")]
)
def test_cores_are_told_in_short(cores: tuple[int, ...] | None, expected: str) -> None:
    place = Place(node="n", cores=cores) if cores else None
    first = Place(node="n", cores=(7,))
    assert describe_places(("engines", "ranks"), ([first, place], [])) == f"cores: engines 7 | {expected}; ranks "


def system(folder: Path, *, siblings: list[list[int]], nodes: list[list[int]]) -> Path:
    """A folder like /sys of a machine with these cores: hardware threads by core, and cores by node of memory."""
    for threads in siblings:
        for core in threads:
            topology = folder / f"devices/system/cpu/cpu{core}/topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(",".join(map(str, threads)) + "\n")
    for number, cores in enumerate(nodes):
        for core in cores:
            (folder / f"devices/system/cpu/cpu{core}/node{number}").mkdir()
    return folder


@several_cores
def test_cores_of_one_memory_come_together_and_second_threads_of_a_core_last(tmp_path: Path) -> None:
    first, *others = ALLOWED
    far = system(tmp_path / "far", siblings=[[core] for core in ALLOWED], nodes=[others, [first]])
    assert usable_cores(far, tmp_path) == ((*others, first), "")
    twins = system(tmp_path / "twins", siblings=[ALLOWED[:2], *([core] for core in ALLOWED[2:])], nodes=[])
    assert usable_cores(twins, tmp_path) == ((first, *ALLOWED[2:], ALLOWED[1]), "")


@several_cores
@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"cpu.max": "150000 100000"}, "a limit of 1.5 CPUs"),
        ({"cpu.max": "max 100000"}, ""),
        ({"cpu.max": "100000000 100000"}, ""),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, "a limit of 0.5 CPUs"),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ""),
        ({}, ""),
    ],
)
def test_where_a_limit_shows_that_others_use_the_cores_they_are_left_alone(
    files: dict[str, str], problem: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    cores, found = usable_cores(tmp_path, tmp_path)
    assert found.startswith(problem) and bool(found) == bool(problem)
    assert cores == (() if problem else tuple(ALLOWED))


@pytest.fixture
def pinned_process() -> Iterator[int]:
    """A process that has pinned itself to the first core."""
    code = f"import os; os.sched_setaffinity(0, [{ALLOWED[0]}]); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


@several_cores
@pytest.mark.parametrize("command_line", [b"qemu", b""], ids=["program", "thread of the kernel"])
def test_cores_that_somebody_is_pinned_to_are_left_out(
    command_line: bytes, pinned_process: int, tmp_path: Path
) -> None:
    for pid in (pinned_process, os.getpid()):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(command_line)
    assert usable_cores(tmp_path, tmp_path) == (tuple(ALLOWED[1:] if command_line else ALLOWED), "")


def test_all_threads_are_pinned_and_those_that_follow() -> None:
    code = (
        "import os, threading\n"
        "from cluster.cores import pin_here\n"
        "def cores(): found.append(os.sched_getaffinity(0))\n"
        "found, wait = [], threading.Event()\n"
        "early = threading.Thread(target=lambda: (wait.wait(), cores()))\n"
        "early.start()\n"
        f"pin_here([{ALLOWED[-1]}])\n"
        "wait.set(); early.join(); cores()\n"
        "late = threading.Thread(target=cores)\n"
        "late.start(); late.join()\n"
        "print(found)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str([{ALLOWED[-1]}] * 3)
