"""Figures for Prometheus: requests, latencies, queue, tokens."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one app, in a registry of their own (several apps may live in one process).

    Times are in seconds. `route` is the path's pattern, 'other' for what is none, so that strangers cannot make
    the number of series grow.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "danlu_http_requests", "HTTP requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "danlu_http_request_seconds",
            "Time from a request's head to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "danlu_time_to_first_token_seconds",
            "Time from queueing a request to its first text",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "danlu_prompt_tokens", "Tokens of the prompts that were taken", ["model"], registry=self.registry
        )
        self.generated_tokens = Counter(
            "danlu_generated_tokens", "Tokens of completed answers", ["model"], registry=self.registry
        )
        self.answers = Counter(
            "danlu_answers", "Answers by how they ended: stop, length, cancelled, error", ["model", "end"],
            registry=self.registry,
        )  # fmt: skip
        self.refused = Counter(
            "danlu_queue_refusals", "Requests refused because the queue was full", ["model"], registry=self.registry
        )
        self._running = Gauge("danlu_requests_running", "Requests being computed", ["model"], registry=self.registry)
        self._waiting = Gauge("danlu_requests_waiting", "Requests in the queue", ["model"], registry=self.registry)
        self._failures = Gauge(
            "danlu_engine_failures", "Steps of the engine that failed", ["model"], registry=self.registry
        )

    def watch(
        self, model: str, running: Callable[[], float], waiting: Callable[[], float], failures: Callable[[], float]
    ) -> None:
        """Read these whenever somebody looks."""
        self._running.labels(model).set_function(running)
        self._waiting.labels(model).set_function(waiting)
        self._failures.labels(model).set_function(failures)

    def render(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)
