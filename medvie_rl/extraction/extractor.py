"""A policy that is asked for the fields of documents, several times over, and what is known of every field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvie_rl.data.ocr import OcrLine
from medvie_rl.data.ocr_prompt import OcrPrompts
from medvie_rl.data.pages import Page
from medvie_rl.data.prompts import render_chat
from medvie_rl.data.queries import stable_hash
from medvie_rl.errors import UserError
from medvie_rl.extraction.calibration import Evidence
from medvie_rl.extraction.inputs import InputDocument
from medvie_rl.extraction.page_check import PageText
from medvie_rl.extraction.places import Place, values_of
from medvie_rl.extraction.probabilities import value_probabilities
from medvie_rl.extraction.recent_texts import RecentTexts
from medvie_rl.extraction.shrink import Sizes, shrunk
from medvie_rl.extraction.voting import vote
from medvie_rl.grammar import policy_grammar
from medvie_rl.policy_settings import PolicySettings, read_policy_settings
from rewards.parsing import JsonObject, ParsedResponse
from rewards.repair import parse_tolerant
from rewards.schema import Schema
from rollout.config import AnswerSampling
from rollout.prompts import num_prompt_tokens
from rollout.types import FinishReason, GenerationRequest, Rollout

if TYPE_CHECKING:
    from rollout.worker import RolloutWorker


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a policy is asked. What is None is as the policy was trained.

    With more than one trace the first is greedy, the others are sampled, by default at the temperature of training.
    """

    policy: Path
    prompt: Path | None = None
    reasoning: bool | None = None
    constrained: bool = True
    num_traces: int = 5
    page_check: bool = True  # look for the values in what OCR finds on the page
    fit: bool = True  # make pages smaller that would not fit into the engine's context
    settings: tuple[str, ...] = ()  # key=value of the engine, and of `sampling`


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a document gave. `answer` is None where it was not asked or could not be read, then `problem` says why.

    `evidence` is by place for every value of the answer, `left_out` by key for those without.
    """

    document: InputDocument
    status: str
    problem: str = ""
    response: str = ""
    answer: JsonObject | None = None
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was done to the pages
    evidence: Mapping[Place, Evidence] = field(default_factory=dict)
    left_out: Mapping[str, Evidence] = field(default_factory=dict)


class Extractor:
    """Holds the engine of a policy. Documents of one call are sampled as one batch.

    Raises UserError for a policy, prompt or setting that cannot be used; the engine starts when it is needed.
    """

    def __init__(self, asking: Asking) -> None:
        if asking.num_traces < 1:
            raise UserError(f"--traces: expected 1 or more, got {asking.num_traces}")
        of_policy = policy_settings(asking)
        self._template, self._config, self.reasoning = of_policy.template, of_policy.engine, of_policy.reasoning
        self._asking = asking
        self._sampled = self._config.sampling
        if self.votes and not self._sampled.temperature:
            self._sampled = AnswerSampling(temperature=self._config.temperature)
        self.max_pages = self._config.max_images_per_prompt

        from transformers import AutoProcessor

        self._processor = AutoProcessor.from_pretrained(asking.policy)
        self._texts = RecentTexts()
        cache = None if of_policy.ocr.mode == "none" else self._texts
        self._ocr = OcrPrompts(of_policy.ocr, self._processor.tokenizer, cache)
        self._grammar = lru_cache(maxsize=64)(self._new_grammar)

    @cached_property
    def _worker(self) -> "RolloutWorker":
        """The engine, which takes its time to start."""
        from rollout.worker import RolloutWorker

        return RolloutWorker(self._config, str(self._asking.policy))

    def start(self) -> None:
        """Start the engine now; else the first documents that can be asked start it."""
        _ = self._worker

    @property
    def votes(self) -> bool:
        """Whether several traces vote; a single one is no evidence of itself."""
        return self._asking.num_traces > 1

    @property
    def asked(self) -> dict[str, Any]:
        """How the policy is asked, as far as confidences depend on it."""
        return {
            "num_traces": self._asking.num_traces,
            "temperature": self._sampled.temperature,
            "reasoning": self.reasoning,
            "constrained": self._asking.constrained,
            "page_check": self._asking.page_check,
        }

    def note(self) -> str:
        """What of the pages' text did not fit into the prompts, empty if all did."""
        return self._ocr.note()

    def read_ahead(self, pages: Sequence[Page]) -> None:
        """Recognise the text of pages that will be extracted from, in another thread than that of `extract`."""
        if self._asking.page_check:
            self._lines(pages)

    def extract(self, documents: Sequence[InputDocument], schema: Schema, language: str = "") -> list[Extraction]:
        """What each document gave, in their order; `language` (ISO 639-1) picks the prompt's file.

        Raises UserError for a language without a prompt, and for a schema that is too large for a grammar.
        """
        try:
            prompts = [self.prompt(document, schema, language) for document in documents]
            grammar = self._grammar(schema) if self._asking.constrained else ""
        except ValueError as error:
            raise UserError(str(error)) from error
        asked = [self._fitted(document, prompt) for document, prompt in zip(documents, prompts, strict=True)]
        fitting = [
            (item, prompt) for item, prompt in zip(asked, prompts, strict=True) if isinstance(item, InputDocument)
        ]
        rollouts = iter(self._sample(fitting, grammar))
        return [
            item if isinstance(item, Extraction) else self._judge(document, item.pages, schema, next(rollouts))
            for document, item in zip(documents, asked, strict=True)
        ]

    # --- asking -------------------------------------------------------------------------------------------------------

    def prompt(self, document: InputDocument, schema: Schema, language: str = "") -> str:
        """The rendered prompt, as in training; raises ValueError for a language without a prompt."""
        lines = [line for page in document.pages for line in self._ocr.lines_of_image(page.key, page.content)]
        text = self._template.user_text(
            schema, schema.keys, reasoning=self.reasoning, ocr=tuple(lines), language=language
        )
        return render_chat(self._processor, text, num_images=len(document.pages))

    def _new_grammar(self, schema: Schema) -> str:
        return policy_grammar(
            self._processor.tokenizer,
            schema,
            schema.keys,
            reasoning=self.reasoning,
            max_response_tokens=self._config.max_response_tokens,
        )

    def _fitted(self, document: InputDocument, prompt: str) -> InputDocument | Extraction:
        """The document with pages of a size that fits, or why it cannot be asked."""
        if len(document.pages) > self.max_pages:
            problem = (
                f"it has {len(document.pages)} pages, the policy takes {self.max_pages} at once: give each page its "
                "own answer (--pages each), or raise --set max_images_per_prompt=N and max_model_len"
            )
            return Extraction(document=document, status="too_many_pages", problem=problem)

        def too_long(sizes: Sizes) -> str:
            of_engine = [(height, width) for width, height in sizes]
            return self._config.too_long(num_prompt_tokens(self._processor, prompt, of_engine))

        problem = too_long([page.size for page in document.pages])
        if not problem:
            return document
        pages = shrunk(document.pages, lambda sizes: not too_long(sizes)) if self._asking.fit else None
        if pages:
            return replace(document, pages=pages)
        problem += ". Raise it with --set max_model_len=N, or use a smaller image"
        return Extraction(document=document, status="too_long", problem=problem)

    def _sample(self, fitting: Sequence[tuple[InputDocument, str]], grammar: str) -> list[tuple[Rollout, ...]]:
        """All traces of each document with its prompt, which they share."""
        greedy_and_rest = [(self._config.sampling, 1)]
        if self.votes:
            greedy_and_rest = [(AnswerSampling(), 1), (self._sampled, self._asking.num_traces - 1)]
        requests = [
            GenerationRequest(
                query_id=document.id,
                prompt=prompt,
                image_keys=tuple(page.key for page in document.pages),
                num_traces=num_traces,
                seed=stable_hash("extract", self._config.seed, *(page.key for page in document.pages)),
                weight_version=0,
                answer=sampling,
                grammar=grammar,
            )
            for document, prompt in fitting
            for sampling, num_traces in greedy_and_rest
        ]
        if not requests:
            return []
        images = {page.key: page.content for document, _ in fitting for page in document.pages}
        try:
            groups = self._worker.generate(requests, images)
        finally:
            self._worker.forget_images()
        each = len(greedy_and_rest)
        return [
            tuple(rollout for group in groups[start : start + each] for rollout in group.rollouts)
            for start in range(0, len(groups), each)
        ]

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judge(
        self, document: InputDocument, seen: Sequence[Page], schema: Schema, rollouts: Sequence[Rollout]
    ) -> Extraction:
        """`seen` are the pages as the policy saw them; they are checked as they came."""
        parsed = [self._parse(rollout) for rollout in rollouts]
        votes = vote(schema, [reading.answer for reading in parsed])
        if votes is None:
            return Extraction(
                document=document, status=parsed[0].status.value, problem=parsed[0].detail, response=rollouts[0].text
            )
        chosen, rollout = parsed[votes.chosen], rollouts[votes.chosen]
        assert chosen.answer is not None  # it was chosen
        is_clean = not chosen.repairs
        probabilities = value_probabilities(self._processor.tokenizer, rollout) if is_clean else {}
        page = PageText(self._lines(document.pages)) if self._asking.page_check else None
        evidence = {
            value.place: Evidence(
                agreeing=votes.agreeing[value.place],
                probability=probabilities.get(value.place),
                on_page=page.has(value.spec, value.value) if page else None,
            )
            for value in values_of(schema, chosen.answer)
        }
        return Extraction(
            document=document,
            status=chosen.status.value if is_clean else "repaired",
            problem="" if is_clean else f"{chosen.status.value}: {chosen.detail}",
            response=rollout.text,
            answer=chosen.answer,
            repairs=chosen.repairs,
            notes=tuple(page.note for page in seen if page.note),
            evidence=evidence,
            left_out={key: Evidence(agreeing=share, left_out=True) for key, share in votes.leaving_out.items()},
        )

    def _parse(self, rollout: Rollout) -> ParsedResponse:
        truncated = rollout.finish_reason is FinishReason.LENGTH
        return parse_tolerant(rollout.text, reasoning=self.reasoning, truncated=truncated)

    def _lines(self, pages: Sequence[Page]) -> list[OcrLine]:
        return [
            line
            for page in pages
            for line in self._texts.lines_of_page(page.key, lambda page=page: page.content)  # type: ignore[misc]
        ]


def policy_settings(asking: Asking) -> PolicySettings:
    """What is asked with; raises UserError for what cannot be used."""
    return read_policy_settings(
        asking.policy, prompt=asking.prompt, reasoning=asking.reasoning, settings=asking.settings
    )
