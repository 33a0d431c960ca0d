"""What a run keeps of its rollouts: to the bit, within bounds, nothing of a patient in private, damage told."""

import math
import random
import re
from dataclasses import fields, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medvie_rl.batch import ScoredGroup
from medvie_rl.config import Config, load_config
from medvie_rl.data.document import Document
from medvie_rl.data.queries import Query
from medvie_rl.errors import ConfigError, UserError
from medvie_rl.records import (
    TEXTS,
    RecordWriter,
    RolloutRecord,
    as_json,
    check_has_texts,
    read_records,
    recorded_steps,
    rollout_records,
    texts_left_out,
    with_texts,
    without_texts,
    write_records,
)
from medvie_rl.records_config import RecordsConfig
from medvie_rl.replay import recorded_batch
from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema
from rewards.types import AnswerStatus, LeafOutcome
from rollout.types import FinishReason, Rollout, RolloutGroup

SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=(
        *(FieldSpec(key=key, description=key, kind="text") for key in ("drug", "dose", "date")),
        FieldSpec(
            key="rows",
            description="rows",
            kind="table",
            columns=tuple(FieldSpec(key=key, description=key, kind="text") for key in ("name", "value")),
        ),
    ),
)
TRUTH = {"drug": "Grüße💊", "dose": "5 mg", "rows": [{"name": "Hb"}]}
COLUMNS = {"rows": ("name",)}
RESPONSES = (
    '<think>\u202e"\\ \n\t\x00 ümlaut 药 💊</think>{"drug": "Grüße💊", "dose": "5 mg"}',
    '{"drug": "Ana Silva", "Ana Silva": "Ana Silva", "rows": [{"name": "Hb", "Ana Silva": 1}]}',
    '{"drug": "Ana Silva"',
    "",
)


def scored(name: str = "train-0", document: str = "doc-a", seed: int = 0) -> ScoredGroup:
    page = Document(id=document, document_type="note", schema="note", annotation=TRUTH, image_keys=("k",))
    truth = {"drug": TRUTH["drug"], "rows": [{"name": "Hb"}]}
    query = Query(
        id=name, document=page, keys=("drug", "date", "rows"), truth=truth, reasoning=True, columns=COLUMNS,
        descriptions={"drug": "which medicine"},
    )  # fmt: skip
    rng = random.Random(seed)
    rollouts, scores = [], []
    for index, text in enumerate(RESPONSES):
        ids = tuple(rng.randrange(150_000) for _ in range(1 + len(text)))
        reason = FinishReason.LENGTH if index == 2 else FinishReason.STOP
        logprobs = tuple(-rng.expovariate(1) for _ in ids[2:]) + (-math.pi / 1e9, -0.0)[: len(ids)]
        rollouts.append(
            Rollout(text=text, token_ids=ids, logprobs=logprobs, finish_reason=reason, weight_version=2**40)
        )
        scores.append(
            score_response(SCHEMA.restricted(COLUMNS), query.keys, TRUTH, text, reasoning=True, truncated=index == 2,
                           config=RewardConfig())
        )  # fmt: skip
    group = RolloutGroup(query_id=name, prompt_ids=(7, 151_655, 9), rollouts=tuple(rollouts))
    return ScoredGroup(query=query, group=group, scores=tuple(scores))


def records(step: int = 5, num: int = 2) -> list[RolloutRecord]:
    groups = [scored(f"train-{index}", f"doc-{index}", seed=step * 100 + index) for index in range(num)]
    return rollout_records(step, groups, {"generation": 1.5, "score": 0.25, "update": 9.0})


def run_folder(folder: Path, steps: int, **settings: object) -> Path:
    (folder / "rollouts").mkdir(parents=True)
    (folder / "config.yaml").touch()
    writer = RecordWriter(folder / "rollouts", RecordsConfig(**settings))  # type: ignore[arg-type]
    for step in range(1, steps + 1):
        writer.write(step, records(step))
    return folder


def test_a_record_says_what_was_asked_answered_and_earned() -> None:
    first, second, third, _ = rollout_records(5, [scored()], {"generation": 1.5, "score": 0.25})
    assert (first.id, first.document, first.keys) == ((5, "train-0", 0), "doc-a", ("drug", "date", "rows"))
    assert (first.response, first.weight_version, first.num_tokens) == (RESPONSES[0], 2**40, len(RESPONSES[0]) + 1)
    assert (first.columns, first.descriptions, first.reasoning) == (COLUMNS, {"drug": "which medicine"}, True)
    assert second.outcomes[0] == ("drug", LeafOutcome.MISREAD) and second.counts.hallucinated == 2
    assert (third.status, third.reward, third.finish_reason) == (AnswerStatus.TRUNCATED, 0.0, FinishReason.LENGTH)
    assert first.reward == math.fsum(first.components.values())
    assert (first.generate_seconds, first.score_seconds) == (1.5, 0.25)


def test_what_was_written_is_read_to_the_bit(tmp_path: Path) -> None:
    path, groups = tmp_path / "step-000005.parquet", [scored("train-3", "doc-a", 1), scored("train-1", "doc-b", 2)]
    written = rollout_records(5, groups)
    write_records(path, written)
    read = read_records(path)
    assert read == written
    assert [math.copysign(1, value) for record in read for value in record.sampler_logprobs or ()] == [
        math.copysign(1, value) for record in written for value in record.sampler_logprobs or ()
    ]
    documents = {group.query.document.id: group.query.document for group in groups}
    queries, rebuilt = recorded_batch(path, read, documents, {"note": SCHEMA})
    assert queries == [group.query for group in groups] and rebuilt == [group.group for group in groups]
    assert not list(tmp_path.glob(".*"))
    assert texts_left_out(path) == ""


def test_the_same_records_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / name, records())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_a_surrogate_pair_does_not_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "step-000001.parquet"
    write_records(path, [replace(records()[0], response="a\ud800b", detail="\udfff")])
    (read,) = read_records(path)
    assert (read.response, read.detail) == ("a\\ud800b", "\\udfff")


def test_texts_are_read_when_wanted(tmp_path: Path) -> None:
    files = recorded_steps(run_folder(tmp_path / "run", 3))
    light = [record for path in files.values() for record in read_records(path, texts=False)]
    whole = [record for path in files.values() for record in read_records(path)]
    assert light == [without_texts(record) for record in whole]
    chosen = [light[17], light[3], light[16]]
    assert with_texts(chosen, files) == [whole[17], whole[3], whole[16]]


# --- private ---------------------------------------------------------------------------------------------------------


def every_string(path: Path) -> str:
    """All values of all columns, decompressed, with what the file says of them (statistics and metadata)."""
    with pq.ParquetFile(path) as file:
        statistics = [file.metadata.row_group(0).column(index).statistics for index in range(file.metadata.num_columns)]
        return f"{file.read().to_pydict()} {statistics} {file.metadata.metadata} {file.schema_arrow.metadata}"


def test_in_private_nothing_that_was_answered_is_kept(tmp_path: Path) -> None:
    """The policy writes a name as a value, as a key, as a column, and where it is cut off; errors may quote it."""
    quoting = [replace(record, detail=f"cannot read {record.response}") for record in records()]
    for name, private in (("open", False), ("private", True)):
        (tmp_path / name).mkdir()
        RecordWriter(tmp_path / name, RecordsConfig(private=private)).write(5, quoting)
    opened, closed = (every_string(tmp_path / name / "step-000005.parquet") for name in ("open", "private"))
    for secret in ("Ana Silva", "Grüße", "5 mg", "ümlaut", "cannot read", "151655"):
        assert secret in opened and secret not in closed, secret
    path = tmp_path / "private" / "step-000005.parquet"
    assert read_records(path) == [without_texts(record) for record in quoting]
    kept = read_records(path)[1]
    assert [name for name in (item.name for item in fields(kept)) if getattr(kept, name) is None] == list(TEXTS)
    assert (kept.reward, kept.num_tokens, kept.counts.hallucinated) == (quoting[1].reward, len(RESPONSES[1]) + 1, 2)
    assert as_json(kept)["response"] is None
    with pytest.raises(UserError, match=r"step-000005\.parquet: .* not kept \(records\.private\), without which it x"):
        check_has_texts([path], "it x")


# --- bounds ----------------------------------------------------------------------------------------------------------


def sizes(folder: Path) -> dict[int, int]:
    return {step: path.stat().st_size for step, path in recorded_steps(folder).items()}


def test_the_oldest_steps_lose_their_texts_and_then_go(tmp_path: Path) -> None:
    whole, bare = sizes(run_folder(tmp_path / "whole", 6)), sizes(run_folder(tmp_path / "bare", 6, private=True))
    assert all(whole[step] - bare[step] > 500 for step in whole)

    limit = whole[5] + whole[6] + sum(bare[step] for step in (1, 2, 3, 4)) + 200
    found = recorded_steps(run_folder(tmp_path / "some", 6, max_gib=limit / 2**30))
    assert [texts_left_out(path) for path in found.values()] == ["records.max_gib"] * 4 + [""] * 2
    assert sum(sizes(tmp_path / "some").values()) <= limit
    for step, path in found.items():
        expected = records(step) if step > 4 else list(map(without_texts, records(step)))
        assert read_records(path) == expected

    limit = whole[6] + bare[5] + bare[4] + 200
    assert list(recorded_steps(run_folder(tmp_path / "few", 6, max_gib=limit / 2**30))) == [4, 5, 6]
    assert list(recorded_steps(run_folder(tmp_path / "last", 6, max_gib=1e-9))) == [6]
    assert read_records(tmp_path / "last" / "rollouts" / "step-000006.parquet") == records(6)


def test_what_is_given_up_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    writer = RecordWriter(tmp_path, RecordsConfig(max_gib=1e-9))
    writer.notice = told.append
    for step in range(1, 6):
        writer.write(step, records(step))
    assert [re.sub(r".*from now on ", "", line) for line in told] == [
        "responses, tokens and logprobs of the oldest steps are given up; their numbers stay "
        "(step-000001.parquet first)",
        "the oldest steps are given up (step-000001.parquet first)",
    ]
    again: list[str] = []
    writer = RecordWriter(tmp_path, RecordsConfig(max_gib=1))
    writer.notice = again.append
    writer.write(5, records(5))  # as a resumed run does, and its files are known for what they are
    assert again == [] and read_records(tmp_path / "step-000005.parquet") == records(5)


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_damage_is_told_wherever_it_is(tmp_path: Path) -> None:
    """A bit anywhere in the data, and the end of the file: nothing that differs is read as if it were whole."""
    run = run_folder(tmp_path / "run", 1)
    path = run / "rollouts" / "step-000001.parquet"
    content, whole = path.read_bytes(), read_records(path)
    end_of_data = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    positions, told = range(4, end_of_data, 53), 0
    for position in positions:
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        try:
            assert read_records(path) == whole, position
        except UserError as error:
            assert re.fullmatch(r".*step-000001\.parquet: damaged, .*; put it back from a copy", str(error)), error
            told += 1
    assert told > 0.8 * len(positions)  # the others are in what nothing is read from
    for torn in (content[:-1], content[: len(content) // 2], content[:4], b""):
        path.write_bytes(torn)
        for read in (read_records, texts_left_out):
            with pytest.raises(UserError, match=r"step-000001\.parquet: damaged"):
                read(path)  # type: ignore[operator]


def test_files_of_others_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "step-000001.parquet"
    pq.write_table(pq.read_table("medvie_rl/nano/slips/test.parquet", columns=["id"]), path)
    with pytest.raises(UserError, match="expected recorded rollouts of format version 1, got none"):
        read_records(path)


def test_a_missing_step_is_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 4)
    (run / "rollouts" / "step-000003.parquet").unlink()
    with pytest.raises(UserError, match=r"step-000003\.parquet is missing"):
        recorded_steps(run)
    with pytest.raises(UserError, match="not a run directory"):
        recorded_steps(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="no recorded rollouts"):
        recorded_steps(tmp_path)


@pytest.mark.parametrize("size", [0, -1, math.inf, math.nan])
def test_a_bound_must_be_a_size(size: float) -> None:
    with pytest.raises(ConfigError, match=r"records\.max_gib: expected a size above 0"):
        load_config(Path("conf/local.yaml"), [f"records.max_gib={'.nan' if size != size else size}"])


def test_records_are_kept_whole_and_bounded_by_default() -> None:
    config: Config = load_config(Path("conf/local.yaml"))
    assert config.records == RecordsConfig(max_gib=4.0, private=False, replay="")
