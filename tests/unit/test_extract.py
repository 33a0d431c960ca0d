"""The lines that `medvie extract` writes, as far as they need no engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.store import open_split
from medvie_rl.errors import UserError
from medvie_rl.extract import _line, extract
from rewards.schema import FieldSpec, Schema
from rollout.types import FinishReason, Rollout

ROOT = Path(__file__).parents[2]
SCHEMA = Schema(
    name="slip",
    document_type="visit slip",
    description="slip",
    fields=(
        FieldSpec(key="name", description="name", kind="person_name"),
        FieldSpec(key="dose", description="dose", kind="text"),
    ),
)


def line(text: str, finish_reason: FinishReason = FinishReason.STOP) -> dict[str, Any]:
    rollout = Rollout(text=text, token_ids=(), logprobs=(), finish_reason=finish_reason, weight_version=0)
    made = _line(Path("scans/a.1.png"), SCHEMA, rollout, reasoning=False)
    shared = {"id": "a.1", "image": "scans/a.1.png", "document_type": "visit slip"}
    assert {name: made.pop(name) for name in shared} == shared
    return made


def test_a_clean_answer_has_no_problem() -> None:
    assert line('{"name": "Ana"}') == {"status": "ok", "fields": {"name": "Ana"}}


def test_a_repaired_answer_says_what_was_wrong_and_what_was_done() -> None:
    made = line('{"name": "Ana", "dose": "50', FinishReason.LENGTH)
    assert made.pop("problem").startswith("truncated: Unterminated string")
    assert made == {
        "status": "repaired",
        "fields": {"name": "Ana"},
        "repairs": ["open brackets closed", "incomplete value dropped: dose"],
    }


def test_an_answer_beyond_repair_is_shown_as_it_is() -> None:
    made = line("{'name': 'Ana'}")
    assert made.pop("problem").startswith("Expecting property name")
    assert made == {"status": "invalid_json", "response": "{'name': 'Ana'}"}


def test_what_is_left_out_of_an_answer_is_named() -> None:
    made = line('{"name": "Ana", "room": [{"dose": 1, "dose": 2}], "name": "Eva"}')
    assert made == {
        "status": "ok",
        "fields": {"name": "Ana"},
        "problem": "keys that were not asked for were left out: ['room']; "
        "keys were given several times, of which the first is kept: ['name', 'dose']",
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("top_p=0.9", "--set: Key 'top_p' not in"),
        ("sampling.top_p=0.9", "--set: sampling.top_p says which tokens are sampled, but at sampling.temperature 0"),
        ("sampling.temperature=3", "--set: sampling.temperature must be in"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        extract(
            policy=ROOT / "medvie_rl/nano/policy",
            schema_path=ROOT / "conf/schemas/visit_slip.yaml",
            images=[],
            settings=[setting],
        )
    assert str(caught.value).startswith(message)


def test_images_that_cannot_be_asked_get_their_own_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = open_split(ROOT / "medvie_rl/nano/slips", "test")
    document = test.documents[0]
    image, broken = tmp_path / "slip.png", tmp_path / "broken.png"
    image.write_bytes(next(iter(test.images(document).values())))
    broken.write_bytes(b"no image")
    code = extract(
        policy=ROOT / "medvie_rl/nano/policy",
        schema_path=ROOT / "conf/schemas" / f"{document.schema}.yaml",
        images=[image, broken],
        settings=["max_model_len=40", "max_response_tokens=32"],
    )
    unreadable, too_long = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (code, unreadable["id"], unreadable["status"]) == (3, "broken", "unreadable")
    assert (too_long["id"], too_long["image"], too_long["status"]) == ("slip", str(image), "too_long")
    assert "image included; max_model_len 40 minus max_response_tokens 32 leaves 8." in too_long["problem"]
