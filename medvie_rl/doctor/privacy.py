"""What leaves the machine: W&B's mode, and the switches that keep libraries offline."""

import contextlib
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from medvie_rl.doctor.expected import Expected
from medvie_rl.doctor.types import Finding
from medvie_rl.environment import run_environment

_WANDB = "https://api.wandb.ai"
_SWITCHES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED")


def check_wandb(expected: Expected) -> Finding:
    """The mode, and, online, whether there is a key for W&B's server: a run cannot start without."""
    if expected.wandb_mode == "disabled":
        return Finding(status="ok", found="disabled; metrics.jsonl has the numbers")
    if expected.wandb_mode == "offline":
        return Finding(status="ok", found="offline: nothing leaves this machine until `wandb sync`")
    server = os.environ.get("WANDB_BASE_URL") or _WANDB
    if os.environ.get("WANDB_API_KEY") or _has_login(urlsplit(server).hostname or ""):
        return Finding(status="ok", found=f"online: numbers and the configuration go to {server}")
    return Finding(
        status="fail", found=f"online, but there is no key for {server}", fix="wandb login, or wandb.mode=offline"
    )


def _has_login(host: str) -> bool:
    """Whether W&B's client finds a key where `wandb login` puts it."""
    named = os.environ.get("NETRC")
    paths = [Path(named)] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    for path in paths:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(path).authenticators(host):
                return True
    return False


def check_offline(expected: Expected) -> Finding:
    """What a run's processes are told, and that the policy can be had without a network where there is none."""
    environment = run_environment(allow_downloads=expected.allow_downloads)
    switches = " ".join(f"{name}={environment[name]}" for name in _SWITCHES)
    if expected.allow_downloads:
        return Finding(status="ok", found=f"downloads are allowed; every process of a run has {switches}")
    if expected.model and not Path(expected.model).is_dir() and not _is_cached(expected.model):
        return Finding(
            status="fail",
            found=f"downloads are off, and the policy {expected.model} is no folder here",
            fix=f"hf download {expected.model}, or model=/folder/of/the/policy, or allow_downloads=true",
        )
    return Finding(status="ok", found=f"every process of a run has {switches}")


def _is_cached(model: str) -> bool:
    """Whether Hugging Face's cache holds the model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:  # it is a path, of a folder that is not there
        return False
