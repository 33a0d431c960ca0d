"""The same configuration through Ray's job API gives the metrics of the direct run."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs import ROOT, SMALL, metrics_of, only_run, summary_of, without_times

RAY = str(Path(sys.executable).with_name("ray"))
# The environment of a shell in which the virtual environment is active, on a cluster that wants a token.
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the job server of a head node on loopback, which runs in the foreground of a child process."""
    port, dashboard = free_port(), free_port()
    temporary = Path("/tmp") / f"medvie-ray-{os.getpid()}"  # socket paths must be short
    command = [
        RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=3",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={temporary}",
        "--disable-usage-stats", "--object-store-memory=300000000", "--min-worker-port=0", "--max-worker-port=0",
        f"--dashboard-agent-listen-port={free_port()}",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("head") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd="/", env=ENVIRONMENT)
    try:
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(temporary, ignore_errors=True)


def test_a_submitted_job_equals_the_direct_run(head: str, small_run: Path, tmp_path: Path) -> None:
    submit = [RAY, "job", "submit", "--address", head, "--working-dir", ".", "--"]
    job = ["python", "-m", "medvie_rl", "train", "--config", "conf/local.yaml", f"output_dir={tmp_path}", *SMALL]
    for _ in range(60):  # until the job server of the new head answers
        result = subprocess.run(
            [*submit, *job], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT
        )
        if "Failed to connect" not in result.stderr and "ConnectionError" not in result.stderr:
            break
        time.sleep(1)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-6000:]
    assert re.search(r"step 6/6 .*validation F1", result.stdout), "progress must be readable in the job's log"
    folder = only_run(tmp_path)
    assert without_times(metrics_of(folder)) == without_times(metrics_of(small_run))
    assert summary_of(folder) == summary_of(small_run)
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["num_steps"] == 6
