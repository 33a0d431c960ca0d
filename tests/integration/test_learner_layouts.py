"""The learner's layouts agree: ZeRO stages, offloading, checkpointing, frozen parts, cached features, the reference."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner import model as learner_model
from learner.batching import make_update_batches
from learner.config import LoraConfig
from learner.loss_config import LossConfig
from learner.reference import base_digest
from learner.types import TrainingGroup, UpdateBatch, UpdateStats
from learner.worker import LearnerWorker
from learner_ranks import NANO, TEMPERATURE, file_of, learner_config, make_groups, make_images, run_ranks

Settings = dict[str, Any]
Result = tuple[list[UpdateStats], dict[str, Tensor]]

RATE = 1e-4  # small: rounding is not blown up by the steps before
KL = LossConfig(kl_coefficient=0.05)
LORA = LoraConfig(rank=4)
FROZEN: Settings = {"freeze_vision": True}
WITH_LORA: Settings = FROZEN | {"lora": LORA}
VISION_LORA: Settings = FROZEN | {"lora": LoraConfig(rank=4, vision_targets=["qkv", "merger.mlp.0"])}
PROJECTOR: Settings = FROZEN | {"freeze_projector": False}


@pytest.fixture(scope="module")
def groups() -> list[TrainingGroup]:
    policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    return make_groups(policy, AutoProcessor.from_pretrained(NANO), make_images())


def make_worker(rank: int = 0, port: int = 29500, **settings: Any) -> LearnerWorker:
    config = learner_config(**settings)
    worker = LearnerWorker(config, NANO, rank, config.num_ranks, "127.0.0.1", port)
    worker.add_images(make_images())
    return worker


def batch_of(worker: LearnerWorker, groups: Sequence[TrainingGroup]) -> UpdateBatch:
    batches = make_update_batches(
        groups, worker.config, learning_rate=RATE, temperature=TEMPERATURE, max_response_tokens=64
    )
    return batches[worker.rank]


def weights_of(worker: LearnerWorker) -> dict[str, Tensor]:
    buckets = worker.gather_weights("float32")
    return {name: tensor for bucket in buckets for name, tensor in safetensors.torch.load(file_of(bucket)).items()}


def two_updates(worker: LearnerWorker, groups: Sequence[TrainingGroup]) -> Result:
    """The second of one group: with two ranks one has none of its own."""
    stats = [worker.update(batch_of(worker, share))[0] for share in (groups, groups[:1])]
    return stats, weights_of(worker)


def updates_of(
    rank: int, port: int, num_ranks: int, cases: dict[str, Settings], groups: list[TrainingGroup]
) -> dict[str, Result]:
    """What `two_updates` gives for each of the cases, one after the other."""
    torch.set_num_threads(1)
    return {
        name: two_updates(make_worker(rank, port, num_ranks=num_ranks, **settings), groups)
        for name, settings in cases.items()
    }


def updates_in_chunks(rank: int, port: int, groups: list[TrainingGroup]) -> Result:
    """The same on one of two ranks under ZeRO-3 that shards every tensor, with the logits of eight tokens at a time."""
    torch.set_num_threads(1)
    sharded = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    worker = make_worker(rank, port, num_ranks=2, zero_stage=3, deepspeed=sharded)
    learner_model.MAX_LOGITS_PER_CHUNK = 8 * worker.policy.config.text_config.vocab_size
    return two_updates(worker, groups)


def moved(found: dict[str, Tensor], expected: dict[str, Tensor], base: dict[str, Tensor]) -> float:
    """|found - expected| over |expected - base|: the error as a share of what the updates changed."""
    assert found.keys() == expected.keys() == base.keys()
    error = sum(float((found[name] - expected[name]).double().square().sum()) for name in base)
    change = sum(float((expected[name] - base[name]).double().square().sum()) for name in base)
    return math.sqrt(error / change)


def assert_agree(found: Result, expected: Result, base: dict[str, Tensor], name: str) -> None:
    for stats, wanted in zip(found[0], expected[0], strict=True):
        assert stats.loss == pytest.approx(wanted.loss, rel=2e-3, abs=1e-5), name
        assert stats.gradient_norm == pytest.approx(wanted.gradient_norm, rel=2e-3), name
        assert (stats.reference_kl is None) == (wanted.reference_kl is None), name
        if stats.reference_kl is not None:
            assert stats.reference_kl == pytest.approx(wanted.reference_kl, rel=5e-3, abs=1e-6), name
    assert moved(found[1], expected[1], base) < 1e-2, name


@pytest.fixture(scope="module")
def base() -> dict[str, Tensor]:
    return weights_of(make_worker())


def test_ranks_with_uneven_chunks_of_logits_stay_in_step(groups: list[TrainingGroup], base: dict[str, Tensor]) -> None:
    (one,) = run_ranks(updates_of, 1, 1, {"full": {}}, groups)
    found, _ = run_ranks(updates_in_chunks, 2, groups)
    assert_agree(found, one["full"], base, "chunks")


def compare(groups: list[TrainingGroup], base: dict[str, Tensor], cases: dict[str, tuple[Settings, Settings]]) -> None:
    """Each kind in its layout on two ranks gives what it gives on one rank with ZeRO-1."""
    kinds = {name: kind for name, (kind, _) in cases.items()}
    (one,) = run_ranks(updates_of, 1, 1, kinds, groups)
    two, _ = run_ranks(updates_of, 2, 2, {name: kind | layout for name, (kind, layout) in cases.items()}, groups)
    for name in cases:
        assert_agree(two[name], one[name], base, name)
    different = [(a, b) for a in kinds for b in kinds if kinds[a] != kinds[b]]
    assert all(moved(one[a][1], one[b][1], base) > 2e-2 for a, b in different)  # the comparison can fail


def test_layouts_agree(groups: list[TrainingGroup], base: dict[str, Tensor]) -> None:
    cases = {
        "frozen vision, offloaded": (FROZEN | {"loss": KL}, {"zero_stage": 3, "offload_parameters": True}),
        "LoRA": (WITH_LORA | {"loss": KL}, {"zero_stage": 2}),
    }
    compare(groups, base, cases)


LAYOUTS: dict[str, Settings] = {f"ZeRO-{stage}": {"zero_stage": stage} for stage in (1, 2, 3)} | {
    "checkpointing": {"gradient_checkpointing": True},
    "ZeRO-3 checkpointing": {"zero_stage": 3, "gradient_checkpointing": True},
    "offloaded optimizer": {"offload_optimizer": True},
    "ZeRO-3 all offloaded": {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True},
}
KINDS: dict[str, Settings] = {
    "full": {}, "full with KL": {"loss": KL}, "frozen vision": FROZEN, "frozen vision with KL": FROZEN | {"loss": KL},
    "projector": PROJECTOR, "LoRA with KL": WITH_LORA | {"loss": KL},
    "LoRA in vision with KL": VISION_LORA | {"loss": KL},
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_agrees(groups: list[TrainingGroup], base: dict[str, Tensor], kind: str) -> None:
    compare(groups, base, {layout: (KINDS[kind], LAYOUTS[layout]) for layout in LAYOUTS})


@pytest.mark.full
def test_bfloat16_trains_in_every_layout(groups: list[TrainingGroup], base: dict[str, Tensor]) -> None:
    cases = {
        f"{kind} {layout}": settings | LAYOUTS[layout] | {"dtype": "bfloat16"}
        for kind, settings in {"full": {}, "LoRA": WITH_LORA}.items()
        for layout in LAYOUTS
    }
    found, _ = run_ranks(updates_of, 2, 2, cases, groups)
    (exact,) = run_ranks(updates_of, 1, 1, {"full": {}, "LoRA": WITH_LORA}, groups)
    for name, (stats, weights) in found.items():
        expected, _ = exact[name.split()[0]]
        assert stats[0].loss == pytest.approx(expected[0].loss, rel=0.1), name
        assert stats[0].gradient_norm == pytest.approx(expected[0].gradient_norm, rel=0.1), name
        assert all(torch.isfinite(tensor).all() for tensor in weights.values()), name


def test_cached_features_change_nothing_and_are_made_once(groups: list[TrainingGroup]) -> None:
    worker = make_worker(**FROZEN)
    encoded: list[str] = []
    preprocess = worker.images.preprocess

    def counted(key: str) -> Any:
        encoded.append(key)
        return preprocess(key)

    worker.features._pixels = counted
    cached, weights = two_updates(worker, groups)
    assert sorted(encoded) == sorted({key for group in groups for key in group.image_keys})

    other = make_worker(**FROZEN)
    other._image = other.images.pixels  # type: ignore[method-assign] # rows with pixels in place of features
    pixels, expected = two_updates(other, groups)
    for stats, wanted in zip(cached, pixels, strict=True):
        assert stats.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert stats.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-5)
    assert all(torch.allclose(weights[name], expected[name], atol=1e-6) for name in weights)

    swapped = make_worker(**FROZEN)
    keys = sorted(make_images())
    original = swapped._image
    swapped._image = lambda key: original(keys[0]) if key == keys[0] else _mixed(original(key))  # type: ignore
    faulty, _ = two_updates(swapped, groups)
    assert faulty[0].gradient_norm != pytest.approx(pixels[0].gradient_norm, rel=1e-4)


def _mixed(image: Any) -> Any:
    return type(image)(features=image.features.flip(0), grid=image.grid)


@pytest.mark.parametrize("settings", [{}, FROZEN, WITH_LORA, VISION_LORA], ids=["full", "frozen", "LoRA", "vision"])
def test_the_reference_stays_the_base(groups: list[TrainingGroup], settings: Settings) -> None:
    worker = make_worker(loss=KL, **settings)
    batch = batch_of(worker, groups)

    def logprobs() -> tuple[Tensor, Tensor]:
        with worker._features_of(batch), torch.no_grad():
            rows = worker.pack(groups)
            own, _ = worker.engine(rows, temperature=TEMPERATURE)
            return own, worker._updater._reference.logprobs(rows, temperature=TEMPERATURE)

    policy, reference = logprobs()
    assert torch.equal(policy, reference)
    first, _ = worker.update(batch)
    assert first.reference_kl == 0
    moved_policy, still = logprobs()
    assert torch.equal(still, reference) and (moved_policy - reference).abs().max() > 1e-3
    second, _ = worker.update(batch)
    assert second.reference_kl is not None and second.reference_kl > 0


def test_the_digest_is_of_the_base(groups: list[TrainingGroup], tmp_path: Path) -> None:
    worker = make_worker(**FROZEN)
    assert worker.reference_digest == base_digest(NANO) and len(worker.reference_digest) == 64
    shutil.copytree(NANO, tmp_path / "copy")
    assert base_digest(str(tmp_path / "copy")) == worker.reference_digest
    worker.update(batch_of(worker, groups))
    worker.export(tmp_path / "trained", "bfloat16")
    assert base_digest(str(tmp_path / "trained")) != worker.reference_digest
    with pytest.raises(FileNotFoundError, match=r"found no \.safetensors file"):
        base_digest(str(tmp_path))
