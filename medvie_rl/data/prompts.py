"""Turns the keys of a query into the text of a prompt. The only place where prompts are rendered.

A prompt file of `conf/prompts/` has the entries `key_line`, `table_line`, `column`, `reasoning` and `direct`, and may
have `ocr_block`, `ocr_line` and `languages`:

    languages: {zh: qwen2_5_vl_zh.yaml, vi: qwen2_5_vl_vi.yaml}

names prompt files of the same folder for documents in other languages than that of the file itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from rewards.schema import FieldSpec, Schema

_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A prompt file. `{key}`, `{description}` and `{columns}` are filled into lines, `{keys}` and `{ocr}` into texts.

    Where lines of recognised text are given, each makes an `ocr_line` with its `{text}`, these are the `{lines}` of
    `ocr_block`, and that goes to `{ocr}`; without any, nothing does. `languages` are the templates by language.
    """

    key_line: str
    table_line: str
    column: str
    reasoning: str
    direct: str
    ocr_line: str = "{text}"
    ocr_block: str = ""
    languages: Mapping[str, "PromptTemplate"] = field(default_factory=dict)

    @property
    def takes_ocr(self) -> bool:
        """Whether recognised text has a place in this prompt."""
        return bool(self.ocr_block)

    def user_text(
        self,
        schema: Schema,
        keys: Sequence[str],
        *,
        reasoning: bool,
        ocr: Sequence[str] = (),
        columns: Mapping[str, Sequence[str]] | None = None,
        descriptions: Mapping[str, str] | None = None,
        language: str = "",
    ) -> str:
        """The user's turn: the asked keys in the given order, each with its description.

        `columns` names the asked columns of tables that are asked in part; `descriptions` take the place of the
        schema's, by key and by `table.column`; `language` (ISO 639-1, such as "zh" or "zh-CN") picks the template.
        Raises ValueError for lines of recognised text where the template has no place for them.
        """
        template = self.in_language(language)
        if ocr and not template.takes_ocr:
            raise ValueError(
                "the prompt has no place for recognised text: add the entry 'ocr_block' to the prompt file, and the "
                "place {ocr} to 'reasoning' and 'direct', as in conf/prompts/qwen2_5_vl.yaml"
            )
        asked, words = columns or {}, descriptions or {}
        lines = [template._line(schema.field(key), asked.get(key), words) for key in keys]
        text = template.reasoning if reasoning else template.direct
        return _fill(text, keys="\n".join(lines), ocr=template._ocr(ocr))

    def in_language(self, language: str) -> "PromptTemplate":
        """The template for documents in a language, else that of the language without its region, else this one."""
        code = language.lower().replace("_", "-")
        return self.languages.get(code) or self.languages.get(code.split("-")[0]) or self

    def _line(self, spec: FieldSpec, asked: Sequence[str] | None, words: Mapping[str, str]) -> str:
        description = words.get(spec.key, spec.description)
        if not spec.columns:
            return _fill(self.key_line, key=spec.key, description=description)
        columns = ", ".join(
            _fill(self.column, key=column.key, description=words.get(f"{spec.key}.{column.key}", column.description))
            for column in spec.columns
            if asked is None or column.key in asked
        )
        return _fill(self.table_line, key=spec.key, description=description, columns=columns)

    def _ocr(self, lines: Sequence[str]) -> str:
        texts = [_fill(self.ocr_line, text=" ".join(line.split())) for line in lines]
        return _fill(self.ocr_block, lines="\n".join(texts)) if texts else ""


def load_prompt_template(path: Path) -> PromptTemplate:
    """Read a prompt file and those of its languages; raises ValueError naming the file and what is wrong with it."""
    content = _read(path)
    languages = content.pop("languages", {})
    others = {
        code.lower(): PromptTemplate(**_texts(path.parent / name, _read(path.parent / name)))
        for code, name in _language_files(path, languages).items()
    }
    return PromptTemplate(**_texts(path, content), languages=others)


def prompt_files(path: Path) -> tuple[Path, ...]:
    """A prompt file and the files of its languages, all in one folder: what a copy of the prompt consists of."""
    languages = _language_files(path, _read(path).get("languages", {}))
    return (path, *(path.parent / name for name in dict.fromkeys(languages.values())))


def render_chat(processor: Any, user_text: str, *, num_images: int = 1) -> str:
    """The full prompt, by the chat template of the policy's processor, images before the text.

    The generation prompt is included; each image is one placeholder, which engine and learner expand alike.
    """
    content = [{"type": "image"} for _ in range(num_images)] + [{"type": "text", "text": user_text}]
    rendered: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return rendered


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such prompt file; the ones shipped are in conf/prompts/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    entries = {item.name for item in fields(PromptTemplate)}
    required = {item.name for item in fields(PromptTemplate) if item.default is item.default_factory is MISSING}
    if not isinstance(content, dict) or not required <= set(content) <= entries:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        optional = sorted(entries - required)
        raise ValueError(f"{path}: expected the entries {sorted(required)} and perhaps {optional}, got {found}")
    return content


def _texts(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    if "languages" in content:
        raise ValueError(f"{path}: this is the prompt of one language; only the main prompt file has 'languages'")
    texts = {name: str(text) for name, text in content.items()}
    for mode in ("reasoning", "direct"):
        if "{keys}" not in texts[mode]:
            raise ValueError(f"{path}: '{mode}' must contain {{keys}}, the place where the asked keys go")
        if ("{ocr}" in texts[mode]) != bool(texts.get("ocr_block")):
            raise ValueError(f"{path}: '{mode}' must contain {{ocr}} where there is an 'ocr_block', and only there")
    for name, place in (("ocr_block", "{lines}"), ("ocr_line", "{text}")):
        if texts.get(name) and place not in texts[name]:
            raise ValueError(f"{path}: '{name}' must contain {place}, the place where recognised text goes")
    return texts


def _language_files(path: Path, languages: Any) -> dict[str, str]:
    if not isinstance(languages, dict):
        raise ValueError(f"{path}: 'languages' must map language codes to prompt files, got {languages!r}")
    for code, name in languages.items():
        if not isinstance(code, str) or not isinstance(name, str) or Path(name).name != name or path.name == name:
            raise ValueError(
                f"{path}: 'languages' must map language codes to other prompt files of the same folder, such as "
                f"{{zh: qwen2_5_vl_zh.yaml}}, got {code!r}: {name!r} (put the code 'no' in quotes)"
            )
    return languages


def _fill(template: str, **values: str) -> str:
    """Fill the places in one pass, so that nothing that is filled in is taken for a place."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), template)
