"""Room for all actors of a run, taken at once or not at all: on which node each sits, and on which of its GPUs."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.errors import ClusterError

_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What is taken together, on one node."""

    cpus: float
    gpus: int = 0

    @property
    def resources(self) -> dict[str, float]:
        """As Ray names them."""
        return {"CPU": self.cpus} | ({"GPU": float(self.gpus)} if self.gpus else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What one actor uses of a bundle, by the bundle's index: GPUs of its own, or, by number within the bundle, GPUs
    that other actors use, too."""

    bundle: int
    cpus: float
    gpus: int = 0
    shared_gpus: tuple[int, ...] = ()


class Reservation:
    """Bundles that are taken together, on as few nodes as can be, until they are given back."""

    def __init__(
        self, bundles: Sequence[Bundle], *, timeout_seconds: float, notice: Callable[[str], None] = print
    ) -> None:
        """Wait for room, telling `notice` what is missing. Raises ClusterError, which says it, too, when there is none
        in that time."""
        self.bundles = tuple(bundles)
        self._group = _take([bundle.resources for bundle in bundles], timeout_seconds, notice)
        self._gpu_ids = cache(self._ask_gpu_ids)

    def seats(self) -> list[Seat]:
        """One seat a bundle, with all that it has."""
        return [Seat(bundle=index, cpus=bundle.cpus, gpus=bundle.gpus) for index, bundle in enumerate(self.bundles)]

    def nodes(self) -> list[str]:
        """Ray's id of the node of every bundle; empty while a bundle whose node is gone has no other."""
        of_bundle = placement_group_table(self._group)["bundles_to_node_id"]
        return [of_bundle[index] for index in range(len(self.bundles))]

    def by_node(self) -> list[int]:
        """The bundles, those of a node next to each other and the node that holds most of them first."""
        nodes = self.nodes()
        num = Counter(nodes)
        return sorted(range(len(nodes)), key=lambda index: (-num[nodes[index]], nodes[index], index))

    def missing(self, index: int) -> str:
        """What a bundle waits for whose node is gone, while no other has it; empty where it has a node."""
        return "" if self.nodes()[index] else missing_resources([self.bundles[index].resources])

    def options(self, seat: Seat) -> dict[str, Any]:
        """Options of the actor that takes a seat, its environment apart."""
        return {"num_cpus": seat.cpus, "num_gpus": seat.gpus} | self._at(seat.bundle)

    def environment(self, seat: Seat) -> dict[str, str]:
        """Variables that let an actor see the GPUs that it shares with others: Ray gives a GPU to one actor only, or
        parts of one, and cannot be told which of several."""
        if not seat.shared_gpus:
            return {}
        ids = self._gpu_ids(seat.bundle)
        return {"CUDA_VISIBLE_DEVICES": ",".join(ids[number] for number in seat.shared_gpus)}

    def beside(self, index: int, function: Callable[..., Any], *arguments: Any, gpus: int = 0) -> Any:
        """Reference to what a function returns that runs on the node of a bundle, in a process of its own."""
        options = {"num_cpus": 0, "num_gpus": gpus} | self._at(index)
        return ray.remote(function).options(**options).remote(*arguments)

    def close(self) -> None:
        """Give the bundles back. Ray ends what still runs in them."""
        remove_placement_group(self._group)

    def _ask_gpu_ids(self, index: int) -> list[str]:
        found: list[str] = ray.get(self.beside(index, _gpu_ids, gpus=self.bundles[index].gpus))
        return found

    def _at(self, index: int) -> dict[str, Any]:
        return {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=self._group, placement_group_bundle_index=index
            )
        }


def missing_resources(bundles: Sequence[Mapping[str, float]]) -> str:
    """What the bundles need, in all and on one node, beside what the cluster has."""
    parts = []
    free, total = ray.available_resources(), ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name in ("GPU", "CPU"):
        needed = sum(bundle.get(name, 0.0) for bundle in bundles)
        if not needed:
            continue
        parts.append(f"needs {needed:g} {name}, free {free.get(name, 0.0):g} of {total.get(name, 0.0):g}")
        largest = max(bundle.get(name, 0.0) for bundle in bundles)
        of_node = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if of_node < largest <= total.get(name, 0.0):
            parts.append(f"{largest:g} {name} of them on one node, of which none has more than {of_node:g}")
    return "; ".join(parts)


def _take(
    bundles: Sequence[Mapping[str, float]], timeout_seconds: float, notice: Callable[[str], None]
) -> PlacementGroup:
    group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
    deadline = time.monotonic() + timeout_seconds
    said = ""
    while not group.wait(timeout_seconds=_POLL_SECONDS):
        missing = missing_resources(bundles)
        if time.monotonic() > deadline:
            remove_placement_group(group)
            raise ClusterError(
                f"no room for {len(bundles)} actors after {timeout_seconds:.0f} s: {missing}. Add nodes, or lower the "
                "number of workers or their cluster.*_cpus"
            )
        if missing != said:
            notice(f"waiting for resources: {missing}")
            said = missing
    return group


def _gpu_ids() -> list[str]:
    return [str(number) for number in ray.get_gpu_ids()]
