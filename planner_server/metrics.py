"""What Prometheus reads at /metrics. One registry per application, so that several may live in one process."""

from __future__ import annotations

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from planner_server.plan_request import Planned

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ENERGIES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._plan_s = self._histogram(
            "plan_seconds", "Search for one plan, encoding excluded", ["planner"]
        )
        self._encode_s = self._histogram("encode_seconds", "Reading and encoding a frame")
        self._queue_s = self._histogram(
            "queue_age_seconds", "Age of an observation when its turn came"
        )
        self._energy = Histogram(
            "planner_energy",
            "Predicted energy after the plan",
            buckets=_ENERGIES,
            registry=self._registry,
        )
        self._batch = Histogram(
            "planner_batch_sessions",
            "Sessions planned in one call",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        self._evaluations = self._counter("evaluations", "Action sequences imagined")
        self._late = self._counter("late_plans", "Plans that took longer than they may")
        self._dropped = self._counter(
            "dropped_observations", "Observations that a newer one overtook"
        )
        self._unsent = self._counter(
            "unsent_replies", "Replies that a peer was too slow, or too far away, to take"
        )
        self._errors = self._counter("errors", "Refusals and failures", ["door", "code"])
        self.sessions = self._gauge("sessions", "Open sessions")
        self.peers = self._gauge("peers", "Robots connected to the ZMQ door")
        self.waiting = self._gauge("waiting_requests", "Requests that wait for the worker")
        self.streams = self._gauge("streams", "Open event streams")
        self.unsaved = self._gauge(
            "unsaved_records", "Records that wait to be written to the database"
        )
        self.lost = self._gauge(
            "lost_records", "Records that could not be written, since the start"
        )
        self._gpu = self._gauge("gpu_memory_bytes", "CUDA memory in use by this process")

    def count_plan(self, planner: str, planned: Planned, *, is_late: bool) -> None:
        """Count a plan."""
        self._plan_s.labels(planner).observe(1e-3 * planned.plan_ms)
        self._encode_s.observe(1e-3 * planned.encode_ms)
        self._queue_s.observe(1e-3 * max(planned.queue_ms, 0.0))
        self._energy.observe(planned.plan.energy)
        self._batch.observe(planned.batch_size)
        self._evaluations.inc(planned.plan.evaluations)
        if is_late:
            self._late.inc()

    def count_error(self, door: str, code: str) -> None:
        """Count a refusal or failure by where it was told, `http` or `zmq`."""
        self._errors.labels(door, code).inc()

    def count_dropped(self) -> None:
        """Count an observation that a newer one overtook."""
        self._dropped.inc()

    def count_unsent(self) -> None:
        """Count a reply that was thrown away."""
        self._unsent.inc()

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        # Asking would set CUDA up where nobody uses it.
        is_used = torch.cuda.is_available() and torch.cuda.memory_reserved() > 0
        self._gpu.set(torch.cuda.memory_allocated() if is_used else 0)
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(
            f"planner_{name}", text, labels or [], buckets=_SECONDS, registry=self._registry
        )

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"planner_{name}", text, labels or [], registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"planner_{name}", text, registry=self._registry)
