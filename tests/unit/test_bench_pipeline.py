"""The arithmetic of the pipeline's benchmark."""

import pytest

from medvie_rl.bench.pipeline import Step, steps_of

LINES = [
    {"time/logged": 100.0, "time/generation": 1.0, "time/update_forward": 0.5, "time/update_backward": 0.75},
    {"time/logged": 102.0, "time/generation": 2.0, "time/update_forward": 1.5, "time/update_backward": 1.0},
    {"time/logged": 105.0, "time/generation": 4.0, "time/generate": 9.0},  # nothing to learn from
    {"time/logged": 106.0, "time/generation": 8.0, "time/update_forward": 7.0, "time/update": 9.0},
]


@pytest.mark.parametrize(("depth", "generation", "bounds"), [(0, (2.0, 4.0), (2.5, 4.0)), (1, (4.0, 8.0), (4.0, 8.0))])
def test_a_step_is_compared_with_what_was_sampled_during_it(
    depth: int, generation: tuple[float, float], bounds: tuple[float, float]
) -> None:
    steps = steps_of(LINES, depth=depth)
    assert steps == [
        Step(seconds=2.0, generation=generation[0], update=2.5),
        Step(seconds=3.0, generation=generation[1], update=0.0),
    ]
    assert tuple(step.bound for step in steps) == bounds
