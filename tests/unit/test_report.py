"""`medvie report`: what is in the file, of runs that have ended or not, and what is not in it."""

import json
import re
import shutil
import tomllib
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from medvie_rl.cli import main
from medvie_rl.data.store import open_split, write_split
from medvie_rl.errors import ConfigError
from medvie_rl.extraction.calibration import Evidence, Judged, fit
from medvie_rl.report import page
from medvie_rl.report.command import DEFAULT_DOCUMENTS
from medvie_rl.report.data import gather
from medvie_rl.report.gallery import Pages, show
from medvie_rl.run_folder import check_is_free
from reported_run import HOSTILE, NUM_STEPS, config_of, evaluated, make_run
from rewards.metrics import paired_bootstrap

VOID = {"meta", "img", "input", "br", "link"}


class Parsed(HTMLParser):
    """The elements of a page; fails where one is not closed in its place."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text: list[str] = []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes another element at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        """The attributes of all elements of a name, and of a class where one is named."""
        found = [about for name, about in self.elements if name == tag]
        return [about for about in found if css in str(about.get("class")).split(" ")] if css else found

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    assert main(["report", str(run)]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html: str) -> Parsed:
    return Parsed(html)


def report(run: Path, *options: object) -> Parsed:
    out = run / "other.html"
    assert main(["report", str(run), "--out", str(out), *map(str, options)]) == 0
    return Parsed(out.read_text(encoding="utf-8"))


def test_the_headline_is_that_of_the_runs_own_scores(run: Path, parsed: Parsed) -> None:
    config = config_of("evaluation.bootstrap_samples=200")
    documents = open_split(config.data.path, "test").documents[:12]
    before, after = (evaluated(config, documents, skill) for skill in (0.3, 0.9))
    found = paired_bootstrap(before.scores, after.scores, num_resamples=200, seed=config.seed)
    low, high = found.delta_f1_ci95
    assert low > 0
    assert (
        f"On 12 test documents, the F1 rose from {before.metrics.f1:.3f} to {after.metrics.f1:.3f}. The change is "
        f"{found.delta_f1:+.3f}, with a 95% interval from {low:+.3f} to {high:+.3f}." in parsed.words
    )
    for name in ("precision", "recall"):
        assert f"{getattr(before.metrics, name):.3f} → {getattr(after.metrics, name):.3f}" in parsed.words


def test_every_shown_value_has_the_class_of_its_score(run: Path) -> None:
    compared = gather(run).compared
    assert compared is not None
    both = (*compared.comparison.other.scores, *compared.scores.system.scores)
    by_outcome = Counter(leaf.outcome.value for score in both for leaf in score.leaves)
    assert {"correct", "misread", "hallucinated", "omitted", "misassociated"} <= by_outcome.keys()
    documents = show(compared, Pages(config_of(), "test"), dict.fromkeys(range(12), ()))
    shown: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for field in (field for document in documents for group in document.groups for field in group.fields):
        for cell in (field.before, field.after):
            if cell.outcome:
                shown[cell.outcome] += field.times
                cells[cell.outcome] += 1
    assert shown == by_outcome
    parsed = report(run, "--documents", 12)
    classes = [name for about in parsed.all("td", "answer") for name in str(about["class"]).split()]
    assert Counter(name.removeprefix("o-") for name in classes if name != "answer") == cells
    signs = [about for about in parsed.all("span", "sign") if about.get("aria-hidden") == "true"]
    assert len(signs) >= sum(cells.values())  # beside each stands in words what it means
    assert len(parsed.all("article", "document")) == 12 + 2  # and two responses of training


def test_the_page_is_self_contained_and_well_formed(html: str, parsed: Parsed) -> None:
    assert parsed.elements[0] == ("html", {"lang": "en"})
    names = {tag for tag, _ in parsed.elements}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video"}
    for tag, about in parsed.elements:
        assert not [name for name in about if name.startswith("on") or name in ("style", "srcset", "action")], tag
        assert str(about.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert str(about.get("href") or "#").startswith("#")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(about for about in parsed.all("meta") if about.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    ids = [about["id"] for _, about in parsed.elements if "id" in about]
    assert len(ids) == len(set(ids))
    targets = [str(about["href"])[1:] for about in parsed.all("a")]
    assert set(targets) <= set(ids) and len(targets) > 5
    assert parsed.headings[0] == 1 and parsed.headings.count(1) == 1
    assert all(second <= first + 1 for first, second in zip(parsed.headings, parsed.headings[1:], strict=False))
    assert all(about.get("alt") for about in parsed.all("img"))
    assert len(html.encode()) <= page.MAX_BYTES


def test_what_a_policy_wrote_is_text(html: str, parsed: Parsed) -> None:
    assert HOSTILE.replace("\x1b", "␛") in "".join(parsed.text)  # said, and only said
    assert "<script" not in html and "\x1b" not in html and "<img src=https" not in html


def test_documents_are_shown_with_pages_and_traces(parsed: Parsed) -> None:
    assert len(parsed.all("img")) == DEFAULT_DOCUMENTS == len(parsed.all("article", "document")) - 2
    assert "Reasoning traces and answers, as they were written" in parsed.words
    for reason in ("improved most", "worst after", "at random"):
        assert reason in parsed.words
    assert "12 of 12 test documents" in parsed.words


def test_curves_have_the_logged_values(parsed: Parsed, run: Path) -> None:
    first, *_, last = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    captions = [str(about["aria-label"]) for about in parsed.all("svg") if "aria-label" in about]
    (scores,) = [text for text in captions if text.startswith("Scores on the validation documents.")]
    assert f"F1: {first['eval/f1']:.3g} at step 0, {last['eval/f1']:.3g} at step {NUM_STEPS}; precision" in scores
    assert {text.partition(".")[0] for text in captions} >= {
        "Training reward", "Training scores", "Errors on the validation documents", "Errors of training responses",
        "Length", "Clip fraction", "Entropy", "Gradient norm", "Time of a step by phase",
    }  # fmt: skip
    assert "Staleness: mean 0;" in parsed.words and "KL divergence: sampler and learner 0" in parsed.words


def test_a_calibrated_policy_shows_how_far_it_can_be_trusted(tmp_path: Path, parsed: Parsed) -> None:
    assert not parsed.all("section", "confidence") and "Confidence of the best policy" not in parsed.words
    run = make_run(tmp_path / "run")
    judged = [
        Judged(str(document), Evidence(agreeing=share / 5), document % 5 < share)
        for document in range(20)
        for share in range(6)
    ]
    calibration = fit(judged, asked={}, max_error=0.02)
    (run / "best").mkdir(exist_ok=True)
    calibration.write(run / "best/calibration.json")
    shown = report(run, "--redact")
    assert "Confidence of the best policy" in shown.words and "Of 120 values on 20 documents" in shown.words
    assert f"those below {calibration.review_below:.3f} for review" in shown.words


def test_redacted_reports_hold_no_patient(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = report(run, "--redact")
    content = (run / "other.html").read_text(encoding="utf-8")
    record = json.loads((run / "evaluations" / "after.json").read_text(encoding="utf-8"))
    for entry in record["documents"]:
        assert entry["id"] not in content
        for value in entry["truth"].values():
            assert len(value) < 5 or value not in content
    assert "img" not in {tag for tag, _ in shown.elements} and not shown.all("article")
    assert "Numbers and tables only." in shown.words and "the F1 rose" in shown.words
    assert "By key" in shown.words and "numbers and tables only)" in capsys.readouterr().out


def test_without_images_the_values_stay(run: Path) -> None:
    shown = report(run, "--no-images")
    assert not shown.all("img") and len(shown.all("article", "document")) == 14
    assert "This file holds patient data: no page images, but annotated values" in shown.words


def test_a_run_that_goes_on_is_compared_on_validation_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", until=4)
    shown = report(run)
    assert f"This run has not finished: step 4 of {NUM_STEPS}." in shown.words
    assert "compares step 0 with step 3 on the validation documents" in shown.words
    assert "On 8 validation documents, the F1" in shown.words
    assert f"next: medvie train --resume {run}" in capsys.readouterr().out


def test_a_run_that_has_just_begun_has_nothing_to_compare(tmp_path: Path) -> None:
    shown = report(make_run(tmp_path / "run", until=2))
    assert "There are no two evaluations to compare yet" in shown.words
    assert not shown.all("td", "answer") and "Training reward" in shown.words


def test_a_run_that_was_reported_can_still_be_begun_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until=1)  # killed before its first checkpoint
    assert main(["report", str(run)]) == 0 and (run / "report.html").is_file()
    check_is_free(run)
    (run / "notes.txt").touch()
    with pytest.raises(ConfigError, match="notes"):
        check_is_free(run)


def test_supervised_fine_tuning_has_a_loss_and_no_rewards(tmp_path: Path) -> None:
    settings = ("method=sft", "queries.reasoning_fraction=0", "evaluation.reasoning=false")
    shown = report(make_run(tmp_path / "run", *settings))
    assert "supervised fine-tuning" in shown.words and "6 of 6, each of 12 demonstrations" in shown.words
    assert "Training loss" in shown.words and "Training reward" not in shown.words
    assert "This run has recorded no responses of training." in shown.words and "the F1 rose" in shown.words


def test_a_private_run_says_what_was_not_kept(tmp_path: Path) -> None:
    shown = report(make_run(tmp_path / "run", "records.private=true"))
    assert "This run kept no responses of training (records.private)." in shown.words
    assert "the F1 rose" in shown.words and len(shown.all("article", "document")) == 12


def test_the_file_stays_below_its_limit(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = report(run, "--documents", 12)
    assert len(whole.all("img")) == 12
    text = (run / "other.html").stat().st_size - sum(len(str(about["src"])) for about in whole.all("img"))
    monkeypatch.setattr(page, "MAX_BYTES", text + 12 * 2_000)  # too little for pages, enough for text
    monkeypatch.setattr(page, "_SHARE_OF_TEXT", 1.0)
    shown = report(run, "--documents", 12)
    assert not shown.all("img") and "Pages are left out, with which the file would be too large." in shown.words
    assert (run / "other.html").stat().st_size <= page.MAX_BYTES
    monkeypatch.setattr(page, "MAX_BYTES", text - 10_000)
    shown = report(run, "--documents", 12)
    assert len(shown.all("article", "document")) == 6 + 2
    assert "only 6 documents are shown" in shown.words and "note: only 6 documents" in capsys.readouterr().out


def copy_of_slips(folder: Path, schema: str, *, as_files: bool = False) -> Path:
    """The slips of one schema, their pages in the dataset or as files beside it."""
    for name in ("train", "validation", "test"):
        split = open_split("medvie_rl/nano/slips", name)
        written = []
        for document in split:
            if document.schema == schema:
                (content,) = split.images(document).values()
                if as_files:
                    (folder / "pages").mkdir(parents=True, exist_ok=True)
                    (folder / "pages" / f"{document.id}.png").write_bytes(content)
                    document = replace(document, image_paths=(f"pages/{document.id}.png",))
                written.append((document, [] if as_files else [content]))
        write_split(folder, name, written)
    return folder


def test_a_dataset_that_is_gone_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy_of_slips(tmp_path / "slips", "visit_slip")
    run = make_run(tmp_path / "run", f"data.path={dataset}")
    shutil.rmtree(dataset)
    assert main(["report", str(run)]) == 2  # which schema each document follows is not known any more
    assert "with --schema FILE" in capsys.readouterr().err
    shown = report(run, "--schema", "conf/schemas/visit_slip.yaml")
    assert not shown.all("img") and len(shown.all("article", "document")) == 14
    assert "no page images: " in shown.words and "note: no page images: " in capsys.readouterr().out


def test_a_page_that_is_gone_or_another_is_said(tmp_path: Path) -> None:
    dataset = copy_of_slips(tmp_path / "slips", "visit_slip", as_files=True)
    run = make_run(tmp_path / "run", f"data.path={dataset}")
    first, second, *_ = sorted((dataset / "pages").glob("test-*.png"))
    first.unlink()
    second.write_bytes(b"no image")
    shown = report(run, "--documents", 12)
    assert len(shown.all("img")) == 10
    assert shown.words.count("The pages cannot be read: ") == 2 and f"{second.name}) does not match" in shown.words


def damage(name: str, content: Any) -> Any:
    def change(run: Path) -> str:
        (run / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return name

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("metrics.jsonl", '{"step": 0}\n{"step": \n{"step": 2}\n'), "metrics.jsonl:2: expected the metrics of"),
        (damage("metrics.jsonl", '{"step": 0'), "metrics.jsonl: the run has logged nothing yet"),
        (damage("evaluations/after.json", "{"), "after.json: not readable as JSON"),
        (damage("evaluations/before.json", {"metrics": {"f1": 0}}), "before.json: documents is missing"),
        (damage("evaluations/step-000003.json", {"metrics": {"f1": 0.5}, "documents": [
            {"id": "a", "truth": {}, "response": "", "finish_reason": "stop"}]}), "step-000003.json: no counts of"),
        (damage("rollouts/step-000006.parquet", "PAR1"), "step-000006.parquet: damaged"),
        (damage("config.yaml", "unknown: 1\nmodel: x\n"), "made by another version of medvie"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    change(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and str(folder) in error


def test_wrong_usage_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        ([tmp_path], "not a run directory"),
        ([run, "--documents", -1], "--documents: expected 0 or more, got -1"),
        ([run, "--out", tmp_path / "no" / "x.html"], "there is no folder"),
        ([run, "--out", run / "config.yaml"], "this is read as input and would be overwritten"),
    ):
        assert main(["report", *map(str, options)]) == 2
        assert message in capsys.readouterr().err


def test_an_installed_package_has_the_templates() -> None:
    settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "medvie_rl.report" in settings["packages"]
    folder = Path("medvie_rl/report")
    packaged = {path for pattern in settings["package-data"]["medvie_rl.report"] for path in folder.glob(pattern)}
    others = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert packaged == others and len(others) == 8


def test_the_terminal_says_where_it_is_and_what_comes_next(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--documents", "0"]) == 0
    out = capsys.readouterr().out
    assert f"report: {run / 'report.html'} (" in out and "0 documents, holds patient data)" in out
    assert f"next: medvie export {run} --out my_policy" in out
    assert "Documents, before and after" not in (run / "report.html").read_text(encoding="utf-8")
