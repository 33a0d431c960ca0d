"""What crosses the learner actors' boundary: groups of responses in, statistics of the update out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResponse:
    """One response to learn from. Lengths of `token_ids` and `sampler_logprobs` are equal, R >= 1."""

    token_ids: tuple[int, ...]  # [R]
    sampler_logprobs: tuple[float, ...]  # [R], of the policy that sampled it, at the sampling temperature
    advantage: float


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

    `num_micro_batches[m]` and `num_response_tokens[m]` are the same on every rank: under ZeRO-3 all ranks run the same
    number of micro-batches (a rank with fewer groups runs a group without responses), and the loss denominator
    is the global number of response tokens.
    """

    minibatches: tuple[tuple[TrainingGroup, ...], ...]
    num_micro_batches: tuple[int, ...]
    num_response_tokens: tuple[int, ...]
    learning_rate: float
    temperature: float
    banned_token_ids: tuple[int, ...]  # never sampled, so masked out of the learner's logits too


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """Means over the response tokens of all minibatches of one update, global over ranks; times are seconds."""

    loss: float
    gradient_norm: float
    clip_fraction: float  # share of tokens whose ratio was clipped
    entropy: float
    sampler_kl: float  # k3 estimate of KL(sampler || learner) at the first pass, before any update
    sampler_logprob_difference: float  # mean absolute difference, same tokens
    sampler_logprob_difference_max: float
    num_tokens: int
    num_optimizer_steps: int
    seconds: float
