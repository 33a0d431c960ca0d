"""Memory that does not suffice is said with what to lower; other errors pass as they are."""

import pytest
import torch

from learner.config import LearnerConfig
from learner.errors import OutOfMemoryError
from learner.out_of_memory import saying_what_to_lower


def test_no_memory_on_a_cpu_says_what_to_lower() -> None:
    config = LearnerConfig(max_tokens_per_micro_batch=4096)
    with pytest.raises(OutOfMemoryError) as raised, saying_what_to_lower(config):
        torch.empty(2**60, dtype=torch.uint8)
    assert "can't allocate memory" in str(raised.value)
    assert "lower learner.max_tokens_per_micro_batch (now 4096), set learner.gradient_checkpointing=true" in str(
        raised.value
    )
    assert "zero_stage" not in str(raised.value), "one rank has nobody to share with"


def test_no_memory_on_a_gpu_is_told_without_what_torch_says_besides() -> None:
    torchs = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB\nSee documentation"
    )
    config = LearnerConfig(num_ranks=4, gradient_checkpointing=True)
    with pytest.raises(OutOfMemoryError) as raised, saying_what_to_lower(config):
        raise torch.OutOfMemoryError(torchs)
    message = str(raised.value)
    assert message.startswith("out of memory in an update (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert "See documentation" not in message and "gradient_checkpointing" not in message
    assert "learner.zero_stage=3" in message


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), saying_what_to_lower(LearnerConfig()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
