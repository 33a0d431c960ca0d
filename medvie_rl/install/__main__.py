"""`python -m medvie_rl.install`: mends what pip cannot on a CPU machine, then verifies the stack in child processes."""

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from rich.console import Console

from medvie_rl.doctor.checks import probe_checks
from medvie_rl.doctor.expected import Expected
from medvie_rl.doctor.report import examine

# PyPI's wheels of these link CUDA and make transformers fail on import beside a CPU torch. Documents have no sound.
_AUDIO_PACKAGES = ("torchaudio", "torchcodec")
_HOOK = "medvie_torchvision_hook"


def main() -> int:
    """Install the torchvision hook, drop unusable audio packages, check that each part imports. 0 if all do."""
    _install_hook(Path(sysconfig.get_paths()["purelib"]))
    _remove_broken_audio_packages()
    results = examine(probe_checks(Expected(), start=False), Console(highlight=False))
    return 1 if any(result.finding.status == "fail" for result in results) else 0


def _install_hook(site_packages: Path) -> None:
    shutil.copyfile(Path(__file__).with_name("torchvision_hook.py"), site_packages / f"{_HOOK}.py")
    (site_packages / f"{_HOOK}.pth").write_text(f"import {_HOOK}; {_HOOK}.install()\n", encoding="utf-8")


def _remove_broken_audio_packages() -> None:
    for name in _AUDIO_PACKAGES:
        if not _is_installed(name) or _run(f"import {name}").returncode == 0:
            continue
        print(f"removing {name}: it needs CUDA, this torch has none, and nothing here uses it")
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", name], check=True)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
