"""Environment variables of a run's processes: no downloads unless allowed, nothing reported anywhere.

They are read when libraries are imported, so they are set before the heavy imports.
"""

import os

_ALSO = ("NCCL_", "TORCH_NCCL_", "GLOO_", "CUDA_DEVICE_ORDER")  # of the driver: how GPUs and nodes find each other


def run_environment(*, allow_downloads: bool) -> dict[str, str]:
    """Variables that the driver and every actor get. Nothing else of the driver's reaches actors on other nodes, so no
    secret does."""
    return {name: value for name, value in os.environ.items() if name.startswith(_ALSO)} | {
        "HF_HUB_OFFLINE": "0" if allow_downloads else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_ERROR_REPORTING": "false",
        "TOKENIZERS_PARALLELISM": "false",
    }


def set_environment(*, allow_downloads: bool) -> None:
    """Set the variables in this process; call it before transformers, ray or wandb are imported."""
    os.environ.update(run_environment(allow_downloads=allow_downloads))
