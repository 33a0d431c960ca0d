"""The tolerant reading: each repair with its exact answer and name, and what is never repaired."""

import json
import math
import time
import timeit
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.parsing import ParsedResponse, ParseLimits, parse_response
from rewards.repair import parse_tolerant
from rewards.types import AnswerStatus

THINK = "<think>line 1</think>"
FENCE = "Markdown fence dropped"
BEFORE = "text before the object dropped"
BEHIND = "text behind the object dropped"
LAST = "last complete one of several objects taken"
COMMA = "trailing comma dropped"
CLOSED = "open brackets closed"
DRUGS = '{"drugs": [{"name": "A", "dose": "500 mg"}, '
FIRST_ROW = {"name": "A", "dose": "500 mg"}
BOTH_ROWS = {"drugs": [FIRST_ROW, {"name": "B"}]}
TABLES = '{"a": [{"b": 1, "c": [{"d": [[2, 3'


def dropped(path: str) -> str:
    return f"incomplete value dropped: {path}"


def kept(path: str) -> str:
    return f"incomplete row kept: {path}"


@pytest.mark.parametrize(
    ("text", "answer", "repairs"),
    [
        # text around the object
        ('{"a": 1} and more', {"a": 1}, (BEHIND,)),
        ('Here: {"a": 1} and more', {"a": 1}, (BEFORE, BEHIND)),
        ('{"a": 1}<think>or {"a": 2}?</think>', {"a": 1}, (BEHIND,)),
        ('{"a": 1}<think>or {"a": 2}?', {"a": 1}, (BEHIND,)),
        (THINK + '<think>or {"a": 2}?</think>{"a": 1}', {"a": 1}, (BEFORE,)),
        ('so {"a": 2}?</think>{"a": 1}.', {"a": 1}, (BEFORE, BEHIND)),
        ('{"a": "[<think>", "b": "{"} [1]', {"a": "[<think>", "b": "{"}, (BEHIND,)),
        # fences
        ('{"a": 1}\n```', {"a": 1}, (FENCE,)),
        ('```json\n{"a": 1}\n```\nDone.', {"a": 1}, (FENCE, BEHIND)),
        ('Here:\n```\n{"a": "```"}\n```\n```', {"a": "```"}, (FENCE, BEFORE)),
        # several objects
        ('{"a": 1} {"a": 2}', {"a": 2}, (LAST,)),
        ('{"a": 1}, {"a": 2}, {}', {}, (LAST,)),
        ('```json\n{"a": 1}\n```\nor\n```json\n{"a": 2}\n```', {"a": 2}, (FENCE, LAST)),
        ('{"a": 1} <think>{"a": 2}</think> {"a": 3} {"a": 4', {"a": 3}, (LAST, BEHIND)),
        ('{"a": 1} {"a": 4, "b": 5,', {"a": 1}, (BEHIND,)),
        # trailing commas
        ('{"a": 1,}', {"a": 1}, (COMMA,)),
        ('{"a": [1, ",]", [2,\n],], "b": {"c": 3 , }, }', {"a": [1, ",]", [2]], "b": {"c": 3}}, (COMMA,)),
        ('{"a": [1,], "b": 2', {"a": [1]}, (COMMA, CLOSED, dropped("b"))),
        # text that ends inside the object
        ('{"a": 1, "b": 2', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": -', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": 2.5e', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": true', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": n', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": "500 ', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": "5\\', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": "5\\"', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b": "5"', {"a": 1, "b": "5"}, (CLOSED,)),
        ('{"a": 1, "b": {"c": [', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b" :', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b"', {"a": 1}, (CLOSED, dropped("b"))),
        ('{"a": 1, "b', {"a": 1}, (CLOSED, dropped("?"))),
        ('{"a": 1 ,', {"a": 1}, (CLOSED,)),
        ('{"a": {"b": 1}', {"a": {"b": 1}}, (CLOSED,)),
        ('{"a": {"b": 1, "c": 2', {"a": {"b": 1}}, (CLOSED, dropped("a.c"))),
        ('{"a": [1, 2, 3', {"a": [1, 2]}, (CLOSED, dropped("a[2]"))),
        ('{"a": [1, 2, 3]', {"a": [1, 2, 3]}, (CLOSED,)),
        ('Here: ```json\n{"a": 1, "b', {"a": 1}, (FENCE, BEFORE, CLOSED, dropped("?"))),
        ('{"\ud800": ["x", 5', {"�": ["x"]}, (CLOSED, dropped("?[1]"))),
        # rows
        (DRUGS + '{"name": "B", "dose": "50', BOTH_ROWS, (CLOSED, dropped("drugs[1].dose"), kept("drugs[1]"))),
        (DRUGS + '{"name": "B", "do', BOTH_ROWS, (CLOSED, dropped("drugs[1].?"), kept("drugs[1]"))),
        (DRUGS + '{"name": "B"', BOTH_ROWS, (CLOSED, kept("drugs[1]"))),
        (DRUGS + '{"name": "B', {"drugs": [FIRST_ROW]}, (CLOSED, dropped("drugs[1]"))),
        (DRUGS + "{", {"drugs": [FIRST_ROW]}, (CLOSED, dropped("drugs[1]"))),
        (DRUGS, {"drugs": [FIRST_ROW]}, (CLOSED,)),
        (TABLES, {"a": [{"b": 1, "c": [{"d": [[2]]}]}]}, (CLOSED, dropped("a[0].c[0].d[0][1]"), kept("a[0].c[0]"))),
    ],
)  # fmt: skip
def test_each_repair_has_its_answer_and_its_name(text: str, answer: object, repairs: tuple[str, ...]) -> None:
    strict = parse_response(text, reasoning=False)
    parsed = parse_tolerant(text, reasoning=False)
    assert strict.answer is None and strict.repairs == ()
    assert (parsed.answer, parsed.repairs) == (answer, repairs)
    assert (parsed.status, parsed.detail, parsed.reasoning_text) == (
        strict.status,
        strict.detail,
        strict.reasoning_text,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        '"a": 1',
        '<think>{"a": 1}',
        '<think>{"a": 1}</think>',
        'First: {"a": 1} <think>no, {"a": 2}',
        '<think>x</think><think>{"a": 1}</think>',
        '<think>x</think><think>{"a": 1}',
        '{"a": 1}</think>',
        '{"a": 1 <think> } {"a": 2} </think>',
        '[{"a": 1}, {"a": 2}]',
        'The rows: [ {"a": 1}, {"a": 2',
        "{'a': 1}",
        '{"a": 1} {\'a\': 2}',
        '{a} {"a": 1} x',
        "{a: 1}",
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        '{"a": [1 2]}',
        '{"a": 1, b',
        '{"a": 1, "b": yes',
        '{"a": 1, "b": Na',
        '{"a": 1, "b": x, "c": 2',
        '{"a": 1, "b": 01, "c": 2',
        '{"a": 1, "b": 1., "c": 2',
        '{"a": 1; "b": 2',
        '{"a": 1, 2, "b": 3',
        '{"a": 1, {"b": 3',
        '{"a": 1, "b", "c',
        '{"a":: 1, "b": 3',
        '{"a": 1,, "b": 3',
        '{"a": 1, "b": "c" "d',
        '{"a": [1], "b": [2}',
        '{"a": [1}]',
        '{"a":}',
        '{"a"}',
        '{"a": 1} {,}',
        '{,}',
        '{"a": [,]}',
        '{"a": [1,,]}',
        '{"a": 1,,}',
        '{"a": 1, // one\n}',
        '{"a": 1\n```',
        '{"a": "x\ny",}',
        '{"a": "\\x",}',
        '{"a": NaN,}',
        '{"a": 1e999,}',
        '{"a": ' + "9" * 41 + ",}",
        '{"a":' * 17 + "1" + ",}" * 17,
        '{"a":' * 17 + '1, "b',
        '{"a": [' + "1," * 2100,
        '{"a": 1, "b": "' + "x" * 65_536,
        "{",
        '{"',
        '{"a": ',
        '{"a": 5',
        '{"a": "5',
        '{"a": [[{"b": [',
    ],
)  # fmt: skip
@pytest.mark.parametrize("reasoning", [True, False])
def test_what_is_never_repaired(text: str, reasoning: bool) -> None:
    for truncated in (True, False):
        parsed = parse_tolerant(text, reasoning=reasoning, truncated=truncated)
        assert (parsed.answer, parsed.repairs) == (None, ())
        assert parsed == parse_response(text, reasoning=reasoning, truncated=truncated)


def test_a_clean_answer_is_the_strict_one() -> None:
    for text, faults in ((THINK + '{"a": 1}', ()), ('Sure:\n```json\n{"a": 1}\n```', None)):
        parsed = parse_tolerant(text, reasoning=True)
        assert parsed == parse_response(text, reasoning=True)
        assert (parsed.status, parsed.answer, parsed.repairs) == (AnswerStatus.OK, {"a": 1}, ())
        assert faults is None or parsed.faults == faults


def test_a_repaired_answer_keeps_status_reasoning_and_faults() -> None:
    parsed = parse_tolerant('Well. <think>I read</think>{"a": 1, "b": "x', reasoning=True, truncated=True)
    assert (parsed.status, parsed.answer) == (AnswerStatus.TRUNCATED, {"a": 1})
    assert (parsed.reasoning_text, parsed.faults) == ("I read", ("text before the reasoning block",))
    assert parsed.detail.startswith("Unterminated string")


def test_repeated_keys_and_surrogates_are_handled_in_repaired_answers() -> None:
    answer = parse_tolerant('{"a": "\\ud800", "b": [{"c": 1, "c": 2}], "a": 3, "d": 4', reasoning=False).answer
    assert answer is not None and answer == {"a": "�", "b": [{"c": 1}]}
    assert (answer.repeated, answer["b"][0].repeated) == ([("a", 3)], [("c", 2)])


def test_the_limits_hold_for_the_repaired_object() -> None:
    limits = ParseLimits(max_characters=40, max_depth=2, max_values=3, max_digits=2)

    def read(text: str) -> object:
        return parse_tolerant(text, reasoning=False, limits=limits).answer

    assert read('{"a": [10, 11, 12') == {"a": [10, 11]}
    assert read('{"a": [10, 11, 12], "b": "x"') is None  # five colons and commas are kept
    assert read('{"a": [10, 11, 12], "b": 13') == {"a": [10, 11, 12]}
    assert read('{"a": [[1, 2') is None
    assert read('{"a": 100, "b": "x') is None
    assert read('{"a": 1} ' + "x" * 31) == {"a": 1}
    assert read('{"a": 1} ' + "x" * 32) is None


def test_every_cut_of_a_table_keeps_exactly_the_complete_cells() -> None:
    text = '{"n": "Ana", "rows": [{"drug": "A", "dose": 50}, {"drug": "B", "dose": 60}], "age": 45}'
    ends = [text.index(end) + len(end) for end in ('"Ana"', '"A"', "50}", '"B"', "60}", "45}")]
    for cut in range(len(text)):
        answer = parse_tolerant(text[:cut], reasoning=False).answer
        assert num_leaves(answer) == sum(end <= cut for end in ends), text[:cut]


def num_leaves(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(num_leaves, value.values()))
    if isinstance(value, list):
        return sum(map(num_leaves, value))
    return value is not None


def is_part(part: Any, whole: Any) -> bool:
    """Whether `part` holds nothing that `whole` does not hold at the same place."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) <= len(whole) and all(map(is_part, part, whole))
    return type(part) is type(whole) and bool(part == whole)


SCALARS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet='{}[]",:\\\n `<think>/5', max_size=12),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=15,
)


@settings(deadline=None, max_examples=300)
@given(st.data(), st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_a_cut_object_is_read_without_inventing_anything(
    data: st.DataObject, whole: dict[str, Any], is_ascii: bool, reasons: bool
) -> None:
    text = json.dumps(whole, ensure_ascii=is_ascii, indent=data.draw(st.sampled_from([None, 1])))
    cut = data.draw(st.integers(0, len(text)))
    parsed = parse_tolerant((THINK if reasons else "") + text[:cut], reasoning=reasons)
    if cut == len(text):
        assert (parsed.answer, parsed.status) == (whole, AnswerStatus.OK)
    elif parsed.answer is not None:
        assert is_part(parsed.answer, whole) and parsed.repairs[0] == CLOSED


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet='{}[]:,"\\0eE-+. \nntu<think>/`ad', max_size=80) | st.text(), st.booleans(), st.booleans())
def test_no_text_raises(text: str, reasoning: bool, truncated: bool) -> None:
    check_sound(text, reasoning, truncated)


PIECES = (
    '{"a": ',
    "1",
    '"x"',
    "[",
    "]",
    "{",
    "}",
    ",",
    ", ",
    '"b": ',
    "<think>",
    "</think>",
    "```json\n",
    "```",
    "\\",
    " prose ",
    '"',
    "\ud800",
)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.booleans(), st.booleans())
def test_no_mixture_of_pieces_raises(text: str, reasoning: bool, truncated: bool) -> None:
    check_sound(text, reasoning, truncated)


def check_sound(text: str, reasoning: bool, truncated: bool) -> None:
    strict = parse_response(text, reasoning=reasoning, truncated=truncated)
    parsed = parse_tolerant(text, reasoning=reasoning, truncated=truncated)
    assert (strict.answer is None) == (strict.status is not AnswerStatus.OK)
    assert parsed.status is strict.status
    assert (parsed.answer is not None) == (parsed.status is AnswerStatus.OK or bool(parsed.repairs))
    if parsed.answer is not None:
        json.dumps([parsed.answer, parsed.repairs], ensure_ascii=False).encode()


HOSTILE = {
    "open objects": ("", '{"a":', ""),
    "open braces": ("", "{", ""),
    "open lists": ('{"a": 1, "b": ', "[", ""),
    "rows in rows": ('{"a": ', '[{"b": 1, "c":', ""),
    "objects": ("", "{}", ""),
    "objects and an end": ("", '{"a": 1} ', "{"),
    "fences": ("{}", "```\n", ""),
    "fences in front": ("", "```\n", "{},"),
    "strings in prose": ("{} ", '" ', ""),
    "unclosed strings": ("{", '"a": "', ""),
    "escapes": ('{"a": "', '\\"', ""),
    "escaped quotes between strings": ("{", '"\\"', ""),
    "numbers": ('{"a": [', "1e9,", ""),
    "keys": ("{", '"a":1,', ""),
    "strings full of brackets": ('{"a": [', '"]{",', ""),
    "backslashes": ('{"a": "x", "b": "', "\\", ""),
    "trailing commas": ('{"a": [', "[1,],", "]}"),
    "commas and blanks": ('{"a": [1', ", ", "]}"),
    "blanks": ('{"a": 1, "b', " ", ": 1"),
    "starts of reasoning": ("{}", "<think>", ""),
    "ends of reasoning": ("{}", "</think>{}", "{"),
    "blocks of reasoning": ("{}", "<think></think>", ""),
    "digits": ('{"a": 1, "b": ', "1", "x, 2"),
    "exponents": ('{"a": 1, "b": ', "1e", ""),
    "long text behind": ("{}", "word ", ""),
}


# Eight times the text: three doublings of at most 2.5 each, and what a busy machine adds. Quadratic would be 64.
MOST = 1.5 * 2.5**3
LOOSE = ParseLimits(max_characters=10**9, max_depth=10**9, max_values=10**9)  # all of the text is parsed
TIGHT = ParseLimits(max_characters=10**9, max_depth=1, max_values=1)  # nearly all of it is refused


@pytest.mark.parametrize(
    ("parse", "limits"),
    [(parse_response, LOOSE), (parse_response, TIGHT), (parse_tolerant, LOOSE)],
    ids=["strict", "strict, refused", "tolerant"],
)
@pytest.mark.parametrize("name", HOSTILE)
def test_time_doubles_at_most_with_hostile_text(
    name: str, parse: Callable[..., ParsedResponse], limits: ParseLimits
) -> None:
    before, unit, behind = HOSTILE[name]

    def seconds(num_units: int, times: int = 1) -> float:
        text = before + unit * num_units + behind
        timer = timeit.Timer(lambda: parse(text, reasoning=False, limits=limits), timer=time.process_time)
        return min(timer.repeat(repeat=2, number=times)) / times

    num_units = 500
    while seconds(num_units) < 0.004 and num_units * len(unit) < 500_000:
        num_units *= 2
    times = math.ceil(0.02 / seconds(num_units))
    ratio = math.inf
    for _ in range(5):  # a busy machine may slow one measurement, not the best of all
        ratio = min(ratio, seconds(8 * num_units, math.ceil(times / 8)) / seconds(num_units, times))
        if ratio <= MOST:
            break
    assert ratio <= MOST
