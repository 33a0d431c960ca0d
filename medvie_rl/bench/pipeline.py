"""Generation ahead of training on two cores: how close a step comes to the longer of its two parts, how it compares
with strictly on-policy training, and how fast the engines sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any

from medvie_rl.bench.product import run_steps
from medvie_rl.bench.step_settings import NUM_CORES, STEPS, step_config
from medvie_rl.bench.types import Result

_ROUNDS = 2  # each layout runs so often, in turns
_NUM_STEPS = 21  # of a run; before the last of them the next batch is not there any more
_NUM_FIRST = 9  # of them, in which every document is new; 12 of 100 are in a step
_AHEAD = ("pipeline_depth=1", "rollout.num_workers=1", "learner.num_ranks=1")
_LAYOUT_AHEAD = "depth 1: an engine and a learner rank with a thread and a core each"
_LAYOUT_IN_TURNS = f"depth 0 as shipped: {NUM_CORES} engines and {NUM_CORES} ranks of a thread take turns on the cores"


@dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds of one step, from one line in the log to the next."""

    seconds: float
    generation: float  # of the batch that engines sampled meanwhile, by their own clocks
    update: float  # by the learner's own clock; 0 where there was nothing to learn

    @property
    def bound(self) -> float:
        """What the step cannot be shorter than."""
        return max(self.generation, self.update)


def bench_step_against_bound() -> Result:
    """How long a step is at depth 1, in terms of what neither engine nor learner could do faster."""
    ahead, _ = _runs()
    seconds, bound = median(step.seconds for step in ahead), median(step.bound for step in ahead)
    generation, update = median(step.generation for step in ahead), median(step.update for step in ahead)
    return Result(
        name="pipeline_step_vs_bound",
        value=seconds / bound,
        unit=f"of the longer of generation and update, shipped step on {NUM_CORES} cores",
        better="lower",
        compared_with=(
            f"a step of {seconds:.2f} s beside max(generation, update) {bound:.2f} s, medians of {len(ahead)} steps in "
            f"{_ROUNDS} runs, all of documents seen before; generation {generation:.2f} s by the engine's clock, "
            f"update {update:.2f} s by the learner's; {_LAYOUT_AHEAD}"
        ),
    )


def bench_depths() -> Result:
    """The same steps with and without a batch ahead."""
    ahead, in_turns = _runs()
    ours, theirs = (sum(step.seconds for step in steps) / _ROUNDS for steps in (ahead, in_turns))
    num_steps = len(ahead) // _ROUNDS
    return Result(
        name="pipeline_depth1_vs_depth0",
        value=theirs / ours,
        unit=f"times as fast, {num_steps} shipped steps on {NUM_CORES} cores",
        better="higher",
        compared_with=(
            f"{ours:.1f} s at {_LAYOUT_AHEAD}; {theirs:.1f} s at {_LAYOUT_IN_TURNS} (generation "
            f"{median(step.generation for step in in_turns):.2f} s, update "
            f"{median(step.update for step in in_turns):.2f} s); wall time, means of {_ROUNDS} runs each, by turns"
        ),
    )


def bench_rollouts() -> Result:
    """What the shipped engines sample while they have the cores for themselves."""
    alone = ("rollout.num_workers=1",)
    reasoning, direct = (_tokens_per_second(STEPS[name]) for name in ("reasoning", "direct"))
    one, one_direct = (_tokens_per_second((*STEPS[name], *alone)) for name in ("reasoning", "direct"))
    rollout = step_config("reasoning").rollout
    return Result(
        name="rollout_tokens_per_s",
        value=reasoning,
        unit=f"tokens/s, reasoning and answer of at most {rollout.max_response_tokens} tokens, {rollout.num_workers} "
        f"engines x {rollout.num_threads} thread",
        better="higher",
        compared_with=(
            f"direct answers {direct:,.0f} tokens/s; one engine x {rollout.num_threads} thread {one:,.0f} and "
            f"{one_direct:,.0f} tokens/s; all warm, by the time that the loop waits for a batch, medians of "
            f"{_NUM_STEPS - _NUM_FIRST} steps"
        ),
    )


@cache
def _runs() -> tuple[list[Step], list[Step]]:
    """Steps of documents seen before at depth 1 and at depth 0."""
    ahead: list[Step] = []
    in_turns: list[Step] = []
    for _ in range(_ROUNDS):
        ahead += _steps(_AHEAD, depth=1)
        in_turns += _steps((), depth=0)
    return ahead, in_turns


def _steps(overrides: Sequence[str], *, depth: int) -> list[Step]:
    lines, _ = run_steps((*STEPS["reasoning"], *overrides), _NUM_STEPS)
    return steps_of(lines, depth=depth)[_NUM_FIRST - 1 :]


def steps_of(lines: Sequence[Mapping[str, Any]], *, depth: int) -> list[Step]:
    """The steps from the second to the one before the last, from the logged metrics of each: what the engines sample
    during a step is the batch of the one `depth` steps later."""
    return [
        Step(
            seconds=line["time/logged"] - before["time/logged"],
            generation=lines[index + depth]["time/generation"],
            update=sum(seconds for name, seconds in line.items() if name.startswith("time/update_")),
        )
        for index, (before, line) in enumerate(pairwise(lines[:-1]), start=1)
    ]


def _tokens_per_second(overrides: Sequence[str]) -> float:
    lines, _ = run_steps(overrides, _NUM_STEPS)
    rates: list[float] = [line["rollout/tokens_total"] / line["time/generate"] for line in lines[_NUM_FIRST:]]
    return median(rates)
