"""The run directory: configuration, metrics, records, checkpoints, best policy, W&B, and what a resumed run needs.

runs/NAME-TIME/
  config.yaml          the resolved configuration
  metrics.jsonl        one object a step
  rollouts/            one JSONL file a step: every response with its reward
  evaluations/         answers and scores on held-out documents: before, during, after
  checkpoints/step-N/  everything needed to go on exactly
  best/                the best policy on the validation documents, in Hugging Face format
  curves.png, examples.png, summary.json
  wandb/               the W&B run, offline unless asked otherwise
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from medvie_rl.config import Config, load_config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.files import write_atomically
from medvie_rl.policy_card import PolicyCard, read_policy_card

_RAY_PACKAGES = "working_dir_files"  # where Ray unpacks the working directory of a job


@dataclass(kw_only=True)
class RunState:
    """Where a run stands after `step` steps. `weight_version` counts updates that changed the policy."""

    step: int = 0
    weight_version: int = 0
    best_step: int = -1
    best_f1: float = -1.0
    seconds: float = 0.0  # of training so far, over all resumes
    wandb_id: str = ""


class Run:
    """A run directory that is written while training and read when resuming."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self._wandb: Any = None
        self._lock = _lock(folder)

    @classmethod
    def create(cls, config: Config) -> "Run":
        """A new run directory below `output_dir`, never an existing one."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        base = _output_folder(config.output_dir) / f"{config.name}-seed{config.seed}-{stamp}"
        folder = base
        for attempt in range(1, 1000):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                folder = base.with_name(f"{base.name}-{attempt}")
        for name in ("rollouts", "evaluations", "checkpoints"):
            (folder / name).mkdir()
        write_atomically(folder / "config.yaml", to_yaml(config))
        return cls(folder, config)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run, with the configuration it was started with."""
        return cls(folder.absolute(), load_config(resolved_config(folder)))

    # --- metrics -----------------------------------------------------------------------------------------------------

    def start_logging(self, state: RunState) -> None:
        """Open W&B; forget what a killed run logged or recorded after the checkpoint it continues from."""
        self._forget_after(state.step)
        if self.config.wandb.mode != "disabled":
            self._wandb = _start_wandb(self.folder, self.config, state)

    def log(self, step: int, metrics: Mapping[str, float | int | None]) -> None:
        """One metrics object a step: to `metrics.jsonl` always, to W&B beside it."""
        line = json.dumps({"step": step, **metrics}, allow_nan=False)
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._wandb is not None:
            self._wandb.log({name: value for name, value in metrics.items() if value is not None}, step=step)

    def metrics(self) -> list[dict[str, Any]]:
        """All logged metrics so far."""
        path = self.folder / "metrics.jsonl"
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = content[: content.rfind("\n") + 1]  # a killed run may leave half a line
        return [json.loads(line) for line in whole.splitlines()]

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json` and close W&B with the same numbers."""
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        if self._wandb is not None:
            for name in ("before", "after"):
                for metric, value in summary[name].items():
                    if isinstance(value, float):
                        self._wandb.summary[f"summary/{name}_{metric}"] = value
            self._wandb.summary["summary/delta_f1"] = summary["delta_f1"]

    def close(self) -> None:
        """Close W&B, also after a failure."""
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None

    # --- records -----------------------------------------------------------------------------------------------------

    def record_rollouts(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
        """Every response of a step, one JSON object a line."""
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        write_atomically(self.folder / "rollouts" / f"step-{step:06d}.jsonl", "\n".join(lines) + "\n")

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

    def save(self, state: RunState, write: Callable[[Path], None]) -> None:
        """Save a checkpoint: `write` fills a folder aside, which is then renamed; older ones are removed."""
        final = self.folder / "checkpoints" / _checkpoint_name(state.step)
        aside = final.with_name(f".{final.name}.partial")
        _remove(aside)
        aside.mkdir(parents=True)
        write(aside)
        write_atomically(aside / "state.json", json.dumps(asdict(state)))
        _remove(final)
        os.rename(aside, final)
        for old in self._checkpoints()[: -self.config.checkpoint.keep]:
            if old.name != _checkpoint_name(state.best_step):  # its policy can be exported again
                _remove(old)

    def best_policy_step(self) -> int:
        """The step whose policy `best_policy` holds, -1 if there is none yet."""
        card = read_policy_card(self.best_policy)
        return card.step if card else -1

    def replace_best(self, write: Callable[[Path], None], *, step: int) -> None:
        """Replace the best policy by what `write` puts into a folder aside."""
        aside, old = self.folder / ".best.partial", self.folder / ".best.old"
        _remove(aside)
        write(aside)
        card = PolicyCard(
            run=self.folder.name,
            step=step,
            reasoning=self.config.evaluation.reasoning,
            rollout=asdict(self.config.rollout),
            ocr={"mode": self.config.ocr.mode, "max_tokens": self.config.ocr.max_tokens},
        )
        card.write(aside, Path(self.config.prompt))
        _remove(old)
        if self.best_policy.exists():
            os.rename(self.best_policy, old)
        os.rename(aside, self.best_policy)
        _remove(old)

    def checkpoints(self) -> list[tuple[Path, RunState]]:
        """The complete checkpoints with the state that each holds, the newest first."""
        return [
            (folder, RunState(**json.loads((folder / "state.json").read_text(encoding="utf-8"))))
            for folder in reversed(self._checkpoints())
        ]

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def _forget_after(self, step: int) -> None:
        kept = [line for line in self.metrics() if line["step"] <= step] if self._checkpoints() else []
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.folder / "metrics.jsonl", text)
        for path in (self.folder / "rollouts").glob("step-*.jsonl"):
            if int(path.stem.split("-")[1]) > step:
                path.unlink()


def _checkpoint_name(step: int) -> str:
    return f"step-{step:06d}"


def resolved_config(folder: Path) -> Path:
    """The configuration file of a run directory; raises ConfigError if the folder is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a run directory (it has no config.yaml)")
    return path


def _output_folder(output_dir: str) -> Path:
    """A relative folder lies below the current one; in a submitted job, whose own folder is temporary, below home."""
    in_job_package = _RAY_PACKAGES in Path.cwd().parts
    return (Path.home() / "medvie" if in_job_package else Path.cwd()) / output_dir


def _start_wandb(folder: Path, config: Config, state: RunState) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    state.wandb_id = state.wandb_id or uuid.uuid4().hex[:8]
    return wandb.init(
        project=config.wandb.project,
        name=folder.name,
        id=state.wandb_id,
        resume="allow",
        mode=config.wandb.mode,  # type: ignore[arg-type]  # checked when the configuration is read
        dir=str(folder),
        config=asdict(config),
        settings=settings,
    )


def _lock(folder: Path) -> IO[bytes]:
    """Held as long as the run's object lives: two processes must not write the same run."""
    file = (folder / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: another process works on this run; wait until it has ended") from error
    return file


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
