"""How a policy wants to be asked, read from its folder: prompt, mode, engine settings and recognised text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvie_rl.data.ocr_prompt import OcrConfig, check_takes_ocr
from medvie_rl.data.prompts import PromptTemplate, load_prompt_template
from medvie_rl.errors import UserError
from medvie_rl.policy_card import CARD, PROMPT, PolicyCard, read_policy_card
from rollout.config import AnswerSampling, RolloutConfig

DEFAULT_PROMPT = Path("conf/prompts/qwen2_5_vl.yaml")


@dataclass
class EngineSettings(RolloutConfig):
    """What `--set` may change: the engine's settings, and how answers are sampled."""

    sampling: AnswerSampling = field(default_factory=AnswerSampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """All that asking a policy needs besides documents."""

    policy: Path
    prompt: Path
    template: PromptTemplate
    reasoning: bool
    ocr: OcrConfig
    engine: EngineSettings


def read_policy_settings(
    policy: Path,
    *,
    prompt: Path | None = None,
    default_prompt: Path | None = None,
    reasoning: bool | None = None,
    settings: Sequence[str] = (),
) -> PolicySettings:
    """The settings of a policy's card, or the defaults of a plain Hugging Face folder, which `default_prompt` is for.

    `prompt` and `reasoning`, where they are not None, and `settings` (key=value) go before what the card says. Raises
    UserError for what cannot be used.
    """
    if not policy.is_dir():
        raise UserError(
            f"{policy}: no such policy folder; a run keeps its best one in RUN_DIR/best, and `medvie export RUN_DIR "
            "--step N --out DIR` writes that of a checkpoint"
        )
    if not (policy / "config.json").is_file():
        raise UserError(
            f"{policy}: no policy folder, it has no config.json; name one in Hugging Face format, such as RUN_DIR/best"
        )
    card = read_policy_card(policy)
    path = prompt or (policy / PROMPT if card else default_prompt or DEFAULT_PROMPT)
    try:
        template, ocr = load_prompt_template(path), _ocr_settings(policy, card)
        if ocr.mode != "none":
            check_takes_ocr(path, template)
    except ValueError as error:
        raise UserError(str(error)) from error
    return PolicySettings(
        policy=policy,
        prompt=path,
        template=template,
        reasoning=reasoning if reasoning is not None else card.reasoning if card else True,
        ocr=ocr,
        engine=_engine_settings(card.rollout if card else {}, settings),
    )


def _ocr_settings(policy: Path, card: PolicyCard | None) -> OcrConfig:
    try:
        return OcrConfig(**card.ocr) if card else OcrConfig()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{policy / CARD}: 'ocr' is not what this version writes ({error})") from error


def _engine_settings(trained_with: Mapping[str, Any], overrides: Sequence[str]) -> EngineSettings:
    known = {item.name for item in fields(RolloutConfig)}
    base = {name: value for name, value in trained_with.items() if name in known}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(EngineSettings), base, OmegaConf.from_dotlist(list(overrides)))
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"--set: {str(error).splitlines()[0]}") from error
    assert isinstance(config, EngineSettings)
    return config
