"""What the server has done, for Prometheus: a registry of its own, so that two servers in one process count apart."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and histograms of one server; their names are documented in docs/serve.md."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._requests = Counter(
            "bebert_requests", "Requests answered, by path and status.", ["path", "status"], registry=own
        )
        self._seconds = Histogram(
            "bebert_request_seconds", "From a request's head to its answer.", ["path"], buckets=SECONDS, registry=own
        )
        self._texts = Histogram("bebert_batch_texts", "Texts in one call of the engine.", buckets=TEXTS, registry=own)
        self._engine = Histogram("bebert_engine_seconds", "One call of the engine.", buckets=SECONDS, registry=own)
        self._answered = Counter("bebert_texts", "Texts answered.", registry=own)
        self._members = Counter(
            "bebert_members_run", "Members that spoke; with early exit fewer than members x texts.", registry=own
        )
        self._queue = Gauge("bebert_queue_texts", "Texts that wait for the engine.", registry=own)
        self._model = Info("bebert_model", "The model that answers.", registry=own)
        ProcessCollector(registry=own)
        self._counters: dict[tuple[str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def about(self, facts: dict[str, str]) -> None:
        """Say which model answers."""
        self._model.info(facts)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask for the length of the queue whenever metrics are read."""
        self._queue.set_function(length)

    def request_done(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one that the server has, or "other": labels must be few."""
        counter = self._counters.get((path, status))
        if counter is None:  # looking a label up takes longer than counting
            counter = self._counters[path, status] = self._requests.labels(path, status)
            self._histograms[path] = self._seconds.labels(path)
        counter.inc()
        self._histograms[path].observe(seconds)

    def batch_done(self, texts: int, seconds: float) -> None:
        """Count a call of the engine."""
        self._texts.observe(texts)
        self._answered.inc(texts)
        self._engine.observe(seconds)

    def members_ran(self, count: int) -> None:
        """Count members that spoke."""
        self._members.inc(count)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)
