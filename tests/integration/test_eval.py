"""`medvie eval` on the embedded slips: files, pairing, reuse, and the numbers of `medvie score` on what it wrote."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from browser import browser, find_browser
from medvie_rl.cli import main
from medvie_rl.data.importing import import_folder
from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import open_split
from medvie_rl.errors import UserError
from medvie_rl.evaluation.engine import start_engine
from medvie_rl.evaluation.run import evaluate_systems
from medvie_rl.evaluation.systems import SystemSpec, parse_systems
from rewards.schema import load_schema
from rollout.config import RolloutConfig
from runs import ROOT, run, run_to_end
from shared_documents import MISSING, REAL, SCHEMAS

NANO = "medvie_rl/nano/policy"
NUM = 4
HOW = ("--resamples", "200", "--limit", str(NUM))


def eval_command(dataset: Path, out: Path, *systems: str, more: tuple[str, ...] = ()) -> list[str]:
    named = [part for system in systems for part in ("--system", system)]
    return [sys.executable, "-m", "medvie_rl", "eval", str(dataset), *named, "--out", str(out), *HOW, *more]


@pytest.fixture(scope="module")
def slips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a few slips, with training documents, so that keys can be rare."""
    folder = tmp_path_factory.mktemp("eval") / "slips"
    write_slips(folder, {"train": 6, "test": NUM + 2}, seed=3)
    return folder


@pytest.fixture(scope="module")
def evaluated(slips: Path) -> tuple[Path, str]:
    """The folder of an evaluation of the embedded policy, reasoning and direct, and the OCR baseline; its output."""
    out = slips.parent / "evaluation"
    return out, run_to_end(eval_command(slips, out, f"base={NANO}", f"direct={NANO}:direct", "ocr"))


def content_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found


def test_every_file_is_written_and_says_the_same(evaluated: tuple[Path, str]) -> None:
    out, output = evaluated
    content = content_of(out)
    assert list(content["systems"]) == ["base", "direct", "ocr"]
    assert (content["num_documents"], content["baseline"], content["split"]) == (NUM, "base", "test")
    with (out / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    markdown, page = ((out / f"evaluation.{ending}").read_text(encoding="utf-8") for ending in ("md", "html"))
    for name, system in content["systems"].items():
        (total,) = [row for row in rows if (row["system"], row["group"]) == (name, "all")]
        assert float(total["f1"]) == pytest.approx(system["f1"])
        assert sum((row["system"], row["group"]) == (name, "document") for row in rows) == NUM
        low, high = system["metrics"]["f1_ci95"]
        for text in (markdown, page, output):
            assert f"{system['f1']:.3f} [{low:.3f}, {high:.3f}]" in text
        assert system["seconds_per_document"] > 0
    assert content["systems"]["ocr"]["groups"]["rarity"]  # the dataset has a training split
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_differences_are_paired_with_the_baseline(evaluated: tuple[Path, str]) -> None:
    systems = content_of(evaluated[0])["systems"]
    assert systems["base"]["comparison"] is None
    for name in ("direct", "ocr"):
        difference = systems[name]["comparison"]["difference"]
        assert systems[name]["comparison"]["other"] == "base"
        assert difference["num_documents"] == NUM
        assert difference["delta_f1"] == pytest.approx(systems[name]["f1"] - systems["base"]["f1"])
        low, high = difference["delta_f1_ci95"]
        assert low <= difference["delta_f1"] <= high


def test_numbers_are_those_of_score(evaluated: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = evaluated
    for name, system in content_of(out)["systems"].items():
        scores = tmp_path / f"{name}.json"
        arguments = [
            "score",
            "--pred",
            str(out / "predictions" / f"{name}.jsonl"),
            "--schema",
            str(ROOT / "conf/schemas"),
        ]
        assert main([*arguments, "--truth", str(out / "annotations.jsonl"), "--json", str(scores)]) == 0
        again = json.loads(scores.read_text(encoding="utf-8"))
        for part in ("precision", "recall", "f1", "num_documents", "published", "documents"):
            assert again[part] == system[part]
        assert again["groups"]["key"][0]["f1"] == system["groups"]["key"][0]["f1"]


def test_predictions_are_reused_while_nothing_has_changed(slips: Path, evaluated: tuple[Path, str]) -> None:
    out, _ = evaluated
    before = content_of(out)
    files = {path.name: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
    output = run_to_end(eval_command(slips, out, f"base={NANO}", f"direct={NANO}:direct", "ocr"))
    assert output.count("predictions reused") == 3
    assert content_of(out) == before
    assert {path.name: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()} == files


@pytest.mark.full
def test_changed_inputs_and_files_are_asked_again(
    slips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"schemas": [ROOT / "conf/schemas"], "with_published": False, "num_resamples": 50}
    ocr = [SystemSpec(name="ocr", policy=None)]
    evaluate_systems(str(slips), ocr, tmp_path, limit=1, **how)
    assert "reused" not in capsys.readouterr().out
    evaluate_systems(str(slips), ocr, tmp_path, limit=2, **how)
    assert "ocr: recognised text and layout rules (again; changed: documents" in capsys.readouterr().out
    assert content_of(tmp_path)["num_documents"] == 2
    predictions = tmp_path / "predictions/ocr.jsonl"
    whole = predictions.read_bytes()
    predictions.write_bytes(whole.replace(b'"fields"', b'"yields"', 1))
    evaluate_systems(str(slips), ocr, tmp_path, limit=2, **how)
    assert "(again; the file was changed)" in capsys.readouterr().out
    assert predictions.read_bytes() == whole
    assert content_of(tmp_path)["systems"]["ocr"]["seconds_per_document"] is None  # every page had been read


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--system", "rl"], "--system rl: expected NAME=POLICY_FOLDER"),
        (["--system", "a/b=x"], "the name 'a/b' must be"),
        (["--system", "ocr", "--system", "OCR=ocr"], "this name is given twice"),
        (["--system", "rl=no/such/folder"], "no/such/folder: no such policy folder"),
        (["--system", "rl=docs"], "docs: no policy folder, it has no config.json"),
        (["--system", "ocr", "--baseline", "oct"], "no such system; did you mean 'ocr'?"),
        (["--system", "ocr", "--limit", "0"], "--limit: expected 1 or more, got 0"),
        (["--system", "ocr", "--split", "dev"], "dev.parquet: no such split"),
        (["--system", "ocr", "--schema", "conf/schemas/invoice.yaml"], "schemas are named with --schema"),
        (["--system", f"rl={NANO}", "--set", "max_model_length=5"], "--set: "),
        (["--system", f"rl={NANO}", "--prompt", "none.yaml"], "none.yaml: no such prompt file"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    slips: Path, tmp_path: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["eval", str(slips), "--out", str(out), *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(slips: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        evaluate_systems(str(slips), parse_systems(["ocr"]), tmp_path, schemas=[ROOT / "conf/schemas"])


@pytest.mark.full
def test_documents_that_do_not_fit_count_as_not_answered(slips: Path, tmp_path: Path) -> None:
    """No engine is started where no prompt leaves room for an answer, and that is said."""
    result = run(eval_command(slips, tmp_path / "out", f"base={NANO}", more=("--set", "max_response_tokens=1000")))
    assert result.returncode == 0, result.stderr
    assert f"{NUM} of {NUM} documents do not fit and count as not answered" in result.stdout
    system = content_of(tmp_path / "out")["systems"]["base"]
    assert (system["f1"], system["metrics"]["valid_json_rate"]) == (0.0, 0.0)


@pytest.mark.full
def test_an_engine_that_dies_is_an_error(tmp_path: Path) -> None:
    from cluster.errors import ClusterError

    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(ClusterError, match="the engine's process ended with code 1"),
        start_engine(tmp_path, RolloutConfig()),
    ):
        pass


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason=MISSING)
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_ocr_baseline_reads_every_real_document(name: str, tmp_path: Path) -> None:
    shares = {"train": 0.0, "validation": 0.0, "test": 1.0}
    report = import_folder(REAL / name, load_schema(SCHEMAS[name]), tmp_path / "data", shares=shares)
    num = len(open_split(tmp_path / "data", "test"))
    assert (num, report.rejected) == (sum(report.imported.values()), [])
    ocr = [SystemSpec(name="ocr", policy=None)]
    evaluate_systems(str(tmp_path / "data"), ocr, tmp_path / "out", schemas=[SCHEMAS[name]], with_published=False)
    system = content_of(tmp_path / "out")["systems"]["ocr"]
    assert (system["num_documents"], system["metrics"]["valid_json_rate"]) == (num, 1.0)
    assert system["recall"] > 0


@pytest.mark.skipif(find_browser() is None, reason="no Chromium in PATH or in Playwright's folder")
def test_the_page_fits_its_window_and_loads_nothing(evaluated: tuple[Path, str], tmp_path: Path) -> None:
    executable = find_browser()
    assert executable is not None
    with browser(executable, tmp_path) as page:
        page.open(evaluated[0] / "evaluation.html")
        for width in (390, 1280):
            page.resize(width)
            assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.querySelectorAll('.whisker').length") == 2
        assert page.complaints == []
        assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}
