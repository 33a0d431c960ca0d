"""The documents of a study: training splits that are chosen or made wrong, and pages that are damaged."""

import hashlib
import json
import random
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from medvie_rl.config import Config, DataConfig
from medvie_rl.data.damage import damaged_page
from medvie_rl.data.features import Array, document_features
from medvie_rl.data.label_noise import noisy_annotation
from medvie_rl.data.load import load_schemas
from medvie_rl.data.select import select_documents
from medvie_rl.data.store import Document, Split, describe_image, open_split, write_split
from medvie_rl.errors import ConfigError
from medvie_rl.progress import UNSEEN
from medvie_rl.study.config import Condition, TrainingDocuments
from rewards.schema import Schema

_MARK = ": "  # between a condition's name and the id of a document


def training_dataset(config: Config, wanted: TrainingDocuments, out: Path, *, seed: int) -> Path:
    """The folder of a dataset whose training split is what an arm trains on with a seed; made below `out` if need be.

    The validation split keeps the documents of the wanted schemas, the test split all; neither is ever made wrong.
    Raises ConfigError for more documents than there are.
    """
    data = config.data
    splits = {name: open_split(data.path, name) for name in (data.train_split, data.validation_split, data.test_split)}
    kept = {name: _of_schemas(split.documents, wanted.schemas) for name, split in splits.items()}
    kept[data.test_split] = list(splits[data.test_split].documents)
    train = _chosen(splits[data.train_split], kept[data.train_split], wanted, data, seed)
    if wanted.noise:
        schemas = load_schemas(Path(config.schemas))
        train = [_made_wrong(document, schemas[document.schema], wanted, seed) for document in train]
    kept[data.train_split] = train
    folder = out / _digest(kept)
    for name, documents in kept.items():
        if not (folder / f"{name}.parquet").is_file():
            write_split(folder, name, splits[name].embedded(documents))
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedDocuments:
    """Documents of one condition with where their pages are; their ids bear the condition's name."""

    condition: Condition
    source: Split
    documents: tuple[Document, ...]


def condition_dataset(conditions: Sequence[Condition], config: Config, prepare: Mapping[str, str], out: Path) -> Path:
    """A dataset with a split `test` that holds the documents of all conditions, each under an id with the condition's
    name before it (see `condition_of`); made below `out` if need be. Raises ConfigError for one that is not there."""
    tested = [_tested(condition, config, prepare) for condition in conditions]
    recipe = {each.condition.name: [each.condition.damage, each.condition.degree] for each in tested}
    folder = out / _digest({each.condition.name: each.documents for each in tested}, recipe)
    if not (folder / "test.parquet").is_file():
        write_split(folder, "test", (pages for each in tested for pages in _damaged(each)))
    return folder


def condition_of(document_id: str) -> tuple[str, str]:
    """The condition, and the id in its dataset, of a document of `condition_dataset`."""
    name, _, own = document_id.partition(_MARK)
    return name, own


def prepare_dataset(folder: str, prepare: Mapping[str, str]) -> None:
    """Draw a dataset that a study's file says how to make, unless it is there."""
    if folder in prepare and not Path(folder).exists():
        from medvie_rl.cli import main

        code = main(["data", "synth", *shlex.split(prepare[folder]), "--out", folder])
        if code:
            raise ConfigError(f"prepare: `medvie data synth {prepare[folder]} --out {folder}` ended with {code}")


def _tested(condition: Condition, config: Config, prepare: Mapping[str, str]) -> TestedDocuments:
    prepare_dataset(condition.dataset, prepare)
    try:
        source = open_split(condition.dataset or config.data.path, condition.split or config.data.test_split)
    except ValueError as error:
        raise ConfigError(f"condition {condition.name!r}: {error}") from error
    num = condition.num or (config.data.num_test if not condition.dataset else 0)
    documents = _of_schemas(source.documents, condition.schemas)[: num or None]
    if not documents:
        raise ConfigError(f"condition {condition.name!r}: {source.path} has no documents of {condition.schemas}")
    return TestedDocuments(condition=condition, source=source, documents=tuple(documents))


def _damaged(tested: TestedDocuments) -> Iterator[tuple[Document, list[bytes]]]:
    condition = tested.condition
    for document, pages in tested.source.embedded(tested.documents):
        if condition.damage:
            pages = [damaged_page(page, condition.damage, condition.degree, document.id) for page in pages]
        described = [describe_image(page) for page in pages]
        yield (
            replace(
                document,
                id=f"{condition.name}{_MARK}{document.id}",
                image_keys=tuple(key for key, _ in described),
                image_sizes=tuple(size for _, size in described),
            ),
            pages,
        )


def _of_schemas(documents: Iterable[Document], schemas: Sequence[str]) -> list[Document]:
    return [document for document in documents if not schemas or document.schema in schemas]


def _chosen(
    split: Split, documents: list[Document], wanted: TrainingDocuments, data: DataConfig, seed: int
) -> list[Document]:
    num = wanted.num or data.num_train or len(documents)
    if wanted.num > len(documents) or not documents:
        of = f" of {', '.join(wanted.schemas)}" if wanted.schemas else ""
        raise ConfigError(
            f"{split.path}: {max(wanted.num, 1)} training documents{of} are wanted, it has {len(documents)}; name a "
            "larger dataset with data.path, e.g. one that `medvie data synth --num 1000,80,300` draws"
        )
    if wanted.choice == "first":
        return documents[:num]
    if wanted.choice == "random":
        picked = set(random.Random(f"medvie study choice {seed}").sample(range(len(documents)), num))
        return [document for index, document in enumerate(documents) if index in picked]
    known, looks = _looks(data.path, data.train_split, tuple(document.id for document in documents))
    ids = set(select_documents(known, looks, num=num, seed=seed).ids)
    return [document for document in documents if document.id in ids]


@cache
def _looks(dataset: str, split: str, ids: tuple[str, ...]) -> tuple[Sequence[Document], Array]:
    """Documents with what makes them different: looks, types and keys, without reading the text. Takes a while."""
    source, wanted = open_split(dataset, split), set(ids)
    documents = [document for document in source.documents if document.id in wanted]
    features = document_features(documents, source, None, progress=UNSEEN)
    return features.documents, features.matrix


def _made_wrong(document: Document, schema: Schema, wanted: TrainingDocuments, seed: int) -> Document:
    rng = random.Random(f"medvie study noise {seed} {document.id}")
    wrong = noisy_annotation(document.annotation, schema, share=wanted.noise, kinds=wanted.noise_kinds, rng=rng)
    return replace(document, annotation=wrong)


def _digest(documents: Mapping[str, Iterable[Document]], recipe: object = None) -> str:
    """Twelve hexadecimal digits that stand for what the documents of each split say and show."""
    told = {
        name: [[each.id, each.schema, each.annotation, each.image_keys] for each in of_split]
        for name, of_split in documents.items()
    }
    content = json.dumps([told, recipe], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
