"""Trains a study's runs, each in a process of its own, some at a time; what was trained before is not trained again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from rich.console import Console

from medvie_rl.errors import UserError
from medvie_rl.progress import show_progress
from medvie_rl.run import read_metrics
from medvie_rl.study.plan import PlannedRun, write_config

_SECONDS_BETWEEN_LOOKS = 1.0
_SHOWN_LINES = 3


@dataclass(slots=True)
class _Training:
    """A run in its process."""

    run: PlannedRun
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]


def train_all(runs: Sequence[PlannedRun], *, jobs: int, console: Console) -> list[PlannedRun]:
    """Train every run that is not finished yet, at most `jobs` at a time; returns those that failed, each told with the
    end of its log. A run that starts from another one's policy waits for it, and is given up with it.

    A run that was stopped goes on from its last checkpoint. When this is interrupted, runs save one and end.
    """
    waiting = [run for run in runs if not run.is_finished]
    if len(waiting) < len(runs):
        console.print(f"{len(runs) - len(waiting)} of {len(runs)} runs are there already", highlight=False)
    first = {run.id: _num_steps(run) for run in waiting}
    num_steps = sum(run.config.num_steps - first[run.id] for run in waiting)
    failed: list[PlannedRun] = []
    with _trainings() as training, show_progress("training", "steps") as progress:
        progress.begin(num_steps)
        told = done = 0  # steps, of all runs and of those that have ended
        while waiting or training:
            for each in [each for each in training if each.process.poll() is not None]:
                training.remove(each)
                each.log.close()
                done += each.run.config.num_steps - first[each.run.id]
                if not each.run.is_finished:
                    failed.append(each.run)
                    console.print(_failure(each), highlight=False, markup=False, soft_wrap=True)
            waiting = _without_lost(waiting, failed, console)
            blocked = {run.id for run in waiting} | {each.run.id for each in training}
            for run in [run for run in waiting if run.after not in blocked][: jobs - len(training)]:
                waiting.remove(run)
                training.append(_start(run))
            num_done = done + sum(_num_steps(each.run) - first[each.run.id] for each in training)
            if num_done > told:
                progress.advance(num_done - told)
                told = num_done
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return failed


@contextmanager
def _trainings() -> Iterator[list[_Training]]:
    """The runs that are being trained; at an interrupt all are asked to end before any is waited for."""
    training: list[_Training] = []
    try:
        yield training
    finally:
        for each in training:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGTERM)
        for each in training:
            each.process.wait()
            each.log.close()


def _start(run: PlannedRun) -> _Training:
    write_config(run)
    command = [sys.executable, "-m", "medvie_rl", "train", "--config", str(run.config_file)]
    log = run.log.open("ab")
    process = subprocess.Popen(
        [*command, "--resume-if-exists", str(run.folder)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # a Ctrl-C at the terminal is for us to pass on, once
    )
    return _Training(run, process, log)


def _num_steps(run: PlannedRun) -> int:
    """Steps that a run has done."""
    try:
        metrics = read_metrics(run.folder)
    except UserError:  # the run says so itself when it goes on
        return 0
    return metrics[-1]["step"] if metrics else 0


def _without_lost(waiting: list[PlannedRun], failed: list[PlannedRun], console: Console) -> list[PlannedRun]:
    """The runs that can still be trained; the others are added to `failed`."""
    kept = []
    for run in waiting:
        if run.after in {other.id for other in failed}:
            failed.append(run)
            console.print(f"{run.id}: not trained, since {run.after} failed", highlight=False, soft_wrap=True)
        else:
            kept.append(run)
    return kept


def _failure(training: _Training) -> str:
    lines = training.run.log.read_text(encoding="utf-8", errors="replace").splitlines()
    end = "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
    return f"{training.run.id} failed with exit code {training.process.returncode}; {training.run.log} ends with\n{end}"
