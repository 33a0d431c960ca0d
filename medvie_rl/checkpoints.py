"""Checkpoints of a run: the learner's state, and beside it where the run stands and the batches in flight.

checkpoints/step-N/
  state.json              the RunState
  config.yaml             the configuration at that time
  in_flight-M.jsonl       generated but not yet trained batches, one a step M, one group a line
  deepspeed/, rng_*.pt    the learner's (see learner/checkpoint.py)
  manifest.json           written last, by the learner: size and sha256 of all files, these included
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from learner.errors import DamagedCheckpointError
from learner.manifest import read_manifest, sync_names
from medvie_rl.errors import ConfigError
from medvie_rl.files import write_atomically
from rollout.types import FinishReason, Rollout, RolloutGroup

STATE, CONFIG = "state.json", "config.yaml"
_CHECKPOINT = re.compile(r"step-\d{6,}")
_IN_FLIGHT = re.compile(r"in_flight-(\d{6,})\.jsonl")


@dataclass(kw_only=True)
class RunState:
    """Where a run stands after `step` steps. `weight_version` counts updates that changed the policy."""

    step: int = 0
    weight_version: int = 0
    next_query: int = -1  # of the training queries, beyond those in flight; -1: every step took as many as configured
    informative_share: float = 1.0  # of the groups sampled lately, see dynamic_sampling
    best_step: int = -1
    best_value: float = -1.0  # of checkpoint.best_metric
    seconds: float = 0.0  # of training so far, over all resumes
    stopped: str = ""  # why the run ended before its last step
    wandb_id: str = ""


class Checkpoints:
    """The checkpoints of a run. The last `keep` are kept, and those of the steps that were best at their time."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def folders(self) -> list[Path]:
        """The complete checkpoints, the newest first."""
        found = [path for path in self._folder.glob("step-*") if _CHECKPOINT.fullmatch(path.name)]
        return sorted(found, key=step_of, reverse=True)

    def newest_config(self) -> Path | None:
        """The configuration of the newest checkpoint in which it is what was written, None if there is no such one."""
        for folder in self.folders():
            with contextlib.suppress(DamagedCheckpointError):
                _read(folder, CONFIG)
                return folder / CONFIG
        return None

    def of_step(self, step: int) -> Path | None:
        """The checkpoint of a step, if it was kept."""
        folder = self._folder / _name(step)
        return folder if folder.is_dir() else None

    def save(
        self,
        state: RunState,
        config: str,
        write: Callable[[Path], None],
        in_flight: Mapping[int, Sequence[RolloutGroup]],
    ) -> None:
        """Save a checkpoint: it is filled in a folder aside, by `write` at the end, which seals it with a manifest of
        all files, and renamed when it is on the disk. Older ones are removed."""
        final = self._folder / _name(state.step)
        # A name of its own: actors of a run that was killed may still write into the folder that it had aside.
        aside = self._folder / f".{final.name}.{uuid.uuid4().hex[:8]}.partial"
        for left_over in self._folder.glob(".step-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        aside.mkdir()
        write_atomically(aside / STATE, json.dumps(asdict(state)))
        write_atomically(aside / CONFIG, config)
        for step, groups in in_flight.items():
            text = "".join(json.dumps(asdict(group)) + "\n" for group in groups)
            write_atomically(aside / f"in_flight-{step:06d}.jsonl", text)
        write(aside)
        self._remove(final)
        os.rename(aside, final)
        sync_names(self._folder)
        self._remove_old()

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints after `step`: they were damaged, else the run would have gone on from them."""
        for folder in self.folders():
            if step_of(folder) > step:
                self._remove(folder)

    def restore(self, load: Callable[[Path], None], notice: Callable[[str], None]) -> tuple[Path, RunState] | None:
        """Let `load` restore the learner from the newest checkpoint that is whole; None if there is no checkpoint.

        Says through `notice` what is wrong with a damaged one. Raises ConfigError if all are.
        """
        folders = self.folders()
        for folder in folders:
            try:
                state = read_state(folder)
                load(folder)
            except DamagedCheckpointError as error:
                notice(f"{error}; going on from the checkpoint before it")
                continue
            return folder, state
        if folders:
            raise ConfigError(
                f"{self._folder.parent}: none of its {len(folders)} checkpoints can be used; start a new run"
            )
        return None

    def _remove_old(self) -> None:
        """All but the last ones, and those of the steps that these call the best: whichever of them a run goes on from,
        the best policy of that time can be exported again."""
        folders = self.folders()
        kept = folders[: self._keep]
        best = {state.best_step for folder in kept if (state := _state_if_whole(folder))}
        for folder in folders[self._keep :]:
            if step_of(folder) not in best:
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        """Under its name it is whole or gone, also where the removal is cut short."""
        if folder.is_dir():
            old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
            os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)  # what is left goes before the next checkpoint is saved


def step_of(folder: Path) -> int:
    """The step that a checkpoint's folder is named after."""
    return int(folder.name.removeprefix("step-"))


def read_state(folder: Path) -> RunState:
    """Where the run stood; raises DamagedCheckpointError if the file is not what was written."""
    return RunState(**json.loads(_read(folder, STATE)))


def _state_if_whole(folder: Path) -> RunState | None:
    try:
        return read_state(folder)
    except DamagedCheckpointError:  # told when a run would go on from it
        return None


def read_in_flight(folder: Path) -> dict[int, list[RolloutGroup]]:
    """The batches in flight by step, exactly as they were; raises DamagedCheckpointError if a file is not what was
    written."""
    return {
        int(match[1]): [_group(json.loads(line)) for line in _read(folder, name).splitlines()]
        for name in sorted(read_manifest(folder).files)
        if (match := _IN_FLIGHT.fullmatch(name))
    }


def _group(content: Mapping[str, Any]) -> RolloutGroup:
    rollouts = [
        Rollout(
            **rollout
            | {
                "token_ids": tuple(rollout["token_ids"]),
                "logprobs": tuple(rollout["logprobs"]),
                "finish_reason": FinishReason(rollout["finish_reason"]),
            }
        )
        for rollout in content["rollouts"]
    ]
    return RolloutGroup(**{**content, "prompt_ids": tuple(content["prompt_ids"]), "rollouts": tuple(rollouts)})


def _read(folder: Path, name: str) -> str:
    expected = read_manifest(folder).files.get(name)
    if expected is None or not (folder / name).is_file():
        raise DamagedCheckpointError(folder, f"{name} is missing")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:  # the run removes it, or the disk is broken
        raise DamagedCheckpointError(folder, f"{name} is not readable ({error})") from error
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise DamagedCheckpointError(folder, f"{name} was changed")
    return content.decode("utf-8")


def _name(step: int) -> str:
    return f"step-{step:06d}"
