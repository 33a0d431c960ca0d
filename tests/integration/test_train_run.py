"""What a run leaves behind, and that learning happens."""

import json
import sys
from pathlib import Path
from statistics import fmean

import pytest
from wandb_files import history_of

from medvie_rl.config import load_config
from medvie_rl.data.store import open_split
from runs import ROOT, metrics_of, only_run, records_of, run, run_to_end, summary_of, train_command


def test_the_run_directory_is_complete(small_run: Path) -> None:
    metrics = metrics_of(small_run)
    assert [entry["step"] for entry in metrics] == list(range(7))
    assert all("eval/f1" in metrics[step] for step in (0, 2, 4, 6))
    assert max(entry["loss/sampler_logprob_difference_max"] for entry in metrics[1:] if "loss/loss" in entry) < 1e-4
    records = records_of(small_run)
    assert list(records) == [1, 2, 3, 4, 5, 6] and len(records[1]) == 6 * 4
    assert fmean(record.reward for record in records[1]) == metrics[1]["reward/mean"]
    for name in ("config.yaml", "summary.json", "curves.png", "examples.png", "evaluations/before.json"):
        assert (small_run / name).stat().st_size > 100
    assert len(list((small_run / "checkpoints").glob("step-*"))) in (2, 3)  # two and the best
    assert load_config(small_run / "config.yaml").num_steps == 6


def test_the_summary_holds_what_machines_read(small_run: Path) -> None:
    summary = json.loads((small_run / "summary.json").read_text(encoding="utf-8"))
    for name in ("before", "after"):
        assert {"precision", "recall", "f1", "f1_ci95"} <= summary[name].keys()
        assert summary[name]["f1_ci95"][0] <= summary[name]["f1"] <= summary[name]["f1_ci95"][1]
    assert summary["delta_f1"] == summary["after"]["f1"] - summary["before"]["f1"]
    assert summary["delta_f1_ci95"][0] <= summary["delta_f1"] <= summary["delta_f1_ci95"][1]
    counts = [summary[name] for name in ("num_train_documents", "num_eval_documents", "num_steps", "seed")]
    assert counts == [100, 16, 6, 1]
    assert abs(sum(summary["f1_gain_by_error_class"].values()) - summary["delta_f1"]) < 1e-9


def test_the_offline_wandb_run_holds_every_metric(small_run: Path) -> None:
    (folder,) = small_run.glob("wandb/offline-run-*")
    logged = history_of(folder)
    for entry in metrics_of(small_run):
        expected = {name: value for name, value in entry.items() if name != "step"}
        assert {name: logged[entry["step"]][name] for name in expected} == expected


def test_the_best_policy_extracts_from_an_image(small_run: Path, tmp_path: Path) -> None:
    test = open_split(ROOT / "medvie_rl/nano/slips", "test")
    document = test.documents[0]
    image, broken, out = tmp_path / "slip.png", tmp_path / "broken.png", tmp_path / "out.jsonl"
    image.write_bytes(next(iter(test.images(document).values())))
    broken.write_bytes(b"no image")
    schema = ROOT / "conf/schemas" / f"{document.schema}.yaml"
    arguments = ["extract", "--policy", str(small_run / "best"), "--schema", str(schema), "--out", str(out)]
    command = [sys.executable, "-m", "medvie_rl", *arguments, "--overwrite", str(image), str(broken)]
    assert run([*command, "--no-constrained", "--traces", "1"]).returncode == 3
    first, second = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (second["image"], second["status"]) == (str(broken), "unreadable")
    after = json.loads((small_run / "evaluations/after.json").read_text(encoding="utf-8"))["documents"][0]
    assert (first["fields"], first["status"]) == (after["answer"] or {}, after["status"])
    assert "confidence" not in first
    run([*command, "--set", "sampling.temperature=1.5"])  # of which a quarter would be no JSON
    constrained = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert constrained["status"] == "ok"
    assert "problem" not in constrained


def test_evaluations_sample_and_constrain_answers_as_configured(tmp_path: Path) -> None:
    answers = ("evaluation.constrained=true", "evaluation.sampling.temperature=1.5")  # a quarter would be no JSON
    size = ("num_steps=1", "queries_per_step=2", "data.num_validation=4", "data.num_test=30")
    run_to_end(train_command(tmp_path, *answers, *size, "rollout.num_workers=1", "learner.num_ranks=1"))
    for name in ("before", "after"):
        evaluation = json.loads((only_run(tmp_path) / f"evaluations/{name}.json").read_text(encoding="utf-8"))
        ended = [entry for entry in evaluation["documents"] if entry["finish_reason"] == "stop"]
        assert len(ended) >= 25
        assert {entry["status"] for entry in ended} == {"ok"}


FULL = ("learner.learning_rate=1e-4",)
LORA = ("learner.lora.rank=16", "learner.learning_rate=1e-3")


@pytest.mark.parametrize("trained", [FULL, pytest.param(LORA, marks=pytest.mark.full)], ids=["full", "lora"])
def test_held_out_f1_improves(trained: tuple[str, ...], tmp_path: Path) -> None:
    length = ("num_steps=16", "data.num_validation=12", "data.num_test=60", "evaluation.every=0")
    run_to_end(train_command(tmp_path, *length, "learner.lr_schedule=constant", *trained))
    folder = only_run(tmp_path)
    assert summary_of(folder)["delta_f1_ci95"][0] > 0
    rewards = [entry["reward/mean"] for entry in metrics_of(folder)[1:]]
    assert fmean(rewards[-5:]) > fmean(rewards[:5]) + 0.03
