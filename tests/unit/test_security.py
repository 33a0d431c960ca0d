"""What must not be in the repository: secrets in job files, code that comes with a checkpoint, pickled weights."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cluster", "learner", "medvie_rl", "rewards", "rollout")
# torch.load of more than tensors, which can run code: the checkpoints of a run, by DeepSpeed's format and ours.
UNPICKLED = {"learner/checkpoint.py", "learner/relayout.py"}
# What a learner rank hands to the engine beside it, over Ray.
UNPICKLED_HANDLES = {"rollout/receiving.py"}
SECRETS = re.compile(
    r"""-----BEGIN [A-Z ]*PRIVATE\ KEY
    | \b(?: hf_[A-Za-z0-9]{30,} | gh[pousr]_[A-Za-z0-9]{30,} | AKIA[A-Z0-9]{16} | sk-[A-Za-z0-9_-]{20,}
          | xox[abp]-[A-Za-z0-9-]{10,} | eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{10,} )
    | \b[0-9a-f]{40,}\b
    | (?i: [a-z_-]* (?: password | passwd | secret | token | api[_-]?key ) ["']? \s* [:=] \s* ["']? )
      [A-Za-z0-9+/_-]{16,}""",
    re.VERBOSE,
)


def job_files() -> list[Path]:
    files = [path for path in (ROOT / "cluster").iterdir() if path.is_file()]
    named = [ROOT / name for name in ("Makefile", "README.md", ".rayignore", ".gitignore")]
    return [*files, *named, *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "docs").glob("*.md")]


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """(file, call, name of what is called) of all our packages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), node, ast.unparse(node.func)


def settings(call: ast.Call) -> dict[str, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg}


def test_no_job_file_holds_a_secret() -> None:
    names = {path.name for path in job_files()}
    assert {"rayjob.yaml", "launcher.yaml", "slurm.sh", "Dockerfile", "qwen2_5_vl_7b.yaml", "training.md"} <= names
    for path in job_files():
        found = SECRETS.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0][:20]}..."


@pytest.mark.parametrize(
    "planted",
    [
        "WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567",
        "value: " + "ab12" * 10,
        "token: hf_" + "A1b2C3d4E5" * 4,
        'RAY_AUTH_TOKEN="' + "Zm9vYmFy" * 4,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AKIA" + "ABCDEFGH12345678",
    ],
)
def test_the_search_for_secrets_finds_them(planted: str) -> None:
    assert SECRETS.search(planted)


def test_secrets_reach_the_cluster_by_reference_only() -> None:
    text = (ROOT / "cluster" / "rayjob.yaml").read_text(encoding="utf-8")
    for name in re.findall(r"name: (\w*(?:KEY|TOKEN|SECRET)\w*)", text):
        assert re.search(rf"name: {name}\b[^\n]*\n\s+valueFrom:\n\s+secretKeyRef:", text), name
    assert "authOptions: {mode: token}" in text


def test_no_code_of_a_checkpoint_is_run() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert "trust_remote_code" not in path.read_text(encoding="utf-8"), path


def test_weights_come_from_safetensors_only() -> None:
    loads = [(file, call) for file, call, name in calls() if re.fullmatch(r"AutoModel\w*\.from_pretrained", name)]
    assert {file for file, _ in loads} >= {"learner/model.py"}
    for file, call in loads:
        assert settings(call).get("use_safetensors") == "True", f"{file}:{call.lineno}"
    from rollout.config import RolloutConfig
    from rollout.engine import _engine_arguments

    for is_cpu in (True, False):
        assert _engine_arguments(RolloutConfig(), is_cpu=is_cpu, adapter=None)["load_format"] == "safetensors"


def test_only_checkpoints_of_a_run_are_unpickled() -> None:
    loads = [(file, settings(call)) for file, call, name in calls() if name == "torch.load"]
    assert {file for file, given in loads if given.get("weights_only") != "True"} == UNPICKLED
    assert {file for file, _, name in calls() if re.search(r"pickle\.loads?$|Unpickler$", name)} == UNPICKLED_HANDLES
    assert [file for file, _, name in calls() if name in ("yaml.load", "yaml.unsafe_load", "eval", "exec")] == []
