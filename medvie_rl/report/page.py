"""Writes a run's report as one HTML file that needs no network and runs no script.

Whatever a document, an answer or a name says is text: the templates escape it, and the page's own policy lets a browser
load nothing and run nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.inline_image import InlineImage
from medvie_rl.errors import UserError
from medvie_rl.files import write_atomically
from medvie_rl.progress import UNSEEN, Progress
from medvie_rl.report.charts import HEIGHT, WIDTH, chart, whiskers
from medvie_rl.report.curves import confidence_curves, curves_of, points_of
from medvie_rl.report.data import RunData, gather
from medvie_rl.report.gallery import MAX_PAGES, REASONS, Pages, ShownDocument, choose, show
from medvie_rl.report.tables import gain_rows, group_tables, score_rows
from medvie_rl.report.templating import render

MAX_BYTES = 10_000_000  # of the file, so that it can be sent by mail
_SHARE_OF_TEXT = 0.5  # of the file at most; the rest is for pages
_BYTES_AROUND_PAGE = 1_000  # tags, and the document's id in them


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a report; `notices` are what a reader of it should know was left out, and why."""

    num_bytes: int
    num_documents: int
    notices: tuple[str, ...]
    data: RunData


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """The pages of a document in the file, and what is wrong with them."""

    pages: tuple[InlineImage, ...] = ()
    problem: str = ""


def write_report(
    folder: Path,
    out: Path,
    *,
    schemas: Sequence[Path] = (),
    num_documents: int,
    with_images: bool = True,
    with_values: bool = True,
    progress: Progress = UNSEEN,
) -> Written:
    """Write the report of a run to `out`, of at most `MAX_BYTES`.

    Without `with_values` it holds numbers and names of keys and document types only: no documents, no responses.
    Raises UserError naming the file where the run cannot be read (see `gather`) or the report not be written.
    """
    data = gather(folder, schemas, with_values=with_values, progress=progress)
    compared = data.compared
    notices = list(compared.scores.notices) if compared else []
    documents: list[ShownDocument] = []
    pages = None
    if compared and with_values and num_documents:
        pages = Pages(data.config, compared.of)
        before, after = compared.comparison.other.scores, compared.scores.system.scores
        documents = show(compared, pages, choose(before, after, num_documents, data.config.seed))
        if pages.problem and with_images:
            notices.append(f"no page images: {pages.problem}")
    context = _context(data, with_images=with_images, with_values=with_values)
    documents, told = _with_room(context, documents, notices)
    notices += told
    content = _render(context, documents, {}, notices)
    if pages and with_images:
        pictures = _pictures(documents, pages, MAX_BYTES - len(content))
        content = _render(context, documents, pictures, notices)
    _write(out, content)
    return Written(num_bytes=len(content), num_documents=len(documents), notices=tuple(notices), data=data)


def _with_room(
    context: Mapping[str, Any], documents: Sequence[ShownDocument], notices: Sequence[str]
) -> tuple[list[ShownDocument], list[str]]:
    """The first documents whose text leaves room for pages, and what to say where that is not all of them."""
    for num in (len(documents) >> times for times in range(len(documents).bit_length())):
        told = f"only {num} documents are shown: with more the file would be larger than {_megabytes()}"
        new = [told] if num < len(documents) else []
        if len(_render(context, documents[:num], {}, [*notices, *new])) <= _SHARE_OF_TEXT * MAX_BYTES:
            return list(documents[:num]), new
    return [], [f"no documents are shown: the file would be larger than {_megabytes()}"] if documents else []


def _pictures(documents: Sequence[ShownDocument], pages: Pages, room: int) -> dict[str, _Pictures]:
    """The pages of all documents, which share the room that the text leaves."""
    num = sum(min(document.num_pages, MAX_PAGES) for document in documents)
    found = {}
    for document in documents:
        images, problem = pages.inline(document.id, room // max(num, 1) - _BYTES_AROUND_PAGE)
        found[document.id] = _Pictures(pages=tuple(images), problem=problem)
    return found


def _context(data: RunData, **options: Any) -> dict[str, Any]:
    """Everything in the templates but documents and notices, which depend on the room."""
    curves, constants = curves_of(data.metrics, data.validation_errors)
    compared = data.compared
    context: dict[str, Any] = {
        "data": data,
        "config": data.config,
        "compared": compared,
        "charts": [chart(curve, first=data.metrics[0]["step"], last=data.step) for curve in curves],
        "constants": constants,
        "confidence": [
            chart(curve, first=0, last=100)
            for curve in (confidence_curves(data.calibration) if data.calibration else ())
        ],
        "seconds": sum(seconds for _, seconds in points_of(data.metrics, "time/step")),
        "limit": _megabytes(),
        "chart_size": (WIDTH, HEIGHT),
        "max_pages": MAX_PAGES,
        "reasons": REASONS,
        **options,
    }
    if compared:
        difference = compared.comparison.difference
        changes = [
            (difference.delta_f1, difference.delta_f1_ci95),
            (difference.delta_precision, difference.delta_precision_ci95),
            (difference.delta_recall, difference.delta_recall_ci95),
        ]
        context |= {
            "scores": score_rows(compared),
            "gain_rows": gain_rows(compared.comparison.gain),
            "tables": group_tables(compared),
            "whiskers": whiskers(changes),
        }
    return context


def _render(
    context: Mapping[str, Any],
    documents: Sequence[ShownDocument],
    pictures: Mapping[str, _Pictures],
    notices: Sequence[str],
) -> bytes:
    return render(
        "page.html", context, documents=documents, pictures=pictures, no_pictures=_Pictures(), notices=notices
    )


def _write(out: Path, content: bytes) -> None:
    try:
        write_atomically(out, content)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error


def _megabytes() -> str:
    return f"{MAX_BYTES / 1e6:.0f} MB"
