"""The whole loop on a GPU: nano with engine and learner sharing one card."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from runs import SMALL, metrics_of, only_run, run_to_end, train_command

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_run_trains_on_one_gpu(tmp_path: Path, dtype: str) -> None:
    gpus = ("cluster.rollout_gpus=0.5", "cluster.learner_gpus=0.5", "rollout.gpu_memory_utilization=0.3")
    dtypes = (f"rollout.dtype={dtype}", f"learner.dtype={dtype}")
    run_to_end(train_command(tmp_path, *SMALL, *gpus, *dtypes))
    metrics = metrics_of(only_run(tmp_path))
    assert [entry["step"] for entry in metrics] == list(range(7))
    bound = 1e-3 if dtype == "float32" else 0.2
    assert max(entry["loss/sampler_logprob_difference"] for entry in metrics[1:] if "loss/loss" in entry) < bound
