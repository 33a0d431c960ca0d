"""`make bench`: measures what it is asked to, and writes it."""

import json
from pathlib import Path

import pytest

from medvie_rl.bench.__main__ import main


def test_a_benchmark_measures_and_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["--only", "reward_flat*", "--out", str(out)]) == 0
    (result,) = json.loads(out.read_text(encoding="utf-8"))
    assert set(result) == {"name", "value", "unit", "better", "compared_with", "command"}
    assert result["command"] == "python -m medvie_rl.bench --only reward_flat_responses_per_s"
    assert result["name"] == "reward_flat_responses_per_s" and result["value"] > 0 and result["better"] == "higher"
    assert "ANLS*" in result["compared_with"] and "Donut nTED" in result["compared_with"]
    assert f"written to {out}" in capsys.readouterr().out


def test_an_unknown_name_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "tokens", "--out", str(tmp_path / "bench.json")]) == 2
    assert "reward_vs_donut_nted" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_comparison_with_trl_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvie_rl.bench.__main__.find_spec", lambda name: None)
    assert main(["--only", "rl_step_*,reward_flat*", "--out", str(tmp_path / "bench.json")]) == 2
    assert "make bench" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.full
def test_the_pipelines_benchmarks_measure_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_ROUNDS", 1), ("_NUM_STEPS", 5), ("_NUM_FIRST", 2)):
        monkeypatch.setattr(f"medvie_rl.bench.pipeline.{name}", value)
    out = tmp_path / "bench.json"
    assert main(["--only", "pipeline_*,rollout_*", "--out", str(out)]) == 0
    found = {result["name"]: result for result in json.loads(out.read_text(encoding="utf-8"))}
    assert list(found) == ["rollout_tokens_per_s", "pipeline_step_vs_bound", "pipeline_depth1_vs_depth0"]
    assert found["rollout_tokens_per_s"]["value"] > 100 and "one engine x 1 thread" in str(found)
    assert 0.8 < found["pipeline_step_vs_bound"]["value"] < 3
    assert found["pipeline_depth1_vs_depth0"]["value"] > 0.1
    assert "depth 0 as shipped: 2 engines and 2 ranks" in found["pipeline_depth1_vs_depth0"]["compared_with"]
