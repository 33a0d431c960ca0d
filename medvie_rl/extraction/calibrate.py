"""`medvie calibrate`: what a policy answers on annotated documents, judged, fitted, written and drawn."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from medvie_rl.data.load import document_problems, load_schemas
from medvie_rl.data.pages import Page
from medvie_rl.data.store import Document, Split, open_split
from medvie_rl.errors import UserError
from medvie_rl.extraction.calibration import FILE, Calibration, Judged, fit
from medvie_rl.extraction.extractor import Asking, Extraction, Extractor
from medvie_rl.extraction.figure import PICTURE, draw_calibration
from medvie_rl.extraction.inputs import InputDocument
from medvie_rl.extraction.run import BATCH
from medvie_rl.extraction.voting import agreeing_places
from medvie_rl.next_command import next_command
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import Schema
from rewards.values import is_left_out

_MAX_SHOWN = 5


def calibrate(
    asking: Asking,
    data: str,
    *,
    split: str,
    schemas: Path,
    limit: int,
    max_error: float,
    notice: Callable[[str], None],
    progress: Progress = UNSEEN,
) -> Calibration:
    """Write the policy's `calibration.json` and `calibration.png`; `notice` is told what they say.

    Raises UserError for documents that cannot be used, and where they do not suffice (see `calibration.fit`).
    """
    extractor = Extractor(asking)
    known = load_schemas(schemas)
    try:
        source = open_split(data, split)
    except ValueError as error:
        raise UserError(str(error)) from error
    documents = source.documents[: limit or None]
    if problems := document_problems(source, documents, known):
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        raise UserError(f"{source.path}: {len(problems)} problems, the first of them:\n  {shown}")
    judged: list[Judged] = []
    num_unanswered = 0
    progress.begin(len(documents))
    for name, same_schema in groupby(sorted(documents, key=_schema_of), key=_schema_of):
        for batch in progress.batches(list(same_schema), BATCH):
            answered = extractor.extract([_input(source, document) for document in batch], known[name])
            for document, extraction in zip(batch, answered, strict=True):
                judged += judge(document, extraction, known[name])
                num_unanswered += extraction.answer is None
    if num_unanswered:
        notice(f"{num_unanswered} of {len(documents)} documents got no answer and have no part in it")
    calibration = fit(judged, asked=extractor.asked, max_error=max_error)
    calibration.write(asking.policy / FILE)
    draw_calibration(calibration, asking.policy / PICTURE)
    for text in _summary(calibration, max_error):
        notice(text)
    notice(f"→ {asking.policy / FILE} and {PICTURE} beside it")
    schema = schemas / f"{documents[0].schema}.yaml"
    prompt = ("--prompt", asking.prompt) if asking.prompt else ()
    notice(
        next_command(
            "extract", "--policy", asking.policy, *prompt, "--schema", schema, "SCANS", "--out", "answers.jsonl"
        )
    )
    return calibration


def judge(document: Document, extraction: Extraction, schema: Schema) -> list[Judged]:
    """Every value of an answer, and every key that it leaves out, with what the annotation says of it."""
    if extraction.answer is None:
        return []
    right = agreeing_places(schema, extraction.answer, document.annotation)
    values = [Judged(document.id, evidence, place in right) for place, evidence in extraction.evidence.items()]
    return values + [
        Judged(document.id, evidence, is_left_out(document.annotation.get(key)))
        for key, evidence in extraction.left_out.items()
    ]


def _schema_of(document: Document) -> str:
    return document.schema


def _input(source: Split, document: Document) -> InputDocument:
    images = source.images(document)
    sizes = document.image_sizes
    pages = tuple(
        Page(content=images[key], key=key, size=size) for key, size in zip(document.image_keys, sizes, strict=True)
    )
    return InputDocument(id=document.id, image=document.id, pages=pages)


def _summary(calibration: Calibration, max_error: float) -> Sequence[str]:
    values, omissions = calibration.values, calibration.omissions
    taken = [share for share, wrong in values.coverage if wrong <= max_error]
    return (
        f"{values.num_values} values on {values.num_documents} documents, {values.num_right} of them right; expected "
        f"calibration error {values.expected_error:.3f}",
        f"{omissions.num_values} omissions, {omissions.num_right} of them right; expected calibration error "
        f"{omissions.expected_error:.3f}",
        f"with at most {max_error:.1%} wrong, {max(taken, default=0.0):.0%} of the values need no review: those with a "
        f"confidence of {calibration.review_below:.3f} or more",
        "(all on documents that had no part in the fit, by turns)",
    )
