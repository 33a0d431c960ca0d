"""What `medvie rollouts` tells of a run's records: numbers by step, the best and the worst, one document's history."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from medvie_rl.errors import UserError, did_you_mean
from medvie_rl.records import RolloutRecord, read_records, with_texts
from rewards.types import AnswerStatus, LeafCounts, LeafOutcome
from rollout.types import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some responses in numbers: means, precision and recall as micro-averages, shares."""

    step: int
    num_responses: int
    reward: float
    best_reward: float
    worst_reward: float
    precision: float
    recall: float
    truncated: float
    invalid: float  # without an answer, whatever the reason
    num_tokens: float
    weight_version: int  # the newest that sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query of a step."""

    query: str
    document: str
    keys: tuple[str, ...]
    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory:
    """Share of a document's responses that had a key right, when it was first and when it was last asked for."""

    key: str
    first_step: int
    first_right: float
    last_step: int
    last_right: float

    @property
    def change(self) -> str:
        """Whether most responses had it right, before and after."""
        before, after = self.first_right >= 0.5, self.last_right >= 0.5
        if before == after:
            return "right" if after else "wrong"
        return "became right" if after else "became wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHistory:
    """What became of a document; `first` and `last` are the best responses of the first and the last step with it."""

    document: str
    batches: tuple[Batch, ...]
    keys: tuple[KeyHistory, ...]
    first: RolloutRecord
    last: RolloutRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Steps in numbers, and responses that stand out, each of these the first to look at first."""

    batches: tuple[Batch, ...]
    asked: tuple[Asked, ...]  # of the last step only
    best: tuple[RolloutRecord, ...]
    worst: tuple[RolloutRecord, ...]
    truncated: tuple[RolloutRecord, ...]


def overview(files: Mapping[int, Path], *, best: int, worst: int, truncated: int) -> Overview:
    """Read the steps one after the other; of what stands out, as many responses as asked for, the newest of equals."""
    batches: list[Batch] = []
    highest: list[RolloutRecord] = []
    lowest: list[RolloutRecord] = []
    cut: list[RolloutRecord] = []
    records: list[RolloutRecord] = []
    for step, path in files.items():
        records = read_records(path, texts=False)
        batches.append(batch_of(step, records))
        highest = _first(best, highest + records, lambda record: (-record.reward, -record.step))
        lowest = _first(worst, lowest + records, lambda record: (record.reward, -record.step))
        cut_off = [record for record in records if record.finish_reason is FinishReason.LENGTH]
        cut = _first(truncated, cut + cut_off, lambda record: (-record.step,))
    return Overview(
        batches=tuple(batches),
        asked=tuple(_asked(records)),
        best=tuple(with_texts(highest, files)),
        worst=tuple(with_texts(lowest, files)),
        truncated=tuple(with_texts(cut, files)),
    )


def document_history(files: Mapping[int, Path], document: str) -> DocumentHistory:
    """All that was recorded of a document; raises UserError if nothing was."""
    by_step: dict[int, list[RolloutRecord]] = {}
    seen: set[str] = set()
    for step, path in files.items():
        records = read_records(path, texts=False)
        seen.update(record.document for record in records)
        of_document = [record for record in records if record.document == document]
        if of_document:
            by_step[step] = of_document
    if not by_step:
        hint = did_you_mean(document, seen) or f"; one is {min(seen)!r}" if seen else ""
        raise UserError(f"--document: no recorded step has asked about {document!r}{hint}")
    ends = [max(by_step[step], key=lambda record: record.reward) for step in (min(by_step), max(by_step))]
    first, last = with_texts(ends, files)
    return DocumentHistory(
        document=document,
        batches=tuple(batch_of(step, records) for step, records in by_step.items()),
        keys=tuple(_key_histories(by_step)),
        first=first,
        last=last,
    )


def batch_of(step: int, records: Sequence[RolloutRecord]) -> Batch:
    """The numbers of some responses of a step."""
    counts = sum((record.counts for record in records), LeafCounts())
    rewards = [record.reward for record in records]
    return Batch(
        step=step,
        num_responses=len(records),
        reward=fmean(rewards),
        best_reward=max(rewards),
        worst_reward=min(rewards),
        precision=counts.precision,
        recall=counts.recall,
        truncated=fmean(record.finish_reason is FinishReason.LENGTH for record in records),
        invalid=fmean(record.status is not AnswerStatus.OK for record in records),
        num_tokens=fmean(record.num_tokens for record in records),
        weight_version=max(record.weight_version for record in records),
    )


def is_right(record: RolloutRecord, key: str) -> bool:
    """Whether a key was answered and all of it is right, or is rightly left out."""
    of_key = (outcome for name, outcome in record.outcomes if name == key or name.startswith(f"{key}."))
    return record.status is AnswerStatus.OK and all(outcome is LeafOutcome.CORRECT for outcome in of_key)


def _asked(records: Sequence[RolloutRecord]) -> list[Asked]:
    found = []
    for query, traces in groupby(records, key=lambda record: record.query):
        of_query = list(traces)
        first = of_query[0]
        batch = batch_of(first.step, of_query)
        found.append(Asked(query=query, document=first.document, keys=first.keys, batch=batch))
    return found


def _key_histories(by_step: Mapping[int, Sequence[RolloutRecord]]) -> list[KeyHistory]:
    asked_in: dict[str, list[int]] = {}
    for step, records in by_step.items():
        for key in dict.fromkeys(key for record in records for key in record.keys):
            asked_in.setdefault(key, []).append(step)

    def share(key: str, step: int) -> float:
        return fmean(is_right(record, key) for record in by_step[step] if key in record.keys)

    return [
        KeyHistory(
            key=key,
            first_step=steps[0],
            first_right=share(key, steps[0]),
            last_step=steps[-1],
            last_right=share(key, steps[-1]),
        )
        for key, steps in sorted(asked_in.items())
    ]


def _first(
    num: int, records: Sequence[RolloutRecord], order: Callable[[RolloutRecord], tuple[float, ...]]
) -> list[RolloutRecord]:
    return heapq.nsmallest(num, records, key=order)
