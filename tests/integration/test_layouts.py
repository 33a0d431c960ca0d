"""More ranks and workers, other documents: the same loop."""

from pathlib import Path

import pytest

from medvie_rl.data.importing import import_folder
from rewards.schema import load_schema
from runs import ROOT, SMALL, metrics_of, only_run, run_to_end, summary_of, train_command

REAL = ROOT.parent / "shared" / "real_documents" / "vaipe_prescriptions_vi"


def test_two_ranks_under_zero3_and_two_engines(tmp_path: Path) -> None:
    layout = ("learner.num_ranks=2", "learner.zero_stage=3", "rollout.num_workers=2")
    threads = ("learner.num_threads=1", "rollout.num_threads=1")
    run_to_end(train_command(tmp_path, *SMALL, *layout, *threads, "num_steps=2"))
    metrics = metrics_of(only_run(tmp_path))
    assert [entry["step"] for entry in metrics] == [0, 1, 2]
    assert metrics[2]["sync/weight_version"] == 2
    for entry in metrics[1:]:
        assert entry["loss/sampler_logprob_difference_max"] < 1e-4
        assert entry["loss/gradient_norm"] > 0


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason="the real documents are not beside this checkout (../shared)")
def test_real_prescriptions_train_and_evaluate(tmp_path: Path) -> None:
    schema = load_schema(ROOT / "conf/schemas/prescription_vi.yaml")
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    report = import_folder(REAL, schema, tmp_path / "data", shares=shares)
    assert report.imported == {"train": 6, "validation": 3, "test": 3}
    settings = (f"data.path={tmp_path / 'data'}", "data.num_validation=0", "data.num_test=0")
    room = ("rollout.max_model_len=1024", "rollout.max_response_tokens=256")
    run_to_end(train_command(tmp_path / "runs", *SMALL, *settings, *room, "num_steps=2"))
    summary = summary_of(only_run(tmp_path / "runs"))
    assert summary["num_eval_documents"] == 3
    assert 0 <= summary["after"]["f1"] <= 1
