"""What is expected of a machine: by a configuration, or, without one, by any run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.config import ClusterConfig

if TYPE_CHECKING:
    from medvie_rl.config import Config

_MIN_DISK = 2**30  # of any run: its records, its curves, and what Ray and W&B log
_MIN_MEMORY = 5 * 2**30  # driver, two engines, two ranks and the reward actor with the embedded policy: 4.8 GiB
_OPTIMIZER_BYTES = 12  # of a trained parameter: float32 weights and Adam's moments (arXiv 1910.02054, section 3.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the checks compare with. `config_file` and `overrides` are what a child process reads the rest from."""

    config_file: Path | None = None
    overrides: tuple[str, ...] = ()
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    num_gpus: int = 0
    num_cores: int = 1
    memory_bytes: int = _MIN_MEMORY
    output_dir: str = "runs"
    disk_bytes: int = _MIN_DISK
    wandb_mode: str = "offline"
    model: str = ""  # empty: the embedded policy
    allow_downloads: bool = False


def expected_of(config: "Config", config_file: Path, overrides: Sequence[str]) -> Expected:
    """What a run with this configuration needs."""
    return Expected(
        config_file=config_file,
        overrides=tuple(overrides),
        cluster=config.cluster,
        num_gpus=config.num_gpus,
        num_cores=_num_cores(config),
        output_dir=config.output_dir,
        disk_bytes=_MIN_DISK + _state_bytes(config),
        wandb_mode=config.wandb.mode,
        model=config.model,
        allow_downloads=config.allow_downloads,
    )


def _num_cores(config: "Config") -> int:
    """Threads that work at the same time: on CPUs engines and learner take turns, unless one samples ahead."""
    if config.cluster.on_gpus:
        return 1
    of_engines = config.rollout.num_workers * config.rollout.num_threads
    of_ranks = config.learner.num_ranks * config.learner.num_threads
    return of_engines + of_ranks if config.pipeline_depth else max(of_engines, of_ranks)


def _state_bytes(config: "Config") -> int:
    """Checkpoints, one more than are kept, since the new one is whole before the oldest goes, and two best policies for
    the same reason; nothing of a policy whose shape is not known."""
    from medvie_rl.errors import UserError
    from medvie_rl.fit.items import BYTES
    from medvie_rl.fit.shape import read_shape

    try:
        shape = read_shape(config.model)
        trained = shape.trained_parameters(config.learner)
    except UserError:
        return 0
    checkpoint = (BYTES[config.learner.dtype] + _OPTIMIZER_BYTES) * trained  # what is frozen is not in it
    return (config.checkpoint.keep + 1) * checkpoint + 2 * BYTES[config.learner.dtype] * shape.num_parameters
