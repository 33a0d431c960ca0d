"""Settings of the learner and the learning-rate schedule; no heavy imports, so that config errors are instant."""

import math
from dataclasses import dataclass, field
from typing import Any

from learner.loss_config import LossConfig

DTYPES = ("float32", "bfloat16")
LR_SCHEDULES = ("constant", "cosine", "linear")
ATTENTIONS = ("auto", "split", "flex")
CACHE_DEVICES = ("cpu", "policy")
WAIT_POLICIES = ("PASSIVE", "ACTIVE")
LANGUAGE_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class LoraConfig:
    """Low-rank adapters in place of full fine-tuning (arXiv 2106.09685). Raises ValueError.

    `targets` are names of linear layers of the language model, `vision_targets` of the vision tower and projector; each
    must bind at least one.
    """

    rank: int = 0  # 0 = full fine-tuning
    alpha: float = 32.0  # the adapter's output is scaled by alpha / rank
    targets: list[str] = field(default_factory=lambda: list(LANGUAGE_TARGETS))
    vision_targets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _require(self.rank >= 0, f"learner.lora.rank must be 0 (full fine-tuning) or more, got {self.rank}")
        _require(self.alpha > 0, f"learner.lora.alpha must be positive, got {self.alpha}")
        _require(
            bool(self.targets or self.vision_targets) or not self.rank,
            "learner.lora.targets: name at least one linear layer, e.g. q_proj, got none",
        )


@dataclass
class LearnerConfig:
    """How the policy is updated. Raises ValueError with the offending value and the remedy."""

    num_ranks: int = 1  # one actor each; ZeRO shards over them
    zero_stage: int = 1
    dtype: str = "float32"  # of the policy; optimizer states are float32 always

    learning_rate: float = 1e-6
    lr_schedule: str = "constant"
    warmup_steps: int = 0
    min_lr_ratio: float = 0.0  # the schedule ends at learning_rate * min_lr_ratio
    weight_decay: float = 0.0  # matrices only: biases and norms are never decayed
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0

    loss: LossConfig = field(default_factory=LossConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    epochs_per_step: int = 1
    minibatches_per_step: int = 1

    max_tokens_per_micro_batch: int = 8192  # of packed rows; a longer group is split over several rows
    freeze_vision: bool = True
    freeze_projector: bool | None = None  # between vision tower and language model; null: as freeze_vision
    attention: str = "auto"  # over packed rows: split | flex | auto: flex on a GPU, else split
    gradient_checkpointing: bool = False
    offload_optimizer: bool = False  # to CPU memory
    offload_parameters: bool = False  # to CPU memory, ZeRO-3 only
    offload_while_sampling: bool = False  # lend the GPU memory of weights and optimizer to engines on the same GPU
    num_threads: int = 1  # of torch, per rank, on CPU
    omp_wait_policy: str = "PASSIVE"  # of waiting OpenMP threads: PASSIVE (sleep) | ACTIVE (spin)
    gomp_spincount: int = 10_000  # how often a waiting thread of GNU OpenMP looks before it sleeps: microseconds' worth
    pixel_cache_mib: int = 512  # decoded images kept per rank
    feature_cache_mib: int = 512  # the frozen vision tower's output, kept per rank for the images used last
    feature_cache_device: str = "cpu"  # cpu | policy (where the policy is)
    deepspeed: dict[str, Any] = field(default_factory=dict)  # overrides the derived DeepSpeed dictionary key by key

    def __post_init__(self) -> None:
        at_least_one = (
            "num_ranks", "epochs_per_step", "minibatches_per_step", "max_tokens_per_micro_batch", "num_threads",
        )  # fmt: skip
        for name in at_least_one:
            _require(getattr(self, name) >= 1, f"learner.{name} must be at least 1, got {getattr(self, name)}")
        _require(
            self.zero_stage in (1, 2, 3),
            f"learner.zero_stage must be 1, 2 or 3, got {self.zero_stage}; with one rank use 1",
        )
        _require(self.dtype in DTYPES, f"learner.dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        _require(
            self.lr_schedule in LR_SCHEDULES,
            f"learner.lr_schedule must be one of {', '.join(LR_SCHEDULES)}, got {self.lr_schedule!r}",
        )
        _require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"learner.learning_rate must be positive and finite, got {self.learning_rate}",
        )
        one_of = {
            "attention": ATTENTIONS, "feature_cache_device": CACHE_DEVICES, "omp_wait_policy": WAIT_POLICIES,
        }  # fmt: skip
        for name, allowed in one_of.items():
            value = getattr(self, name)
            _require(value in allowed, f"learner.{name} must be one of {', '.join(allowed)}, got {value!r}")
        _require(
            not self.lora.rank or (self.freeze_vision and self.freezes_projector),
            "learner.freeze_vision and learner.freeze_projector must be true with learner.lora.rank > 0, which freezes "
            "the whole policy; to adapt the vision tower, name its layers in learner.lora.vision_targets",
        )
        _require(
            not self.offload_parameters or self.zero_stage == 3,
            f"learner.offload_parameters needs learner.zero_stage 3, got {self.zero_stage}",
        )
        _require(
            not self.offload_while_sampling or (self.zero_stage < 3 and not self.offload_optimizer),
            "learner.offload_while_sampling is for ZeRO-1 and 2; with learner.zero_stage 3, which shards all, or "
            "learner.offload_optimizer, which keeps optimizer states in CPU memory anyway, leave it false",
        )
        for name in ("weight_decay", "warmup_steps", "pixel_cache_mib", "feature_cache_mib", "gomp_spincount"):
            _require(getattr(self, name) >= 0, f"learner.{name} must not be negative, got {getattr(self, name)}")
        for name in ("adam_beta1", "adam_beta2"):
            _require(0 <= getattr(self, name) < 1, f"learner.{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("adam_epsilon", "max_grad_norm"):
            _require(getattr(self, name) > 0, f"learner.{name} must be positive, got {getattr(self, name)}")
        _require(0 <= self.min_lr_ratio <= 1, f"learner.min_lr_ratio must be in [0, 1], got {self.min_lr_ratio}")

    @property
    def freezes_projector(self) -> bool:
        """`freeze_projector`, or what `freeze_vision` says where it is null."""
        return self.freeze_vision if self.freeze_projector is None else self.freeze_projector

    @property
    def trains_vision(self) -> bool:
        """Whether a gradient flows into the vision tower or the projector; if not, its output is cached."""
        return not (self.freeze_vision and self.freezes_projector) or bool(self.lora.rank and self.lora.vision_targets)


def learning_rate_at(config: LearnerConfig, step: int, num_steps: int) -> float:
    """Learning rate of step `step` (from 0) of `num_steps`: linear warm-up, then the configured schedule.

    Warm-up gives lr * (step + 1) / warmup_steps. After it, with t in [0, 1] the share of the remaining steps done and
    m = min_lr_ratio: constant lr; linear lr * (1 - (1 - m) t); cosine lr * (m + (1 - m) (1 + cos(pi t)) / 2).
    """
    if not 0 <= step < num_steps:
        raise ValueError(f"step must be in [0, num_steps), got step {step} of {num_steps}")
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    t = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    floor = config.min_lr_ratio
    if config.lr_schedule == "linear":
        return config.learning_rate * (1 - (1 - floor) * t)
    if config.lr_schedule == "cosine":
        return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2)
    return config.learning_rate


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
