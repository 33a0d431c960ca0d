"""What is evaluated: systems as they are named on the command line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvie_rl.errors import UserError

OCR = "ocr"
_MODES = {"reasoning": True, "direct": False}
_NAME = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """A system by its name. Without a policy it is the OCR baseline; `reasoning` None is as the policy was trained."""

    name: str
    policy: Path | None
    reasoning: bool | None = None


def parse_systems(texts: Sequence[str]) -> list[SystemSpec]:
    """Systems of `NAME=POLICY`, `NAME=POLICY:direct`, `NAME=POLICY:reasoning`, `NAME=ocr` and `ocr`.

    Raises UserError for what reads as none of these, and for a name given twice.
    """
    systems = [_system(text) for text in texts]
    names = [system.name.casefold() for system in systems]  # they name files
    for system in systems:
        if names.count(system.name.casefold()) > 1:
            raise UserError(f"--system {system.name}: this name is given twice; every system needs its own")
    return systems


def _system(text: str) -> SystemSpec:
    name, equals, what = text.partition("=")
    if text == OCR:
        name, what = OCR, OCR
    elif not equals or not what:
        raise UserError(
            f"--system {text}: expected NAME=POLICY_FOLDER, such as rl=runs/RUN/best or rl=runs/RUN/best:direct, or ocr"
        )
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--system {text}: the name {name!r} must be up to 64 letters, digits, '_', '-' and '.', for it names files"
        )
    if what == OCR:
        return SystemSpec(name=name, policy=None)
    path, colon, mode = what.rpartition(":")
    if colon and mode in _MODES:
        return SystemSpec(name=name, policy=Path(path), reasoning=_MODES[mode])
    return SystemSpec(name=name, policy=Path(what))
