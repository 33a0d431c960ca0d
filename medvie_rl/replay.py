"""Learning again from the rollouts that a run recorded: the same loop, without sampling.

Every response is scored anew, so that another reward can be tried, or another loss. Where nothing is changed, on the
same machine and layout, the updates are those of the recorded run to the bit (on a CPU in fp32): what differs then, the
learner did. The engines are there for evaluations.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from medvie_rl.config import Config, load_config
from medvie_rl.data.document import Document
from medvie_rl.data.load import RunData
from medvie_rl.data.queries import Query, make_query
from medvie_rl.errors import ConfigError, UserError, did_you_mean
from medvie_rl.records import RolloutRecord, check_has_texts, read_records, recorded_steps
from rewards.schema import Schema
from rollout.types import Rollout, RolloutGroup


class Replay:
    """The recorded batches of a run; takes the place of `Pipeline`."""

    def __init__(self, config: Config, data: RunData) -> None:
        """Raises UserError for a run that cannot be replayed with this configuration and these documents."""
        self._run = Path(config.records.replay)
        self._files = recorded_steps(self._run)
        self._documents = {document.id: document for document in data.splits[0]}  # num_train may take a part
        self._schemas = data.schemas

    def take(self, step: int) -> tuple[list[Query], list[RolloutGroup]]:
        """The recorded queries of the step (from 0) and their rollouts."""
        path = self._files[step + 1]
        return recorded_batch(path, read_records(path), self._documents, self._schemas)

    def more(self, step: int, num: int) -> tuple[list[Query], list[RolloutGroup]]:
        """Nothing: what dynamic sampling added is recorded with the step."""
        return [], []

    def in_flight(self) -> dict[int, list[RolloutGroup]]:
        """Nothing: a checkpoint need not hold what is recorded."""
        return {}

    def check(self, config: Config) -> None:
        """Raise UserError unless every recorded step can be taken, and was sampled as the configuration says."""
        if min(self._files) != 1:
            raise UserError(
                f"{self._run}: a replay begins at step 1, but the records begin at step {min(self._files)} "
                "(records.max_gib was too small for the others)"
            )
        check_has_texts(self._files.values(), "they cannot be learned from again")
        recorded = load_config(self._run / "config.yaml")
        sampled = {
            "pipeline_depth": (recorded.pipeline_depth, config.pipeline_depth),
            "rollout.temperature": (recorded.rollout.temperature, config.rollout.temperature),
        }
        for name, (before, now) in sampled.items():
            if before != now:
                raise ConfigError(f"{name}: {self._run} was sampled with {before}, which its replay needs, got {now}")
        for path in self._files.values():
            for record in read_records(path, texts=False):
                recorded_query(path, record, self._documents, self._schemas)


def check_replay(config: Config, data: RunData) -> None:
    """Raise UserError if the configuration names rollouts that cannot be replayed."""
    if config.records.replay:
        Replay(config, data).check(config)


def reason_to_end(config: Config, num_steps: int) -> str:
    """Why a replay ends after `num_steps` steps, empty if it does not: the recorded run was stopped before its end."""
    replayed = config.records.replay
    if not replayed or num_steps == config.num_steps or num_steps < max(recorded_steps(Path(replayed))):
        return ""
    return f"{replayed} recorded no more steps"


def recorded_batch(
    path: Path,
    records: Iterable[RolloutRecord],
    documents: Mapping[str, Document],
    schemas: Mapping[str, Schema],
) -> tuple[list[Query], list[RolloutGroup]]:
    """The queries and rollouts of a step, exactly as they were; the records must hold their texts.

    Raises UserError, naming `path`, for a document or key that is not there any more.
    """
    queries, groups = [], []
    for name, traces in groupby(records, key=lambda record: record.query):
        of_query = list(traces)
        queries.append(recorded_query(path, of_query[0], documents, schemas))
        prompt_ids = of_query[0].prompt_ids
        assert prompt_ids is not None  # see check_has_texts
        rollouts = tuple(map(_rollout, of_query))
        groups.append(RolloutGroup(query_id=name, prompt_ids=prompt_ids, rollouts=rollouts))
    return queries, groups


def recorded_query(
    path: Path, record: RolloutRecord, documents: Mapping[str, Document], schemas: Mapping[str, Schema]
) -> Query:
    """The query that a response answered; raises UserError, naming `path`, if document or keys are not there."""
    where = f"{path}, query {record.query}"
    if record.document not in documents:
        hint = did_you_mean(record.document, documents)
        raise UserError(f"{where}: the training split has no document {record.document!r}{hint}")
    document = documents[record.document]
    known = schemas[document.schema].keys
    for key in record.keys:
        if key not in known:
            raise UserError(f"{where}: schema {document.schema!r} has no key {key!r}{did_you_mean(key, known)}")
    return make_query(
        record.query,
        document,
        record.keys,
        reasoning=record.reasoning,
        columns=record.columns,
        descriptions=record.descriptions,
    )


def _rollout(record: RolloutRecord) -> Rollout:
    assert record.response is not None and record.token_ids is not None and record.sampler_logprobs is not None
    return Rollout(
        text=record.response,
        token_ids=record.token_ids,
        logprobs=record.sampler_logprobs,
        finish_reason=record.finish_reason,
        weight_version=record.weight_version,
    )
