"""The Tab key, in a real bash: what `medvie completion bash` prints is evaluated, and its function asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# As bash does it when Tab is pressed behind a line: the words, the line, and the function that `complete` registered.
ASK = """
eval "$(medvie completion bash)"
COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function_name=$(complete -p medvie | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function_name medvie "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path_with_medvie(tmp_path: Path) -> str:
    """PATH with a `medvie` that runs this working tree in front."""
    script = tmp_path / "medvie"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medvie_rl "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def completions(line: str, path: str) -> list[str]:
    result = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", line],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.strip() for word in result.stdout.splitlines()]


def test_bash_completes_commands_options_files_and_settings(path_with_medvie: str) -> None:
    assert completions("medvie tr", path_with_medvie) == ["train"]
    assert completions("medvie data s", path_with_medvie) == ["show", "select", "synth"]
    assert completions("medvie doctor --q", path_with_medvie) == ["--quick"]
    assert "conf/local.yaml" in completions("medvie train --config conf/lo", path_with_medvie)
    settings = completions("medvie train --config conf/local.yaml learner.learning_", path_with_medvie)
    assert settings == ["learner.learning_rate="]
    assert completions("medvie train --config conf/local.yaml xyzzy.", path_with_medvie) == [""]


@pytest.mark.parametrize(("shell", "told"), [("bash", "complete "), ("zsh", "compdef "), ("fish", "complete ")])
def test_every_shell_is_told_about_medvie(shell: str, told: str) -> None:
    command = [sys.executable, "-m", "medvie_rl", "completion", shell]
    script = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told in script and "medvie" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)  # reads it, runs nothing
