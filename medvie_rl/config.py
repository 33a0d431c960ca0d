"""The configuration of a run: dataclasses, read from a YAML file of `conf/` and `key=value` overrides.

Unknown keys, wrong types and combinations that cannot work are errors when the configuration is read, before anything
starts. Each worker is handed its own part only.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from cluster.config import ClusterConfig
from learner.config import LearnerConfig
from learner.loss_config import Loss, LossConfig
from medvie_rl.config_keys import all_keys, check_keys, to_dataclass
from medvie_rl.data.ocr_prompt import OcrConfig
from medvie_rl.data.queries import QueryConfig
from medvie_rl.dynamic_sampling_config import DynamicSamplingConfig
from medvie_rl.errors import ConfigError
from medvie_rl.layout_config import check_layout
from medvie_rl.rails import RailsConfig
from medvie_rl.records_config import RecordsConfig
from medvie_rl.sft_config import METHODS, SFT_LOSS, SftConfig, check_sft
from medvie_rl.sync_config import SyncConfig, check_sync, resolved_transport
from medvie_rl.tracking_config import WandbConfig
from rewards.config import RewardConfig
from rollout.config import AnswerSampling, RolloutConfig

_OF_ANSWERS = (
    "traces for training are sampled from the policy's whole distribution at rollout.temperature. The learner's "
    "logprobs are over all tokens, and nothing corrects them for tokens that were cut off. For answers there are "
    "evaluation.sampling.top_p, .top_k, .min_p and evaluation.constrained; `medvie extract` has --set "
    "sampling.top_p=0.9 and --constrained"
)
_HINTS = {f"rollout.{name}": _OF_ANSWERS for name in ("top_p", "top_k", "min_p", "grammar", "constrained", "sampling")}
BEST_METRICS = ("f1", "precision", "recall", "valid_json")  # see Evaluation.step_metrics


@dataclass(kw_only=True)
class DataConfig:
    """Which documents a run uses."""

    path: str = ""  # a dataset folder (see medvie_rl/data/store.py)
    train_split: str = "train"
    validation_split: str = "validation"  # chooses the best checkpoint
    test_split: str = "test"  # scored before and after, never used to choose anything
    num_train: int = 0  # the first so many documents of the split, 0 = all
    num_validation: int = 0
    num_test: int = 0

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "num_test"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name}: expected 0 (all) or more, got {getattr(self, name)}")


@dataclass(kw_only=True)
class EvaluationConfig:
    """How held-out documents are scored: every key of the schema is asked for."""

    every: int = 10  # steps between scores of the validation split, 0 = only the end
    reasoning: bool = True  # ask for reasoning before the JSON
    sampling: AnswerSampling = field(default_factory=AnswerSampling)  # greedy by default
    constrained: bool = False  # answers must follow the grammar of the schema (see medvie_rl/grammar.py)
    bootstrap_samples: int = 2000  # for the 95% intervals, over documents

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"evaluation.every: expected 0 (only the end) or more steps, got {self.every}")
        if self.bootstrap_samples < 1:
            raise ValueError(f"evaluation.bootstrap_samples: expected at least 1, got {self.bootstrap_samples}")


@dataclass(kw_only=True)
class CheckpointConfig:
    """When the state of a run is saved, and how many of these are kept (the best policy is kept besides)."""

    every: int = 10  # steps, 0 = only at the end
    keep: int = 2
    best_metric: str = "f1"  # of the validation documents: chooses the best policy

    def __post_init__(self) -> None:
        if self.best_metric not in BEST_METRICS:
            raise ValueError(
                f"checkpoint.best_metric: expected one of {', '.join(BEST_METRICS)}, got {self.best_metric!r}"
            )
        if self.every < 0:
            raise ValueError(f"checkpoint.every: expected 0 (only the end) or more steps, got {self.every}")
        if self.keep < 1:
            raise ValueError(f"checkpoint.keep: at least 1 is needed to resume from, got {self.keep}")


@dataclass(kw_only=True)
class Config:
    """Everything a run depends on."""

    name: str = "run"
    method: str = "rl"  # rl | sft (supervised fine-tuning on the annotations, see `medvie sft`)
    seed: int = 1
    model: str = ""  # folder (or hub name, where downloads are allowed) of the policy to start from
    allow_downloads: bool = False  # let Hugging Face libraries fetch a model by its hub name
    prompt: str = "conf/prompts/qwen2_5_vl.yaml"
    schemas: str = "conf/schemas"  # folder of schema files
    output_dir: str = "runs"
    num_steps: int = 100
    queries_per_step: int = 12
    num_traces: int = 8  # responses sampled for each query
    pipeline_depth: int = 0  # batches sampled ahead of the learner; 0 = on-policy; more than 1 mostly adds staleness
    dynamic_sampling: DynamicSamplingConfig = field(default_factory=DynamicSamplingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    ocr: OcrConfig = field(default_factory=OcrConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    rails: RailsConfig = field(default_factory=RailsConfig)
    records: RecordsConfig = field(default_factory=RecordsConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method: expected {' or '.join(METHODS)}, got {self.method!r}")
        for name in ("num_steps", "queries_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.pipeline_depth < 0:
            raise ValueError(f"pipeline_depth: expected 0 (on-policy) or more batches, got {self.pipeline_depth}")
        if not self.model:
            raise ValueError("model: name the folder of the policy to start from, e.g. medvie_rl/nano/policy")
        if not self.data.path:
            raise ValueError("data.path: name a dataset folder; `medvie data import` or `medvie data synth` makes one")
        if self.num_traces < 2:
            raise ValueError(
                f"num_traces: advantages compare the traces of a query with each other, so at least 2 are needed, got "
                f"{self.num_traces}"
            )
        minibatches = self.learner.minibatches_per_step
        if minibatches > self.queries_per_step:
            raise ValueError(
                f"learner.minibatches_per_step: {minibatches} minibatches cannot be made of {self.queries_per_step} "
                "groups; lower it or raise queries_per_step"
            )
        if self.learner.max_tokens_per_micro_batch < self.rollout.max_model_len:
            raise ValueError(
                "learner.max_tokens_per_micro_batch: a prompt with one response may have "
                f"{self.rollout.max_model_len} tokens (rollout.max_model_len), got "
                f"{self.learner.max_tokens_per_micro_batch}; raise it"
            )
        if self.reward.num_processes > max(1.0, self.cluster.reward_cpus):
            raise ValueError(
                f"cluster.reward_cpus: reward.num_processes {self.reward.num_processes} needs as many CPUs, got "
                f"{self.cluster.reward_cpus:g}"
            )
        if self.rollout.dtype == "auto":
            raise ValueError("rollout.dtype: name the dtype in which the learner sends the weights, e.g. bfloat16")
        room = self.rollout.max_prompt_tokens
        if self.ocr.mode != "none" and self.ocr.max_tokens >= room:
            raise ValueError(
                f"ocr.max_tokens: {self.ocr.max_tokens} tokens of recognised text leave no place for image and keys in "
                f"the {room} tokens that rollout.max_model_len minus rollout.max_response_tokens leave; lower it"
            )
        if self.rails.stop_reference_kl and not self.loss.needs_reference:
            raise ValueError(
                "rails.stop_reference_kl: no reference is kept with learner.loss.kl_coefficient 0; set it, or leave "
                "the rail at 0"
            )
        if self.method == "sft":
            check_sft(self)
        check_layout(self)
        check_sync(self)
        _check_modes(self.queries.reasoning_fraction, self.evaluation.reasoning)

    @property
    def loss(self) -> Loss:
        """The loss with every ingredient chosen."""
        if self.method == "sft":
            return SFT_LOSS
        return self.learner.loss.resolved(pipelined=self.pipeline_depth > 0)

    @property
    def num_gpus(self) -> int:
        """GPUs that a run takes."""
        of_engines = self.rollout.num_workers * self.rollout.tensor_parallel_size
        return {"cpu": 0, "split": of_engines + self.learner.num_ranks, "colocated": of_engines}[self.cluster.layout]

    @property
    def transport(self) -> str:
        """How whole weights travel: object_store, broadcast or ipc."""
        return resolved_transport(self)

    @property
    def adapter_apart(self) -> bool:
        """Whether the engines hold a LoRA adapter beside the base's weights."""
        return bool(self.learner.lora.rank) and self.sync.adapter == "apart"


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `key=value` overrides; raises ConfigError for anything that cannot be used.

    An override of learner.loss.preset takes the place of all that the file says of learner.loss: the configuration that
    a run keeps names every ingredient, and would leave nothing to the preset.
    """
    if not path.is_file():
        known = ", ".join(sorted(str(file) for file in Path("conf").glob("*.yaml")))
        raise ConfigError(f"{path}: no such configuration file; here are: {known or 'none in conf/'}")
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override '{override}': expected key=value, e.g. num_steps=50")
    try:
        from_file = OmegaConf.load(path)
        from_overrides = OmegaConf.from_dotlist(list(overrides))
    except Exception as error:  # YAML errors come in several unrelated classes
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    check_keys(str(path), from_file, Config, _HINTS)
    check_keys("override", from_overrides, Config, _HINTS)
    of_learner = OmegaConf.select(from_file, "learner")
    if OmegaConf.is_dict(of_learner) and any(override.startswith("learner.loss.preset=") for override in overrides):
        of_learner.pop("loss", None)
    config = to_dataclass(str(path), Config, from_file, from_overrides)
    if config.method == "rl":
        config.learner.loss = LossConfig(**asdict(config.loss))  # named in full, as the run keeps it
    return config


def to_yaml(config: Config) -> str:
    """The whole configuration, defaults included."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def setting_names() -> list[str]:
    """Every key that has a value, its parents before it: what `key=value` may name."""
    known = list(all_keys(Config))
    parents = {name.rpartition(".")[0].removesuffix("[]") for name in known}
    return [name for name in known if name not in parents and "[]" not in name]


def _check_modes(reasoning_fraction: float, evaluation_reasoning: bool) -> None:
    if evaluation_reasoning and reasoning_fraction == 0:
        raise ValueError(
            "evaluation.reasoning: evaluating with reasoning a policy that is trained on direct answers only; set "
            "evaluation.reasoning=false, or queries.reasoning_fraction above 0"
        )
    if not evaluation_reasoning and reasoning_fraction == 1:
        raise ValueError(
            "evaluation.reasoning: evaluating direct answers of a policy that is trained on reasoning only; set "
            "evaluation.reasoning=true, or queries.reasoning_fraction below 1"
        )
