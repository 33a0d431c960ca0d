"""Qwen3-VL in the learner over ranks and in the whole loop: its image features kept, and its vision tower training."""

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen3VLForConditionalGeneration

from learner.types import TrainingGroup, UpdateStats
from learner.worker import LearnerWorker
from learner_ranks import batches_of, file_of, learner_config, make_groups, make_images, run_ranks
from random_policy import save_qwen3_vl
from runs import SMALL, metrics_of, only_run, run_to_end, train_command
from tiny_policy import relative_errors

SHARDED = {"zero_stage": 3, "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}}
TWO_STEPS = (
    "num_steps=2",
    "data.num_validation=6",
    "data.num_test=6",
    # Random weights earn no reward, and groups without any teach nothing: the entropy moves them.
    "learner.loss.entropy_coefficient=0.01",
    "learner.lr_schedule=constant",
    "learner.learning_rate=1e-3",
    "rails.max_logprob_difference=1e-4",
)


def updates(
    rank: int, port: int, num_ranks: int, base: str, cases: list[dict[str, Any]], groups: list[TrainingGroup]
) -> list[tuple[UpdateStats, dict[str, Tensor]]]:
    """In a process of its own: for each case one update by a new learner, and the weights that it sends."""
    torch.set_num_threads(1)
    found = []
    for settings in cases:
        config = learner_config(num_ranks=num_ranks, **settings)
        worker = LearnerWorker(config, base, rank, num_ranks, "127.0.0.1", port)
        worker.add_images(make_images())
        stats, _ = worker.update(batches_of(groups, config)[rank])
        buckets = [safetensors.torch.load(file_of(bucket)) for bucket in worker.gather_weights("float32")]
        found.append((stats, {name: tensor for bucket in buckets for name, tensor in bucket.items()}))
    return found


def test_ranks_that_shard_every_tensor_give_what_one_rank_gives(tmp_path: Path) -> None:
    base = save_qwen3_vl(tmp_path / "base", seed=1)
    policy = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    groups = make_groups(policy, AutoProcessor.from_pretrained(base), make_images())
    cases: list[dict[str, Any]] = [{"freeze_vision": frozen, "max_grad_norm": 1e9} for frozen in (True, False)]
    (one,) = run_ranks(updates, 1, 1, str(base), cases, groups)
    two, _ = run_ranks(updates, 2, 2, str(base), [case | SHARDED for case in cases], groups)
    before = {name: tensor.detach() for name, tensor in policy.state_dict().items() if name != "lm_head.weight"}
    for (stats, weights), (expected_stats, expected), case in zip(two, one, cases, strict=True):
        assert stats.loss == pytest.approx(expected_stats.loss, rel=1e-4, abs=1e-6)
        assert stats.gradient_norm == pytest.approx(expected_stats.gradient_norm, rel=1e-4)
        assert weights.keys() == expected.keys() == before.keys()
        moved = {name for name in before if not expected[name].equal(before[name])}
        assert any("deepstack_merger_list.1" in name for name in moved) == (not case["freeze_vision"])
        assert max(relative_errors(weights, expected).values()) < 1e-3


@pytest.mark.full
@pytest.mark.parametrize("frozen", ["true", "false"])
def test_a_run_trains_it_and_exports_it(frozen: str, tmp_path: Path) -> None:
    base = save_qwen3_vl(tmp_path / "base", seed=1)
    settings = (*SMALL, *TWO_STEPS, f"model={base}", f"learner.freeze_vision={frozen}")
    run_to_end(train_command(tmp_path / "runs", *settings))
    folder = only_run(tmp_path / "runs")
    first, second = [entry for entry in metrics_of(folder) if "loss/loss" in entry]
    assert [first["step"], second["step"]] == [1, 2]
    for entry in (first, second):  # the second one's responses come from the weights that the first update made
        assert 0 < entry["loss/sampler_logprob_difference_max"] < 1e-4
        assert entry["loss/gradient_norm"] > 0 and entry["rollout/staleness"] == 0

    last = tmp_path / "last"  # no answer was ever right, so the best policy is the one before training
    run_to_end([sys.executable, "-m", "medvie_rl", "export", str(folder), "--step", "last", "--out", str(last)])
    before, after = (AutoModelForImageTextToText.from_pretrained(policy, dtype="float32") for policy in (base, last))
    assert isinstance(after, Qwen3VLForConditionalGeneration)
    moved = " ".join(name for name, old in before.state_dict().items() if not old.equal(after.state_dict()[name]))
    assert "layers.0.mlp.up_proj" in moved
    assert all((part in moved) == (frozen == "false") for part in ("patch_embed", "visual.merger", "deepstack_merger"))
