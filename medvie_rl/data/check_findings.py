"""What a check of a dataset finds: a severity, where, and what to do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

KINDS: Mapping[str, tuple[Severity, str]] = {
    "duplicate_id": ("error", "document ids that two splits share"),
    "unknown_schema": ("error", "documents of a schema that is not there"),
    "unknown_key": ("error", "annotated keys that the schema does not have"),
    "misfit": ("error", "annotated values of another shape than the schema's"),
    "unparsable_value": ("error", "annotated values that do not parse as their kind"),
    "unreadable_image": ("error", "pages that cannot be read"),
    "wrong_size": ("error", "pages of another size than the dataset says"),
    "too_large": ("error", "pages of too many pixels"),
    "leakage": ("error", "the same page in two splits"),
    "prompt_too_long": ("error", "prompts longer than the policy's context"),
    "not_annotated": ("warning", "documents of a split to train or score on that have no annotation"),
    "duplicate_image": ("warning", "the same page twice"),
    "extreme_image": ("warning", "very small or very elongated pages"),
    "blank_page": ("warning", "pages that are almost blank"),
    "never_annotated": ("warning", "keys that no document has"),
    "rare_key": ("note", "keys that hardly any document has"),
    "same_annotation": ("note", "whole annotations that occur twice, of other pages"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to look at. `split`, `document_id` and `key` are empty where it concerns no single one."""

    severity: Severity
    kind: str
    message: str
    split: str = ""
    document_id: str = ""
    key: str = ""  # of the annotation, with row and column inside a table, e.g. results[2].value

    @property
    def place(self) -> str:
        """Split, document and key in one text."""
        return " ".join(part for part in (self.split, self.document_id, self.key) if part)

    def to_json(self) -> dict[str, str]:
        """All its entries."""
        return asdict(self)


def finding(kind: str, message: str, *, split: str = "", document_id: str = "", key: str = "") -> Finding:
    """A finding with the severity of its kind."""
    return Finding(severity=KINDS[kind][0], kind=kind, message=message, split=split, document_id=document_id, key=key)


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then by kind in the order of `KINDS`; the order of the dataset is kept inside a kind."""
    order = list(KINDS)
    return sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), order.index(item.kind)))


def count_by_kind(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each kind that occurs, in the order of `KINDS`."""
    counts = Counter(item.kind for item in findings)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}
