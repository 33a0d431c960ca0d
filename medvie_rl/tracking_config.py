"""Settings of Weights & Biases."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class WandbConfig:
    """Weights & Biases. Offline keeps everything on this machine until you run `wandb sync`."""

    mode: str = "offline"  # offline | online | disabled
    project: str = "medvie-rl"
    num_samples: int = 8  # rollouts in a table with every evaluation; 0: none
    with_values: bool = False  # show images, responses and true values in it, which hold patient data
    log_best_policy: bool = False  # upload the best policy as an artifact at the end

    def __post_init__(self) -> None:
        if self.mode not in ("offline", "online", "disabled"):
            raise ValueError(f"wandb.mode: expected offline, online or disabled, got {self.mode!r}")
        if self.num_samples < 0:
            raise ValueError(f"wandb.num_samples: expected 0 or more, got {self.num_samples}")
