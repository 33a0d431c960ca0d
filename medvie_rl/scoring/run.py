"""The recorded evaluations of a run as cases and answers, and their scores, for `medvie score --run` and the report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medvie_rl.config import Config, load_config
from medvie_rl.data.store import Document, open_split
from medvie_rl.errors import UserError
from medvie_rl.progress import UNSEEN, Progress
from medvie_rl.run import resolved_config
from medvie_rl.scoring.inputs import Case, load_schemas
from medvie_rl.scoring.lines import shown
from medvie_rl.scoring.systems import NUM_RESAMPLES, Answer, ScoreReport, compare_systems, score_system
from rewards.breakdown import KeyFrequencies
from rewards.parsing import parse_response
from rewards.schema import Schema

BEFORE_AND_AFTER = ("before", "after")

_Types = type | tuple[type, ...]
_OF_DOCUMENT: Mapping[str, _Types] = {"id": str, "truth": dict, "response": str, "finish_reason": str}
_WHAT_TO_DO = "the record is damaged: restore it from a copy, or run the training again"
_MIN_CHANGE = 5e-4  # of a recorded F1: less does not show in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """The held-out documents of a run with two evaluations' answers, the earlier one `before`; `recorded_f1` are the
    F1 of that time."""

    cases: tuple[Case, ...]
    before: tuple[Answer, ...]
    after: tuple[Answer, ...]
    recorded_f1: tuple[float, float]
    frequencies: KeyFrequencies | None
    notices: tuple[str, ...]


def run_files(folder: Path) -> list[Path]:
    """The files of a run that are read."""
    return [folder / "config.yaml", *(_evaluation(folder, name) for name in BEFORE_AND_AFTER)]


def read_run(
    folder: Path,
    schema_paths: Sequence[Path] = (),
    *,
    names: tuple[str, str] = BEFORE_AND_AFTER,
    of: Literal["test", "validation"] = "test",
) -> RecordedRun:
    """Read a run directory; the schemas are those of its configuration unless others are named.

    `names` are the two evaluations, `of` is the split whose documents they are of. Which schema a document follows, and
    how rare a key is in training, stand in the run's dataset. Raises UserError if the run has no such evaluations yet,
    or if the dataset is gone and a single schema does not make it needless.
    """
    config = load_config(resolved_config(folder))
    before, after = (read_evaluation(folder, name) for name in names)
    schemas = load_schemas(schema_paths or [Path(config.schemas)])
    documents, problem = _documents(config, getattr(config.data, f"{of}_split"))
    notices = []
    if problem:
        if len(schemas) != 1:
            raise UserError(
                f"{folder}: which schema each document follows stands in the run's dataset, and {problem}\n"
                "  run this from the folder in which the run was started, put the dataset back, or give the one schema "
                "that all documents follow with --schema FILE"
            )
        notices.append(f"no document types, all documents are taken for {schemas[0].name!r}: {problem}")
    cases = tuple(_case(folder, entry, documents, schemas) for entry in before["documents"])
    if [entry["id"] for entry in after["documents"]] != [case.id for case in cases]:
        first, second = names
        raise UserError(
            f"{folder}: the evaluations {first} and {second} are of other documents; they cannot be compared"
        )
    training, problem = _documents(config, config.data.train_split, config.data.num_train)
    if problem:
        notices.append(f"no table of rare keys: {problem}")
    return RecordedRun(
        cases=cases,
        before=tuple(_answer(entry, config) for entry in before["documents"]),
        after=tuple(_answer(entry, config) for entry in after["documents"]),
        recorded_f1=(before["metrics"]["f1"], after["metrics"]["f1"]),
        frequencies=KeyFrequencies.of((item.schema, item.annotation) for item in training.values())
        if training
        else None,
        notices=tuple(notices),
    )


def score_recorded(
    recorded: RecordedRun,
    title: str,
    *,
    labels: tuple[str, str] = BEFORE_AND_AFTER,
    with_published: bool = True,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    progress: Progress = UNSEEN,
) -> ScoreReport:
    """Score both evaluations of a run as its schemas and rules say today, the later one against the earlier."""
    how: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    before, after = (
        score_system(
            name,
            recorded.cases,
            answers,
            frequencies=recorded.frequencies,
            with_published=with_published,
            progress=progress,
            **how,
        )
        for name, answers in zip(labels, (recorded.before, recorded.after), strict=True)
    )
    changed = [
        _recorded_f1_notice(f1, system.metrics.f1, _when(system.name))
        for f1, system in zip(recorded.recorded_f1, (before, after), strict=True)
    ]
    return ScoreReport(
        title=title,
        cases=recorded.cases,
        system=after,
        comparison=compare_systems(after, before, labels, **how),
        seed=seed,
        notices=(*recorded.notices, *(notice for notice in changed if notice)),
    )


def read_evaluation(folder: Path, name: str) -> dict[str, Any]:
    """A recorded evaluation; raises UserError naming the file where it is missing, damaged or of no documents."""
    path = _evaluation(folder, name)
    if not path.is_file():
        raise UserError(f"{path}: no such evaluation; a run records it {_when(name)}, has it come that far?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); {_WHAT_TO_DO}") from error
    problem = next(_problems(content), "")
    if problem:
        raise UserError(f"{path}: {problem}; {_WHAT_TO_DO}")
    if not content["documents"]:
        raise UserError(f"{path}: the run recorded no documents {_when(name)}, so there is nothing to score")
    return content  # type: ignore[no-any-return]


def _recorded_f1_notice(recorded: float, f1: float, name: str) -> str | None:
    """What to say where the F1 that was recorded is not the one of today's rules and schemas."""
    if abs(recorded - f1) < _MIN_CHANGE:
        return None
    return f"the run recorded an F1 of {recorded:.3f} {name}: the schemas or the rules of comparing have changed since"


def _when(name: str) -> str:
    return f"{name} training" if name in BEFORE_AND_AFTER else f"at {name}"


def _evaluation(folder: Path, name: str) -> Path:
    return folder / "evaluations" / f"{name}.json"


def _problems(content: Any) -> Iterator[str]:
    """What a recorded evaluation lacks of what is read here."""
    yield from _missing(content, "", {"metrics": dict, "documents": list})
    yield from _missing(content["metrics"], "metrics", {"f1": (int, float)})
    for index, entry in enumerate(content["documents"]):
        yield from _missing(entry, f"documents[{index}]", _OF_DOCUMENT)


def _missing(value: Any, where: str, expected: Mapping[str, _Types]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'the record'}: expected an object, got {shown(value)}"
        return
    for key, kind in expected.items():
        name = f"{where}.{key}" if where else key
        if key not in value:
            yield f"{name} is missing"
        elif not isinstance(value[key], kind):
            yield f"{name}: not what a run records, got {shown(value[key])}"


def _documents(config: Config, split: str, limit: int = 0) -> tuple[dict[str, Document], str]:
    """The documents of a split by id, or why there are none."""
    try:
        documents = open_split(config.data.path, split).documents
    except ValueError as error:
        return {}, str(error)
    return {document.id: document for document in documents[: limit or None]}, ""


def _case(folder: Path, entry: Mapping[str, Any], documents: Mapping[str, Document], schemas: Sequence[Schema]) -> Case:
    document = documents.get(entry["id"])
    if documents and document is None:
        raise UserError(f"{folder}: document {entry['id']!r} is not in the run's dataset; was the dataset changed?")
    name = schemas[0].name if document is None else document.schema
    schema = next((schema for schema in schemas if schema.name == name), None)
    if schema is None:
        known = ", ".join(schema.name for schema in schemas)
        raise UserError(f"{folder}: document {entry['id']!r} follows schema {name!r}; there are only {known}")
    problems = schema.validate_annotation(entry["truth"])
    if problems:
        raise UserError(
            f"{folder}: the truth of document {entry['id']!r} does not fit schema {name!r}, which must have changed: "
            + "; ".join(problems)
        )
    document_type = schema.document_type if document is None else document.document_type
    return Case(id=entry["id"], document_type=document_type, schema=schema, fields=entry["truth"], truth=entry["truth"])


def _answer(entry: Mapping[str, Any], config: Config) -> Answer:
    response, reasoning = entry["response"], config.evaluation.reasoning
    # What a run adds to its reward beyond precision, recall and form is not what is scored here.
    reward = replace(config.reward, overlong_penalty=0.0, components=[])
    return Answer(
        response=response,
        fields=parse_response(response, reasoning=reasoning, limits=reward.parse_limits()).answer,
        config=reward,
        reasoning=reasoning,
        truncated=entry["finish_reason"] == "length",
    )
