"""What an estimate is made of."""

from dataclasses import dataclass

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that takes memory."""

    name: str
    num_bytes: float
    why: str  # how the number comes about

    @property
    def gib(self) -> float:
        return self.num_bytes / GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a step is assumed to consist of, on average. Limits of the configuration bound memory; these, time."""

    image_tokens: int  # of a query, all its pages
    prompt_tokens: int  # of a query, image tokens included
    response_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is achieved of the peaks."""

    learner: float = 0.2  # of the GPU's operations in updates
    prefill: float = 0.4  # the same where engines read prompts
    decode: float = 0.5  # of the GPU's memory bandwidth where engines write responses
    link: float = 0.6  # of what GPUs are connected by
    network: float = 25.0  # GB/s of a node's connection to others, where the learner or a sync spans nodes


def total(items: list[Item]) -> float:
    return sum(item.num_bytes for item in items)


def count(number: float) -> str:
    """A number of parameters, readably."""
    return f"{number / 1e9:.2f} B" if number >= 1e8 else f"{number / 1e6:,.1f} M"
