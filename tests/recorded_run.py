"""A run's folder with recorded rollouts, made by what a run records and scores with, without an engine."""

import json
from pathlib import Path
from typing import Any

from medvie_rl.batch import ScoredGroup, score_request
from medvie_rl.config import load_config, to_yaml
from medvie_rl.data.load import load_schemas
from medvie_rl.data.queries import QueryConfig, QueryStream
from medvie_rl.data.store import open_split
from medvie_rl.records import RecordWriter, rollout_records
from rewards.scorer import Scorer
from rollout.types import FinishReason, Rollout, RolloutGroup

SLIPS = Path("medvie_rl/nano/slips")
DOCUMENTS = open_split(SLIPS, "train").documents
SCHEMAS = load_schemas(Path("conf/schemas"))
NUM_STEPS, NUM_TRACES = 4, 3


def respond(truth: dict[str, Any], step: int, trace: int) -> tuple[str, FinishReason]:
    """Better from step to step: first nothing is right, then one key more for each step, and of trace 0 all."""
    if step == 1:
        return "\x1b[31mno idea", FinishReason.STOP
    if trace == 2 and step == 3:
        return '{"patient": "cut', FinishReason.LENGTH
    known = list(truth.items())[: None if trace == 0 else step - 1]
    return json.dumps(dict(known), ensure_ascii=False), FinishReason.STOP


def make_run(folder: Path, *settings: str) -> Path:
    """A run of four steps that asks two documents again and again, recorded and scored by what a run records with."""
    config = load_config(Path("conf/local.yaml"), settings)
    (folder / "rollouts").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    scorer, writer = Scorer(config.reward, SCHEMAS), RecordWriter(folder / "rollouts", config.records)
    queries = QueryStream(DOCUMENTS[:2], SCHEMAS, QueryConfig(min_keys=3, max_keys=5, reasoning_fraction=0), seed=3)
    for step in range(1, NUM_STEPS + 1):
        groups = []
        for query in queries.take(2 * (step - 1), 2):
            rollouts = []
            for trace in range(NUM_TRACES):
                text, reason = respond(dict(query.truth), step, trace)
                about: dict[str, Any] = {"finish_reason": reason, "weight_version": step - 1}
                rollouts.append(Rollout(text=text, token_ids=(step, trace), logprobs=(-0.5, -0.25), **about))
            group = RolloutGroup(query_id=query.id, prompt_ids=(1, 2, 3), rollouts=tuple(rollouts))
            scores = tuple(scorer.score(score_request(query, rollout, max_tokens=256)) for rollout in rollouts)
            groups.append(ScoredGroup(query=query, group=group, scores=scores))
        writer.write(step, rollout_records(step, groups, {"generate": 1.0, "score": 0.5}))
    return folder
