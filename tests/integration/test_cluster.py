"""Resources that are missing or taken end in an error that says what to do, on a real Ray."""

import os
import socket
from pathlib import Path

import psutil
import pytest
import ray

from cluster.actors import ActorGroup, wait_for
from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.placement import Bundle, Reservation
from cluster.session import connect
from runs import LOOPBACK, listening


class Worker:
    """Says who it is, or fails."""

    def __init__(self, name: str) -> None:
        self._name = name

    def describe(self) -> tuple[str, str]:
        return self._name, os.environ["MEDVIE_TEST"]

    def fail(self) -> None:
        raise ValueError(f"{self._name} failed")


def test_actors_start_with_their_environment_and_errors_keep_their_type() -> None:
    here = {"PYTHONPATH": str(Path(__file__).parent)}  # where the actors find the class above
    with connect(ClusterConfig(), num_cpus=2, environment=here):
        group = ActorGroup(Reservation([Bundle(cpus=1), Bundle(cpus=0.5)], timeout_seconds=60))
        group.start(Worker, [("a",), ("b",)], {"MEDVIE_TEST": "yes"})
        described = wait_for([actor.describe.remote() for actor in group.actors], "workers")
        assert described == [("a", "yes"), ("b", "yes")]
        with pytest.raises(ValueError, match="b failed"):
            wait_for([group.actors[1].fail.remote()], "a failure")

        with pytest.raises(ClusterError, match="needs 64 CPU, free"):
            ActorGroup(Reservation([Bundle(cpus=64)], timeout_seconds=1))

        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ClusterError, match=f"port {port} is in use"):
                group.meeting_point(port)
        address, port = group.meeting_point(0)
        assert address and 0 < port < 65536
        group.close()


def test_a_ray_of_our_own_listens_on_loopback_only() -> None:
    with connect(ClusterConfig(), num_cpus=1, environment={}):
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
        here = psutil.Process()
        found = listening([here, *here.children(recursive=True)])
    assert found and found <= LOOPBACK


def test_too_little_shared_memory_is_said_before_ray_starts() -> None:
    with (
        pytest.raises(ClusterError, match=r"too little shared memory.*cluster\.object_store_mib"),
        connect(ClusterConfig(object_store_mib=10**7), num_cpus=1, environment={}),
    ):
        pass


def test_a_dead_address_is_said() -> None:
    with (
        pytest.raises(ClusterError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"),
        connect(ClusterConfig(address="127.0.0.1:1"), num_cpus=1, environment={}),
    ):
        pass
