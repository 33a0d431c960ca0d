"""A run's folder as a report reads it: written by what a run writes and scores with, without an engine."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvie_rl.batch import ScoredGroup, score_request, step_metrics
from medvie_rl.config import Config, load_config
from medvie_rl.data.load import load_schemas
from medvie_rl.data.queries import Query, evaluation_queries
from medvie_rl.data.store import Document, open_split
from medvie_rl.evaluate import Evaluation
from medvie_rl.records import rollout_records
from medvie_rl.run import Run
from rewards.metrics import extraction_metrics
from rewards.scorer import Scorer
from rollout.types import FinishReason, Rollout, RolloutGroup

SCHEMAS = load_schemas(Path("conf/schemas"))
NUM_STEPS, EVALUATED = 6, (0, 3, 6)
SETTINGS = ("wandb.mode=disabled", f"num_steps={NUM_STEPS}", "data.num_validation=8", "data.num_test=12")
HOSTILE = "</pre></td><script>alert('x')</script><img src=https://example.org/x.png>\x1b[31m"

Respond = Callable[[Document, float], str]


def respond(document: Document, skill: float) -> str:
    """All kinds of errors, fewer with more skill, from 0 to 1; a third of the documents does not get better."""
    number = int(document.id.rpartition("-")[2])
    skill = 0.3 if number % 3 == 2 else skill
    answer = dict(document.annotation)
    keys, schema = list(answer), SCHEMAS[document.schema]
    for place, key in enumerate(keys):
        if (place + 0.5) / len(keys) < skill:
            continue
        kind = (number + place) % 3
        if kind == 0:
            del answer[key]
        elif kind == 1:
            answer[key] = f"{answer[key]}x"
        else:
            others = (other for other in keys if other != key and schema.field(other).kind == schema.field(key).kind)
            answer[key] = document.annotation.get(next(others, ""), "?")
    absent = [key for key in schema.keys if key not in document.annotation]
    if absent and skill < 0.9:
        answer[absent[0]] = HOSTILE
    return f"<think>read {document.id}, {HOSTILE}</think>{json.dumps(answer, ensure_ascii=False)}"


def config_of(*settings: str) -> Config:
    return load_config(Path("conf/local.yaml"), [*SETTINGS, *settings])


def evaluated(config: Config, documents: Sequence[Document], skill: float, answer: Respond = respond) -> Evaluation:
    """The evaluation of an imagined policy, as a run makes it."""
    scorer = Scorer(config.reward, SCHEMAS)
    queries = evaluation_queries(documents, SCHEMAS, reasoning=config.evaluation.reasoning)
    rollouts = [_rollout(answer(query.document, skill), round(10 * skill)) for query in queries]
    requests = (score_request(query, rollout, max_tokens=256) for query, rollout in zip(queries, rollouts, strict=True))
    scores = tuple(scorer.score(request, built_in_only=True) for request in requests)
    metrics = extraction_metrics(scores, num_resamples=200, seed=config.seed)
    return Evaluation(queries=tuple(queries), rollouts=tuple(rollouts), scores=scores, metrics=metrics)


def make_run(folder: Path, *settings: str, until: int = NUM_STEPS, answer: Respond = respond) -> Path:
    """A run that has come to the step `until`; with the last one it has ended."""
    config = config_of("evaluation.bootstrap_samples=200", *settings)
    run = Run.create(config, folder)
    train, validation, test = (_documents(config, name) for name in ("train", "validation", "test"))
    run.record_evaluation("before", evaluated(config, test, 0.3, answer).record())
    for step in range(until + 1):
        skill = 0.3 + 0.6 * step / NUM_STEPS
        metrics: dict[str, float] = {}
        if step:
            metrics = _step(run, config, step, evaluation_queries(train[:3], SCHEMAS, reasoning=True), skill, answer)
        if step in EVALUATED:
            evaluation = evaluated(config, validation, skill, answer)
            run.record_evaluation(f"step-{step:06d}", evaluation.record())
            metrics |= evaluation.step_metrics()
        run.log(step, metrics)
    if until == NUM_STEPS:
        run.record_evaluation("after", evaluated(config, test, 0.9, answer).record())
    return run.folder


def _documents(config: Config, name: str) -> list[Document]:
    split, num = getattr(config.data, f"{name}_split"), getattr(config.data, f"num_{name}")
    return open_split(config.data.path, split).documents[: num or None]


def _step(
    run: Run, config: Config, step: int, queries: Sequence[Query], skill: float, answer: Respond
) -> dict[str, float]:
    """What a step logs and records: of rewards, where it samples, and of an update."""
    learned: Mapping[str, Any] = {"loss/loss": 1 / step, "loss/gradient_norm": 0.5 + step, "time/update": 2.0}
    if config.method == "sft":
        return {**learned, "sft/tokens_mean": 40.0 + step, "time/step": 2.5}
    scorer, groups = Scorer(config.reward, SCHEMAS), []
    for query in queries:
        rollouts = tuple(_rollout(answer(query.document, skill * part), step - 1) for part in (0.2, 1.0))
        scores = tuple(scorer.score(score_request(query, rollout, max_tokens=256)) for rollout in rollouts)
        group = RolloutGroup(query_id=query.id, prompt_ids=(1, 2, 3), rollouts=rollouts)
        groups.append(ScoredGroup(query=query, group=group, scores=scores))
    run.record_rollouts(step, rollout_records(step, groups))
    return {
        **step_metrics(groups, weight_version=step - 1),
        **learned,
        "loss/clip_fraction": 0.01 * step,
        "loss/sampler_kl": 1e-12 * step,
        "loss/entropy": 1.0 - 0.1 * step,
        "time/generate": 3.0,
        "time/step": 5.0 + step,
    }


def _rollout(text: str, weight_version: int) -> Rollout:
    return Rollout(
        text=text,
        token_ids=tuple(range(len(text) // 4)),
        logprobs=(-0.5,) * (len(text) // 4),
        finish_reason=FinishReason.STOP,
        weight_version=weight_version,
    )
