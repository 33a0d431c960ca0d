"""`medvie plan`: shipped recipes fit what their comments name; what does not fit is told with a remedy that works."""

import json
import re
from pathlib import Path

import pytest

from medvie_rl.cli import main
from medvie_rl.config import load_config
from medvie_rl.fit.duration import duration, forward_flops, sampling_seconds
from medvie_rl.fit.gpus import find_gpu
from medvie_rl.fit.items import Rates, Workload
from medvie_rl.fit.shape import read_shape

RECIPES = sorted(Path("conf").glob("*.yaml"))
PAPER = Path("conf/qwen2_5_vl_7b.yaml")


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["plan", *arguments])
    output = capsys.readouterr()
    return code, output.out + output.err


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits_the_gpus_that_its_comment_names(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(path)
    arguments = ["--config", str(path)]
    if config.cluster.on_gpus:
        named = re.search(rf"^#   medvie plan (--config {path} --gpu \S+)$", path.read_text(encoding="utf-8"), re.M)
        assert named, "the comment must hold the command that plans the recipe"
        arguments = named.group(1).split()
        code, told = plan(capsys, *arguments)
        assert f"It fits on {arguments[-1]}" in told
    else:
        code, told = plan(capsys, *arguments)
        assert "No GPU" in told
    assert code == 0


def test_what_is_told_to_change_makes_it_fit(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = plan(capsys, "--config", str(PAPER), "--gpu", "A100-40")
    assert code == 1
    ways = re.findall(r"would fit with: (.*)", told)
    assert "learner.offload_optimizer=true" in ways
    for way in ways:
        code, told = plan(capsys, "--config", str(PAPER), "--gpu", "A100-40", *way.split())
        assert code == 0, told
    code, told = plan(capsys, "--config", str(PAPER), "--gpu", "L4")
    assert code == 1
    (way,) = re.findall(r"would fit with: (.*)", told)
    assert "rollout.tensor_parallel_size=2" in way
    assert "learner.num_ranks" in way or "learner.lora.rank" in way or "learner.offload_optimizer" in way
    assert plan(capsys, "--config", str(PAPER), "--gpu", "L4", *way.split())[0] == 0


def test_sharing_a_gpu_without_turns_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    lora = Path("conf/qwen2_5_vl_7b_lora_1_gpu.yaml")
    both = ["rollout.sleep_while_learning=false", "learner.offload_while_sampling=false"]
    code, told = plan(capsys, "--config", str(lora), "--gpu", "A100-80", *both)
    assert code == 1
    assert "would fit with: rollout.sleep_while_learning=true learner.offload_while_sampling=true" in told


def test_numbers_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = plan(capsys, "--config", str(PAPER), "--gpu", "h100", "--json")
    found = json.loads(told)
    assert code == 0
    assert found["fits"] and found["gpu"]["name"] == "H100"
    learner, engine = found["moments"]
    assert learner["needed"] == pytest.approx(sum(item["num_bytes"] for item in learner["items"]))
    assert engine["needed"] == pytest.approx(0.85 * found["gpu"]["memory_gib"] * 2**30)
    step = found["step"]
    parts = ("sampling", "learning", "optimizer", "gathering", "syncing")
    assert step["step"] == pytest.approx(sum(step[part] for part in parts))
    assert step["sync"]["num_bytes"] == 2 * (8_292_166_656 - 676_550_144)  # bfloat16, the frozen vision tower stays


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name their kind, e.g. --gpu H100"),
        (["--gpu", "TPU"], "no numbers for 'TPU', only for H100"),
        (["--gpu", "H100", "model=nobody/knows"], "is no folder with a config.json"),
        (["--gpu", "H100", "--image-tokens", "9000"], "9400 tokens are more than the 6144"),
        (["--gpu", "H100", "--response-tokens", "4000"], "expected 1 to rollout.max_response_tokens (2048)"),
        (["--gpu", "H100", "--learner-fraction", "0"], "--learner-fraction: expected above 0"),
        (["--gpu", "H100", "learner.nothing=1"], "unknown key 'learner.nothing'"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = plan(capsys, "--config", str(PAPER), *arguments)
    assert code == 2
    assert told in output


def test_a_policy_that_the_learner_cannot_train_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}', encoding="utf-8")
    code, told = plan(capsys, "--config", str(PAPER), "--gpu", "H200", f"model={tmp_path}")
    assert code == 2
    assert "model_type 'qwen2_vl', expected qwen2_5_vl or qwen3_vl" in told


def test_operations_by_hand() -> None:
    """10 prompt tokens and 2 x 3 response tokens: all decoder layers, attention, and the head for responses only."""
    shape = read_shape("Qwen/Qwen2.5-VL-7B-Instruct")
    work = Workload(image_tokens=5, prompt_tokens=10, response_tokens=3)
    pairs = 10 * 10 / 2 + 2 * 3 * (10 + 1.5)
    by_hand = 2 * shape.layer_parameters * 16
    by_hand += 4 * 28 * 3584 * pairs + 2 * 152_064 * 3584 * 6
    assert forward_flops(shape, work, 2) == by_hand


def test_time_follows_from_rates_and_layout() -> None:
    config = load_config(PAPER)
    shape, work = read_shape(config.model), Workload(image_tokens=1300, prompt_tokens=1700, response_tokens=500)
    h100 = find_gpu("H100")
    one = duration(config, shape, work, h100, Rates(), gpus_per_node=8)
    assert one.learning == pytest.approx(one.learner_flops / 4 / (0.2 * 989.5e12))
    half = duration(config, shape, work, h100, Rates(learner=0.4), gpus_per_node=8)
    assert half.learning == pytest.approx(one.learning / 2)
    ahead = duration(load_config(PAPER, ["pipeline_depth=1"]), shape, work, h100, Rates(), gpus_per_node=8)
    update = one.learning + one.optimizer + one.gathering
    assert ahead.step == pytest.approx(max(one.sampling, update) + one.syncing)
    apart = duration(config, shape, work, h100, Rates(), gpus_per_node=2)  # ranks over two nodes
    assert apart.gathering > one.gathering


def test_the_rank_and_the_engine_with_the_most_queries_set_the_time() -> None:
    shape, h100 = read_shape("Qwen/Qwen2.5-VL-7B-Instruct"), find_gpu("H100")
    work = Workload(image_tokens=1300, prompt_tokens=1700, response_tokens=500)
    even, odd = (load_config(PAPER, [f"queries_per_step={queries}"]) for queries in (8, 5))  # on 4 ranks, 4 engines
    times = [duration(config, shape, work, h100, Rates(), gpus_per_node=8) for config in (even, odd)]
    assert times[0].learning == pytest.approx(times[1].learning)  # two groups on the fullest rank
    assert times[0].sampling == pytest.approx(times[1].sampling)


def test_sampling_by_hand() -> None:
    """One engine of 2 GPUs, 16 queries of 8 traces: one wave of 128, each token reading weights and caches."""
    config = load_config(
        PAPER,
        ["queries_per_step=16", "rollout.num_workers=1", "rollout.tensor_parallel_size=2"],
    )
    shape, work = read_shape(config.model), Workload(image_tokens=100, prompt_tokens=200, response_tokens=50)
    layers = 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3584 + 2 * 512 + 3 * 3584 * 18944 + 2 * 3584) + 3584
    vision = 676_550_144
    reading = 2 * layers * 200 + 4 * 28 * 3584 * 200**2 / 2 + 2 * vision * 100 * 4
    read_seconds = 16 * (reading / (2 * 0.4 * 989.5e12) + 2 * 28 * (2 * 3584 * 200 / 270e9 + 1e-5))
    moved = 2 * (layers + 152_064 * 3584) + 128 * 2 * 28 * 512 * 2 * (200 + 25)
    of_token = moved / (2 * 0.5 * 3.35e12) + 2 * 28 * (2 * 3584 * 128 / 270e9 + 1e-5)
    by_hand = read_seconds + 50 * of_token
    assert sampling_seconds(config, shape, work, find_gpu("H100"), Rates()) == pytest.approx(by_hand)
