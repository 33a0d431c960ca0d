"""A learner's checkpoint loaded into another number of ranks or ZeRO stage goes on as if nothing had happened."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.config import LoraConfig
from learner.errors import CheckpointError
from learner.manifest import file_digests, read_manifest, write_manifest
from learner.types import TrainingGroup
from learner.worker import LearnerWorker
from learner_ranks import NANO, batches_of, file_of, free_port, learner_config, make_groups, make_images, run_ranks

LAYOUTS: dict[str, dict[str, Any]] = {
    "1 rank": {"num_ranks": 1, "zero_stage": 1},
    "1 rank offloaded": {"num_ranks": 1, "zero_stage": 1, "offload_optimizer": True},
    "1 rank ZeRO-3": {"num_ranks": 1, "zero_stage": 3},
    "2 ranks ZeRO-1": {"num_ranks": 2, "zero_stage": 1},
    "2 ranks ZeRO-2": {"num_ranks": 2, "zero_stage": 2},
    "2 ranks ZeRO-3": {"num_ranks": 2, "zero_stage": 3},
    "2 ranks ZeRO-3 offloaded": {"num_ranks": 2, "zero_stage": 3, "offload_optimizer": True},
}
TRAINED: dict[str, dict[str, Any]] = {
    "full": {"freeze_vision": False},
    "language": {"freeze_vision": True},
    "lora": {"freeze_vision": True, "lora": LoraConfig(rank=4, alpha=8.0, targets=["q_proj", "up_proj"])},
}
SHORT = [("2 ranks ZeRO-3", "1 rank", "full"), ("1 rank", "2 ranks ZeRO-2", "lora")]
LONG = [
    ("1 rank", "2 ranks ZeRO-3", "full"),
    ("1 rank", "1 rank offloaded", "full"),
    ("1 rank ZeRO-3", "1 rank", "full"),
    ("2 ranks ZeRO-1", "2 ranks ZeRO-3", "full"),
    ("2 ranks ZeRO-2", "1 rank", "full"),
    ("2 ranks ZeRO-3", "1 rank ZeRO-3", "full"),
    ("2 ranks ZeRO-3 offloaded", "2 ranks ZeRO-2", "full"),
    ("2 ranks ZeRO-3", "2 ranks ZeRO-1", "language"),
    ("1 rank", "2 ranks ZeRO-3", "lora"),
    ("2 ranks ZeRO-3", "1 rank", "lora"),
]
Updates = list[tuple[dict[str, float], dict[str, np.ndarray]]]  # statistics, weights


@pytest.fixture(scope="module")
def groups() -> list[TrainingGroup]:
    policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    return make_groups(policy, AutoProcessor.from_pretrained(NANO), make_images())


def updates(
    rank: int,
    port: int,
    settings: dict[str, Any],
    groups: list[TrainingGroup],
    folder: str,
    writes: bool,
    updates_before: bool,
) -> tuple[dict[str, np.ndarray], Updates]:
    """The weights at the checkpoint, and two updates after it: made by the one that wrote it, or by one that loads."""
    config = learner_config(**settings)
    worker = LearnerWorker(config, NANO, rank, config.num_ranks, "127.0.0.1", port)
    worker.add_images(make_images())

    def update(share: list[TrainingGroup]) -> dict[str, float]:
        stats, _ = worker.update(batches_of(share, config)[rank])
        return {name: value for name, value in asdict(stats).items() if value is not None}

    if writes:
        if updates_before:
            update(groups)
            update(groups[:1])  # with two ranks, one has nothing to learn
        worker.save(folder)
    else:
        worker.load(folder)
    at_checkpoint = weights_of(worker)
    return at_checkpoint, [(update(share), weights_of(worker)) for share in (groups, groups[1:])]


def weights_of(worker: LearnerWorker) -> dict[str, np.ndarray]:
    buckets = worker.gather_weights()
    return {name: tensor for bucket in buckets for name, tensor in safetensors.numpy.load(file_of(bucket)).items()}


@pytest.mark.parametrize(
    ("written", "loaded", "trained", "updates_before"),
    [
        *(pytest.param(*each, True) for each in SHORT),
        pytest.param("1 rank", "2 ranks ZeRO-3", "full", False, id="before the first update"),
        *(pytest.param(*each, True, marks=pytest.mark.full) for each in LONG),
        pytest.param("2 ranks ZeRO-3", "1 rank offloaded", "lora", False, marks=pytest.mark.full),
        pytest.param("2 ranks ZeRO-2", "1 rank ZeRO-3", "language", False, marks=pytest.mark.full),
    ],
)
def test_the_next_updates_are_those_of_the_uninterrupted_learner(
    written: str, loaded: str, trained: str, updates_before: bool, groups: list[TrainingGroup], tmp_path: Path
) -> None:
    found = []
    for layout, writes in ((written, True), (loaded, False)):
        settings = TRAINED[trained] | LAYOUTS[layout]
        arguments = (settings, groups, str(tmp_path / "checkpoint"), writes, updates_before)
        found.append(run_ranks(updates, settings["num_ranks"], *arguments)[0])
    (start, expected), (loaded_start, others) = found
    assert start.keys() == loaded_start.keys()
    assert all(np.array_equal(start[name], loaded_start[name]) for name in start)
    assert not (tmp_path / "checkpoint" / ".relaid").exists()
    for (stats, weights), (other_stats, other_weights) in zip(expected, others, strict=True):
        assert other_stats == pytest.approx(stats, rel=1e-4, abs=1e-6)
        for name, tensor in weights.items():
            assert np.allclose(tensor, other_weights[name], rtol=1e-4, atol=1e-6), name
            # Of what the updates changed, too: a weight decay that is lost, or a step counted twice, is not much else.
            change = float(np.abs(tensor - start[name]).max())
            assert float(np.abs(tensor - other_weights[name]).max()) <= 2e-3 * change, name


def failing_load(rank: int, port: int, folder: str) -> str:
    config = learner_config(num_ranks=2, zero_stage=2)
    worker = LearnerWorker(config, NANO, rank, 2, "127.0.0.1", port)
    with pytest.raises(CheckpointError) as told:
        worker.load(folder)
    return str(told.value)


def test_a_conversion_that_fails_is_told_on_every_rank(tmp_path: Path) -> None:
    LearnerWorker(learner_config(), NANO, master_port=free_port()).save(tmp_path)
    (shard,) = (tmp_path / "deepspeed").glob("*_optim_states.pt")
    shard.write_bytes(b"no shard")  # and a manifest that says so: what the converter reads it cannot use
    manifest = read_manifest(tmp_path)
    files = {name: digest for name, digest in file_digests(tmp_path, manifest.files).items() if digest}
    write_manifest(tmp_path, manifest.facts, files)
    told = run_ranks(failing_load, 2, str(tmp_path))
    assert told[0] == told[1] and "cannot be converted to another number of ranks (" in told[0]
    assert not (tmp_path / ".relaid").exists()


def test_the_checkpoint_of_another_policy_is_refused(groups: list[TrainingGroup], tmp_path: Path) -> None:
    worker = LearnerWorker(learner_config(), NANO, master_port=free_port())
    worker.save(tmp_path)
    digest, worker.reference_digest = worker.reference_digest, "0123"
    with pytest.raises(CheckpointError, match=f"trained from the base policy with digest {digest}, .* has 0123;"):
        worker.load(tmp_path)
    other = LearnerWorker(learner_config(freeze_vision=True), NANO, master_port=free_port())
    with pytest.raises(CheckpointError, match=r"visual\.\S+ for instance is \[.*\] there and not trained here"):
        other.load(tmp_path)
    half = LearnerWorker(learner_config(dtype="bfloat16"), NANO, master_port=free_port())
    with pytest.raises(CheckpointError, match=r"is of learner\.dtype float32, configured is bfloat16"):
        half.load(tmp_path)
