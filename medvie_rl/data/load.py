"""Everything a run reads before it starts, checked: schemas, prompt template, documents, annotations, images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvie_rl.config import Config
from medvie_rl.data.ocr_prompt import check_takes_ocr
from medvie_rl.data.prompts import PromptTemplate, load_prompt_template
from medvie_rl.data.sampling import check_key_weights
from medvie_rl.data.store import Document, Split, describe_image, open_split
from medvie_rl.errors import ConfigError, UserError
from rewards.schema import Schema, load_schema

_MAX_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """The documents of a run by split, with the schemas they follow. Images are read when asked for."""

    schemas: Mapping[str, Schema]
    template: PromptTemplate
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    splits: tuple[Split, ...]

    def find(self, document_id: str) -> tuple[Document, dict[str, bytes]] | None:
        """A document by its id, with its images; None where the run has none of that name."""
        for documents in (self.train, self.validation, self.test):
            for document in documents:
                if document.id == document_id:
                    return document, self.images(document)
        return None

    def images(self, document: Document) -> dict[str, bytes]:
        """The encoded images of a document's pages by their sha256."""
        for split in self.splits:
            if document.id in split:
                return split.images(document)
        raise KeyError(f"document '{document.id}' belongs to no split of this run")


def load_run_data(config: Config) -> RunData:
    """Read and check what a run needs; raises ConfigError listing every document that cannot be used, and why."""
    folder = config.data.path  # or a URI
    names = (config.data.train_split, config.data.validation_split, config.data.test_split)
    limits = (config.data.num_train, config.data.num_validation, config.data.num_test)
    try:
        schemas = load_schemas(Path(config.schemas))
        template = load_prompt_template(Path(config.prompt))
        if config.ocr.mode != "none":
            check_takes_ocr(config.prompt, template)
        check_key_weights(config.queries.key_weights, schemas)
        splits = [open_split(folder, name) for name in names]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    chosen = [tuple(split.documents[: limit or None]) for split, limit in zip(splits, limits, strict=True)]
    if not config.allow_downloads and not Path(config.model).is_dir():
        raise ConfigError(
            f"model: there is no folder {config.model}; name one, or set allow_downloads=true to fetch it by hub name"
        )
    for split, documents in zip(splits, chosen, strict=True):
        if not documents:
            raise ConfigError(f"{split.path}: this split has no documents; a run needs some in each of {names}")
    problems = [
        f"{split.path}: {problem}"
        for split, documents in zip(splits, chosen, strict=True)
        for problem in document_problems(split, documents, schemas)
    ]
    most = config.rollout.max_images_per_prompt
    problems += [
        f"document '{document.id}' has {len(document.image_keys)} pages, rollout.max_images_per_prompt allows {most}"
        for documents in chosen
        for document in documents
        if len(document.image_keys) > most
    ]
    problems += _shared_documents(dict(zip(names, chosen, strict=True)))
    if problems:
        more = f"\n  ... and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        raise ConfigError(f"{len(problems)} problems in the dataset {folder}:\n  {shown}{more}")
    return RunData(
        schemas=schemas,
        template=template,
        train=chosen[0],
        validation=chosen[1],
        test=chosen[2],
        splits=tuple(splits),
    )


def read_schema(path: Path) -> Schema:
    """The schema in a file; raises UserError for one that cannot be used."""
    try:
        return load_schema(path)
    except ValueError as error:
        raise UserError(str(error)) from error


def load_schemas(folder: Path) -> dict[str, Schema]:
    """All schema files of a folder by name; raises UserError naming the file that is wrong."""
    if not folder.is_dir():
        raise UserError(f"schemas: {folder} is no folder; the schemas shipped are in conf/schemas")
    schemas: dict[str, Schema] = {}
    for path in sorted(folder.glob("*.yaml")):
        schema = read_schema(path)
        if schema.name != path.stem:
            raise UserError(f"{path}: a schema's name must be that of its file, '{path.stem}', got '{schema.name}'")
        schemas[schema.name] = schema
    return schemas


def document_problems(split: Split, documents: Iterable[Document], schemas: Mapping[str, Schema]) -> list[str]:
    """What is wrong with documents: none of annotation, schema or image, or one that does not fit or is damaged."""
    problems = []
    for document in documents:
        if not document.annotated:
            problems.append(f"document '{document.id}' is not annotated; annotate it, or move it to the split 'pool'")
        schema = schemas.get(document.schema)
        if schema is None:
            problems.append(f"document '{document.id}': unknown schema '{document.schema}'; known: {sorted(schemas)}")
            continue
        problems += [f"document '{document.id}': {line}" for line in schema.validate_annotation(document.annotation)]
        try:
            for content in split.images(document).values():
                describe_image(content)
        except ValueError as error:
            problems.append(f"document '{document.id}': {error}")
    return problems


def _shared_documents(splits: Mapping[str, tuple[Document, ...]]) -> list[str]:
    """Images that stand in two splits would make held-out scores a lie."""
    owner: dict[str, tuple[str, str]] = {}
    problems = []
    for name, documents in splits.items():
        for document in documents:
            for key in document.image_keys:
                other = owner.setdefault(key, (name, document.id))
                if other[0] != name:
                    problems.append(
                        f"document '{document.id}' of split '{name}' shows the same image as '{other[1]}' of split "
                        f"'{other[0]}'; remove one of them"
                    )
    return problems
