"""Studies: files that are checked, runs that are planned once, numbers with intervals, tables and pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import open_split
from medvie_rl.errors import ConfigError
from medvie_rl.study.cases import choose_cases
from medvie_rl.study.config import MEASURES, StudyConfig, load_study, study_names
from medvie_rl.study.documents import condition_dataset, condition_of, training_dataset
from medvie_rl.study.figure import draw_figure
from medvie_rl.study.plan import plan_trials, runs_of
from medvie_rl.study.run import write_results
from medvie_rl.study.sheets import Measured, sheets_of
from medvie_rl.study.statistics import Bootstrap, complete

CONFIG = Path("conf/study.yaml")
STUDY = """
title: A title
question: A question?
baseline: first
seeds: [1, 2]
arms:
  - {name: base, method: base}
  - {name: first, method: sft}
  - {name: second, start: first, settings: [num_steps=3]}
  - {name: noisy, documents: {num: 4, choice: random, noise: 0.5}}
"""


@pytest.fixture(scope="module")
def slips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "slips"
    write_slips(folder, {"train": 24, "validation": 8, "test": 8}, seed=4)
    return folder


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# --- the file


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_can_be_planned(name: str, tmp_path: Path, slips: Path) -> None:
    study = load_study(name)
    assert len(study.seeds) >= 3
    small = [
        replace(arm, documents=replace(arm.documents, num=min(arm.documents.num, 3), schemas=[])) for arm in study.arms
    ]
    one_seed = replace(study, arms=small, seeds=study.seeds[:1])
    trials = plan_trials(one_seed, CONFIG, [f"data.path={slips}", "data.num_train=0"], tmp_path)
    assert [trial.arm for trial in trials] == [arm.name for arm in study.arms]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title:", "titel:"), "unknown key 'titel'; did you mean 'title'"),
        (("baseline: first", "baseline: frist"), "no arm is called 'frist'; did you mean 'first'"),
        (
            ("start: first", "start: noisy"),
            "'second' starts from 'noisy'; expected a trained one that stands before it",
        ),
        (("method: sft", "method: ppo"), r"arms\[1\]: method: expected one of rl, sft, base, got 'ppo'"),
        (("noise: 0.5", "noise: 5"), r"arms\[3\]: noise: expected a share between 0 and 1, got 5"),
        (("num_steps=3", "num_steps"), r"arms\[2\]: settings: expected key=value"),
        (("name: second", "name: first"), "arms: 'first' is there twice"),
        (("seeds: [1, 2]", "seeds: [1, 1]"), "seeds: expected one or more different numbers"),
        (("seeds: [1, 2]", "x_label: number"), "x_label: name the axis where arms have an x"),
        (("seeds: [1, 2]", "measures: [accuracy]"), "measures: expected one of f1, precision"),
        (("seeds: [1, 2]", "conditions: [{name: a, damage: fax}]"), r"conditions\[0\]: degree: expected 1 to 3"),
    ],
)
def test_a_wrong_study_is_told_where(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, STUDY.replace(*change)))


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'headline'\?; there are algorithms, "):
        load_study("headlines")


# --- runs and documents


def test_what_is_trained_alike_is_trained_once(tmp_path: Path, slips: Path) -> None:
    study = load_study(written(tmp_path, STUDY))
    settings = [f"data.path={slips}"]
    trials = plan_trials(study, CONFIG, settings, tmp_path)
    runs = runs_of(trials)
    assert len(runs) == 6 and trials[0].run is None
    sft, rl = (next(each.run for each in trials if each.arm == name) for name in ("first", "second"))
    assert sft and rl and rl.after == sft.id and rl.config.model == str(sft.folder / "best")
    assert rl.config.num_steps == 3 and sft.config.method == "sft" and rl.config.seed == sft.config.seed == 1
    more = plan_trials(study, CONFIG, [*settings, "output_dir=elsewhere", "wandb.mode=offline"], tmp_path)
    assert [run.id for run in runs_of(more)] == [run.id for run in runs], "no policy depends on these"
    others = plan_trials(study, CONFIG, [*settings, "learner.learning_rate=1e-3"], tmp_path)
    assert not {run.id for run in runs_of(others)} & {run.id for run in runs}


def test_training_documents_are_chosen_and_made_wrong_by_the_seed(tmp_path: Path, slips: Path) -> None:
    study = load_study(written(tmp_path, STUDY))
    trials = [each for each in plan_trials(study, CONFIG, [f"data.path={slips}"], tmp_path) if each.arm == "noisy"]
    folders = [Path(trial.config.data.path) for trial in trials]
    assert folders[0] != folders[1] and folders[0].parent == tmp_path / "data"
    source = {document.id: document for document in open_split(slips, "train")}
    for folder in folders:
        train = open_split(folder, "train")
        assert len(train) == 4 and all(train.images(each) for each in train)
        assert any(each.annotation != source[each.id].annotation for each in train)
        for name in ("validation", "test"):
            assert [each.annotation for each in open_split(folder, name)] == [
                each.annotation for each in open_split(slips, name)
            ]


def test_too_few_documents_are_told_with_the_arm(tmp_path: Path, slips: Path) -> None:
    study = load_study(written(tmp_path, STUDY.replace("num: 4", "num: 40")))
    with pytest.raises(ConfigError, match=r"arm 'noisy': .*40 training documents are wanted, it has 24"):
        plan_trials(study, CONFIG, [f"data.path={slips}"], tmp_path)


def test_schemas_keep_their_documents_and_all_that_is_tested(tmp_path: Path, slips: Path) -> None:
    study = load_study(written(tmp_path, STUDY))
    trial = plan_trials(study, CONFIG, [f"data.path={slips}"], tmp_path)[0]
    wanted = replace(study.arms[3].documents, schemas=["visit_slip"], num=0, choice="first", noise=0.0)
    folder = training_dataset(trial.config, wanted, tmp_path, seed=1)
    assert {each.schema for name in ("train", "validation") for each in open_split(folder, name)} == {"visit_slip"}
    assert len(open_split(folder, "test")) == 8


def test_conditions_become_one_dataset(tmp_path: Path, slips: Path) -> None:
    text = STUDY + "conditions: [{name: plain, num: 3}, {name: faxed 2, num: 3, damage: fax, degree: 2}]\n"
    study = load_study(written(tmp_path, text))
    trial = plan_trials(study, CONFIG, [f"data.path={slips}"], tmp_path)[0]
    folder = condition_dataset(study.conditions, trial.config, study.prepare, tmp_path)
    documents = open_split(folder, "test").documents
    assert [condition_of(each.id) for each in documents] == [
        (name, document.id) for name in ("plain", "faxed 2") for document in open_split(slips, "test").documents[:3]
    ]
    assert documents[0].image_keys != documents[3].image_keys and documents[0].annotation == documents[3].annotation


# --- numbers


def row(arm: str, seed: int, document: str, *outcomes: str, **others: Any) -> dict[str, Any]:
    unanswered, untrue = ("omitted",), ("hallucinated", "duplicate")
    leaves = [
        {
            "key": f"key{index}",
            "kind": "date" if index % 2 else "text",
            "outcome": outcome,
            "answered": None if outcome in unanswered else "a",
            "true": None if outcome in untrue else "a",
            "position": None if outcome in untrue else [],
        }
        for index, outcome in enumerate(outcomes)
    ]
    correct = sum(outcome == "correct" for outcome in outcomes)
    return {
        "arm": arm, "seed": seed, "condition": "test", "document": document, "document_type": "visit", "leaves": leaves,
        "num_values": 5, "num_tokens": 10 + seed, "f1": correct / max(len(outcomes), 1), **others,
    }  # fmt: skip


def grid(better: str = "correct") -> list[dict[str, Any]]:
    rows = []
    for seed in (1, 2, 3):
        for document in range(12):
            odd = "correct" if document % 3 else "misread"
            rows.append(row("first", seed, str(document), odd, "omitted", "hallucinated", "correct"))
            rows.append(row("second", seed, str(document), better, "omitted", "correct", "correct"))
    return rows


def test_measures_are_those_counted_by_hand() -> None:
    bootstrap = Bootstrap(grid())
    assert (bootstrap.num_seeds, bootstrap.num_documents, bootstrap.num_true("first")) == (3, 12, 36)
    # of 12 documents: 8 + 12 correct, 4 misread, 12 omitted, 12 invented
    expected = {
        "f1": 2 * 20 / (36 + 36), "precision": 20 / 36, "recall": 20 / 36, "hallucinated": 12 / 36, "omitted": 12 / 36,
        "misread": 4 / 36, "misassociated": 0.0, "tokens": 12.0,
    }  # fmt: skip
    assert set(expected) == set(MEASURES)
    for measure, value in expected.items():
        estimate = bootstrap.estimate("first", measure)
        assert estimate.value == pytest.approx(value) and estimate.ci95[0] <= value <= estimate.ci95[1]
    difference = bootstrap.difference("second", "first", "f1")
    assert difference.value == pytest.approx(2 * 36 / (36 + 48) - 2 * 20 / 72) and difference.is_clear
    assert bootstrap.difference("first", "first", "f1").ci95 == (0.0, 0.0), "paired with itself"


def test_documents_that_vary_widen_the_interval_and_seeds_that_vary_do_so_too() -> None:
    def width(of_seed: Any, of_document: Any) -> float:
        rows = [
            row(
                "first",
                seed,
                str(document),
                *(["correct"] * (6 + of_seed(seed) + of_document(document))),
                *["misread"] * 6,
            )
            for seed in (1, 2, 3)
            for document in range(40)
        ]
        low, high = Bootstrap(rows).estimate("first", "precision").ci95
        return high - low

    alike = width(lambda seed: 0, lambda document: 0)
    documents = width(lambda seed: 0, lambda document: document % 5)
    seeds = width(lambda seed: 4 * seed, lambda document: document % 5)
    assert alike == pytest.approx(0.0) and 0 < documents < seeds


def test_the_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    rows = [row("first", 1, str(number), "correct" if rng.random() < 0.7 else "misread") for number in range(400)]
    low, high = Bootstrap(rows).estimate("first", "recall").ci95
    assert high - low == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 400) ** 0.5, rel=0.12)


def test_what_cannot_be_paired_is_refused_and_what_is_missing_left_out() -> None:
    rows = grid()
    lacking = [each for each in rows if (each["arm"], each["seed"]) != ("second", 2)]
    with pytest.raises(ValueError, match="the same documents with the same seeds"):
        Bootstrap(lacking)
    assert {each["seed"] for each in complete(lacking)} == {1, 3}
    nothing = Bootstrap([row("first", 1, "a"), row("first", 1, "b")]).estimate("first", "f1")
    assert np.isnan(nothing.value)


# --- what people see


def study_of(**others: Any) -> StudyConfig:
    arms = [{"name": "first", "method": "sft"}, {"name": "second"}]
    from omegaconf import OmegaConf

    content = {"title": "T", "question": "Q", "baseline": "first", "arms": arms, **others}
    study = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudyConfig), content))
    assert isinstance(study, StudyConfig)
    return study


def test_tables_hold_the_numbers_and_mark_clear_differences(tmp_path: Path) -> None:
    measured = Measured(study_of(breakdowns=["kind", "length of the answer", "values on the page"]), grid())
    main, kinds, lengths, values, effort = sheets_of(measured, [])
    assert main.columns[:4] == ("", "F1", "precision", "recall") and main.columns[-1] == "F1 less that of first"
    first, second = main.rows
    assert first[1].text.startswith("0.556 [") and first[-1].text == "–"
    assert second[-1].text.startswith("+0.302 [") and second[-1].change == "up"
    assert [cells[0].text for cells in kinds.rows] == ["date", "text"] and kinds.is_detail
    assert [cells[0].text for cells in values.rows] == ["5"] and lengths.rows and not effort.rows


def test_several_conditions_become_rows(tmp_path: Path) -> None:
    rows = [each | {"condition": name} for name in ("clean", "faxed") for each in grid()]
    study = study_of(conditions=[{"name": "clean"}, {"name": "faxed", "damage": "fax", "degree": 1}])
    titles = {sheet.title: sheet for sheet in sheets_of(Measured(study, rows), [])}
    assert [cells[0].text for cells in titles["F1 less that under clean"].rows] == ["faxed"]
    assert titles["F1 less that of first"].rows[0][1].change == "up"
    draw_figure(Measured(study, rows), tmp_path / "conditions.png")
    draw_figure(Measured(study_of(), grid()), tmp_path / "arms.png")
    arms = [{"name": "first", "x": 1.0, "series": "a"}, {"name": "second", "x": 2.0, "series": "a"}]
    draw_figure(Measured(study_of(arms=arms, x_label="number"), grid()), tmp_path / "curve.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 5_000 for name in ("conditions", "arms", "curve"))


def test_cases_are_chosen_by_the_change_not_by_taste() -> None:
    rows = [row("first", 1, str(number), "correct", *["misread"] * 9) for number in range(10)]
    rows += [
        row("second", 1, str(number), *["correct"] * (number + 1), *["misread"] * (9 - number)) for number in range(10)
    ]
    assert choose_cases(Measured(study_of(num_cases=4, seeds=[1]), rows)) == ["0", "3", "6", "9"]
    assert len(choose_cases(Measured(study_of(num_cases=50, seeds=[1]), rows))) == 10


def test_the_report_shows_cases_with_their_pages_and_runs_nothing(tmp_path: Path, slips: Path) -> None:
    study = study_of(num_cases=3, seeds=[1, 2])
    names = [document.id for document in open_split(slips, "test")]
    response = {"response": "<b>{}</b>"}
    rows = [
        row(arm, seed, name, "correct" if arm == "second" else "misread", "omitted", "hallucinated", **response)
        for arm in ("first", "second")
        for seed in (1, 2)
        for name in names
    ]
    trials = plan_trials(study, CONFIG, [f"data.path={slips}"], tmp_path)
    measured = Measured(study, rows)
    write_results(tmp_path, study, measured, sheets_of(measured, trials), trials)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.count('<article class="document">') == 3 and report.count("data:image/jpeg") == 3
    assert "Holds patient data" in report and "<script" not in report and "&lt;b&gt;" in report
    assert report.count('class="answer o-hallucinated"') == 6 and "not there" in report
    assert "# T\n\nQ\n\n## 8 held-out documents, 2 seeds" in (tmp_path / "tables.md").read_text(encoding="utf-8")
