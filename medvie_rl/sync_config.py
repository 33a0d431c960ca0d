"""Settings of how the learner's weights reach the engines."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout.config import MAX_ADAPTER_RANK

if TYPE_CHECKING:
    from medvie_rl.config import Config

TRANSPORTS = ("auto", "object_store", "broadcast", "ipc")
ADAPTERS = ("apart", "merged")


@dataclass(kw_only=True)
class SyncConfig:
    """How the learner's weights reach the engines (see weight_path.py)."""

    transport: str = "auto"  # object_store | broadcast | ipc | auto: ipc where engines and learner share GPUs
    # (cluster.layout colocated), broadcast where both have GPUs of their own (split), else Ray's object store
    adapter: str = "apart"  # of LoRA: apart (engines hold it beside the base) | merged (into the base's weights)
    seconds: float = 300.0  # how long a broadcast may take, engines' arrival included

    def __post_init__(self) -> None:
        for name, known in (("transport", TRANSPORTS), ("adapter", ADAPTERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"sync.{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.seconds <= 0:
            raise ValueError(f"sync.seconds: expected more than 0, got {self.seconds:g}")


def resolved_transport(config: "Config") -> str:
    """`sync.transport`, or what `auto` means for this layout."""
    if config.sync.transport != "auto":
        return config.sync.transport
    return {"cpu": "object_store", "split": "broadcast", "colocated": "ipc"}[config.cluster.layout]


def check_sync(config: "Config") -> None:
    """Raise ValueError for what cannot work together."""
    layout, transport = config.cluster.layout, resolved_transport(config)
    if transport == "broadcast" and layout == "colocated":
        raise ValueError(
            "sync.transport: broadcast is between GPUs of their own, or between CPUs, got cluster.layout colocated; "
            "use ipc, or object_store"
        )
    if transport == "ipc" and layout == "split":
        raise ValueError(
            "sync.transport: ipc is between engines and ranks on the same GPUs, got cluster.layout split; use "
            "broadcast, or object_store"
        )
    if config.adapter_apart and config.learner.lora.rank > MAX_ADAPTER_RANK:
        raise ValueError(
            f"learner.lora.rank: vLLM takes adapters up to rank {MAX_ADAPTER_RANK}, got {config.learner.lora.rank}; "
            "lower it, or set sync.adapter=merged"
        )
