"""`medvie doctor` on this machine: it imports, and starts, what a run would; what is broken costs its own line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from medvie_rl.doctor.child import run_child
from runs import ROOT

_SECONDS = 900
_MARK = "MEDVIE_TEST_DOCTOR"  # in the environment of all processes of one doctor
_PYTHON = [sys.executable, "-m", "medvie_rl"]


def environment(**changes: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MEDVIE_VERBOSE")}
    return plain | changes


@pytest.mark.full
def test_this_machine_is_fit(tmp_path: Path) -> None:
    command = [*_PYTHON, "doctor", "--json", "--config", "conf/local.yaml", f"output_dir={tmp_path}"]
    marked = environment(**{_MARK: str(tmp_path)})
    result = subprocess.run(
        command, cwd=ROOT, env=marked, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.returncode == 0, result.stdout
    for name in ("configuration", "Python", "torch", "torchvision", "transformers", "DeepSpeed", "vLLM", "Ray"):
        assert checks[name]["status"] == "ok"
    assert checks["Ray"]["found"].endswith("ran a task, and stopped")
    assert "offline" in checks["transformers"]["found"] and checks["vLLM"]["found"].split(" on ")[1] in ("cpu", "cuda")
    deadline = time.monotonic() + 30
    while left := processes_marked(str(tmp_path)):
        assert time.monotonic() < deadline, f"processes outlive the doctor: {left}"
        time.sleep(0.5)


@pytest.mark.full
def test_a_doctor_that_is_stopped_ends_what_it_started() -> None:
    process = subprocess.Popen([*_PYTHON, "doctor"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    doctor = psutil.Process(process.pid)
    deadline = time.monotonic() + _SECONDS
    while not (children := [child for child in doctor.children() if "medvie_rl.doctor.probes" in child.cmdline()]):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert output.startswith("ok    Python ")  # lines come as checks end
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_cluster_that_does_not_answer_is_a_line() -> None:
    found = probe("Ray", RAY_ADDRESS="127.0.0.1:1")
    assert (found["status"], found["fix"]) == (
        "fail",
        "ray start --head, or RAY_ADDRESS= medvie doctor ... cluster.address=",
    )
    assert "RAY_ADDRESS: no Ray cluster answers at '127.0.0.1:1'" in found["found"]


@pytest.mark.full
def test_a_cluster_has_what_a_configuration_takes_or_not() -> None:
    """One node that says that it has GPUs, of which Ray keeps the books like those of real ones."""
    node = {"num_cpus": 10, "num_gpus": 4, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    address = str(cluster.address)
    try:
        settings = ["cluster.layout=split", "rollout.num_workers=2"]
        fits = probe("Ray", overrides=[*settings, "learner.num_ranks=2"], RAY_ADDRESS=address)
        too_large = probe("Ray", overrides=[*settings, "learner.num_ranks=4"], RAY_ADDRESS=address)
    finally:
        cluster.shutdown()
    assert fits["status"] == "ok"
    assert fits["found"].endswith(f"cluster at {address}: 1 node, 10 CPUs, 4 GPUs")
    assert too_large["status"] == "fail" and "needs 6 GPU, free 4 of 4" in too_large["found"]


@pytest.mark.full
def test_an_object_store_that_ray_does_not_start_with_is_a_line() -> None:
    found = probe("Ray", overrides=["cluster.object_store_mib=10000000"])
    assert found["status"] == "fail" and "too little shared memory" in found["found"]


@pytest.mark.full
def test_torchvision_without_the_hook() -> None:
    """Beside a CPU torch, PyPI's torchvision does not import in an interpreter without our finder."""
    code = (
        "import sys\n"
        "sys.meta_path[:] = [one for one in sys.meta_path if getattr(one, '__name__', '') != '_TorchvisionFinder']\n"
        "from medvie_rl.doctor.probes import main\n"
        """main('torchvision', '{"config": "", "overrides": [], "num_gpus": 0, "start": false}')"""
    )
    found = run_child([sys.executable, "-c", code], 300)
    if found.status == "ok" and "with its operators" in found.found:
        pytest.skip("torchvision fits torch here, and needs no hook")
    assert found.status == "fail" and "torchvision::nms" in found.found
    assert found.fix == "python -m medvie_rl.install"


def processes_marked(mark: str) -> list[str]:
    found = psutil.process_iter(["environ", "cmdline"])
    return [" ".join(one.info["cmdline"] or []) for one in found if (one.info["environ"] or {}).get(_MARK) == mark]


def probe(name: str, *, overrides: list[str] | None = None, **variables: str) -> dict[str, str]:
    """The finding of one probe that is run as the doctor runs it."""
    settings = {"config": "conf/local.yaml", "overrides": overrides or [], "num_gpus": 0, "start": True}
    command = [sys.executable, "-m", "medvie_rl.doctor.probes", name, json.dumps(settings)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=_SECONDS, check=True
    )
    found: dict[str, str] = json.loads(result.stdout.split("medvie-finding ")[-1])
    return found
