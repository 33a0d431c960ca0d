"""What `medvie rollouts` prints of a run's records."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.cli import main
from medvie_rl.records import read_records, write_records
from medvie_rl.rollouts_report import is_right
from recorded_run import DOCUMENTS, NUM_STEPS, NUM_TRACES, make_run
from rewards.types import AnswerStatus, LeafOutcome


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def out(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["rollouts", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def out_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(out(capsys, *arguments, "--json"))
    return content


def test_the_overview_has_the_steps_the_best_and_the_worst(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, run).splitlines()
    rows = [line.split() for line in lines[1 : 1 + NUM_STEPS]]
    assert [row[:2] for row in rows] == [[str(step), "6"] for step in (1, 2, 3, 4)]
    assert [row[3] for row in rows] == ["0.000", "1.000", "1.000", "1.000"]  # the best: trace 0 knows all
    assert [row[7] for row in rows] == ["0.0%", "0.0%", "33.3%", "0.0%"] and rows[0][8] == "100.0%"
    text = "\n".join(lines)
    assert "best: step 4, document" in text and "wrong: nothing" in text
    assert "worst: step 3, document" in text and "truncated: " in text  # the newest of those that earned nothing
    assert len(lines) < 30


def test_a_response_is_shown_with_what_it_earned(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worst = out(capsys, run, "--step", 1, "--worst", 1)
    assert "worst 1: step 1, document" in worst and "weights 0" in worst
    assert "reward 0.000 = precision 0.000 + recall 0.000 + format 0.000" in worst
    assert "2 tokens, stop, no_json: " in worst and "  | \\x1b[31mno idea" in worst and "\x1b" not in worst
    (cut,) = out_json(capsys, run, "--truncated", 1)["truncated"]
    assert (cut["step"], cut["response"], cut["finish_reason"]) == (3, '{"patient": "cut', "length")
    assert "no response was truncated" in out(capsys, run, "--step", 4, "--truncated", 5)
    best = out_json(capsys, run, "--best", 3)["best"]
    assert [record["reward"] for record in best] == [1.0, 1.0, 1.0] and best[0]["step"] == 4
    assert best[0]["token_ids"] == [4, 0] and best[0]["sampler_logprobs"] == [-0.5, -0.25]


def test_numbers_are_those_of_the_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in out_json(capsys, run)["steps"]:
        records = read_records(run / "rollouts" / f"step-{step['step']:06d}.parquet")
        rewards = [record.reward for record in records]
        assert step["reward"] == pytest.approx(sum(rewards) / 6) and step["worst_reward"] == min(rewards)
        correct = sum(record.counts.correct for record in records)
        predicted, true = (sum(getattr(record.counts, name) for record in records) for name in ("predicted", "true"))
        assert step["precision"] == pytest.approx(correct / predicted if predicted else 0)
        assert step["recall"] == pytest.approx(correct / true)


def test_a_step_has_its_queries(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, run, "--step", 2)
    records = read_records(run / "rollouts" / "step-000002.parquet")
    for query in ("train-2", "train-3"):
        (line,) = [line for line in text.splitlines() if line.startswith(query)]
        first = next(record for record in records if record.query == query)
        assert first.document in line and ", ".join(first.keys) in line
    found = out_json(capsys, run, "--step", 2)["queries"]
    assert [entry["query"] for entry in found] == ["train-2", "train-3"]
    assert [entry["batch"]["num_responses"] for entry in found] == [3, 3]


def test_a_document_has_a_history(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = out_json(capsys, run, "--document", DOCUMENTS[0].id)
    assert [entry["step"] for entry in history["steps"]] == [1, 2, 3, 4]
    assert all(entry["num_responses"] == 3 for entry in history["steps"])
    assert (history["first"]["step"], history["last"]["step"]) == (1, 4)
    assert history["last"]["reward"] == 1.0
    by_key = {entry["key"]: entry for entry in history["keys"]}
    of_step = {
        step: [
            record
            for record in read_records(run / "rollouts" / f"step-{step:06d}.parquet")
            if record.document == DOCUMENTS[0].id
        ]
        for step in range(1, 5)
    }
    for key, entry in by_key.items():
        asked = [step for step, records in of_step.items() if key in records[0].keys]
        assert (entry["first_step"], entry["last_step"]) == (asked[0], asked[-1])
        assert entry["last_right"] == sum(is_right(record, key) for record in of_step[asked[-1]]) / 3
    assert {"became right"} <= {entry["change"] for entry in by_key.values()}
    text = out(capsys, run, "--document", DOCUMENTS[0].id)
    assert (
        "became right" in text and "best of the first step: step 1" in text and "best of the last step: step 4" in text
    )


def test_right_means_answered_rightly_or_rightly_left_out(run: Path) -> None:
    record = read_records(run / "rollouts" / "step-000004.parquet")[0]
    dose, name = ("drugs.dose", LeafOutcome.CORRECT), ("drugs.name", LeafOutcome.OMITTED)
    made = replace(record, status=AnswerStatus.OK, keys=("drugs", "drugstore"), outcomes=(dose, name))
    assert not is_right(made, "drugs") and is_right(made, "drugstore")
    assert is_right(replace(made, outcomes=(dose,)), "drugs")
    assert not is_right(replace(made, outcomes=(), status=AnswerStatus.NO_JSON), "drugs")


def test_in_private_numbers_are_shown_and_nothing_else_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", "records.private=true")
    text = out(capsys, folder)
    assert "(response not kept: records.private)" in text and "best: step 4" in text
    assert "(response not kept: records.private)" in out(capsys, folder, "--document", DOCUMENTS[0].id)
    assert main(["rollouts", str(folder), "--rescore"]) == 2
    assert "not kept (records.private), without which they cannot be scored again" in capsys.readouterr().err


def test_rescoring_changes_nothing_by_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = out_json(capsys, run, "--rescore")
    assert [step["num_changed"] for step in found["steps"]] == [0, 0, 0, 0]
    assert all(step[name][0] == step[name][1] for step in found["steps"] for name in ("reward", "precision", "recall"))
    assert found["all"]["num_responses"] == NUM_STEPS * 2 * NUM_TRACES


def test_rescoring_says_what_another_reward_would_change(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = out_json(capsys, run, "--rescore", "reward.format_weight=0", "reward.recall_weight=0")["all"]
    assert found["num_changed"] > 0 and found["precision"][0] == found["precision"][1]
    records = [record for step in range(1, 5) for record in read_records(run / f"rollouts/step-{step:06d}.parquet")]
    expected = sum(record.precision for record in records) / len(records)  # slips weigh every leaf alike
    assert found["reward"][1] == pytest.approx(expected)
    planted = tmp_path / "run"
    (planted / "rollouts").mkdir(parents=True)
    for path in [run / "config.yaml", *(run / "rollouts").iterdir()]:
        (planted / path.relative_to(run)).write_bytes(path.read_bytes())
    path = planted / "rollouts" / "step-000002.parquet"
    first, *others = read_records(path)
    write_records(path, [replace(first, reward=first.reward + 1e-16 + 1e-9), *others])
    text = out(capsys, planted, "--rescore")
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["0", "1", "0", "0", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", "9"], "recorded the steps 1 to 4, got 9"),
        (["--document", "train-x"], "no recorded step has asked about 'train-x'"),
        (["--document", "x", "--best", "1"], "do not go with --document"),
        (["--rescore", "seed=2"], "--rescore: 'seed=2' has no part in scores"),
        (["--rescore", "reward.precision=2"], "unknown key 'reward.precision'"),
        (["--rescore", "data.path=nowhere"], "nowhere/train.parquet: no such split"),
    ],
)
def test_mistakes_are_told(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["rollouts", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollouts", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["rollouts", str(tmp_path), "--best", "0"])
    assert "expected a whole number from 1, got '0'" in capsys.readouterr().err
