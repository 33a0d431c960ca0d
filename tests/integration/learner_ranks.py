"""Helpers of the learner tests: a small training batch of the nano policy, ranks in processes, a plain reference."""

import io
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from learner.config import LearnerConfig
from learner.types import TrainingGroup, TrainingResponse, UpdateBatch
from learner.worker import LearnerWorker

NANO = os.environ.get("MEDVIE_NANO", str(Path(__file__).parents[2] / "medvie_rl" / "nano" / "policy"))
LEARNING_RATE = 1e-3
TEMPERATURE = 0.8


def learner_config(**settings: Any) -> LearnerConfig:
    defaults: dict[str, Any] = {
        "learning_rate": LEARNING_RATE, "weight_decay": 0.1, "max_grad_norm": 0.1, "adam_epsilon": 1e-6,
        "max_tokens_per_micro_batch": 400, "freeze_vision": False,
    }  # fmt: skip
    return LearnerConfig(**(defaults | settings))


def make_images(count: int = 3) -> dict[str, bytes]:
    images = {}
    for index in range(count):
        pixels = np.random.RandomState(index).randint(0, 255, (64, 96 + 32 * index), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images[f"image{index}"] = buffer.getvalue()
    return images


def make_groups(policy: Any, processor: Any, images: dict[str, bytes]) -> list[TrainingGroup]:
    """A group per image with 2 to 4 responses, sampling logprobs a little off the policy's own."""
    rng = np.random.RandomState(7)
    groups = []
    for index, (key, data) in enumerate(images.items()):
        inputs = prompt_inputs(processor, data)
        responses = []
        for number in range(2 + index):
            tokens = rng.randint(100, 400, size=5 + 4 * number)
            with torch.no_grad():
                logprobs = naive_logprobs(policy, inputs, tokens.tolist()).numpy()
            responses.append(
                TrainingResponse(
                    token_ids=tuple(tokens.tolist()),
                    sampler_logprobs=tuple((logprobs + 0.15 * rng.randn(len(tokens))).tolist()),
                    advantage=float(rng.randn()),
                )
            )
        prompt = tuple(inputs["input_ids"][0].tolist())
        groups.append(
            TrainingGroup(query_id=f"query{index}", prompt_ids=prompt, image_keys=(key,), responses=tuple(responses))
        )
    return groups


def prompt_inputs(processor: Any, data: bytes) -> dict[str, torch.Tensor]:
    text = "<|vision_start|><|image_pad|><|vision_end|> What is on the page?"
    return dict(processor(text=[text], images=[Image.open(io.BytesIO(data)).convert("RGB")], return_tensors="pt"))


def naive_logprobs(policy: Any, inputs: dict[str, torch.Tensor], tokens: list[int]) -> torch.Tensor:
    """Logprobs of one response in a row of its own: everything by transformers."""
    num_prompt = inputs["input_ids"].shape[1]
    logits = policy(
        input_ids=torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1),
        mm_token_type_ids=torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(tokens))),
        pixel_values=inputs["pixel_values"],
        image_grid_thw=inputs["image_grid_thw"],
        use_cache=False,
    ).logits[0, num_prompt - 1 : -1]
    return (logits / TEMPERATURE).log_softmax(-1)[range(len(tokens)), tokens]


def reference_update(
    policy: Any, processor: Any, images: dict[str, bytes], groups: list[TrainingGroup], config: LearnerConfig
) -> Callable[[], tuple[float, float]]:
    """A function that makes one plain PyTorch update of `policy`: (loss, gradient norm before clipping)."""
    matrices = [p for p in policy.parameters() if p.ndim >= 2]
    vectors = [p for p in policy.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )

    def update() -> tuple[float, float]:
        optimizer.zero_grad()
        losses = []
        for group in groups:
            inputs = prompt_inputs(processor, images[group.image_keys[0]])
            for response in group.responses:
                logprobs = naive_logprobs(policy, inputs, list(response.token_ids))
                ratio = (logprobs - torch.tensor(response.sampler_logprobs)).exp()
                bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
                losses.append(-torch.minimum(ratio * response.advantage, bounded * response.advantage))
        loss = torch.cat(losses).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
        optimizer.step()
        return loss.item(), norm.item()

    return update


def run_ranks(task: Callable[..., Any], num_ranks: int, *arguments: Any) -> list[Any]:
    """`task(rank, port, *arguments)` on every rank, each a process of its own; the results in rank order."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with multiprocessing.get_context("spawn").Pool(num_ranks) as pool:
        calls = [pool.apply_async(task, (rank, port, *arguments)) for rank in range(num_ranks)]
        return [call.get(timeout=300) for call in calls]


def updates_over_stages(
    rank: int, port: int, stages: tuple[int, ...], batches: dict[int, list[list[UpdateBatch]]], folder: str
) -> dict[int, Any]:
    """Per ZeRO stage: the stats of the updates and the weights (rank 0) after them, the last one repeated after a
    save and a load."""
    results = {}
    for stage in stages:
        config = learner_config(num_ranks=2, zero_stage=stage)
        worker = LearnerWorker(config, NANO, rank, 2, "127.0.0.1", port)
        worker.add_images(make_images())
        stats = [worker.update(of_ranks[rank]) for of_ranks in batches[stage]]
        weights = worker.gather_weights()
        worker.save(f"{folder}/stage{stage}", {"step": stage})
        ahead = worker.update(batches[stage][0][rank])
        client_state = worker.load(f"{folder}/stage{stage}")
        again = worker.update(batches[stage][0][rank])
        results[stage] = (stats, weights, client_state, ahead, again)
    return results
