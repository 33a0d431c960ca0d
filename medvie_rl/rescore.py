"""Scoring again what a run recorded, without Ray or engines: what another reward, schema or annotation would change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from statistics import fmean

from medvie_rl.batch import score_requests
from medvie_rl.config import Config
from medvie_rl.data.load import load_schemas
from medvie_rl.data.store import open_split
from medvie_rl.errors import ConfigError
from medvie_rl.records import RolloutRecord, check_has_texts, read_records
from medvie_rl.replay import recorded_batch
from medvie_rl.resume import load_stored
from rewards.components import ComponentLoadError
from rewards.types import LeafCounts, Score
from rewards.worker import RewardWorker

_SETTINGS = ("reward.", "schemas=", "data.path=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """Some responses as they were recorded and as they are scored now: pairs of before and after."""

    num_responses: int
    num_changed: int  # rewards that are not equal to the bit
    reward: tuple[float, float]  # means
    counts: tuple[LeafCounts, LeafCounts]

    @property
    def precision(self) -> tuple[float, float]:
        """Micro-averages over all leaves."""
        before, after = (counts.precision for counts in self.counts)
        return before, after

    @property
    def recall(self) -> tuple[float, float]:
        """Micro-averages over all leaves."""
        before, after = (counts.recall for counts in self.counts)
        return before, after


def rescored_config(run: Path, overrides: Sequence[str]) -> Config:
    """The run's configuration with overrides; raises ConfigError for those that have no part in scores."""
    for override in overrides:
        if not override.startswith(_SETTINGS):
            raise ConfigError(
                f"--rescore: {override!r} has no part in scores; expected reward.KEY=VALUE, schemas=FOLDER or "
                "data.path=FOLDER"
            )
    return load_stored(run, run / "config.yaml", overrides)


def rescore(files: Mapping[int, Path], config: Config) -> Iterator[tuple[int, Rescored]]:
    """Score step by step, as the reward actor does.

    Raises UserError for records without responses, and for documents or keys that are not there any more.
    """
    check_has_texts(files.values(), "they cannot be scored again")
    try:
        documents = {document.id: document for document in open_split(config.data.path, config.data.train_split)}
        schemas = load_schemas(Path(config.schemas))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    worker = RewardWorker(config.reward, schemas)
    try:
        worker.start()
        for step, path in files.items():
            records = read_records(path)
            queries, groups = recorded_batch(path, records, documents, schemas)
            requests = score_requests(queries, groups, max_tokens=config.rollout.max_response_tokens)
            yield step, _compare(records, worker.score(requests))
    except ComponentLoadError as error:
        raise ConfigError(str(error)) from error
    finally:
        worker.close()


def total(parts: Sequence[Rescored]) -> Rescored:
    """All of them together."""
    num = sum(part.num_responses for part in parts)
    sums = [fsum(part.reward[side] * part.num_responses for part in parts) for side in (0, 1)]
    counts = [sum((part.counts[side] for part in parts), LeafCounts()) for side in (0, 1)]
    return Rescored(
        num_responses=num,
        num_changed=sum(part.num_changed for part in parts),
        reward=(sums[0] / num, sums[1] / num),
        counts=(counts[0], counts[1]),
    )


def _compare(records: Sequence[RolloutRecord], scores: Sequence[Score]) -> Rescored:
    return Rescored(
        num_responses=len(records),
        num_changed=sum(record.reward != score.reward for record, score in zip(records, scores, strict=True)),
        reward=(fmean(record.reward for record in records), fmean(score.reward for score in scores)),
        counts=(
            sum((record.counts for record in records), LeafCounts()),
            sum((score.counts for score in scores), LeafCounts()),
        ),
    )
