"""Settings of what a run keeps of its rollouts, and of replaying what another run kept."""

import math
from dataclasses import dataclass


@dataclass(kw_only=True)
class RecordsConfig:
    """Every rollout is recorded in the run directory (see records.py)."""

    max_gib: float = 4.0  # beyond that the oldest steps lose responses and tokens, then go; never the newest step
    private: bool = False  # keep no response, token or detail: what is left are ids, asked keys, numbers and classes
    replay: str = ""  # a run's folder: learn from what it recorded in place of sampling (`--replay`)

    def __post_init__(self) -> None:
        if not 0 < self.max_gib < math.inf:
            raise ValueError(f"records.max_gib: expected a size above 0, got {self.max_gib}")
