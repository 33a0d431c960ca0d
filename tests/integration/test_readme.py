"""The path that the README shows is walked to the letter, by somebody who has only cloned the repository."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands_of_pages import whole_path
from runs import ROOT

_SECONDS = 3600
pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(_SECONDS + 60),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the README's client is curl"),
]


def test_a_newcomer_gets_from_a_folder_to_a_service(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    lines = whole_path()
    assert len(lines) >= 10
    script = "\n".join(["set -e", *lines])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(clone)}
    started = time.monotonic()
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    print(f"{time.monotonic() - started:.0f} s\n{result.stdout}")
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    for name in ("runs/first/report.html", "evaluation/evaluation.html", "answers.jsonl"):
        assert (clone / name).stat().st_size > 1000, name
    assert '"documents":[{"id":' in result.stdout, "the service has answered"
