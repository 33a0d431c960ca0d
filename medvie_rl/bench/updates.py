"""The packed update beside the naive one, in one process: the same responses, loss, optimizer and frozen vision tower.

`python -m medvie_rl.bench.updates NAME` measures one of the two kinds of responses and prints what it found as JSON.
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

from medvie_rl.bench.step_settings import step_config, step_queries, user_text
from medvie_rl.bench.types import Result
from medvie_rl.config import Config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.queries import Query

_REPEATS = 7  # of each way, in turns
_TOLERANCE = 1e-3  # relative, of loss and gradient norm of the two ways


def bench_packed_update() -> Result:
    """Responses as long as direct answers of at most 24 tokens."""
    return _result("packed_update_vs_naive", "direct")


def bench_packed_reasoning_update() -> Result:
    """Responses as long as reasoning with an answer, about 70 tokens."""
    return _result("packed_update_vs_naive_reasoning", "reasoning")


def _result(name: str, step: str) -> Result:
    command = [sys.executable, "-m", "medvie_rl.bench.updates", step]
    run = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | _environment(step), text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    naive = {int(rows): seconds for rows, seconds in found["naive"].items()}
    best = min(naive, key=lambda rows: naive[rows])
    others = ", ".join(f"{seconds:.2f} s with {rows} rows" for rows, seconds in naive.items())
    return Result(
        name=name,
        value=naive[best] / found["packed"],
        unit=f"times as fast, {found['responses']} responses of {found['tokens']:.0f} tokens on average behind "
        f"{found['prompt']:.0f} of prompt",
        better="higher",
        compared_with=(
            f"every response in a row of its own, prompt and image repeated, in micro-batches of {best} rows "
            f"({others}), {found['naive_mib']:,.0f} MiB at the peak beyond what it holds between updates; packed "
            f"{found['packed']:.2f} s and {found['packed_mib']:,.0f} MiB with every image encoded anew, "
            f"{found['cached']:.2f} s with images known from earlier steps; the same loss and gradient, "
            f"{found['threads']} threads, medians of {_REPEATS} in one process, by turns"
        ),
    )


def _environment(step: str) -> dict[str, str]:
    from medvie_rl.environment import run_environment
    from medvie_rl.workers import learner_environment

    return run_environment(allow_downloads=False) | learner_environment(step_config(step).learner, on_gpu=False)


def measure(step: str) -> dict[str, Any]:
    """Seconds of the packed update (images encoded anew, or `cached`) and of the naive one by rows of a micro-batch."""
    from learner.batching import make_update_batches
    from learner.worker import LearnerWorker
    from medvie_rl.bench.naive_update import NaiveLearner
    from rollout.worker import banned_ids

    config = step_config(step)
    data = load_run_data(config)
    queries = step_queries(config, data, 1)
    images = {key: image for query in queries for key, image in data.images(query.document).items()}
    port = _free_port()
    learner = LearnerWorker(config.learner, config.model, master_port=port)
    forgetful = LearnerWorker(replace(config.learner, feature_cache_mib=0), config.model, master_port=port)
    for worker in (learner, forgetful):
        worker.add_images(images)
    groups = _groups(config, data, queries, learner)
    pixels = {key: learner.images.pixels(key) for key in images}
    naive = NaiveLearner(config.learner, config.model, pixels)
    temperature, banned = config.rollout.temperature, banned_ids(learner.policy.config)
    (batch,) = make_update_batches(
        groups,
        config.learner,
        learning_rate=config.learner.learning_rate,
        temperature=temperature,
        banned_token_ids=banned,
        max_response_tokens=config.rollout.max_response_tokens,
    )

    def packed(worker: LearnerWorker) -> Callable[[], tuple[float, float]]:
        def update() -> tuple[float, float]:
            stats, _ = worker.update(batch)
            return stats.loss, stats.gradient_norm

        return update

    def naively(rows: int) -> Callable[[], tuple[float, float]]:
        return lambda: naive.update(groups, rows=rows, temperature=temperature, banned=banned)

    num_responses = sum(len(group.responses) for group in groups)
    longest = max(len(group.prompt_ids) + max(len(r.token_ids) for r in group.responses) for group in groups)
    within_budget = config.learner.max_tokens_per_micro_batch // longest
    all_rows = sorted({within_budget, num_responses // 2, num_responses})
    expected = naively(num_responses)()  # warms up, as do the next two
    for worker in (learner, forgetful):
        _check_equal(packed(worker)(), expected)
    ways = {"packed": packed(forgetful), "cached": packed(learner)} | {str(rows): naively(rows) for rows in all_rows}
    seconds, mib = _measure_by_turns(ways)
    best = min(all_rows, key=lambda rows: seconds[str(rows)])
    return {
        "packed": seconds["packed"],
        "cached": seconds["cached"],
        "packed_mib": mib["packed"],
        "naive": {rows: seconds[str(rows)] for rows in all_rows},
        "naive_mib": mib[str(best)],
        "responses": num_responses,
        "tokens": batch.num_response_tokens[0] / num_responses,
        "prompt": sum(len(group.prompt_ids) for group in groups) / len(groups),
        "threads": config.learner.num_threads,
    }


def _measure_by_turns(ways: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each way, and the most memory it took in MiB beyond what the process held before.

    Memory is measured in a round of its own, for which what is unused is given back first: that costs time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    mib = {}
    for name, way in ways.items():
        before = _rest()
        way()
        mib[name] = _status_mib("VmHWM") - before
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


def _groups(config: Config, data: RunData, queries: Sequence[Query], learner: Any) -> list[Any]:
    """Training groups of the queries with responses like those that the policy samples, of the same lengths."""
    from learner.types import TrainingGroup, TrainingResponse
    from medvie_rl.data.prompts import render_chat
    from rollout.worker import decode_image

    rng, processor, groups = random.Random(0), learner.processor, []
    for query in queries:
        ((key, encoded),) = data.images(query.document).items()
        text = render_chat(processor, user_text(data, query))
        prompt = processor(text=[text], images=[decode_image(key, encoded)])["input_ids"][0]
        responses = []
        for trace in range(config.num_traces):
            ids = _response_ids(config, query, processor.tokenizer, rng)
            logprobs = tuple(rng.uniform(-2.0, 0.0) for _ in ids)
            advantage = 1.0 if trace % 2 else -1.0
            responses.append(TrainingResponse(token_ids=ids, sampler_logprobs=logprobs, advantage=advantage))
        groups.append(
            TrainingGroup(
                query_id=query.id,
                prompt_ids=tuple(map(int, prompt)),
                image_keys=query.document.image_keys,
                responses=tuple(responses),
            )
        )
    return groups


def _response_ids(config: Config, query: Query, tokenizer: Any, rng: random.Random) -> tuple[int, ...]:
    """What the document says of most of the keys asked, ended or cut off as in sampling."""
    known = list(query.truth.items()) or [(query.keys[0], "")]
    answered = dict(rng.sample(known, max(1, len(known) - rng.randrange(2))))
    text = json.dumps(answered, ensure_ascii=False, separators=(",", ":"))
    if query.reasoning:
        lines = "\n".join(f"{key}: {value}" for key, value in answered.items())
        text = f"<think>{lines}</think>{text}"
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return tuple(ids[: config.rollout.max_response_tokens])


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
