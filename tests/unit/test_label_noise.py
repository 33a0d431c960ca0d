"""Annotations made wrong on purpose: as much as asked for, in the ways asked for, and still fitting their schema."""

import random
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.label_noise import NOISE_KINDS, noisy_annotation
from medvie_rl.data.synthetic import draw_slips
from rewards.schema import load_schema

SCHEMAS = Path(__file__).parents[2] / "conf" / "schemas"
PRESCRIPTION = load_schema(SCHEMAS / "prescription.yaml")
VISIT = load_schema(SCHEMAS / "visit_slip.yaml")


def made_wrong(annotation: dict[str, Any], *kinds: str, schema: Any = VISIT, share: float = 1.0, seed: int = 0) -> Any:
    return noisy_annotation(annotation, schema, share=share, kinds=kinds, rng=random.Random(seed))


def test_a_wrong_digit_is_one_other_digit_and_the_value_still_reads() -> None:
    for seed in range(50):
        wrong = made_wrong({"age": "47", "date": "2020-12-31", "patient": "Ana Silva"}, "digit", seed=seed)
        for key, true in {"age": "47", "date": "2020-12-31"}.items():
            assert sum(a != b for a, b in zip(wrong[key], true, strict=True)) == 1
        assert wrong["patient"] == "Ana Silva", "a name has no digit"
        assert VISIT.validate_annotation(wrong) == []


def test_rows_exchange_cells_of_the_same_column() -> None:
    table = next(spec for spec in PRESCRIPTION.fields if spec.kind == "table")
    names = [column.key for column in table.columns if column.kind == "quantity"][:1]
    rows = [{names[0]: "400 mg"}, {names[0]: "15 mg"}]
    wrong = noisy_annotation({table.key: rows}, PRESCRIPTION, share=0.5, kinds=["swapped"], rng=random.Random(3))
    assert sorted(row[names[0]] for row in wrong[table.key]) == ["15 mg", "400 mg"]
    assert wrong[table.key] != rows and rows == [{names[0]: "400 mg"}, {names[0]: "15 mg"}], "the truth is untouched"


def test_plain_values_exchange_with_their_kind_only() -> None:
    annotation = {"patient": "Ana Silva", "doctor": "Hugo Berg", "age": "47", "diagnosis": "Asthma"}
    wrong = made_wrong(annotation, "swapped", share=0.5, seed=2)
    assert {wrong["patient"], wrong["doctor"]} == {"Ana Silva", "Hugo Berg"}
    assert (wrong["age"], wrong["diagnosis"]) == ("47", "Asthma")


def test_missing_leaves_out_keys_cells_and_items() -> None:
    assert made_wrong({"age": "47", "sex": "male"}, "missing") == {}
    assert made_wrong({"rows": [{"a": "1"}, {"a": "2"}], "many": ["x", "y"]}, "missing") == {
        "rows": [{}, {}],
        "many": [],
    }


def test_the_share_is_that_of_the_values_and_the_seed_decides() -> None:
    slips = [slip for slip in draw_slips("train", 400) if slip.schema == "visit_slip"]
    num = sum(len(slip.annotation) for slip in slips)

    def wrong(seed: int) -> list[dict[str, Any]]:
        rng = random.Random(seed)
        return [noisy_annotation(slip.annotation, VISIT, share=0.2, kinds=["missing"], rng=rng) for slip in slips]

    gone = num - sum(map(len, wrong(1)))
    assert abs(gone / num - 0.2) < 0.05
    assert wrong(1) == wrong(1) != wrong(2)
    assert [made_wrong(slip.annotation, *NOISE_KINDS, share=0.0) for slip in slips] == [
        slip.annotation for slip in slips
    ]


def test_all_kinds_of_noise_fit_the_schema() -> None:
    for slip in draw_slips("train", 60):
        schema = load_schema(SCHEMAS / f"{slip.schema}.yaml")
        wrong = made_wrong(slip.annotation, *NOISE_KINDS, schema=schema, share=0.5)
        assert schema.validate_annotation(wrong) == []


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'typo'; there are digit, swapped, missing"):
        made_wrong({"age": "4"}, "typo")
