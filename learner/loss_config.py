"""Settings of the loss: presets by the name of the method, and every ingredient by itself; no heavy imports."""

import math
from dataclasses import dataclass, fields
from typing import Any

ADVANTAGES = ("grpo", "dr_grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline")
SURROGATES = ("clip", "cispo", "reinforce")
RATIOS = ("token", "sequence")
AGGREGATIONS = ("token", "sequence", "sequence_sum", "constant")
OVERLONG = ("keep", "drop")
KL_PLACES = ("loss", "reward")
KL_ESTIMATORS = ("k1", "k2", "k3")
CORRECTIONS = ("none", "truncate", "mask")

_COMMON: dict[str, Any] = {
    "advantage": "grpo",
    "surrogate": "clip",
    "ratio": "token",
    "aggregation": "token",
    "clip_low": 0.2,
    "clip_high": 0.28,
    "overlong": "keep",
    "kl_coefficient": 0.0,
    "kl_in": "loss",
    "kl_estimator": "k3",
    "entropy_coefficient": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    # arXiv 2506.13363: GRPO's advantages, token-level loss, clip-higher, no KL
    "paper": _COMMON,
    # arXiv 2402.03300, eq. 3: a mean over each response, then over responses; k3 KL in the loss
    "grpo": _COMMON | {"aggregation": "sequence", "clip_high": 0.2, "kl_coefficient": 0.04},
    # arXiv 2503.20783: no division by the deviation, none by the response's length
    "dr_grpo": _COMMON | {"advantage": "dr_grpo", "aggregation": "constant", "clip_high": 0.2},
    # arXiv 2503.14476: token-level loss, clip-higher, truncated responses filtered (soft penalty: reward.overlong_*)
    "dapo": _COMMON | {"overlong": "drop"},
    # arXiv 2402.14740: leave-one-out baseline, REINFORCE on whole responses, KL in the reward
    "rloo": _COMMON
    | {
        "advantage": "rloo",
        "surrogate": "reinforce",
        "aggregation": "sequence_sum",
        "kl_coefficient": 0.05,
        "kl_in": "reward",
        "kl_estimator": "k1",
    },
    # arXiv 2501.03262: normalised over the batch; the variant with a group baseline has its KL in the loss (k2)
    "reinforce_pp": _COMMON
    | {
        "advantage": "reinforce_pp",
        "clip_high": 0.2,
        "kl_coefficient": 0.01,
        "kl_in": "reward",
        "kl_estimator": "k1",
    },
    "reinforce_pp_baseline": _COMMON
    | {"advantage": "reinforce_pp_baseline", "clip_high": 0.2, "kl_coefficient": 0.01, "kl_estimator": "k2"},
    # arXiv 2507.18071: the ratio of whole responses, whose clip range is much narrower
    "gspo": _COMMON | {"ratio": "sequence", "aggregation": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    # arXiv 2506.13585, eq. 4: the weight of the gradient is clipped, no token's gradient is lost
    "cispo": _COMMON | {"surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Every ingredient of a loss, chosen. Formulas and sources: `learner/loss.py`, `learner/advantages.py`."""

    preset: str
    advantage: str
    surrogate: str
    ratio: str
    aggregation: str
    clip_low: float
    clip_high: float
    overlong: str
    kl_coefficient: float
    kl_in: str
    kl_estimator: str
    entropy_coefficient: float
    importance: str
    importance_level: str
    importance_max: float

    @property
    def corrects_sampler(self) -> bool:
        """Whether the old policy is the learner at the start of the update; if not, it is the sampler itself."""
        return self.importance in ("truncate", "mask")

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen reference policy is kept."""
        return self.kl_coefficient > 0

    @property
    def regularizes(self) -> bool:
        """Whether the loss has a gradient besides the advantages': where these are zero it still moves the policy."""
        return (self.kl_coefficient > 0 and self.kl_in == "loss") or self.entropy_coefficient != 0


@dataclass
class LossConfig:
    """Which loss the learner minimises: a preset, and in its place what is named besides. Raises ValueError."""

    preset: str = "paper"
    advantage: str | None = None  # grpo | dr_grpo | rloo | reinforce_pp | reinforce_pp_baseline
    surrogate: str | None = None  # clip | cispo | reinforce
    ratio: str | None = None  # token | sequence (GSPO)
    aggregation: str | None = None  # token | sequence | sequence_sum | constant (see learner.loss.token_weights)
    clip_low: float | None = None  # the ratio's lower bound is 1 - clip_low
    clip_high: float | None = None  # its upper bound is 1 + clip_high
    overlong: str | None = None  # keep | drop responses that were cut off (their rewards still count for the others)
    kl_coefficient: float | None = None  # of the KL to the reference, 0 = no reference is kept
    kl_in: str | None = None  # loss | reward (the sum over a response's tokens is taken off its reward)
    kl_estimator: str | None = None  # k1 | k2 | k3
    entropy_coefficient: float | None = None  # of the entropy bonus

    # Between the sampler's logprobs and the learner's at the start of the update (see learner.loss.importance_weights)
    importance: str = "auto"  # none | truncate | mask | auto: truncate if pipelined or with ratio sequence
    importance_level: str = "token"  # token | sequence
    importance_max: float = 2.0  # the weight's upper bound; its inverse is the lower bound of `mask`

    def __post_init__(self) -> None:
        _choice("preset", self.preset, tuple(PRESETS))
        self.resolved(pipelined=False)

    def resolved(self, *, pipelined: bool) -> Loss:
        """The preset with what is named in its place, `auto` decided. Raises ValueError for what cannot work."""
        ingredients = {name: getattr(self, name) for name in (field.name for field in fields(self))}
        for name, value in PRESETS[self.preset].items():
            if ingredients[name] is None:
                ingredients[name] = value
        if self.importance == "auto":
            # The ratio of a whole response adds up what rounding does to every token: more than its clip range.
            ingredients["importance"] = "truncate" if pipelined or ingredients["ratio"] == "sequence" else "none"
        loss = Loss(**ingredients)
        _check(loss)
        return loss


def _check(loss: Loss) -> None:
    choices = {
        "advantage": ADVANTAGES, "surrogate": SURROGATES, "ratio": RATIOS, "aggregation": AGGREGATIONS,
        "overlong": OVERLONG, "kl_in": KL_PLACES, "kl_estimator": KL_ESTIMATORS, "importance": CORRECTIONS,
        "importance_level": RATIOS,
    }  # fmt: skip
    for name, allowed in choices.items():
        _choice(name, getattr(loss, name), allowed)
    for name in ("clip_low", "clip_high", "kl_coefficient", "entropy_coefficient", "importance_max"):
        value = getattr(loss, name)
        _require(math.isfinite(value), f"learner.loss.{name} must be finite, got {value}")
    _require(
        0 < loss.clip_low <= 1,
        f"learner.loss.clip_low must be in (0, 1], got {loss.clip_low}: the ratio's lower bound is 1 - clip_low",
    )
    _require(loss.clip_high > 0, f"learner.loss.clip_high must be positive, got {loss.clip_high}")
    _require(loss.kl_coefficient >= 0, f"learner.loss.kl_coefficient must not be negative, got {loss.kl_coefficient}")
    _require(loss.importance_max >= 1, f"learner.loss.importance_max must be at least 1, got {loss.importance_max}")
    _require(
        not (loss.needs_reference and loss.kl_in == "reward" and loss.advantage == "grpo"),
        "learner.loss.kl_in: with advantage grpo a KL in the reward is divided by the group's deviation, which blows "
        "it up where the rewards agree; use kl_in loss, or advantage dr_grpo or rloo",
    )
    _require(
        loss.ratio == "token" or loss.surrogate == "clip",
        f"learner.loss.ratio: a sequence ratio goes with surrogate clip only, got {loss.surrogate}",
    )


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"learner.loss.{name} must be one of {', '.join(allowed)}, got {value!r}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
