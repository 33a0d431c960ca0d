"""What a run reads is checked before anything starts; every problem names the document and what is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from medvie_rl.config import Config, load_config
from medvie_rl.data.load import load_run_data, load_schemas
from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import Document, open_split, write_split
from medvie_rl.errors import ConfigError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "slips"
    write_slips(folder, {"train": 6, "validation": 4, "test": 4}, seed=9)
    return folder


def config_for(dataset: Path, tmp_path: Path, *overrides: str) -> Config:
    return load_config(Path("conf/local.yaml"), [f"data.path={dataset}", f"model={tmp_path}", *overrides])


def change_first(dataset: Path, split: str, **changes: object) -> None:
    opened = open_split(dataset, split)
    documents: list[tuple[Document, list[bytes]]] = [
        (document, list(opened.images(document).values())) for document in opened
    ]
    images = changes.pop("images", documents[0][1])
    documents[0] = (replace(documents[0][0], **changes), images)  # type: ignore[arg-type]
    write_split(dataset, split, documents)


def test_a_sound_dataset_loads_without_reading_more_than_asked(dataset: Path, tmp_path: Path) -> None:
    data = load_run_data(config_for(dataset, tmp_path, "data.num_test=2"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 4, 2]
    document = data.test[0]
    assert tuple(data.images(document)) == document.image_keys


def test_a_missing_dataset_a_missing_model_and_a_missing_split(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.parquet: no such split"):
        load_run_data(config_for(tmp_path / "nowhere", tmp_path))
    with pytest.raises(ConfigError, match=r"model: there is no folder .* allow_downloads=true"):
        load_run_data(config_for(dataset, tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such split"):
        load_run_data(config_for(dataset, tmp_path, "data.test_split=holdout"))


def test_an_empty_split_is_refused(dataset: Path, tmp_path: Path) -> None:
    write_split(dataset, "validation", [])
    with pytest.raises(ConfigError, match=r"validation\.parquet: this split has no documents"):
        load_run_data(config_for(dataset, tmp_path))


def test_a_corrupt_image_names_its_document(dataset: Path, tmp_path: Path) -> None:
    change_first(dataset, "test", images=[b"\x89PNG broken"])
    with pytest.raises(ConfigError, match=r"document 'test-9-00000'.*does not match its sha256"):
        load_run_data(config_for(dataset, tmp_path))


def test_an_annotation_that_does_not_fit_names_document_and_key(dataset: Path, tmp_path: Path) -> None:
    change_first(dataset, "train", annotation={"colour": "red"})
    with pytest.raises(ConfigError, match=r"document 'train-9-00000': colour: not a key of schema"):
        load_run_data(config_for(dataset, tmp_path))
    change_first(dataset, "train", annotation={}, schema="letter")
    with pytest.raises(ConfigError, match="unknown schema 'letter'; known: "):
        load_run_data(config_for(dataset, tmp_path))


def test_an_image_in_two_splits_is_refused(dataset: Path, tmp_path: Path) -> None:
    train = open_split(dataset, "train")
    first = train.documents[0]
    others = open_split(dataset, "test")
    documents = [(document, list(others.images(document).values())) for document in others]
    write_split(dataset, "test", [*documents, (first, list(train.images(first).values()))])
    with pytest.raises(ConfigError, match="shows the same image as 'train-9-00000' of split 'train'"):
        load_run_data(config_for(dataset, tmp_path))


def test_more_pages_than_a_prompt_may_have(dataset: Path, tmp_path: Path) -> None:
    opened = open_split(dataset, "train")
    first, second = opened.documents[:2]
    images = [*opened.images(first).values(), *opened.images(second).values()]
    keys = first.image_keys + second.image_keys
    write_split(dataset, "train", [(replace(first, image_keys=keys, image_sizes=((208, 96),) * 2), images)])
    with pytest.raises(ConfigError, match=r"has 2 pages, rollout\.max_images_per_prompt allows 1"):
        load_run_data(config_for(dataset, tmp_path))


def test_a_document_that_nobody_annotated_is_refused(dataset: Path, tmp_path: Path) -> None:
    change_first(dataset, "train", annotation={}, annotated=False)
    with pytest.raises(ConfigError, match=r"'train-9-00000' is not annotated; annotate it, or move it to .* 'pool'"):
        load_run_data(config_for(dataset, tmp_path))


def test_weights_of_unknown_keys_are_refused_before_anything_starts(dataset: Path, tmp_path: Path) -> None:
    known = config_for(dataset, tmp_path, "queries.key_weights={visit_slip.patient: 2.5}")
    assert known.queries.key_weights == {"visit_slip.patient": 2.5}
    assert len(load_run_data(known).train) == 6
    with pytest.raises(ConfigError, match=r"'visit_slip.patients' is no key of a schema; .* mean 'visit_slip.patient'"):
        load_run_data(config_for(dataset, tmp_path, "queries.key_weights={visit_slip.patients: 2.5}"))
    with pytest.raises(ConfigError, match=r"queries\.key_weights: expected a weight above 0"):
        config_for(dataset, tmp_path, "queries.key_weights={visit_slip.patient: 0}")
    with pytest.raises(ConfigError, match=r"for 'visit_slip', got .*; as an override it is queries"):
        config_for(dataset, tmp_path, "queries.key_weights.visit_slip.patient=2")


def test_a_dataset_may_be_named_by_a_uri(dataset: Path, tmp_path: Path) -> None:
    data = load_run_data(config_for(dataset, tmp_path, f"data.path={dataset.as_uri()}"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 4, 4]
    assert data.splits[0].path == f"{dataset.as_uri()}/train.parquet"


def test_the_shipped_schemas_load() -> None:
    assert {"prescription_slip", "laboratory_slip", "visit_slip", "vaccination_slip", "prescription_vi"} <= set(
        load_schemas(Path("conf/schemas"))
    )
