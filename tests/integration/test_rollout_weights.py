"""New weights arrive in a running engine: it then answers as an engine started from them, and faults are seen."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollout.config import RolloutConfig
from rollout.types import GenerationRequest, RolloutGroup
from rollout_engine import (
    POLICY,
    EngineProcess,
    load_checkpoint,
    make_buckets,
    make_requests,
    max_logprob_difference,
    save_changed_checkpoint,
    slip_images,
)

TOLERANCE = 1e-5
CONFIG = RolloutConfig(max_response_tokens=16, max_model_len=384, kv_cache_gib=0.25, max_num_batched_tokens=4096)


class Gate:
    """An engine started from the first checkpoint, and what a fresh engine answers from the second."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoProcessor

        save_changed_checkpoint(POLICY, folder / "first", seed=1)
        save_changed_checkpoint(POLICY, folder / "second", seed=2)
        self.engine = EngineProcess(CONFIG, folder / "first")
        fresh = EngineProcess(CONFIG, folder / "second")
        self.first, self.second = load_checkpoint(folder / "first"), load_checkpoint(folder / "second")
        images = slip_images(6)
        processor = AutoProcessor.from_pretrained(POLICY)
        self.requests: list[GenerationRequest] = [
            *make_requests(processor, images, num_traces=1, greedy=True),
            *make_requests(processor, images, num_traces=4, greedy=False),
        ]
        self.engine.add_images(images)
        fresh.add_images(images)
        self.from_first: list[RolloutGroup] = self.engine.generate(self.requests)
        self.from_second: list[RolloutGroup] = fresh.generate(self.requests)
        fresh.close()
        self._version = 0

    def sync(self, tensors: dict[str, Any], *, keep_rest: bool = False) -> Any:
        self._version += 1
        return self.engine.update_weights(make_buckets(tensors), self._version, keep_rest=keep_rest)

    def difference_to_fresh(self) -> float:
        return max_logprob_difference(self.engine.generate(self.requests), self.from_second)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("gate"))
    yield made
    made.engine.close()


def tensor_name(tensors: dict[str, Any], ending: str) -> str:
    (name,) = [name for name in tensors if name.endswith(ending)]
    return name


def test_synced_engine_answers_as_a_fresh_one(gate: Gate) -> None:
    assert all(not gate.first[name].equal(gate.second[name]) for name in gate.first)
    first_token_probabilities = [math.exp(group.rollouts[0].logprobs[0]) for group in gate.from_second]
    assert max(first_token_probabilities) < 0.9  # a certain answer would hide a stale tensor
    before_and_after = zip(gate.from_first, gate.from_second, strict=True)
    assert all(before.rollouts[0].token_ids != after.rollouts[0].token_ids for before, after in before_and_after)

    receipt = gate.sync(gate.second)

    assert receipt.num_tensors == len(gate.second)
    assert receipt.num_bytes == sum(4 * tensor.numel() for tensor in gate.second.values())
    assert gate.difference_to_fresh() <= TOLERANCE
    assert gate.sync(gate.first).digest != receipt.digest
    assert max_logprob_difference(gate.engine.generate(gate.requests), gate.from_first) <= TOLERANCE
    assert gate.sync(gate.second).digest == receipt.digest
    assert gate.difference_to_fresh() <= TOLERANCE


def test_rollouts_carry_the_version_that_sampled_them(gate: Gate) -> None:
    assert {rollout.weight_version for group in gate.from_first for rollout in group.rollouts} == {0}
    gate.engine.update_weights(make_buckets(gate.second), 41)
    assert gate.engine.weight_version() == 41
    groups = gate.engine.generate(gate.requests[:2])
    assert {rollout.weight_version for group in groups for rollout in group.rollouts} == {41}


def test_a_request_for_other_weights_is_refused(gate: Gate) -> None:
    gate.engine.update_weights(make_buckets(gate.second), 7)
    request = gate.requests[0]
    assert len(gate.engine.generate_as_asked([replace(request, weight_version=7)])) == 1
    for version in (6, 8):
        with pytest.raises(RuntimeError, match=f"is for weight version {version}, this worker holds 7"):
            gate.engine.generate_as_asked([replace(request, weight_version=version)])


@pytest.mark.parametrize(
    "ending",
    ["blocks.1.attn.proj.weight", "patch_embed.proj.weight", "layers.2.self_attn.k_proj.weight",
     "layers.0.mlp.up_proj.weight", "layers.3.input_layernorm.weight", "embed_tokens.weight"],
)  # fmt: skip
def test_one_stale_tensor_is_seen(gate: Gate, ending: str) -> None:
    name = tensor_name(gate.second, ending)
    gate.sync({**gate.second, name: gate.first[name]})
    assert gate.difference_to_fresh() > 100 * TOLERANCE
    gate.sync(gate.second)
    assert gate.difference_to_fresh() <= TOLERANCE


@pytest.mark.parametrize("fault", ["prefix cache", "encoder cache", "tied head"])
def test_a_skipped_step_of_the_update_is_seen(gate: Gate, fault: str) -> None:
    gate.sync(gate.first)
    gate.engine.generate(gate.requests)  # fills the caches with what the first weights saw
    gate.engine.plant(fault)
    gate.sync(gate.second)
    difference = gate.difference_to_fresh()
    gate.engine.plant(None)
    assert difference > 100 * TOLERANCE
    gate.sync(gate.second)
    assert gate.difference_to_fresh() <= TOLERANCE


def test_names_that_do_not_fit_are_refused_before_loading(gate: Gate) -> None:
    gate.sync(gate.second)
    missing = tensor_name(gate.second, "layers.1.self_attn.v_proj.weight")
    without = {name: tensor for name, tensor in gate.first.items() if name != missing}
    with pytest.raises(ValueError, match=r"missing .*layers\.1\.self_attn\.v_proj\.weight"):
        gate.sync(without)
    with pytest.raises(ValueError, match=r"unknown model\.layers\.99\.extra\.weight"):
        gate.sync({**gate.first, "model.layers.99.extra.weight": gate.first[missing]})
    assert gate.difference_to_fresh() <= TOLERANCE


def test_a_part_of_which_nothing_comes_keeps_what_it_was_sent(gate: Gate) -> None:
    language = {name: tensor for name, tensor in gate.second.items() if "visual" not in name}
    whole = gate.sync(gate.second).digest
    mixed = gate.sync({**gate.first, **language}).digest
    assert mixed != whole and gate.difference_to_fresh() > 100 * TOLERANCE
    gate.sync(gate.second)
    gate.sync(gate.first | {name: gate.second[name] for name in gate.second if "visual" in name})
    receipt = gate.sync(language, keep_rest=True)
    assert (receipt.num_tensors, receipt.digest) == (len(language), whole)
    assert gate.difference_to_fresh() <= TOLERANCE
    with pytest.raises(ValueError, match=r"missing .*visual\."):
        gate.sync(language)
    some_vision = tensor_name(gate.second, "patch_embed.proj.weight")
    with pytest.raises(ValueError, match=r"missing .*visual\."):
        gate.sync({**language, some_vision: gate.second[some_vision]}, keep_rest=True)
    assert gate.difference_to_fresh() <= TOLERANCE


def test_a_flipped_byte_is_refused_before_loading(gate: Gate) -> None:
    gate.sync(gate.second)
    buckets = make_buckets(gate.first)
    damaged = buckets[2].copy()
    damaged[-7] ^= 1
    with pytest.raises(ValueError, match="damaged, their sha256 digests differ"):
        gate.engine.update_weights([*buckets[:2], damaged, *buckets[3:]], 50)
    assert gate.difference_to_fresh() <= TOLERANCE


def test_an_update_between_requests_in_flight_is_refused(gate: Gate) -> None:
    gate.sync(gate.second)
    message = gate.engine.generate_while_updating(gate.requests[0], make_buckets(gate.first))
    assert "requests are in flight" in message
    assert gate.difference_to_fresh() <= TOLERANCE
