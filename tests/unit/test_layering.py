"""No arrow back up: leaves import nothing of ours, light modules import nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAVES = ("rewards", "rollout", "learner", "cluster")
OURS = (*LEAVES, "medvie_rl")
HEAVY = {"vllm": "rollout", "deepspeed": "learner"}
LIGHT_MODULES = (
    "medvie_rl.bench.simulated",
    "medvie_rl.cli",
    "medvie_rl.config",
    "medvie_rl.data.queries",
    "medvie_rl.data.prompts",
    "medvie_rl.data.load",
    "medvie_rl.data.sampling",
    "medvie_rl.data.store",
    "medvie_rl.data.prompt_lengths",
    "medvie_rl.demonstrations",
    "medvie_rl.doctor.checks",
    "medvie_rl.doctor.probes",
    "medvie_rl.doctor.report",
    "medvie_rl.fit.command",
    "medvie_rl.fit.duration",
    "medvie_rl.fit.report",
    "medvie_rl.fit.scale",
    "medvie_rl.fit.scale_command",
    "medvie_rl.plan",
    "medvie_rl.rails",
    "medvie_rl.records",
    "medvie_rl.replay",
    "medvie_rl.report.page",
    "medvie_rl.rescore",
    "medvie_rl.rollouts_print",
    "medvie_rl.sft_config",
    "medvie_rl.traces",
    "rewards.worker",
    "rewards.metrics",
    "rollout.types",
    "rollout.config",
    "learner.types",
    "learner.config",
    "learner.advantages",
    "learner.batching",
)


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            packages.add(node.module.split(".")[0])
    return packages


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_packages_import_nothing_of_ours(leaf: str) -> None:
    files = sorted((ROOT / leaf).rglob("*.py"))
    assert files
    for path in files:
        assert imported_packages(path) & (set(OURS) - {leaf}) == set(), path


@pytest.mark.parametrize(("package", "home"), HEAVY.items())
def test_heavy_imports_have_one_home(package: str, home: str) -> None:
    users = {
        path.relative_to(ROOT).parts[0]
        for ours in OURS
        for path in (ROOT / ours).rglob("*.py")
        if "doctor" not in path.parts and package in imported_packages(path)
    }
    assert users == {home}


def test_light_modules_import_nothing_heavy() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT_MODULES!r}: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'deepspeed', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
