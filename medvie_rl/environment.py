"""Environment variables of a run's processes: no downloads unless allowed, nothing reported anywhere, quiet libraries.

They are read when libraries are imported, so they are set before the heavy imports.
"""

import os
import warnings

_ALSO = ("NCCL_", "TORCH_NCCL_", "GLOO_", "CUDA_DEVICE_ORDER")  # of the driver: how GPUs and nodes find each other
_VERBOSE = "MEDVIE_VERBOSE"  # set by --verbose, for this process and those that it starts


def be_verbose() -> None:
    """From now on show what libraries log, here and in all processes."""
    os.environ[_VERBOSE] = "1"


def is_verbose() -> bool:
    """Whether libraries may say what they have to say."""
    return os.environ.get(_VERBOSE) == "1"


def run_environment(*, allow_downloads: bool) -> dict[str, str]:
    """Variables that the driver and every actor get. Nothing else of the driver's reaches actors on other nodes, so no
    secret does."""
    also = {name: value for name, value in os.environ.items() if name.startswith(_ALSO)}
    logging = {_VERBOSE: "1", "TRANSFORMERS_VERBOSITY": "info"} if is_verbose() else {}
    return (
        also
        | logging
        | {
            "HF_HUB_OFFLINE": "0" if allow_downloads else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "WANDB_ERROR_REPORTING": "false",
            "TOKENIZERS_PARALLELISM": "false",
        }
    )


def set_environment(*, allow_downloads: bool) -> None:
    """Set the variables in this process, and keep libraries quiet in it; call it before transformers, ray or wandb are
    imported."""
    os.environ.update(run_environment(allow_downloads=allow_downloads))
    if is_verbose():
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warns of what a machine without GPUs lacks
    if not allow_downloads:  # which take long enough for a progress bar
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for category in (FutureWarning, DeprecationWarning):  # of libraries, to each other
        warnings.filterwarnings("ignore", category=category)
