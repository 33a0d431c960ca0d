"""Documents in, lines with confidences out: the embedded policy, calibrated, by one engine and by several."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.data.load import load_schemas
from medvie_rl.data.store import open_split
from medvie_rl.extraction.calibration import read_calibration
from medvie_rl.extraction.places import values_of
from runs import ROOT, run

SLIPS = ROOT / "medvie_rl/nano/slips"
SCHEMA = "prescription_slip"
NUM_SLIPS = 6


def medvie(*arguments: object, code: int = 0) -> str:
    """Run a command that ends with this code; its standard error."""
    result = run([sys.executable, "-m", "medvie_rl", *map(str, arguments)])
    assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stderr


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy, calibrated on a few validation slips."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    folder.mkdir()
    for path in (ROOT / "medvie_rl/nano/policy").iterdir():
        (folder / path.name).symlink_to(path)
    settings = ("--traces", 3, "--set", "max_response_tokens=96")
    said = medvie("calibrate", "--policy", folder, "--data", SLIPS, "--limit", 16, *settings)
    assert "expected calibration error" in said and "of the values need no review" in said
    assert (folder / "calibration.png").stat().st_size > 1000
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slips of one kind, half of them in a folder below, and a file that is no image."""
    folder = tmp_path_factory.mktemp("scans")
    test = open_split(SLIPS, "test")
    chosen = [document for document in test.documents if document.schema == SCHEMA][:NUM_SLIPS]
    for index, document in enumerate(chosen):
        path = folder / ("ward" if index % 2 else ".") / f"{document.id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(next(iter(test.images(document).values())))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def extract(policy: Path, scans: Path, out: Path, *more: object) -> str:
    schema = ROOT / "conf/schemas" / f"{SCHEMA}.yaml"
    how = ("--set", "max_response_tokens=96", "--no-page-check")
    return medvie("extract", "--policy", policy, "--schema", schema, "--out", out, *how, *more, scans, code=3)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def by_id(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({made["id"] for made in lines}) == len(lines) == NUM_SLIPS + 1
    return {made["id"]: made for made in lines}


@pytest.fixture(scope="module")
def extracted(policy: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of lines, and what was said of it."""
    out = tmp_path_factory.mktemp("extracted") / "out.jsonl"
    return out, extract(policy, scans, out)


def test_every_value_has_a_confidence(extracted: tuple[Path, str]) -> None:
    out, said = extracted
    assert f"{NUM_SLIPS + 1} documents: " in said
    assert "confidences are not calibrated: the policy was calibrated for" in said, "for the page's text as well"
    lines = by_id(lines_of(out))
    assert lines.pop("broken")["status"] == "unreadable"
    assert sum(name.startswith("ward/") for name in lines) == NUM_SLIPS // 2
    schema = load_schemas(ROOT / "conf/schemas")[SCHEMA]
    for made in lines.values():
        values = {value.place[0] for value in values_of(schema, made["fields"])}
        assert values <= made["confidence"].keys() and set(schema.keys) == made["confidence"].keys()
        assert all(0.0 <= share <= 1.0 for share in made["confidence"].values())


def test_a_stopped_extraction_goes_on(policy: Path, scans: Path, extracted: tuple[Path, str], tmp_path: Path) -> None:
    whole, out = extracted[0], tmp_path / "out.jsonl"
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:20], encoding="utf-8")
    shutil.copy(f"{whole}.settings.json", f"{out}.settings.json")
    assert f"going on: 3 of {NUM_SLIPS + 1} files are done" in extract(policy, scans, out, "--resume")
    assert lines_of(out)[:3] == lines_of(whole)[:3]
    assert by_id(lines_of(out)).keys() == by_id(lines_of(whole)).keys()


def test_confidences_are_calibrated_when_asked_as_in_the_calibration(policy: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert "not calibrated" not in extract(policy, scans, out, "--page-check")
    calibration = read_calibration(policy)
    assert calibration is not None
    for made in lines_of(out):
        if made["status"] == "ok":
            assert made["calibrated"]
            unsure = {key for key, share in made["confidence"].items() if share < calibration.review_below - 1e-4}
            assert unsure | set(made.get("not_on_page", [])) <= set(made["review"])


@pytest.mark.full
def test_several_engines_give_the_same_lines(
    policy: Path, scans: Path, extracted: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    extract(policy, scans, out, "--workers", 2)
    expected, found = by_id(lines_of(extracted[0])), by_id(lines_of(out))
    assert {name: made["status"] for name, made in found.items()} == {
        name: made["status"] for name, made in expected.items()
    }
    same = sum(found[name].get("fields") == made.get("fields") for name, made in expected.items())
    assert same >= NUM_SLIPS, "but for rounding, which the batch decides"
