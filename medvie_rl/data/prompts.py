"""Turns the keys of a query into the text of a prompt. The only place where prompts are rendered."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from rewards.schema import FieldSpec, Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A prompt file of `conf/prompts/`. `{keys}`, `{key}`, `{description}` and `{columns}` are filled in."""

    key_line: str
    table_line: str
    column: str
    reasoning: str
    direct: str

    def user_text(self, schema: Schema, keys: Sequence[str], *, reasoning: bool) -> str:
        """The user's turn: the asked keys in the given order, each with its description."""
        lines = "\n".join(self._line(schema.field(key)) for key in keys)
        return (self.reasoning if reasoning else self.direct).replace("{keys}", lines)

    def _line(self, field: FieldSpec) -> str:
        if not field.columns:
            return _fill(self.key_line, field)
        columns = ", ".join(_fill(self.column, column) for column in field.columns)
        return _fill(self.table_line, field).replace("{columns}", columns)


def load_prompt_template(path: Path) -> PromptTemplate:
    """Read a prompt file; raises ValueError naming the file and the missing or unknown entries."""
    if not path.is_file():
        raise ValueError(f"{path}: no such prompt file; the ones shipped are in conf/prompts/")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    expected = {field.name for field in fields(PromptTemplate)}
    if not isinstance(content, dict) or set(content) != expected:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected the entries {sorted(expected)}, got {found}")
    for mode in ("reasoning", "direct"):
        if "{keys}" not in content[mode]:
            raise ValueError(f"{path}: '{mode}' must contain {{keys}}, the place where the asked keys go")
    return PromptTemplate(**{name: str(text) for name, text in content.items()})


def render_chat(processor: Any, user_text: str, *, num_images: int = 1) -> str:
    """The full prompt, by the chat template of the policy's processor, images before the text.

    The generation prompt is included; each image is one placeholder, which engine and learner expand alike.
    """
    content = [{"type": "image"} for _ in range(num_images)] + [{"type": "text", "text": user_text}]
    rendered: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return rendered


def _fill(template: str, field: FieldSpec) -> str:
    return template.replace("{key}", field.key).replace("{description}", field.description)
