"""The engine agrees with transformers: greedy answers, sampled logprobs, prompt ids; seeds reproduce bit for bit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rollout.config import AnswerSampling, RolloutConfig
from rollout.types import FinishReason, GenerationRequest, RolloutGroup
from rollout_engine import (
    NUM_DOCUMENTS,
    POLICY,
    EngineProcess,
    TransformersPolicy,
    make_requests,
    save_changed_checkpoint,
    slip_images,
)

CONFIG = RolloutConfig(
    temperature=0.7, max_response_tokens=64, max_model_len=384, kv_cache_gib=0.5, max_num_batched_tokens=4096
)


class Pair(TransformersPolicy):
    """One checkpoint in the engine and in transformers, fp32."""

    def __init__(self, folder: Path, *, num_documents: int) -> None:
        import torch
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

        self.engine = EngineProcess(CONFIG, folder)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        processor = AutoProcessor.from_pretrained(folder)
        super().__init__(model, processor, slip_images(num_documents), self.engine.banned_token_ids())
        self.engine.add_images(self.images)

    def greedy(self, request: GenerationRequest) -> list[int]:
        inputs = self.inputs(request)
        made = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=CONFIG.max_response_tokens, suppress_tokens=self.banned
        )
        return list(made[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.fixture(scope="module")
def policy() -> Iterator[Pair]:
    """The shipped policy, or the one that MEDVIE_NANO names."""
    pair = Pair(POLICY, num_documents=NUM_DOCUMENTS)
    yield pair
    pair.engine.close()


@pytest.fixture(scope="module")
def uncertain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same architecture with large random weights: every token is uncertain. Many ids end a response."""
    folder = tmp_path_factory.mktemp("parity") / "uncertain"
    save_changed_checkpoint(POLICY, folder, seed=3)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [settings["eos_token_id"], *range(200, 220)]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    pair = Pair(folder, num_documents=8)
    yield pair
    pair.engine.close()


def sampled_groups(pair: Pair) -> tuple[list[GenerationRequest], list[RolloutGroup]]:
    requests = make_requests(pair.processor, list(pair.images)[:8], num_traces=4, greedy=False)
    return requests, pair.engine.generate(requests)


def test_greedy_answers_equal_those_of_transformers(policy: Pair) -> None:
    requests = make_requests(policy.processor, policy.images, num_traces=1, greedy=True)
    groups = policy.engine.generate(requests)
    for request, group in zip(requests, groups, strict=True):
        assert list(group.prompt_ids) == policy.inputs(request)["input_ids"][0].tolist()
        assert list(group.rollouts[0].token_ids) == policy.greedy(request), request.query_id


@pytest.mark.parametrize("which", ["policy", "uncertain"])
def test_sampled_logprobs_equal_those_of_transformers(which: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(which)
    largest, raw_largest = 0.0, 0.0
    for query, group in zip(*sampled_groups(pair), strict=True):
        for rollout in group.rollouts:
            assert not set(rollout.token_ids) & set(pair.banned)
            expected = pair.logprobs(query, rollout.token_ids, CONFIG.temperature)
            largest = max(largest, (expected - expected.new_tensor(rollout.logprobs)).abs().max().item())
            raw = pair.logprobs(query, rollout.token_ids, 1.0)
            raw_largest = max(raw_largest, (raw - raw.new_tensor(rollout.logprobs)).abs().max().item())
    assert largest < 1e-4
    assert raw_largest > 1e-2  # the comparison can tell processed logprobs from raw ones


def test_banned_ids_are_out_of_the_logprobs(uncertain: Pair) -> None:
    import torch

    requests, groups = sampled_groups(uncertain)
    banned, uncertain.banned = uncertain.banned, []
    largest = 0.0
    for request, group in zip(requests, groups, strict=True):
        for rollout in group.rollouts:
            with_banned_ids = uncertain.logprobs(request, rollout.token_ids, CONFIG.temperature)
            largest = max(largest, (torch.tensor(rollout.logprobs) - with_banned_ids).max().item())
    uncertain.banned = banned
    assert len(banned) >= 4
    assert largest > 1e-2


def test_traces_differ_and_seeds_reproduce_them(uncertain: Pair) -> None:
    requests, groups = sampled_groups(uncertain)
    assert uncertain.engine.generate(requests) == groups  # tokens, logprobs and texts, bit for bit
    reseeded = uncertain.engine.generate([replace(query, seed=query.seed + 17) for query in requests])
    for group, other in zip(groups, reseeded, strict=True):
        traces = long_traces(group) + long_traces(other)
        assert len(set(traces)) == len(traces), group.query_id
    assert sum(len(long_traces(group)) for group in groups) > len(groups)
    assert [group.query_id for group in groups] == [query.query_id for query in requests]


def long_traces(group: RolloutGroup) -> list[tuple[int, ...]]:
    """Responses that cannot be equal by chance: the first token may be one of the many that end a response."""
    return [rollout.token_ids for rollout in group.rollouts if len(rollout.token_ids) > 4]


def test_text_is_the_decoded_response_without_its_end(uncertain: Pair) -> None:
    _, groups = sampled_groups(uncertain)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    ends = uncertain.model.generation_config.eos_token_id
    for rollout in rollouts:
        stopped = rollout.finish_reason is FinishReason.STOP
        assert stopped == (rollout.token_ids[-1] in ends)
        assert stopped or len(rollout.token_ids) == CONFIG.max_response_tokens
        shown = rollout.token_ids[:-1] if stopped else rollout.token_ids
        assert rollout.text == uncertain.processor.tokenizer.decode(shown, skip_special_tokens=False)
    assert len({rollout.finish_reason for rollout in rollouts}) == 2


def test_what_cannot_be_generated_is_refused_by_name(uncertain: Pair) -> None:
    import hashlib

    (request,) = make_requests(uncertain.processor, list(uncertain.images)[:1], num_traces=2, greedy=False)
    with pytest.raises(ValueError, match=r"max_model_len 384 minus max_response_tokens 64 leaves 320"):
        uncertain.engine.generate([request, replace(request, prompt=request.prompt + "age " * 400)])
    with pytest.raises(ValueError, match="2 image placeholders for 1 images"):
        uncertain.engine.generate([replace(request, prompt=request.prompt * 2)])
    with pytest.raises(ValueError, match=f"image {'0' * 64} is not here"):
        uncertain.engine.generate([replace(request, image_keys=("0" * 64,))])
    with pytest.raises(ValueError, match="greedy answers are all the same, asked for 2"):
        replace(request, answer=AnswerSampling())
    for broken in (b"no image", next(iter(uncertain.images.values()))[:300]):
        key = hashlib.sha256(broken).hexdigest()
        with pytest.raises(ValueError, match=f"image {key} .* cannot be decoded"):
            uncertain.engine.add_images({key: broken})
