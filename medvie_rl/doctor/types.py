"""What a check is, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; `fix`, a command to type or a setting to change, unless all is well."""

    status: Status
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "warn", "fail"):
            raise ValueError(f"status: expected ok, warn or fail, got {self.status!r}")
        if bool(self.fix) == (self.status == "ok"):
            raise ValueError(f"fix: what is not ok has one, and nothing else, got {self.fix!r} for {self.status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question, by the name that its line begins with; whatever `run` raises is a failure of this line only."""

    name: str
    run: Callable[[], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a check."""

    name: str
    finding: Finding
    seconds: float
