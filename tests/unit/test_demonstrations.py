"""What supervised fine-tuning learns from: answers as the schema wants them, traces in their place, mistakes named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learner.loss_config import LossConfig
from medvie_rl.config import Config, load_config, to_yaml
from medvie_rl.data.load import load_schemas
from medvie_rl.data.queries import Query, QueryConfig, QueryStream
from medvie_rl.data.store import Document, open_split
from medvie_rl.demonstrations import Demonstration, DemonstrationStream, answer_text
from medvie_rl.errors import ConfigError, UserError
from medvie_rl.records import RolloutRecord, without_texts, write_records
from medvie_rl.traces import ReasoningTrace, RecordedResponse, Traces, read_traces, traces_digest
from rewards.config import RewardConfig
from rewards.parsing import parse_response
from rewards.schema import FieldSpec, Schema
from rewards.scorer import Scorer
from rewards.types import AnswerStatus, LeafCounts, Score, ScoreRequest
from rewards.values import is_left_out
from rollout.types import FinishReason

LOCAL = Path("conf/local.yaml")
SLIPS = open_split("medvie_rl/nano/slips", "train").documents
SCHEMAS = load_schemas(Path("conf/schemas"))
DIRECT = QueryConfig(min_keys=2, max_keys=7, reasoning_fraction=0.0)
REASONED = QueryConfig(min_keys=2, max_keys=7, reasoning_fraction=1.0)
TABLE = Schema(
    name="prescription",
    document_type="prescription",
    description="d",
    fields=(
        FieldSpec(key="patient", description="d", kind="text"),
        FieldSpec(key="allergies", description="d", kind="text", many=True),
        FieldSpec(key="doctor", description="d", kind="text"),
        FieldSpec(
            key="drugs",
            description="d",
            kind="table",
            columns=tuple(FieldSpec(key=key, description="d", kind="text") for key in ("name", "dose", "route")),
        ),
    ),
)


def table_query(annotation: dict[str, Any], keys: tuple[str, ...]) -> Query:
    document = Document(
        id="doc", document_type="prescription", schema="prescription", annotation=annotation, image_keys=()
    )
    truth = {key: value for key, value in annotation.items() if not is_left_out(value)}
    return Query(id="q", document=document, keys=keys, truth=truth, reasoning=False)


def score(demonstration: Demonstration) -> Score:
    query = demonstration.query
    request = ScoreRequest(
        query_id=query.id,
        document_id=query.document.id,
        schema=query.document.schema,
        asked=query.keys,
        truth=query.document.annotation,
        response=demonstration.response,
        reasoning=query.reasoning,
        truncated=False,
        num_tokens=10,
        max_tokens=100,
        columns=query.columns,
    )
    return Scorer(RewardConfig(), SCHEMAS).score(request)


def test_an_answer_is_the_json_of_the_asked_keys_in_the_order_asked() -> None:
    annotation = {
        "patient": 'Zoë "Z" Ng',
        "doctor": "",
        "allergies": ["latex", " ", "nuts"],
        "drugs": [
            {"dose": "5 mg", "name": "Amlodipin", "route": None},
            {"name": "", "dose": None},
            {"route": "oral", "name": "Metformin"},
        ],
    }
    query = table_query(annotation, ("drugs", "doctor", "patient", "allergies"))
    assert answer_text(query, TABLE) == (
        '{"drugs":[{"name":"Amlodipin","dose":"5 mg"},{"name":"Metformin","route":"oral"}],'
        '"patient":"Zoë \\"Z\\" Ng","allergies":["latex","nuts"]}'
    )
    assert answer_text(table_query({"patient": "A"}, ("patient",)), TABLE, compact=False) == '{"patient": "A"}'
    assert answer_text(table_query({}, ("patient",)), TABLE) == "{}"


def test_every_demonstration_earns_the_whole_reward() -> None:
    traces: Traces = {document.id: [ReasoningTrace(text="a line {of} the slip")] for document in SLIPS}
    for config, given in ((DIRECT, None), (REASONED, traces)):
        for demonstration in DemonstrationStream(SLIPS, SCHEMAS, config, seed=5, traces=given).take(0, 300):
            parsed = parse_response(demonstration.response, reasoning=demonstration.query.reasoning)
            assert (parsed.status, parsed.faults) == (AnswerStatus.OK, ())
            assert score(demonstration).reward == pytest.approx(1.0), demonstration


def test_tables_asked_in_part_are_answered_in_part() -> None:
    rows = [{"name": "Amlodipin", "dose": "5 mg"}, {"route": "oral"}]
    document = Document(
        id="doc", document_type="prescription", schema="prescription", annotation={"drugs": rows}, image_keys=()
    )
    config = QueryConfig(min_keys=1, max_keys=1, absent_fraction=0.0, reasoning_fraction=0.0, column_fraction=1.0)
    stream = DemonstrationStream([document], {"prescription": TABLE}, config, seed=1)
    for demonstration in stream.take(0, 30):
        asked = demonstration.query.columns["drugs"]
        kept = [{name: row[name] for name in asked if name in row} for row in rows]
        assert json.loads(demonstration.response) == {"drugs": [row for row in kept if row]} or not any(kept)


def test_the_queries_are_those_of_reinforcement_learning() -> None:
    demonstrations = DemonstrationStream(SLIPS, SCHEMAS, DIRECT, seed=7).take(30, 50)
    assert [entry.query for entry in demonstrations] == QueryStream(SLIPS, SCHEMAS, DIRECT, seed=7).take(30, 50)


def test_traces_take_turns_and_documents_without_any_are_left_out() -> None:
    first, second, *others = SLIPS[:5]
    keys = ("patient", SCHEMAS[first.schema].keys[-1])
    traces: Traces = {
        first.id: [ReasoningTrace(text="one"), ReasoningTrace(text="two", keys=keys)],
        second.id: [ReasoningTrace(text="three")],
    }
    stream = DemonstrationStream(SLIPS[:5], SCHEMAS, REASONED, seed=1, traces=traces)
    assert stream.num_skipped == len(others) == 3
    queries = QueryStream([first, second], SCHEMAS, REASONED, seed=1).take(0, 8)
    for index, (demonstration, query) in enumerate(zip(stream.take(0, 8), queries, strict=True)):
        asked = demonstration.query
        is_two = query.document is first and index // 2 % 2 == 1
        thought = "three" if query.document is second else "two" if is_two else "one"
        assert demonstration.response.startswith(f"<think>{thought}</think>{{")
        assert (asked.id, asked.keys) == (query.id, keys if is_two else query.keys)
        present = {key for key in asked.keys if query.document.annotation.get(key)}
        assert set(json.loads(demonstration.response.partition("</think>")[2])) == present == set(asked.truth)
    with pytest.raises(ValueError, match="none of the 3 training documents has a trace"):
        DemonstrationStream(others, SCHEMAS, REASONED, seed=1, traces=traces)
    with pytest.raises(ValueError, match="need traces"):
        DemonstrationStream(SLIPS, SCHEMAS, REASONED, seed=1)


def test_direct_queries_among_reasoned_ones_are_answered_directly() -> None:
    traces: Traces = {document.id: [ReasoningTrace(text="hm", keys=("patient",))] for document in SLIPS}
    config = QueryConfig(reasoning_fraction=0.5)
    both = DemonstrationStream(SLIPS, SCHEMAS, config, seed=1, traces=traces).take(0, 200)
    assert 60 < sum(entry.query.reasoning for entry in both) < 140
    for entry in both:
        assert entry.response.startswith("<think>hm</think>{" if entry.query.reasoning else "{")


# --- reading traces --------------------------------------------------------------------------------------------------


def read(source: Path, **options: Any) -> Traces:
    documents = {document.id: document for document in SLIPS}
    return read_traces(source, documents, SCHEMAS, **({"min_reward": 0.5} | options))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: Any, name: str = "traces.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def test_a_file_of_traces_is_read(write: Callable[..., Path]) -> None:
    name = SLIPS[0].id
    path = write(
        {"document": name, "reasoning": " Line one\nLine two "},
        "",
        {"document": name, "reasoning": "x", "keys": ["patient"]},
    )
    assert read(path) == {
        name: [ReasoningTrace(text="Line one\nLine two"), ReasoningTrace(text="x", keys=("patient",))]
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"document": f"{SLIPS[0].id}x", "reasoning": "x"}, f"has no document '{SLIPS[0].id}x'; did you mean"),
        ({"document": SLIPS[0].id, "reasoning": "x", "keys": ["patiend"]}, "no key 'patiend'; did you mean 'patient'"),
        ({"document": SLIPS[0].id, "reasoning": "x", "keys": ["patient", "patient"]}, "list of different keys"),
        ({"document": SLIPS[0].id, "reasoning": "x", "keys": "patient"}, "list of different keys"),
        ({"document": SLIPS[0].id, "reasoning": " "}, "'reasoning' must be a text, got ' '"),
        ({"document": SLIPS[0].id}, "'reasoning' must be a text, got None"),
        ({"document": SLIPS[0].id, "reasoning": "a</think>"}, "leave </think> out"),
        ({"document": SLIPS[0].id, "reasoning": "x", "answer": {}}, "perhaps keys, got 'answer'"),
        ("{", "not JSON"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_mistakes_in_traces_name_the_line(write: Callable[..., Path], entry: Any, message: str) -> None:
    path = write({"document": SLIPS[0].id, "reasoning": "fine"}, "", entry)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 3: ") and message in str(caught.value)


def test_sources_without_traces_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "none", "no file or run directory"),
        (write(""), "has no lines"),
        (tmp_path, "sft.traces: .* not a run directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(source)


def test_the_digest_tells_traces_apart(write: Callable[..., Path], tmp_path: Path) -> None:
    first, second = write("a", name="a.jsonl"), write("b", name="b.jsonl")
    run = tmp_path / "run"
    recorded(run, 1, record("a", 0.5))
    digests = [traces_digest(path) for path in (first, second, run)]
    assert len(set(digests)) == 3 and digests == [traces_digest(path) for path in (first, second, run)]
    recorded(run, 2, record("b", 0.5))
    assert traces_digest(run) not in digests
    with pytest.raises(ConfigError, match="no file or run directory"):
        traces_digest(tmp_path / "none")


def record(query: str, reward: float, **changes: Any) -> RolloutRecord:
    made = RolloutRecord(
        step=1, query=query, document=SLIPS[0].id, trace=0, keys=("patient",), columns={}, descriptions={},
        reasoning=True, response=f"<think>{query}</think>{{}} {reward}", prompt_ids=(1,), token_ids=(2,),
        sampler_logprobs=(-0.5,), num_tokens=1, finish_reason=FinishReason.STOP, weight_version=0, reward=reward,
        components={}, precision=0.0, recall=0.0, status=AnswerStatus.OK, detail="", faults=(), counts=LeafCounts(),
        outcomes=(), generate_seconds=0.0, score_seconds=0.0,
    )  # fmt: skip
    return replace(made, **changes)


def recorded(run: Path, step: int, *records: RolloutRecord) -> Path:
    (run / "rollouts").mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").touch()
    path = run / "rollouts" / f"step-{step:06d}.parquet"
    write_records(path, [replace(record, step=step) for record in records])
    return path


def test_a_runs_best_responses_are_taken(tmp_path: Path) -> None:
    recorded(
        tmp_path,
        1,
        record("a", 0.6),
        record("a", 0.9, response="best", descriptions={"patient": "the name"}),
        record("a", 0.9, response="as good, but later"),
        record("a", 1.0, finish_reason=FinishReason.LENGTH),
        record("b", 0.49),
    )
    recorded(tmp_path, 2, record("c", 0.5, document=SLIPS[1].id, reasoning=False))
    best = RecordedResponse(text="best", keys=("patient",), reasoning=True, descriptions={"patient": "the name"})
    direct = RecordedResponse(text="<think>c</think>{} 0.5", keys=("patient",), reasoning=False)
    assert read(tmp_path) == {SLIPS[0].id: [best], SLIPS[1].id: [direct]}
    assert read(tmp_path, modes=(False,)) == {SLIPS[1].id: [direct]}
    assert read(tmp_path, min_reward=0.9) == {SLIPS[0].id: [best]}
    with pytest.raises(ConfigError, match=r"has a reward of at least 0\.95 .* lower sft\.min_reward"):
        read(tmp_path, min_reward=0.95)

    (demonstration,) = DemonstrationStream(SLIPS[:1], SCHEMAS, REASONED, seed=1, traces=read(tmp_path)).take(3, 1)
    query = demonstration.query
    assert (demonstration.response, query.keys, query.descriptions) == ("best", best.keys, best.descriptions)
    assert query.truth == {"patient": SLIPS[0].annotation["patient"]}


def test_records_of_other_documents_or_without_responses_are_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path, 1, record("a", 0.9), record("b", 0.9, document="other"))
    with pytest.raises(ConfigError, match=r"step-000001\.parquet, query b: the training split has no document 'other'"):
        read(tmp_path)
    write_records(path, [without_texts(record("a", 0.9))], texts_left_out="records.private")
    with pytest.raises(UserError, match=r"not kept \(records\.private\), without which sft\.traces cannot learn"):
        read(tmp_path)


# --- configuration ---------------------------------------------------------------------------------------------------

SFT = ("method=sft", "queries.reasoning_fraction=0", "evaluation.reasoning=false")


def test_the_loss_is_the_negative_log_likelihood_and_stays_it(tmp_path: Path) -> None:
    config = load_config(LOCAL, SFT)
    loss = config.loss
    assert (loss.surrogate, loss.aggregation, loss.importance) == ("reinforce", "token", "none")
    assert not loss.needs_reference and loss.entropy_coefficient == 0 and config.learner.loss == LossConfig()
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config), encoding="utf-8")
    again: Config = load_config(saved)
    assert again == config and again.loss == loss


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=ppo", "method: expected rl or sft, got 'ppo'"),
        ("learner.loss.preset=grpo", "learner.loss.preset: supervised fine-tuning minimises"),
        ("learner.loss.surrogate=clip", "learner.loss.surrogate: supervised"),
        ("learner.loss.kl_coefficient=0.1", "learner.loss.kl_coefficient: supervised"),
        ("learner.loss.importance=truncate", "learner.loss.importance: supervised"),
        ("queries.reasoning_fraction=0.5", "sft.traces: annotations hold no reasoning"),
        ("pipeline_depth=1", "pipeline_depth: supervised fine-tuning samples nothing, expected 0, got 1"),
        ("rails.stop_reward_share=0.5", "rails.stop_reward_share: supervised"),
        ("sft.min_reward=.nan", "sft.min_reward: expected a number"),
        ("records.replay=runs/any", "records.replay: supervised fine-tuning replays nothing"),
        ("sft.trace=x", "did you mean 'sft.traces'"),
    ],
)
def test_settings_that_fine_tuning_cannot_follow_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(LOCAL, [*SFT, override])
    assert message in str(caught.value)


def test_settings_that_say_the_same_are_allowed() -> None:
    load_config(LOCAL, [*SFT, "learner.loss.surrogate=reinforce", "learner.loss.kl_coefficient=0"])
    load_config(LOCAL, ["method=sft", "sft.traces=runs/any"])  # which exists when the run starts
