"""What a benchmark reports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured number. `compared_with` says what the number stands beside, measured in the same run."""

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    compared_with: str
