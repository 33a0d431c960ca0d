"""Which cores the actors of a node run on: those that work at the same time have none in common.

Nothing of a node is pinned where that could do harm: where its cores are too few, or are shared with somebody whose
threads run on any of them.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path

PIN_CORES = ("auto", "always", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCores:
    """The cores of a node that nobody else is pinned to, those next to each other that share the most."""

    node: str  # Ray's id
    name: str  # for people
    cores: tuple[int, ...]
    problem: str = ""  # why nothing can be pinned to them


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an actor runs."""

    node: str
    cores: tuple[int, ...]


def assign_cores(
    sides: Sequence[Sequence[int]], cores: Sequence[int], *, in_turns: bool
) -> list[list[tuple[int, ...]]] | None:
    """Cores of every actor of every side on one node, contiguous; None where the node has too few.

    `sides` are the numbers of threads of each side's actors. Sides that work in turns all begin at the first core,
    those that work at the same time have disjoint cores; the actors of one side always do.
    """
    assigned, start = [], 0
    for threads in sides:
        bounds = list(accumulate(threads, initial=start))
        if bounds[-1] > len(cores):
            return None
        assigned.append([tuple(cores[first:end]) for first, end in pairwise(bounds)])
        start = 0 if in_turns else bounds[-1]
    return assigned


def describe_places(names: Sequence[str], places: Sequence[Sequence[Place | None]]) -> str:
    """The cores of every side's actors, by number; a dash for those that are not pinned."""
    told = []
    for name, of_side in zip(names, places, strict=True):
        told.append(f"{name} {' | '.join(_listed(place.cores) if place else '-' for place in of_side)}")
    return f"cores: {'; '.join(told)}" if any(chain(*places)) else ""


def _listed(cores: Sequence[int]) -> str:
    if len(cores) > 1 and list(cores) == list(range(cores[0], cores[-1] + 1)):
        return f"{cores[0]}-{cores[-1]}"
    return ",".join(map(str, cores))


def pin_here(cores: Sequence[int]) -> None:
    """Let all threads of this process, and those that it will start, run on these cores only."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # it has just ended


def usable_cores(system: Path = Path("/sys"), processes: Path = Path("/proc")) -> tuple[tuple[int, ...], str]:
    """The cores that this process may pin threads to, and why it should not if so.

    Left out are those that another process is pinned to. In order: one hardware thread of each core before the second
    ones, node of memory by node of memory, by number.
    """
    if not hasattr(os, "sched_setaffinity"):
        return (), "this system has no core affinities"
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, allowed)
    except OSError as error:
        return (), f"core affinities are not allowed ({error})"
    quota = cpu_quota(system)
    if quota and quota < len(allowed):
        return (), f"a limit of {quota:g} CPUs on {len(allowed)} cores, which others use, too"
    free = allowed - _taken(allowed, processes)
    return tuple(sorted(free, key=lambda core: (*_position(core, system), core))), ""


def cpu_quota(system: Path = Path("/sys")) -> float:
    """CPUs that the process's container may use at a time, 0 where it has no limit."""
    folder = system / "fs/cgroup"
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # of cgroups 2, and of 1
        with contextlib.suppress(OSError):
            limit, period = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
            return 0.0 if limit in ("max", "-1") else int(limit) / int(period)
    return 0.0


def _taken(allowed: set[int], processes: Path) -> set[int]:
    """Cores that other processes have been pinned to. Threads of the kernel, which have no command line, do not count:
    it has some of its own for each core."""
    taken: set[int] = set()
    for folder in processes.glob("[0-9]*"):
        try:
            cores = os.sched_getaffinity(int(folder.name))
            if not cores >= allowed and (folder / "cmdline").read_bytes():
                taken |= cores & allowed
        except OSError:
            continue  # it has just ended
    return taken


def _position(core: int, system: Path) -> tuple[int, int]:
    """(which of its core's hardware threads this is, its node of memory)."""
    folder = system / f"devices/system/cpu/cpu{core}"
    try:
        siblings = _numbers((folder / "topology/thread_siblings_list").read_text(encoding="ascii"))
    except OSError:
        siblings = [core]
    nodes = [int(path.name.removeprefix("node")) for path in folder.glob("node[0-9]*")]
    return sorted(siblings).index(core), min(nodes, default=0)


def _numbers(listed: str) -> list[int]:
    """The numbers of a list such as 0-3,8."""
    found: list[int] = []
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
