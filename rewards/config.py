"""How the reward is computed: its weights, the user's own components, and what bounds the scoring of one response."""

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache

from rewards.parsing import ParseLimits

BUILT_IN_COMPONENTS = ("precision", "recall", "f_beta", "format", "overlong", "failure")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NAME = re.compile(r"[\w.-]+")


@dataclass(kw_only=True)
class ComponentConfig:
    """A part of the reward that the user adds: a function of the request and its built-in score, times `weight`."""

    function: str = ""  # module:function; the module must be importable from the folder the run is started in
    weight: float = 1.0
    name: str = ""  # of its share of the reward in metrics and records; empty = the function's name

    def __post_init__(self) -> None:
        self.name = self.name or self.function.rpartition(":")[2]


@dataclass(kw_only=True)
class RewardConfig:
    """Weights of the reward and bounds on what scoring may take. Raises ValueError for what makes no reward."""

    precision_weight: float = 0.5
    recall_weight: float = 0.5
    f_beta: float | None = None  # the beta of an F-measure in place of the mix of precision and recall; 1 = F1
    format_weight: float = 0.1  # share of the reward that a well-formed response earns
    overlong_penalty: float = 0.0  # what a response of the full length loses, 0 = nothing
    overlong_buffer: float = 0.2  # share of rollout.max_response_tokens over whose end the penalty rises
    components: list[ComponentConfig] = field(default_factory=list)
    on_component_error: str = "stop"  # stop the run | count the response as failed and go on
    num_processes: int = 1  # that score side by side
    timeout_seconds: float = 10.0  # for one response; then its process is killed and it is counted
    max_response_characters: int = 65_536
    max_json_depth: int = 16
    max_json_values: int = 2_048

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_components()
        if not 0 < self.timeout_seconds < math.inf:
            raise ValueError(f"reward.timeout_seconds must be above 0, got {self.timeout_seconds!r}")
        for name in ("num_processes", "max_response_characters", "max_json_depth", "max_json_values"):
            if getattr(self, name) < 1:
                raise ValueError(f"reward.{name} must be at least 1, got {getattr(self, name)!r}")

    def _check_weights(self) -> None:
        for name in ("precision_weight", "recall_weight", "format_weight", "overlong_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"reward.{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.precision_weight + self.recall_weight == 0:
            raise ValueError("reward.precision_weight and reward.recall_weight are both 0; one must be above 0")
        if self.format_weight >= 1:
            raise ValueError(f"reward.format_weight must be below 1, got {self.format_weight!r}; it is a share")
        if self.f_beta is not None and not 0 < self.f_beta < math.inf:
            raise ValueError(f"reward.f_beta must be above 0, or null for the mix of precision and recall, got "
                             f"{self.f_beta!r}")  # fmt: skip
        if not 0 < self.overlong_buffer <= 1:
            raise ValueError(f"reward.overlong_buffer must be above 0 and at most 1, got {self.overlong_buffer!r}")

    def _check_components(self) -> None:
        if self.on_component_error not in ("stop", "count"):
            raise ValueError(f"reward.on_component_error must be stop or count, got {self.on_component_error!r}")
        taken = set(BUILT_IN_COMPONENTS)
        for index, component in enumerate(self.components):
            where = f"reward.components[{index}]"
            if not _FUNCTION.fullmatch(component.function):
                raise ValueError(
                    f"{where}.function must be module:function, such as my_rewards:brevity, got {component.function!r}"
                )
            if not math.isfinite(component.weight):
                raise ValueError(f"{where}.weight must be a finite number, got {component.weight!r}")
            if not _NAME.fullmatch(component.name):
                raise ValueError(f"{where}.name must be letters, digits, '_', '.' or '-', got {component.name!r}")
            if component.name in taken:
                raise ValueError(
                    f"{where}.name: {component.name!r} is taken by another component; built in are "
                    f"{', '.join(BUILT_IN_COMPONENTS)}. Set another name"
                )
            taken.add(component.name)

    def parse_limits(self) -> ParseLimits:
        """The bounds, as the parser takes them."""
        return _parse_limits(self.max_response_characters, self.max_json_depth, self.max_json_values)


@lru_cache
def _parse_limits(max_characters: int, max_depth: int, max_values: int) -> ParseLimits:
    return ParseLimits(max_characters=max_characters, max_depth=max_depth, max_values=max_values)
