"""Policies of real shapes with random weights on one GPU of 80 GB: updates against the estimate of `medvie plan`, with
seconds, tokens/s and MFU, and whole steps by turns. `make test-gpu` prints the numbers and keeps them."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from learner_ranks import run_ranks
from medvie_rl.config import load_config
from medvie_rl.fit.items import GIB, Workload
from shaped import UPDATES, gpu_of, measure_rl_steps, measure_updates, save_shaped_policy

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(2400)]
RECIPE = Path("conf/qwen2_5_vl_7b_lora_1_gpu.yaml")
WORK = Workload(image_tokens=1300, prompt_tokens=1700, response_tokens=500)
NUM_UPDATES = 3
LOWEST, HIGHEST = 0.75, 1.05  # measured over estimated: a plan that says "fits" must not be exceeded
Record = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="module", autouse=True)
def _needs_a_large_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if torch.cuda.get_device_properties(0).total_memory < 75 * GIB:
        pytest.skip("a policy of 7B parameters needs a GPU of 80 GB")


@pytest.fixture(scope="module", params=["Qwen2.5-VL-7B-Instruct", "Qwen3-VL-8B-Instruct"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """16 GB, gone again behind the tests."""
    import torch

    folder = tmp_path_factory.mktemp("shaped") / request.param
    save_shaped_policy(request.param, folder, device="cuda", image_tokens=WORK.image_tokens)
    torch.cuda.empty_cache()  # the tests' own processes need all of it
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", UPDATES)
def test_updates_take_the_memory_that_the_plan_says(base: Path, kind: str, record: Record) -> None:
    import torch

    gpu = gpu_of(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB)
    config = load_config(RECIPE, UPDATES[kind])
    arguments = (str(base), config, WORK, NUM_UPDATES, gpu.tflops if gpu else None)
    (found,) = run_ranks(measure_updates, 1, *arguments)
    record(f"update of {base.name}, LoRA, {kind}", asdict(found))
    assert LOWEST < found.measured_gib / found.estimated_gib < HIGHEST
    if found.hfu is not None:
        assert 0.01 < found.hfu < 1


def test_whole_steps_run_by_turns(base: Path, record: Record, tmp_path: Path) -> None:
    found = measure_rl_steps(tmp_path / "runs", base, config=str(RECIPE), seconds=1800)
    record(f"step of {base.name}, LoRA by turns", found)
    assert found["loss/sampler_logprob_difference"] < 0.2  # bfloat16
