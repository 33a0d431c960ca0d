"""A run whose reward components hang, crash, raise or do not exist."""

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs import ROOT, SMALL, metrics_of, only_run, records_of, run, run_to_end, train_command

SHORT = (*SMALL, "num_steps=2", "data.num_validation=4", "data.num_test=4", "evaluation.every=0", "checkpoint.every=0")
MARK = "MEDVIE_TEST_RUN"


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Components are found by the run, and after it none of its processes is left, which its environment marks."""
    mark = secrets.token_hex(8)
    with monkeypatch.context() as context:
        context.setenv("PYTHONPATH", str(ROOT / "tests"))
        context.setenv(MARK, mark)
        yield
    deadline = time.monotonic() + 30
    while left := processes_marked(mark):
        assert time.monotonic() < deadline, f"processes outlive the run: {left}"
        time.sleep(0.5)


def processes_marked(mark: str) -> list[str]:
    """Process ids and command lines of those whose environment has the mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(f"{folder.name} {(folder / 'cmdline').read_text()[:200]}")
        except OSError:
            continue  # gone meanwhile
    return found


def test_responses_that_hang_or_crash_the_scoring_are_counted_and_the_run_ends_well(tmp_path: Path) -> None:
    component = "reward.components=[{function: faulty_components:faulty_by_response, weight: 0.5, name: mine}]"
    output = run_to_end(train_command(tmp_path, *SHORT, component, "reward.timeout_seconds=1"))
    folder = only_run(tmp_path)
    metrics = metrics_of(folder)[1:]
    seen: Counter[str] = Counter()
    for step, entry in enumerate(metrics, start=1):
        records = records_of(folder)[step]
        statuses = Counter(record.status.value for record in records)
        assert (statuses["timeout"], statuses["crashed"]) == (entry["reward/timeout"], entry["reward/crashed"])
        assert f"step {step}: scoring failed: {statuses['timeout']} timed out" in output
        seen += statuses
        for record in records:
            assert record.response is not None and record.detail is not None
            kind = sum(record.response.encode()) % 7
            assert (record.status == "timeout") == (kind == 0) and (record.status == "crashed") == (kind == 1)
            if record.status == "timeout":
                assert (record.reward, record.detail) == (0.0, "not scored within 1 s")
            elif record.status == "crashed":
                assert (record.reward, record.detail[-22:]) == (0.0, "exit code -11 (SIGSEGV)"[-22:])
            else:
                assert record.components["mine"] == 0.125
        assert entry["reward/component_error"] == 0
    assert len(metrics) == 2 and seen["timeout"] > 0 and seen["crashed"] > 0
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["num_steps"] == 2


def test_a_component_that_raises_stops_the_run_with_its_traceback(tmp_path: Path) -> None:
    result = run(train_command(tmp_path, *SHORT, "reward.components=[{function: faulty_components:raises_on_any}]"))
    assert result.returncode == 1
    assert "reward component 'raises_on_any' (faulty_components:raises_on_any) failed on query 'train-" in result.stderr
    assert 'raise LookupError(f"no dose for {request.document_id}")' in result.stderr
    assert metrics_of(only_run(tmp_path))[-1]["step"] == 0  # the base was scored: components have no part in that


def test_a_component_that_does_not_exist_is_an_error_before_training(tmp_path: Path) -> None:
    result = run(train_command(tmp_path, *SHORT, "reward.components=[{function: my_rewards:brevity}]"))
    assert result.returncode == 2
    assert "error: reward.components[0].function: module 'my_rewards' cannot be imported" in result.stderr
    assert "Traceback" not in result.stderr
