"""Sampling the groups of a step, and again in place of those that teach nothing, up to a bound.

The first round asks for as many queries as the share of informative groups of earlier steps lets expect to be needed.
What is sampled beyond `queries_per_step` informative groups is not trained on; all of it is recorded and counted.
"""

import math
from collections.abc import Sequence

from learner.advantages import uninformative
from medvie_rl.batch import ScoredGroup
from medvie_rl.checkpoints import RunState
from medvie_rl.config import Config
from medvie_rl.pipeline import Batch, Pipeline
from medvie_rl.replay import Replay
from medvie_rl.timing import Stopwatch
from medvie_rl.workers import Workers

_MEMORY = 0.7  # weight of earlier steps in the share of informative groups
_LEAST_SHARE = 0.05  # which bounds how many queries a round may ask for


def sample_groups(
    step: int, state: RunState, pipeline: Pipeline | Replay, workers: Workers, config: Config, watch: Stopwatch
) -> list[ScoredGroup]:
    """All scored groups of the step, informative or not, in the order in which they were asked for."""
    with watch("generate"):
        batch = pipeline.take(step)
    groups = _scored(batch, workers, watch)
    sampling, wanted = config.dynamic_sampling, config.queries_per_step
    room = int(wanted * sampling.max_oversampling)
    for _ in range(sampling.max_rounds):
        missing = wanted - len(informative_groups(groups))
        num = min(math.ceil(missing / max(_LEAST_SHARE, _share(groups))), room)
        if num <= 0:
            break
        room -= num
        with watch("generate"):
            batch = pipeline.more(step, num)
        if not batch[0]:  # a replay has no others
            break
        groups += _scored(batch, workers, watch)
    if sampling.max_rounds:
        share = max(_LEAST_SHARE, _share(groups))
        state.informative_share = _MEMORY * state.informative_share + (1 - _MEMORY) * share
    return groups


def informative_groups(groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
    """Those whose rewards are not all equal."""
    return [group for group in groups if not uninformative(group.rewards)]


def dynamic_metrics(groups: Sequence[ScoredGroup], wanted: int) -> dict[str, float]:
    """How many groups were sampled, dropped, left over and wanting in a step that wants so many."""
    informative = len(informative_groups(groups))
    return {
        "rollout/sampled_groups": float(len(groups)),
        "rollout/dropped_groups": float(len(groups) - informative),
        "rollout/surplus_groups": float(max(0, informative - wanted)),
        "rollout/missing_groups": float(max(0, wanted - informative)),
    }


def _share(groups: Sequence[ScoredGroup]) -> float:
    return len(informative_groups(groups)) / len(groups)


def _scored(batch: Batch, workers: Workers, watch: Stopwatch) -> list[ScoredGroup]:
    queries, rollouts = batch
    watch.add("generation", max(group.seconds for group in rollouts))  # engines share a batch
    with watch("score"):
        scores = workers.score(queries, rollouts)
    return [ScoredGroup(query=q, group=g, scores=s) for q, g, s in zip(queries, rollouts, scores, strict=True)]
