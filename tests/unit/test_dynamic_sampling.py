"""Groups that teach nothing are replaced up to a bound, and what was sampled is counted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medvie_rl.batch import ScoredGroup
from medvie_rl.checkpoints import RunState
from medvie_rl.config import Config, load_config
from medvie_rl.data.document import Document
from medvie_rl.data.queries import Query, QueryConfig, QueryStream
from medvie_rl.dynamic_sampling import dynamic_metrics, informative_groups, sample_groups
from medvie_rl.dynamic_sampling_config import DynamicSamplingConfig
from medvie_rl.errors import ConfigError
from medvie_rl.pipeline import Pipeline
from medvie_rl.timing import Stopwatch
from rewards.schema import FieldSpec, Schema
from rollout.types import FinishReason, Rollout, RolloutGroup

WANTED = 6
SCHEMA = Schema(
    name="note", document_type="note", description="a note", fields=(FieldSpec(key="a", description="a", kind="text"),)
)
DOCUMENTS = [
    Document(id=f"doc-{i}", document_type="note", schema="note", annotation={"a": "1"}, image_keys=())
    for i in range(100)
]


class Workers:
    """Every `every`-th query of the stream has rewards that differ."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.rounds: list[int] = []

    def start_generating(self, queries: Sequence[Query], *, step: int) -> Any:
        self.rounds.append(len(queries))
        sampled = Rollout(text="", token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, weight_version=0)
        groups = [RolloutGroup(query_id=query.id, prompt_ids=(1,), rollouts=(sampled, sampled)) for query in queries]
        return SimpleNamespace(result=lambda: groups)

    def score(self, queries: Sequence[Query], groups: Sequence[RolloutGroup]) -> list[Any]:
        found = []
        for query in queries:
            differs = int(query.id.removeprefix("train-")) % self._every == 0
            found.append((SimpleNamespace(reward=0.0), SimpleNamespace(reward=float(differs))))
        return found


def config(**settings: Any) -> Config:
    loaded = replace(load_config(Path("conf/local.yaml")), queries_per_step=WANTED)
    return replace(loaded, dynamic_sampling=DynamicSamplingConfig(**settings))


def sample(workers: Workers, settings: Config, state: RunState, steps: int = 1) -> list[list[ScoredGroup]]:
    stream = QueryStream(DOCUMENTS, {"note": SCHEMA}, QueryConfig(min_keys=1, max_keys=1), seed=1)
    pipeline = Pipeline(workers, stream, settings, state, {})  # type: ignore[arg-type]
    return [
        sample_groups(step, state, pipeline, workers, settings, Stopwatch())  # type: ignore[arg-type]
        for step in range(steps)
    ]


def test_without_it_a_step_takes_what_comes() -> None:
    workers, state = Workers(3), RunState()
    groups = sample(workers, config(), state, steps=2)
    assert workers.rounds == [WANTED, WANTED] and [len(informative_groups(of_step)) for of_step in groups] == [2, 2]
    assert (state.next_query, state.informative_share) == (2 * WANTED, 1.0)


def test_groups_are_replaced_until_there_are_enough() -> None:
    workers, state = Workers(3), RunState()
    (groups,) = sample(workers, config(max_rounds=5, max_oversampling=10), state)
    assert workers.rounds == [6, 12]  # 2 of 6, so 12 for the 4 that are missing
    assert dynamic_metrics(groups, WANTED) == {
        "rollout/sampled_groups": 18.0,
        "rollout/dropped_groups": 12.0,
        "rollout/surplus_groups": 0.0,
        "rollout/missing_groups": 0.0,
    }
    assert state.next_query == 18 and state.informative_share == pytest.approx(0.7 + 0.3 / 3)
    assert [group.query.id for group in groups] == [f"train-{position}" for position in range(18)]


def test_the_first_round_learns_how_many_to_ask() -> None:
    workers, state = Workers(3), RunState()
    sample(workers, config(max_rounds=5, max_oversampling=10), state, steps=40)
    assert workers.rounds[-1] >= 17 and state.informative_share == pytest.approx(1 / 3, abs=0.02)


def test_rounds_and_oversampling_are_bounded() -> None:
    state = RunState()
    for settings, rounds in (({"max_rounds": 1}, [6, 18]), ({"max_rounds": 9, "max_oversampling": 2}, [6, 12])):
        workers = Workers(1000)
        (groups,) = sample(workers, config(**settings), replace(state, next_query=1))
        assert workers.rounds == rounds and dynamic_metrics(groups, WANTED)["rollout/missing_groups"] == WANTED
    workers = Workers(1)
    assert len(sample(workers, config(max_rounds=3), state)[0]) == WANTED and workers.rounds == [WANTED]


def test_settings_are_checked() -> None:
    for override, message in (
        ("dynamic_sampling.max_rounds=-1", "dynamic_sampling.max_rounds: expected 0"),
        ("dynamic_sampling.max_oversampling=0.5", "dynamic_sampling.max_oversampling: expected a factor of at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(Path("conf/local.yaml"), [override])
