"""Draws synthetic documents, each a pure function of kind, seed, index, language and noise, and datasets of them.

write_documents(Path("data/synth"), ["laboratory_report"], {"train": 500, "validation": 50}, seed=0)
"""

import multiprocessing
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medvie_rl.data.load import load_schemas
from medvie_rl.data.store import Document, describe_image, write_split
from medvie_rl.data.synth.blocks import Content
from medvie_rl.data.synth.kinds import KINDS, LANGUAGES
from medvie_rl.data.synth.layout import draw
from medvie_rl.data.synth.noise import choose_level, noisy_page
from medvie_rl.data.synth.preview import draw_sheet
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import Schema

_AHEAD = 8  # documents a process may be ahead of the writer; bounds the memory
_PER_KIND = 4  # documents of each kind on the contact sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnDocument:
    """A synthetic document: what it says, its encoded pages, and what was done to them (`noise`, a level)."""

    document_id: str
    content: Content
    pages: tuple[bytes, ...]  # PNG or JPEG
    noise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The arguments of one document."""

    kind: str
    seed: int | str
    index: int
    language: str
    noise: str


def draw_document(
    kind: str, *, seed: int | str, index: int, language: str = "en", noise: str = "mixed"
) -> DrawnDocument:
    """One document; the same arguments give the same bytes, in any process.

    `noise` is one of the levels of `noise.LEVELS`, or "mixed"; it changes neither what the document says nor how it
    is laid out. Raises UserError for an unknown kind, language or level.
    """
    return draw_content(
        _composer(kind, language), Job(kind=kind, seed=seed, index=index, language=language, noise=noise)
    )


def draw_content(compose: Callable[[random.Random, str], Content], job: Job) -> DrawnDocument:
    """The document that `compose` writes, drawn. Raises UserError for an unknown level of noise."""
    name = f"{job.kind} {job.language} {job.seed} {job.index}"
    # One generator each, so that what a document says does not depend on how it is drawn.
    content = compose(random.Random(f"medvie content {name}"), job.language)
    drawn = draw(content, random.Random(f"medvie layout {name}"))
    rng = random.Random(f"medvie noise {name} {job.noise}")
    try:
        level = choose_level(job.noise, rng)
    except ValueError as error:
        raise UserError(str(error)) from error
    return DrawnDocument(
        document_id=f"{job.kind}-{job.language}-{job.seed}-{job.index:05d}",
        content=content,
        pages=tuple(noisy_page(page.image, level, rng) for page in drawn),
        noise=level,
    )


def write_documents(
    out: Path,
    kinds: Sequence[str],
    nums: Mapping[str, int],
    *,
    seed: int,
    languages: Sequence[str] = ("en",),
    noise: str = "mixed",
    processes: int = 1,
    preview: Path | None = None,
    schemas: Path = Path("conf/schemas"),
    progress: Progress = UNSEEN,
) -> None:
    """Draw `nums[split]` documents a split into a new dataset, kinds and languages taking turns; splits share none.

    A kind is drawn in those of `languages` that it is written in. The order and the bytes do not depend on
    `processes`. Raises UserError for a folder that is not empty, an unknown kind, language or level of noise, and
    ValueError naming the document for an annotation that does not fit its schema.
    """
    check_new_folder(out)
    if processes < 1:
        raise UserError(f"processes: expected at least 1, got {processes}")
    if min(nums.values(), default=0) < 0:
        raise UserError(f"nums: expected 0 or more documents a split, got {dict(nums)}")
    known = load_schemas(schemas)
    turns = _turns(kinds, languages)
    try:
        choose_level(noise, random.Random(0))
    except ValueError as error:
        raise UserError(str(error)) from error
    shown = next((split for split, num in nums.items() if num), None)
    if preview is not None and (shown is None or preview.suffix.lower() != ".png"):
        raise UserError(f"preview: expected the name of a PNG file and at least one document, got {preview}")
    first: list[DrawnDocument] = []
    progress.begin(sum(nums.values()))
    for split, num in nums.items():
        jobs = _jobs(turns, split, num, seed, noise)
        drawn = _kept(_draw_all(jobs, processes), first if split == shown else None, len(turns) * _PER_KIND)
        write_split(out, split, (_entry(document, known, seed) for document in progress.each(drawn)))
    if preview is not None:
        draw_sheet([(document.document_id, document.pages) for document in first], preview)


def check_annotation(content: Content, schemas: Mapping[str, Schema], where: str) -> None:
    """Raise ValueError, naming the document, if a content's annotation does not fit its schema."""
    schema = schemas.get(content.schema)
    if schema is None:
        raise ValueError(f"{where}: unknown schema {content.schema!r}; there are {', '.join(sorted(schemas))}")
    problems = schema.validate_annotation(content.annotation)
    if problems:
        raise ValueError(f"{where}: the annotation does not fit schema {content.schema!r}: {'; '.join(problems)}")


def _composer(kind: str, language: str) -> Callable[[random.Random, str], Content]:
    if kind not in KINDS:
        raise UserError(f"no kind of document {kind!r}; there are {', '.join(KINDS)}")
    if language not in LANGUAGES[kind]:
        raise UserError(f"kind {kind!r} is not written in {language!r}; it is in {', '.join(LANGUAGES[kind])}")
    return KINDS[kind]


def _turns(kinds: Sequence[str], languages: Sequence[str]) -> list[tuple[str, str]]:
    """Every kind in every language that it knows of those asked for, the kinds taking turns."""
    if not kinds:
        raise UserError(f"kinds: name at least one; there are {', '.join(KINDS)}")
    turns: list[tuple[str, str]] = []
    for language in languages:
        turns += [(kind, language) for kind in kinds if kind in KINDS and language in LANGUAGES[kind]]
    for kind in kinds:
        if all(kind != name for name, _ in turns):
            _composer(kind, next(iter(languages), ""))
    for language in languages:
        if all(language != name for _, name in turns):
            raise UserError(f"languages: none of the kinds {', '.join(kinds)} is written in {language!r}")
    return turns


def _jobs(turns: Sequence[tuple[str, str]], split: str, num: int, seed: int, noise: str) -> Iterator[Job]:
    for number in range(num):
        index, turn = divmod(number, len(turns))
        kind, language = turns[turn]
        yield Job(kind=kind, seed=f"{split}-{seed}", index=index, language=language, noise=noise)


def _draw_all(jobs: Iterator[Job], processes: int) -> Iterator[DrawnDocument]:
    """Draw jobs in order; with several processes, in a pool that is never far ahead of the reader."""
    if processes == 1:
        yield from map(_draw_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_use_one_core) as pool:
        waiting: deque[Future[DrawnDocument]] = deque(
            pool.submit(_draw_job, job) for job in islice(jobs, processes * _AHEAD)
        )
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_draw_job, job) for job in islice(jobs, 1))
        finally:
            for future in waiting:
                future.cancel()


def _draw_job(job: Job) -> DrawnDocument:
    return draw_document(job.kind, seed=job.seed, index=job.index, language=job.language, noise=job.noise)


def _use_one_core() -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes already use all cores


def _kept(documents: Iterator[DrawnDocument], kept: list[DrawnDocument] | None, most: int) -> Iterator[DrawnDocument]:
    """The documents, of which the first `most` are also put into `kept`."""
    for document in documents:
        if kept is not None and len(kept) < most:
            kept.append(document)
        yield document


def _entry(drawn: DrawnDocument, schemas: Mapping[str, Schema], seed: int) -> tuple[Document, list[bytes]]:
    content = drawn.content
    check_annotation(content, schemas, f"document '{drawn.document_id}'")
    described = [describe_image(page) for page in drawn.pages]
    document = Document(
        id=drawn.document_id,
        document_type=content.document_type,
        schema=content.schema,
        annotation=dict(content.annotation),
        image_keys=tuple(key for key, _ in described),
        image_sizes=tuple(size for _, size in described),
        specialty=content.specialty,
        language=content.language,
        provenance=f"medvie data synth, seed {seed}, noise {drawn.noise}",
        license="Apache-2.0",
        synthetic=True,
    )
    return document, list(drawn.pages)
