"""What the machine has: cores, memory, shared memory, disk, GPUs. Starts nothing but nvidia-smi."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from cluster.cores import cpu_quota
from cluster.memory import SHARED_MEMORY, free_shared_memory
from medvie_rl.doctor.expected import Expected
from medvie_rl.doctor.types import Finding
from medvie_rl.run_folder import output_folder

_GIB = 2**30
_SMI_SECONDS = 20.0
_RAY_FULL = 0.95  # of a disk: Ray then refuses to put objects on it (RAY_local_fs_capacity_threshold)
_MIN_TEMPORARY = _GIB  # Ray's logs and sockets, and what it moves there when its object store is full


def check_cores(expected: Expected) -> Finding:
    """Cores that this process may use, by its affinity and the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    usable = min(float(allowed), quota) if quota else float(allowed)
    limit = f", of {allowed} by the container's limit" if usable < allowed else ""
    found = f"{usable:g} cores{limit}"
    if usable >= expected.num_cores or expected.cluster.address:
        return Finding(status="ok", found=found)
    return Finding(
        status="warn",
        found=f"{found}; {expected.num_cores} threads would work at the same time",
        fix="medvie train ... rollout.num_workers=1 rollout.num_threads=1 learner.num_ranks=1 learner.num_threads=1",
    )


def check_memory(expected: Expected) -> Finding:
    """Memory that is free, within the limit of the container."""
    memory = psutil.virtual_memory()
    limit = _memory_limit()
    total = min(memory.total, limit) if limit else memory.total
    free = min(memory.available, total)
    found = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free >= expected.memory_bytes:
        return Finding(status="ok", found=found)
    return Finding(
        status="warn",
        found=f"{found}; the embedded policy's run takes {expected.memory_bytes / _GIB:.0f} GiB",
        fix="end other programs, or medvie train ... rollout.num_workers=1 learner.num_ranks=1",
    )


def _memory_limit(system: Path = Path("/sys")) -> int:
    """Bytes that the process's container may use, 0 where it has no limit (cgroups 2, then 1)."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (system / "fs/cgroup" / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return 0 if text == "max" or int(text) >= 2**60 else int(text)
    return 0


def check_shared_memory(expected: Expected, folder: Path = SHARED_MEMORY) -> Finding:
    """Room for the object store of a Ray that is started here."""
    free = free_shared_memory(folder)
    if free is None:
        return Finding(status="ok", found=f"no {folder}: Ray keeps its object store in files")
    needed = expected.cluster.object_store_mib * 2**20
    found = f"{free / _GIB:.1f} GiB free at {folder}"
    if expected.cluster.address or os.environ.get("RAY_ADDRESS"):
        return Finding(status="ok", found=f"{found} (object stores are those of the cluster's nodes)")
    found += f", {needed / _GIB:.1f} GiB for the object store"
    if free >= needed:
        return Finding(status="ok", found=found)
    lower = free // 2**20 // 2
    fix = f"sudo mount -o remount,size={2 * needed // 2**20}M {folder} (of a container: docker run --shm-size)"
    return Finding(
        status="fail", found=found, fix=f"{fix}, or cluster.object_store_mib={lower}" if lower >= 80 else fix
    )


def check_disk(expected: Expected) -> Finding:
    """Room where runs are kept, for the states that a run keeps there."""
    folder = output_folder(expected.output_dir)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            status="fail", found=f"no run can be written to {folder}", fix="medvie train ... output_dir=/another/folder"
        )
    free = shutil.disk_usage(there).free
    found = f"{free / _GIB:.1f} GiB free for {folder}"
    if expected.config_file:
        found += f", a run keeps about {expected.disk_bytes / _GIB:.1f} GiB there"
    if free >= expected.disk_bytes:
        return Finding(status="ok", found=found)
    return Finding(
        status="fail", found=found, fix="medvie train ... output_dir=/another/folder checkpoint.keep=1, or free space"
    )


def check_temporary(folder: Path | None = None) -> Finding:
    """Room for temporary files, Ray's among them."""
    folder = folder or Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Finding(status="fail", found=f"{folder} is no folder to write to", fix="export TMPDIR=/another/folder")
    usage = shutil.disk_usage(folder)
    full = 1 - usage.free / usage.total
    found = f"{usage.free / _GIB:.1f} GiB free at {folder}, {full:.0%} full"
    if full >= _RAY_FULL:
        fix = "free space, or export RAY_TMPDIR=/another/folder"
        return Finding(status="warn", found=f"{found}; above {_RAY_FULL:.0%} Ray puts no objects on a disk", fix=fix)
    if usage.free < _MIN_TEMPORARY:
        fix = "free space, or export TMPDIR=/another/folder RAY_TMPDIR=/another/folder"
        return Finding(status="warn", found=found, fix=fix)
    return Finding(status="ok", found=found)


def check_gpus(expected: Expected) -> Finding:
    """GPUs that nvidia-smi lists, their memory and their driver."""
    wanted = "" if not expected.num_gpus else f"; the configuration takes {expected.num_gpus}"
    elsewhere = bool(expected.cluster.address or os.environ.get("RAY_ADDRESS"))
    try:
        gpus = visible_gpus()
    except RuntimeError as error:
        needed = expected.num_gpus and not elsewhere
        return Finding(status="fail" if needed else "warn", found=str(error), fix="nvidia-smi, until it lists the GPUs")
    if gpus:
        kinds = ", ".join(f"{gpus.count(kind)} × {kind}" for kind in sorted(set(gpus)))
        found = f"{kinds}{wanted}"
    else:
        found = f"none{wanted}" if wanted else "none, and none is needed on CPUs"
    if len(gpus) >= expected.num_gpus:
        return Finding(status="ok", found=found)
    if elsewhere:
        return Finding(status="ok", found=f"{found}, of the cluster")
    return Finding(
        status="fail",
        found=found,
        fix="ray job submit to a cluster (docs/cluster.md); of a container: docker run --gpus all; without GPUs: "
        "medvie train --config conf/local.yaml",
    )


def visible_gpus() -> list[str]:
    """Name, memory and driver of every GPU that this process may use; none where there is no nvidia-smi. Raises
    RuntimeError if it does not work."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"nvidia-smi does not answer ({error})") from error
    if result.returncode:
        said = (result.stdout + result.stderr).strip().splitlines()
        raise RuntimeError(f"nvidia-smi does not work: {said[0] if said else f'exit code {result.returncode}'}")
    gpus = []
    for line in result.stdout.strip().splitlines():
        index, uuid, name, memory, driver = (part.strip() for part in line.split(","))
        if _is_visible(index, uuid):
            gpus.append(f"{name} ({memory}, driver {driver})")
    return gpus


def _is_visible(index: str, uuid: str) -> bool:
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return True
    return any(part.strip() == index or (part.strip() and uuid.startswith(part.strip())) for part in allowed.split(","))
