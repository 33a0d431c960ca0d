"""The rollout settings refuse nonsense with what they got; the environment follows the settings."""

from dataclasses import replace

import pytest

from rollout.config import RolloutConfig, worker_environment


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be in \(0, 2\], got 0.0; for greedy answers mark the request"),
        ({"temperature": float("nan")}, "temperature must be in .*, got nan"),
        ({"max_response_tokens": 1024}, r"max_model_len \(1024\) .*max_response_tokens \(1024\)"),
        ({"dtype": "fp32"}, "dtype must be one of float32, .*, got 'fp32'"),
        ({"block_size": 48}, "block_size must be a multiple of 32, .* got 48"),
        ({"kv_cache_gib": -1.0}, "kv_cache_gib must not be negative, got -1.0"),
        ({"gpu_memory_utilization": 1.0}, r"gpu_memory_utilization must be in \(0, 1\), got 1.0"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"num_threads": -2}, "num_threads must be at least 1, got -2"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_nonsense_is_refused(change: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RolloutConfig(), **change)  # type: ignore[arg-type]


def test_the_environment_follows_the_settings() -> None:
    environment = worker_environment(RolloutConfig(num_threads=3))
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
