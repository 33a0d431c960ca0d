"""What a study file says: the arms to compare, how each differs from the configuration, and where they are tested."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medvie_rl.config_keys import check_keys, to_dataclass
from medvie_rl.data.damage import DAMAGES, MAX_DEGREE
from medvie_rl.data.label_noise import NOISE_KINDS
from medvie_rl.errors import ConfigError, did_you_mean

FOLDER = Path("conf/studies")
CHOICES = ("first", "random", "diverse")
METHODS = ("rl", "sft", "base")
MEASURES = ("f1", "precision", "recall", "hallucinated", "omitted", "misassociated", "misread", "tokens")
GROUPINGS = ("key", "kind", "document type", "values on the page", "length of the answer")
_NAME = re.compile(r"\w[\w /.,+%-]{0,39}")


@dataclass(kw_only=True)
class TrainingDocuments:
    """What an arm makes of the training split of the configuration's dataset, in this order."""

    schemas: list[str] = field(default_factory=list)  # only documents of these, [] = all
    num: int = 0  # so many of them, 0 = as many as data.num_train says
    choice: str = "first"  # of the split | random | diverse (as `medvie data select` chooses)
    noise: float = 0.0  # share of the annotated values that are made wrong
    noise_kinds: list[str] = field(default_factory=lambda: list(NOISE_KINDS))

    def __post_init__(self) -> None:
        _one_of("choice", self.choice, CHOICES)
        if self.num < 0:
            raise ValueError(f"num: expected 0 (as many as data.num_train says) or more, got {self.num}")
        if self.choice != "first" and not self.num:
            raise ValueError(f"choice: {self.choice} needs the number of documents to choose; set num")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise: expected a share between 0 and 1, got {self.noise}")
        for kind in self.noise_kinds:
            _one_of("noise_kinds", kind, NOISE_KINDS)

    @property
    def is_changed(self) -> bool:
        """Whether the arm trains on another split than the configuration's."""
        return bool(self.schemas or self.num or self.noise)


@dataclass(kw_only=True)
class Arm:
    """One way of making a policy, tried with every seed. `x` and `series` are its place in the figure."""

    name: str = ""
    method: str = "rl"  # rl | sft | base (the policy that the configuration starts from)
    settings: list[str] = field(default_factory=list)  # key=value
    start: str = ""  # begins with the best policy of this arm, seed by seed
    documents: TrainingDocuments = field(default_factory=TrainingDocuments)
    x: float | None = None
    series: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _one_of("method", self.method, METHODS)
        if self.method == "base" and (self.start or self.documents.is_changed):
            raise ValueError(f"{self.name}: with method base nothing is trained; leave out start and documents")
        _check_settings(self.settings)


@dataclass(kw_only=True)
class Condition:
    """Held-out documents, and how finished policies are asked about them."""

    name: str = ""
    dataset: str = ""  # folder; "" = that of the configuration
    split: str = ""  # "" = data.test_split
    num: int = 0  # the first so many documents, 0 = as many as data.num_test says
    schemas: list[str] = field(default_factory=list)  # only documents of these, [] = all
    damage: str = ""  # what is done to the pages: one of data.damage.DAMAGES
    degree: int = 0  # how much of it, from 1
    reasoning: bool | None = None  # null = as the policy was trained

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.damage:
            _one_of("damage", self.damage, tuple(DAMAGES))
        if bool(self.damage) != (1 <= self.degree <= MAX_DEGREE):
            raise ValueError(f"degree: expected 1 to {MAX_DEGREE} with a damage and 0 without, got {self.degree}")
        if self.num < 0:
            raise ValueError(f"num: expected 0 (as many as data.num_test says) or more, got {self.num}")


@dataclass(kw_only=True)
class StudyConfig:
    """A study file. Settings of arms go before those of the study, and these before the configuration's."""

    title: str = ""
    question: str = ""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    settings: list[str] = field(default_factory=list)  # key=value, of every arm
    baseline: str = ""  # the arm with which the others are compared
    arms: list[Arm] = field(default_factory=list)
    prepare: dict[str, str] = field(default_factory=dict)  # folder of a dataset: options of `medvie data synth`
    conditions: list[Condition] = field(default_factory=list)  # [] = the test split, asked as the policy was trained
    measures: list[str] = field(default_factory=lambda: ["f1", "precision", "recall"])  # panels of the figure
    x_label: str = ""  # of arms that have an x
    breakdowns: list[str] = field(default_factory=list)  # also F1 by these: some of GROUPINGS
    num_cases: int = 0  # documents with the answers of all arms, chosen by rule

    def __post_init__(self) -> None:
        if not self.title or not self.question:
            raise ValueError("title and question: say what the study asks")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected one or more different numbers, got {self.seeds}")
        _check_settings(self.settings)
        for what, named in (("arms", self.arms), ("conditions", self.conditions)):
            _check_different(what, [each.name for each in named])
        names = [arm.name for arm in self.arms]
        if self.baseline not in names:
            raise ValueError(f"baseline: no arm is called {self.baseline!r}{did_you_mean(self.baseline, names)}")
        for index, arm in enumerate(self.arms):
            before = [other.name for other in self.arms[:index] if other.method != "base"]
            if arm.start and arm.start not in before:
                raise ValueError(
                    f"arms: {arm.name!r} starts from {arm.start!r}; expected a trained one that stands before it: "
                    f"{', '.join(before) or 'there is none'}"
                )
        for measure in self.measures:
            _one_of("measures", measure, MEASURES)
        for grouping in self.breakdowns:
            _one_of("breakdowns", grouping, GROUPINGS)
        if bool(self.x_label) != any(arm.x is not None for arm in self.arms):
            raise ValueError("x_label: name the axis where arms have an x, and only there")
        if self.num_cases < 0:
            raise ValueError(f"num_cases: expected 0 or more, got {self.num_cases}")

    def arm(self, name: str) -> Arm:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


def study_names() -> list[str]:
    """The studies of conf/studies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> StudyConfig:
    """A study of conf/studies by its name, or by its file's path; raises ConfigError for one that cannot be used."""
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = study_names()
        raise ConfigError(
            f"{path}: no such study{did_you_mean(name, known)}; there are {', '.join(known) or f'none in {FOLDER}'}"
        )
    try:
        content = OmegaConf.load(path)
    except Exception as error:  # YAML errors come in several unrelated classes
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    check_keys(str(path), content, StudyConfig)
    return to_dataclass(str(path), StudyConfig, content)


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: expected up to 40 letters, digits, spaces and / . , + % _ -, got {name!r}")


def _check_different(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} is there twice; every one needs a name of its own")


def _check_settings(settings: Sequence[str]) -> None:
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"settings: expected key=value, e.g. num_steps=40, got {setting!r}")
