"""Checkpoints of a run without a learner: exact batches in flight, damage of every file kind, what is kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from learner.errors import CheckpointError, DamagedCheckpointError
from learner.manifest import MANIFEST, file_digests, files_below, read_manifest, write_manifest
from medvie_rl.checkpoints import Checkpoints, RunState, read_in_flight, read_state
from medvie_rl.errors import ConfigError
from rollout.types import FinishReason, Rollout, RolloutGroup

STATE = RunState(step=4, weight_version=3, best_step=2, best_value=0.1 + 0.2, seconds=1 / 3, wandb_id="a")
GROUP = RolloutGroup(
    query_id="doc-1/é\ud800",
    prompt_ids=(1, 2, 3),
    rollouts=(
        Rollout(
            text='{"a": "\u2028\n"}',
            token_ids=(5, 6),
            logprobs=(-0.1 - 0.2, -1e-17),
            finish_reason=FinishReason.LENGTH,
            weight_version=3,
        ),
        Rollout(text="", token_ids=(), logprobs=(), finish_reason=FinishReason.STOP, weight_version=3),
    ),
)
IN_FLIGHT = {5: [GROUP, GROUP], 4: [GROUP]}


def write(folder: Path) -> None:
    """What the learner does: its files, then the manifest of all."""
    (folder / "deepspeed").mkdir()
    (folder / "deepspeed" / "shard.pt").write_bytes(bytes(range(256)))
    (folder / "rng_rank_0.pt").write_bytes(b"random")
    files = {name: digest for name, digest in file_digests(folder, files_below(folder)).items() if digest}
    write_manifest(folder, {"layout": {"num_ranks": 1}}, files)


def load(folder: Path) -> None:
    """As the learner checks a checkpoint before it loads anything."""
    manifest = read_manifest(folder)
    manifest.check(folder, file_digests(folder, manifest.files))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return Checkpoints(folder, keep=2)


def test_what_is_saved_comes_back_exactly(checkpoints: Checkpoints) -> None:
    checkpoints.save(STATE, "num_steps: 6\n", write, IN_FLIGHT)
    (folder,) = checkpoints.folders()
    assert read_state(folder) == STATE
    assert read_in_flight(folder) == IN_FLIGHT
    assert (folder / "config.yaml").read_text(encoding="utf-8") == "num_steps: 6\n"
    assert len((folder / "in_flight-000005.jsonl").read_text(encoding="ascii").splitlines()) == 2
    assert set(read_manifest(folder).files) == set(files_below(folder)) - {MANIFEST}


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
@pytest.mark.parametrize(
    "name",
    ["state.json", "config.yaml", "in_flight-000004.jsonl", "deepspeed/shard.pt", "rng_rank_0.pt", MANIFEST],
)
def test_any_damage_is_told_and_the_checkpoint_before_is_used(checkpoints: Checkpoints, name: str, damage: str) -> None:
    checkpoints.save(RunState(step=2), "", write, {})
    checkpoints.save(STATE, "num_steps: 6\n", write, IN_FLIGHT)
    newest, before = checkpoints.folders()
    content = (newest / name).read_bytes()
    # The bit that makes the least of it: a letter's case, or a space that JSON does not mind, is damage as well.
    change: dict[str, Callable[[], object]] = {
        "flip": lambda: (newest / name).write_bytes(_flip(content, len(content) // 2)),
        "cut": lambda: (newest / name).write_bytes(content[:-3]),
        "remove": (newest / name).unlink,
        "empty": lambda: (newest / name).write_bytes(b""),
    }
    change[damage]()
    notices: list[str] = []
    found = checkpoints.restore(load, notices.append)
    assert found == (before, RunState(step=2))
    assert len(notices) == 1 and str(newest) in notices[0] and name in notices[0]


def test_no_byte_of_a_manifest_can_change_unnoticed(checkpoints: Checkpoints) -> None:
    checkpoints.save(STATE, "", write, IN_FLIGHT)
    path = checkpoints.folders()[0] / MANIFEST
    content = path.read_bytes()
    meaning = json.loads(content)
    unnoticed = 0
    positions = range(0, len(content), 7)
    for position in positions:
        path.write_bytes(_flip(content, position))
        try:
            load(path.parent)
        except DamagedCheckpointError:
            continue
        assert json.loads(path.read_bytes()) == meaning, position  # white space
        unnoticed += 1
    assert unnoticed < len(positions) / 4


def test_another_policy_is_no_damage(checkpoints: Checkpoints) -> None:
    checkpoints.save(STATE, "", write, {})

    def refuse(folder: Path) -> None:
        raise CheckpointError("another base")

    with pytest.raises(CheckpointError, match="another base"):
        checkpoints.restore(refuse, lambda text: None)


def test_a_run_whose_checkpoints_are_all_damaged_stops(checkpoints: Checkpoints) -> None:
    assert checkpoints.restore(load, print) is None
    for step in (2, 4):
        checkpoints.save(RunState(step=step), "", write, {})
    for folder in checkpoints.folders():
        (folder / "rng_rank_0.pt").unlink()
    notices: list[str] = []
    with pytest.raises(ConfigError, match="none of its 2 checkpoints can be used; start a new run"):
        checkpoints.restore(load, notices.append)
    assert len(notices) == 2


def test_the_last_and_the_best_are_kept_and_what_was_cut_short_is_removed(checkpoints: Checkpoints) -> None:
    for step in (0, 2, 4, 6):
        checkpoints.save(RunState(step=step, best_step=0), "", write, {})
    names = [folder.name for folder in checkpoints.folders()]
    assert names == ["step-000006", "step-000004", "step-000000"]

    def fail(folder: Path) -> None:
        (folder / "deepspeed").mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(RunState(step=8), "", fail, {})
    assert [folder.name for folder in checkpoints.folders()] == names
    folder = checkpoints.folders()[0].parent
    assert len(list(folder.glob(".step-000008.*.partial"))) == 1
    checkpoints.save(RunState(step=10, best_step=10), "", write, {})
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000", "step-000006", "step-000010"]


def test_the_best_of_every_kept_checkpoint_is_kept(checkpoints: Checkpoints) -> None:
    """If the newest, the best of all, turns out damaged, the run goes on with the best of the one before."""
    for step, best_step in ((0, 0), (2, 0), (4, 0), (6, 6)):
        checkpoints.save(RunState(step=step, best_step=best_step), "", write, {})
    assert [folder.name for folder in checkpoints.folders()] == ["step-000006", "step-000004", "step-000000"]
    checkpoints.save(RunState(step=8, best_step=6), "", write, {})
    assert [folder.name for folder in checkpoints.folders()] == ["step-000008", "step-000006"]


def test_checkpoints_after_the_one_gone_on_with_are_forgotten(checkpoints: Checkpoints) -> None:
    """Else they would count as the newest ones, and the next that is saved would be removed as an old one."""
    for step in (2, 4):
        checkpoints.save(RunState(step=step), "", write, {})
    checkpoints.forget_after(2)
    checkpoints.save(RunState(step=3), "", write, {})
    assert [folder.name for folder in checkpoints.folders()] == ["step-000003", "step-000002"]


def test_a_million_steps_are_in_order(checkpoints: Checkpoints) -> None:
    for step in (999_999, 1_000_000):
        checkpoints.save(RunState(step=step), "", write, {})
    assert [read_state(folder).step for folder in checkpoints.folders()] == [1_000_000, 999_999]


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x20]) + content[position + 1 :]
