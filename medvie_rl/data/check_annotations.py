"""The annotations of a dataset: do they fit their schema, which keys are used how often, what is missing."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvie_rl.data.check_findings import Finding, finding
from medvie_rl.data.store import POOL, Document
from medvie_rl.errors import did_you_mean
from rewards.schema import FieldSpec, Schema
from rewards.values import fold_text, is_left_out

MIN_DOCUMENTS = 5  # a key of fewer is rare: too few to learn or to measure it
_NO_PARSE = ("does not read as", "can be read two ways", "is no number")  # in lines of `Schema.validate_annotation`


@dataclass(slots=True)
class KeyUse:
    """How many annotated documents of a schema have each key and column, and which choices their enums take."""

    num_documents: int = 0  # annotated
    documents: Counter[str] = field(default_factory=Counter)  # by key, `table.column` for columns
    choices: dict[str, Counter[str]] = field(default_factory=dict)  # by key, in the words of the schema

    def absent_share(self, schema: Schema) -> float:
        """Share of (document, key) pairs in which the document does not have the key."""
        present = sum(self.documents[key] for key in schema.keys)
        return 1.0 - present / (self.num_documents * len(schema.keys)) if self.num_documents else 0.0


@dataclass(slots=True)
class AnnotationCheck:
    """Goes through the documents of all splits, then says what holds for the dataset as a whole."""

    schemas: Mapping[str, Schema]
    findings: list[Finding] = field(default_factory=list)
    uses: dict[str, KeyUse] = field(default_factory=dict)  # by schema, those that occur
    _split_of: dict[str, str] = field(default_factory=dict)
    _with_annotation: dict[str, tuple[str, Document]] = field(default_factory=dict)

    def read(self, split: str, document: Document) -> None:
        """Check one document, and count what it has."""
        other = self._split_of.setdefault(document.id, split)
        if other != split:
            self._report("duplicate_id", split, document, f"split '{other}' has a document of this id; rename one")
        schema = self.schemas.get(document.schema)
        if schema is None:
            hint = did_you_mean(document.schema, self.schemas)
            message = f"no schema '{document.schema}' among the {len(self.schemas)} of the folder of schemas{hint}"
            self._report("unknown_schema", split, document, message)
            return
        use = self.uses.setdefault(document.schema, KeyUse())
        if not document.annotated:
            if split != POOL:
                message = f"no annotation in split '{split}'; annotate it, or move it to split '{POOL}'"
                self._report("not_annotated", split, document, message)
            return
        use.num_documents += 1
        for key, value in document.annotation.items():
            self._check_value(split, document, schema, key, value)
            if key in schema.keys:
                _count(use, schema.field(key), value)
        self._compare(split, document)

    def of_dataset(self) -> Iterator[Finding]:
        """Keys that no document has, and keys that few have."""
        for name, use in sorted(self.uses.items()):
            if not use.num_documents:
                continue
            of = f"of the {use.num_documents} annotated documents of schema '{name}'"
            for key in _countable(self.schemas[name]):
                num = use.documents[key]
                if num == 0:
                    message = f"none {of} has it; annotate it, or take it out of the schema"
                    yield finding("never_annotated", message, key=f"{name}.{key}")
                elif num < MIN_DOCUMENTS:
                    yield finding("rare_key", f"only {num} {of} have it", key=f"{name}.{key}")

    def _check_value(self, split: str, document: Document, schema: Schema, key: str, value: Any) -> None:
        for problem in schema.validate_annotation({key: value}):
            where, _, message = problem.partition(": ") if problem.startswith(key) else (key, "", problem)
            if key not in schema.keys:
                kind = "unknown_key"
            else:
                kind = "unparsable_value" if any(sign in message for sign in _NO_PARSE) else "misfit"
            self._report(kind, split, document, message, key=where)

    def _compare(self, split: str, document: Document) -> None:
        said = {key: value for key, value in document.annotation.items() if not is_left_out(value)}
        if not said:
            return
        text = json.dumps([document.schema, said], sort_keys=True, ensure_ascii=False)
        other_split, other = self._with_annotation.setdefault(text, (split, document))
        if other is not document and other.image_keys != document.image_keys:
            message = f"the whole annotation is that of document '{other.id}' in split '{other_split}'; is it right?"
            self._report("same_annotation", split, document, message)

    def _report(self, kind: str, split: str, document: Document, message: str, key: str = "") -> None:
        self.findings.append(finding(kind, message, split=split, document_id=document.id, key=key))


@dataclass(slots=True)
class Balance:
    """Documents by what they are."""

    num_documents: int = 0
    num_annotated: int = 0
    num_synthetic: int = 0
    by: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("split", "document_type", "specialty", "language")}
    )

    def read(self, split: str, document: Document) -> None:
        """Count one document."""
        self.num_documents += 1
        self.num_annotated += document.annotated
        self.num_synthetic += document.synthetic
        self.by["split"][split] += 1
        for name in ("document_type", "specialty", "language"):
            self.by[name][getattr(document, name)] += 1


def _count(use: KeyUse, spec: FieldSpec, value: Any) -> None:
    if is_left_out(value):
        return
    use.documents[spec.key] += 1
    if not spec.columns:
        _count_choices(use, spec, spec.key, value)
        return
    rows = [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []
    for column in spec.columns:
        name = f"{spec.key}.{column.key}"
        cells = [row[column.key] for row in rows if not is_left_out(row.get(column.key))]
        use.documents[name] += bool(cells)
        for cell in cells:
            _count_choices(use, column, name, cell)


def _count_choices(use: KeyUse, spec: FieldSpec, name: str, value: Any) -> None:
    """Count under the schema's spelling; what is no choice is a finding, not counted."""
    if spec.kind != "enum":
        return
    counts = use.choices.setdefault(name, Counter(dict.fromkeys(spec.choices, 0)))
    spellings = {fold_text(choice, keep_case=spec.case_sensitive): choice for choice in spec.choices}
    for item in value if isinstance(value, list | tuple) else [value]:
        choice = spellings.get(fold_text(item, keep_case=spec.case_sensitive)) if isinstance(item, str) else None
        if choice is not None:
            counts[choice] += 1


def _countable(schema: Schema) -> Sequence[str]:
    """All keys, each table followed by its columns as `table.column`."""
    names = []
    for spec in schema.fields:
        names.append(spec.key)
        names += [f"{spec.key}.{column.key}" for column in spec.columns]
    return names
