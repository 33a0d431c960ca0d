"""Connecting to Ray: a cluster by address, the cluster of a submitted job, or a Ray of our own on this machine."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.memory import SHARED_MEMORY, free_shared_memory

_ANSWER_SECONDS = 10.0


@contextmanager
def connect(
    config: ClusterConfig,
    *,
    num_cpus: float,
    environment: Mapping[str, str],
    num_gpus: float = 0.0,
    verbose: bool = False,
) -> Iterator[None]:
    """Ray for the time of a run. `environment` reaches every actor; `num_cpus` is what the run's actors need together.
    `verbose` shows what Ray and all actors log.

    Raises ClusterError, with what to do, if shared memory is too small for the object store or the address is dead.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    runtime_env = {"env_vars": dict(environment)}
    logs = {"log_to_driver": verbose, "logging_level": "info" if verbose else "error"}
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if address:
        _check_answers(address, "cluster.address" if config.address else "RAY_ADDRESS")
        with _keeping_signals():
            ray.init(address=address, runtime_env=runtime_env, **logs)
    else:
        _check_gpus(num_gpus)
        store = config.object_store_mib * 2**20
        _check_shared_memory(store)
        with _keeping_signals(), _listening_on_loopback():
            ray.init(
                address="local",  # else it joins whatever else runs on this machine
                num_cpus=config.local_cpus or max(1, int(num_cpus + 0.999)),
                object_store_memory=store,
                include_dashboard=False,
                runtime_env=runtime_env,
                **logs,
            )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Ray's own handler of SIGTERM, which it installs when it starts, ends the process by abort()."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _listening_on_loopback() -> Iterator[None]:
    """A Ray that is started inside is reached from this machine only.

    Told an address of loopback, it takes the machine's own all the same, unless it is on a system without clusters.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check_gpus(needed: float) -> None:
    if needed and (found := _num_gpus_here()) < needed:
        raise ClusterError(
            f"needs {needed:g} GPUs, this machine has {found}: submit the run to a cluster, or choose a "
            "configuration for this machine, such as conf/local.yaml"
        )


def _num_gpus_here() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def _check_answers(address: str, source: str) -> None:
    """Ray itself waits for minutes for an address that is dead."""
    if address.startswith("http"):
        raise ClusterError(
            f"{source}: '{address}' is the address of a job server, which `ray job submit` wants; a run takes a "
            "cluster's own address, or none to run on this machine"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and the like: Ray finds it
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"{source}: no Ray cluster answers at '{address}' ({error}). Start one with `ray start --head`, or leave "
            f"{source} empty to run on this machine"
        ) from error


def _check_shared_memory(needed: int) -> None:
    free = free_shared_memory()
    if free is not None and free < needed:
        raise ClusterError(
            f"too little shared memory: {SHARED_MEMORY} has {free / 2**20:.0f} MiB free, the object store needs "
            f"{needed / 2**20:.0f} MiB. Lower cluster.object_store_mib, free space there, or give a container more "
            "(docker run --shm-size)"
        )
