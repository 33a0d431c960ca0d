"""The run directory: configuration, metrics, records, checkpoints, best policy, W&B, and what a resumed run needs.

runs/NAME-TIME/
  config.yaml          the resolved configuration; config-step-N*.yaml: the ones before a resume at step N changed it
  inputs.json          digests of documents, schemas, prompt and base policy
  metrics.jsonl        one object a step
  rollouts/            one Parquet file a step: every response with its reward (see records.py)
  evaluations/         answers and scores on held-out documents: before, during, after
  checkpoints/step-N/  everything needed to go on exactly
  best/                the best policy on the validation documents, in Hugging Face format, with a manifest
  curves.png, examples.png, summary.json
  report.html          where `medvie report` was called
  wandb/               the W&B run, offline unless asked otherwise
"""

import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from learner.errors import DamagedCheckpointError
from learner.manifest import file_digests, files_below, read_manifest, sync_names, write_manifest
from medvie_rl.checkpoints import Checkpoints, read_in_flight
from medvie_rl.checkpoints import RunState as RunState
from medvie_rl.config import Config, load_config, to_yaml
from medvie_rl.errors import ConfigError, UserError
from medvie_rl.files import sync_file, write_atomically
from medvie_rl.fingerprint import check_inputs
from medvie_rl.policy_card import PolicyCard, read_policy_card
from medvie_rl.records import FOLDER, PATTERN, RecordWriter, RolloutRecord
from medvie_rl.resume import check_only_layout_differs, load_stored
from medvie_rl.run_folder import FOLDERS, check_is_free, clear, lock, new_folder
from medvie_rl.tracking import Tracker
from medvie_rl.tracking_samples import DocumentOf
from rollout.types import RolloutGroup


class Run:
    """A run directory that is written while training and read when resuming."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.checkpoints = Checkpoints(folder / "checkpoints", keep=config.checkpoint.keep)
        self._records = RecordWriter(folder / FOLDER, config.records)
        self._tracker = Tracker(folder, config)
        self._lock = lock(folder)

    @classmethod
    def create(cls, config: Config, folder: Path | None = None) -> "Run":
        """A new run directory, never that of another run: `folder`, or a new one below `output_dir`.

        `folder` may hold a run that has no checkpoint yet, which is begun anew. Raises ConfigError if it holds
        anything else.
        """
        if folder is None:
            run = cls(new_folder(config), config)
        else:
            check_is_free(folder)
            folder.mkdir(parents=True, exist_ok=True)
            run = cls(folder.absolute(), config)
            clear(run.folder)
        for name in FOLDERS:
            (run.folder / name).mkdir(exist_ok=True)
        write_atomically(run.folder / "config.yaml", to_yaml(config))
        return run

    @classmethod
    def open(cls, folder: Path, config: Config | None = None) -> "Run":
        """An existing run, with its own configuration or `config`.

        Raises ConfigError if that differs in more than the layout from what the run was made with (see resume.py).
        """
        if config is None:
            return cls(folder.absolute(), run_config(folder))
        check_only_layout_differs(folder, _checkpointed_config(folder), config)
        return cls(folder.absolute(), config)

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """Keep the digests of what the run depends on, or raise ConfigError if they are not those it started with."""
        path = self.folder / "inputs.json"
        if path.is_file():
            check_inputs(self.folder, json.loads(path.read_text(encoding="utf-8")), inputs)
        elif self.checkpoints.folders():
            raise ConfigError(
                f"{path}: this file is missing, without which it is not known from which inputs the run started; "
                "start a new run"
            )
        else:
            write_atomically(path, json.dumps(inputs, indent=1) + "\n")

    # --- metrics -----------------------------------------------------------------------------------------------------

    def start_logging(
        self, state: RunState, notice: Callable[[str], None] = print, document_of: DocumentOf | None = None
    ) -> None:
        """Open W&B; forget the metrics and records that a killed run left after the checkpoint it continues from.

        `notice` is told when records become too large to be kept, and when W&B does not work any more; `document_of`
        finds what W&B shows of documents, where the configuration lets it.
        """
        self._records.notice = notice
        self._forget_after(state)
        self._keep_old_config(state.step)
        state.wandb_id = state.wandb_id or os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:8]  # of a sweep's agent
        self._tracker.open(state.wandb_id, partial(read_metrics, self.folder), notice, document_of)

    def log(self, step: int, metrics: Mapping[str, float | int | None]) -> None:
        """One metrics object a step: to `metrics.jsonl` always, to W&B beside it. `time/logged` is when that was, in
        seconds since 1970."""
        entry = {"step": step, **metrics, "time/logged": time.time()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._tracker.log(entry)

    def metrics(self) -> list[dict[str, Any]]:
        """All logged metrics so far."""
        return read_metrics(self.folder)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json` and close W&B with the same numbers."""
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        numbers = {
            f"summary/{name}_{metric}": value
            for name in ("before", "after")
            for metric, value in summary[name].items()
            if isinstance(value, float)
        }
        self._tracker.summarize(numbers | {"summary/delta_f1": summary["delta_f1"]})
        self._tracker.upload_policy(self.best_policy)

    def close(self) -> None:
        """Close W&B, also after a failure."""
        self._tracker.close()

    # --- records -----------------------------------------------------------------------------------------------------

    def record_rollouts(self, step: int, records: Sequence[RolloutRecord]) -> None:
        """Every response of a step, as far as the configuration lets them be kept."""
        self._records.write(step, records)

    def record_evaluation(self, name: str, evaluation: Mapping[str, Any]) -> None:
        """The answers and scores of an evaluation."""
        write_atomically(self.folder / "evaluations" / f"{name}.json", json.dumps(evaluation, ensure_ascii=False))

    def evaluation(self, name: str) -> dict[str, Any] | None:
        """A recorded evaluation, or None."""
        path = self.folder / "evaluations" / f"{name}.json"
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    # --- checkpoints -------------------------------------------------------------------------------------------------

    @property
    def best_policy(self) -> Path:
        """Folder of the best policy, in Hugging Face format."""
        return self.folder / "best"

    def save(
        self, state: RunState, write: Callable[[Path], None], in_flight: Mapping[int, Sequence[RolloutGroup]]
    ) -> None:
        """Save a checkpoint: `write` puts the learner's part into a folder and seals it; `in_flight` are the batches by
        step that were generated and not trained on. What the run logged and recorded before is brought to the disk."""
        sync_file(self.folder / "metrics.jsonl")
        for name in ("rollouts", "evaluations", "."):  # their files are written atomically
            sync_names(self.folder / name)
        self.checkpoints.save(state, to_yaml(self.config), write, in_flight)

    def in_flight(self, checkpoint: Path) -> dict[int, list[RolloutGroup]]:
        """The batches by step that were in flight when a checkpoint was saved."""
        return read_in_flight(checkpoint)

    def best_policy_step(self) -> int:
        """The step whose policy `best_policy` holds, -1 if there is none yet or a file is not what was written."""
        try:
            manifest = read_manifest(self.best_policy)
            manifest.check(self.best_policy, file_digests(self.best_policy, manifest.files))
            card = read_policy_card(self.best_policy)
        except (DamagedCheckpointError, UserError):
            return -1
        return card.step if card else -1

    def replace_best(self, write: Callable[[Path], None], *, step: int) -> None:
        """Replace the best policy by what `write` puts into a folder aside, when that is on the disk."""
        # Names of their own: actors of a run that was killed may still write into the folder that it had aside.
        unique = uuid.uuid4().hex[:8]
        aside, old = self.folder / f".best.{unique}.partial", self.folder / f".best.{unique}.old"
        for left_over in self.folder.glob(".best.*"):
            shutil.rmtree(left_over, ignore_errors=True)
        write(aside)
        policy_card(self.folder.name, step, self.config).write(aside, Path(self.config.prompt))
        digests = file_digests(aside, files_below(aside), sync=True)
        write_manifest(aside, {"step": step}, {name: digest for name, digest in digests.items() if digest})
        if self.best_policy.exists():
            os.rename(self.best_policy, old)
        os.rename(aside, self.best_policy)
        sync_names(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def _forget_after(self, state: RunState) -> None:
        self.checkpoints.forget_after(state.step)
        kept = [line for line in self.metrics() if line["step"] <= state.step] if self.checkpoints.folders() else []
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.folder / "metrics.jsonl", text)
        records = [*(self.folder / FOLDER).glob(PATTERN), *self.folder.glob("evaluations/step-*.json")]
        for path in records:
            if int(path.stem.split("-")[1]) > state.step:
                path.unlink()
        if state.step < self.config.num_steps and not state.stopped:
            for name in ("evaluations/after.json", "summary.json"):
                (self.folder / name).unlink(missing_ok=True)

    def _keep_old_config(self, step: int) -> None:
        path = self.folder / "config.yaml"
        stored = path.read_text(encoding="utf-8")
        if stored != to_yaml(self.config):
            names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
            kept = (self.folder / f"config-step-{step}{name}.yaml" for name in names)
            write_atomically(next(name for name in kept if not name.exists()), stored)
            write_atomically(path, to_yaml(self.config))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics that the run in a folder has logged so far; raises UserError naming a line that holds none."""
    path = folder / "metrics.jsonl"
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]  # a killed run may leave half a line
    entries = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:  # also bytes that are no UTF-8
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise UserError(
                f"{path}:{number}: expected the metrics of a step; the file is damaged, restore it from a copy"
            )
        entries.append(entry)
    return entries


def policy_card(run: str, step: int, config: Config) -> PolicyCard:
    """What the policy of a run says of itself."""
    return PolicyCard(
        run=run,
        step=step,
        reasoning=config.evaluation.reasoning,
        rollout=asdict(config.rollout),
        ocr={"mode": config.ocr.mode, "max_tokens": config.ocr.max_tokens},
    )


def resolved_config(folder: Path) -> Path:
    """The configuration file of a run directory; raises ConfigError if the folder is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a run directory (it has no config.yaml)")
    return path


def run_config(folder: Path, overrides: Sequence[str] = (), *, file: Path | None = None) -> Config:
    """The configuration with which the run in a folder goes on: its own, or that of `file`, with overrides.

    Raises ConfigError if it differs in more than the layout from what the run was made with (see resume.py).
    """
    own = resolved_config(folder)
    config = load_config(file, overrides) if file else load_stored(folder, own, overrides)
    check_only_layout_differs(folder, _checkpointed_config(folder), config)
    return config


def _checkpointed_config(folder: Path) -> Config:
    """What the newest checkpoint was made with: config.yaml can be edited."""
    own = resolved_config(folder)
    return load_stored(folder, Checkpoints(folder / "checkpoints", keep=1).newest_config() or own)
