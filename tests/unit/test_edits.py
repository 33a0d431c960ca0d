"""What controlled edits of a prescription cost: a dose that could hurt somebody costs more than anything harmless."""

import json
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.edits import PRESCRIPTION, EditCost, edit_costs, edited, markdown_of
from rewards.reward import RewardConfig, score_response
from rewards.schema import load_schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = load_schema(ROOT / "conf/schemas/prescription.yaml")
HARMLESS = ("rows reversed", "a dose with its unit spelled out", "every letter in lower case")
VECTORS = ROOT.parent / "shared" / "metric_vectors.jsonl"


def _real_prescription() -> dict[str, Any]:
    if not VECTORS.is_file():
        pytest.skip(f"{VECTORS} is not here")
    pairs = map(json.loads, VECTORS.read_text(encoding="utf-8").splitlines())
    truth: dict[str, Any] = next(pair["gt"] for pair in pairs if pair["id"] == "edit_exact")
    return {**truth, "prescriber": "Jonas Weber", "facility": "Praxis am Markt"}  # two values of low weight


@pytest.fixture(scope="module", params=["ours", "real"])
def costs(request: pytest.FixtureRequest) -> dict[str, EditCost]:
    truth = dict(PRESCRIPTION) if request.param == "ours" else _real_prescription()
    return {cost.edit: cost for cost in edit_costs(SCHEMA, truth)}


@pytest.fixture(scope="module")
def shipped() -> list[EditCost]:
    return edit_costs(SCHEMA)


def test_a_swap_costs_as_much_as_two_inventions_and_more_than_two_light_values(costs: dict[str, EditCost]) -> None:
    swapped, invented = costs["quantities swapped between two drugs"], costs["two invented quantities"]
    light = costs["two wrong values of low weight"]
    assert 1 - swapped.f1 >= 1 - invented.f1 > 0
    assert swapped.weighted_f1 <= invented.weighted_f1
    assert 1 - swapped.weighted_f1 > 3 * (1 - light.weighted_f1) > 0
    assert swapped.reward < light.reward


def test_a_wrong_quantity_costs_more_than_letter_case(costs: dict[str, EditCost]) -> None:
    assert costs["every letter in lower case"].reward == 1.0
    assert costs["every letter in lower case"].f1 == 1.0
    assert costs["one wrong quantity"].reward < 0.97
    assert costs["one wrong quantity"].f1 < 1.0


def test_the_order_of_rows_costs_nothing(costs: dict[str, EditCost]) -> None:
    assert (costs["rows reversed"].reward, costs["rows reversed"].f1) == (1.0, 1.0)


def test_an_invented_row_costs_precision_only_and_a_dropped_one_recall_only(costs: dict[str, EditCost]) -> None:
    for name in ("an invented drug", "a drug given twice"):
        assert costs[name].recall == costs[name].weighted_recall == 1.0
        assert costs[name].precision < 0.9 and costs[name].weighted_precision < 0.9
    dropped = costs["a drug left out"]
    assert dropped.precision == dropped.weighted_precision == 1.0
    assert dropped.recall < 0.9 and dropped.weighted_recall < 0.9


def test_units_count_and_their_spelling_does_not(shipped: list[EditCost]) -> None:
    costs = {cost.edit: cost for cost in shipped}
    assert costs["a dose with its unit spelled out"].reward == 1.0
    assert costs["g for mg in a dose"].reward == costs["one digit of a dose lost"].reward < 0.97


def test_by_hand() -> None:
    """Ours has 5 leaves of weight 1, 2 of 0.5, 12 of 3 and 5 of 2; one quantity of weight 3 is wrong."""
    answer = edited(PRESCRIPTION)["one wrong quantity"]
    score = score_response(SCHEMA, SCHEMA.keys, PRESCRIPTION, json.dumps(answer), reasoning=False, truncated=False,
                           config=RewardConfig())  # fmt: skip
    weight = 5 * 1.0 + 2 * 0.5 + 12 * 3.0 + 5 * 2.0
    assert (score.counts.true, score.counts.correct, score.counts.wrong_value) == (24, 23, 1)
    assert score.weighted_precision == score.weighted_recall == pytest.approx(1 - 3 / weight)
    assert score.reward == pytest.approx(0.1 + 0.9 * (1 - 3 / weight))


def test_every_edit_applies_and_the_table_is_in_the_documentation(shipped: list[EditCost]) -> None:
    assert len(shipped) == 15 and shipped[0].reward == 1.0 and shipped[-1].f1 == 0.0
    assert all(cost.reward < 1.0 for cost in shipped[1:] if cost.edit not in HARMLESS)
    assert markdown_of(shipped) in (ROOT / "docs/reward.md").read_text(encoding="utf-8")
