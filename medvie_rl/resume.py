"""What may change when a run goes on: how it is laid out over machines, not what its numbers depend on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvie_rl.config import Config, load_config
from medvie_rl.errors import ConfigError

# Keys, or sections with a dot at the end. The paths are of files whose content the run remembers (see fingerprint.py).
# num_steps is not among them: the learning rate's schedule, the last evaluation and the best policy depend on it.
LAYOUT_KEYS = (
    "output_dir", "model", "allow_downloads", "prompt", "schemas", "data.path", "ocr.cache", "sft.traces",
    "learner.num_ranks", "learner.zero_stage", "learner.offload_optimizer", "learner.offload_parameters",
    "learner.offload_while_sampling", "learner.num_threads", "learner.omp_wait_policy", "learner.gomp_spincount",
    "learner.max_tokens_per_micro_batch",
    "learner.gradient_checkpointing", "learner.attention", "learner.pixel_cache_mib", "learner.feature_cache_mib",
    "learner.feature_cache_device",
    "rollout.num_workers", "rollout.block_size", "rollout.max_num_seqs", "rollout.max_num_batched_tokens",
    "rollout.enable_prefix_caching", "rollout.enforce_eager", "rollout.kv_cache_gib", "rollout.gpu_memory_utilization",
    "rollout.tensor_parallel_size", "rollout.sleep_while_learning", "rollout.num_threads", "rollout.omp_wait_policy",
    "rollout.gomp_spincount", "rollout.verify_digests", "rollout.log_level",
    "sync.transport", "sync.seconds",
    "reward.num_processes", "records.", "checkpoint.every", "checkpoint.keep", "cluster.", "wandb.",
)  # fmt: skip
_HINTS = {"num_steps": "to train further, start a new run with model=RUN_DIR/best"}


def load_stored(folder: Path, path: Path, overrides: Sequence[str] = ()) -> Config:
    """A configuration that the run in `folder` stored, with overrides; raises ConfigError."""
    try:
        config = load_config(path)
    except ConfigError as error:
        problem = str(error).partition("; did you mean")[0]  # a hint for those who wrote the file themselves
        raise ConfigError(
            f"{folder}: this run was made by another version of medvie, or its configuration was edited ({problem}); "
            "its best/ can still be used as it is"
        ) from error
    return load_config(path, overrides) if overrides else config


def check_only_layout_differs(folder: Path, stored: Config, wanted: Config) -> None:
    """Raise ConfigError, naming the keys, if `wanted` would not go on with the same run."""
    before, after = _flat(stored), _flat(wanted)
    different = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    refused = [key for key in different if not _is_layout(key)]
    if not refused:
        return
    told = ", ".join(f"{key} (was {before.get(key)!r}, now {after.get(key)!r})" for key in refused)
    hints = "".join(f"; {hint}" for key, hint in _HINTS.items() if key in refused)
    allowed = ", ".join(f"{key}*" if key.endswith(".") else key for key in LAYOUT_KEYS)
    raise ConfigError(
        f"{folder}: a run that goes on keeps what its numbers depend on, but these keys differ: {told}{hints}. "
        f"Only these may change: {allowed}"
    )


def _is_layout(key: str) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in LAYOUT_KEYS)


def _flat(config: Config) -> dict[str, Any]:
    return dict(_items(asdict(config), ""))


def _items(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
