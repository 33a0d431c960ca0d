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

    transport: str = "auto"  # object_store | broadcast | ipc | auto: ipc where engine and learner share GPUs, broadcast
    # where both have GPUs of their own, else Ray's object store
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
    cluster = config.cluster
    if config.sync.transport != "auto":
        return config.sync.transport
    if takes_turns(config):
        return "ipc"
    return "broadcast" if cluster.rollout_gpus >= 1 and cluster.learner_gpus >= 1 else "object_store"


def takes_turns(config: "Config") -> bool:
    """Whether engines and learner share GPUs and take turns with their memory."""
    return config.rollout.sleep_while_learning or config.learner.offload_while_sampling


def check_sync(config: "Config") -> None:
    """Raise ValueError for what cannot work together."""
    cluster = config.cluster
    if takes_turns(config) and not (cluster.rollout_gpus and cluster.learner_gpus):
        raise ValueError(
            "rollout.sleep_while_learning and learner.offload_while_sampling lend GPU memory; with "
            f"cluster.rollout_gpus {cluster.rollout_gpus:g} and cluster.learner_gpus {cluster.learner_gpus:g} there is "
            "none to lend: set both to false"
        )
    if takes_turns(config) and config.pipeline_depth:
        raise ValueError(
            f"pipeline_depth: {config.pipeline_depth} lets engines sample while the learner works, but with "
            "rollout.sleep_while_learning or learner.offload_while_sampling they take turns; set it to 0"
        )
    fractions = [gpus for gpus in (cluster.rollout_gpus, cluster.learner_gpus) if 0 < gpus < 1]
    if resolved_transport(config) == "broadcast" and (
        fractions or bool(cluster.rollout_gpus) != bool(cluster.learner_gpus)
    ):
        raise ValueError(
            "sync.transport: broadcast is between GPUs of their own, or between CPUs, got cluster.rollout_gpus "
            f"{cluster.rollout_gpus:g} and cluster.learner_gpus {cluster.learner_gpus:g}; use object_store, or ipc for "
            "engines and learner on the same GPUs"
        )
    if config.adapter_apart and config.learner.lora.rank > MAX_ADAPTER_RANK:
        raise ValueError(
            f"learner.lora.rank: vLLM takes adapters up to rank {MAX_ADAPTER_RANK}, got {config.learner.lora.rank}; "
            "lower it, or set sync.adapter=merged"
        )
