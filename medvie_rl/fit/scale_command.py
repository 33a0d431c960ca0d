"""`medvie scale`: a table of step times of larger policies on more GPUs, estimated on paper. Starts nothing."""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvie_rl.errors import UserError
from medvie_rl.fit.command import add_workload, rates_of, workload_of
from medvie_rl.parser import Commands, add_command

_POLICIES = "Qwen/Qwen2.5-VL-7B-Instruct,Qwen/Qwen2.5-VL-32B-Instruct,Qwen/Qwen2.5-VL-72B-Instruct"
_NETWORK = 240.0  # GB/s of a node: 60% of eight ports of 400 Gb/s (data sheet of the DGX H100)
_ASSUMED = """\
Assumed: {gpu} in nodes of {node}, {network:g} GB/s between them. Prompts of {prompt:,} tokens, {image:,} of them image,
responses of {response:,}, all of average length. Achieved: learner {learner:.0%}, prefill {prefill:.0%} of peak
operations, decode {decode:.0%} of memory bandwidth, links {link:.0%}. The driver: {driver:g} us for each rollout,
behind everything else. The layout is the fastest of those that fit the GPUs' memory: split, engines and learner on
GPUs of their own, {ahead}; colocated, both on all of them by turns, strictly on-policy;
+cpu, with the optimizer in CPU memory (16 bytes a trained parameter, not checked). update: passes, optimizer, ZeRO
traffic. weights: gathering, broadcast, loading, and digests (rollout.verify_digests={digests}). Not counted:
evaluation, checkpoints, scoring, images seen for the first time, responses of unequal length, falling asleep and
waking. Formulas and their sources: medvie_rl/fit/ duration.py, weight_path.py, scale.py."""


def add_scale(commands: Commands) -> None:
    """Register the command `medvie scale`."""
    scale = add_command(
        commands,
        "scale",
        help="estimate step times of larger policies on more GPUs",
        description="Estimate, to first order, the seconds of a step for several policies and numbers of GPUs, each "
        "with the layout that is fastest among those that fit. Everything but policy and layout is the "
        "configuration's. Nothing is started; only shapes of policies are read.",
        examples=[
            ("medvie scale", "7B, 32B and 72B on 8, 64 and 256 H100"),
            ("medvie scale queries_per_step=512", "with larger batches"),
            ("medvie scale --gpu A100-80 --gpus 8,16,32 --csv scale.csv", "other GPUs, and all numbers in a file"),
        ],
    )
    scale.add_argument("--config", type=Path, default=Path("conf/qwen2_5_vl_7b_2_nodes.yaml"), metavar="FILE")
    scale.add_argument("--policies", default=_POLICIES, metavar="NAMES", help="separated by commas")
    scale.add_argument("--gpus", default="8,64,256", metavar="NUMBERS", help="default: 8,64,256")
    scale.add_argument(
        "--weak", action="store_true", help="queries_per_step is that of the fewest GPUs, and grows with their number"
    )
    scale.add_argument("--driver-us", type=float, metavar="US", help="of the driver's time for each rollout")
    scale.add_argument("--csv", type=Path, metavar="FILE", help="write all numbers here")
    add_workload(scale, gpu="H100", network=_NETWORK)
    scale.set_defaults(command=_scale)


def _scale(options: argparse.Namespace) -> int:
    from medvie_rl.config import load_config
    from medvie_rl.fit.gpus import find_gpu
    from medvie_rl.fit.items import Rates
    from medvie_rl.fit.reported import EASYR1, estimated_seconds
    from medvie_rl.fit.scale import DRIVER_US, Cluster, best_layout
    from medvie_rl.fit.shape import read_shape

    config = load_config(options.config, options.overrides)
    numbers, policies = _numbers(options.gpus), [name.strip() for name in options.policies.split(",")]
    work = workload_of(options, config.rollout.max_model_len, config.rollout.max_response_tokens)
    rates = rates_of(options, Rates(network=_NETWORK))
    driver_us = DRIVER_US if options.driver_us is None else options.driver_us
    if driver_us < 0:
        raise UserError(f"--driver-us: expected 0 or more, got {driver_us:g}")
    gpu, rows = find_gpu(options.gpu), []
    for policy in policies:
        shape = read_shape(policy)
        for num_gpus in numbers:
            queries = config.queries_per_step * (num_gpus // numbers[0] if options.weak else 1)
            cluster = Cluster(
                gpu=gpu, num_gpus=num_gpus, gpus_per_node=options.gpus_per_node, rates=rates, driver_us=driver_us
            )
            planned = best_layout(replace(config, queries_per_step=queries), shape, work, cluster)
            rows.append(row_of(policy.split("/")[-1], num_gpus, options.gpus_per_node, queries, config, planned))
    _print(rows)
    ahead = "sampling ahead of training" if config.pipeline_depth else "one after the other"
    print(
        _ASSUMED.format(
            gpu=gpu.name,
            node=options.gpus_per_node,
            network=rates.network,
            prompt=work.prompt_tokens,
            image=work.image_tokens,
            response=work.response_tokens,
            learner=rates.learner,
            prefill=rates.prefill,
            decode=rates.decode,
            link=rates.link,
            driver=driver_us,
            ahead=ahead,
            digests=str(config.rollout.verify_digests).lower(),
        )
    )
    print("The same formulas beside what EasyR1 v0.3.2 reports of its own steps (medvie_rl/fit/reported.py):")
    for reported in EASYR1:
        seconds = estimated_seconds(reported, config, rates)
        print(
            f"  {reported.policy} on 8 H100, {reported.settings}: {reported.seconds:.0f} s reported, {seconds:.0f} s "
            f"estimated ({seconds / reported.seconds - 1:+.0%})"
        )
    if options.csv:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return 0


def row_of(
    policy: str, num_gpus: int, gpus_per_node: int, queries: int, config: Any, planned: Any
) -> dict[str, str | int | float]:
    """The numbers of a layout by the name of their column, empty where none fits. Seconds, and bytes where it says."""
    row: dict[str, str | int | float] = {
        "policy": policy,
        "gpus": num_gpus,
        "nodes": -(-num_gpus // gpus_per_node),
        "queries": queries,
        "traces": config.num_traces,
    }
    parts = ("layout", "ranks", "engines", "tensor_parallel", "optimizer_in", "micro_batch_tokens", "sampling_s",
             "passes_s", "optimizer_s", "zero_traffic_s", "weights_s", "weights_gathering_s", "weights_sending_s",
             "weights_digests_s", "weights_loading_s", "weights_bytes", "driver_s", "step_s", "rollouts_per_s",
             "tokens_per_s_and_gpu", "bound")  # fmt: skip
    if planned is None:
        return row | dict.fromkeys(parts, "") | {"layout": "does not fit"}
    learner, rollout, seconds = planned.config.learner, planned.config.rollout, planned.seconds
    sync = seconds.sync
    values = (planned.config.cluster.layout, learner.num_ranks, rollout.num_workers,
              rollout.tensor_parallel_size, "cpu" if learner.offload_optimizer else "gpu",
              learner.max_tokens_per_micro_batch, seconds.sampling, seconds.learning, seconds.optimizer,
              seconds.gathering, sync.seconds, sync.gathering, sync.sending, sync.hashing, sync.loading,
              sync.num_bytes, planned.driver, planned.step, planned.rollouts_per_second,
              planned.tokens_per_second_and_gpu, planned.bound)  # fmt: skip
    return row | dict(zip(parts, values, strict=True))


def _print(rows: Sequence[dict[str, str | int | float]]) -> None:
    heads = ("policy", "GPUs", "queries", "layout", "ranks", "engines", "sampling s", "update s", "weights s",
             "digests s", "driver s", "step s", "rollouts/s", "tokens/s/GPU", "bound")  # fmt: skip
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    first = (row["policy"], str(row["gpus"]), f"{row['queries']}x{row['traces']}")
    if not row["ranks"]:
        return (*first, row["layout"], *[""] * 11)
    update = row["passes_s"] + row["optimizer_s"] + row["zero_traffic_s"]
    return (
        *first,
        row["layout"] + ("+cpu" if row["optimizer_in"] == "cpu" else ""),
        str(row["ranks"]),
        f"{row['engines']}x{row['tensor_parallel']}",
        *(f"{seconds:.1f}" for seconds in (row["sampling_s"], update, row["weights_s"], row["weights_digests_s"])),
        *(f"{row[name]:.1f}" for name in ("driver_s", "step_s", "rollouts_per_s")),
        f"{row['tokens_per_s_and_gpu']:,.0f}",
        row["bound"],
    )


def _numbers(text: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 2 or any(number % numbers[0] for number in numbers):
        raise UserError(f"--gpus: expected numbers from 2 on, each a multiple of the smallest, got {text!r}")
    return numbers
