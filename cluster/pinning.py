"""Deciding on which cores of which node every actor of a run works, and letting it work there."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import ray

from cluster.actors import ActorGroup, wait_for
from cluster.cores import NodeCores, Place, assign_cores, usable_cores


def plan_places(
    sides: Sequence[tuple[ActorGroup, int]], *, in_turns: bool
) -> tuple[list[list[Place | None]], list[str]]:
    """Where the actors of each side work, None where they are not pinned, and what to say about it.

    A side is a group and the threads of each of its actors. Sides that work at the same time, not `in_turns`, get
    disjoint cores of a node; one without enough cores for that is left as it is.
    """
    of_side = [group.nodes() for group, _ in sides]
    places: list[list[Place | None]] = [[None] * len(nodes) for nodes in of_side]
    why_not: dict[str, list[str]] = defaultdict(list)
    for found in _probe([group for group, _ in sides], of_side):
        here = [[index for index, node in enumerate(nodes) if node == found.node] for nodes in of_side]
        threads = [[num] * len(indices) for indices, (_, num) in zip(here, sides, strict=True)]
        cores = None if found.problem else assign_cores(threads, found.cores, in_turns=in_turns)
        if cores is None:
            why_not[found.problem or _too_few(threads, found.cores, in_turns)].append(found.name)
            continue
        for indices, of_actors, of_places in zip(here, cores, places, strict=True):
            for index, of_actor in zip(indices, of_actors, strict=True):
                of_places[index] = Place(node=found.node, cores=of_actor)
    return places, [f"cores are not pinned on {', '.join(nodes)}: {reason}" for reason, nodes in why_not.items()]


def _too_few(threads: Sequence[Sequence[int]], cores: Sequence[int], in_turns: bool) -> str:
    wanted = (max if in_turns else sum)(sum(side) for side in threads)
    return f"{wanted} threads work at the same time, but {len(cores)} cores are free"


def _probe(groups: Sequence[ActorGroup], of_side: Sequence[Sequence[str]]) -> list[NodeCores]:
    """The cores of every node that holds an actor."""
    asked: dict[str, Any] = {}
    for group, nodes in zip(groups, of_side, strict=True):
        for index, node in enumerate(nodes):
            if node not in asked:
                asked[node] = group.beside(index, _node_cores)
    return wait_for(list(asked.values()), "the nodes' cores")


def _node_cores() -> NodeCores:
    cores, problem = usable_cores()
    node = ray.get_runtime_context().get_node_id()
    return NodeCores(node=node, name=ray.util.get_node_ip_address(), cores=cores, problem=problem)
