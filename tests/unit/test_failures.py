"""When an update fails, the suspects' responses are kept, and the error says where."""

import json
from pathlib import Path

import pytest

from learner.errors import NonFiniteError
from medvie_rl.batch import ScoredGroup
from medvie_rl.config import load_config
from medvie_rl.data.document import Document
from medvie_rl.data.queries import Query
from medvie_rl.failures import dumped_if_suspect
from medvie_rl.run import Run
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rollout.types import FinishReason, Rollout, RolloutGroup

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=(FieldSpec(key="drug", description="the drug", kind="text"),),
)
TRUTH = {"drug": "aspirin"}


def scored(name: str, document: str) -> ScoredGroup:
    page = Document(id=document, document_type="note", schema="note", annotation=TRUTH, image_keys=())
    query = Query(id=name, document=page, keys=("drug",), truth=TRUTH, reasoning=False)
    texts = ('{"drug": "aspirin"}', "für") if name == "q1" else ("none", "none")
    rollouts = tuple(
        Rollout(
            text=text, token_ids=(5, trace), logprobs=(-0.25, -1e-9), finish_reason=FinishReason.STOP, weight_version=2
        )
        for trace, text in enumerate(texts)
    )
    scores = tuple(
        score_response(SCHEMA, ("drug",), TRUTH, text, reasoning=False, truncated=False, config=RewardConfig())
        for text in texts
    )
    group = RolloutGroup(query_id=name, prompt_ids=(7, 8), rollouts=rollouts)
    return ScoredGroup(query=query, group=group, scores=scores)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(load_config(Path("conf/local.yaml"), [f"output_dir={tmp_path}", "wandb.mode=disabled"]))


def test_the_suspects_responses_are_written_and_named(run: Run) -> None:
    groups = [scored("q0", "doc-a"), scored("q1", "doc-c"), scored("q2", "doc-b"), scored("q3", "doc-c")]
    error = NonFiniteError("the loss of minibatch 0 is not finite", ("q1", "q2", "q3"))
    path = run.folder / "failures" / "step-000007.jsonl"
    with pytest.raises(FloatingPointError) as raised, dumped_if_suspect(run, 7, groups):
        raise error
    assert raised.value.__cause__ is error
    message = str(raised.value)
    assert message.startswith("step 7: the loss of minibatch 0 is not finite: queries q1, q2, q3; look at")
    assert message.endswith(f"Documents: doc-b, doc-c; their records are in {path}")

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["query"], line["trace"]) for line in lines] == [(q, t) for q in ("q1", "q2", "q3") for t in (0, 1)]
    first = lines[0]
    assert (first["document"], first["response"], first["reward"]) == ("doc-c", '{"drug": "aspirin"}', 1.0)
    assert (first["prompt_ids"], first["token_ids"], first["sampler_logprobs"]) == ([7, 8], [5, 0], [-0.25, -1e-9])
    assert (first["step"], lines[1]["token_ids"], lines[1]["response"]) == (7, [5, 1], "für")


def test_in_private_the_suspects_are_named_without_what_they_answered(run: Run) -> None:
    run.config.records.private = True
    with pytest.raises(FloatingPointError), dumped_if_suspect(run, 7, [scored("q1", "doc-c")]):
        raise NonFiniteError("the loss is not finite", ("q1",))
    first, _ = (run.folder / "failures" / "step-000007.jsonl").read_text(encoding="utf-8").splitlines()
    assert "aspirin" not in first
    kept = json.loads(first)
    assert (kept["document"], kept["reward"], kept["response"], kept["token_ids"]) == ("doc-c", 1.0, None, None)


def test_an_update_that_works_and_any_other_error_leave_nothing(run: Run) -> None:
    with dumped_if_suspect(run, 1, [scored("q0", "doc-a")]):
        pass
    with pytest.raises(FloatingPointError, match="elsewhere"), dumped_if_suspect(run, 1, [scored("q0", "doc-a")]):
        raise FloatingPointError("elsewhere")
    assert not (run.folder / "failures").exists()
