"""No two traces of a run sample from the same stream of random numbers."""

from collections.abc import Callable
from itertools import pairwise

from medvie_rl.data.queries import rollout_seed
from rollout.worker import engine_seed

NUM_STEPS, QUERIES_PER_STEP, NUM_TRACES = 2000, 128, 64
NUM_EVALUATED = 1000


def least_distance(seed_of: Callable[[int, str], int]) -> int:
    """Between the first streams of any two of a long run's groups; those of a group are the next `NUM_TRACES`."""
    queries = [
        (step, f"train-{step * QUERIES_PER_STEP + index}")
        for step in range(NUM_STEPS)
        for index in range(QUERIES_PER_STEP)
    ] + [(0, f"eval-slip-{index}") for index in range(NUM_EVALUATED)]
    first = sorted(engine_seed(seed_of(step, query)) for step, query in queries)
    assert first[0] >= 0
    assert first[-1] + NUM_TRACES < 2**63  # what a signed integer of the engine holds
    return min(after - before for before, after in pairwise(first))


def test_no_two_traces_of_a_run_share_a_stream() -> None:
    assert least_distance(lambda step, query: rollout_seed(1, step, query)) >= NUM_TRACES


def test_seeds_that_count_would_share_streams() -> None:
    assert least_distance(lambda step, query: 1 + step + int(query.rsplit("-", 1)[1])) < NUM_TRACES
    assert least_distance(lambda step, query: rollout_seed(1, step, query) % 2**32) < NUM_TRACES


def test_a_query_that_comes_again_and_another_run_sample_anew() -> None:
    seeds = {rollout_seed(run, step, query) for run in (1, 2) for step in (0, 1) for query in ("train-0", "train-1")}
    assert len(seeds) == 8
