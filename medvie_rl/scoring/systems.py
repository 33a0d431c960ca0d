"""All numbers of a set of predictions, or of two sets on the same documents: what `medvie score` is about."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medvie_rl.progress import UNSEEN, Progress
from medvie_rl.scoring.inputs import Case, Prediction, Predictions, Truth
from rewards.breakdown import GroupMetrics, KeyFrequencies, breakdown, layout_of
from rewards.metrics import (
    ExtractionMetrics,
    GainByErrorClass,
    PairedDifference,
    extraction_metrics,
    gain_by_error_class,
    paired_bootstrap,
)
from rewards.parsing import REASONING_START, parse_response
from rewards.published import KIEvalScores, anls_star, donut_f1, donut_nted_accuracy, kieval
from rewards.reward import RewardConfig, score_response
from rewards.types import Score
from rewards.values import repeated_keys

NUM_RESAMPLES = 1_000

_AS_MODEL = RewardConfig()  # raw responses are read as strictly as in training
_AS_GIVEN = RewardConfig(max_response_characters=10**9, max_json_depth=1_000, max_json_values=10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One system's answer to a case: the response to score, and its JSON as it was given (None for no valid JSON)."""

    response: str
    fields: Any
    config: RewardConfig
    reasoning: bool = False
    truncated: bool = False
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMetrics:
    """The field's published metrics (see `rewards.published`), over all documents.

    `anls_star` and `donut_nted_accuracy` are over the documents small enough for them, None if there are none;
    `num_anls_skipped` and `num_nted_skipped` are the others.
    """

    anls_star: float | None
    num_anls_skipped: int
    donut_nted_accuracy: float | None
    num_nted_skipped: int
    donut_f1: float
    kieval: KIEvalScores


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """All numbers of one set of predictions."""

    name: str
    scores: tuple[Score, ...]
    metrics: ExtractionMetrics
    groups: Mapping[str, tuple[GroupMetrics, ...]]
    published: PublishedMetrics | None
    num_missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A system against another one on the same documents: this one minus the other. `labels` are theirs, in tables."""

    other: System
    labels: tuple[str, str]  # of the other, of this one
    difference: PairedDifference
    gain: GainByErrorClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """Everything that `medvie score` shows or writes."""

    title: str
    cases: tuple[Case, ...]
    system: System
    comparison: Comparison | None
    seed: int
    notices: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


def answer_from(case: Case, prediction: Prediction | None, truth: Truth) -> Answer:
    """The answer that a prediction makes; none at all is an answer without valid JSON."""
    if prediction is None:
        return Answer(response="", fields=None, config=_AS_MODEL, is_missing=True)
    if prediction.fields is not None:
        response = dump_json(truth.shape(case, prediction.fields))
        return Answer(response=response, fields=prediction.fields, config=_AS_GIVEN)
    response = prediction.response or ""
    reasoning = REASONING_START in response
    fields = parse_response(response, reasoning=reasoning, limits=_AS_MODEL.parse_limits()).answer
    if fields is not None and truth.inferred:
        return Answer(response=dump_json(truth.shape(case, fields)), fields=fields, config=_AS_GIVEN)
    return Answer(response=response, fields=fields, config=_AS_MODEL, reasoning=reasoning)


def score_system(
    name: str,
    cases: Sequence[Case],
    answers: Sequence[Answer],
    *,
    frequencies: KeyFrequencies | None = None,
    with_published: bool = True,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    progress: Progress = UNSEEN,
) -> System:
    """Score one answer for each case, every key of its schema being asked for."""
    progress.begin(len(cases))
    scores = tuple(
        score_response(
            case.schema,
            case.schema.keys,
            case.truth,
            answer.response,
            reasoning=answer.reasoning,
            truncated=answer.truncated,
            config=answer.config,
            query_id=case.id,
            document_id=case.id,
        )
        for case, answer in progress.each(zip(cases, answers, strict=True))
    )
    groups = breakdown(
        scores,
        document_types={case.id: case.document_type for case in cases},
        layouts={case.id: layout_of(case.truth) for case in cases},
        frequencies=frequencies,
        num_resamples=num_resamples,
        seed=seed,
    )
    pairs = [(_plain(case.fields), _plain(answer.fields)) for case, answer in zip(cases, answers, strict=True)]
    return System(
        name=name,
        scores=scores,
        metrics=extraction_metrics(scores, num_resamples=num_resamples, seed=seed),
        groups=groups,
        published=published_metrics(pairs, progress) if with_published else None,
        num_missing=sum(answer.is_missing for answer in answers),
    )


def score_predictions(name: str, predictions: Predictions, truth: Truth, **how: Any) -> System:
    """Score predictions against annotations; `how` are the options of `score_system`."""
    cases = list(truth.cases.values())
    return score_system(
        name, cases, [answer_from(case, predictions.by_id.get(case.id), truth) for case in cases], **how
    )


def compare_systems(
    system: System, other: System, labels: tuple[str, str], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Comparison:
    """`system` minus `other`, with paired intervals."""
    return Comparison(
        other=other,
        labels=labels,
        difference=paired_bootstrap(other.scores, system.scores, num_resamples=num_resamples, seed=seed),
        gain=gain_by_error_class(other.scores, system.scores),
    )


def published_metrics(pairs: Sequence[tuple[Any, Any]], progress: Progress = UNSEEN) -> PublishedMetrics:
    """ANLS*, Donut's two and KIEval of (truth, answer) pairs of plain JSON; an answer of None is no valid JSON."""
    progress.begin(len(pairs))
    of_each = [(anls_star(*pair), donut_nted_accuracy(*pair)) for pair in progress.each(pairs)]
    similarities = [similarity for similarity, _ in of_each if similarity is not None]
    accuracies = [accuracy for _, accuracy in of_each if accuracy is not None]
    return PublishedMetrics(
        anls_star=fmean(similarities) if similarities else None,
        num_anls_skipped=len(pairs) - len(similarities),
        donut_nted_accuracy=fmean(accuracies) if accuracies else None,
        num_nted_skipped=len(pairs) - len(accuracies),
        donut_f1=donut_f1(pairs),
        kieval=kieval(pairs),
    )


def dump_json(value: Any) -> str:
    """JSON text of `value`, in which keys that were given again are given again."""
    return "".join(_tokens(value))


def _tokens(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        items = [*value.items(), *repeated_keys(value)]
        for index, (key, item) in enumerate(items):
            yield f"{', ' if index else '{'}{json.dumps(key, ensure_ascii=False)}: "
            yield from _tokens(item)
        yield "}" if items else "{}"
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield ", " if index else "["
            yield from _tokens(item)
        yield "]" if value else "[]"
    else:
        yield json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
