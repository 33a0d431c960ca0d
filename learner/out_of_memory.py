"""Memory that does not suffice, in words that a user can act on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from learner.config import LearnerConfig
from learner.errors import OutOfMemoryError

_OF_CPU = "can't allocate memory"  # in the message of torch's allocator, which has no error of its own


@contextmanager
def saying_what_to_lower(config: LearnerConfig) -> Iterator[None]:
    """Raises OutOfMemoryError in place of what torch raises when it finds no memory."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _OF_CPU not in str(error):
            raise
        raise OutOfMemoryError(f"out of memory in an update ({_told(error)}); {_remedies(config)}") from error


def _told(error: RuntimeError) -> str:
    line = str(error).splitlines()[0]
    start = line.find("CUDA out of memory") if isinstance(error, torch.OutOfMemoryError) else line.find(_OF_CPU)
    return line[max(0, start) :].strip()


def _remedies(config: LearnerConfig) -> str:
    settings = [f"lower learner.max_tokens_per_micro_batch (now {config.max_tokens_per_micro_batch})"]
    if not config.gradient_checkpointing:
        settings.append("set learner.gradient_checkpointing=true")
    if config.num_ranks > 1 and config.zero_stage < 3:
        settings.append("learner.zero_stage=3")
    if not config.offload_optimizer:
        settings.append("learner.offload_optimizer=true")
    return f"{', '.join(settings)}, then go on with --resume; `medvie plan` estimates what fits"
