"""`medvie export`: a run's policy as a plain Hugging Face folder, which transformers and vLLM load. Starts no actors.

The best policy lies in the run already; that of another step is made from its checkpoint.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from learner.manifest import MANIFEST
from medvie_rl.checkpoints import Checkpoints, step_of
from medvie_rl.config import Config
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder, folder_aside
from medvie_rl.fingerprint import base_policy_digests, check_inputs, prompt_digests
from medvie_rl.policy_card import PolicyCard, read_policy_card
from medvie_rl.run import policy_card, resolved_config, run_config

ADAPTER = "adapter"
_NUM_ATTEMPTS = 5  # to copy the best policy of a run in progress, which may replace it meanwhile


def export(
    run: Path,
    out: Path,
    *,
    step: str = "best",
    adapter: bool = False,
    dtype: str | None = None,
    settings: Sequence[str] = (),
) -> None:
    """Write the policy of `step`, "best", "last" or a number, into the new folder `out`: merged, or its adapter alone.

    `settings` are `model=DIR` and `prompt=FILE` where the run's lie elsewhere now. Raises UserError if the run has no
    such policy or the folder is taken.
    """
    check_new_folder(out)
    resolved_config(run)
    try:
        with folder_aside(out) as aside:
            if not _copy_best(run, step, aside, adapter=adapter):
                _write_policy(run, step, settings, aside, adapter=adapter)
            if dtype:
                _cast(aside, dtype)
            if adapter:
                _keep_adapter(aside)
    except PermissionError as error:
        raise UserError(f"{out}: cannot be written ({error}); name another folder") from error


def _copy_best(run: Path, step: str, folder: Path, *, adapter: bool) -> bool:
    """Copy the run's best policy, if it is that of `step`, whole: not in parts that a run in progress exchanged."""
    best = run / "best"
    for attempt in range(_NUM_ATTEMPTS):
        time.sleep(0.2 * attempt)
        found = _identity(best)
        if found is None and any(run.glob(".best.*")):
            continue  # it is just being replaced, perhaps
        if found is None or step not in ("best", str(found[1].step)):
            return False
        try:
            shutil.copytree(best, folder, ignore=shutil.ignore_patterns(MANIFEST))
        except OSError:  # or shutil.Error, which is one
            if _identity(best) == found:
                raise
        if _identity(best) == found:
            _check_adapter(run, adapter, (folder / ADAPTER).is_dir())
            return True
        shutil.rmtree(folder, ignore_errors=True)
    return False


def _identity(best: Path) -> tuple[int, PolicyCard] | None:
    """What tells one best policy from the next, None if there is none."""
    try:
        inode, card = best.stat().st_ino, read_policy_card(best)
    except OSError:
        return None
    return (inode, card) if card else None


def _check_adapter(run: Path, wanted: bool, is_there: bool) -> None:
    if wanted and not is_there:
        raise UserError(f"{run}: its learner.lora.rank is 0, so it has no adapter; export without --adapter")


def _write_policy(run: Path, step: str, settings: Sequence[str], folder: Path, *, adapter: bool) -> None:
    """From a checkpoint, which a run in progress may remove meanwhile."""
    best = _identity(run / "best")
    if step == "best":
        if best is None:
            raise UserError(f"{run}: it has no best policy yet; is it still scoring its base?")
        raise UserError(f"{run}: its best policy was replaced {_NUM_ATTEMPTS} times while it was copied; try again")
    checkpoint = _checkpoint(run, step, best[1] if best else None)
    config = run_config(run, settings)
    _check_adapter(run, adapter, config.learner.lora.rank > 0)
    _check_inputs(run, config)
    from learner.offline import export_checkpoint

    try:
        export_checkpoint(checkpoint, config.model, config.learner, folder, config.learner.dtype)
    except (OSError, ValueError, RuntimeError) as error:
        if checkpoint.is_dir():
            raise
        raise UserError(f"{checkpoint}: the run removed it meanwhile; try again, or name another step") from error
    policy_card(run.absolute().name, step_of(checkpoint), config).write(folder, Path(config.prompt))


def _checkpoint(run: Path, step: str, best: PolicyCard | None) -> Path:
    folders = Checkpoints(run / "checkpoints", keep=1).folders()
    steps = [step_of(folder) for folder in folders]
    if step == "last" and folders:
        return folders[0]
    if step.isdecimal() and int(step) in steps:
        return folders[steps.index(int(step))]
    known = ", ".join(str(number) for number in sorted({*steps, *([best.step] if best else [])}))
    raise UserError(f"--step: expected best, last or a step that {run} keeps, got {step!r}; it keeps {known or 'none'}")


def _check_inputs(run: Path, config: Config) -> None:
    """What was not trained comes from the base, and the prompt goes along: they must be those of the run's start."""
    path = run / "inputs.json"
    if not path.is_file():
        raise UserError(f"{path}: this file is missing, without which it is not known from which base the run started")
    stored: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8"))
    needed = {name: digest for name, digest in stored.items() if name.startswith(("base policy", "prompt"))}
    try:
        found = prompt_digests(Path(config.prompt)) | base_policy_digests(config.model)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run}: its model ({config.model}) or its prompt ({config.prompt}) cannot be read ({error}); say where "
            "they lie now: --set model=DIR, --set prompt=FILE"
        ) from error
    check_inputs(run, needed, found)


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
        path.chmod((folder / "config.json").stat().st_mode)  # safetensors lets nobody else read what it writes
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
