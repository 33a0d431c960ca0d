"""What an exported policy says of itself, so that extraction asks it exactly as training did.

A policy folder is a plain Hugging Face folder; beside it lie `medvie.json` (run, step, mode, engine settings, OCR) and
`prompt.yaml` (the prompt template, beside it those of its languages).
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medvie_rl.data.prompts import prompt_files
from medvie_rl.errors import UserError

CARD, PROMPT = "medvie.json", "prompt.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCard:
    """Where a policy comes from and how it wants to be asked."""

    run: str
    step: int
    reasoning: bool
    rollout: dict[str, Any] = field(default_factory=dict)  # settings of the engine that it was trained with
    ocr: dict[str, Any] = field(default_factory=dict)  # `mode` and `max_tokens` of the recognised text in its prompts

    def write(self, folder: Path, prompt: Path) -> None:
        """Write the card and a copy of the prompt template, with those of its languages, into a policy folder."""
        (folder / CARD).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        main, *others = prompt_files(prompt)
        shutil.copyfile(main, folder / PROMPT)
        for path in others:
            shutil.copyfile(path, folder / path.name)


def read_policy_card(folder: Path) -> PolicyCard | None:
    """The card of a policy folder, None for a plain Hugging Face folder; raises UserError if it is damaged."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return PolicyCard(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not a policy card ({error})") from error
