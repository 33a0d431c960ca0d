"""One full RL step, ours beside TRL's: generate, score, update, sync; each system in processes of its own, by turns."""

import json
import sys
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from medvie_rl.bench.product import run_command, run_steps
from medvie_rl.bench.step_settings import NUM_CORES, STEPS, step_config
from medvie_rl.bench.trl_step import MICRO_BATCH_ROWS
from medvie_rl.bench.types import Result

_ROUNDS = 2  # each system runs so often, in turns
_NUM_STEPS = 20  # of a run
_NUM_FIRST = 9  # of them, in which every document is new; 12 of 100 are in a step


@dataclass(kw_only=True)
class _Measured:
    """Of all runs of one system, from the step on from which all documents have been seen."""

    seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)  # of the steps before, without the very first
    tokens: list[float] = field(default_factory=list)  # sampled in a step
    peak_mib: float = 0.0  # of all its processes together
    phases: dict[str, list[float]] = field(default_factory=dict)


def bench_against_trl() -> Result:
    """Direct answers of at most 24 tokens."""
    return _compare("rl_step_vs_trl", "direct")


def bench_reasoning_against_trl() -> Result:
    """Reasoning and answer in at most 256 tokens, the shipped configuration."""
    return _compare("rl_step_vs_trl_reasoning", "reasoning")


def _compare(name: str, step: str) -> Result:
    import trl

    ours, theirs = _Measured(), _Measured()
    for _ in range(_ROUNDS):
        _measure_ours(step, ours)
        _measure_trl(step, theirs)
    config = step_config(step)
    phases = ", ".join(f"{phase} {median(seconds):.2f}" for phase, seconds in ours.phases.items())
    return Result(
        name=name,
        value=median(theirs.seconds) / median(ours.seconds),
        unit=f"times as fast, {config.queries_per_step} queries x {config.num_traces} responses, at most "
        f"{config.rollout.max_response_tokens} tokens",
        better="higher",
        compared_with=(
            f"TRL {trl.__version__} GRPOTrainer (transformers' generate, as its vLLM needs CUDA; micro-batches of "
            f"{MICRO_BATCH_ROWS} rows) on the same policy, queries, prompts, reward, sampling, {NUM_CORES} "
            f"threads and float32, vision tower frozen, groups of equal rewards trained, too: "
            f"{median(theirs.seconds):.2f} s a step, peak {theirs.peak_mib:,.0f} MiB, {fmean(theirs.tokens):,.0f} "
            f"tokens sampled; ours, Ray actors and all: {median(ours.seconds):.2f} s ({phases}), peak "
            f"{ours.peak_mib:,.0f} MiB, {fmean(ours.tokens):,.0f} tokens; "
            f"medians of {len(ours.seconds)} steps in {_ROUNDS} runs each, by turns, "
            f"all of documents seen before; in steps 2 to {_NUM_FIRST}, whose documents are new, "
            f"{median(theirs.first_seconds):.2f} and {median(ours.first_seconds):.2f} s"
        ),
    )


def _measure_ours(step: str, measured: _Measured) -> None:
    """A run of the product. The seconds of a step are those that the loop itself logs."""
    steps, peak_mib = run_steps(STEPS[step], _NUM_STEPS)
    measured.peak_mib = max(measured.peak_mib, peak_mib)
    measured.first_seconds += [metrics["time/step"] for metrics in steps[1:_NUM_FIRST]]
    steps = steps[_NUM_FIRST:]
    measured.seconds += [metrics["time/step"] for metrics in steps]
    measured.tokens += [metrics["rollout/tokens_total"] for metrics in steps]
    for phase in ("generate", "score", "update", "sync"):
        times = [metrics[f"time/{phase}"] for metrics in steps if f"time/{phase}" in metrics]
        measured.phases.setdefault(phase, []).extend(times)


def _measure_trl(step: str, measured: _Measured) -> None:
    finished = run_command([sys.executable, "-m", "medvie_rl.bench.trl_step", step, str(_NUM_STEPS)])
    measured.peak_mib = max(measured.peak_mib, finished.peak_mib)
    found: dict[str, Any] = json.loads(finished.output.splitlines()[-1])
    measured.first_seconds += found["seconds"][1:_NUM_FIRST]
    measured.seconds += found["seconds"][_NUM_FIRST:]
    measured.tokens += found["tokens"][_NUM_FIRST:]
