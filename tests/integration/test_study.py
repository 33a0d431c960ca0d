"""`medvie study` for real: it trains, asks and compares; failed runs are told, finished ones not trained again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from medvie_rl.data.slips import write_slips
from runs import ROOT, metrics_of, run

_SECONDS = 300
STUDY = """
title: A small study
question: Does a test pass?
baseline: base
seeds: [1]
num_cases: 2
arms:
  - {{name: base, method: base}}
  - {{name: SFT, method: sft}}
{more}
"""
BROKEN = "  - {name: broken, settings: [rollout.max_model_len=300, rollout.max_response_tokens=290]}"
SMALL = ("num_steps=2", "queries_per_step=4", "num_traces=4", "data.num_train=0", "evaluation.every=1")


@pytest.fixture(scope="module")
def slips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "slips"
    write_slips(folder, {"train": 8, "validation": 4, "test": 6}, seed=4)
    return folder


def command(study: Path, out: Path, slips: Path, *settings: str) -> list[str]:
    start = [sys.executable, "-m", "medvie_rl", "study", str(study), "--config", "conf/study.yaml", "--out", str(out)]
    return [*start, "--jobs", "2", f"data.path={slips}", *SMALL, *settings]


def test_a_study_from_its_file_to_its_report(tmp_path: Path, slips: Path) -> None:
    study, out = tmp_path / "mine.yaml", tmp_path / "out"
    study.write_text(STUDY.format(more=BROKEN), encoding="utf-8")
    failed = run(command(study, out, slips))
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "failed with exit code 2" in failed.stdout and "rollout.max_model_len" in failed.stdout
    assert "no tables: not every arm has a seed that ended" in failed.stdout
    (trained,) = (out / "runs").glob("sft-*/summary.json")
    made = trained.stat().st_mtime_ns

    study.write_text(STUDY.format(more=""), encoding="utf-8")
    again = run(command(study, out, slips))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 1 runs are there already" in again.stdout and trained.stat().st_mtime_ns == made
    assert "6 held-out documents, 1 seeds" in again.stdout
    rows = pq.read_table(out / "mine" / "answers.parquet").to_pylist()
    assert {(row["arm"], row["seed"], row["condition"]) for row in rows} == {("base", 1, "test"), ("SFT", 1, "test")}
    assert len(rows) == 12 and all(row["response"] and row["num_tokens"] > 0 for row in rows)
    tables = (out / "mine" / "tables.md").read_text(encoding="utf-8")
    assert "| SFT | sft | 8 | 2 |" in tables
    report = (out / "mine" / "report.html").read_text(encoding="utf-8")
    assert report.count('<article class="document">') == 2 and "<script" not in report
    assert (out / "mine" / "figure.png").stat().st_size > 5_000


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_study_that_is_stopped_goes_on(tmp_path: Path, slips: Path) -> None:
    study, out = tmp_path / "mine.yaml", tmp_path / "out"
    conditions = "conditions:\n  - {name: plain}\n  - {name: reasoned, reasoning: true}\n"
    more = "  - {name: RL}\n  - {name: both, start: SFT}\n" + conditions
    study.write_text(STUDY.format(more=more), encoding="utf-8")
    start = command(study, out, slips, "num_steps=6")
    process = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + _SECONDS
    while not any(entry["step"] >= 1 for folder in (out / "runs").glob("*-*/") for entry in metrics_of(folder)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=_SECONDS)
    assert process.returncode == 143, said
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "the study left processes behind"
    assert list((out / "runs").glob("*/checkpoints/step-*")) and not list((out / "runs").glob("*/summary.json"))

    ended = run(start, seconds=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = pq.read_table(out / "mine" / "answers.parquet").to_pylist()
    assert len(rows) == 4 * 2 * 6
    assert {row["reasoning"] for row in rows if row["condition"] == "reasoned"} == {True}
    assert any("<think>" in row["response"] for row in rows)
