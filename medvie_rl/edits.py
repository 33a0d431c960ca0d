"""What controlled edits of one prescription cost, under our reward and under the field's metrics."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from medvie_rl.errors import UserError
from rewards.published import anls_star, donut_f1, donut_nted_accuracy
from rewards.reward import RewardConfig, score_response
from rewards.schema import Schema

Fields = dict[str, Any]

# Of nobody: the names and the numbers are made up.
PRESCRIPTION: Mapping[str, Any] = {
    "patient": "Mara Lindqvist",
    "birth_date": "14/05/1961",
    "date": "03/09/2024",
    "prescriber": "Jonas Weber",
    "facility": "Praxis am Markt",
    "diagnosis": ["Essential hypertension", "Type 2 diabetes"],
    "medicines": [
        {"name": "Amlodipine", "dose": "5 mg", "quantity": "30 tablets", "usage": ["1 in the morning"]},
        {"name": "Metformin", "dose": "850 mg", "quantity": "60 tablets", "usage": ["1 in the morning", "1 at night"]},
        {"name": "Atorvastatin", "dose": "20 mg", "quantity": "28 tablets", "usage": ["1 at night"]},
        {"name": "Levothyroxine", "dose": "75 µg", "quantity": "90 tablets", "usage": ["1 before breakfast"]},
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EditCost:
    """The scores of one edited answer against the truth, each in [0, 1]; None where a metric is not computed."""

    edit: str
    precision: float
    recall: float
    f1: float
    weighted_precision: float
    weighted_recall: float
    reward: float
    donut_nted: float | None
    donut_f1: float
    anls_star: float | None

    @property
    def weighted_f1(self) -> float:
        """F1 over clinically weighted leaves."""
        total = self.weighted_precision + self.weighted_recall
        return 2 * self.weighted_precision * self.weighted_recall / total if total else 0.0


def edit_costs(schema: Schema, truth: Mapping[str, Any] = PRESCRIPTION, *, rows: str = "medicines") -> list[EditCost]:
    """Score every edit of `truth`, a prescription whose table is called `rows`; one that does not apply is left out.

    The rows need a `quantity`; a `dose`, a `prescriber` and a `facility` are edited where they are. Raises
    UserError for a schema without the keys of `truth`.
    """
    problems = schema.validate_annotation(truth)
    if problems:
        raise UserError(f"schema {schema.name!r} does not fit the prescription that is edited: {problems[0]}")
    return [_cost(schema, truth, name, answer) for name, answer in edited(truth, rows=rows).items()]


def edited(truth: Mapping[str, Any], *, rows: str = "medicines") -> dict[str, Fields]:
    """The answers by the name of their edit; all but the first differ from `truth`."""
    answers: dict[str, Fields] = {"nothing (the truth)": copy.deepcopy(dict(truth))}
    for name, edit in _EDITS.items():
        answer = copy.deepcopy(dict(truth))
        edit(answer, answer[rows])
        if answer != truth:
            answers[name] = answer
    answers["every letter in lower case"] = _map_texts(dict(truth), str.lower)
    answers["an empty object"] = {}
    return answers


def table_of(costs: list[EditCost]) -> Table:
    """The costs as a table for the terminal."""
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in costs:
        table.add_row(*_cells(cost))
    return table


def markdown_of(costs: list[EditCost]) -> str:
    """The costs as a Markdown table."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, costs)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_COLUMNS = ("edit", "reward", "P", "R", "F1", "weighted F1", "Donut nTED", "Donut F1", "ANLS*")


def _cells(cost: EditCost) -> tuple[str, ...]:
    ours = (cost.reward, cost.precision, cost.recall, cost.f1, cost.weighted_f1)
    values = (*ours, cost.donut_nted, cost.donut_f1, cost.anls_star)
    return (cost.edit, *("–" if value is None else f"{value:.3f}" for value in values))


def _cost(schema: Schema, truth: Mapping[str, Any], name: str, answer: Fields) -> EditCost:
    response = json.dumps(answer, ensure_ascii=False)
    score = score_response(
        schema, tuple(truth), truth, response, reasoning=False, truncated=False, config=RewardConfig()
    )
    return EditCost(
        edit=name,
        precision=score.precision,
        recall=score.recall,
        f1=score.f1,
        weighted_precision=score.weighted_precision,
        weighted_recall=score.weighted_recall,
        reward=score.reward,
        donut_nted=donut_nted_accuracy(truth, answer),
        donut_f1=donut_f1([(truth, answer)]),
        anls_star=anls_star(truth, answer),
    )


def _swap_quantities(answer: Fields, rows: list[Fields]) -> None:
    first, second = _two_quantities(rows)
    rows[first]["quantity"], rows[second]["quantity"] = rows[second]["quantity"], rows[first]["quantity"]


def _invent_two_quantities(answer: Fields, rows: list[Fields]) -> None:
    for index, number in zip(_two_quantities(rows), (7, 13), strict=True):
        rows[index]["quantity"] = _with_number(rows[index]["quantity"], number)


def _two_quantities(rows: list[Fields]) -> tuple[int, int]:
    """Two rows whose quantities differ."""
    second = next(index for index, row in enumerate(rows) if row["quantity"] != rows[0]["quantity"])
    return 0, second


def _with_number(quantity: str, number: int) -> str:
    return f"{number} {quantity.split(maxsplit=1)[1]}"


def _misread_quantity(answer: Fields, rows: list[Fields]) -> None:
    rows[1]["quantity"] = _with_number(rows[1]["quantity"], 40)


def _misread_dose(answer: Fields, rows: list[Fields]) -> None:
    if "dose" in rows[1]:
        rows[1]["dose"] = "85" + rows[1]["dose"].lstrip("0123456789")


def _wrong_unit(answer: Fields, rows: list[Fields]) -> None:
    if "dose" in rows[1]:
        rows[1]["dose"] = rows[1]["dose"].replace("mg", "g")


def _other_spelling(answer: Fields, rows: list[Fields]) -> None:
    if "dose" in rows[1]:
        rows[1]["dose"] = rows[1]["dose"].replace(" mg", ".0 milligram")


def _two_low_weights(answer: Fields, rows: list[Fields]) -> None:
    for key in ("prescriber", "facility"):
        if key in answer:
            answer[key] = "Somebody Else"


def _reverse(answer: Fields, rows: list[Fields]) -> None:
    rows.reverse()


def _invent_row(answer: Fields, rows: list[Fields]) -> None:
    rows.append({**copy.deepcopy(rows[0]), "name": "Ibuprofen"})


def _drop_row(answer: Fields, rows: list[Fields]) -> None:
    rows.pop()


def _repeat_row(answer: Fields, rows: list[Fields]) -> None:
    rows.append(copy.deepcopy(rows[0]))


def _drop_date(answer: Fields, rows: list[Fields]) -> None:
    del answer["date"]


_EDITS: Mapping[str, Callable[[Fields, list[Fields]], None]] = {
    "rows reversed": _reverse,
    "a dose with its unit spelled out": _other_spelling,
    "quantities swapped between two drugs": _swap_quantities,
    "two invented quantities": _invent_two_quantities,
    "one wrong quantity": _misread_quantity,
    "one digit of a dose lost": _misread_dose,
    "g for mg in a dose": _wrong_unit,
    "two wrong values of low weight": _two_low_weights,
    "an invented drug": _invent_row,
    "a drug left out": _drop_row,
    "a drug given twice": _repeat_row,
    "the date left out": _drop_date,
}


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
