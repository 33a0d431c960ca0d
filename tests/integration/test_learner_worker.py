"""The learner on real DeepSpeed: equal to plain PyTorch, over ranks and ZeRO stages, and after a load."""

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.config import LoraConfig
from learner.errors import NonFiniteError, ParityError
from learner.loss_config import LossConfig
from learner.types import TrainingGroup, UpdateBatch, UpdateStats
from learner.weights import tensor_digest
from learner.worker import LearnerWorker
from learner_ranks import (
    NANO,
    adamw,
    batches_of,
    file_of,
    free_port,
    learner_config,
    make_groups,
    make_images,
    naive_forward,
    naive_responses,
    plain_step,
    prompt_inputs,
    recorded_gradients,
    run_ranks,
)
from paper_losses import CASES
from tiny_policy import relative_errors

IMAGES = make_images()
Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(NANO)


def plain_policy() -> Any:
    return AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32).train()


@pytest.fixture(scope="module")
def groups(processor: Any) -> list[TrainingGroup]:
    return make_groups(plain_policy(), processor, IMAGES)


def make_worker(**settings: Any) -> LearnerWorker:
    worker = LearnerWorker(learner_config(**settings), NANO, master_port=free_port())
    worker.add_images(IMAGES)
    return worker


def weights_of(buckets: list[np.ndarray]) -> Weights:
    return {name: tensor for bucket in buckets for name, tensor in safetensors.numpy.load(file_of(bucket)).items()}


def saved_weights(folder: str | Path) -> Weights:
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118


def relative_error(found: Weights, expected: Weights) -> float:
    """|found - expected| over |expected - base|: the error as a share of what the updates changed."""
    base = saved_weights(NANO)
    assert found.keys() == expected.keys() == base.keys()
    error = sum(float(((found[name] - expected[name]).astype(float) ** 2).sum()) for name in base)
    change = sum(float(((expected[name] - base[name]).astype(float) ** 2).sum()) for name in base)
    return math.sqrt(error / change)


def numbers(stats: UpdateStats) -> dict[str, float]:
    return {name: value for name, value in asdict(stats).items() if value is not None}


def updates(worker: LearnerWorker, batches: list[UpdateBatch]) -> list[UpdateStats]:
    return [worker.update(batch)[0] for batch in batches]


@pytest.fixture(scope="module")
def one_rank(groups: list[TrainingGroup]) -> tuple[list[UpdateStats], Weights]:
    worker = make_worker()
    stats = updates(worker, [batches_of(share, worker.config)[0] for share in (groups, groups[:1], groups)])
    return stats, weights_of(worker.gather_weights())


def test_updates_equal_plain_pytorch(
    groups: list[TrainingGroup], processor: Any, one_rank: tuple[list[UpdateStats], Weights], tmp_path: Path
) -> None:
    stats, weights = one_rank
    policy, config = plain_policy(), learner_config()
    responses = naive_responses(policy, plain_policy(), processor, IMAGES, groups)
    loss, norm = plain_step(policy, adamw(policy, config), CASES["paper"][1](responses), config)
    assert stats[0].loss == pytest.approx(loss, abs=1e-6)
    assert stats[0].gradient_norm == pytest.approx(norm, rel=1e-4) and norm > config.max_grad_norm
    assert stats[0].num_tokens == sum(len(r.token_ids) for g in groups for r in g.responses)
    flat = [o for of_group in responses for o in of_group]
    difference = torch.cat([o.logprobs.detach() - o.sampler for o in flat])
    assert stats[0].sampler_logprob_difference == pytest.approx(difference.abs().mean().item(), rel=1e-3)
    assert stats[0].sampler_kl == pytest.approx((difference.exp() - 1 - difference).mean().item(), rel=1e-2)
    assert stats[0].ratio_max == pytest.approx(difference.exp().max().item(), rel=1e-4)
    entropy = torch.cat([o.entropies for o in flat]).mean().item()
    assert stats[0].entropy == pytest.approx(entropy, rel=1e-4) and 0 < stats[0].clip_fraction < 1

    worker = make_worker()
    _, cost = worker.update(batches_of(groups, worker.config)[0])
    assert {"pack", "forward", "backward", "optimizer"} <= cost.seconds.keys() and cost.memory_gib > 0.1
    policy.save_pretrained(tmp_path)
    expected = saved_weights(tmp_path)
    assert relative_error(weights_of(worker.gather_weights()), expected) < 1e-3
    assert relative_error(weights, expected) > 0.1  # two updates further: the comparison can fail


def test_minibatches_with_importance_correction_equal_plain_pytorch(
    groups: list[TrainingGroup], processor: Any, tmp_path: Path
) -> None:
    """The old policy is that before the first of four steps. Old logprobs of each step's own policy would be seen."""
    case = "truncated token weights"
    config, formula = CASES[case]
    settings = {"loss": config, "minibatches_per_step": 2, "epochs_per_step": 2, "max_tokens_per_micro_batch": 110}
    worker = make_worker(**settings)
    (batch,) = batches_of(groups, worker.config)
    with recorded_gradients(worker) as gradients:
        (stats,) = updates(worker, [batch])
    assert stats.num_optimizer_steps == 4 and 0 < stats.importance_bounded < 1

    def plain(*, old_is_current: bool) -> tuple[list[dict[str, Tensor]], list[float], Weights]:
        policy, base, found = plain_policy(), plain_policy(), []
        old = {}
        for group in groups:
            inputs = prompt_inputs(processor, [IMAGES[key] for key in group.image_keys])
            for response in group.responses:
                with torch.no_grad():
                    old[group.query_id, response.trace] = naive_forward(base, inputs, response.token_ids)[0]
        optimizer, losses = adamw(policy, worker.config), []
        for minibatch in batch.minibatches:
            whole = [
                g for g in groups if g.query_id in {part.query_id for part in minibatch}
            ]  # rows are parts of groups
            given = None if old_is_current else old
            loss = formula(naive_responses(policy, base, processor, IMAGES, whole, given))
            names, parameters = zip(*policy.named_parameters(), strict=True)
            found.append(dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True)))
            losses.append(plain_step(policy, optimizer, loss, worker.config)[0])
        policy.save_pretrained(tmp_path)
        return found, losses, saved_weights(tmp_path)

    expected, losses, weights = plain(old_is_current=False)
    assert stats.loss == pytest.approx(sum(losses) / 4, rel=1e-3)
    for index, (found, of_plain) in enumerate(zip(gradients, expected, strict=True)):
        # the first gradient is of the same weights; after a step of Adam the weights are the same but for rounding
        assert max(relative_errors(found, of_plain).values()) <= (1e-4 if index == 0 else 5e-2), index
    assert relative_error(weights_of(worker.gather_weights()), weights) < 1e-2
    wrong, _, wrong_weights = plain(old_is_current=True)
    assert max(relative_errors(gradients[1], wrong[1]).values()) > 0.1
    assert relative_error(weights_of(worker.gather_weights()), wrong_weights) > 0.05


def updates_over_stages(
    rank: int, port: int, stages: tuple[int, ...], shares: list[list[TrainingGroup]], broken: list[TrainingGroup]
) -> dict[int, Any]:
    """Per ZeRO stage: the stats of the updates, the weights (rank 0) after them, and what a loss of NaN raises."""
    results = {}
    for stage in stages:
        worker = LearnerWorker(learner_config(num_ranks=2, zero_stage=stage), NANO, rank, 2, "127.0.0.1", port)
        worker.add_images(IMAGES)
        stats = updates(worker, [batches_of(share, worker.config)[rank] for share in shares])
        weights = worker.gather_weights()
        with pytest.raises(NonFiniteError) as raised:
            worker.update(batches_of(broken, worker.config)[rank])
        results[stage] = (stats, weights, str(raised.value), raised.value.queries)
    return results


def test_two_ranks_over_zero_stages_equal_one_rank(
    groups: list[TrainingGroup], one_rank: tuple[list[UpdateStats], Weights]
) -> None:
    """Uneven shares; in the second update rank 1 has no group. A loss that is not finite ends both ranks alike."""
    stages, shares = (1, 2, 3), [groups, groups[:1], groups]
    first, second = run_ranks(updates_over_stages, 2, stages, shares, broken(groups))
    expected_stats, expected_weights = one_rank
    for stage in stages:
        stats, weights, message, queries = first[stage]
        assert stats == second[stage][0] and second[stage][1] == []
        for found, expected in zip(stats, expected_stats, strict=True):
            assert numbers(found) == pytest.approx(numbers(expected), rel=2e-3, abs=1e-5), f"ZeRO-{stage}"
        assert relative_error(weights_of(weights), expected_weights) < 5e-3, f"ZeRO-{stage}"
        assert message.startswith("the loss of minibatch 0 is not finite: queries query1;")
        assert queries == second[stage][3] == ("query1",)


def broken(groups: list[TrainingGroup]) -> list[TrainingGroup]:
    """query1 has an advantage that is not finite."""
    response = replace(groups[1].responses[0], advantage=math.inf)
    return [groups[0], replace(groups[1], responses=(response, *groups[1].responses[1:])), groups[2]]


def test_a_sampler_of_another_policy_is_named(groups: list[TrainingGroup]) -> None:
    worker = make_worker()
    (batch,) = batches_of(groups, worker.config)
    difference = worker.update(batch)[0].sampler_logprob_difference_max
    worker = make_worker()
    assert worker.update(replace(batch, max_logprob_difference=1.01 * difference))
    worker = make_worker()
    with pytest.raises(ParityError, match=r"differ by more than .*: queries query\d; engine and learner"):
        worker.update(replace(batch, max_logprob_difference=0.99 * difference))
    assert relative_error_to_base(worker) == 0  # nothing was learned from it


def test_non_finite_loss_names_the_query(groups: list[TrainingGroup]) -> None:
    worker = make_worker()
    with pytest.raises(FloatingPointError, match=r"loss of minibatch 0 is not finite: queries query1;"):
        worker.update(batches_of(broken(groups), worker.config)[0])
    assert relative_error_to_base(worker) == 0  # nothing was learned from it


def relative_error_to_base(worker: LearnerWorker) -> float:
    weights, base = weights_of(worker.gather_weights()), saved_weights(NANO)
    return max(float(np.abs(weights[name] - base[name]).max()) for name in base)


def test_demonstrations_are_learned_by_likelihood(groups: list[TrainingGroup], processor: Any) -> None:
    """Without sampler logprobs, advantage 1 and REINFORCE: the loss is the mean negative log-likelihood."""
    demonstrations = [
        replace(g, responses=tuple(replace(r, sampler_logprobs=None, advantage=1.0) for r in g.responses))
        for g in groups
    ]
    worker = make_worker(loss=LossConfig(surrogate="reinforce", importance="none"))
    with recorded_gradients(worker) as gradients:
        (stats,) = updates(worker, [batches_of(demonstrations, worker.config)[0]])
    policy = plain_policy()
    responses = naive_responses(policy, policy, processor, IMAGES, groups)
    likelihood = -torch.cat([o.logprobs for of_group in responses for o in of_group]).mean()
    names, parameters = zip(*policy.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(likelihood, parameters), strict=True))
    assert stats.loss == pytest.approx(likelihood.item(), rel=1e-5)
    assert max(relative_errors(gradients[0], expected).values()) <= 1e-4
    assert (stats.sampler_kl, stats.sampler_logprob_difference_max, stats.ratio_max) == (0, 0, 1)


def test_loading_continues_bit_equal(groups: list[TrainingGroup], tmp_path: Path) -> None:
    worker = make_worker(minibatches_per_step=2, epochs_per_step=2)
    (batch,) = batches_of(groups, worker.config)
    worker.update(batch)
    worker.save(tmp_path / "checkpoint")
    uninterrupted = updates(worker, [batch, batch])
    expected_random = torch.rand(4)

    other = make_worker(minibatches_per_step=2, epochs_per_step=2)
    other.load(tmp_path / "checkpoint")
    assert updates(other, [batch, batch]) == uninterrupted
    assert torch.equal(torch.rand(4), expected_random)


def test_weights_out_equal_the_export_and_frozen_vision_stays(
    groups: list[TrainingGroup], processor: Any, tmp_path: Path
) -> None:
    worker = make_worker(freeze_vision=True)
    worker.update(batches_of(groups, worker.config)[0])
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        worker.export(folder, dtype)
        buckets = worker.gather_weights(dtype)
        sent: dict[str, torch.Tensor] = {}
        for bucket in buckets:
            tensors = safetensors.torch.load(file_of(bucket))
            header = json.loads(bucket[0][8:].tobytes())
            digests = {f"sha256:{name}": tensor_digest(tensor) for name, tensor in tensors.items()}
            assert header["__metadata__"] == digests
            sent |= tensors
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert set(file.keys()) == set(sent)
            assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in sent.items())
        assert len(buckets) > worker.policy.config.text_config.num_hidden_layers

        saved = tmp_path / f"saved-{dtype}"
        reloaded = AutoModelForImageTextToText.from_pretrained(folder)
        assert reloaded.dtype == getattr(torch, dtype)
        reloaded.save_pretrained(saved)
        assert saved_weights(saved).keys() == sent.keys()

    trained, frozen = (list(weights_of(worker.gather_weights(part=part))) for part in ("trained", "frozen"))
    assert sorted(trained) == sorted(name for name in sent if "visual" not in name)
    assert sorted(frozen) == sorted(name for name in sent if "visual" in name)
    after, before = weights_of(worker.gather_weights()), saved_weights(NANO)
    vision = [name for name in before if "visual" in name]
    assert vision and all(np.array_equal(after[name], before[name]) for name in vision)
    assert all(not np.array_equal(after[name], before[name]) for name in before if name not in vision)

    again = AutoProcessor.from_pretrained(tmp_path / "float32")
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read: 12 mg"}]}]
    rendered, expected = (p.apply_chat_template(message, add_generation_prompt=True) for p in (again, processor))
    assert rendered == expected and again.tokenizer(rendered).input_ids == processor.tokenizer(expected).input_ids
    assert again.image_processor.to_dict() == processor.image_processor.to_dict()
    shutil.rmtree(tmp_path / "float32")


def test_unknown_image_is_told(groups: list[TrainingGroup]) -> None:
    worker = LearnerWorker(learner_config(), NANO, master_port=free_port())
    with pytest.raises(KeyError, match="image image0 is not known to the learner"):
        worker.update(batches_of(groups[:1], worker.config)[0])


@pytest.mark.parametrize("settings", [{}, {"lora": LoraConfig(rank=4)}], ids=["full", "LoRA"])
def test_a_learner_that_lent_its_memory_goes_on_as_if_it_had_not(
    groups: list[TrainingGroup], settings: dict[str, Any]
) -> None:
    found = []
    for lends in (False, True):
        worker = make_worker(freeze_vision=True, **settings)
        (batch,) = batches_of(groups, worker.config)
        stats = []
        for _ in range(2):
            stats.append(worker.update(batch)[0])
            if lends:
                worker.offload()
                worker.reload()
        found.append((stats, weights_of(worker.gather_weights())))
    (stats, weights), (others, other_weights) = found
    assert stats == others and stats[0].loss != stats[1].loss
    assert all(np.array_equal(weights[name], other_weights[name]) for name in weights)
