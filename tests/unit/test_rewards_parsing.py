"""Taking the answer out of a response: what is well-formed, what is tolerated at a cost, what is no answer."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.parsing import JsonObject, ParseLimits, parse_response
from rewards.types import AnswerStatus

THINK = "<think>line 1</think>"


@pytest.mark.parametrize(
    ("text", "reasoning", "faults"),
    [
        (THINK + '{"a": 1}', True, ()),
        (f'  {THINK}\n\n{{"a": 1}}\n', True, ()),
        ('<think>it is {"a": 2}</think>{"a": 1}', True, ()),
        ('{"a": 1}', False, ()),
        ('{"a": 1}', True, ("no reasoning block",)),
        ('<think> </think>{"a": 1}', True, ("empty reasoning block",)),
        ('Well. <think>x</think>{"a": 1}', True, ("text before the reasoning block",)),
        (THINK + '{"a": 1}', False, ("unasked reasoning block",)),
        (THINK + 'Here: {"a": 1}', True, ("prose before the object",)),
        ('```json\n{"a": 1}\n```', False, ("fenced",)),
        ('```\n{"a": 1}```', False, ("fenced",)),
        ('<think>x</think><think>y</think>{"a": 1}', True, ("prose before the object",)),
        ('Sure:\n```json\n{"a": 1}\n```', False, ("fenced", "prose before the object")),
    ],
)
def test_what_is_an_answer_and_what_it_costs(text: str, reasoning: bool, faults: tuple[str, ...]) -> None:
    parsed = parse_response(text, reasoning=reasoning)
    assert (parsed.status, parsed.answer, parsed.faults) == (AnswerStatus.OK, {"a": 1}, faults)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "no_json"),
        ("   ", "no_json"),
        ("[1, 2]", "no_json"),
        ('"a"', "no_json"),
        ("null", "no_json"),
        (THINK, "no_json"),
        ('<think>{"a": 1}</think>', "no_json"),
        ('<think>{"a": 1}', "unclosed_reasoning"),
        ('<think>x</think><think>{"a": 1}', "unclosed_reasoning"),
        ('Or: <think>{"a": 1}', "unclosed_reasoning"),
        ('{"a": 1', "invalid_json"),
        ('{"a": 1,}', "invalid_json"),
        ("{'a': 1}", "invalid_json"),
        ('{"a": "x\ny"}', "invalid_json"),
        ('{"a": 1} {"a": 2}', "several_objects"),
        ('{"a": 1} and more', "trailing_text"),
        ('[{"a": 1}]', "trailing_text"),
        ('{"a": 1}<think>x</think>', "trailing_text"),
        ('<think></think><think>{"a": 1}</think>', "trailing_text"),
        ('{"a": 1}\n```', "trailing_text"),
        ('{"a": NaN}', "bad_number"),
        ('{"a": -Infinity}', "bad_number"),
        ('{"a": 1e999999}', "bad_number"),
        ('{"a": ' + "9" * 41 + "}", "bad_number"),
        ('{"a":' * 17 + "1" + "}" * 17, "too_deep"),
        ("{" + ",".join(f'"{i}":1' for i in range(1100)) + "}", "too_many_values"),
        (" " * 65_536 + "{}", "too_large"),
    ],
)
def test_what_is_no_answer(text: str, status: str) -> None:
    parsed = parse_response(text, reasoning=False)
    assert (parsed.status.value, parsed.answer) == (status, None)
    assert parsed.detail
    assert parse_response(text, reasoning=False, truncated=True).status is AnswerStatus.TRUNCATED


def test_a_whole_object_at_the_token_limit_is_an_answer() -> None:
    assert parse_response('{"a": 1}', reasoning=False, truncated=True).status is AnswerStatus.OK


def test_limits_are_inclusive() -> None:
    assert parse_response('{"a":' * 16 + "1" + "}" * 16, reasoning=False).answer is not None
    assert parse_response('{"a": ' + "9" * 40 + "}", reasoning=False).answer == {"a": int("9" * 40)}
    limits = ParseLimits(max_characters=8, max_values=1)
    assert parse_response('{"a": 1}', reasoning=False, limits=limits).answer == {"a": 1}
    assert parse_response('{"a": [1]}', reasoning=False, limits=limits).status is AnswerStatus.TOO_LARGE


def test_brackets_and_commas_inside_strings_count_for_nothing() -> None:
    text = json.dumps({"a": "{[,:" * 3000, "b": '\\"{{{{{{{{{{{{{{{{{{{{'})
    assert parse_response(text, reasoning=False).answer == json.loads(text)


def test_repeated_keys_are_kept_apart_at_every_level() -> None:
    answer = parse_response('{"a": 1, "b": [{"c": 2, "c": 3}], "a": 4, "a": 5}', reasoning=False).answer
    assert answer is not None
    assert (answer, answer.repeated) == ({"a": 1, "b": [{"c": 2}]}, [("a", 4), ("a", 5)])
    assert answer["b"][0].repeated == [("c", 3)]
    copy = pickle.loads(pickle.dumps(answer))
    assert (type(copy), copy, copy.repeated) == (JsonObject, answer, answer.repeated)


def test_lone_surrogates_do_not_reach_a_file() -> None:
    text = '{"\\ud800": ["\\udfff", "\\ud83d\\ude00"], "a": 1, "a": "\\ud800"}'
    answer = parse_response(text, reasoning=False).answer
    assert answer is not None and answer == {"�": ["�", "😀"], "a": 1} and answer.repeated == [("a", "�")]
    assert parse_response('{"a": "\ud800"}', reasoning=False).answer == {"a": "�"}


@settings(deadline=None)
@given(st.text(alphabet='{}[]:,"\\0eE-+. \nntu<think>/`ad', max_size=80), st.booleans())
def test_no_response_raises(text: str, reasoning: bool) -> None:
    parsed = parse_response(text, reasoning=reasoning)
    assert (parsed.answer is None) == (parsed.status is not AnswerStatus.OK)
    if parsed.answer is not None:
        json.dumps(parsed.answer).encode()


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(10**30), 10**30), st.booleans(), st.none())))
def test_every_flat_object_is_read_back(answer: dict[str, object]) -> None:
    parsed = parse_response(THINK + json.dumps(answer), reasoning=True)
    assert (parsed.answer, parsed.faults) == (answer, ())
