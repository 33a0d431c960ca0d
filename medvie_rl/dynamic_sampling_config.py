"""Whether groups that teach nothing are replaced."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class DynamicSamplingConfig:
    """Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): groups whose rewards are all equal are dropped, and more
    queries are sampled until a step has `queries_per_step` others."""

    max_rounds: int = 0  # how often a step may sample again; 0 = never: it trains on what its first round left
    max_oversampling: float = 3.0  # at most this many times queries_per_step in the first round, and in all the others

    def __post_init__(self) -> None:
        if self.max_rounds < 0:
            raise ValueError(f"dynamic_sampling.max_rounds: expected 0 (off) or more, got {self.max_rounds}")
        if self.max_oversampling < 1:
            raise ValueError(
                f"dynamic_sampling.max_oversampling: expected a factor of at least 1, got {self.max_oversampling:g}"
            )
