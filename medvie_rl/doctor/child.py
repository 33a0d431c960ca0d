"""Checks in processes of their own: what hangs is ended, what crashes costs its own line only."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from medvie_rl.doctor.types import Finding
from medvie_rl.environment import is_verbose

REINSTALL = "make clean setup"
_ROOT = Path(__file__).resolve().parents[2]
_MARK = "medvie-finding "  # before the one line of the output that is not a library's
_STOP_SECONDS = 10.0


def run_probe(name: str, settings: Mapping[str, Any], seconds: float) -> Finding:
    """What a function of `probes.py` finds, in a process of its own and within so many seconds."""
    return run_child([sys.executable, "-m", "medvie_rl.doctor.probes", name, json.dumps(settings)], seconds)


def run_child(command: Sequence[str], seconds: float) -> Finding:
    """What a process finds and prints by `print_finding`; a failure if it does not."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:  # no pipes: what is left may hold them
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=os.environ | {"PYTHONPATH": path})
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return Finding(
                status="fail", found=f"no answer in {seconds:g} s", fix="medvie doctor --verbose, on an idle machine"
            )
        finally:
            _end(process)
            said = [_content(errors), _content(output)]
            if is_verbose():
                sys.stderr.write("".join(said))
    for line in reversed(said[1].splitlines()):
        if line.startswith(_MARK):
            return Finding(**json.loads(line.removeprefix(_MARK)))
    return Finding(status="fail", found=_end_of(process.returncode, said[0]), fix=REINSTALL)


def print_finding(finding: Finding) -> None:
    """Hand a finding to the process that runs this one."""
    print(f"\n{_MARK}{json.dumps(asdict(finding))}", flush=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process, where it has not ended by itself, and all that it started."""
    if process.poll() is not None:
        return
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait(_STOP_SECONDS)
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=_STOP_SECONDS)


def _content(file: Any) -> str:
    file.seek(0)
    content: bytes = file.read()
    return content.decode(errors="replace")


def _end_of(returncode: int, errors: str) -> str:
    """Why a process that said nothing ended, in a line."""
    if returncode < 0:
        return f"died of {signal.Signals(-returncode).name}"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {returncode} and no message"
