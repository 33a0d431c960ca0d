"""Real updates, then a sync: the engine answers as a fresh one and as transformers do, and planted faults are seen.

Greedy answers are equal token for token, logprobs of these and of sampled responses within TOLERANCE. The weights move
so far in the updates that most answers change.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load
from torch import Tensor
from transformers import AutoModelForImageTextToText

from learner.advantages import batch_advantages
from learner.batching import make_update_batches
from learner.config import LoraConfig
from learner.export import ADAPTER_FOLDER
from learner.types import ADAPTER, ALL, TrainingGroup, TrainingResponse
from learner.worker import LearnerWorker
from learner_ranks import LEARNING_RATE, file_of, free_port, learner_config
from random_policy import save_qwen3_vl
from rollout.config import AdapterSlot, RolloutConfig
from rollout.types import GenerationRequest, RolloutGroup
from rollout_engine import (
    NUM_DOCUMENTS,
    POLICY,
    EngineProcess,
    TransformersPolicy,
    make_buckets,
    make_requests,
    max_logprob_difference,
    save_untied_checkpoint,
    slip_images,
)

TOLERANCE = 1e-4  # of logprobs, float32
SAMPLER_TOLERANCE = 1e-3  # between engine and learner, which adds up in another order, over all updates
NUM_UPDATES = 20
NUM_TRACES = 4
NUM_FEW = 6  # requests that show a fault
CONFIG = RolloutConfig(
    temperature=0.8, max_response_tokens=32, max_model_len=384, kv_cache_gib=0.5, max_num_batched_tokens=4096
)
RANK, ALPHA = 4, 16.0
CACHES = ("prefix cache", "encoder cache")
APART = ("encoder cache", "adapter")  # an adapter comes from a folder of its own, which is in the prefix cache's keys


def nano(folder: Path) -> Path:
    return POLICY


def untied_nano(folder: Path) -> Path:
    save_untied_checkpoint(POLICY, folder)
    return folder


class Case(NamedTuple):
    """What is trained, how it travels, and which faults must be seen."""

    stale: tuple[str, ...]  # tensors of which the old one is sent, by the end of their names
    base: Callable[[Path], Path] = nano  # makes the checkpoint to start from, in a folder
    skipped: tuple[str, ...] = CACHES  # parts of the sync that are switched off, see EngineProcess
    untied: bool = False  # an output head of its own beside the embedding
    lora: bool = False
    apart: bool = False  # the adapter stays beside the base's weights
    vision_targets: tuple[str, ...] = ("qkv", "attn.proj", "down_proj", "merger.mlp.0")  # of LoRA
    rate: float = 1.0  # of LEARNING_RATE: random weights are soon certain of their answers, which would hide a tensor


CASES = {
    "full-tied": Case(
        stale=("embed_tokens.weight", "layers.2.self_attn.k_proj.weight", "blocks.0.mlp.down_proj.weight"),
        skipped=(*CACHES, "tied head"),
    ),
    "full-untied": Case(
        base=untied_nano, stale=("lm_head.weight", "embed_tokens.weight", "layers.1.mlp.up_proj.weight"), untied=True
    ),
    "lora-apart": Case(
        stale=("layers.1.self_attn.v_proj.lora_B.weight", "blocks.0.attn.qkv.lora_B.weight"),
        skipped=APART,
        lora=True,
        apart=True,
        rate=3.0,
    ),
    "lora-merged": Case(stale=("layers.1.self_attn.v_proj.weight", "blocks.0.attn.qkv.weight"), lora=True, rate=3.0),
    "qwen3_vl-full": Case(
        base=partial(save_qwen3_vl, seed=1),
        stale=("deepstack_merger_list.1.linear_fc2.weight", "blocks.0.attn.qkv.weight", "layers.2.mlp.up_proj.weight"),
        skipped=(*CACHES, "tied head"),
        rate=0.2,
    ),
    "qwen3_vl-lora-apart": Case(
        base=partial(save_qwen3_vl, seed=2, tied=False),
        stale=("layers.1.self_attn.v_proj.lora_B.weight", "deepstack_merger_list.1.linear_fc2.lora_B.weight"),
        skipped=APART,
        lora=True,
        apart=True,
        vision_targets=("qkv", "attn.proj", "linear_fc2", "merger.linear_fc1"),
        rate=0.5,
    ),
}
GATE = ("lora-apart",)  # the others are long


class Differences(NamedTuple):
    """Largest differences of logprobs; infinite where a token is another."""

    to_fresh: float
    to_transformers: float


class Run:
    """A learner and an engine that start from one checkpoint and go through updates and syncs; what the engine answers,
    and what it should."""

    def __init__(self, case: Case, engine: EngineProcess, fresh: EngineProcess, folder: Path) -> None:
        self.case, base, policy = case, case.base(folder / "base"), folder / "policy"
        lora = LoraConfig(rank=RANK, alpha=ALPHA, vision_targets=list(case.vision_targets))
        settings: dict[str, Any] = {"freeze_vision": case.lora, "lora": lora if case.lora else LoraConfig()}
        self.worker = LearnerWorker(learner_config(**settings), str(base), master_port=free_port())
        self.images = slip_images(NUM_DOCUMENTS)
        self.worker.add_images(self.images)
        processor = self.worker.processor
        self.requests: list[GenerationRequest] = [
            *make_requests(processor, self.images, num_traces=1, greedy=True),
            *make_requests(processor, islice(self.images, 8), num_traces=NUM_TRACES, greedy=False),
        ]
        self.engine, self.version = engine, 0
        engine.restart(str(base), AdapterSlot(rank=RANK, vision=True) if case.apart else None)
        engine.add_images(self.images)
        self.banned: list[int] = engine.banned_token_ids()

        self.fresh_before: list[RolloutGroup] = engine.generate(self.requests)
        self.sent_before = self.sync()
        self.before: list[RolloutGroup] = engine.generate(self.requests)
        self.sampler_differences = [self.step() for _ in range(NUM_UPDATES)]
        self.sent = self.sync()
        self.after: list[RolloutGroup] = engine.generate(self.requests)

        self.worker.export(policy, "float32")
        fresh.restart(str(policy))
        fresh.add_images(self.images)
        self.fresh_after: list[RolloutGroup] = fresh.generate(self.requests)
        self.transformers_before = self.in_transformers(base)
        self.transformers_after = (
            self.in_transformers(base, policy / ADAPTER_FOLDER) if case.apart else self.in_transformers(policy)
        )

    def in_transformers(self, folder: Path, adapter: Path | None = None) -> TransformersPolicy:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, adapter) if adapter else model
        return TransformersPolicy(model, self.worker.processor, self.images, self.banned)

    def sync(self) -> dict[str, Tensor]:
        """Bring the learner's weights into the engine; returns what was sent."""
        buckets = self.worker.gather_weights("float32", part=ADAPTER if self.case.apart else ALL)
        self._load(buckets)
        return {name: tensor for bucket in buckets for name, tensor in load(file_of(bucket)).items()}

    def send(self, tensors: Mapping[str, Tensor]) -> None:
        """Bring these weights into the engine."""
        self._load(make_buckets(tensors))

    def _load(self, buckets: Sequence[Any]) -> None:
        self.version += 1
        if self.case.apart:
            self.engine.update_adapter(buckets, self.worker.adapter_settings(), self.version)
        else:
            self.engine.update_weights(buckets, self.version)

    def step(self) -> float:
        """Sample, update, sync. Returns the largest difference of the engine's logprobs from the learner's."""
        key = list(self.images)[self.version % NUM_DOCUMENTS]
        requests = make_requests(self.worker.processor, [key], num_traces=NUM_TRACES, greedy=False)
        groups: list[RolloutGroup] = self.engine.generate(requests)
        (batch,) = make_update_batches(
            training_groups(requests, groups, seed=self.version),
            self.worker.config,
            learning_rate=LEARNING_RATE * self.case.rate,
            temperature=CONFIG.temperature,
            max_response_tokens=CONFIG.max_response_tokens,
            banned_token_ids=self.banned,
        )
        stats, _ = self.worker.update(batch)
        self.sync()
        return stats.sampler_logprob_difference_max

    def differences(self, num_requests: int) -> Differences:
        """Of what the engine answers now to the first requests from what it should after the updates."""
        groups = self.engine.generate(self.requests[:num_requests])
        return Differences(
            to_fresh=max_logprob_difference(groups, self.fresh_after[:num_requests]),
            to_transformers=self.difference_to(self.transformers_after, groups),
        )

    def difference_to(self, policy: TransformersPolicy, groups: Sequence[RolloutGroup]) -> float:
        """Largest difference of the logprobs of these answers to the first requests; infinite where a greedy answer
        is not that of transformers: where another token is likelier at some place of it, or it ends elsewhere."""
        found = [torch.zeros(1)]
        for request, group in zip(self.requests[: len(groups)], groups, strict=True):
            for rollout in group.rollouts:
                greedy, token_ids = request.answer is not None, torch.tensor(rollout.token_ids)  # [R]
                expected = policy.distributions(request, rollout.token_ids, 1.0 if greedy else CONFIG.temperature)
                if greedy and not (expected.argmax(-1).equal(token_ids) and ends_rightly(policy, rollout.token_ids)):
                    return float("inf")
                logprobs = expected.gather(1, token_ids[:, None])[:, 0]
                found.append((logprobs - torch.tensor(rollout.logprobs)).abs())
        return float(torch.cat(found).max())


def training_groups(
    requests: Sequence[GenerationRequest], groups: Sequence[RolloutGroup], seed: int
) -> list[TrainingGroup]:
    """The groups with advantages of random rewards: the policy moves, wherever to."""
    rewards = np.random.RandomState(seed).rand(len(groups), NUM_TRACES).tolist()
    return [
        TrainingGroup(
            query_id=request.query_id,
            prompt_ids=group.prompt_ids,
            image_keys=request.image_keys,
            responses=tuple(
                TrainingResponse(
                    token_ids=rollout.token_ids, sampler_logprobs=rollout.logprobs, advantage=advantage, trace=trace
                )
                for trace, (rollout, advantage) in enumerate(zip(group.rollouts, advantages, strict=True))
            ),
        )
        for request, group, advantages in zip(requests, groups, batch_advantages(rewards, "grpo"), strict=True)
    ]


def ends_rightly(policy: TransformersPolicy, token_ids: Sequence[int]) -> bool:
    """Whether transformers would end the response where it ends."""
    ends = set(np.atleast_1d(policy.model.generation_config.eos_token_id).tolist())
    return not ends & set(token_ids[:-1]) and (token_ids[-1] in ends or len(token_ids) == CONFIG.max_response_tokens)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[EngineProcess, EngineProcess]]:
    """Two processes, which load their libraries side by side. No engine of the second one is ever synced."""
    made = (EngineProcess(CONFIG, POLICY), EngineProcess(CONFIG, POLICY))
    yield made
    for engine in made:
        engine.close()


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in GATE else pytest.mark.full) for name in CASES],
)
def run(
    request: pytest.FixtureRequest,
    engines: tuple[EngineProcess, EngineProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    return Run(CASES[request.param], *engines, tmp_path_factory.mktemp(request.param))


def test_a_synced_engine_answers_as_a_fresh_one_and_as_transformers(run: Run) -> None:
    assert max_logprob_difference(run.before, run.fresh_before) <= TOLERANCE
    assert run.difference_to(run.transformers_before, run.before) <= TOLERANCE
    assert max_logprob_difference(run.after, run.fresh_after) <= TOLERANCE
    assert run.difference_to(run.transformers_after, run.after) <= TOLERANCE

    before_and_after = list(zip(run.before, run.after, strict=True))[:NUM_DOCUMENTS]
    changed = [old.rollouts[0].token_ids != new.rollouts[0].token_ids for old, new in before_and_after]
    assert sum(changed) > NUM_DOCUMENTS / 2
    assert len(run.sampler_differences) == NUM_UPDATES
    assert np.max(run.sampler_differences) <= SAMPLER_TOLERANCE


def test_a_skipped_part_of_the_sync_is_seen(run: Run) -> None:
    for fault in run.case.skipped:
        run.send(run.sent_before)
        run.engine.generate(run.requests[:NUM_FEW])  # fills the caches with what the old weights saw
        run.engine.plant(fault)
        run.send(run.sent)
        found = run.differences(NUM_FEW)
        run.engine.plant(None)
        assert min(found) > 10 * TOLERANCE, fault
    run.send(run.sent)
    assert np.max(run.differences(NUM_FEW)) <= TOLERANCE


def wrong_tensors(run: Run) -> Iterator[tuple[str, Tensor]]:
    """(name of a tensor, what is sent in its place): the old one; the embedding for a head that is not tied to it."""
    for ending in run.case.stale:
        (name,) = [name for name in run.sent if name.endswith(ending)]
        yield name, run.sent_before[name]
    if run.case.untied:
        (embedding,) = [tensor for name, tensor in run.sent.items() if name.endswith("embed_tokens.weight")]
        yield "lm_head.weight", embedding


def test_one_wrong_tensor_is_seen(run: Run) -> None:
    for name, tensor in wrong_tensors(run):
        run.send({**run.sent, name: tensor})
        assert min(run.differences(NUM_FEW)) > 10 * TOLERANCE, name
    run.send(run.sent)
    assert np.max(run.differences(NUM_FEW)) <= TOLERANCE
