"""From images to JSON with a policy: `medvie extract`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvie_rl.data.prompts import load_prompt_template, render_chat
from medvie_rl.data.store import describe_image
from medvie_rl.errors import UserError
from medvie_rl.policy_card import PROMPT, read_policy_card
from rewards.parsing import parse_response
from rewards.schema import Schema, load_schema
from rewards.types import AnswerStatus
from rollout.config import RolloutConfig
from rollout.types import FinishReason, GenerationRequest, Rollout

_DEFAULT_PROMPT = Path("conf/prompts/qwen2_5_vl.yaml")


def extract(
    *,
    policy: Path,
    schema_path: Path,
    images: Sequence[Path],
    prompt_path: Path | None = None,
    reasoning: bool | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
) -> int:
    """Write one JSON object an image: `image`, `document_type`, `fields`, `status` and, unless all is well, `problem`.

    Prompt, mode and engine settings are those the policy was trained with unless named. A response without valid JSON
    has a `status` that says so and no fields; nothing is guessed. Returns 0, or 3 if any image or answer failed.
    """
    if not policy.is_dir():
        raise UserError(f"{policy}: no such policy folder; a run keeps its best one in RUN_DIR/best")
    card = read_policy_card(policy)
    prompt_path = prompt_path or (policy / PROMPT if card else _DEFAULT_PROMPT)
    try:
        schema, template = load_schema(schema_path), load_prompt_template(prompt_path)
    except ValueError as error:
        raise UserError(str(error)) from error
    config = _engine_settings(card.rollout if card else {}, settings)
    mode = reasoning if reasoning is not None else (card.reasoning if card else True)

    readable, failed = _read_images(images)
    lines = [{"image": str(path), "status": "unreadable", "problem": problem} for path, problem in failed]
    if readable:
        text = template.user_text(schema, schema.keys, reasoning=mode)
        rollouts = _generate(policy, config, text, [(key, content) for _, key, content in readable])
        lines += [
            _line(path, schema, rollout, reasoning=mode)
            for (path, _, _), rollout in zip(readable, rollouts, strict=True)
        ]
    output = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    if out is None:
        sys.stdout.write(output)
    else:
        out.write_text(output, encoding="utf-8")
    return 0 if all(line["status"] == AnswerStatus.OK for line in lines) else 3


def _generate(policy: Path, config: RolloutConfig, text: str, images: list[tuple[str, bytes]]) -> list[Rollout]:
    from transformers import AutoProcessor

    from rollout.worker import RolloutWorker

    prompt = render_chat(AutoProcessor.from_pretrained(policy), text)
    worker = RolloutWorker(config, str(policy))
    worker.add_images(dict(images))
    requests = [
        GenerationRequest(query_id=str(index), prompt=prompt, image_keys=(key,), num_traces=1, seed=0, greedy=True)
        for index, (key, _) in enumerate(images)
    ]
    try:
        return [group.rollouts[0] for group in worker.generate(requests)]
    except ValueError as error:
        raise UserError(str(error)) from error


def _line(path: Path, schema: Schema, rollout: Rollout, *, reasoning: bool) -> dict[str, Any]:
    truncated = rollout.finish_reason is FinishReason.LENGTH
    parsed = parse_response(rollout.text, reasoning=reasoning, truncated=truncated)
    line: dict[str, Any] = {"image": str(path), "document_type": schema.document_type, "status": parsed.status.value}
    if parsed.answer is None:
        return line | {"problem": parsed.detail, "response": rollout.text}
    unknown = [key for key in parsed.answer if key not in schema.keys]
    line["fields"] = {key: value for key, value in parsed.answer.items() if key in schema.keys}
    return line | ({"problem": f"keys that were not asked for were left out: {unknown}"} if unknown else {})


def _read_images(paths: Sequence[Path]) -> tuple[list[tuple[Path, str, bytes]], list[tuple[Path, str]]]:
    readable, failed = [], []
    for path in paths:
        try:
            content = path.read_bytes()
            key, _ = describe_image(content)
        except (OSError, ValueError) as error:
            failed.append((path, str(error)))
            continue
        readable.append((path, key, content))
    return readable, failed


def _engine_settings(trained_with: dict[str, Any], overrides: Sequence[str]) -> RolloutConfig:
    known = {item.name for item in fields(RolloutConfig)}
    base = {name: value for name, value in trained_with.items() if name in known}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RolloutConfig), base, OmegaConf.from_dotlist(list(overrides)))
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"--set: {str(error).splitlines()[0]}") from error
    assert isinstance(config, RolloutConfig)
    return config
