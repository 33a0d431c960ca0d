"""A study's runs: what is trained for each arm and seed. Arms, and studies, that train the same share the run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from medvie_rl.config import Config, load_config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.files import write_atomically
from medvie_rl.sft_command import sft_overrides
from medvie_rl.study.config import Arm, StudyConfig
from medvie_rl.study.documents import training_dataset

_OF_WHERE = ("name", "output_dir", "cluster", "wandb", "records")  # settings that change no policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run by the digest of all that its policy depends on; `after` is the run whose policy it starts from."""

    id: str
    config: Config
    config_file: Path
    folder: Path
    log: Path
    after: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether it has ended with its held-out answers."""
        return all((self.folder / name).is_file() for name in ("summary.json", "evaluations/after.json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An arm with a seed: the policy, the configuration that says how it is asked, and its run; the base has none."""

    arm: str
    seed: int
    config: Config
    run: PlannedRun | None

    @property
    def policy(self) -> Path:
        """The policy's folder."""
        return self.run.folder / "best" if self.run else Path(self.config.model)


def plan_trials(study: StudyConfig, config_file: Path, overrides: Sequence[str], out: Path) -> list[Trial]:
    """Every arm with every seed, in the order of the file; makes the datasets that arms train on below `out`.

    Raises ConfigError, naming the arm, for settings and documents that cannot be used.
    """
    trials: list[Trial] = []
    for arm in study.arms:
        try:
            config = _config(study, arm, config_file, overrides)
            for seed in study.seeds:
                start = next((trial.run for trial in trials if (trial.arm, trial.seed) == (arm.start, seed)), None)
                trials.append(_trial(arm, replace(config, seed=seed), start, out))
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from error
    return trials


def runs_of(trials: Sequence[Trial]) -> list[PlannedRun]:
    """The runs behind trials, each once, those that others start from first."""
    return list({trial.run.id: trial.run for trial in trials if trial.run}.values())


def _config(study: StudyConfig, arm: Arm, config_file: Path, overrides: Sequence[str]) -> Config:
    """The configuration of an arm, of any seed."""
    settings = [*overrides, *study.settings, *arm.settings]
    return load_config(config_file, sft_overrides(config_file, settings) if arm.method == "sft" else settings)


def _trial(arm: Arm, config: Config, start: PlannedRun | None, out: Path) -> Trial:
    if arm.method == "base":
        return Trial(arm=arm.name, seed=config.seed, config=config, run=None)
    if start:
        config = replace(config, model=str(start.folder / "best"))
    if arm.documents.is_changed:
        folder = training_dataset(config, arm.documents, out / "data", seed=config.seed)
        config = replace(config, data=replace(config.data, path=str(folder), num_train=0))
    return Trial(arm=arm.name, seed=config.seed, config=config, run=_planned(config, start, out / "runs"))


def _planned(config: Config, start: PlannedRun | None, folder: Path) -> PlannedRun:
    config = replace(config, name="study")
    name = f"{config.method}-{_digest(config)}"
    return PlannedRun(
        id=name,
        config=config,
        config_file=folder / f"{name}.yaml",
        folder=folder / name,
        log=folder / f"{name}.log",
        after=start.id if start else "",
    )


def write_config(run: PlannedRun) -> None:
    """The file that the run is started with."""
    run.config_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run.config_file, to_yaml(run.config))


def _digest(config: Config) -> str:
    content = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(content, dict)
    told = {name: value for name, value in content.items() if name not in _OF_WHERE}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
