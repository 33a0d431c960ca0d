"""What the service counts, in Prometheus' format. No label holds anything of a document."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Requests by route and status, seconds, batches, the queue, values that were answered and marked for review."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = self.registry
        self._requests = Counter("medvie_requests", "Requests", ["path", "status"], registry=made)
        self._seconds = Histogram(
            "medvie_extract_seconds", "Seconds from request to answer", buckets=_SECONDS, registry=made
        )
        self._batch_seconds = Histogram("medvie_batch_seconds", "Seconds of a batch", buckets=_SECONDS, registry=made)
        self._batch_sizes = Histogram("medvie_batch_documents", "Documents in a batch", buckets=_SIZES, registry=made)
        self._documents = Counter("medvie_documents", "Documents answered, by status", ["status"], registry=made)
        self._review = Counter("medvie_review_values", "Values marked for review", registry=made)
        self._queue = Gauge("medvie_waiting_documents", "Documents that wait for the engine", registry=made)

    def watch_queue(self, size: Callable[[], int]) -> None:
        """Ask for the queue's size whenever it is wanted."""
        self._queue.set_function(size)

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """One request is answered; `path` is a route's, not what a client made of it."""
        self._requests.labels(path, str(status)).inc()
        if path == "/extract":
            self._seconds.observe(seconds)

    def observe_batch(self, num_documents: int, seconds: float) -> None:
        """One batch is done."""
        self._batch_sizes.observe(num_documents)
        self._batch_seconds.observe(seconds)

    def observe_line(self, status: str, num_review: int) -> None:
        """One document is answered."""
        self._documents.labels(status).inc()
        self._review.inc(num_review)

    def text(self) -> bytes:
        """All of it, to be scraped."""
        return generate_latest(self.registry)
