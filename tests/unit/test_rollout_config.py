"""The rollout settings refuse nonsense with what they got; the environment follows the settings."""

from dataclasses import replace

import pytest

from rollout.config import AnswerSampling, RolloutConfig, worker_environment
from rollout.types import GenerationRequest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be in \(0, 2\], got 0.0; greedy is for answers"),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"sampling.temperature must be in \[0, 2\], 0 for greedy, got -0.1"),
        ({"temperature": float("nan")}, "sampling.temperature must be in .*, got nan"),
        ({"temperature": 1.0, "top_p": 0.0}, r"sampling.top_p must be in \(0, 1\], 1 for all tokens, got 0.0"),
        ({"temperature": 1.0, "top_k": -1}, "sampling.top_k must be 0 for all tokens, or their number, got -1"),
        ({"temperature": 1.0, "min_p": 1.0}, r"sampling.min_p must be in \[0, 1\), 0 for all tokens, got 1.0"),
        (
            {"top_p": 0.9},
            "sampling.top_p says which tokens are sampled, but at sampling.temperature 0 .*set a temperat",
        ),
        ({"min_p": 0.1}, "sampling.min_p says which tokens are sampled, but at sampling.temperature 0"),
    ],
)
def test_sampling_that_means_nothing_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerSampling(**settings)  # type: ignore[arg-type]


def test_answers_alone_may_follow_a_grammar() -> None:
    request = GenerationRequest(
        query_id="q", prompt="", image_keys=(), num_traces=1, seed=0, weight_version=0, answer=AnswerSampling()
    )
    assert replace(request, grammar="start: /a/").grammar
    with pytest.raises(ValueError, match="query q: traces for training follow no grammar"):
        replace(request, answer=None, grammar="start: /a/")
    with pytest.raises(ValueError, match="query q: greedy answers are all the same, asked for 8"):
        replace(request, num_traces=8)


def test_the_environment_follows_the_settings() -> None:
    environment = worker_environment(RolloutConfig(num_threads=3))
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
