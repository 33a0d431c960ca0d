"""Job files of cluster/: the strictest validators that run offline; each command parsed by the program it is for."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from medvie_rl.cli import main
from medvie_rl.environment import run_environment
from rollout.config import RolloutConfig, worker_environment

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
RAYJOB, POLICY = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text(encoding="utf-8"))
RAYCLUSTER = RAYJOB["spec"]["rayClusterSpec"]
LAUNCHER = yaml.safe_load((CLUSTER / "launcher.yaml").read_text(encoding="utf-8"))
IMAGE_ROOT = "/opt/medvie-rl"
# What every process of a run gets from us, so that job files set for Ray's own processes, too.
QUIET = {
    name: value
    for name, value in (run_environment(allow_downloads=False) | worker_environment(RolloutConfig())).items()
    if name in ("RAY_USAGE_STATS_ENABLED", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")
    or name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE")
}
# The fields that KubeRay documents for ray.io/v1 at each place, without some that came late; pod templates are checked
# by the schemas of Kubernetes.
KUBERAY_FIELDS = {
    "spec": {
        "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
        "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
        "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
        "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
    },
    "rayClusterSpec": {
        "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
        "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
    },
    "headGroupSpec": {"enableIngress", "headService", "rayStartParams", "serviceType", "template"},
    "workerGroupSpecs": {
        "groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas", "scaleStrategy",
        "template",
    },
}  # fmt: skip


def pod_templates() -> dict[str, dict[str, Any]]:
    return {
        "submitter": RAYJOB["spec"]["submitterPodTemplate"],
        "head": RAYCLUSTER["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in RAYCLUSTER["workerGroupSpecs"]},
    }


def tool(name: str) -> str:
    """A program of the development environment; a test that needs it is skipped where it is not installed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed: make setup-dev")


# --- Kubernetes -----------------------------------------------------------------------------------------------------


def test_the_pods_and_the_network_policy_follow_the_schemas_of_kubernetes() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate: make setup-dev")
    newest = kubernetes.latest_version()
    kubernetes.validate(POLICY, newest, strict=True)
    for name, template in pod_templates().items():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
        kubernetes.validate(pod, newest, strict=True)
    misspelt = json.loads(json.dumps(POLICY))
    misspelt["spec"]["egres"] = misspelt["spec"].pop("egress")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(misspelt, newest, strict=True)


def test_the_ray_job_has_only_fields_that_kuberay_knows_with_values_of_their_types() -> None:
    assert (RAYJOB["apiVersion"], RAYJOB["kind"]) == ("ray.io/v1", "RayJob")
    assert set(RAYJOB) == {"apiVersion", "kind", "metadata", "spec"}
    spec, head = RAYJOB["spec"], RAYCLUSTER["headGroupSpec"]
    assert set(spec) <= KUBERAY_FIELDS["spec"]
    assert set(RAYCLUSTER) <= KUBERAY_FIELDS["rayClusterSpec"]
    assert set(head) <= KUBERAY_FIELDS["headGroupSpec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert set(spec["submitterConfig"]) == {"backoffLimit"}
    assert RAYCLUSTER["authOptions"] == {"mode": "token"}
    for field in ("backoffLimit", "ttlSecondsAfterFinished"):
        assert type(spec[field]) is int and spec[field] > 0
    for field in ("suspend", "shutdownAfterJobFinishes"):
        assert type(spec[field]) is bool
    for group in RAYCLUSTER["workerGroupSpecs"]:
        assert set(group) <= KUBERAY_FIELDS["workerGroupSpecs"]
        assert {"groupName", "rayStartParams", "template"} <= set(group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *RAYCLUSTER["workerGroupSpecs"]):
        assert all(type(value) is str for value in group["rayStartParams"].values())
        assert_ray_start_parses([f"--{name}={value}" for name, value in group["rayStartParams"].items()])


def test_the_ray_job_names_the_ray_that_is_installed() -> None:
    assert RAYCLUSTER["rayVersion"] == version("ray")


def test_the_entrypoint_is_a_run_that_the_workers_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint = RAYJOB["spec"]["entrypoint"]
    assert not re.search(r"[;&|<>$`\n]", entrypoint), "KubeRay puts this line into a script of its own"
    plan = plan_of(shlex.split(entrypoint), capsys)
    gpus, cpus = re.search(r"Layout .*, (\d+) GPUs, ([\d.]+) CPUs", plan).groups()
    offered = [
        (group["replicas"], container["resources"]["limits"])
        for group in RAYCLUSTER["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
    ]
    assert sum(count * int(limits["nvidia.com/gpu"]) for count, limits in offered) == int(gpus)
    assert sum(count * int(limits["cpu"]) for count, limits in offered) >= float(cpus)
    assert "--resume-if-exists /" in entrypoint, "a retried job must go on with its run"


def plan_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What our own command line makes of a job's command."""
    assert command[:4] == ["exec", "python", "-m", "medvie_rl"]
    assert main([*command[4:], "--dry-run"]) == 0
    return capsys.readouterr().out


def test_pods_run_without_privileges_and_with_what_they_need() -> None:
    for name, template in pod_templates().items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(pod), name
        assert all("hostPath" not in volume for volume in pod.get("volumes", ())), name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, name
            assert container["resources"]["requests"] == container["resources"]["limits"], name
            assert all("hostPort" not in port for port in container.get("ports", ())), name
            assert not re.search(r":latest$|^[^:]+$", container["image"]), "an image without a version"
    for name in ("head", "gpu"):
        pod = pod_templates()[name]["spec"]
        (container,) = pod["containers"]
        assert container["workingDir"] == IMAGE_ROOT
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        memory = volumes[mounts["/dev/shm"]]["emptyDir"]
        assert memory["medium"] == "Memory" and gib(memory["sizeLimit"]) < gib(
            container["resources"]["limits"]["memory"]
        )
        assert "persistentVolumeClaim" in volumes[mounts["/shared"]]


def gib(quantity: str) -> int:
    assert quantity.endswith("Gi"), quantity
    return int(quantity.removesuffix("Gi"))


def test_the_probes_ask_what_ray_answers_without_a_token() -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT, DEFAULT_DASHBOARD_PORT
    from ray.dashboard import http_server_agent

    source = Path(http_server_agent.__file__)
    answered = {
        DEFAULT_DASHBOARD_PORT: source.with_name("http_server_head.py").read_text(encoding="utf-8"),
        DEFAULT_DASHBOARD_AGENT_LISTEN_PORT: source.read_text(encoding="utf-8"),
    }
    for name in ("head", "gpu"):
        (container,) = pod_templates()[name]["spec"]["containers"]
        for probe in ("readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert f'"{asked["path"]}",' in answered[asked["port"]], (name, probe)


def test_the_dashboard_is_reached_by_the_operator_and_the_pods_of_the_job_only() -> None:
    head = RAYCLUSTER["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP" and "enableIngress" not in head and "headService" not in head
    label = {"matchLabels": RAYJOB["metadata"]["labels"]}
    assert POLICY["spec"]["podSelector"] == label
    assert all(template["metadata"]["labels"] == label["matchLabels"] for template in pod_templates().values())
    assert POLICY["spec"]["policyTypes"] == ["Ingress", "Egress"]
    peers, operator = POLICY["spec"]["ingress"]
    assert peers == {"from": [{"podSelector": label}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    peers, names = POLICY["spec"]["egress"]
    assert peers == {"to": [{"podSelector": label}]}
    assert {port["port"] for port in names["ports"]} == {53}


# --- Ray's cluster launcher -----------------------------------------------------------------------------------------


def test_the_launcher_file_follows_rays_own_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray notes the machines of a local cluster there
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(LAUNCHER))
    with pytest.raises(ValidationError):
        validate_config(prepare_config(LAUNCHER | {"head_start_commands": []}))
    assert LAUNCHER["max_workers"] == len(LAUNCHER["provider"]["worker_ips"])


def test_the_launcher_starts_ray_on_loopback_with_a_token() -> None:
    for kind in ("head", "worker"):
        stop, start = LAUNCHER[f"{kind}_start_ray_commands"]
        assert stop.endswith("ray stop")
        checked = subprocess.run(["bash", "-n", "-c", start], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "RAY_AUTH_MODE=token" in start
        arguments = shlex.split(start[start.index("ray start") :].replace("$RAY_HEAD_IP", "192.0.2.10"))
        assert_ray_start_parses(arguments[2:])
    head = LAUNCHER["head_start_ray_commands"][1]
    assert "--dashboard-host=127.0.0.1" in head and "RAY_JOB_STOP_WAIT_TIME_S=" in head


def assert_ray_start_parses(arguments: list[str]) -> None:
    """By Ray's own command line, which starts nothing here."""
    from ray.scripts.scripts import start

    start.make_context("start", list(arguments))


# --- the image ------------------------------------------------------------------------------------------------------


def instructions() -> Iterator[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined, comments left out."""
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for line in filter(None, re.sub(r"\\\n\s*", "", text).splitlines()):
        name, _, rest = line.partition(" ")
        yield name, rest


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    checked = subprocess.run(
        [tool("hadolint"), "--no-color", "--failure-threshold", "style", str(CLUSTER / "Dockerfile")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_image_has_what_the_jobs_expect() -> None:
    found = list(instructions())
    assert [rest for name, rest in found if name == "USER"][-1].split(":")[0] == "1000"
    assert [rest for name, rest in found if name == "WORKDIR"] == [IMAGE_ROOT]
    python, cuda = (rest.split()[0] for name, rest in found if name == "FROM")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert python.startswith("python:3.11-") and requires == ">=3.11,<3.12"
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-[a-z]+-ubuntu\d\d\.04", cuda)
    assert any("pip install" in rest and '-c constraints.txt -e ".[gpu]"' in rest for name, rest in found)
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv", "data", "runs", "wandb", ".env*"} <= set(ignored)
    assert not {"conf", "medvie_rl", "cluster", "constraints.txt", "pyproject.toml", "README.md"} & set(ignored)


# --- what all of them say -------------------------------------------------------------------------------------------


def test_every_job_file_switches_reports_and_downloads_off() -> None:
    assert QUIET == {
        "RAY_USAGE_STATS_ENABLED": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    for name, template in pod_templates().items():
        for container in template["spec"]["containers"]:
            values = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert values.items() >= QUIET.items(), name
    image = dict(
        setting.split("=", 1) for name, rest in instructions() if name == "ENV" for setting in shlex.split(rest)
    )
    assert image.items() >= QUIET.items()
    slurm = (CLUSTER / "slurm.sh").read_text(encoding="utf-8")
    for text in (slurm, LAUNCHER["head_start_ray_commands"][1], LAUNCHER["worker_start_ray_commands"][1]):
        for variable, value in QUIET.items():
            assert f"{variable}={value}" in text


def test_rays_variables_in_the_job_files_are_those_that_ray_reads() -> None:
    package = Path(find_spec("ray").origin).parent
    read_in = {
        "RAY_ADDRESS": "_private/ray_constants.py",
        "RAY_AUTH_MODE": "_private/authentication/authentication_token_setup.py",
        "RAY_AUTH_TOKEN": "_private/runtime_env/image_uri.py",
        "RAY_AUTH_TOKEN_PATH": "_private/runtime_env/image_uri.py",
        "RAY_HEAD_IP": "autoscaler/_private/util.py",
        "RAY_JOB_STOP_WAIT_TIME_S": "dashboard/modules/job/job_supervisor.py",
        "RAY_USAGE_STATS_ENABLED": "_common/usage/usage_constants.py",
    }
    texts = [path.read_text(encoding="utf-8") for path in CLUSTER.iterdir() if path.is_file() and path.suffix != ".py"]
    assert {name for text in texts for name in re.findall(r"\bRAY_[A-Z_]+\b", text)} == set(read_in)
    for name, file in read_in.items():
        assert name in (package / file).read_text(encoding="utf-8"), name
