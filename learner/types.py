"""What crosses the learner actors' boundary: groups of responses in, statistics of the update out."""

from dataclasses import dataclass

ALL, TRAINED, FROZEN, ADAPTER = "all", "trained", "frozen", "adapter"
"""Parts of the weights, with LoRA merged ones; frozen is a vision tower of which nothing trains, trained is the rest.
The adapter is a LoRA adapter by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResponse:
    """One response to learn from, R >= 1 tokens.

    Without `sampler_logprobs` (a demonstration, which no policy sampled) the learner takes its own in their place.
    """

    token_ids: tuple[int, ...]  # [R]
    sampler_logprobs: tuple[float, ...] | None  # [R], of the policy that sampled it, at the sampling temperature
    advantage: float
    trace: int = 0  # which of the query's responses it is


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingGroup:
    """The responses that share one prompt and its images: they are trained as one row (prompt once)."""

    query_id: str
    prompt_ids: tuple[int, ...]  # [P], image placeholders expanded
    image_keys: tuple[str, ...]
    responses: tuple[TrainingResponse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBatch:
    """One call of `LearnerWorker.update`, for one rank: `minibatches[m]` is this rank's share of minibatch m.

    `num_micro_batches[m]`, `num_response_tokens[m]` and `num_responses[m]` are the same on every rank: under ZeRO-3 all
    ranks run the same number of micro-batches (a rank with fewer groups runs a group without responses), and the loss
    denominators are global numbers.
    """

    minibatches: tuple[tuple[TrainingGroup, ...], ...]
    num_micro_batches: tuple[int, ...]
    num_response_tokens: tuple[int, ...]
    num_responses: tuple[int, ...]
    max_response_tokens: int  # the limit at which responses are cut off
    learning_rate: float
    temperature: float
    banned_token_ids: tuple[int, ...]  # never sampled, so masked out of the learner's logits too
    max_logprob_difference: float = 0.0  # between sampler and learner before the update; 0: any


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedBucket:
    """Weights in the memory of one rank, which processes on the same device can open."""

    device: str  # see learner.sending.device_name
    handle: bytes  # of [num_bytes], uint8, the tensors behind one another: a pickled CUDA tensor, or a file's path
    digests: dict[str, str]  # sha256 by the tensor's name; none if they were not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseKl:
    """How far the policy that sampled a response was from the reference: KL summed over its tokens."""

    query_id: str
    trace: int
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """Means over the response tokens of all minibatches of one update, global over ranks."""

    loss: float  # mean over minibatches
    gradient_norm: float  # before clipping, mean over minibatches
    clip_fraction: float  # share of tokens whose ratio was clipped
    entropy: float
    ratio_max: float  # largest ratio of the policy to the old policy
    ratio_explosions: int  # tokens whose probability differs from the sampler's by more than a factor of ten
    sampler_kl: float  # k3 estimate of KL(sampler || learner) at the first pass, before any update
    sampler_logprob_difference: float  # mean absolute difference, same tokens
    sampler_logprob_difference_max: float
    importance_weight: float  # mean weight of the correction between sampler and learner, 1 without one
    importance_bounded: float  # share of tokens whose weight was truncated or masked
    reference_kl: float | None  # KL(policy || reference) by the configured estimator; None without a reference
    num_tokens: int
    num_optimizer_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCost:
    """What one update took on this rank. Memory is the peak on a GPU, on a CPU what the process holds."""

    seconds: dict[str, float]
    memory_gib: float
