"""`medvie export`: a run's policy as a plain Hugging Face folder, which transformers and vLLM load. Starts no actors.

The best policy lies in the run already; that of another step is made from its checkpoint.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvie_rl.checkpoints import Checkpoints, step_of
from medvie_rl.config import Config, load_config
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder
from medvie_rl.fingerprint import base_policy_digests, check_inputs
from medvie_rl.policy_card import PolicyCard, read_policy_card
from medvie_rl.run import policy_card, resolved_config

ADAPTER = "adapter"


def export(run: Path, out: Path, *, step: str = "best", adapter: bool = False, dtype: str | None = None) -> None:
    """Write the policy of `step`, "best", "last" or a number, into the new folder `out`: merged, or its adapter alone.

    Raises UserError if the run has no such policy or the folder is taken.
    """
    check_new_folder(out)
    config = load_config(resolved_config(run))
    if adapter and not config.learner.lora.rank:
        raise UserError(f"{run}: its learner.lora.rank is 0, so it has no adapter; export without --adapter")
    aside = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    _write_policy(run, config, step, aside)
    if dtype:
        _cast(aside, dtype)
    if adapter:
        _keep_adapter(aside)
    os.replace(aside, out)


def _write_policy(run: Path, config: Config, step: str, folder: Path) -> None:
    best = read_policy_card(run / "best")
    if step == "best" and best is None:
        raise UserError(f"{run}: it has no best policy yet; is it still scoring its base?")
    if best is not None and step in ("best", str(best.step)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run / "best", folder)
        return
    checkpoint = _checkpoint(run, step, best)
    _check_base(run, config)
    from learner.offline import export_checkpoint

    export_checkpoint(checkpoint, config.model, config.learner, folder, config.learner.dtype)
    policy_card(run.name, step_of(checkpoint), config).write(folder, Path(config.prompt))


def _checkpoint(run: Path, step: str, best: PolicyCard | None) -> Path:
    folders = Checkpoints(run / "checkpoints", keep=1).folders()
    steps = [step_of(folder) for folder in folders]
    if step == "last" and folders:
        return folders[0]
    if step.isdecimal() and int(step) in steps:
        return folders[steps.index(int(step))]
    known = ", ".join(str(number) for number in sorted({*steps, *([best.step] if best else [])}))
    raise UserError(f"--step: expected best, last or a step that {run} keeps, got {step!r}; it keeps {known or 'none'}")


def _check_base(run: Path, config: Config) -> None:
    """What was not trained comes from the base: it must be the one that the run started from."""
    path = run / "inputs.json"
    if not path.is_file():
        raise UserError(f"{path}: this file is missing, without which it is not known from which base the run started")
    stored: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8"))
    of_base = {name: digest for name, digest in stored.items() if name.startswith("base policy")}
    check_inputs(run, of_base, base_policy_digests(config.model))


def _cast(folder: Path, dtype: str) -> None:
    """Bring the weights to another dtype, and say so in the configuration."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name).to(getattr(torch, dtype)) for name in file.keys()}  # noqa: SIM118
        save_file(tensors, path.with_suffix(".cast"), metadata=metadata)
        path.with_suffix(".cast").replace(path)
    config = folder / "config.json"
    content = _with_dtype(json.loads(config.read_text(encoding="utf-8")), dtype)
    config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _with_dtype(content: Any, dtype: str) -> Any:
    if not isinstance(content, dict):
        return content
    return {
        name: dtype if name in ("dtype", "torch_dtype") else _with_dtype(value, dtype)
        for name, value in content.items()
    }


def _keep_adapter(folder: Path) -> None:
    """The adapter alone, with the policy's card and prompt beside it."""
    for path in folder.iterdir():
        if path.name != ADAPTER and not _is_ours(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (folder / ADAPTER).iterdir():
        path.rename(folder / path.name)
    (folder / ADAPTER).rmdir()


def _is_ours(path: Path) -> bool:
    return path.name == "medvie.json" or path.suffix == ".yaml"
