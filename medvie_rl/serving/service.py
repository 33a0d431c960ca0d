"""What the service does with a request, whatever carries it: limits, schemas, pages, the engine, the line."""

import asyncio
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.inline_image import inline_image
from medvie_rl.data.pages import Page, UnreadableFileError, read_pages
from medvie_rl.errors import UserError
from medvie_rl.extraction.calibration import Calibration
from medvie_rl.extraction.extractor import Extractor
from medvie_rl.extraction.inputs import InputDocument, documents_of
from medvie_rl.extraction.lines import line
from medvie_rl.serving.batcher import Batcher, BusyError
from medvie_rl.serving.metrics import Metrics
from rewards.schema import Schema, schema_of

_MAX_SCHEMA_CHARACTERS = 100_000
_PREVIEW_SIDE = 1400  # pixels
_FAILURES_UNTIL_UNHEALTHY = 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost."""

    max_bytes: int = 32 * 2**20  # of the upload
    max_pages: int = 20  # of a file
    seconds: float = 60.0  # until the answer
    max_waiting: int = 256  # documents in the queue
    max_batch: int = 16  # documents that are sampled together
    dpi: int = 150  # at which PDF pages are drawn


class RequestError(Exception):
    """A request that cannot be served: an HTTP status and what to do about it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Service:
    """A policy that answers requests. The engine starts in the background; until then `is_ready` is false."""

    def __init__(
        self,
        extractor: Extractor,
        schemas: Mapping[str, Schema],
        limits: Limits,
        metrics: Metrics,
        calibration: Calibration | None = None,
    ) -> None:
        """The calibration is used where it holds for how the extractor asks."""
        self.schemas = dict(schemas)
        self.limits = limits
        self.metrics = metrics
        self._extractor = extractor
        self._calibration = calibration if calibration and calibration.holds_for(extractor.asked) else None
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="reader")
        self._batcher = Batcher(
            extractor,
            max_batch=limits.max_batch,
            max_waiting=limits.max_waiting,
            observe=metrics.observe_batch,
        )
        metrics.watch_queue(lambda: self._batcher.num_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether documents can be answered."""
        return self._batcher.is_ready

    def problem(self) -> str:
        """Why it has to be started anew, empty while it need not."""
        if self._batcher.failure is not None:
            return f"the engine ended: {self._batcher.failure}"
        if self._batcher.num_failures_in_a_row >= _FAILURES_UNTIL_UNHEALTHY:
            return f"the engine failed {self._batcher.num_failures_in_a_row} times in a row"
        return ""

    def close(self) -> None:
        """End the engine behind what it samples now."""
        self._batcher.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def schema(self, name: str, inline: str) -> Schema:
        """The schema that a request names, or brings along as JSON; raises RequestError."""
        if bool(name) == bool(inline):
            raise RequestError(422, "name one of the service's schemas as 'schema', or send one as 'inline_schema'")
        if name:
            if name not in self.schemas:
                raise RequestError(422, f"no schema {name[:80]!r}; there are {', '.join(sorted(self.schemas))}")
            return self.schemas[name]
        if len(inline) > _MAX_SCHEMA_CHARACTERS:
            raise RequestError(422, f"inline_schema: at most {_MAX_SCHEMA_CHARACTERS} characters, got {len(inline)}")
        try:
            return schema_of(json.loads(inline))
        except (ValueError, RecursionError) as error:
            raise RequestError(422, f"inline_schema: {error}") from error

    async def extract(
        self, content: bytes, name: str, schema: Schema, *, each_page: bool, language: str, with_pages: bool
    ) -> list[dict[str, Any]]:
        """A line for the document, or for each of its pages; `pages` are pictures of these as data URIs, if wanted.

        Raises RequestError for what cannot be read or asked, and where the time or the queue does not suffice.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.seconds):
                pages = await loop.run_in_executor(self._readers, self._read, content)
                documents = documents_of(Path(name).stem or "document", name, pages, each_page=each_page)
                found = [
                    self._batcher.submit(document, schema, language, seconds=self.limits.seconds)
                    for document in documents
                ]
                extractions = await asyncio.gather(*map(asyncio.wrap_future, found))
                made = [
                    line(item, schema, calibration=self._calibration, with_confidence=self._extractor.votes)
                    for item in extractions
                ]
                if with_pages:
                    for document, entry in zip(documents, made, strict=True):
                        entry["pages"] = await loop.run_in_executor(self._readers, _pictures, document)
                return made
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                raise  # the client has gone
            raise RequestError(
                504, f"no answer within {self.limits.seconds:g} s; the service is busy or the document large"
            ) from error
        except UnreadableFileError as error:
            raise RequestError(422, f"the file cannot be read: {error}") from error
        except BusyError as error:
            raise RequestError(503, f"{error}; try again later") from error
        except UserError as error:
            raise RequestError(422, str(error)) from error

    def _read(self, content: bytes) -> list[Page]:
        with tempfile.NamedTemporaryFile(prefix="medvie-") as file:  # gone when it is read
            file.write(content)
            file.flush()
            pages = read_pages(Path(file.name), dpi=self.limits.dpi, max_pages=self.limits.max_pages)
        self._extractor.read_ahead(pages)  # while the engine samples other documents
        return pages


def _pictures(document: InputDocument) -> list[str]:
    return [inline_image(page.content, side=_PREVIEW_SIDE).uri for page in document.pages]
