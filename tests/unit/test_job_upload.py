"""What `ray job submit --working-dir .` uploads, packed by Ray's own function."""

import shutil
import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "medvie_rl" / "report" / "templates"
MAX_MIB = 12  # of it the embedded policy is 6


def uploaded(folder: Path, package: Path, *, include_gitignore: bool = True) -> list[str]:
    excludes = get_runtime_env_default_excludes()
    create_package(str(folder), package, include_gitignore=include_gitignore, excludes=excludes)
    with zipfile.ZipFile(package) as files:
        return files.namelist()


def test_the_upload_is_small_and_holds_what_a_job_needs(tmp_path: Path) -> None:
    package = tmp_path / "upload.zip"
    names = uploaded(ROOT, package)
    assert package.stat().st_size < MAX_MIB * 2**20
    assert {name.split("/")[0] for name in names} >= {"cluster", "conf", "learner", "medvie_rl", "rewards", "rollout"}
    assert "medvie_rl/nano/policy/model.safetensors" in names and "conf/prompts/qwen2_5_vl.yaml" in names
    assert {f"medvie_rl/report/templates/{path.name}" for path in TEMPLATES.iterdir()} <= set(names)
    assert not [name for name in names if name.split("/")[0] in ("tests", "docs", "runs", "data", ".venv", ".git")]


@pytest.mark.parametrize("include_gitignore", [True, False], ids=["both-files", "rayignore-alone"])
def test_documents_runs_and_environments_stay_here(tmp_path: Path, include_gitignore: bool) -> None:
    folder = tmp_path / "repository"
    kept = ["conf/local.yaml", "medvie_rl/data/store.py", "medvie_rl/run.py"]
    left = [
        "runs/a/rollouts/step-1.parquet", "data/documents/images/1.png", "wandb/offline-run/x.wandb", ".env",
        ".env.local", ".venv/bin/python", "venv/bin/python", ".git/config", "tests/unit/test_x.py", "docs/x.md",
    ]  # fmt: skip
    for name in (*kept, *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x", encoding="utf-8")
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, folder)
    names = uploaded(folder, tmp_path / "upload.zip", include_gitignore=include_gitignore)
    assert sorted(names) == sorted([*kept, ".gitignore", ".rayignore"])
