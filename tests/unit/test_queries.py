"""The stream of queries is a pure function of (seed, position), and draws what it is told to."""

from dataclasses import replace

import pytest

from medvie_rl.data.queries import QueryConfig, QueryStream, evaluation_queries, stable_hash
from medvie_rl.data.store import Document
from rewards.schema import FieldSpec, Schema

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=tuple(FieldSpec(key=key, description=f"the {key}", kind="text") for key in "abcdefgh"),
)
SCHEMAS = {"note": SCHEMA}


def make_document(index: int) -> Document:
    annotation = {"a": "1", "b": "2", "c": "3", "d": "4", "e": None, "f": ""}
    return Document(id=f"doc-{index}", document_type="note", schema="note", annotation=annotation, image_keys=())


DOCUMENTS = [make_document(index) for index in range(10)]


def stream(**changes: float) -> QueryStream:
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
