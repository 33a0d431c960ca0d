"""Attempts to earn reward without extracting: none beats an honest partial answer, none raises."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rewards.types import AnswerStatus, Score, ScoreRequest
from rewards.worker import RewardWorker

DRUGS = FieldSpec(
    key="drugs",
    description="every drug",
    kind="table",
    row_keys=("name",),
    columns=(
        FieldSpec(key="name", description="name of the drug", kind="text"),
        FieldSpec(key="dose", description="dose with its unit", kind="quantity"),
    ),
)
SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=(
        FieldSpec(key="name", description="full name of the patient", kind="person_name"),
        FieldSpec(key="age", description="age in years", kind="number"),
        FieldSpec(key="sex", description="sex", kind="enum", choices=("male", "female")),
        FieldSpec(key="notes", description="remarks", kind="text", many=True),
        DRUGS,
        FieldSpec(key="report", description="what was found", kind="free_text"),
        FieldSpec(key="room", description="room", kind="text"),
        FieldSpec(key="ward", description="ward", kind="text"),
    ),
)
ROWS = [{"name": "Amoxicillin", "dose": "500 mg"}, {"name": "Ibuprofen", "dose": "400 mg"}]
REPORT = "The lungs are clear, no effusion of more than 5 mm."
TRUTH = {"name": "Ana Silva", "age": 45, "sex": "female", "notes": ["fasting"], "drugs": ROWS, "report": REPORT}
NUM_TRUE = 9
THINK = "<think>I read the page</think>"


def score(response: str, truth: Any = TRUTH) -> Score:
    return score_response(SCHEMA, SCHEMA.keys, truth, response, reasoning=True, truncated=False, config=RewardConfig())


def answer(**fields: Any) -> str:
    return THINK + json.dumps(fields)


HONEST = answer(name="Ana Silva")  # one leaf of nine, nothing else
GUESSES = {"age": 30, "sex": "male", "notes": ["none"], "room": "1", "ward": "A"}
COPIED = {spec.key: spec.description for spec in SCHEMA.fields}
BEST_ROW = json.dumps(ROWS[0])

WITHOUT_CONTENT = {
    "an empty object": answer(),
    "nothing": "",
    "guesses for every key": answer(name="John Smith", drugs=[{"name": "Aspirin", "dose": "1 g"}], **GUESSES),
    "placeholders": answer(**dict.fromkeys(SCHEMA.keys, "n/a")),
    "the prompt's descriptions": answer(**COPIED),
    "every choice": answer(sex=["male", "female"]),
    "every age": answer(age=list(range(120))),
    "the schema's keys as values": answer(**{key: key for key in SCHEMA.keys}),
    "the object inside the reasoning": f"<think>{json.dumps(TRUTH)}</think>",
    "an unclosed reasoning block": f"<think>{json.dumps(TRUTH)}",
    "two objects": answer(**TRUTH) + json.dumps(TRUTH),
    "a list of objects": THINK + json.dumps([TRUTH]),
    "nesting to 10,000 levels": THINK + '{"a":' * 10_000 + "1" + "}" * 10_000,
    "lists to 10,000 levels": THINK + '{"name":' + "[" * 10_000 + "]" * 10_000 + "}",
    "unclosed nesting of 5 MB": THINK + '{"a":' * 1_000_000,
    "a value of 5 MB": THINK + '{"name": "' + "a" * 5_000_000 + '"}',
    "a million keys": THINK + "{" + ",".join(f'"{i}":{i}' for i in range(1_000_000)) + "}",
    "a number out of range": THINK + '{"age": 1e999999}',
    "a number of a million digits": THINK + '{"age": ' + "4" * 1_000_000 + "}",
    "a number of 60,000 digits": THINK + '{"age": ' + "4" * 60_000 + "}",
    "a text of 60,000 digits": answer(age="4" * 60_000),
    "a huge exponent in a text": answer(age="1e999999", name="9" * 39 + "e99"),
    "surrogates": THINK + '{"name": "\\ud800\\udc", "\\udfff": "\\ud800"}',
    "raw surrogates": THINK + '{"name": "\ud800", "age": "\udfff45"}',
    "not a number": THINK + '{"age": NaN, "name": Infinity}',
    "a dictionary of words as the report": answer(report="lungs clear no effusion heart normal mm 5 The are of than"),
    "the report with another number": answer(report=REPORT.replace("5", "15")),
    "the report without its no": answer(report=REPORT.replace("no ", "")),
    "the report with a tail": answer(report=REPORT + " And nothing else was found in the rest of the body."),
    "control characters": THINK + '{"name": "\x00\x01"}',
}


@pytest.mark.parametrize("name", WITHOUT_CONTENT)
def test_nothing_extracted_earns_the_format_share_at_most(name: str) -> None:
    result = score(WITHOUT_CONTENT[name])
    assert result.reward <= 0.1 < score(HONEST).reward
    assert (result.precision, result.recall, result.counts.correct) == (0.0, 0.0, 0)
    assert result.counts.true == NUM_TRUE
    assert score(WITHOUT_CONTENT[name], {}).reward <= 1.0


PADDED = {
    "guesses for the rest": answer(name="Ana Silva", **GUESSES),
    "the right key twice": THINK + '{"name": "Ana Silva", "name": "Ana Silva"}',
    "the right key with other guesses": THINK + '{"name": "Ana Silva", "name": "Rui Costa", "name": "Eva"}',
    "the value under all names": answer(name="Ana Silva", room="Ana Silva", ward="Ana Silva"),
    "invented keys": answer(name="Ana Silva", full_name="Ana Silva", Name="Ana Silva"),
    "placeholders for the absent": answer(name="Ana Silva", room="n/a", ward="unknown"),
    "a second guess inside a list": answer(name=["Ana Silva", "Rui Costa"]),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_a_right_answer_lowers_its_reward(name: str) -> None:
    assert score(PADDED[name]).reward < score(HONEST).reward


def test_the_best_row_earns_once() -> None:
    once = score(THINK + f'{{"drugs": [{BEST_ROW}]}}')
    previous = once.reward
    for times in (2, 3, 10, 100):
        many = score(THINK + f'{{"drugs": [{",".join([BEST_ROW] * times)}]}}')
        assert (many.counts.correct, many.counts.duplicate) == (2, 2 * (times - 1))
        assert many.recall == once.recall and many.reward < previous
        previous = many.reward


def test_right_values_in_the_wrong_rows_earn_nothing() -> None:
    swapped = [{"name": "Amoxicillin", "dose": "400 mg"}, {"name": "Ibuprofen", "dose": "500 mg"}]
    mixed, invented, names = (
        score(answer(**{**TRUTH, "drugs": rows}))
        for rows in (
            swapped,
            [{**row, "dose": "7 mg"} for row in ROWS],
            [{"name": row["name"]} for row in ROWS],
        )
    )
    assert mixed.reward == invented.reward < names.reward < score(answer(**TRUTH)).reward == 1.0
    assert (mixed.counts.misassociated, invented.counts.misread) == (2, 2)


def test_where_nothing_is_asked_for_silence_is_best() -> None:
    assert score(answer(), {}).reward == 1.0
    for invented in (answer(room="1"), answer(**GUESSES), THINK + '{"x": 0}', answer(name="n/a")):
        assert score(invented, {}).reward == pytest.approx(0.1)


def test_a_wide_hostile_table_is_scored_within_bounds() -> None:
    rows = [{"name": f"Amoxicilin {i}", "dose": f"{i} mg"} for i in range(300)]
    result = score(answer(drugs=rows), {"drugs": [{"name": f"drug {i}", "dose": f"{i}.5 g"} for i in range(60)]})
    assert result.counts.predicted == 600 and result.counts.true == 120


# Each takes the size of the input in characters, about. Within the caps: what is longer is not read at all.
HOSTILE: dict[str, Callable[[int], str]] = {
    "one long text": lambda size: answer(name="ab " * (size // 3)),
    "one long number": lambda size: answer(age="7" * size),
    "one long unit": lambda size: answer(drugs=[{"name": "A", "dose": "1 " + "m/" * (size // 2)}]),
    "one long date": lambda size: answer(report="1-" * (size // 2)),
    "a long report": lambda size: answer(report="The lungs are clear. " * (size // 21)),
    "numbers in the report": lambda size: answer(report="1 no 2 not " * (size // 11)),
    "many notes": lambda size: answer(notes=[f"note {index % 7}" for index in range(size // 36)]),
    "many rows": lambda size: answer(
        drugs=[{"name": f"A{index}", "dose": f"{index} g"} for index in range(size // 72)]
    ),
    "the same row again and again": lambda size: answer(drugs=ROWS[:1] * (size // 72)),
    "many keys": lambda size: answer(**{f"k{index}": index for index in range(size // 40)}),
    "one key again and again": lambda size: THINK + "{" + ", ".join(['"age": 4'] * (size // 40)) + "}",
    "unclosed objects": lambda size: THINK + '{"a":' * (size // 5),
    "unclosed lists": lambda size: THINK + '{"a":' + "[" * size,
    "unclosed quotes": lambda size: THINK + '{"a": "' + '\\"' * (size // 2),
    "fences": lambda size: THINK + "```" * (size // 3),
    "reasoning tags": lambda size: "<think>" * (size // 7) + "{}",
    "closing tags": lambda size: "<think>" + "</think>" * (size // 8) + "{}",
    "objects in a row": lambda size: THINK + "{}" * (size // 2),
    "backslashes": lambda size: THINK + '{"a": "' + "\\" * size,
    "combining marks": lambda size: answer(name="a" + "\u0301" * (size // 6)),
    "marks out of order": lambda size: THINK + '{"name": "a' + "\u0315" * (size // 2) + "\u0300" * (size // 2) + '"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_input_takes_linear_time(name: str) -> None:
    """Four times the input, where quadratic time would be 16 times: at most 8, for what a busy machine adds."""
    small, large = HOSTILE[name](7_500), HOSTILE[name](30_000)
    assert 3.5 < len(large) / len(small) < 4.5
    constant, seconds, seconds_large = _seconds(HONEST, small, large)
    assert seconds_large <= 8 * seconds + constant


LISTS = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=(
        FieldSpec(key="amounts", description="amounts", kind="quantity", many=True),
        FieldSpec(key="findings", description="findings", kind="free_text", many=True),
        DRUGS,
    ),
)
LONG = "Cardiac and mediastinal contours, item {}, are within normal limits; é"
LISTED = {
    "amounts": [f"{index} mg/ml" for index in range(60)],
    "findings": [LONG.format(index) for index in range(64)],
    "drugs": [{"name": f"drug{index} of the list", "dose": f"{index} mg"} for index in range(60)],
}
WRONG_LISTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "amounts": lambda num: {"amounts": [f"{index + 1000}-{index} mg/ml/x" for index in range(num)]},
    "findings": lambda num: {"findings": [LONG.format(f"{index} of") for index in range(num)]},
    "drugs": lambda num: {"drugs": [{"name": f"drag{index} of a list", "dose": "1 g"} for index in range(num)]},
}


@pytest.mark.parametrize("name", WRONG_LISTS)
def test_long_lists_of_nearly_right_items_take_linear_time(name: str) -> None:
    """Against long true lists, where every item could be compared with every other."""

    def seconds(num: int) -> float:
        response = THINK + json.dumps(WRONG_LISTS[name](num))
        assert len(response) < 65_536
        return _seconds_of(lambda: score_response(LISTS, LISTS.keys, LISTED, response, reasoning=True,
                                                  truncated=False, config=RewardConfig()))  # fmt: skip

    assert seconds(400) <= 8 * seconds(100)  # quadratic time would be 16 times


def test_no_hostile_response_harms_the_process_that_scores() -> None:
    worker = RewardWorker(RewardConfig(), {"slip": SCHEMA})
    responses = [*WITHOUT_CONTENT.values(), *(make(60_000) for make in HOSTILE.values()), HONEST]
    try:
        scores = worker.score([_request(response) for response in responses])
    finally:
        worker.close()
    assert scores[-1].reward == score(HONEST).reward == max(result.reward for result in scores)
    assert not {AnswerStatus.TIMEOUT, AnswerStatus.CRASHED} & {result.status for result in scores}


def _request(response: str) -> ScoreRequest:
    return ScoreRequest(query_id="q", document_id="d", schema="slip", asked=SCHEMA.keys, truth=TRUTH,
                        response=response, reasoning=True, truncated=False)  # fmt: skip


def test_beyond_the_cap_the_length_hardly_matters() -> None:
    quarter, whole = _seconds(THINK + '{"a":' * 250_000, THINK + '{"a":' * 1_000_000)
    assert whole <= 8 * quarter


def _seconds(*responses: str) -> list[float]:
    """Processor time of scoring each, the best of several rounds."""
    best = [float("inf")] * len(responses)
    for _ in range(7):
        for index, response in enumerate(responses):
            best[index] = min(best[index], _seconds_of(lambda response=response: score(response), rounds=1))
    return best


def _seconds_of(work: Callable[[], object], rounds: int = 5) -> float:
    best = float("inf")
    for _ in range(rounds):
        started, num = time.thread_time(), 0
        while num == 0 or time.thread_time() - started < 0.005:
            work()
            num += 1
        best = min(best, (time.thread_time() - started) / num)
    return best
