"""What crosses the rollout actors' boundary: requests in, groups of rollouts out.

Nested lists carry no suffixes here: a `RolloutGroup` is the n rollouts of one request, a batch is a list of groups.
"""

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a response ended: `stop` at the end-of-turn token, `length` at the token limit (truncated)."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One query for the engine. `prompt` is rendered text with one image placeholder per image."""

    query_id: str
    prompt: str
    image_keys: tuple[str, ...]  # sha256 of the encoded images, whose bytes travel once (see RolloutWorker.add_images)
    num_traces: int
    seed: int  # 63-bit; trace i samples from its own stream
    weight_version: int  # of the policy that is asked; a worker that holds another refuses
    greedy: bool = False  # then num_traces is 1 and the seed is not used


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled response. `logprobs` are the sampler's processed logprobs of `token_ids`."""

    text: str
    token_ids: tuple[int, ...]  # [R], the end-of-turn token included when finish_reason is stop
    logprobs: tuple[float, ...]  # [R], after temperature and banned tokens
    finish_reason: FinishReason
    weight_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup:
    """The rollouts of one request. `prompt_ids` [P] is what the engine saw, image placeholders expanded."""

    query_id: str
    prompt_ids: tuple[int, ...]
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReceipt:
    """What an engine says after loading new weights. `digest` is over all it holds, also what was sent before: equal on
    every engine."""

    version: int
    num_tensors: int
    num_bytes: int
    digest: str  # sha256 over the sorted names and digests of the tensors; empty if they were not verified
    seconds: float
