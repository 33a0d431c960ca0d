"""From images to JSON with a policy: `medvie extract`.

Every image gets one line, a JSON object with `id` (the file's name without its ending), `image` and `status`:

- `ok`: `fields` is what the policy answered, read strictly;
- `repaired`: the response was no clean JSON; `repairs` names what was done to it (the closed list of
  `rewards.repair`), `problem` says what was wrong with it, and `fields` is what was left. Someone should look;
- `unreadable`: the image could not be decoded;
- `too_long`: prompt and image do not fit the engine's settings, and were not asked;
- any other status of `rewards.types.AnswerStatus`: no answer could be taken out of `response`.

A line with fields may have a `problem` too: keys that were not asked for, or keys given several times.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvie_rl.data.ocr import OcrCache
from medvie_rl.data.ocr_prompt import OcrConfig, OcrPrompts, check_takes_ocr
from medvie_rl.data.prompts import PromptTemplate, load_prompt_template, render_chat
from medvie_rl.data.queries import stable_hash
from medvie_rl.data.store import describe_image
from medvie_rl.errors import UserError
from medvie_rl.grammar import policy_grammar
from medvie_rl.policy_card import CARD, PROMPT, PolicyCard, read_policy_card
from rewards.parsing import JsonObject
from rewards.repair import parse_tolerant
from rewards.schema import Schema, load_schema
from rewards.types import AnswerStatus
from rollout.config import AnswerSampling, RolloutConfig
from rollout.prompts import num_prompt_tokens
from rollout.types import FinishReason, GenerationRequest, Rollout

_DEFAULT_PROMPT = Path("conf/prompts/qwen2_5_vl.yaml")
_REPAIRED = "repaired"


class _Page(NamedTuple):
    path: Path
    key: str  # sha256 of `content`
    content: bytes
    size: tuple[int, int]  # width, height
    prompt: str = ""  # rendered, with the page's recognised text where the policy takes it


def extract(
    *,
    policy: Path,
    schema_path: Path,
    images: Sequence[Path],
    prompt_path: Path | None = None,
    reasoning: bool | None = None,
    language: str = "",
    out: Path | None = None,
    constrained: bool = True,
    settings: Sequence[str] = (),
) -> int:
    """Write one line an image, failures first; see the module for what is on it.

    Prompt, mode and engine settings are those the policy was trained with unless named, recognised text goes into the
    prompts as it did in training; `language` (ISO 639-1) picks the prompt's file. Answers follow the schema's grammar
    unless not `constrained`. Returns 0, or 3 if any image's status is not `ok`. Raises UserError for a policy, schema,
    prompt or setting that cannot be used.
    """
    if not policy.is_dir():
        raise UserError(f"{policy}: no such policy folder; a run keeps its best one in RUN_DIR/best")
    card = read_policy_card(policy)
    prompt_path = prompt_path or (policy / PROMPT if card else _DEFAULT_PROMPT)
    try:
        schema, template = load_schema(schema_path), load_prompt_template(prompt_path)
        ocr = _ocr_settings(policy, card)
        if ocr.mode != "none":
            check_takes_ocr(prompt_path, template)
    except ValueError as error:
        raise UserError(str(error)) from error
    config = _engine_settings(card.rollout if card else {}, settings)
    mode = reasoning if reasoning is not None else (card.reasoning if card else True)

    pages, lines = _read_images(images)
    if pages:
        answered, too_long = _generate(
            policy, config, _Question(template, schema, mode, language, ocr, constrained), pages
        )
        lines += [*too_long, *(_line(page.path, schema, rollout, reasoning=mode) for page, rollout in answered)]
    has_all_signs = out is not None or (sys.stdout.encoding or "").lower().startswith("utf")
    output = "".join(json.dumps(line, ensure_ascii=not has_all_signs) + "\n" for line in lines)
    if out is None:
        sys.stdout.write(output)
    else:
        out.write_text(output, encoding="utf-8")
    return 0 if all(line["status"] == AnswerStatus.OK for line in lines) else 3


class _Question(NamedTuple):
    """What is asked of every page."""

    template: PromptTemplate
    schema: Schema
    reasoning: bool
    language: str
    ocr: OcrConfig
    constrained: bool

    def grammar(self, processor: Any, max_response_tokens: int) -> str:
        """What an answer must follow; empty for whatever the policy writes."""
        if not self.constrained:
            return ""
        return policy_grammar(
            processor.tokenizer,
            self.schema,
            self.schema.keys,
            reasoning=self.reasoning,
            max_response_tokens=max_response_tokens,
        )


@dataclass
class _Settings(RolloutConfig):
    """What --set may change: the engine's settings and how answers are sampled."""

    sampling: AnswerSampling = field(default_factory=AnswerSampling)


def _generate(
    policy: Path, config: _Settings, question: _Question, pages: Sequence[_Page]
) -> tuple[list[tuple[_Page, Rollout]], list[dict[str, Any]]]:
    """The pages with the policy's response, and the lines of those that are too long to be asked."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(policy)
    try:
        asked = _with_prompts(processor, question, pages)
        fitting, too_long = _split_by_length(processor, config, asked)
        grammar = question.grammar(processor, config.max_response_tokens)
        rollouts = _sample(policy, config, fitting, grammar) if fitting else []
    except ValueError as error:
        raise UserError(str(error)) from error
    return list(zip(fitting, rollouts, strict=True)), too_long


def _with_prompts(processor: Any, question: _Question, pages: Sequence[_Page]) -> list[_Page]:
    """The pages with their prompts; what the budget of recognised text left out is said on standard error."""
    template, schema, reasoning, language, config, _ = question
    ocr = OcrPrompts(config, processor.tokenizer, None if config.mode == "none" else OcrCache(None))
    asked = []
    for page in pages:
        lines = ocr.lines_of_image(page.key, page.content)
        text = template.user_text(schema, schema.keys, reasoning=reasoning, ocr=lines, language=language)
        asked.append(page._replace(prompt=render_chat(processor, text)))
    if note := ocr.note():
        print(note, file=sys.stderr)
    return asked


def _split_by_length(
    processor: Any, config: RolloutConfig, pages: Sequence[_Page]
) -> tuple[list[_Page], list[dict[str, Any]]]:
    """The pages whose prompt leaves room for the response, and a line for each of the others."""
    limit = config.max_model_len - config.max_response_tokens
    fitting, too_long = [], []
    for page in pages:
        width, height = page.size
        num_tokens = num_prompt_tokens(processor, page.prompt, [(height, width)])
        if num_tokens <= limit:
            fitting.append(page)
            continue
        problem = (
            f"the prompt has {num_tokens} tokens, image included; max_model_len {config.max_model_len} minus "
            f"max_response_tokens {config.max_response_tokens} leaves {limit}. Raise it with --set max_model_len=N, "
            "or use a smaller image"
        )
        too_long.append(_identity(page.path) | {"status": "too_long", "problem": problem})
    return fitting, too_long


def _sample(policy: Path, config: _Settings, pages: Sequence[_Page], grammar: str) -> list[Rollout]:
    from rollout.worker import RolloutWorker

    worker = RolloutWorker(config, str(policy))
    worker.add_images({page.key: page.content for page in pages})
    requests = [
        GenerationRequest(
            query_id=str(page.path),
            prompt=page.prompt,
            image_keys=(page.key,),
            num_traces=1,
            seed=stable_hash("extract", config.seed, page.key),
            weight_version=0,
            answer=config.sampling,
            grammar=grammar,
        )
        for page in pages
    ]
    return [group.rollouts[0] for group in worker.generate(requests)]


def _line(path: Path, schema: Schema, rollout: Rollout, *, reasoning: bool) -> dict[str, Any]:
    truncated = rollout.finish_reason is FinishReason.LENGTH
    parsed = parse_tolerant(rollout.text, reasoning=reasoning, truncated=truncated)
    status = _REPAIRED if parsed.repairs else parsed.status.value
    line = _identity(path) | {"document_type": schema.document_type, "status": status}
    if parsed.answer is None:
        return line | {"problem": parsed.detail, "response": rollout.text}
    problems = [f"{parsed.status.value}: {parsed.detail}"] if parsed.repairs else []
    if unknown := [key for key in parsed.answer if key not in schema.keys]:
        problems.append(f"keys that were not asked for were left out: {unknown}")
    if repeated := _repeated_keys(parsed.answer):
        problems.append(f"keys were given several times, of which the first is kept: {repeated}")
    line["fields"] = {key: value for key, value in parsed.answer.items() if key in schema.keys}
    if parsed.repairs:
        line["repairs"] = list(parsed.repairs)
    return line | ({"problem": "; ".join(problems)} if problems else {})


def _identity(path: Path) -> dict[str, Any]:
    return {"id": path.stem, "image": str(path)}


def _repeated_keys(value: Any) -> list[str]:
    """The keys that an object anywhere inside `value` has more than once, each named once."""
    if isinstance(value, JsonObject):
        own, inner = [key for key, _ in value.repeated], list(value.values())
    else:
        own, inner = [], value if isinstance(value, list) else []
    return list(dict.fromkeys([*own, *(key for item in inner for key in _repeated_keys(item))]))


def _read_images(paths: Sequence[Path]) -> tuple[list[_Page], list[dict[str, Any]]]:
    """The pages that can be decoded, and a line for each of the others."""
    pages, unreadable = [], []
    for path in paths:
        try:
            content = path.read_bytes()
            key, size = describe_image(content)
        except (OSError, ValueError) as error:
            unreadable.append(_identity(path) | {"status": "unreadable", "problem": str(error)})
            continue
        pages.append(_Page(path, key, content, size))
    return pages, unreadable


def _ocr_settings(policy: Path, card: PolicyCard | None) -> OcrConfig:
    """Which recognised text the policy was trained with; none where its folder does not say."""
    try:
        return OcrConfig(**card.ocr) if card else OcrConfig()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{policy / CARD}: 'ocr' is not what this version writes ({error})") from error


def _engine_settings(trained_with: dict[str, Any], overrides: Sequence[str]) -> _Settings:
    known = {item.name for item in fields(RolloutConfig)}
    base = {name: value for name, value in trained_with.items() if name in known}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(_Settings), base, OmegaConf.from_dotlist(list(overrides)))
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"--set: {str(error).splitlines()[0]}") from error
    assert isinstance(config, _Settings)
    return config
