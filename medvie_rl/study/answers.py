"""The held-out answers of a study's policies, scored, a row each: what every table and figure is computed from.

Where a study has no conditions these are the answers that a run recorded of its test documents after training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from medvie_rl.compared import in_words
from medvie_rl.config import Config
from medvie_rl.data.load import load_schemas
from medvie_rl.data.prompts import load_prompt_template
from medvie_rl.data.store import Document, open_split
from medvie_rl.evaluation.ask import PolicySystem
from medvie_rl.evaluation.documents import EvaluationSet, open_documents
from medvie_rl.evaluation.predictions import find_predictions, predictions_path, write_predictions
from medvie_rl.policy_settings import EngineSettings, PolicySettings
from medvie_rl.progress import show_progress
from medvie_rl.scoring.lines import read_lines
from medvie_rl.scoring.run import read_evaluation
from medvie_rl.study.config import Condition, StudyConfig
from medvie_rl.study.documents import condition_dataset, condition_of
from medvie_rl.study.plan import Trial
from rewards.breakdown import layout_of
from rewards.reward import RewardConfig, score_response
from rewards.schema import Schema
from rewards.types import LeafCounts, Score
from rollout.config import RolloutConfig

TEST = Condition(name="test")  # of a study that names none
_COUNTS = tuple(item.name for item in fields(LeafCounts))
_LEAF = pa.struct(  # as rewards.types.Leaf, values as text
    [
        ("key", pa.string()), ("kind", pa.string()), ("outcome", pa.string()), ("answered", pa.string()),
        ("true", pa.string()), ("position", pa.list_(pa.int32())),
    ]
)  # fmt: skip
ARROW_SCHEMA = pa.schema(
    [
        ("study", pa.string()), ("arm", pa.string()), ("seed", pa.int64()), ("condition", pa.string()),
        ("document", pa.string()), ("document_type", pa.string()), ("schema", pa.string()),
        ("num_values", pa.int32()), ("num_rows", pa.int32()), ("reasoning", pa.bool_()), ("response", pa.string()),
        ("num_tokens", pa.int32()), ("status", pa.string()), ("f1", pa.float64()),
        *((name, pa.int32()) for name in _COUNTS), ("leaves", pa.list_(_LEAF)),
    ]
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A document with what a policy said of it."""

    condition: str
    document: Document
    response: str
    truncated: bool
    reasoning: bool


def conditions_of(study: StudyConfig) -> list[Condition]:
    """Where the study's policies are tested."""
    return study.conditions or [TEST]


def collect(name: str, study: StudyConfig, trials: Sequence[Trial], out: Path) -> list[Row]:
    """A row for every answer of every trial whose run has ended; policies are asked what no run has asked them.

    The base is asked once: it answers alike for every seed. Raises UserError naming a file that cannot be read.
    """
    rows: list[Row] = []
    of_base: dict[str, list[Row]] = {}
    for trial in trials:
        if trial.run is None:
            if trial.arm not in of_base:
                of_base[trial.arm] = list(_rows(name, trial, _asked(study, trial, out)))
            rows += [{**row, "seed": trial.seed} for row in of_base[trial.arm]]
        elif trial.run.is_finished:
            answered = _asked(study, trial, out) if study.conditions else _recorded(trial.config, trial.run.folder)
            rows += _rows(name, trial, answered)
    return rows


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet, whole or not at all."""
    aside = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=ARROW_SCHEMA), aside, compression="zstd")
    aside.replace(path)


def _recorded(config: Config, folder: Path) -> Iterator[Answered]:
    """The answers that a run recorded after training."""
    documents = {each.id: each for each in open_split(config.data.path, config.data.test_split).documents}
    for entry in read_evaluation(folder, "after")["documents"]:
        yield Answered(
            condition=TEST.name,
            document=documents[entry["id"]],
            response=entry["response"],
            truncated=entry["finish_reason"] == "length",
            reasoning=config.evaluation.reasoning,
        )


def _asked(study: StudyConfig, trial: Trial, out: Path) -> Iterator[Answered]:
    """The answers of a policy to the documents of all conditions, asked now unless they lie there."""
    conditions = conditions_of(study)
    modes = [trial.config.evaluation.reasoning if each.reasoning is None else each.reasoning for each in conditions]
    for reasoning in sorted(set(modes)):
        asked = [each for each, mode in zip(conditions, modes, strict=True) if mode is reasoning]
        folder = condition_dataset(asked, trial.config, study.prepare, out / "data")
        documents = open_documents(str(folder), "test", [Path(trial.config.schemas)], limit=None)
        lines = _predictions(trial, documents, folder.name, out, reasoning=reasoning)
        of_id = {document.id: document for document in documents.documents}
        for line in lines:
            condition, own_id = condition_of(line["id"])
            yield Answered(
                condition=condition,
                document=replace(of_id[line["id"]], id=own_id),
                response=line.get("response") or "",
                truncated=bool(line.get("truncated")),
                reasoning=reasoning,
            )


def _predictions(
    trial: Trial, documents: EvaluationSet, dataset: str, out: Path, *, reasoning: bool
) -> list[Mapping[str, Any]]:
    policy = trial.run.id if trial.run else "base"
    name = f"{policy}-{dataset}-{'reasoning' if reasoning else 'direct'}"
    system = PolicySystem(_settings(trial, reasoning), out / "ocr", constrained=trial.config.evaluation.constrained)
    made, _ = find_predictions(out, name, system.inputs(documents))
    if made is None:
        told = f"{trial.arm}, seed {trial.seed}" if trial.run else trial.arm
        with show_progress(f"asking {told}") as progress:
            lines, made = system.predict(documents, progress)
        write_predictions(out, name, lines, made)
    return [line.entry for line in read_lines(predictions_path(out, name), "a prediction")]


def _settings(trial: Trial, reasoning: bool) -> PolicySettings:
    config, engine = trial.config, trial.config.rollout
    settings = {item.name: getattr(engine, item.name) for item in fields(RolloutConfig)}
    return PolicySettings(
        policy=trial.policy,
        prompt=Path(config.prompt),
        template=load_prompt_template(Path(config.prompt)),
        reasoning=reasoning,
        ocr=config.ocr,
        engine=EngineSettings(**settings, sampling=config.evaluation.sampling),
    )


def _rows(study: str, trial: Trial, answered: Iterator[Answered]) -> Iterator[Row]:
    schemas, tokenizer = load_schemas(Path(trial.config.schemas)), _tokenizer(trial.policy)
    for each in answered:
        score = _score(schemas[each.document.schema], each)
        layout = layout_of(each.document.annotation)
        yield {
            "study": study,
            "arm": trial.arm,
            "seed": trial.seed,
            "condition": each.condition,
            "document": each.document.id,
            "document_type": each.document.document_type,
            "schema": each.document.schema,
            "num_values": layout.num_leaves,
            "num_rows": layout.num_rows,
            "reasoning": each.reasoning,
            "response": each.response,
            "num_tokens": len(tokenizer.encode(each.response, add_special_tokens=False).ids),
            "status": score.status.value,
            "f1": score.f1,
            **{name: getattr(score.counts, name) for name in _COUNTS},
            "leaves": [
                {
                    "key": leaf.key,
                    "kind": leaf.kind,
                    "outcome": leaf.outcome.value,
                    "answered": None if leaf.answered is None else in_words(leaf.answered),
                    "true": None if leaf.true is None else in_words(leaf.true),
                    "position": leaf.position,
                }
                for leaf in score.leaves
            ],
        }


def _score(schema: Schema, answered: Answered) -> Score:
    return score_response(
        schema,
        schema.keys,
        answered.document.annotation,
        answered.response,
        reasoning=answered.reasoning,
        truncated=answered.truncated,
        config=RewardConfig(),
        document_id=answered.document.id,
    )


@cache
def _tokenizer(policy: Path) -> Tokenizer:
    return Tokenizer.from_file(str(policy / "tokenizer.json"))
