"""What crosses the rollout actors' boundary: requests in, groups of rollouts out.

Nested lists carry no suffixes here: a `RolloutGroup` is the n rollouts of one request, a batch is a list of groups.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from rollout.config import AnswerSampling


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
    seed: int  # 63-bit; trace i samples from its own stream; not used for greedy answers
    weight_version: int  # of the policy that is asked; a worker that holds another refuses
    answer: AnswerSampling | None = None  # how answers are sampled; None: traces for training
    grammar: str = ""  # that the answer must follow, as vLLM's guidance backend takes it; none for training

    def __post_init__(self) -> None:
        if self.answer is not None and not self.answer.temperature and self.num_traces != 1:
            raise ValueError(f"query {self.query_id}: greedy answers are all the same, asked for {self.num_traces}")
        if self.answer is None and self.grammar:
            raise ValueError(
                f"query {self.query_id}: traces for training follow no grammar: the learner's logprobs are over all "
                "tokens. Ask for an answer instead"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled response. `logprobs` are the sampler's processed logprobs of `token_ids`.

    Of a trace for training they are the policy's at its temperature. Of an answer with top-p, top-k, min-p or a grammar
    they are over the tokens that these leave: higher than the policy's, and 0 where only one token is left.
    """

    text: str
    token_ids: tuple[int, ...]  # [R], the end-of-turn token included when finish_reason is stop
    logprobs: tuple[float, ...]  # [R], after temperature and banned tokens
    finish_reason: FinishReason
    weight_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup:
    """The rollouts of one request. `prompt_ids` [P] is what the engine saw, image placeholders expanded. Groups that
    differ in the time they took are equal."""

    query_id: str
    prompt_ids: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    seconds: float = field(default=0.0, compare=False)  # that the engine worked on the batch with this request


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReceipt:
    """What an engine says after loading new weights. `digest` is over all it holds, also what was sent before: equal on
    every engine. Without verification there are no digests."""

    version: int
    num_tensors: int
    num_bytes: int
    digests: dict[str, str]  # sha256 of the bytes that came, by the tensor's name
    digest: str  # sha256 over the sorted names and digests of all tensors
    seconds: float  # of loading into the engine; where weights are broadcast, of waiting for them as well
