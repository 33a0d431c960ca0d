"""The RL step that systems are compared on: the shipped policy and documents, 12 queries with 8 responses each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from learner.config import LearnerConfig
from medvie_rl.config import Config, load_config
from medvie_rl.data.load import RunData
from medvie_rl.data.queries import Query, QueryStream

CONFIG = Path("conf/local.yaml")
_DIRECT = ("queries.reasoning_fraction=0", "evaluation.reasoning=false", "rollout.max_response_tokens=24")

NUM_CORES = 2  # that each system may use

STEPS: Mapping[str, tuple[str, ...]] = {"direct": _DIRECT, "reasoning": ()}
"""Overrides of `conf/local.yaml` by the name of the step: direct answers of at most 24 tokens, or as it is shipped."""


def step_config(step: str) -> Config:
    """The configuration of one of `STEPS`."""
    return load_config(CONFIG, STEPS[step])


def learner_config(step: str, *, num_ranks: int) -> LearnerConfig:
    """The learner's part of it, in so many processes that share the cores."""
    return replace(step_config(step).learner, num_ranks=num_ranks, num_threads=NUM_CORES // num_ranks)


def step_queries(config: Config, data: RunData, num_steps: int) -> list[Query]:
    """The queries of the first steps of a run, in order."""
    stream = QueryStream(data.train, data.schemas, config.queries, seed=config.seed)
    return list(stream.take(0, num_steps * config.queries_per_step))


def user_text(data: RunData, query: Query) -> str:
    """The user's turn, as the loop renders it."""
    return data.template.user_text(
        data.schemas[query.document.schema],
        query.keys,
        reasoning=query.reasoning,
        columns=query.columns,
        descriptions=query.descriptions,
        language=query.document.language,
    )
