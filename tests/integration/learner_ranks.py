"""Helpers of the learner tests: a small training batch of the nano policy, ranks in processes, plain references."""

import gc
import io
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from learner.advantages import batch_advantages
from learner.batching import make_update_batches
from learner.config import LearnerConfig
from learner.types import TrainingGroup, TrainingResponse, UpdateBatch
from learner.worker import LearnerWorker
from paper_losses import CASES, MAX_RESPONSE_TOKENS, Response

NANO = os.environ.get("MEDVIE_NANO", str(Path(__file__).parents[2] / "medvie_rl" / "nano" / "policy"))
LEARNING_RATE = 1e-3
TEMPERATURE = 0.8
# Images and response lengths of the groups: uneven, one with two images, one with a response of one token.
GROUPS = {
    "query0": (("image0",), (5, 9)),
    "query1": (("image1", "image2"), (5, 1, 13)),
    "query2": (("image2",), (7, 2, 9, 4)),
}
REWARDS = [[0.9, 0.2], [0.0, 1.0, 0.4], [0.3, 0.7, 0.1, 0.8]]


def learner_config(**settings: Any) -> LearnerConfig:
    defaults: dict[str, Any] = {
        "learning_rate": LEARNING_RATE, "weight_decay": 0.1, "max_grad_norm": 0.1, "adam_epsilon": 1e-6,
        "max_tokens_per_micro_batch": 400, "freeze_vision": False,
    }  # fmt: skip
    return LearnerConfig(**(defaults | settings))


def file_of(bucket: Sequence[np.ndarray]) -> bytes:
    """A weight bucket as the safetensors file that its pieces make."""
    return b"".join(piece.tobytes() for piece in bucket)


def batches_of(groups: Sequence[TrainingGroup], config: LearnerConfig) -> list[UpdateBatch]:
    """One per rank."""
    return make_update_batches(
        groups,
        config,
        learning_rate=LEARNING_RATE,
        temperature=TEMPERATURE,
        max_response_tokens=MAX_RESPONSE_TOKENS,
    )


def make_images(count: int = 3) -> dict[str, bytes]:
    images = {}
    for index in range(count):
        pixels = np.random.RandomState(index).randint(0, 255, (64, 96 + 32 * index), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images[f"image{index}"] = buffer.getvalue()
    return images


def make_groups(policy: Any, processor: Any, images: dict[str, bytes]) -> list[TrainingGroup]:
    """The groups of GROUPS with advantages by GRPO, sampling logprobs a little off the policy's own."""
    rng = np.random.RandomState(7)
    groups = []
    for (name, (keys, lengths)), advantages in zip(GROUPS.items(), batch_advantages(REWARDS, "grpo"), strict=True):
        inputs = prompt_inputs(processor, [images[key] for key in keys])
        responses = []
        for trace, (length, advantage) in enumerate(zip(lengths, advantages, strict=True)):
            tokens = rng.randint(100, 400, size=length).tolist()
            with torch.no_grad():
                logprobs, _ = naive_forward(policy, inputs, tokens)
            responses.append(
                TrainingResponse(
                    token_ids=tuple(tokens),
                    sampler_logprobs=tuple((logprobs.numpy() + 0.15 * rng.randn(length)).tolist()),
                    advantage=advantage,
                    trace=trace,
                )
            )
        prompt = tuple(inputs["input_ids"][0].tolist())
        groups.append(TrainingGroup(query_id=name, prompt_ids=prompt, image_keys=keys, responses=tuple(responses)))
    return groups


def with_advantages(
    groups: Sequence[TrainingGroup], method: str, penalties: dict[tuple[str, int], float]
) -> list[TrainingGroup]:
    """The groups with the advantages of REWARDS, from which penalties are taken off."""
    rewards = [
        [reward - penalties.get((name, trace), 0.0) for trace, reward in enumerate(of_group)]
        for name, of_group in zip(GROUPS, REWARDS, strict=True)
    ]
    of_query = dict(zip(GROUPS, batch_advantages(rewards, method), strict=True))
    return [
        replace(
            group,
            responses=tuple(replace(r, advantage=of_query[group.query_id][r.trace]) for r in group.responses),
        )
        for group in groups
    ]


# --- plain references -------------------------------------------------------------------------------------------------


def prompt_inputs(processor: Any, images: Sequence[bytes]) -> dict[str, Tensor]:
    text = "<|vision_start|><|image_pad|><|vision_end|>" * len(images) + " What is on the page?"
    opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
    return dict(processor(text=[text], images=opened, return_tensors="pt"))


def naive_forward(policy: Any, inputs: dict[str, Tensor], tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(logprobs [R], entropies [R]) of one response in a row of its own: everything by transformers."""
    num_prompt = inputs["input_ids"].shape[1]
    logits = policy(
        input_ids=torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1),
        mm_token_type_ids=torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(tokens))),
        pixel_values=inputs["pixel_values"],
        image_grid_thw=inputs["image_grid_thw"],
        use_cache=False,
    ).logits[0, num_prompt - 1 : -1]
    logprobs = (logits / TEMPERATURE).log_softmax(-1)
    return logprobs[range(len(tokens)), list(tokens)], -(logprobs.exp() * logprobs).sum(-1)


def naive_responses(
    policy: Any,
    base: Any,
    processor: Any,
    images: dict[str, bytes],
    groups: Sequence[TrainingGroup],
    old: dict[tuple[str, int], Tensor] | None = None,
) -> list[list[Response]]:
    """The responses under `policy`, with a gradient, and under `base`; `old` logprobs are the policy's own unless
    given."""
    found = []
    for group in groups:
        inputs = prompt_inputs(processor, [images[key] for key in group.image_keys])
        of_group = []
        for response in group.responses:
            logprobs, entropies = naive_forward(policy, inputs, response.token_ids)
            with torch.no_grad():
                reference, _ = naive_forward(base, inputs, response.token_ids)
            of_group.append(
                Response(
                    logprobs=logprobs,
                    entropies=entropies,
                    old=old[group.query_id, response.trace] if old else logprobs.detach(),
                    sampler=torch.tensor(response.sampler_logprobs),
                    reference=reference,
                    reward=REWARDS[list(GROUPS).index(group.query_id)][response.trace],
                )
            )
        found.append(of_group)
    return found


def adamw(policy: Any, config: LearnerConfig) -> torch.optim.AdamW:
    matrices = [p for p in policy.parameters() if p.ndim >= 2]
    vectors = [p for p in policy.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )


def plain_step(
    policy: Any, optimizer: torch.optim.Optimizer, loss: Tensor, config: LearnerConfig
) -> tuple[float, float]:
    """One plain PyTorch step: (loss, gradient norm before clipping)."""
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
    optimizer.step()
    return loss.item(), norm.item()


# --- the learner in processes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A learner to take the gradient of a loss from: `loss` of paper_losses.CASES, by name."""

    settings: dict[str, Any] = field(default_factory=dict)  # of its LearnerConfig
    loss: str = "paper"
    own_denominators: bool = False  # planted fault: each rank divides by its own numbers of tokens and responses

    def config(self, num_ranks: int) -> LearnerConfig:
        return learner_config(num_ranks=num_ranks, loss=CASES[self.loss][0], **self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a case gave: on rank 0 the whole gradients; the loss that was logged; the KLs to the reference."""

    gradients: list[dict[str, Tensor]]  # of every optimizer step
    adapters: dict[str, Tensor]
    loss: float
    reference_kl: dict[tuple[str, int], float]


def gradients_of_cases(
    rank: int, port: int, num_ranks: int, cases: Sequence[Case], groups: Sequence[TrainingGroup]
) -> list[Found]:
    """In a process of its own: per case one update by a new LearnerWorker."""
    found = []
    for case in cases:
        found.append(gradients_of_case(case, groups, rank=rank, num_ranks=num_ranks, port=port))
        gc.collect()  # the engine is in cycles: it goes here, on all ranks, and not while they talk to each other
    return found


def gradients_of_case(
    case: Case, groups: Sequence[TrainingGroup], *, rank: int = 0, num_ranks: int = 1, port: int = 0
) -> Found:
    """Collective over `num_ranks` processes."""
    config = case.config(num_ranks)
    with adapters_away_from_zero() as adapters:
        worker = LearnerWorker(config, NANO, rank, num_ranks, "127.0.0.1", port or free_port())
    worker.add_images(make_images())
    loss, kls = worker._loss, {}
    if loss.needs_reference:
        kls = {
            (found.query_id, found.trace): found.kl for found in worker.reference_kl(batches_of(groups, config)[rank])
        }
        of_ranks: list[Any] = [None] * num_ranks
        torch.distributed.all_gather_object(of_ranks, kls)
        kls = {response: kl for of_rank in of_ranks for response, kl in of_rank.items()}
    penalties = {response: loss.kl_coefficient * kl for response, kl in kls.items()} if loss.kl_in == "reward" else {}
    batch = batches_of(with_advantages(groups, loss.advantage, penalties), config)[rank]
    if case.own_denominators:
        responses = [r for g in batch.minibatches[0] for r in g.responses]
        num_tokens = sum(len(response.token_ids) for response in responses)
        batch = replace(batch, num_response_tokens=(num_tokens,), num_responses=(len(responses),))
    with recorded_gradients(worker) as gradients:
        stats, _ = worker.update(batch)
    return Found(
        gradients=gradients if rank == 0 else [],
        adapters=adapters,
        loss=stats.loss,
        reference_kl=kls,
    )


@contextmanager
def adapters_away_from_zero() -> Iterator[dict[str, Tensor]]:
    """Adapters made inside have a B that is not zero, so that A has a gradient and the policy is not its base."""
    from learner import model

    attach, made = model.attach_lora, {}

    def attach_away_from_zero(policy: Any, config: Any) -> str:
        summary = attach(policy, config)
        generator = torch.Generator().manual_seed(5)
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:
                parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
            if ".lora_" in name:
                made[name] = parameter.detach().clone()
        return summary

    model.attach_lora = attach_away_from_zero
    try:
        yield made
    finally:
        model.attach_lora = attach


@contextmanager
def recorded_gradients(worker: LearnerWorker) -> Iterator[list[dict[str, Tensor]]]:
    """The whole gradients, over all ranks and before clipping, of every optimizer step inside."""
    from deepspeed.utils import safe_get_full_grad

    optimizer, recorded = worker.optimizer, []
    step = optimizer.step

    def recording_step(*arguments: Any, **options: Any) -> Any:  # called when the gradients are reduced
        recorded.append(
            {
                name: safe_get_full_grad(parameter).clone()
                for name, parameter in worker.policy.named_parameters()
                if parameter.requires_grad
            }
        )
        return step(*arguments, **options)

    optimizer.step = recording_step
    try:
        yield recorded
    finally:
        optimizer.step = step


def run_ranks(task: Callable[..., Any], num_ranks: int, *arguments: Any) -> list[Any]:
    """`task(rank, port, *arguments)` on every rank, each a process of its own; the results in rank order."""
    port = free_port()
    with multiprocessing.get_context("spawn").Pool(num_ranks) as pool:
        calls = [pool.apply_async(task, (rank, port, *arguments)) for rank in range(num_ranks)]
        return [call.get(timeout=900) for call in calls]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
