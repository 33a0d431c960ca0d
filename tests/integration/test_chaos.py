"""A real run on a cluster that misbehaves: engines killed and stopped as they sample, a full object store."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from medvie_rl.records import RolloutRecord
from runs import ROOT, SMALL, at_step, learned, metrics_of, only_run, records_of, run_to_end, title_of, train_command

pytestmark = pytest.mark.full

_STORE_BYTES = 128 * 2**20
_SECONDS = 900
_TWO_ENGINES = ("rollout.num_workers=2", "rollout.num_threads=1", "evaluation.every=0", "checkpoint.every=3")
_TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm"}  # a run that takes its output for a terminal


class Cluster:
    """A Ray cluster whose object store is full of what somebody else keeps there, and what was seen of it."""

    def __init__(self) -> None:
        context = ray.init(num_cpus=4, object_store_memory=_STORE_BYTES, include_dashboard=False, log_to_driver=False)
        self.address: str = context.address_info["address"]
        self._session = Path(context.address_info["session_dir"])
        self._kept = [ray.put(np.zeros(10 * 2**20, np.uint8)) for _ in range(_STORE_BYTES // (10 * 2**20) - 1)]
        self._seen: set[psutil.Process] = set()
        self.segments: set[str] = set()  # of shared memory that they used

    def look(self) -> set[psutil.Process]:
        """All processes seen in looks so far, of Ray and of the run."""
        here = psutil.Process().children(recursive=True)
        self._seen.update(here)
        self.segments.update(
            name for process in here for name in re.findall(r"/dev/shm/(\S+)", _memory_maps(process.pid))
        )
        return self._seen

    def num_spilled(self) -> int:
        """Files with objects for which the store had no room."""
        assert len(self._kept) > 8
        return sum(1 for _ in self._session.glob("ray_spilled_objects*/*"))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """That cluster; nothing of it is left afterwards."""
    cluster = Cluster()
    yield cluster
    seen = cluster.look()
    ray.shutdown()
    _, left = psutil.wait_procs(seen, timeout=30)
    assert not left, "processes or zombies were left behind"
    assert cluster.segments, "no segment was seen"
    assert not cluster.segments & set(os.listdir("/dev/shm")), "segments were left behind"


def test_a_run_survives_killed_and_stopped_engines_and_a_full_object_store(cluster: Cluster, tmp_path: Path) -> None:
    settings = (*SMALL, *_TWO_ENGINES, f"cluster.address={cluster.address}", "cluster.call_seconds=45")
    before = set(cluster.look())
    with _started(tmp_path, *settings, environment=_TERMINAL) as process:
        at_step(process, tmp_path / "runs", step=1)
        cluster.look()
        os.kill(_engine_at_work(process).pid, signal.SIGKILL)
        at_step(process, tmp_path / "runs", step=3)
        cluster.look()
        os.kill(_engine_at_work(process).pid, signal.SIGSTOP)
        while process.poll() is None:
            cluster.look()
            time.sleep(1)
    said = _log(tmp_path)
    lost = [line for line in said.splitlines() if "is lost" in line]
    assert len(lost) == 2, "each loss is a line that stays, also at a terminal"
    assert "an actor died" in lost[0] and "by the deadline" in lost[1]
    assert cluster.num_spilled(), "the object store was never full"
    deadline = time.monotonic() + 30
    while (left := _of_the_run(cluster.look() - before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, "processes or zombies of the run are still there"

    folder = only_run(tmp_path / "runs")
    steps = [entry for entry in metrics_of(folder) if "reward/mean" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["rollout/lost_workers"] == 2
    planned = [(f"train-{position}", trace) for position in range(36) for trace in range(4)]
    records = records_of(folder)
    assert [(record.query, record.trace) for of_step in records.values() for record in of_step] == planned
    for entry in steps:
        of_step = records[entry["step"]]
        assert {record.weight_version for record in of_step} == {entry["step"] - 1}
        assert entry["loss/num_tokens"] == _num_informative_tokens(of_step), "a group was trained twice, or not at all"

    again = tmp_path / "again"
    run_to_end(train_command(again, "--replay", str(folder), config=str(folder / "config.yaml")))
    replayed = metrics_of(only_run(again))
    assert learned(replayed) == learned(steps), "it learned something else"
    assert len(learned(steps)[0]) > 20


def test_what_a_killed_engine_changes_in_the_records_is_rounding(tmp_path: Path) -> None:
    # With two threads rounding depends on what is sampled together; with one, as shipped, not a bit changes.
    settings = (*SMALL, *_TWO_ENGINES, "rollout.num_threads=2", "queries_per_step=12", "num_traces=8", "num_steps=8")
    run_to_end(train_command(tmp_path / "undisturbed", *settings))
    with _started(tmp_path, *settings) as process:
        at_step(process, tmp_path / "runs", step=2)
        os.kill(_engine_at_work(process).pid, signal.SIGKILL)
    steps = [entry for entry in metrics_of(only_run(tmp_path / "runs")) if "reward/mean" in entry]
    assert [entry["rollout/lost_workers"] for entry in steps] == [0, 0, 1, 1, 1, 1, 1, 1], "killed as it sampled step 3"
    assert steps[3]["rollout/live_workers"] == 1, "step 4 was meant to be sampled by one engine"

    expected, found = records_of(only_run(tmp_path / "undisturbed")), records_of(only_run(tmp_path / "runs"))
    differences = {step: _Difference.between(found[step], expected[step]) for step in range(1, 9)}
    for step, difference in differences.items():
        print(f"step {step}: {difference}")
    assert found[1] == expected[1] and found[2] == expected[2]
    assert found[3] == expected[3], "another engine samples the share of the dead one as it would have, as a whole"
    assert differences[4].share_of_tokens <= 0.05, "the same weights, other company"


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """How the same traces of two runs differ."""

    num_tokens: int  # of the longer of each two responses
    num_tokens_differing: int
    num_logprobs_differing: int  # of tokens that are equal
    logprob_difference_max: float

    @property
    def share_of_tokens(self) -> float:
        return self.num_tokens_differing / self.num_tokens

    @classmethod
    def between(cls, found: Sequence[RolloutRecord], expected: Sequence[RolloutRecord]) -> "_Difference":
        """Of all responses of a step; what was asked must be the same."""
        num_tokens = num_equal = 0
        apart = [0.0]
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.id, ours.keys, ours.prompt_ids) == (theirs.id, theirs.keys, theirs.prompt_ids)
            num_tokens += max(ours.num_tokens, theirs.num_tokens)
            for (token, logprob), (other, other_logprob) in zip(_tokens(ours), _tokens(theirs), strict=False):
                if token == other:
                    num_equal += 1
                    apart.append(abs(logprob - other_logprob))
        return cls(
            num_tokens=num_tokens,
            num_tokens_differing=num_tokens - num_equal,
            num_logprobs_differing=sum(difference > 0 for difference in apart),
            logprob_difference_max=max(apart),
        )


def _tokens(record: RolloutRecord) -> list[tuple[int, float]]:
    """Ids and logprobs of a response."""
    assert record.token_ids is not None and record.sampler_logprobs is not None
    return list(zip(record.token_ids, record.sampler_logprobs, strict=True))


@contextmanager
def _started(
    folder: Path, *settings: str, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A run with these settings in `folder`, which must end well after the context is left."""
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            train_command(folder / "runs", *settings),
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
        assert process.wait(_SECONDS) == 0, _log(folder)[-5000:]
    finally:
        process.kill()


def _log(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8")


def _engine_at_work(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """An engine of ours in the middle of sampling."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        for child in psutil.Process().children(recursive=True):
            if title_of(child).startswith("ray::RolloutWorker.generate"):
                time.sleep(0.1)
                return child
    raise AssertionError("no engine was seen sampling")


def _memory_maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just ended
        return ""


def _of_the_run(processes: set[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there, zombies too, but for workers that Ray keeps ready for whoever comes next."""
    return [process for process in processes if process.is_running() and not title_of(process).startswith("ray::IDLE")]


def _num_informative_tokens(records: Sequence[RolloutRecord]) -> int:
    """The response tokens of a step that have an advantage: those of groups whose rewards are not all equal."""
    rewards: dict[str, set[float]] = {}
    for record in records:
        rewards.setdefault(record.query, set()).add(record.reward)
    return sum(record.num_tokens for record in records if len(rewards[record.query]) > 1)
