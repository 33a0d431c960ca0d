"""The packed update beside the naive one: the same responses, loss, optimizer and frozen vision tower.

`python -m medvie_rl.bench.updates NAME RANK NUM_RANKS PORT` is one rank of a measurement; the first one prints what it
found as JSON.
"""

import ctypes
import gc
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from medvie_rl.bench.step_settings import NUM_CORES, learner_config, step_config, step_queries, user_text
from medvie_rl.bench.types import Result
from medvie_rl.config import Config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.queries import Query

_REPEATS = 7  # of each way, in turns
_TOLERANCE = 1e-3  # relative, of loss and gradient norm of the two ways


def bench_packed_update() -> Result:
    """Direct answers of at most 24 tokens."""
    return _result("packed_update_vs_naive", "direct")


def bench_packed_reasoning_update() -> Result:
    """Reasoning with an answer, about 70 tokens."""
    return _result("packed_update_vs_naive_reasoning", "reasoning")


def _result(name: str, step: str) -> Result:
    by_ranks = {num_ranks: _measure(step, num_ranks) for num_ranks in (1, NUM_CORES)}
    shipped = step_config(step).learner.num_ranks
    found, plain = by_ranks[shipped], by_ranks[1]
    best = min(plain["naive"], key=lambda rows: plain["naive"][rows])
    spread = min(by_ranks[NUM_CORES]["naive"].values())
    others = ", ".join(f"{seconds:.2f} s with {rows}" for rows, seconds in plain["naive"].items())
    packed = "; ".join(
        f"{measured['cached']:.2f} s with images known from earlier steps and {measured['packed']:.2f} s with all of "
        f"them encoded anew, {measured['packed_mib']:,.0f} MiB, in {_processes(num_ranks)}"
        for num_ranks, measured in by_ranks.items()
    )
    return Result(
        name=name,
        value=plain["naive"][best] / found["cached"],
        unit=f"times as fast, images known, {found['responses']} responses of {found['tokens']:.0f} tokens on average "
        f"behind {found['prompt']:.0f} of prompt",
        better="higher",
        compared_with=(
            f"every response in a row of its own, prompt and image repeated, in one process at its fastest: "
            f"{plain['naive'][best]:.2f} s and {plain['naive_mib'][best]:,.0f} MiB at the peak beyond what it holds "
            f"between updates, in micro-batches of {best} rows ({others}); the same spread over {NUM_CORES} processes: "
            f"{spread:.2f} s; packed: {packed} ({_processes(shipped)} is what is shipped); {found['behind']:.0%} of "
            f"the responses' tokens are left where those that begin alike share; the same loss and gradient, "
            f"{NUM_CORES} threads in all, medians of {_REPEATS} by turns"
        ),
    )


def _processes(num_ranks: int) -> str:
    return "one process" if num_ranks == 1 else f"{num_ranks} processes"


def _measure(step: str, num_ranks: int) -> dict[str, Any]:
    """What `measure` found in so many processes, which share the cores."""
    from medvie_rl.environment import run_environment
    from medvie_rl.workers import learner_environment

    config = learner_config(step, num_ranks=num_ranks)
    environment = os.environ | run_environment(allow_downloads=False) | learner_environment(config, on_gpu=False)
    command = [sys.executable, "-m", "medvie_rl.bench.updates", step]
    port = str(_free_port())
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(num_ranks), port], stdout=subprocess.PIPE, env=environment, text=True
        )
        for rank in range(num_ranks)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise RuntimeError(f"{' '.join(command)}: the ranks ended with {[rank.returncode for rank in ranks]}")
    found: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return found


def measure(step: str, rank: int, num_ranks: int, port: int) -> dict[str, Any]:
    """Seconds of the packed update (images encoded anew, or `cached`) and of the naive one by rows of a micro-batch."""
    from learner.batching import make_update_batches, row_length
    from learner.worker import LearnerWorker
    from medvie_rl.bench.naive_update import NaiveLearner
    from rollout.worker import banned_ids

    config, settings = step_config(step), learner_config(step, num_ranks=num_ranks)
    data = load_run_data(config)
    queries = step_queries(config, data, 1)
    images = {key: image for query in queries for key, image in data.images(query.document).items()}
    without_cache = replace(settings, feature_cache_mib=0)
    learner, forgetful = (
        LearnerWorker(kind, config.model, rank, num_ranks, master_port=port) for kind in (settings, without_cache)
    )
    for worker in (learner, forgetful):
        worker.add_images(images)
    pixels = {key: learner.images.pixels(key) for key in images}
    naive = NaiveLearner(settings, config.model, pixels)
    temperature, banned = config.rollout.temperature, banned_ids(learner.policy.config)
    groups = _groups(config, data, queries, learner.processor, naive)
    batch = make_update_batches(
        groups,
        settings,
        learning_rate=settings.learning_rate,
        temperature=temperature,
        banned_token_ids=banned,
        max_response_tokens=config.rollout.max_response_tokens,
    )[rank]

    def packed(worker: LearnerWorker) -> Callable[[], tuple[float, float]]:
        def update() -> tuple[float, float]:
            stats, _ = worker.update(batch)
            return stats.loss, stats.gradient_norm

        return update

    def naively(rows: int) -> Callable[[], tuple[float, float]]:
        return lambda: naive.update(groups, rows=rows, temperature=temperature, banned=banned)

    num_responses = sum(len(group.responses) for group in groups)
    longest = max(len(group.prompt_ids) + max(len(r.token_ids) for r in group.responses) for group in groups)
    within_budget = settings.max_tokens_per_micro_batch // longest
    of_rank = num_responses // num_ranks
    all_rows = sorted({of_rank // 4, min(within_budget, of_rank), of_rank})
    expected = naively(of_rank)()  # warms up, as do the next two
    for worker in (learner, forgetful):
        _check_equal(packed(worker)(), expected)
    ways = {"packed": packed(forgetful), "cached": packed(learner)} | {str(rows): naively(rows) for rows in all_rows}
    seconds, mib = _measure_by_turns(ways)
    num_prompt = sum(len(group.prompt_ids) for group in groups)
    return {
        "packed": seconds["packed"],
        "cached": seconds["cached"],
        "packed_mib": mib["packed"],
        "naive": {rows: seconds[str(rows)] for rows in all_rows},
        "naive_mib": {rows: mib[str(rows)] for rows in all_rows},
        "responses": num_responses,
        "tokens": batch.num_response_tokens[0] / num_responses,
        "prompt": num_prompt / len(groups),
        "behind": (sum(map(row_length, groups)) - num_prompt) / (batch.num_response_tokens[0] - num_responses),
    }


def _measure_by_turns(ways: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each way, and the most memory it took in MiB beyond what the processes held before.

    Memory is measured in a round of its own, for which what is unused is given back first: that costs time.
    """
    import torch.distributed

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_REPEATS):
        for name, way in ways.items():
            torch.distributed.barrier()
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    mib = {}
    for name, way in ways.items():
        before = _rest()
        way()
        of_ranks = torch.tensor(_status_mib("VmHWM") - before)
        torch.distributed.all_reduce(of_ranks)
        mib[name] = of_ranks.item()
    return {name: median(values) for name, values in seconds.items()}, mib


def _rest() -> float:
    """Give unused memory back, begin a new peak; returns what the process holds now, in MiB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5): resets VmHWM
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}: memory is measured on Linux only")


def _check_equal(packed: tuple[float, float], naive: tuple[float, float]) -> None:
    """Both begin with the same policy: loss and gradient of their first updates must agree."""
    for what, ours, other in zip(("loss", "gradient norm"), packed, naive, strict=True):
        if abs(ours - other) > _TOLERANCE * max(abs(ours), abs(other), 1e-2):
            raise RuntimeError(f"the two updates compute different things: {what} {ours} packed, {other} naive")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- responses -------------------------------------------------------------------------------------------------------


def _groups(config: Config, data: RunData, queries: Sequence[Query], processor: Any, naive: Any) -> list[Any]:
    """Training groups of the queries with responses that the policy sampled."""
    from learner.types import TrainingGroup, TrainingResponse
    from medvie_rl.data.prompts import render_chat
    from rollout.worker import banned_ids, decode_image

    rng, groups = random.Random(0), []
    for query in queries:
        ((key, encoded),) = data.images(query.document).items()
        text = render_chat(processor, user_text(data, query))
        prompt = processor(text=[text], images=[decode_image(key, encoded)])["input_ids"][0]
        group = TrainingGroup(
            query_id=query.id,
            prompt_ids=tuple(map(int, prompt)),
            image_keys=query.document.image_keys,
            responses=(),
        )
        sampled = naive.sample(
            group,
            config.num_traces,
            temperature=config.rollout.temperature,
            banned=banned_ids(naive.policy.config),
            max_tokens=config.rollout.max_response_tokens,
        )
        responses = tuple(
            TrainingResponse(
                token_ids=ids,
                sampler_logprobs=tuple(rng.uniform(-2.0, 0.0) for _ in ids),
                advantage=1.0 if trace % 2 else -1.0,
                trace=trace,
            )
            for trace, ids in enumerate(sampled)
        )
        groups.append(replace(group, responses=responses))
    return groups


if __name__ == "__main__":
    name, rank, num_ranks, port = sys.argv[1:]
    found = measure(name, int(rank), int(num_ranks), int(port))
    if rank == "0":
        print(json.dumps(found))
