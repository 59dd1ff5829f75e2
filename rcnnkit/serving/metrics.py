"""What a server counts, in Prometheus' format."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from rcnnkit.files import is_running

# prometheus_client's own variable: the folder where several workers keep their numbers, so that each can tell all.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one worker; `text` adds up those of all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rcnnkit_requests_total", "Requests to /detect, by their HTTP status.", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "rcnnkit_request_seconds",
            "From a request's first byte to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "rcnnkit_requests_waiting",
            "Requests without an answer yet.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.detections = Counter("rcnnkit_detections_total", "Objects found.", registry=self.registry)
        self.batch = Histogram(
            "rcnnkit_batch_pictures",
            "Pictures in a call of the detector.",
            buckets=PICTURES,
            registry=self.registry,
        )
        self.detector = Histogram(
            "rcnnkit_detector_seconds", "A call of the detector.", buckets=SECONDS, registry=self.registry
        )
        _forget_ended()

    def called(self, pictures: int, seconds: float) -> None:
        """After a call of the detector."""
        self.batch.observe(pictures)
        self.detector.observe(seconds)

    def text(self) -> bytes:
        """Of all workers."""
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)


def _forget_ended() -> None:
    """Requests of a worker that was killed are waiting no longer."""
    if folder := os.environ.get(FOLDER):
        for file in Path(folder).glob("gauge_live*_*.db"):
            if not is_running(int(file.stem.rpartition("_")[2])):
                file.unlink(missing_ok=True)
