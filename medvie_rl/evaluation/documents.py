"""The documents that systems are evaluated on, checked before anything starts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvie_rl.data.load import document_problems
from medvie_rl.data.store import Document, Split, list_splits, open_split
from medvie_rl.errors import UserError
from medvie_rl.scoring.inputs import load_schemas
from rewards.breakdown import KeyFrequencies
from rewards.schema import Schema

_MAX_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Annotated documents of one split. `frequencies` say how rare a key is in training, None without that split."""

    dataset: str
    split: Split
    split_name: str
    documents: tuple[Document, ...]
    schemas: Mapping[str, Schema]
    frequencies: KeyFrequencies | None

    def images(self, document: Document) -> dict[str, bytes]:
        """The encoded images of a document's pages by their sha256."""
        return self.split.images(document)

    def schema(self, document: Document) -> Schema:
        """The schema that a document's annotation follows."""
        return self.schemas[document.schema]

    def digests(self) -> dict[str, str]:
        """What predictions for these documents depend on: pages, and what is asked of them. Not the annotations."""
        asked = [[document.id, document.schema, document.language, *document.image_keys] for document in self.documents]
        used = sorted({document.schema for document in self.documents})
        return {"documents": digest(asked)} | {f"schema {name}": digest(repr(self.schemas[name])) for name in used}

    def annotations(self) -> str:
        """The annotations as `medvie score` reads them; a document's type is there the name of its schema."""
        lines = [
            {"id": document.id, "document_type": document.schema, "fields": document.annotation}
            for document in self.documents
        ]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def open_documents(
    dataset: str, split_name: str, schema_paths: Sequence[Path], *, limit: int | None, train_split: str = "train"
) -> EvaluationSet:
    """The first `limit` documents of a split, or all; raises UserError listing every one that cannot be used."""
    schemas = {schema.name: schema for schema in load_schemas(schema_paths)}
    try:
        split = open_split(dataset, split_name)
        training: Sequence[Document] = ()
        if split_name != train_split and train_split in list_splits(dataset):
            training = open_split(dataset, train_split).documents
    except ValueError as error:
        raise UserError(str(error)) from error
    documents = tuple(split.documents[:limit])
    if not documents:
        raise UserError(f"{split.path}: this split has no documents; name another one with --split")
    problems = document_problems(split, documents, schemas)
    if problems:
        more = f"\n  ... and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        raise UserError(f"{split.path}: {len(problems)} problems; schemas are named with --schema:\n  {shown}{more}")
    known = [(each.schema, each.annotation) for each in training if each.annotated and each.schema in schemas]
    return EvaluationSet(
        dataset=dataset,
        split=split,
        split_name=split_name,
        documents=documents,
        schemas=schemas,
        frequencies=KeyFrequencies.of(known) if known else None,
    )


def digest(value: object) -> str:
    """sha256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
