"""cluster/slurm.sh from beginning to end on this machine, SLURM's and Ray's programs replaced by ones that record.

SLURM is not here, and a Ray cluster takes a minute to come: what runs is the script itself. Whether Ray would accept
the commands is asked of Ray's own command line.
"""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.cli import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sh"
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; else echo "$*" >>"$RECORDS/scontrol"; fi
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${1#*=}; shift; done
if [[ $1 == hostname ]]; then echo "192.0.2.7 192.0.2.8"; exit; fi
NODE=$node exec "$@"
"""
RAY = """#!{python} -S
import json, os, pathlib, sys, time
records = pathlib.Path(os.environ["RECORDS"])
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
line = dict(
    arguments=sys.argv[1:], node=os.environ.get("NODE"), pid=os.getpid(), token=token.read_text(),
    mode=oct(token.stat().st_mode & 0o777), environment=dict(os.environ),
)
with (records / "ray").open("a") as file:
    file.write(json.dumps(line) + chr(10))
verb = sys.argv[1:3]
if verb[0] == "start":
    time.sleep(600)
if verb == ["job", "stop"]:
    (records / "stopped").touch()
if verb == ["job", "submit"]:
    while (records / "ray").read_text().count('"arguments": ["start"') < 2:  # the worker comes in its own time
        time.sleep(0.05)
    if os.environ["SUBMITTED_JOB"] != "runs":
        sys.exit(int(os.environ["SUBMITTED_JOB"]))
    while not (records / "stopped").exists():
        time.sleep(0.05)
    sys.exit(1)  # as `ray job submit` does for a job that was stopped
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts the script as sbatch would, on two nodes."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "ray": RAY.format(python=sys.executable)}.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "VENV": str(tmp_path / "venv"), "RECORDS": str(tmp_path),
        "SLURM_JOB_ID": "41", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "64", "SLURM_GPUS_PER_NODE": "8",
    }  # fmt: skip

    def start_it(*arguments: str, job: str = "0", **settings: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments], env=environment | {"SUBMITTED_JOB": job} | settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start_it


def ray_calls(folder: Path) -> list[dict[str, Any]]:
    file = folder / "ray"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def verbs(folder: Path) -> list[str]:
    return [" ".join(call["arguments"][: 1 if call["arguments"][0] == "start" else 2]) for call in ray_calls(folder)]


def test_shellcheck_finds_nothing_in_the_slurm_script() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed: make setup-dev")
    # Left out: braces around every variable, variables that SLURM sets, set -e inside of conditions.
    checked = subprocess.run(
        [shellcheck, "--enable=all", "--exclude=SC2250,SC2154,SC2310", str(SCRIPT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_head_comes_first_then_the_workers_then_the_job(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = str(tmp_path / "run")
    process = start(run_dir, "conf/local.yaml", "num_steps=3", "name=two words")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    calls = ray_calls(tmp_path)
    head, worker = (call for call in calls if call["arguments"][0] == "start")
    (job,) = (call for call in calls if call["arguments"][:2] == ["job", "submit"])
    assert (head["node"], worker["node"]) == ("node1", "node2")
    assert "--head" in head["arguments"] and "--dashboard-host=127.0.0.1" in head["arguments"]
    assert "--address=192.0.2.7:6379" in worker["arguments"]
    for call in calls:
        assert re.fullmatch(r"[0-9a-f]{64}", str(call["token"])) and call["mode"] == "0o600"
        assert call["environment"]["RAY_AUTH_MODE"] == "token"
        assert str(call["token"]) not in json.dumps([call["arguments"], call["environment"]])
    assert not list((tmp_path / ".ray").iterdir()), "the token outlives the job"
    assert_ray_accepts(calls)
    command = shlex.split(entrypoint_of(job["arguments"]))
    assert command[:4] == ["exec", "python", "-m", "medvie_rl"]
    assert main([*command[4:], "--dry-run"]) == 0
    assert "name: two words" in capsys.readouterr().out
    assert command[command.index("--resume-if-exists") + 1] == run_dir
    assert not (tmp_path / "scontrol").exists(), "a finished job is not queued again"
    assert_no_process_is_left(calls)


def test_a_job_that_failed_is_not_queued_again(start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    process = start(str(tmp_path / "run"), "conf/local.yaml", job="1")
    process.communicate(timeout=120)
    assert process.returncode == 1
    assert "job stop" not in verbs(tmp_path) and not (tmp_path / "scontrol").exists()
    assert_no_process_is_left(ray_calls(tmp_path))


def test_the_signal_before_the_time_limit_stops_the_job_and_queues_it_again(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start(str(tmp_path / "run"), "conf/local.yaml", job="runs", SLURM_RESTART_COUNT="2")
    deadline = time.monotonic() + 120
    while "job submit" not in verbs(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    calls = ray_calls(tmp_path)
    (stop,) = (call["arguments"] for call in calls if call["arguments"][:2] == ["job", "stop"])
    (job,) = (call["arguments"] for call in calls if call["arguments"][:2] == ["job", "submit"])
    assert stop[-1] == job[job.index("--submission-id") + 1] == "medvie-41-2"
    assert (tmp_path / "scontrol").read_text(encoding="utf-8") == "requeue 41\n"
    assert_ray_accepts(calls)
    assert_no_process_is_left(calls)


def test_the_run_has_the_time_between_signal_and_limit() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    notice = int(re.search(r"#SBATCH --signal=B:TERM@(\d+)", text)[1])
    allowed = int(re.search(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", text)[1])
    assert 60 <= notice - allowed <= 300
    assert "#SBATCH --requeue" in text and "#SBATCH --open-mode=append" in text
    assert os.access(SCRIPT, os.X_OK) and stat.S_ISREG(SCRIPT.stat().st_mode)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected RUN_DIR CONFIG"),
        (("runs/x", "conf/local.yaml"), "RUN_DIR must be an absolute path"),
        (("/shared/runs/x", "conf/none.yaml"), "no configuration file conf/none.yaml"),
    ],
)
def test_wrong_arguments_are_told_before_anything_starts(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    process = start(*arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and message in output
    assert not ray_calls(tmp_path)


def entrypoint_of(arguments: list[str]) -> str:
    """The command line that Ray's job server is sent."""
    from ray.dashboard.modules.job.cli import submit

    return shlex.join(submit.make_context("submit", arguments[2:]).params["entrypoint"])


def assert_ray_accepts(calls: list[dict[str, Any]]) -> None:
    from ray.dashboard.modules.job.cli import job_cli_group
    from ray.scripts.scripts import start

    for call in calls:
        first, *rest = call["arguments"]
        command = start if first == "start" else job_cli_group.commands[rest.pop(0)]
        command.make_context(first, rest)  # parses, and runs nothing


def assert_no_process_is_left(calls: list[dict[str, Any]]) -> None:
    for call in calls:
        assert not Path(f"/proc/{call['pid']}").exists(), call["arguments"]
