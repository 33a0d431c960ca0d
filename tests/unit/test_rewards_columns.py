"""Tables asked by some of their columns: the others are not asked for, neither missed nor earned."""

import json
from typing import Any

import pytest

from rewards.config import RewardConfig
from rewards.schema import FieldSpec, Schema
from rewards.scorer import Scorer
from rewards.types import LeafOutcome, Score, ScoreRequest

SCHEMA = Schema(
    name="slip", document_type="slip", description="a slip",
    fields=(
        FieldSpec(key="patient", description="full name", kind="person_name"),
        FieldSpec(
            key="drugs", description="every drug", kind="table", row_keys=("name", "form"), weight=2.0,
            columns=(
                FieldSpec(key="name", description="name", kind="text"),
                FieldSpec(key="form", description="form", kind="text"),
                FieldSpec(key="dose", description="dose", kind="quantity", weight=3.0),
                FieldSpec(key="route", description="route", kind="text"),
            ),
        ),
    ),
)  # fmt: skip
TRUTH = {
    "patient": "Ana Silva",
    "drugs": [
        {"name": "Amlodipine", "form": "tablet", "dose": "5 mg", "route": "oral"},
        {"name": "Metformin", "form": "tablet", "dose": "850 mg", "route": "oral"},
        {"name": "Heparin", "form": "syringe", "route": "subcutaneous"},
    ],
}


def score(answer: Any, columns: dict[str, tuple[str, ...]], scorer: Scorer | None = None) -> Score:
    request = ScoreRequest(
        query_id="q", document_id="d", schema="slip", asked=("drugs",), truth=TRUTH, response=json.dumps(answer),
        reasoning=False, truncated=False, columns=columns,
    )  # fmt: skip
    return (scorer or Scorer(RewardConfig(), {"slip": SCHEMA})).score(request)


def rows(*columns: str) -> list[dict[str, str]]:
    return [{name: row[name] for name in columns if name in row} for row in TRUTH["drugs"]]  # type: ignore[index,misc]


PART = {"drugs": ("name", "form", "dose")}


def test_the_asked_columns_alone_are_the_whole_truth() -> None:
    result = score({"drugs": rows("name", "form", "dose")}, PART)
    assert (result.reward, result.counts.correct, result.counts.true) == (1.0, 8, 8)
    assert {leaf.key for leaf in result.leaves} == {"drugs.name", "drugs.form", "drugs.dose"}
    assert {leaf.weight for leaf in result.leaves if leaf.key == "drugs.dose"} == {6.0}
    whole = score({"drugs": rows("name", "form", "dose")}, {})
    assert (whole.counts.omitted, whole.counts.true, whole.reward < 1) == (3, 11, True)


def test_what_was_not_asked_for_is_hallucinated_even_if_it_is_true() -> None:
    result = score({"drugs": rows("name", "form", "dose", "route")}, PART)
    assert (result.counts.correct, result.counts.hallucinated, result.counts.omitted) == (8, 3, 0)
    assert result.recall == 1.0 and result.precision == 8 / 11
    unasked = [leaf for leaf in result.leaves if leaf.outcome is LeafOutcome.HALLUCINATED]
    assert {leaf.answered for leaf in unasked} == {"oral", "subcutaneous"} and all(leaf.weight > 0 for leaf in unasked)


def test_a_value_is_not_misassociated_with_a_column_that_was_not_asked_for() -> None:
    result = score({"drugs": [rows("name", "form")[0] | {"dose": "oral"}, *rows("name", "form", "dose")[1:]]}, PART)
    assert (result.counts.misread, result.counts.misassociated) == (1, 0)


def test_rows_without_any_asked_value_count_as_not_there() -> None:
    result = score({}, {"drugs": ("dose",)})
    assert (result.counts.omitted, result.counts.true) == (2, 2)
    assert score({"drugs": rows("dose")}, {"drugs": ("dose",)}).reward == 1.0


def test_restricted_schemas_are_kept_and_do_not_touch_the_whole_one() -> None:
    scorer = Scorer(RewardConfig(), {"slip": SCHEMA})
    for _ in range(2):
        assert score({"drugs": rows("name", "form", "dose")}, PART, scorer).reward == 1.0
        assert score({"drugs": rows("name", "route")}, {"drugs": ("name", "route")}, scorer).reward == 1.0
        assert score({"drugs": TRUTH["drugs"]}, {}, scorer).reward == 1.0
    restricted = SCHEMA.restricted({"drugs": ("route", "form")}).field("drugs")
    assert ([column.key for column in restricted.columns], restricted.row_keys) == (["form", "route"], ("form",))
    assert SCHEMA.restricted({}) == SCHEMA


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"drugs": ("name", "doses")},
            "'columns' must be one of name, form, dose, route, got 'doses'; did",
        ),
        ({"drugs": ()}, "key 'drugs': 'columns' belong to kind table .* with 0 columns"),
        ({"patient": ("name",)}, "key 'patient': only a table has columns, got kind 'person_name'"),
        ({"drug": ("name",)}, "has no key 'drug'; did you mean 'drugs'"),
    ],
)
def test_columns_that_are_not_there_are_a_defect(columns: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        score({}, columns)
