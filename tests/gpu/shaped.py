"""Policies of a shipped shape with random weights, and what their updates and steps take.

All of it runs on a CPU as well, with the shape made small: tests/integration/test_gpu_helpers.py does that, so that a
GPU is not the first to execute it. Random weights cost what real ones cost, and write responses to their limit.
"""

import hashlib
import io
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from learner.batching import make_update_batches, plan_micro_batches, row_length
from learner.types import TrainingGroup, TrainingResponse
from learner.worker import LearnerWorker
from medvie_rl.config import Config
from medvie_rl.fit.duration import learner_flops
from medvie_rl.fit.gpus import GPUS, Gpu
from medvie_rl.fit.items import GIB, Workload, total
from medvie_rl.fit.learner import learner_memory
from medvie_rl.fit.shape import read_shape
from random_policy import policy_config, save_policy
from rollout.prompts import prompt_token_ids
from runs import metrics_of, only_run, run_to_end, train_command

SHAPES = Path(__file__).parents[2] / "medvie_rl" / "fit" / "policies"
ROPE: dict[str, dict[str, Any]] = {  # of the policies on the Hugging Face hub, by family
    "qwen2_5_vl": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "qwen3_vl": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
}
# Random answers earn no reward, and groups without any teach nothing: the entropy makes updates of them.
RL_STEPS = (
    "data.path=medvie_rl/nano/slips",
    "num_steps=3",
    "queries_per_step=4",
    "data.num_validation=4",
    "data.num_test=4",
    "evaluation.every=3",
    "evaluation.bootstrap_samples=200",
    "checkpoint.every=3",
    "learner.loss.entropy_coefficient=0.001",
    "rollout.max_response_tokens=500",
    "rails.max_logprob_difference=0",
)

# One row a micro-batch where all activations are kept: 6.5 MB a token of the 7B, 8.4 MB of the 8B, in bfloat16.
UPDATES = {
    "checkpointing": ("queries_per_step=4", "learner.gradient_checkpointing=true"),
    "all kept": (
        "queries_per_step=4",
        "num_traces=6",
        "learner.gradient_checkpointing=false",
        "learner.max_tokens_per_micro_batch=8192",
    ),
}


def save_shaped_policy(
    name: str,
    folder: Path,
    *,
    device: str,
    image_tokens: int,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
) -> Path:
    """Write a policy of a shape in medvie_rl/fit/policies in bfloat16, drawn on the device. Its processor makes about
    `image_tokens` of any image. `text` and `vision` change entries of the configuration, to make it small."""
    content = json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))
    family = content["model_type"]
    config = policy_config(
        family,
        content["text_config"] | {"rope_parameters": ROPE[family], "max_position_embeddings": 32768} | (text or {}),
        content["vision_config"] | (vision or {}),
        tied=content["tie_word_embeddings"],
    )
    torch.manual_seed(0)
    with torch.device(device):
        policy = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    pixels = image_tokens * (config.vision_config.patch_size * config.vision_config.spatial_merge_size) ** 2
    return save_policy(policy, folder, min_pixels=pixels, max_pixels=2 * pixels)


def gpu_of(device_name: str, memory_gib: float) -> Gpu | None:
    """The entry of medvie_rl.fit.gpus for what torch calls a device, e.g. "NVIDIA A100-SXM4-80GB"; None if none is."""
    words = device_name.upper().replace("-", " ").split()
    named = [gpu for gpu in GPUS.values() if set(gpu.name.split("-")) - {"80", "40"} <= set(words)]
    fitting = [gpu for gpu in named if abs(gpu.memory_gib - memory_gib) < 5]
    return fitting[0] if fitting else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNumbers:
    """What an update took, a mean over those measured, and its memory. Shares of peak are None where that is unknown.

    The share of peak of the operations that an update needs is called MFU, that of those which gradient checkpointing
    repeats as well HFU (arXiv 2204.02311, appendix B).
    """

    seconds: float
    phases: dict[str, float]  # seconds by the learner's own clock, of the last update
    row_tokens_per_second: float  # prompts once per group
    response_tokens_per_second: float
    mfu: float | None
    hfu: float | None
    estimated_gib: float  # of tensors, by `medvie plan`'s arithmetic for the fullest micro-batch
    measured_gib: float  # on a GPU the most that tensors held, on a CPU what the process holds


def measure_updates(
    rank: int, port: int, folder: str, config: Config, work: Workload, num_updates: int, tflops: float | None
) -> UpdateNumbers:
    """Updates of the policy in the folder by the learner of `config` on `queries_per_step` groups, the first one not
    measured. Collective, one rank here: in a process of its own by learner_ranks.run_ranks."""
    worker = LearnerWorker(config.learner, folder, rank, config.learner.num_ranks, "127.0.0.1", port)
    images, groups, work = _groups(worker, config, work)
    worker.add_images(images)
    (batch,) = make_update_batches(
        groups, config.learner, learning_rate=1e-5, temperature=1.0, max_response_tokens=work.response_tokens
    )
    worker.update(batch)
    seconds = []
    for _ in range(num_updates):
        started = time.perf_counter()
        stats, cost = worker.update(batch)
        seconds.append(time.perf_counter() - started)
        assert math.isfinite(stats.loss) and stats.gradient_norm > 0
    mean = fmean(seconds)
    shape = read_shape(folder)
    needed = replace(config, learner=replace(config.learner, gradient_checkpointing=False))
    operations = [learner_flops(counted, shape, work) for counted in (needed, config)]
    mfu, hfu = [flops / mean / (tflops * 1e12) if tflops else None for flops in operations]
    return UpdateNumbers(
        seconds=mean,
        phases=cost.seconds,
        row_tokens_per_second=sum(map(row_length, groups)) / mean,
        response_tokens_per_second=stats.num_tokens / mean,
        mfu=mfu,
        hfu=hfu,
        estimated_gib=_estimated_gib(folder, config, groups, work),
        measured_gib=cost.memory_gib,
    )


def _estimated_gib(folder: str, config: Config, groups: list[TrainingGroup], work: Workload) -> float:
    """Without the allocator's slack and the CUDA context, which are not tensors."""
    plan = plan_micro_batches(groups, config.learner.max_tokens_per_micro_batch)
    fullest = max(sum(map(row_length, rows)) for rows in plan)
    memory = learner_memory(
        replace(config.learner, max_tokens_per_micro_batch=fullest),
        read_shape(folder),
        work,
        needs_reference=config.loss.needs_reference,
        num_traces=config.num_traces,
        on_gpu=torch.cuda.is_available(),
    )
    return total([item for item in memory.learning if item.name != "allocator's slack"]) / GIB


def _groups(
    worker: LearnerWorker, config: Config, work: Workload
) -> tuple[dict[str, bytes], list[TrainingGroup], Workload]:
    """Images by key, groups of random tokens about them, and how many tokens these really have."""
    rng = np.random.default_rng(0)
    vocabulary = worker.policy.config.text_config.vocab_size
    images, groups = {}, []
    for number in range(config.queries_per_step):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (96, 128), dtype=np.uint8)).save(buffer, "PNG")
        key = hashlib.sha256(buffer.getvalue()).hexdigest()
        images[key] = buffer.getvalue()
        page = prompt_token_ids(worker.processor, "<|vision_start|><|image_pad|><|vision_end|>", [(96, 128)])
        text = rng.integers(20, vocabulary, max(1, work.prompt_tokens - len(page))).tolist()
        responses = tuple(
            TrainingResponse(
                token_ids=tuple(rng.integers(20, vocabulary, work.response_tokens).tolist()),
                sampler_logprobs=None,
                advantage=float(rng.standard_normal()),
                trace=trace,
            )
            for trace in range(config.num_traces)
        )
        groups.append(
            TrainingGroup(query_id=f"query {number}", prompt_ids=(*page, *text), image_keys=(key,), responses=responses)
        )
    found = replace(work, image_tokens=len(page) - 2, prompt_tokens=len(groups[0].prompt_ids))
    return images, groups, found


def measure_rl_steps(output_dir: Path, base: Path, *settings: str, config: str, seconds: float) -> dict[str, float]:
    """A short run of the `medvie` command, killed after so many seconds; what its last step took, and how far apart
    sampler and learner were. Every step trained."""
    run_to_end(train_command(output_dir, f"model={base}", *RL_STEPS, *settings, config=config), seconds=seconds)
    steps = [entry for entry in metrics_of(only_run(output_dir)) if "loss/loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3]
    kept = ("time/", "memory/", "sync/", "rollout/tokens_total", "loss/sampler_logprob_difference")
    return {name: value for name, value in steps[-1].items() if name.startswith(kept)}
