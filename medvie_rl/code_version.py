"""Which code a run is made with."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("cluster", "learner", "medvie_rl", "rewards", "rollout")


@cache
def code_version() -> str:
    """The commit, with `+` behind it where files differ from it; without git, as in a submitted job, a digest of the
    sources."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        digest = hashlib.sha256()
        for path in sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return f"sources {digest.hexdigest()[:12]}"


def _git(*arguments: str) -> str:
    if not (_ROOT / ".git").exists():  # installed somewhere inside another repository
        raise FileNotFoundError(_ROOT / ".git")
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
