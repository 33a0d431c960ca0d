"""A pool whose nodes go away, are full, or run out of memory: a Ray cluster of several nodes on this machine."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.actors import wait_for
from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.session import connect
from runs import ROOT
from squarers import ENVIRONMENT, Pool, Squarer

pytestmark = pytest.mark.full

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
LOSS_SECONDS = 120.0  # Ray takes a node for dead some 15 s after it was last heard of


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of a head and another node, with a CPU each, to which this process is connected."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        cluster.add_node(**NODE)
        with connect(ClusterConfig(address=cluster.address), num_cpus=2, environment={}):
            yield cluster
    finally:
        cluster.shutdown()


def far_worker(pool: Pool, nodes: Cluster) -> int:
    """The index of the first worker that does not run on the head."""
    where = wait_for([actor.node.remote() for actor in pool.group.actors], "nodes")
    return next(index for index, node in enumerate(where) if node != nodes.head_node.node_id)


def remove(nodes: Cluster, node: Any) -> None:
    """End a node as a machine that breaks does."""
    nodes.remove_node(node, allow_graceful=False)


def test_a_run_goes_on_with_fewer_workers_until_a_node_has_room(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ClusterConfig(resource_timeout_seconds=60, call_seconds=60, health_seconds=4, max_lost_workers=3)
    pool = Pool(tmp_path, config)
    far = far_worker(pool, nodes)
    remove(nodes, *nodes.worker_nodes)
    pool.work_until(lambda: len(missing(pool)) == 3, LOSS_SECONDS)
    first, second, third = missing(pool)
    assert first >= 4 and second >= 1.9 * first and third >= 1.9 * second, "it is said less and less often"
    assert pool.told(f"squarer {far} is still missing", "no node has room for it: needs 1 CPU, free 0 of 1)")
    assert pool.pool.num_lost == 1, "a newcomer that dies with the node, which Ray takes to live, is no further loss"

    os.kill(pool.pids[1 - far], signal.SIGKILL)  # one on a node that is there, while Ray looks for room for the other
    pool.work_until(lambda: f"squarer {1 - far} is back" in pool.said, LOSS_SECONDS)
    assert pool.pool.num_live == 1

    room = nodes.add_node(**NODE)
    pool.work_until(lambda: f"squarer {far} is back" in pool.said, LOSS_SECONDS)
    assert pool.pool.num_live == 2

    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")  # of the next node: Ray ends what runs there
    remove(nodes, room)
    nodes.add_node(**NODE)
    pool.work_until(lambda: pool.told("given up"), LOSS_SECONDS)
    assert re.search(r"killed due to the node running low on memory.* is given up; going on with 1 of 2", pool.said[-1])
    pool.close()


def test_where_no_worker_is_left_and_no_node_has_room_the_run_ends(nodes: Cluster, tmp_path: Path) -> None:
    here = "import ray; from cluster.config import ClusterConfig; from cluster.session import connect\n"
    here += "with connect(ClusterConfig(), num_cpus=5, environment={}): print(ray.cluster_resources()['CPU'])"
    found = subprocess.run([sys.executable, "-c", here], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == "5.0\n", f"a run on this machine has a Ray of its own: {found.stderr}"

    on_head = NodeAffinitySchedulingStrategy(node_id=nodes.head_node.node_id, soft=False)
    options = {"num_cpus": 1, "scheduling_strategy": on_head, "runtime_env": {"env_vars": ENVIRONMENT}}
    tenant = ray.remote(Squarer).options(**options).remote(str(tmp_path))  # leaves no room there
    ray.get(tenant.pid.remote())
    nodes.add_node(**NODE)
    config = ClusterConfig(resource_timeout_seconds=10, call_seconds=60, health_seconds=4)
    (tmp_path / "pool").mkdir()
    pool = Pool(tmp_path / "pool", config)
    for node in set(nodes.worker_nodes):
        remove(nodes, node)
    ends = r"no squarer is left, and no node had room for one within .* = 10: each needs 1 CPU, free 0 of 1\. Look at"
    with pytest.raises(ClusterError, match=ends):
        pool.work_until(lambda: False, LOSS_SECONDS)
    assert pool.told("is still missing", "needs 1 CPU, free 0 of 1); none is left until one has started"), pool.said


def missing(pool: Pool) -> list[int]:
    """After how many seconds it was said, each time, that no node has room."""
    said = [re.search(r"is still missing after (\d+) s \(no node has room", notice) for notice in pool.said]
    return [int(found[1]) for found in said if found]
