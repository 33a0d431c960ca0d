"""`medvie data check`: everything that would spoil training or scores, found before either starts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.check_annotations import AnnotationCheck, Balance, KeyUse
from medvie_rl.data.check_findings import SEVERITIES, Finding, count_by_kind, finding, sorted_findings
from medvie_rl.data.check_pages import PageCheck
from medvie_rl.data.load import load_schemas
from medvie_rl.data.prompt_lengths import document_prompt_tokens
from medvie_rl.data.prompts import PromptTemplate, load_prompt_template
from medvie_rl.data.sampling import longest_descriptions
from medvie_rl.data.store import Document, Split, list_splits, open_split
from medvie_rl.errors import UserError
from medvie_rl.policy_card import PROMPT, read_policy_card
from medvie_rl.progress import UNSEEN, Progress, show_progress
from rewards.schema import Schema
from rollout.config import RolloutConfig

REPORT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimit:
    """What a prompt may be: of which policy, by which template, at most how many tokens, images included."""

    policy: Path
    template: PromptTemplate
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found, the worst first, and how the dataset is made up."""

    folder: str
    num_pages: int
    findings: list[Finding]
    balance: Balance
    uses: Mapping[str, KeyUse]
    schemas: Mapping[str, Schema]
    max_tokens: int | None = None  # of the longest prompt, where prompts were counted

    @property
    def num_errors(self) -> int:
        """Findings that must be dealt with before the dataset is used."""
        return sum(item.severity == "error" for item in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs; the same dataset gives the same text."""
        return {
            "version": REPORT_VERSION,
            "dataset": self.folder,
            "num_documents": self.balance.num_documents,
            "num_annotated": self.balance.num_annotated,
            "num_synthetic": self.balance.num_synthetic,
            "num_pages": self.num_pages,
            "longest_prompt_tokens": self.max_tokens,
            "severities": {name: sum(item.severity == name for item in self.findings) for name in SEVERITIES},
            "kinds": count_by_kind(self.findings),
            "findings": [item.to_json() for item in self.findings],
            "documents": {name: dict(sorted(counts.items())) for name, counts in self.balance.by.items()},
            "schemas": {name: _use_to_json(use, self.schemas[name]) for name, use in sorted(self.uses.items())},
        }


def check_dataset(
    folder: Path | str,
    schemas: Mapping[str, Schema],
    *,
    limit: PromptLimit | None = None,
    progress: Progress = UNSEEN,
) -> CheckReport:
    """Check all splits of a dataset; with a `limit`, also the lengths of prompts that ask for every key.

    Raises UserError if there is no dataset, or a split that cannot be opened.
    """
    splits = _open_splits(folder)
    balance, annotations, pages = Balance(), AnnotationCheck(schemas), PageCheck()
    progress.begin(sum(map(len, splits.values())))
    for name, split in splits.items():
        for document in split:
            balance.read(name, document)
            annotations.read(name, document)
        pages.read(name, split, progress)
    findings = [*annotations.findings, *annotations.of_dataset(), *pages.findings, *pages.same_pages()]
    max_tokens = None
    if limit is not None:
        documents = ((name, document) for name, split in splits.items() for document in split)
        max_tokens, too_long = _check_prompts(documents, schemas, limit)
        findings += too_long
    return CheckReport(
        folder=str(folder),
        num_pages=pages.num_pages,
        findings=sorted_findings(findings),
        balance=balance,
        uses=annotations.uses,
        schemas=schemas,
        max_tokens=max_tokens,
    )


def check_command(
    folder: str,
    *,
    schemas: Path,
    policy: Path | None,
    prompt: Path | None,
    max_tokens: int | None,
    json_path: Path | None,
) -> int:
    """Check a dataset and print the report; returns the exit code, 3 where there are errors in it."""
    from rich.console import Console

    from medvie_rl.data.check_report import print_report

    limit = prompt_limit(policy, prompt, max_tokens)
    known = load_schemas(schemas)
    with show_progress("checking") as progress:
        report = check_dataset(folder, known, limit=limit, progress=progress)
    print_report(report, Console(highlight=False))
    if json_path is not None:
        try:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--json: cannot write {json_path} ({error.strerror})") from error
        print(f"report: {json_path}")
    return 3 if report.num_errors else 0


def prompt_limit(policy: Path | None, prompt: Path | None, max_tokens: int | None) -> PromptLimit | None:
    """What prompts are measured against; a trained policy brings template and limit along. None without a policy.

    Raises UserError for options that are missing or do not go together.
    """
    if policy is None:
        if prompt is not None or max_tokens is not None:
            raise UserError("--prompt and --max-tokens need --policy: tokens are counted as that policy counts them")
        return None
    if not policy.is_dir():
        raise UserError(f"--policy: there is no folder {policy}")
    if max_tokens is not None and max_tokens < 1:
        raise UserError(f"--max-tokens: expected 1 or more, got {max_tokens}")
    card = read_policy_card(policy)
    if card is None and (prompt is None or max_tokens is None):
        raise UserError(
            f"--policy: {policy} was not trained by medvie, so that it says neither prompt template nor context; add "
            "--prompt, e.g. conf/prompts/nano.yaml, and --max-tokens, which is rollout.max_model_len minus "
            "rollout.max_response_tokens"
        )
    if max_tokens is None:
        trained_with = asdict(RolloutConfig()) | (card.rollout if card else {})
        max_tokens = int(trained_with["max_model_len"]) - int(trained_with["max_response_tokens"])
    try:
        template = load_prompt_template(prompt or policy / PROMPT)
    except ValueError as error:
        raise UserError(str(error)) from error
    return PromptLimit(policy=policy, template=template, max_tokens=max_tokens)


def _open_splits(folder: Path | str) -> dict[str, Split]:
    try:
        names = list_splits(folder)
        if not names:
            raise UserError(
                f"{folder}: there is no dataset, expected a folder with files such as train.parquet; make one with "
                "`medvie data import`"
            )
        return {name: open_split(folder, name) for name in names}
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def _check_prompts(
    documents: Iterator[tuple[str, Document]], schemas: Mapping[str, Schema], limit: PromptLimit
) -> tuple[int, list[Finding]]:
    """Tokens of the longest prompt, and the documents whose prompt is longer than allowed."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(limit.policy)
    longest, findings = 0, []
    known: dict[tuple[object, ...], int] = {}  # most documents of a dataset ask the same about pages of the same size
    for split, document in documents:
        schema = schemas.get(document.schema)
        if schema is None:
            continue  # a finding already
        alike = (document.schema, document.language, document.image_sizes)
        if alike not in known:
            text = limit.template.user_text(
                schema,
                schema.keys,
                reasoning=True,
                descriptions=longest_descriptions(schema),
                language=document.language,
            )
            known[alike] = document_prompt_tokens(processor, document, text)
        longest = max(longest, known[alike])
        if known[alike] > limit.max_tokens:
            sizes = ", ".join(f"{width} x {height}" for width, height in document.image_sizes)
            message = (
                f"the prompt for all {len(schema.keys)} keys has {known[alike]} tokens with its pages of {sizes} "
                f"pixels, {limit.max_tokens} are allowed; prompts are never cut: raise max_model_len, lower max_pixels "
                "in the policy's preprocessor configuration, or remove the document"
            )
            findings.append(finding("prompt_too_long", message, split=split, document_id=document.id))
    return longest, findings


def _use_to_json(use: KeyUse, schema: Schema) -> dict[str, Any]:
    return {
        "num_documents": use.num_documents,
        "absent_share": use.absent_share(schema),
        "keys": {
            name: use.documents[name]
            for spec in schema.fields
            for name in (spec.key, *(f"{spec.key}.{column.key}" for column in spec.columns))
        },
        "choices": {key: dict(counts) for key, counts in use.choices.items()},
    }
