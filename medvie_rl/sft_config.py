"""Settings of supervised fine-tuning, and the loss that it has in place of a policy gradient's."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from learner.loss_config import Loss, LossConfig

if TYPE_CHECKING:
    from medvie_rl.config import Config

METHODS = ("rl", "sft")
# With advantage 1 the mean of -log pi over all tokens of the demonstrations: their negative log-likelihood.
_NEGATIVE_LOG_LIKELIHOOD: dict[str, Any] = {
    "surrogate": "reinforce",
    "aggregation": "token",
    "kl_coefficient": 0.0,
    "entropy_coefficient": 0.0,
    "importance": "none",
}
SFT_LOSS: Loss = replace(LossConfig().resolved(pipelined=False), preset="sft", **_NEGATIVE_LOG_LIKELIHOOD)


@dataclass(kw_only=True)
class SftConfig:
    """What `medvie sft` learns from, besides the annotations of the training documents."""

    traces: str = ""  # reasoning: a JSONL file of document, reasoning (and keys), or the folder of a run
    min_reward: float = 0.9  # of a run's responses, those with at least this reward are learned from
    compact_json: bool = True  # {"a":"b"}; false writes {"a": "b"}

    def __post_init__(self) -> None:
        if self.min_reward != self.min_reward:
            raise ValueError("sft.min_reward: expected a number, got nan")


def check_sft(config: "Config") -> None:
    """Raise ValueError, naming the key, for settings that supervised fine-tuning cannot follow."""
    _check_loss(config.learner.loss)
    if config.queries.reasoning_fraction > 0 and not config.sft.traces:
        raise ValueError(
            "sft.traces: annotations hold no reasoning to learn from; name a file of traces or a run, or set "
            "queries.reasoning_fraction=0 and evaluation.reasoning=false, as `medvie sft` does without traces"
        )
    of_sampling = {
        "pipeline_depth": config.pipeline_depth,
        "rails.stop_reward_share": config.rails.stop_reward_share,
        "rails.stop_sampler_kl": config.rails.stop_sampler_kl,
    }
    for name, value in of_sampling.items():
        if value:
            raise ValueError(f"{name}: supervised fine-tuning samples nothing, expected 0, got {value}")
    if config.records.replay:
        raise ValueError(f"records.replay: supervised fine-tuning replays nothing, got {config.records.replay!r}")


def _check_loss(config: LossConfig) -> None:
    default = LossConfig()
    for name in (field.name for field in fields(LossConfig)):
        given, fixed = getattr(config, name), getattr(SFT_LOSS, name)
        if given not in (getattr(default, name), fixed):
            raise ValueError(
                f"learner.loss.{name}: supervised fine-tuning minimises the negative log-likelihood of its "
                f"demonstrations, got {given!r}; leave learner.loss at its defaults, or use `medvie train`"
            )
