"""Scoring in processes: a response that hangs or kills costs itself only, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rewards.pool
from rewards.components import ComponentError, ComponentLoadError, load_components
from rewards.config import ComponentConfig, RewardConfig
from rewards.schema import FieldSpec, Schema
from rewards.scorer import Scorer
from rewards.types import AnswerStatus, ScoreRequest
from rewards.worker import RewardWorker

SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=tuple(FieldSpec(key=key, description=key, kind="text") for key in ("drug", "ward")),
)
SCHEMAS = {"slip": SCHEMA}


def request(query_id: str, response: str = '{"drug": "aspirin"}') -> ScoreRequest:
    return ScoreRequest(
        query_id=query_id, document_id="d1", schema="slip", asked=("drug", "ward"),
        truth={"drug": "aspirin", "ward": "B"}, response=response, reasoning=False, truncated=False,
    )  # fmt: skip


def batch(num: int = 6, culprit: int = 2) -> list[ScoreRequest]:
    return [
        request("culprit" if i == culprit else f"q{i}", '{"drug": "%s"}' % ("aspirin" * (i % 2))) for i in range(num)
    ]


def config(*functions: str, **changes: Any) -> RewardConfig:
    components = [ComponentConfig(function=f"faulty_components:{name}") for name in functions]
    return RewardConfig(components=components, **{"timeout_seconds": 1.0, **changes})


@contextmanager
def worker(config: RewardConfig) -> Iterator[RewardWorker]:
    worker = RewardWorker(config, SCHEMAS)
    try:
        yield worker
    finally:
        worker.close()


def processes() -> list[int]:
    """The scoring processes of this process: the children of its children, of which the fork server is one."""
    own = os.getpid()
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # gone meanwhile
    servers = [child for child, parent in parents.items() if parent == own]
    return [child for child, parent in parents.items() if parent in servers]


@pytest.mark.parametrize(
    ("function", "status", "detail"),
    [
        ("sleeps", AnswerStatus.TIMEOUT, "not scored within 1 s"),
        ("sleeps_deaf", AnswerStatus.TIMEOUT, "not scored within 1 s"),
        ("segfaults", AnswerStatus.CRASHED, "the scoring process ended with exit code -11 (SIGSEGV)"),
        ("exits", AnswerStatus.CRASHED, "the scoring process ended with exit code 3"),
    ],
)
def test_only_the_culprit_is_counted(function: str, status: AnswerStatus, detail: str) -> None:
    values, requests = config(function), batch()
    with worker(values) as pool:
        scores = pool.score(requests)
        culprit = scores.pop(2)
        here = Scorer(values, SCHEMAS, load_components(values.components))
        others = [item for item in requests if item.query_id != "culprit"]
        assert scores == [here.score(item) for item in others]
        assert [score.reward for score in scores] == pytest.approx([0.35, 1.025, 1.025, 0.35, 1.025])
        assert (culprit.status, culprit.detail, culprit.query_id) == (status, detail, "culprit")
        assert culprit.reward == 0.0 and culprit.components[function] == 0.0
        assert (culprit.counts.omitted, culprit.counts.predicted) == (2, 0)
        assert pool.score(others) == scores


@pytest.mark.parametrize(
    ("function", "status"),
    [
        ("sleeps", AnswerStatus.TIMEOUT),
        ("segfaults", AnswerStatus.CRASHED),
        ("raises", AnswerStatus.COMPONENT_ERROR),
    ],
)
def test_failing_does_not_pay_where_a_component_is_negative(function: str, status: AnswerStatus) -> None:
    """A component of -1.25 makes 0.1 and 0.775 negative; the culprit is alone with its query, so the batch counts."""
    component = ComponentConfig(function=f"faulty_components:{function}", weight=-5.0)
    with worker(RewardConfig(components=[component], timeout_seconds=1.0, on_component_error="count")) as pool:
        scores = pool.score(batch(4))
        assert [score.reward for score in scores] == pytest.approx([-1.15, -0.475, -1.15, -0.475])
        culprit = scores[2]
        assert (culprit.status, culprit.components[function]) == (status, 0.0)
        assert culprit.components["failure"] == culprit.reward == sum(culprit.components.values())
        assert pool.score([request("culprit")])[0].reward == 0.0  # nothing to be worse than


def test_failing_earns_as_little_as_the_worst_of_its_own_query() -> None:
    component = ComponentConfig(function="faulty_components:faulty_by_response", weight=-5.0)
    responses = ['{"drug": "aspirin"}', '{"ward": "B", "drug": "aspirin"}', *(" " * i + "{" for i in range(7))]
    kinds = [sum(response.encode()) % 7 for response in responses]
    requests = [request("q1", response) for response in responses]
    with worker(RewardConfig(components=[component], timeout_seconds=1.0)) as pool:
        scores = pool.score(requests)
    others = [score.reward for score in scores if score.status not in (AnswerStatus.TIMEOUT, AnswerStatus.CRASHED)]
    failed = [score for score, kind in zip(scores, kinds, strict=True) if kind < 2]
    assert failed and [score.reward for score in failed] == [min(others)] * len(failed) == [-1.25] * len(failed)


def test_of_a_chunk_only_the_culprit_is_counted() -> None:
    """Only requests without components share a task; here the culprit is made by one all the same."""
    values = config("sleeps", "segfaults", num_processes=2)
    requests = batch(10, culprit=5)
    with worker(values) as pool:
        pool.start()
        assert pool._pool is not None
        pool._pool._chunk_size = 4
        scores = pool.score(requests)
    assert [score.status for score in scores] == [AnswerStatus.OK] * 5 + [AnswerStatus.TIMEOUT] + [AnswerStatus.OK] * 4
    assert [score.query_id for score in scores] == [item.query_id for item in requests]


def test_an_error_of_a_component_stops_or_is_counted_and_the_pool_goes_on() -> None:
    with worker(config("raises")) as pool:
        with pytest.raises(ComponentError, match="failed on query 'culprit' of document 'd1'") as caught:
            pool.score(batch())
        assert "in raises\n    raise Unpicklable" in str(caught.value)
        assert len(pool.score([request("q1")])) == 1
    with worker(config("raises", on_component_error="count")) as pool:
        statuses = [score.status for score in pool.score(batch())]
    assert statuses == [AnswerStatus.OK] * 2 + [AnswerStatus.COMPONENT_ERROR] + [AnswerStatus.OK] * 3


def test_many_requests_keep_their_order_and_equal_scoring_here() -> None:
    requests = [request(f"q{i}", '{"drug": "aspirin", "ward": ' + json.dumps("ABC"[i % 3]) + "}") for i in range(100)]
    with worker(config(num_processes=2)) as pool:
        assert pool.score(requests) == [Scorer(RewardConfig(), SCHEMAS).score(item) for item in requests]
        assert pool.score([]) == []
        pool.close()
        assert len(pool.score(requests[:1])) == 1  # and starts again when it is needed
    pool.close()


def test_a_process_that_is_killed_while_idle_is_replaced() -> None:
    with worker(config()) as pool:
        expected = pool.score(batch())
        for process in processes():
            os.kill(process, signal.SIGKILL)
        time.sleep(0.5)
        assert pool.score(batch()) == expected


def test_a_pool_that_breaks_under_a_request_runs_it_again_and_then_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with worker(config()) as pool:
        expected = pool.score(batch())
        scoring = pool._pool
        assert scoring is not None
        wait, broken = scoring._wait, [True, True]

        def breaking(task: Any) -> Any:
            if broken:
                broken.pop()
                raise BrokenProcessPool
            return wait(task)

        monkeypatch.setattr(scoring, "_wait", breaking)
        assert pool.score(batch()) == expected and not broken
        broken += [True] * 3
        first, *_ = pool.score(batch())
        assert (first.status, first.detail) == (AnswerStatus.CRASHED, "the scoring process ended twice at its start")


def test_a_pool_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one whose processes are stopped, and whose time-out never comes."""
    with worker(config()) as pool:
        expected = pool.score(batch())
        monkeypatch.setattr("rewards.pool._START_SECONDS", -60.0)
        scoring = pool._pool
        assert scoring is not None
        task = scoring._schedule(batch(), False)
        with pytest.raises(BrokenProcessPool):
            scoring._wait(task._replace(future=type(task.future)()))
        monkeypatch.undo()
        assert pool.score(batch()) == expected


@pytest.mark.parametrize(
    ("content", "seconds", "message"),
    [
        ("1 / 0", 60.0, r"reward\.components\[0\]\.function: module 'user_rewards' .*ZeroDivisionError"),
        ("import os; os._exit(5)", 60.0, r"reward\.components: .* ended while it started"),
        (
            "import time; time.sleep(60)",
            1.0,
            r"reward\.components: .* is not ready after 1 s",
        ),
    ],
)
def test_components_that_cannot_be_loaded_are_an_error_at_the_start(
    content: str, seconds: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user_rewards.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("rewards.pool._START_SECONDS", seconds)
    with pytest.raises(ComponentLoadError, match=message):
        RewardWorker(RewardConfig(components=[ComponentConfig(function="user_rewards:f")]), SCHEMAS).start()


def test_what_a_scoring_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads once, scores under the kernel's alarm, and reports with its first task what could not be loaded."""
    monkeypatch.setattr(rewards.pool, "_scorer", None)
    monkeypatch.setattr(rewards.pool, "_load_problem", "")
    values = config("left_of_the_alarm")
    rewards.pool._load(values, SCHEMAS)
    (score,) = rewards.pool._score([request("q1")], False)
    assert 5.0 < score.components["left_of_the_alarm"] <= 6.0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    monkeypatch.setattr(rewards.pool, "_scorer", None)
    rewards.pool._load(config("not_there"), SCHEMAS)
    with pytest.raises(ComponentLoadError, match="has no function 'not_there'"):
        rewards.pool._score((), False)


def test_a_script_has_its_imports_preloaded_and_a_module_run_by_name_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.json = json  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert rewards.pool._worth_preloading() == ["rewards.pool", "json"]
    main.__spec__ = ModuleSpec("pytest.__main__", None)
    assert rewards.pool._worth_preloading() == ["rewards.pool"]


KILLED = """
import os, signal, sys, threading
sys.path[:0] = {paths!r}
import rewards.pool
from test_reward_pool import SCHEMAS, batch, config, processes
from rewards.worker import RewardWorker

worker = RewardWorker(config("sleeps", timeout_seconds=0.5, num_processes=2), SCHEMAS)
worker.start()
threading.Timer(0.3, lambda: (print(*processes(), flush=True), os.kill(os.getpid(), signal.SIGKILL))).start()
worker.score(batch(3, culprit=0))
while True:
    signal.pause()
"""


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_process_is_left_when_the_caller_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process is idle then; the other one sleeps in a component until its own alarm."""
    script = KILLED.format(paths=[str(folder) for folder in Path(__file__).parents[:2]])
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    left = [int(process) for process in result.stdout.split()]
    assert result.returncode == -signal.SIGKILL and len(left) == 2, result.stderr
    deadline = time.monotonic() + 1.0 + 5.0 + 3.0
    while any(map(is_running, left)):
        assert time.monotonic() < deadline, "scoring processes outlive their caller"
        time.sleep(0.1)
