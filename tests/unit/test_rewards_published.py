"""The field's published metrics: the values of their authors' code, hand-computed edits, and answers of any shape."""

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.published import (
    MAX_DEPTH,
    MAX_PAIRS,
    KIEvalScores,
    anls,
    anls_star,
    donut,
    donut_f1,
    donut_nted_accuracy,
    kieval,
)

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "metric_vectors.jsonl"
with_vectors = pytest.mark.skipif(not VECTORS.exists(), reason=f"{VECTORS}, the authors' values, is not there")

# Weighs 17 in Donut's tree: 8 keys and rows, and texts of 3 + 2 + 1 + 2 + 1 characters.
TRUTH = {"date": "1/2", "drugs": [{"name": "A", "qty": "10"}, {"name": "B", "qty": "20"}]}
GROUPLESS = {"group_precision": None, "group_recall": None, "group_f1": None}


def edited(edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    answer = deepcopy(TRUTH)
    edit(answer)
    return answer


def swap(answer: dict[str, Any]) -> None:
    answer["drugs"][0]["qty"], answer["drugs"][1]["qty"] = "20", "10"


SWAPPED = edited(swap)
REVERSED = edited(lambda answer: answer["drugs"].reverse())
INVENTED = edited(lambda answer: answer["drugs"].append({"name": "C", "qty": "30"}))
DROPPED = edited(lambda answer: answer["drugs"][0].pop("qty"))


def vectors() -> list[dict[str, Any]]:
    return [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]


def counts(scores: KIEvalScores) -> tuple[int, ...]:
    """True positives, wrong matches and no matches, then the groups' true positives, false positives and negatives."""
    return (
        scores.true_positives, scores.wrong_matches, scores.no_matches,
        scores.group_true_positives, scores.group_false_positives, scores.group_false_negatives,
    )  # fmt: skip


@with_vectors
@pytest.mark.timeout(60)
def test_every_pair_scores_as_in_the_authors_code() -> None:
    rows = vectors()
    assert len(rows) >= 139
    for row in rows:
        truth, answer = row["gt"], row["pred"]
        ours = (donut_nted_accuracy(truth, answer), donut_f1([(truth, answer)]), anls_star(truth, answer))
        assert ours == pytest.approx((row["donut_nted_acc"], row["donut_f1"], row["anls_star"]), abs=1e-6), row["id"]


@with_vectors
def test_kieval_of_a_72b_model_on_cord_is_what_its_authors_publish() -> None:
    """result.md of UpstageAI/KIEval. Their tables join the values of one key by "||", which their metric splits."""

    def documents(value: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
        return {
            name: [{key: text.split("||") for key, text in group.items()} for group in groups]
            for name, groups in value.items()
        }

    rows = [row for row in vectors() if row["id"].startswith("cord_qwen72b_")]
    assert len(rows) == 100
    scores = kieval((documents(row["gt"]), documents(row["pred"])) for row in rows)
    assert (scores.true_positives, scores.wrong_matches, scores.no_matches) == (1020, 167, 273)
    assert scores.true_positives + scores.false_negatives == 1301
    rates = scores.entity_f1, scores.entity_macro_f1, scores.entity_recall, scores.entity_precision, scores.aligned
    assert [round(rate, 4) for rate in rates] == [0.7707, 0.4971, 0.7840, 0.7578, 0.6986]
    num_all = scores.true_positives + scores.false_positives + scores.false_negatives
    assert round(scores.true_positives / num_all, 4) == 0.6269  # their accuracy


@pytest.mark.parametrize(
    ("answer", "nted", "f1", "anls"),
    [
        (TRUTH, 1, 1, 1),
        (SWAPPED, 15 / 17, 1, 4 / 5),  # one character each; "10" for "20" is half right to ANLS*
        (REVERSED, 13 / 17, 1, 1),  # one character in each of four texts
        (INVENTED, 11 / 17, 5 / 6, 5 / 7),
        (DROPPED, 14 / 17, 8 / 9, 4 / 5),
        ({}, 0, 0, 0),
        (None, 0, 0, 0),
        ({"date": "1/2", "drugs": "A"}, 6 / 17, 2 / 7, 1 / 5),  # kept: the keys, date and A, but for 2 rows, 4 keys, 5
    ],
)
def test_donut_and_anls_by_hand(answer: Any, nted: float, f1: float, anls: float) -> None:
    assert donut_nted_accuracy(TRUTH, answer) == pytest.approx(nted)
    assert donut_f1([(TRUTH, answer)]) == pytest.approx(f1)
    assert anls_star(TRUTH, answer) == pytest.approx(anls)


@pytest.mark.parametrize(
    ("answer", "expected", "rates", "group_f1"),
    [
        (TRUTH, (5, 0, 0, 2, 0, 0), (1, 1, 1, 1), 1),
        (SWAPPED, (3, 2, 0, 0, 2, 2), (3 / 5, 3 / 5, 3 / 5, 3 / 5), 0),
        (REVERSED, (5, 0, 0, 2, 0, 0), (1, 1, 1, 1), 1),
        (INVENTED, (5, 0, 2, 2, 1, 0), (5 / 7, 1, 5 / 6, 5 / 7), 4 / 5),
        (DROPPED, (4, 0, 1, 1, 1, 1), (1, 4 / 5, 8 / 9, 4 / 5), 1 / 2),
        ({}, (0, 0, 5, 0, 0, 2), (0, 0, 0, 0), 0),
        (None, (0, 0, 5, 0, 0, 2), (0, 0, 0, 0), 0),
    ],
)
def test_kieval_by_hand(answer: Any, expected: tuple[int, ...], rates: tuple[float, ...], group_f1: float) -> None:
    scores = kieval([(TRUTH, answer)])
    assert counts(scores) == expected
    ours = (scores.entity_precision, scores.entity_recall, scores.entity_f1, scores.aligned)
    assert ours == pytest.approx(rates)
    assert scores.group_f1 == pytest.approx(group_f1)


def test_totals_are_micro_over_documents() -> None:
    pairs = [(TRUTH, INVENTED), (TRUTH, None), ({"a": "x"}, {"a": "y"})]
    assert donut_f1(pairs) == 10 / 19  # 5 right of 5 + 5 + 1 true and 7 + 0 + 1 answered fields
    scores = kieval(pairs)
    assert counts(scores) == (5, 1, 7, 2, 1, 2)
    assert (scores.false_positives, scores.false_negatives, scores.num_documents) == (3, 6, 3)
    assert (scores.entity_f1, scores.aligned) == (10 / 19, 5 / 13)
    assert (scores.group_precision, scores.group_recall, scores.group_f1) == (2 / 3, 2 / 4, 4 / 7)
    # date 1 of 2 true, name and qty 2 of 4 true and 3 answered each, a none
    assert scores.entity_macro_f1 == pytest.approx((2 / 3 + 4 / 7 + 4 / 7 + 0) / 4)


@pytest.mark.parametrize("truth", [{}, None, [], "", {"a": []}, {"a": {}}])
def test_nothing_to_answer(truth: Any) -> None:
    for answer in (truth, {}, None):
        assert (donut_nted_accuracy(truth, answer), donut_f1([(truth, answer)])) == (1, 1)
    assert anls_star(truth, truth) == 1
    assert anls_star(truth, None) == (0 if truth and "a" in truth else 1)
    invented = {"a": "x"}
    assert (donut_nted_accuracy(truth, invented), donut_f1([(truth, invented)]), anls_star(truth, invented)) == (
        0,
        0,
        0,
    )


def test_kieval_of_nothing() -> None:
    for pairs in ([], [({}, None)], [({"a": None}, {"b": []})]):
        scores = kieval(pairs)
        rates = (scores.entity_precision, scores.entity_recall, scores.entity_f1, scores.aligned)
        assert (counts(scores), rates, scores.group_f1) == ((0,) * 6, (1, 1, 1, 1), None)
        assert scores.entity_macro_f1 == 1
    scores = kieval([({}, {"a": "x"})])
    assert (scores.entity_precision, scores.entity_recall, scores.entity_f1, scores.aligned) == (0, 0, 0, 0)
    assert {name: getattr(scores, name) for name in GROUPLESS} == GROUPLESS


def test_typed_values_count_as_their_text() -> None:
    truth, answer = {"age": 45, "ok": True}, {"age": "45", "ok": "true"}
    assert donut_nted_accuracy(truth, answer) == 7 / 8  # "True" for Donut
    assert donut_f1([(truth, answer)]) == 1 / 2
    assert anls_star(truth, answer) == 1
    assert counts(kieval([(truth, answer)])) == (2, 0, 0, 0, 0, 0)


def test_donut_drops_zero_false_and_truth_values_of_a_list() -> None:
    truth, answer = {"a": 0, "b": "x", "c": False, "d": [True, " y "]}, {"b": " x", "d": ["y"]}
    assert (donut_nted_accuracy(truth, answer), donut_f1([(truth, answer)])) == (1, 1)
    assert anls_star(truth, answer) == 2 / 5
    assert counts(kieval([(truth, answer)])) == (0, 2, 3, 0, 0, 0)  # blanks count, true of the list is deleted


def test_donut_reads_its_leaf_mark_wherever_it_stands() -> None:
    assert donut_nted_accuracy({"a": "<leaf>xy"}, {"a": "xy"}) == 1
    assert donut_nted_accuracy({"<leaf>k": "xy"}, {"<leaf>k": "xz"}) == pytest.approx(2 / 3)
    assert donut_nted_accuracy({"<leaf>": "<leaf>"}, {"<leaf>": "<leaf>"}) == 1  # nothing weighs anything here
    assert donut_nted_accuracy({"<leaf>": "<leaf>"}, {"a": "x"}) == 0


def test_donut_tree_costs_and_order_by_hand() -> None:
    shared = {"z": "0123456789"}
    renamed = {"bbb": "pp", "aa": "qq"} | shared  # z, aa, bbb for b, z, aa: the renamed key is lost and invented
    assert donut_nted_accuracy({"b": "pp", "aa": "qq"} | shared, renamed) == pytest.approx(11 / 17)
    blank = {"a": {"b": " "}} | shared  # a row and a key to remove, and four characters, wherever they come from
    assert donut_nted_accuracy({"a": "qqqq"} | shared, blank) == pytest.approx(10 / 16)


def test_only_what_differs_counts_for_the_node_limit() -> None:
    rows = [{"name": f"drug {i}", "qty": str(i)} for i in range(300)]
    size = 1 + sum(1 + 2 + len(row["name"]) + len(row["qty"]) for row in rows)
    one_wrong = deepcopy(rows)
    one_wrong[150]["qty"] = "999"
    assert donut_nted_accuracy({"rows": rows}, {"rows": rows}, max_nodes=0) == 1
    assert donut_nted_accuracy({"rows": rows}, {"rows": one_wrong}) == 1 - 3 / size
    assert donut_nted_accuracy({"rows": rows}, {"rows": rows[:-1]}, max_nodes=0) == 1 - (3 + 8 + 3) / size
    assert donut_nted_accuracy({"rows": rows}, {"rows": rows[::-1]}) is None
    assert donut_nted_accuracy({"rows": rows}, {"rows": (rows * 3)[::-1]}) == 0  # twice the size is too far as such


def table(num_rows: int, offset: int = 0) -> dict[str, Any]:
    names = [f"drug {i * 37 % 101} of {i}" for i in range(offset, offset + num_rows)]
    return {"rows": [{"name": name, "dose": f"{len(name)} mg", "qty": "30", "a": "x", "b": "y"} for name in names]}


def test_anls_is_not_computed_for_tables_too_large_for_it() -> None:
    assert anls_star(table(240), table(240)) is None
    assert anls_star(table(20), table(5_000)) is None
    assert anls_star({"rows": [[["x"] * 60] * 60] * 60}, {"rows": [[["x"] * 60] * 60] * 60}) is None
    assert anls_star(table(40), table(40)) == 1
    assert anls_star(table(20), table(20), max_pairs=1_000) is None
    assert anls_star({"a": "ab", "b": "c"}, {"a": "ab", "c": 1}, max_pairs=3 * 20 + 3 * 3) == 1 / 3
    assert anls_star({"a": "ab", "b": "c"}, {"a": "ab", "c": 1}, max_pairs=3 * 20 + 3 * 3 - 1) is None
    assert anls_star(["ab", "c"], "ab", max_pairs=3 * 3 + 2 * 3 - 1) is None  # alternatives


def test_anls_computes_tables_up_to_a_size() -> None:
    num_rows = max(i for i in range(40, 80) if anls._num_pairs(table(i), table(i, 999), MAX_PAIRS) <= MAX_PAIRS)
    assert anls_star(table(num_rows), table(num_rows, 999)) is not None
    assert anls_star(table(num_rows + 1), table(num_rows + 1, 999)) is None
    assert 40 < num_rows < 79


def test_an_endless_text_is_wrong_to_anls_at_once() -> None:
    endless = "take one in the morning " * 2_000
    truth = {"usage": "take one in the morning", "rest": ["a", "bc"]}
    assert anls_star(truth, {"usage": endless, "rest": ["a", endless]}) == 1 / 3
    assert anls_star(truth, {"usage": "take one in the morning" + " " * 50_000, "rest": ["bc", "a"]}) == 1
    assert anls_star("abcd", "abcdabcd") == 1 / 2 and anls_star("abcd", "abcdabcde") == 0
    assert anls_star({"a": "x" * 2_000}, {"a": "x" * 1_999 + "y"}) == 1 - 1 / 2_000


def test_anls_reads_a_list_of_texts_as_alternatives_to_a_text() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert anls_star(["left", "right"], "right") == 1
    assert (anls_star([1], "1"), anls_star([], "1"), anls_star([], "")) == (0, 0, 0)


def test_kieval_pairs_what_is_left_of_a_key_as_values_to_correct() -> None:
    scores = kieval([({"d": ["a", "b", "b"]}, {"d": ["b", "x", "y", "z"]})])
    assert counts(scores) == (1, 2, 1, 0, 0, 0)
    assert counts(kieval([({"d": "a"}, {"e": "a"})])) == (0, 0, 2, 0, 0, 0)  # another key is another place
    assert counts(kieval([({"t": [{"d": ["a", "b"]}]}, {"t": [{"d": ["b", "c", "e"]}]})])) == (1, 1, 1, 0, 1, 1)


def test_kieval_matches_groups_for_most_equal_entities() -> None:
    """Matching in order, or the best pair first, would find 3 equal entities."""
    truth = {"t": [{"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "2", "d": "4"}]}
    answer = {"t": [{"a": "1", "b": "2"}, {"a": "1", "c": "3"}]}
    assert counts(kieval([(truth, answer)])) == (4, 0, 2, 0, 2, 2)


def test_kieval_reads_groups_wherever_objects_stand() -> None:
    group = {"name": "A", "dose": {"value": "5", "unit": "mg"}}
    for same in ({"t": group}, {"t": [group]}, {"t": [[group], None]}):
        assert counts(kieval([({"t": [group]}, same)])) == (3, 0, 0, 1, 0, 0)
    assert counts(kieval([({"t": [group]}, {"u": [group]})])) == (0, 0, 6, 0, 1, 1)
    assert counts(kieval([({"t": [group]}, {"t": ["A"]})])) == (0, 0, 4, 0, 0, 1)
    assert counts(kieval([({"t": [group]}, {"t": [{"name": "A", "dose.value": "5"}]})])) == (1, 0, 3, 0, 1, 1)
    assert counts(kieval([({"t": [group]}, [group])])) == (0, 0, 6, 0, 1, 1)


def test_a_list_within_a_group_has_no_order_to_kieval() -> None:
    assert counts(kieval([({"t": [{"d": ["a", "b"]}]}, {"t": [{"d": ["b", "a"]}]})])) == (2, 0, 0, 1, 0, 0)


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


def test_an_answer_nested_too_deep_counts_as_none() -> None:
    deepest = nested(MAX_DEPTH)
    assert (anls_star(deepest, deepest), donut_nted_accuracy(deepest, deepest)) == (1, 1)
    assert (donut_f1([(deepest, deepest)]), kieval([(deepest, deepest)]).entity_f1) == (1, 1)
    for answer in (nested(MAX_DEPTH + 1), nested(20_000)):
        assert (anls_star(TRUTH, answer), anls_star({}, answer), donut_f1([(TRUTH, answer)])) == (0, 1, 0)
        assert donut_nted_accuracy(TRUTH, answer) == 0
        assert counts(kieval([(TRUTH, answer)])) == (0, 0, 5, 0, 0, 2)
    with pytest.raises(ValueError, match="the truth is nested deeper than 64 levels"):
        donut_f1([(nested(MAX_DEPTH + 1), None)])


TEXTS = st.sampled_from(["", " ", "a", "ab", "abc", "<leaf>", "10", "true"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "b", "<leaf>c"]), items),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(JSON, JSON)
def test_json_of_any_kind_has_a_score(truth: Any, answer: Any) -> None:
    scores = kieval([(truth, answer)])
    rates = [anls_star(truth, answer), donut_nted_accuracy(truth, answer), donut_f1([(truth, answer)])]
    rates += [getattr(scores, field.name) for field in fields(scores) if isinstance(getattr(scores, field.name), float)]
    assert all(0 <= rate <= 1 for rate in rates), rates
    mirrored = kieval([(answer, truth)])
    assert mirrored.true_positives == scores.true_positives
    assert (mirrored.entity_precision, mirrored.entity_recall) == (scores.entity_recall, scores.entity_precision)


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_the_truth_itself_is_perfect(truth: Any) -> None:
    scores = kieval([(truth, truth)])
    assert (scores.entity_f1, scores.aligned) == (1, 1)
    assert scores.group_f1 in (1, None)
    assert (donut_nted_accuracy(truth, truth), donut_f1([(truth, truth)])) == (1, 1)


ROWS = st.lists(st.dictionaries(st.sampled_from("ab"), TEXTS | st.lists(TEXTS, max_size=2)), max_size=3)
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b", "<leaf>c"]), TEXTS | ROWS)


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, DOCUMENTS)
def test_trimming_does_not_change_the_distance(truth: Any, answer: Any) -> None:
    trimmed = donut_nted_accuracy(truth, answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(donut, "_trimmed", lambda first, second: (first, second))
        assert trimmed == pytest.approx(donut_nted_accuracy(truth, answer), abs=1e-12)
