"""The embedded policy says how it wants to be asked: as its recipe writes it, and as its configuration asks it."""

from pathlib import Path

from medvie_rl.config import load_config
from medvie_rl.nano.build import CARD, PROMPT
from medvie_rl.policy_card import CARD as CARD_FILE
from medvie_rl.policy_card import PROMPT as PROMPT_FILE
from medvie_rl.policy_settings import read_policy_settings

POLICY = Path("medvie_rl/nano/policy")


def test_the_shipped_card_and_prompt_are_those_that_the_recipe_writes(tmp_path: Path) -> None:
    CARD.write(tmp_path, PROMPT)
    for name in (CARD_FILE, PROMPT_FILE):
        assert (POLICY / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_it_is_asked_as_in_its_configuration() -> None:
    config, asked = load_config(Path("conf/local.yaml")), read_policy_settings(POLICY)
    assert asked.template.direct == "{keys}\n{ocr}json:"
    assert asked.reasoning == config.evaluation.reasoning
    for name in CARD.rollout:
        assert getattr(asked.engine, name) == getattr(config.rollout, name), name
