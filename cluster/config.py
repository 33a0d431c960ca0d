"""Where a run's actors live and what they may use."""

from dataclasses import dataclass

from cluster.cores import PIN_CORES

LAYOUTS = ("cpu", "split", "colocated")


@dataclass(kw_only=True)
class ClusterConfig:
    """Ray's side of a run.

    `layout` says which GPUs it uses. `cpu`: none. `split`: rollout workers and learner ranks have GPUs of their own.
    `colocated`: every GPU of a rollout worker has a learner rank, too. In both a rank has one GPU, and a rollout worker
    as many as its engine's tensor parallel size, all of one node.
    """

    address: str = ""  # of a running cluster; empty starts Ray on this machine, or joins the cluster of a submitted job
    local_cpus: int = 0  # CPUs that a Ray started here offers; 0 = what the actors need
    object_store_mib: int = 512  # of a Ray started here, in shared memory
    layout: str = "cpu"  # cpu | split | colocated
    rollout_cpus: float = 1.0  # of each rollout worker
    learner_cpus: float = 1.0  # of each learner rank
    reward_cpus: float = 0.5
    learner_port: int = 0  # where learner ranks meet; 0 = a free one
    pin_cores: str = "auto"  # auto (workers without GPUs) | always | never: rollout workers and learner ranks to cores
    resource_timeout_seconds: float = 300.0  # how long to wait for CPUs and GPUs before giving up
    call_seconds: float = 1800.0  # a rollout worker that needs longer for its share of a batch, or a sync, is replaced
    health_seconds: float = 60.0  # so is one that, without work, gives no sign of life for so long
    max_lost_workers: int = 16  # rollout workers that a run may lose before it gives up
    max_failures: int = 0  # losses that others cannot make up for, as of a learner rank, after which all actors are
    # started anew from the last checkpoint

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"cluster.layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        for name in ("rollout_cpus", "learner_cpus", "reward_cpus"):
            if getattr(self, name) < 0:
                raise ValueError(f"cluster.{name}: expected 0 or more, got {getattr(self, name)}")
        if self.object_store_mib < 80:
            raise ValueError(f"cluster.object_store_mib: Ray needs at least 80 MiB, got {self.object_store_mib}")
        for name in ("resource_timeout_seconds", "call_seconds", "health_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"cluster.{name}: expected more than 0 seconds, got {getattr(self, name)}")
        if self.pin_cores not in PIN_CORES:
            raise ValueError(f"cluster.pin_cores: expected one of {', '.join(PIN_CORES)}, got {self.pin_cores!r}")
        for name in ("max_lost_workers", "max_failures"):
            if getattr(self, name) < 0:
                raise ValueError(f"cluster.{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 <= self.learner_port < 65536:
            raise ValueError(f"cluster.learner_port: expected 0 (any free port) to 65535, got {self.learner_port}")

    @property
    def on_gpus(self) -> bool:
        """Whether rollout workers and learner ranks have GPUs."""
        return self.layout != "cpu"
