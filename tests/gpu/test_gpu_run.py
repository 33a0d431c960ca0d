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


ONE_GPU = ("cluster.layout=colocated", "rollout.gpu_memory_utilization=0.3")
TURNS = ("rollout.sleep_while_learning=true", "learner.offload_while_sampling=true")
LORA = ("learner.lora.rank=8",)


def dtypes(name: str) -> tuple[str, ...]:
    return (f"rollout.dtype={name}", f"learner.dtype={name}")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(dtypes("float32"), id="float32"),
        pytest.param(dtypes("bfloat16"), id="bfloat16"),
        pytest.param((*dtypes("float32"), "sync.transport=ipc"), id="CUDA IPC"),
        pytest.param((*dtypes("float32"), *TURNS), id="by turns"),
        pytest.param((*dtypes("float32"), *LORA), id="LoRA"),
        pytest.param((*dtypes("float32"), *LORA, *TURNS), id="LoRA by turns"),
    ],
)
def test_a_small_run_trains_on_one_gpu(tmp_path: Path, settings: tuple[str, ...]) -> None:
    check_run(tmp_path, *ONE_GPU, *settings)


@pytest.mark.parametrize("num_engines", [1, 2])
def test_weights_are_broadcast_between_gpus(tmp_path: Path, num_engines: int) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() <= num_engines:
        pytest.skip(f"NCCL needs a GPU for each of {num_engines} engines and one for the learner")
    gpus = ("cluster.layout=split", f"rollout.num_workers={num_engines}")
    check_run(tmp_path, *gpus, *dtypes("float32"), "sync.transport=broadcast")


def check_run(folder: Path, *settings: str) -> None:
    """A run in which engine and learner agree on the logprobs of every step, so that each sync has arrived."""
    run_to_end(train_command(folder, *SMALL, *settings, "rails.max_logprob_difference=0"))
    metrics = metrics_of(only_run(folder))
    assert [entry["step"] for entry in metrics] == list(range(7))
    bound = 1e-3 if "rollout.dtype=float32" in settings else 0.2
    assert max(entry["loss/sampler_logprob_difference"] for entry in metrics[1:] if "loss/loss" in entry) < bound
