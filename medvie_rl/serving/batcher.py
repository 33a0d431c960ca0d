"""One engine for many clients: what waits is sampled together, a batch at a time."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from medvie_rl.errors import UserError
from medvie_rl.extraction.extractor import Extraction, Extractor
from medvie_rl.extraction.inputs import InputDocument
from rewards.schema import Schema


class BusyError(RuntimeError):
    """More documents wait than may."""


@dataclass(slots=True)
class _Waiting:
    document: InputDocument
    schema: Schema
    language: str
    until: float  # of the monotonic clock
    future: "Future[Extraction]" = field(default_factory=Future)


class Batcher:
    """A thread that has the extractor to itself. Documents of one schema and language that wait are one batch."""

    def __init__(
        self,
        extractor: Extractor,
        *,
        max_batch: int,
        max_waiting: int,
        observe: Callable[[int, float], None] = lambda num, seconds: None,
    ) -> None:
        """`observe` is told the size of every batch, and the seconds that it took."""
        self._extractor = extractor
        self._max_batch = max_batch
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(maxsize=max_waiting)
        self._kept: _Waiting | None = None  # taken out of the queue, of another schema than the batch before it
        self._observe = observe
        self._ready = threading.Event()
        self._ends = False
        self.num_failures_in_a_row = 0  # of documents that the engine could not be asked about
        self.failure: BaseException | None = None  # what ended the thread
        self._thread = threading.Thread(target=self._run, name="extractor", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the engine is there and answers."""
        return self._ready.is_set() and self._thread.is_alive()

    @property
    def num_waiting(self) -> int:
        """How many documents wait for their batch."""
        return self._queue.qsize()

    def submit(self, document: InputDocument, schema: Schema, language: str, *, seconds: float) -> "Future[Extraction]":
        """What the document will give. It is given up if its turn has not come in that time; raises BusyError where too
        many wait already."""
        waiting = _Waiting(document, schema, language, time.monotonic() + seconds)
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise BusyError(f"{self._queue.maxsize} documents wait already") from None
        return waiting.future

    def close(self) -> None:
        """End the thread behind the batch that is being sampled."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._extractor.start()
            self._ready.set()
            while batch := self._next_batch():
                self._extract(batch)
        except BaseException as error:
            self.failure = error
        finally:
            self._ready.clear()
            self._refuse_rest()

    def _next_batch(self) -> list[_Waiting]:
        """Waits for documents; none at the end."""
        batch: list[_Waiting] = []
        while len(batch) < self._max_batch:
            item = self._take(block=not batch)
            if item is None:
                break
            if batch and (item.schema, item.language) != (batch[0].schema, batch[0].language):
                self._kept = item
                break
            batch.append(item)
        return batch

    def _take(self, *, block: bool) -> _Waiting | None:
        """The next document whose time has not run out; None where there is none, or no more will come."""
        if self._kept:
            item, self._kept = self._kept, None
            return item
        while not self._ends:
            try:
                found = self._queue.get(block=block)
            except queue.Empty:
                return None
            if found is None:
                self._ends = True
            elif found.until < time.monotonic():
                found.future.cancel()
            elif found.future.set_running_or_notify_cancel():
                return found
        return None

    def _extract(self, batch: Sequence[_Waiting]) -> None:
        started = time.monotonic()
        try:
            found = self._extractor.extract([item.document for item in batch], batch[0].schema, batch[0].language)
        except Exception as error:
            if len(batch) > 1:  # one document must not cost the others their answers
                for item in batch:
                    self._extract([item])
                return
            self.num_failures_in_a_row += not isinstance(error, UserError)
            batch[0].future.set_exception(error)
        else:
            self.num_failures_in_a_row = 0
            for item, extraction in zip(batch, found, strict=True):
                item.future.set_result(extraction)
        self._observe(len(batch), time.monotonic() - started)

    def _refuse_rest(self) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if item is not None and item.future.set_running_or_notify_cancel():
                item.future.set_exception(RuntimeError("the service ends"))
