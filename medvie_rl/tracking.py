"""The W&B run of a run directory: a view of what is there, which can be made anew at any time.

W&B's client is a process of its own that keeps in memory what was logged last, and dies of the SIGTERM that the stop of
a Ray job sends to every process of it. So each W&B run is filled from the run directory when it opens, after a resume
as after such a death: offline, the newest folder below `wandb/` holds all of the run.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvie_rl.config import Config


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

    def open(
        self, run_id: str, read_metrics: Callable[[], list[dict[str, Any]]], notice: Callable[[str], None]
    ) -> None:
        """Start W&B's run of that id with all that `read_metrics` returns, where the configuration wants one."""
        self._id, self._read, self._notice = run_id, read_metrics, notice
        if self._config.wandb.mode != "disabled":
            self._start()

    def log(self, entry: Mapping[str, Any]) -> None:
        """Show one line of the metrics, which `read_metrics` returns by now, too."""
        self._attempt(lambda: self._show(entry))

    def summarize(self, values: Mapping[str, float]) -> None:
        """Show numbers of the whole run."""
        self._attempt(lambda: self._run.summary.update(dict(values)))

    def close(self) -> None:
        """Write what W&B's client still holds, and end it."""
        self._attempt(lambda: self._run.finish())
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

    def _start(self) -> None:
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
        self._run = wandb.init(
            project=self._config.wandb.project,
            name=self._folder.name,
            id=self._id,
            resume="allow",
            mode=self._config.wandb.mode,  # type: ignore[arg-type]  # checked when the configuration is read
            dir=str(self._folder),
            config=asdict(self._config),
            allow_val_change=True,  # of the layout, when a run goes on
            settings=settings,
        )
        for entry in self._read():
            if entry["step"] >= self._run.starting_step:  # W&B's server has those before
                self._show(entry)

    def _show(self, entry: Mapping[str, Any]) -> None:
        values = {name: value for name, value in entry.items() if name != "step" and value is not None}
        self._run.log(values, step=entry["step"])
