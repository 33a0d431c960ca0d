"""The stream of queries is a pure function of (seed, position), and draws what it is told to."""

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.load import load_schemas
from medvie_rl.data.queries import Query, QueryConfig, QueryStream, evaluation_queries, stable_hash
from medvie_rl.data.sampling import longest_descriptions
from medvie_rl.data.store import Document, open_split
from rewards.config import RewardConfig
from rewards.schema import FieldSpec, Schema
from rewards.scorer import Scorer
from rewards.values import leaf_values
from rollout.types import FinishReason, Rollout

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=tuple(FieldSpec(key=key, description=f"the {key}", kind="text") for key in "abcdefgh"),
)
SCHEMAS = {"note": SCHEMA}
ROOT = Path(__file__).resolve().parents[2]


def make_document(index: int) -> Document:
    annotation = {"a": "1", "b": "2", "c": "3", "d": "4", "e": None, "f": ""}
    return Document(id=f"doc-{index}", document_type="note", schema="note", annotation=annotation, image_keys=())


DOCUMENTS = [make_document(index) for index in range(10)]


def stream(**changes: Any) -> QueryStream:
    config = replace(QueryConfig(min_keys=2, max_keys=4, absent_fraction=0.25, reasoning_fraction=0.6), **changes)
    return QueryStream(DOCUMENTS, SCHEMAS, config, seed=3)


def test_any_part_of_the_stream_can_be_taken_again() -> None:
    whole = stream().take(0, 57)
    assert stream().take(0, 20) + stream().take(20, 37) == whole
    assert QueryStream(DOCUMENTS, SCHEMAS, QueryConfig(), seed=4).take(0, 57) != whole


def test_an_epoch_asks_every_document_once_in_a_new_order() -> None:
    epochs = [[query.document.id for query in stream().take(start, 10)] for start in (0, 10, 20)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(document.id for document in DOCUMENTS)
    assert epochs[0] != epochs[1] != epochs[2]


def test_shares_over_ten_thousand_queries() -> None:
    queries = stream().take(0, 10_000)
    asked = sum(len(query.keys) for query in queries)
    absent = sum(len(query.keys) - len(query.truth) for query in queries)
    assert absent / asked == pytest.approx(0.25, abs=0.01)
    assert sum(query.reasoning for query in queries) / len(queries) == pytest.approx(0.6, abs=0.02)
    assert {len(query.keys) for query in queries} == {2, 3, 4}
    assert len({query.keys for query in queries}) > 1_000  # subsets and their order vary


def test_truth_holds_the_asked_keys_that_have_a_value() -> None:
    for query in stream(absent_fraction=0.9).take(0, 200):
        assert set(query.truth) == set(query.keys) & set("abcd")
        assert len(set(query.keys)) == len(query.keys)


def test_an_evaluation_asks_every_key_in_the_order_of_the_schema() -> None:
    queries = evaluation_queries(DOCUMENTS, SCHEMAS, reasoning=False)
    assert [query.document for query in queries] == DOCUMENTS
    assert all(query.keys == tuple("abcdefgh") and not query.reasoning for query in queries)


def test_stable_hash_is_the_same_everywhere() -> None:
    assert stable_hash("rollout", 1, 2, "train-3") == 304802429759959646
    assert stable_hash("a", "b") != stable_hash("ab")
    assert 0 <= stable_hash("x") < 2**63


def test_the_stream_of_the_shipped_slips_is_what_it_was() -> None:
    """Digest of the stream before there were weights, parts of tables and paraphrases."""
    documents = open_split(ROOT / "medvie_rl/nano/slips", "train").documents
    queries = QueryStream(documents, load_schemas(ROOT / "conf/schemas"), QueryConfig(max_keys=7), seed=1).take(0, 500)
    drawn = [[query.id, query.document.id, query.keys, query.truth, query.reasoning] for query in queries]
    assert hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "821dc15b79b31ca3"
    assert all(not query.columns and not query.descriptions for query in queries)


# --- weights, parts of tables, paraphrases: off unless configured ---------------------------------------------------

ROW = {"name": "A", "dose": "1 mg", "route": "oral", "note": ""}
TABLE = FieldSpec(
    key="drugs",
    description="every drug",
    kind="table",
    row_keys=("name",),
    paraphrases=("all medicines",),
    columns=tuple(FieldSpec(key=key, description=key, kind="text", paraphrases=(f"{key}!",)) for key in ROW),
)
PAIRS = FieldSpec(  # nothing can be left out of it
    key="pairs",
    description="pairs",
    kind="table",
    row_keys=("a", "b"),
    columns=tuple(FieldSpec(key=key, description=key, kind="text") for key in "ab"),
)
LOOSE = replace(PAIRS, key="loose", row_keys=())
WORDED = FieldSpec(key="who", description="full name", kind="text", paraphrases=("name", "whose it is, in full"))
FORM = Schema(
    name="form", document_type="form", description="form",
    fields=(WORDED, TABLE, PAIRS, LOOSE, *(FieldSpec(key=key, description=key, kind="text") for key in "xyz")),
)  # fmt: skip
FORM_DOCUMENTS = [
    Document(
        id=f"form-{index}",
        document_type="form",
        schema="form",
        image_keys=(),
        annotation={"who": "Ana", "drugs": [ROW, {"name": "B"}], "pairs": [{"a": "1"}], "loose": [{"b": "2"}]}
        | {key: "1" for key, num in (("x", 40), ("y", 20), ("z", 10)) if index < num},
    )
    for index in range(40)
]
ON = {"rare_key_weight": 1.0, "column_fraction": 0.3, "paraphrase_fraction": 0.4, "key_weights": {"form.who": 2.0}}


def form_stream(**changes: Any) -> QueryStream:
    config = QueryConfig(**{"min_keys": 2, "max_keys": 5, "absent_fraction": 0.2, "reasoning_fraction": 0.7} | changes)
    return QueryStream(FORM_DOCUMENTS, {"form": FORM}, config, seed=11)


def within_three_errors(found: int, num: int, share: float) -> bool:
    return abs(found - num * share) <= 3 * math.sqrt(num * share * (1 - share))


def test_every_configured_share_is_met_over_ten_thousand_queries() -> None:
    queries = form_stream(**ON).take(0, 10_000)
    assert within_three_errors(sum(query.reasoning for query in queries), len(queries), 0.7)
    tables = [(query, key) for query in queries for key in query.keys if key in ("drugs", "loose")]
    assert within_three_errors(sum(key in query.columns for query, key in tables), len(tables), 0.3)
    worded = [query for query in queries if {"who", "drugs"} & set(query.keys)]
    assert within_three_errors(sum(bool(query.descriptions) for query in worded), len(worded), 0.4)
    described = Counter(query.descriptions["who"] for query in queries if "who" in query.descriptions)
    assert set(described) == set(WORDED.paraphrases)
    assert within_three_errors(described["name"], described.total(), 0.5)

    queries = stream().take(0, 10_000)  # documents with as many present and absent keys as are ever asked
    asked = sum(len(query.keys) for query in queries)
    assert within_three_errors(asked - sum(len(query.truth) for query in queries), asked, 0.25)
    for num in (2, 3, 4):
        assert within_three_errors(sum(len(query.keys) == num for query in queries), len(queries), 1 / 3)
    keys = Counter(key for query in queries for key in query.truth)
    assert all(within_three_errors(keys[key], keys.total(), 1 / 4) for key in "abcd")
    first = Counter(query.keys[0] in "abcd" for query in queries)  # the order says nothing about what is there
    assert within_three_errors(first[False], len(queries), 0.25)


def test_keys_are_drawn_in_inverse_proportion_to_the_documents_that_have_them() -> None:
    changes = {"min_keys": 1, "max_keys": 1, "absent_fraction": 0.0, "rare_key_weight": 1.0}
    queries = [query for query in form_stream(**changes).take(0, 10_000) if int(query.document.id[5:]) < 10]
    drawn = Counter(query.keys[0] for query in queries)
    total = 5 / 40 + 1 / 20 + 1 / 10  # who, drugs, pairs, loose and x stand on all 40, y on 20, z on 10
    for key, num in {"who": 40, "pairs": 40, "x": 40, "y": 20, "z": 10}.items():
        assert within_three_errors(drawn[key], len(queries), 1 / num / total), key


def test_hard_keys_are_drawn_more_often_present_or_not() -> None:
    weights = {"form.x": 3.0, "form.z": 5.0}
    changes = {"min_keys": 1, "max_keys": 1, "key_weights": weights}
    queries = [
        query
        for query in form_stream(absent_fraction=0.5, **changes).take(0, 10_000)
        if int(query.document.id[5:]) >= 20  # y and z are absent
    ]
    present = Counter(query.keys[0] for query in queries if query.truth)
    absent = Counter(query.keys[0] for query in queries if not query.truth)
    assert within_three_errors(present["x"], present.total(), 3 / 7)
    assert within_three_errors(absent["z"], absent.total(), 5 / 6)
    assert within_three_errors(absent.total(), len(queries), 0.5)


def test_an_option_changes_nothing_but_what_it_is_for() -> None:
    plain = form_stream().take(0, 400)
    for name, value in ON.items():
        for query, before in zip(form_stream(**{name: value}).take(0, 400), plain, strict=True):
            assert (query.document, query.reasoning, len(query.keys)) == (
                before.document,
                before.reasoning,
                len(before.keys),
            )
            if name in ("column_fraction", "paraphrase_fraction"):
                assert query.keys == before.keys


def test_a_table_in_part_has_its_row_keys_and_some_other_columns() -> None:
    seen = set()
    for query in form_stream(column_fraction=1.0).take(0, 2_000):
        assert "pairs" not in query.columns
        assert ("drugs" in query.columns) == ("drugs" in query.keys) and ("loose" in query.columns) == (
            "loose" in query.keys
        )
        seen |= set(query.columns.items())
        if "drugs" in query.keys:
            columns = query.columns["drugs"]
            assert query.truth["drugs"] == [{key: ROW[key] for key in columns}, {"name": "B"}]
        if query.columns.get("loose") == ("a",):
            assert "loose" not in query.truth  # the document has only the other column
    parts = {("name", "dose"), ("name", "route"), ("name", "note"),
             ("name", "dose", "route"), ("name", "dose", "note"), ("name", "route", "note")}  # fmt: skip
    assert seen == {("drugs", part) for part in parts} | {("loose", ("a",)), ("loose", ("b",))}


def test_paraphrases_are_those_of_what_is_asked() -> None:
    for query in form_stream(paraphrase_fraction=1.0, column_fraction=0.5).take(0, 500):
        expected = {"who", "drugs"} & set(query.keys)
        if "drugs" in query.keys:
            expected |= {f"drugs.{column}" for column in query.columns.get("drugs", ROW)}
        assert set(query.descriptions) == expected
        assert query.descriptions.get("drugs.name", "name!") == "name!"
    assert longest_descriptions(FORM)["who"] == "whose it is, in full"
    assert longest_descriptions(FORM)["drugs"] == "all medicines"


def digest(queries: list[Query]) -> str:
    content = [
        [query.id, query.document.id, query.keys, query.truth, query.reasoning, query.columns, query.descriptions]
        for query in queries
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def test_the_stream_is_the_same_in_parts_resumed_and_in_another_process() -> None:
    whole = form_stream(**ON).take(0, 300)
    for sizes in ([300], [1] * 300, [7, 100, 41, 152]):
        taken, parts = form_stream(**ON), []
        for size in sizes:
            parts += taken.take(len(parts), size)
        assert parts == whole
    assert form_stream(**ON).take(173, 127) == whole[173:]  # resumed
    assert [form_stream(**ON).at(position) for position in range(299, -1, -1)] == whole[::-1]
    shares = [form_stream(**ON).take(0, 300)[worker::3] for worker in range(3)]
    assert [query for group in zip(*shares, strict=True) for query in group] == whole
    code = "import test_queries as t; print(t.digest(t.form_stream(**t.ON).take(0, 300)))"
    for seed in ("1", "2"):  # of Python's own hashes
        environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == digest(whole)


def test_the_truth_of_a_query_is_a_whole_answer_to_it() -> None:
    """What is asked, what counts as true and what is scored are the same thing, also for tables in part."""
    from medvie_rl.batch import score_request

    scorer = Scorer(RewardConfig(), {"form": FORM})
    queries = form_stream(**ON | {"column_fraction": 0.8, "reasoning_fraction": 0.0}).take(0, 200)
    assert sum(bool(query.columns) for query in queries) > 50
    for query in queries:
        answer = Rollout(
            text=json.dumps(query.truth),
            token_ids=(5, 7),
            logprobs=(),
            finish_reason=FinishReason.STOP,
            weight_version=0,
        )
        request = score_request(query, answer, max_tokens=9)
        assert (request.num_tokens, request.max_tokens, request.truncated) == (2, 9, False)
        score = scorer.score(request)
        assert (score.reward, score.counts.omitted, score.counts.hallucinated) == (1.0, 0, 0)
        whole = scorer.score(replace(request, response=json.dumps(query.document.annotation)))
        not_asked = len(leaf_values(query.document.annotation)) - len(leaf_values(query.truth))
        assert (whole.counts.hallucinated, whole.counts.omitted) == (not_asked, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column_fraction": 1.5}, "queries.column_fraction: expected a share between 0 and 1, got 1.5"),
        ({"paraphrase_fraction": -0.1}, "queries.paraphrase_fraction: expected a share between 0 and 1, got -0.1"),
        ({"rare_key_weight": -1.0}, "queries.rare_key_weight: expected 0 .* got -1.0"),
        ({"key_weights": {"form.who": 0.0}}, "queries.key_weights: expected a weight above 0 .*'form.who', got 0.0"),
        ({"key_weights": {"form.whom": 2.0}}, "'form.whom' is no key of a schema; .* did you mean 'form.who'?"),
    ],
)
def test_options_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        form_stream(**changes)
