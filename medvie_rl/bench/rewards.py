"""Throughput of the reward on one core, beside the field's metrics on the same pairs of answer and truth."""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medvie_rl.bench.types import Result
from rewards.published import anls_star, donut_f1, donut_nted_accuracy
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema

_NUM_DOCUMENTS, _NUM_RESPONSES = 40, 8  # as in training: several responses to each document
_NUM_ROWS = 20
_MISTAKES = 0.15  # share of values that a response has wrong
_NUM_SLOW_PAIRS = 4  # of the tables, for the tree edit distance, which takes two seconds for each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    truth: dict[str, Any]
    answer: dict[str, Any]
    response: str


def bench_flat() -> Result:
    """Responses to flat documents with 10 keys: parsed, matched and scored, in one thread."""
    cases = _cases(_flat_truth, 0)
    return Result(
        name="reward_flat_responses_per_s",
        value=_reward_rate(_flat_schema(), cases),
        unit="responses/s per core, 10 keys",
        better="higher",
        compared_with=_others(cases[::_NUM_RESPONSES], cases[::_NUM_RESPONSES]),
    )


def bench_table() -> Result:
    """The same with a table."""
    cases = _cases(_table_truth, 1)
    return Result(
        name="reward_table_responses_per_s",
        value=_reward_rate(_table_schema(), cases),
        unit=f"responses/s per core, {_NUM_ROWS} rows x 5 columns",
        better="higher",
        compared_with=_others(cases[::_NUM_RESPONSES], _few(cases)),
    )


def bench_against_nted() -> Result:
    """How many tables the reward scores in the time of one Donut nTED accuracy, on the same pairs."""
    cases = _few(_cases(_table_truth, 1))
    rate, nted_rate = _reward_rate(_table_schema(), cases), _metric_rate(donut_nted_accuracy, cases)
    return Result(
        name="reward_vs_donut_nted",
        value=rate / nted_rate,
        unit="times as many tables",
        better="higher",
        compared_with=f"Donut nTED accuracy on the same tables: {nted_rate:.3g}/s",
    )


def _few(cases: Sequence[_Case]) -> Sequence[_Case]:
    return cases[: _NUM_SLOW_PAIRS * _NUM_RESPONSES : _NUM_RESPONSES]


def _others(cases: Sequence[_Case], few: Sequence[_Case]) -> str:
    rates = {
        "ANLS*": _metric_rate(anls_star, cases),
        "Donut F1": _metric_rate(lambda truth, answer: donut_f1([(truth, answer)]), cases),
        "Donut nTED": _metric_rate(donut_nted_accuracy, few),
    }
    return ", ".join(f"{name} {rate:,.3g}/s" if rate < 100 else f"{name} {rate:,.0f}/s" for name, rate in rates.items())


def _reward_rate(schema: Schema, cases: Sequence[_Case]) -> float:
    config = RewardConfig()

    def score(case: _Case) -> None:
        score_response(schema, schema.keys, case.truth, case.response, reasoning=True, truncated=False, config=config)

    return _rate(score, cases)


def _metric_rate(metric: Callable[[Any, Any], object], cases: Sequence[_Case]) -> float:
    return _rate(lambda case: metric(case.truth, case.answer), cases)


def _rate(work: Callable[[_Case], object], cases: Sequence[_Case], *, seconds: float = 1.0) -> float:
    """Cases per second of this thread's processor time, which other programs on the machine hardly change."""
    work(cases[0])  # imports and first-time set-up
    num, started = 0, time.thread_time()
    while time.thread_time() - started < seconds:
        for case in cases:
            work(case)
        num += len(cases)
    return num / (time.thread_time() - started)


# --- documents -------------------------------------------------------------------------------------------------------


def _cases(make_truth: Callable[[random.Random], dict[str, Any]], seed: int) -> list[_Case]:
    rng = random.Random(seed)
    cases = []
    for _ in range(_NUM_DOCUMENTS):
        truth = make_truth(rng)
        for _ in range(_NUM_RESPONSES):
            answer = _with_mistakes(truth, rng)
            lines = "\n".join(f"{key}: as printed on the page" for key in truth)
            response = f"<think>{lines}</think>\n{json.dumps(answer, ensure_ascii=False)}"
            cases.append(_Case(truth=truth, answer=answer, response=response))
    return cases


def _with_mistakes(value: Any, rng: random.Random) -> Any:
    """`value` with some scalars misread; rows stay in their order, as a model writes them."""
    if isinstance(value, dict):
        return {key: _with_mistakes(item, rng) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_mistakes(item, rng) for item in value]
    if rng.random() >= _MISTAKES:
        return value
    text = str(value)
    place = rng.randrange(len(text))
    return text[:place] + rng.choice("0123456789abcdef") + text[place + 1 :]


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 5)))


def _flat_schema() -> Schema:
    kinds = {
        "patient": "person_name",
        "doctor": "person_name",
        "age": "number",
        "visited_on": "date",
        "drug": "text",
        "dose": "quantity",
        "diagnosis": "text",
        "code": "code",
        "ward": "text",
        "lot": "code",
    }
    return _schema([FieldSpec(key=key, description=key, kind=kind) for key, kind in kinds.items()])  # type: ignore[arg-type]


def _flat_truth(rng: random.Random) -> dict[str, Any]:
    return {
        "patient": f"{_word(rng).title()} {_word(rng).title()}",
        "doctor": f"{_word(rng).title()} {_word(rng).title()}",
        "age": str(rng.randint(1, 99)),
        "visited_on": f"20{rng.randint(10, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        "drug": _word(rng).title(),
        "dose": f"{rng.randint(1, 80) * 5} mg",
        "diagnosis": f"{_word(rng)} {_word(rng)}",
        "code": f"{rng.choice('ABCDE')}{rng.randint(10, 99)}.{rng.randint(0, 9)}",
        "ward": _word(rng),
        "lot": f"{rng.randint(10_000, 99_999)}",
    }


def _table_schema() -> Schema:
    columns = tuple(
        FieldSpec(key=key, description=key, kind=kind)  # type: ignore[arg-type]
        for key, kind in {
            "test": "text", "value": "quantity", "reference": "quantity", "flag": "text", "loinc": "code",
        }.items()
    )  # fmt: skip
    return _schema([FieldSpec(key="results", description="results", kind="table", columns=columns, row_keys=("test",))])


def _table_truth(rng: random.Random) -> dict[str, Any]:
    rows = []
    for _ in range(_NUM_ROWS):
        low = rng.randint(1, 50)
        rows.append(
            {
                "test": f"{_word(rng)} {_word(rng)}",
                "value": f"{rng.randint(1, 900) / 10} mmol/L",
                "reference": f"{low}-{low + rng.randint(1, 50)} mmol/L",
                "flag": rng.choice(["high", "low", "normal"]),
                "loinc": f"{rng.randint(1000, 9999)}-{rng.randint(0, 9)}",
            }
        )
    return {"results": rows}


def _schema(specs: list[FieldSpec]) -> Schema:
    return Schema(name="bench", document_type="bench", description="bench", fields=tuple(specs))
