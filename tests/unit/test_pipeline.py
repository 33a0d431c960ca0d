"""Which batches are asked for when, and what a checkpoint holds of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.checkpoints import RunState
from medvie_rl.config import Config, load_config
from medvie_rl.data.document import Document
from medvie_rl.data.queries import Query, QueryConfig, QueryStream
from medvie_rl.pipeline import Pipeline
from rewards.schema import FieldSpec, Schema
from rollout.types import FinishReason, Rollout, RolloutGroup

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=tuple(FieldSpec(key=key, description=key, kind="text") for key in "abc"),
)
DOCUMENTS = [
    Document(id=f"doc-{i}", document_type="note", schema="note", annotation={"a": "1", "b": "2"}, image_keys=())
    for i in range(6)
]
NUM_STEPS, NUM_QUERIES = 5, 4


class Engines:
    """Notes what it is asked for; rollouts are stamped with the weights of the moment of asking."""

    def __init__(self) -> None:
        self.version = 0
        self.asked: list[tuple[int, int]] = []  # (step, version)
        self.waited: list[int] = []

    def start_generating(self, queries: Sequence[Query], *, step: int) -> "Pending":
        self.asked.append((step, self.version))
        return Pending(self, step, [rollouts(query, self.version) for query in queries])


class Pending:
    def __init__(self, engines: Engines, step: int, groups: list[RolloutGroup]) -> None:
        self._engines, self._step, self._groups = engines, step, groups

    def result(self) -> list[RolloutGroup]:
        self._engines.waited.append(self._step)
        return self._groups


def rollouts(query: Query, version: int) -> RolloutGroup:
    sampled = Rollout(text="", token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, weight_version=version)
    return RolloutGroup(query_id=query.id, prompt_ids=(1,), rollouts=(sampled,))


def config(depth: int) -> Config:
    loaded = load_config(Path("conf/local.yaml"), [f"pipeline_depth={depth}"])
    return replace(loaded, num_steps=NUM_STEPS, queries_per_step=NUM_QUERIES)


def stream() -> QueryStream:
    return QueryStream(DOCUMENTS, {"note": SCHEMA}, QueryConfig(min_keys=1, max_keys=2), seed=1)


def run(engines: Any, depth: int, *, start: int = 0, stop: int = NUM_STEPS, in_flight: Any = None) -> Any:
    """Train from `start` up to `stop`: per step its queries and their versions; and what is in flight at the end."""
    state = RunState(step=start)
    pipeline = Pipeline(engines, stream(), config(depth), state, in_flight or {})
    taken = []
    for step in range(start, stop):
        queries, groups = pipeline.take(step)
        assert [group.query_id for group in groups] == [query.id for query in queries]
        taken.append((queries, {rollout.weight_version for group in groups for rollout in group.rollouts}))
        engines.version += 1
    return taken, pipeline.in_flight()


@pytest.mark.parametrize(
    ("depth", "asked"),
    [
        (0, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
        (1, [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]),
        (2, [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)]),
        (9, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]),
    ],
)
def test_a_batch_is_asked_for_as_many_steps_ahead_as_the_depth_says(depth: int, asked: list[tuple[int, int]]) -> None:
    engines = Engines()
    taken, in_flight = run(engines, depth)
    assert engines.asked == asked and in_flight == {}
    assert [versions for _, versions in taken] == [{version} for _, version in asked]
    assert engines.waited == [0, 1, 2, 3, 4]  # each once, when its step has come
    queries = [query for of_step, _ in taken for query in of_step]
    assert queries == stream().take(0, NUM_STEPS * NUM_QUERIES)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("stopped", [1, 3])
def test_a_resumed_run_trains_on_the_batches_that_were_in_flight(depth: int, stopped: int) -> None:
    whole, _ = run(Engines(), depth)
    engines = Engines()
    before, in_flight = run(engines, depth, stop=stopped)
    assert sorted(in_flight) == list(range(stopped, min(stopped + depth, NUM_STEPS)))
    resumed = Engines()
    resumed.version = engines.version
    after, _ = run(resumed, depth, start=stopped, in_flight=in_flight)
    assert before + after == whole
    assert [step for step, _ in engines.asked + resumed.asked] == list(range(NUM_STEPS))  # none twice


def test_a_checkpoint_in_between_changes_nothing() -> None:
    expected, _ = run(Engines(), 2)
    engines = Engines()
    pipeline = Pipeline(engines, stream(), config(2), RunState(), {})  # type: ignore[arg-type]
    taken = []
    for step in range(NUM_STEPS):
        queries, groups = pipeline.take(step)
        taken.append((queries, {rollout.weight_version for group in groups for rollout in group.rollouts}))
        engines.version += 1
        held = pipeline.in_flight()
        assert held == pipeline.in_flight() and sorted(held) == list(range(step + 1, min(step + 3, NUM_STEPS)))
    assert taken == expected
