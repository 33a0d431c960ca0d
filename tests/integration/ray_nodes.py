"""Ray nodes on this machine, started as on machines of their own by `ray start`, and jobs that are submitted to them.

Each has an address of the loopback network, a raylet, an object store and worker processes of its own, and, where it is
`apart`, a mount namespace with shared memory and a folder for Ray that no other node sees. They share the kernel, the
network and all other folders, as nodes of a cluster share some.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from runs import ROOT, processes_titled

RAY = str(Path(sys.executable).with_name("ray"))
# The environment of a shell in which the virtual environment is active, on a cluster that wants a token.
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}

_MAX_STARTS = 3


class RayNodes:
    """A head node and further ones, in the foreground of child processes."""

    def __init__(
        self, folder: Path, *, num_cpus: int, apart: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the head. `environment` is added to that of all nodes."""
        self._folder, self._apart = folder, apart  # the folder is for their logs
        self._environment = ENVIRONMENT | dict(environment or {})
        self._temporary = Path("/tmp") / f"medvie-ray-{os.getpid()}"  # socket paths must be short
        self._temporary.mkdir(exist_ok=True)
        self._port, dashboard = free_port(), free_port()
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._start(
            num_cpus, "--head", f"--port={self._port}", f"--dashboard-port={dashboard}",
            "--dashboard-host=127.0.0.1", f"--temp-dir={self._temporary}",
        )  # fmt: skip

    def add(self, *, num_cpus: int) -> psutil.Process:
        """Start another node; the process that holds all of its processes."""
        return self._start(num_cpus, f"--address=127.0.0.1:{self._port}")

    def holding(self, title: str) -> list[psutil.Process]:
        """The nodes but for the head that run a process with this beginning of a title."""
        return [node for node in map(_process, self._nodes[1:]) if node and processes_titled(node, title)]

    def break_down(self, node: psutil.Process) -> None:
        """End all processes of a node at once, as when its power fails."""
        for process in [node, *node.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def submit(self, *options: str, job: list[str]) -> "subprocess.CompletedProcess[str]":
        """`ray job submit` of the working directory, until its job server answers."""
        for _ in range(60):
            result = self.ray("job", "submit", "--working-dir", ".", *options, "--", *job)
            if "Failed to connect" not in result.stderr and "ConnectionError" not in result.stderr:
                break
            time.sleep(1)
        return result

    def ray(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A `ray job` command for this cluster."""
        command = [RAY, *words[:2], "--address", self.dashboard, *words[2:]]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False, env=self._environment
        )

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self._nodes):
            node.terminate()
        for node in self._nodes:
            try:
                node.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.break_down(psutil.Process(node.pid))
                node.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _start(self, num_cpus: int, *options: str) -> psutil.Process:
        number = len(self._nodes)
        command = [
            RAY, "start", "--block", f"--num-cpus={num_cpus}", f"--node-ip-address=127.0.0.{number + 1}", *options,
            "--disable-usage-stats", "--object-store-memory=300000000", "--min-worker-port=0", "--max-worker-port=0",
            f"--dashboard-agent-listen-port={free_port()}",
        ]  # fmt: skip
        if self._apart:
            mounts = f"mount -t tmpfs none /dev/shm && mount -t tmpfs none {self._temporary}"
            command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]
        path = self._folder / f"node-{number}.log"
        for _ in range(_MAX_STARTS):  # Ray gives a node half a minute, which on a busy machine can be too little
            with path.open("wb") as log:
                node = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd="/", env=self._environment)
            while node.poll() is None:
                if b"Ray runtime started" in path.read_bytes():
                    self._nodes.append(node)
                    return psutil.Process(node.pid)
                time.sleep(0.2)
        raise AssertionError(f"a node did not start:\n{path.read_text(encoding='utf-8')[-2000:]}")


@contextmanager
def ray_nodes(
    folder: Path, *, num_cpus: int, apart: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[RayNodes]:
    """A head node with so many CPUs, and what is added to it, for the time of the context."""
    nodes = RayNodes(folder, num_cpus=num_cpus, apart=apart, environment=environment)
    try:
        yield nodes
    finally:
        nodes.close()


def can_be_apart() -> bool:
    """Whether this machine lets us give processes mounts of their own."""
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/dev/shm"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def free_port() -> int:
    """A port of the loopback network that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _process(node: "subprocess.Popen[bytes]") -> psutil.Process | None:
    return psutil.Process(node.pid) if node.poll() is None else None
