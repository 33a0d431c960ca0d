"""What is checked by importing and starting things: `python -m medvie_rl.doctor.probes NAME SETTINGS`, a process each.

SETTINGS is a JSON object: `num_gpus` that nvidia-smi lists, `config` and `overrides` that a run would start with, or
none, `start`, false for an import alone.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from medvie_rl.config import Config, load_config
from medvie_rl.doctor.child import REINSTALL, print_finding
from medvie_rl.doctor.types import Finding
from medvie_rl.environment import is_verbose, run_environment, set_environment
from medvie_rl.errors import UserError
from rollout.config import RolloutConfig, worker_environment

_MEND = "python -m medvie_rl.install"
_RAY_SECONDS = 120.0
_RAY_LOGS = "tail /tmp/ray/session_latest/logs/*.err"


def probe_torch(settings: dict[str, Any]) -> Finding:
    """The build, and, on GPUs, one product on each of them."""
    import torch

    cuda = torch.version.cuda
    found = f"{torch.__version__}, built for {f'CUDA {cuda}' if cuda else 'CPUs'}, {torch.get_num_threads()} threads"
    num_gpus = settings["num_gpus"]
    if not num_gpus:
        return Finding(status="ok", found=found)
    if not cuda:
        return Finding(status="fail", found=f"{found}, beside {num_gpus} GPUs", fix=REINSTALL)
    try:
        for index in range(num_gpus):
            square = torch.ones(64, 64, device=f"cuda:{index}")
            if (square @ square).sum().item() != 64**3:
                raise RuntimeError(f"cuda:{index} multiplies wrongly")
    except (RuntimeError, AssertionError) as error:
        return Finding(status="fail", found=f"{found}: {_first_line(error)}", fix="nvidia-smi; update its driver")
    return Finding(status="ok", found=f"{found}, computes on {num_gpus} GPUs")


def probe_torchvision(settings: dict[str, Any]) -> Finding:
    """Its Python part, which image processors need; it does not import beside a CPU torch without our hook."""
    try:
        import torch
        import torchvision
    except Exception as error:  # RuntimeError, mostly: operator torchvision::nms does not exist
        return Finding(status="fail", found=_first_line(error), fix=_MEND)
    try:
        boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
        torchvision.ops.nms(boxes, scores, 0.5)
        operators = "with its operators"
    except (RuntimeError, NotImplementedError):
        operators = "without its C++ operators, which nothing here needs"
    return Finding(status="ok", found=f"{torchvision.__version__}, {operators}")


def probe_transformers(settings: dict[str, Any]) -> Finding:
    """The policies' classes, and that the library would stay offline in a run."""
    try:
        import huggingface_hub.constants
        import transformers
        from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor  # noqa: F401
    except Exception as error:  # whatever an import of its many parts raises
        return Finding(status="fail", found=_first_line(error), fix=_MEND)
    offline = bool(huggingface_hub.constants.HF_HUB_OFFLINE)
    if offline == _config(settings)[1]:
        return Finding(status="fail", found=f"offline is {offline} in spite of HF_HUB_OFFLINE", fix=REINSTALL)
    told = "offline" if offline else "downloads allowed"
    return Finding(status="ok", found=f"{transformers.__version__} with Qwen2.5-VL, {told}")


def probe_deepspeed(settings: dict[str, Any]) -> Finding:
    """The accelerator that it takes, and the backend that its ranks would talk by."""
    num_gpus = settings["num_gpus"]
    if not num_gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import torch.distributed

    name = deepspeed.get_accelerator().device_name()
    backend = "nccl" if num_gpus else "gloo"
    found = f"{deepspeed.__version__} on {name}, ranks talk by {backend}"
    if name != ("cuda" if num_gpus else "cpu") or not torch.distributed.is_backend_available(backend):
        return Finding(status="fail", found=f"{found}, which is not right for {num_gpus} GPUs", fix=REINSTALL)
    return Finding(status="ok", found=found)


def probe_vllm(settings: dict[str, Any]) -> Finding:
    """The platform that engines would run on, and that it reports nothing."""
    os.environ.update(worker_environment(RolloutConfig()))
    import vllm
    from vllm import LLM  # noqa: F401
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import is_usage_stats_enabled

    wanted = "cuda" if settings["num_gpus"] else "cpu"
    platform = current_platform.device_type or "no platform"
    found = f"{vllm.__version__} on {platform}"
    if platform != wanted:
        return Finding(status="fail", found=f"{found}; this machine wants {wanted}", fix=REINSTALL)
    if is_usage_stats_enabled():
        return Finding(status="fail", found=f"{found}, and reports its usage", fix="export VLLM_NO_USAGE_STATS=1")
    return Finding(status="ok", found=found)


def probe_ray(settings: dict[str, Any]) -> Finding:
    """Starts Ray as a run does, or joins the cluster that a run would join, runs a task, and leaves nothing behind."""
    import psutil
    import ray

    if not settings["start"]:
        return Finding(status="ok", found=ray.__version__)
    from cluster.errors import ClusterError
    from cluster.session import connect

    config, allow_downloads = _config(settings)
    cluster = config.cluster if config else ClusterConfig()
    environment = run_environment(allow_downloads=allow_downloads)
    address = cluster.address or os.environ.get("RAY_ADDRESS", "")
    started = time.monotonic()
    try:
        with connect(cluster, num_cpus=1, environment=environment, verbose=is_verbose()):
            seconds = time.monotonic() - started
            task = ray.remote(num_cpus=0)(_ask)
            got = ray.get(task.remote(tuple(environment)), timeout=_RAY_SECONDS)
            of_cluster = _describe_cluster(config) if address else ("", "")
    except ClusterError as error:
        start = "ray start --head, or RAY_ADDRESS= medvie doctor ... cluster.address="
        return Finding(status="fail", found=str(error), fix=start if address else "medvie train ... "
                       "cluster.object_store_mib=80")  # fmt: skip
    except Exception as error:  # of which Ray has many kinds
        return Finding(status="fail", found=_first_line(error), fix=_RAY_LOGS)
    if got != environment:
        return Finding(status="fail", found="a task did not get the variables of a run", fix=_RAY_LOGS)
    if address:
        found, missing = of_cluster
        told = f"{ray.__version__}, cluster at {address}: {found}"
        fix = "add nodes, or lower rollout.num_workers and learner.num_ranks"
        return Finding(status="fail" if missing else "ok", found=told + missing, fix=fix if missing else "")
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=20)
    if alive:
        pids = " ".join(str(process.pid) for process in alive)
        return Finding(status="warn", found=f"{ray.__version__}: processes outlive its end", fix=f"kill {pids}")
    return Finding(status="ok", found=f"{ray.__version__}, started in {seconds:.1f} s, ran a task, and stopped")


def _ask(names: tuple[str, ...]) -> dict[str, str]:
    """The variables as a task sees them."""
    return {name: os.environ.get(name, "") for name in names}


def _describe_cluster(config: Config | None) -> tuple[str, str]:
    """What a cluster has, and what of it a run with this configuration would miss."""
    import ray

    from cluster.placement import missing_resources
    from medvie_rl.layout import bundles_of

    total = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    found = f"{nodes} node{'' if nodes == 1 else 's'}, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    if config is None:
        return found, ""
    bundles = [bundle.resources for of_kind in bundles_of(config) for bundle in of_kind]
    bundles.append({"CPU": config.cluster.reward_cpus})
    short = [name for name in ("CPU", "GPU") if sum(one.get(name, 0) for one in bundles) > total.get(name, 0)]
    return found, f"; {missing_resources(bundles)}" if short else ""


PROBES: dict[str, Callable[[dict[str, Any]], Finding]] = {
    "torch": probe_torch,
    "torchvision": probe_torchvision,
    "transformers": probe_transformers,
    "DeepSpeed": probe_deepspeed,
    "vLLM": probe_vllm,
    "Ray": probe_ray,
}


def main(name: str, text: str) -> None:
    """Run one probe, print what it finds."""
    settings = json.loads(text)
    set_environment(allow_downloads=_config(settings)[1])
    try:
        finding = PROBES[name](settings)
    except Exception as error:  # an import that does not work is what this is for
        if is_verbose():
            raise
        finding = Finding(status="fail", found=_first_line(error), fix=REINSTALL)
    print_finding(finding)


def _config(settings: dict[str, Any]) -> tuple[Config | None, bool]:
    """The configuration, if there is one that can be used, and whether it allows downloads."""
    if not settings["config"]:
        return None, False
    try:
        config = load_config(Path(settings["config"]), settings["overrides"])
    except UserError:
        return None, False  # has a line of its own
    return config, config.allow_downloads


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


if __name__ == "__main__":
    main(*sys.argv[1:])
