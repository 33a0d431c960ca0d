"""The W&B run of a run directory: a view of what is there, which can be made anew at any time.

W&B's client is a process of its own that keeps in memory what was logged last, and dies of the SIGTERM that the stop of
a Ray job sends to every process of it. So each W&B run is filled from the run directory when it opens, after a resume
as after such a death: offline, the newest folder below `wandb/` holds all of the run.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvie_rl.code_version import code_version
from medvie_rl.config import Config
from medvie_rl.records import FOLDER, read_records
from medvie_rl.tracking_samples import DocumentOf, choose_samples, histograms, sample_table


class Tracker:
    """Shows a run in W&B. Nothing that W&B does can cost the run: where its client is lost a second time within a
    step, the run goes on without it, and says so."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._config = config
        self._run: Any = None
        self._id = ""
        self._read: Callable[[], list[dict[str, Any]]]
        self._notice: Callable[[str], None] = print
        self._document_of: DocumentOf | None = None

    def open(
        self,
        run_id: str,
        read_metrics: Callable[[], list[dict[str, Any]]],
        notice: Callable[[str], None],
        document_of: DocumentOf | None = None,
    ) -> None:
        """Start W&B's run of that id with all that `read_metrics` returns, where the configuration wants one.
        `document_of` finds the documents whose values may be shown (see WandbConfig)."""
        self._id, self._read, self._notice = run_id, read_metrics, notice
        self._document_of = document_of if self._config.wandb.with_values else None
        if self._config.wandb.mode != "disabled":
            self._start()

    def log(self, entry: Mapping[str, Any]) -> None:
        """Show one line of the metrics, which `read_metrics` returns by now, too."""
        self._attempt(lambda: self._show(entry))

    def summarize(self, values: Mapping[str, float]) -> None:
        """Show numbers of the whole run."""
        self._attempt(lambda: self._run.summary.update(dict(values)))

    def upload_policy(self, folder: Path) -> None:
        """Keep the best policy as an artifact of the run, where the configuration wants that."""
        if self._config.wandb.log_best_policy and folder.is_dir():
            self._attempt(lambda: self._log_policy(folder))

    def close(self) -> None:
        """Write what W&B's client still holds, and end it."""
        self._attempt(self._finish)
        self._run = None

    def _attempt(self, action: Callable[[], object]) -> None:
        """Do it; with a new client, which knows what is in the run directory, if the first is lost."""
        if self._run is None:
            return
        try:
            action()
        except Exception:  # whatever it raises, the run is worth more
            try:
                self._restart()
                action()
            except Exception as error:
                self._run = None
                self._notice(f"W&B does not work any more ({error}); the run goes on, metrics.jsonl has its numbers")

    def _restart(self) -> None:
        import wandb

        with contextlib.suppress(Exception):  # it cannot say goodbye to the one that is lost
            wandb.teardown()
        self._start()

    def _finish(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # which waits until the client has written everything

    def _start(self) -> None:
        import wandb

        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):  # what waits to be uploaded stays with the run
            os.environ[name] = str(self._folder / "wandb")
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
        self._run = wandb.init(
            project=self._config.wandb.project,
            name=self._folder.name,
            id=self._id,
            resume="allow",
            mode=self._config.wandb.mode,  # type: ignore[arg-type]  # checked when the configuration is read
            dir=str(self._folder),
            config=asdict(self._config) | {"code_version": code_version()},
            allow_val_change=True,  # of the layout, when a run goes on
            settings=settings,
        )
        for metric in ("eval/f1", "eval/precision", "eval/recall"):
            self._run.define_metric(metric, summary="max")
        for entry in self._read():
            if entry["step"] >= self._run.starting_step:  # W&B's server has those before
                self._show(entry)

    def _show(self, entry: Mapping[str, Any]) -> None:
        values = {name: value for name, value in entry.items() if name != "step" and value is not None}
        self._run.log(values | self._samples(entry), step=entry["step"])

    def _samples(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """What the step's records look like, as far as they were kept."""
        path = self._folder / FOLDER / f"step-{entry['step']:06d}.parquet"
        if not path.is_file():
            return {}
        shown = histograms(path)
        if "eval/f1" in entry and self._config.wandb.num_samples:
            records = read_records(path, texts=self._document_of is not None)
            chosen = choose_samples(records, self._config.wandb.num_samples)
            shown["samples"] = sample_table(chosen, self._document_of)
        return shown

    def _log_policy(self, folder: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"policy-{self._id}", type="model")
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)
