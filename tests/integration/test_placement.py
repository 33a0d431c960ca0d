"""Who sits where: real Ray nodes that say that they have GPUs, of which Ray keeps the books like those of real ones."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.actors import ActorGroup, wait_for
from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.session import connect
from medvie_rl.config import Config, load_config
from medvie_rl.layout import Layout, reserve
from runs import ROOT

NODE = {"num_cpus": 10, "num_gpus": 4, "object_store_memory": 80 * 2**20}
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent)}  # where the actors find the class below


class Sitter:
    """Says where it sits."""

    def seat(self) -> tuple[str, str]:
        return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def _nodes() -> Iterator[None]:
    """Two nodes with 4 GPUs each."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        cluster.add_node(**NODE)
        with connect(ClusterConfig(address=cluster.address), num_cpus=16, environment={}):
            yield
    finally:
        cluster.shutdown()


def config_with(*overrides: str) -> Config:
    settings = ("cluster.resource_timeout_seconds=30", "cluster.rollout_cpus=1", "cluster.learner_cpus=1")
    return load_config(ROOT / "conf" / "local.yaml", [*settings, *overrides])


def seats(group: ActorGroup, num: int) -> list[tuple[str, str]]:
    """(node, GPUs seen) of every actor."""
    group.start(Sitter, [()] * num, ENVIRONMENT)
    return wait_for([actor.seat.remote() for actor in group.actors], "actors")


def taken(config: Config) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The seats of engines and of ranks, which are given back."""
    said: list[str] = []
    layout: Layout = reserve(config, said.append)
    try:
        engines = seats(layout.rollouts, config.rollout.num_workers)
        ranks = seats(layout.learners, config.learner.num_ranks)
        seats(layout.rewards, 1)
    finally:
        for group in (layout.rollouts, layout.learners, layout.rewards):
            group.close()
        layout.reservation.close()
    return engines, ranks


@pytest.mark.usefixtures("_nodes")
def test_split_ranks_of_a_node_are_next_to_each_other_and_every_gpu_has_one_owner() -> None:
    config = config_with("cluster.layout=split", "learner.num_ranks=5", "rollout.num_workers=3")
    engines, ranks = taken(config)
    assert len({*engines, *ranks}) == 8, "eight actors, eight GPUs"
    nodes = [node for node, _ in ranks]
    assert nodes == sorted(nodes, key=nodes.index) and nodes.count(nodes[0]) == 4, "a node is filled before the next"


@pytest.mark.usefixtures("_nodes")
def test_split_an_engine_gets_all_its_gpus_on_one_node() -> None:
    overrides = ("rollout.tensor_parallel_size=2", "rollout.num_workers=2", "learner.num_ranks=4")
    engines, ranks = taken(config_with("cluster.layout=split", *overrides))
    assert [len(gpus.split(",")) for _, gpus in engines] == [2, 2]
    assert [gpus.split(",") == [gpus] for _, gpus in ranks] == [True] * 4
    owned = [(node, gpu) for node, gpus in [*engines, *ranks] for gpu in gpus.split(",")]
    assert len(set(owned)) == 8, "every GPU has one owner"
    assert len({node for node, _ in ranks}) == 1, "ranks that fit on a node are on one"


@pytest.mark.usefixtures("_nodes")
@pytest.mark.parametrize(("size", "num_engines"), [(1, 4), (2, 4), (2, 1)])
def test_colocated_every_gpu_of_an_engine_has_a_rank(size: int, num_engines: int) -> None:
    overrides = (f"rollout.tensor_parallel_size={size}", f"rollout.num_workers={num_engines}")
    ranks_of_engines = f"learner.num_ranks={size * num_engines}"
    engines, ranks = taken(config_with("cluster.layout=colocated", *overrides, ranks_of_engines))
    of_engines = [(node, gpu) for node, gpus in engines for gpu in gpus.split(",")]
    assert ranks == of_engines, "rank by rank, on the GPUs of engine by engine"
    assert len(set(of_engines)) == size * num_engines, "no GPU has two engines"


@pytest.mark.usefixtures("_nodes")
def test_what_is_missing_is_said() -> None:
    said: list[str] = []
    short = "cluster.resource_timeout_seconds=3"
    wide = config_with("cluster.layout=split", "learner.num_ranks=16", "rollout.num_workers=2", short)
    with pytest.raises(ClusterError, match=r"no room for 19 actors after 3 s: needs 18 GPU, free 8 of 8; needs"):
        reserve(wide, said.append)
    assert any("waiting for resources: needs 18 GPU, free 8 of 8" in notice for notice in said)
    tall = config_with("cluster.layout=split", "rollout.tensor_parallel_size=5", "rollout.num_workers=1", short)
    with pytest.raises(ClusterError, match="5 GPU of them on one node, of which none has more than 4"):
        reserve(tall, said.append)
