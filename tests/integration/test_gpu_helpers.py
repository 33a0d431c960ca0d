"""The code of the tests on GPUs, run on a CPU with policies of real shapes made small."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))

from learner.attention import SHARED_PROMPT
from learner.families import FAMILIES
from learner_ranks import run_ranks
from medvie_rl.config import load_config
from medvie_rl.fit.items import Workload
from packed import packed_against_naive
from shaped import RL_STEPS, UPDATES, gpu_of, measure_rl_steps, measure_updates, save_shaped_policy

RECIPE = Path("conf/qwen2_5_vl_7b_lora_1_gpu.yaml")
SMALL_TEXT: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "vocab_size": 600,
                              "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128}  # fmt: skip
SMALL_VISION: dict[str, Any] = {
    "depth": 3, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
}  # fmt: skip
OF_FAMILY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Qwen2.5-VL-7B-Instruct": ({"hidden_size": 512}, {"fullatt_block_indexes": [2], "out_hidden_size": 512}),
    "Qwen3-VL-8B-Instruct": ({}, {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}),
}
ON_CPU = (
    "cluster.layout=cpu", "cluster.rollout_cpus=0.5", "cluster.learner_cpus=0.5",
    "cluster.reward_cpus=0.25", "rollout.sleep_while_learning=false", "learner.offload_while_sampling=false",
    "rollout.kv_cache_gib=0.5", "rollout.dtype=float32", "learner.dtype=float32", "sync.transport=auto",
    "rollout.enforce_eager=true", "rollout.max_model_len=2048", "rollout.max_num_batched_tokens=2048",
    "rollout.max_response_tokens=16",
    "rollout.num_threads=1", "learner.num_threads=1",
)  # fmt: skip


def small_policy(name: str, folder: Path) -> Path:
    text, vision = OF_FAMILY[name]
    return save_shaped_policy(
        name, folder, device="cpu", image_tokens=12, text=SMALL_TEXT | text, vision=SMALL_VISION | vision
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("frozen", [True, False])
def test_packed_rows_are_compared(family: str, frozen: bool) -> None:
    logprobs, gradients, at_fault = packed_against_naive("cpu", family, SHARED_PROMPT, frozen=frozen)
    assert logprobs < 1e-5 and gradients < 1e-5 and at_fault > 1e-2


@pytest.mark.parametrize("kind", UPDATES)
def test_the_gpus_settings_are_read(kind: str) -> None:
    load_config(RECIPE, UPDATES[kind])
    load_config(RECIPE, RL_STEPS)


@pytest.mark.parametrize("name", OF_FAMILY)
def test_updates_are_measured(name: str, tmp_path: Path) -> None:
    base = small_policy(name, tmp_path / "base")
    config = load_config(RECIPE, [*ON_CPU, "queries_per_step=3", "num_traces=2", "learner.lora.rank=4"])
    work = Workload(image_tokens=12, prompt_tokens=40, response_tokens=9)
    (found,) = run_ranks(measure_updates, 1, str(base), config, work, 2, 0.05)
    assert found.seconds > 0 and {"forward", "backward", "optimizer"} <= found.phases.keys()
    assert found.row_tokens_per_second / found.response_tokens_per_second == pytest.approx((40 + 2 * 8) / (2 * 9))
    assert found.mfu is not None and found.hfu is not None and 0 < found.mfu < found.hfu < 1
    assert 0 < found.estimated_gib < 1 < found.measured_gib + 1
    assert all(value is not None for value in asdict(found).values())


@pytest.mark.full
@pytest.mark.parametrize("name", OF_FAMILY)
def test_whole_steps_are_measured(name: str, tmp_path: Path) -> None:
    base = small_policy(name, tmp_path / "base")
    settings = (*ON_CPU, "learner.lora.rank=4", "queries_per_step=2")
    found = measure_rl_steps(tmp_path / "runs", base, *settings, config=str(RECIPE), seconds=600)
    assert {"time/step", "time/generate", "time/update", "time/sync", "memory/learner_gib"} <= found.keys()
    assert found["rollout/tokens_total"] > 0 and found["loss/sampler_logprob_difference"] < 1e-4


@pytest.mark.parametrize(
    ("device", "memory", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "H100"),
        ("NVIDIA H200", 139.7, "H200"),
        ("NVIDIA A100-SXM4-80GB", 79.1, "A100-80"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40"),
        ("NVIDIA L40S", 44.4, "L40S"),
        ("NVIDIA L4", 22.0, "L4"),
        ("NVIDIA GeForce RTX 4090", 23.5, "RTX-4090"),
    ],
)
def test_devices_are_found_by_their_names(device: str, memory: float, name: str) -> None:
    gpu = gpu_of(device, memory)
    assert gpu is not None and gpu.name == name


@pytest.mark.parametrize(("device", "memory"), [("NVIDIA GeForce RTX 3090", 23.5), ("Tesla V100-SXM2-32GB", 31.7)])
def test_no_peak_is_guessed(device: str, memory: float) -> None:
    assert gpu_of(device, memory) is None
