"""The Prometheus series, on the hub's own ``/hub/metrics``.

JupyterHub serves the default registry of prometheus_client, so a series exists for the process, not for a loop.
Labels hold outcomes and sources, never what a document says.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["DOCUMENT_AGE", "DOCUMENT_VALID", "PARSES", "READS", "READ_DURATION", "SPAWNS", "forget"]

READS = Counter(
    "profiled_spawner_reads_total",
    "Requests for the profile document, by outcome: ok, unavailable, refused or missing.",
    ["source", "outcome"],
)
READ_DURATION = Histogram(
    "profiled_spawner_read_duration_seconds",
    "How long one request for the profile document took, whatever came of it.",
    ["source"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PARSES = Counter(
    "profiled_spawner_parses_total",
    "Documents parsed, by outcome: valid or invalid. An unchanged document is not parsed again.",
    ["source", "outcome"],
)
DOCUMENT_VALID = Gauge(
    "profiled_spawner_document_valid",
    "Whether the document, as it was last read, is valid (1) or not (0).",
    ["source"],
)
DOCUMENT_AGE = Gauge(
    "profiled_spawner_last_good_read_age_seconds",
    "Seconds since a valid document was last read: how old the one in use may be.",
    ["source"],
)
SPAWNS = Counter(
    "profiled_spawner_spawns_total",
    "Spawns by what they were given: current or last_good profiles, or none: ignored (by policy) or observed "
    "(observe_only); or failed, or refused.",
    ["outcome"],
)
# An increase from nothing at all is none to Prometheus: each outcome begins at 0.
for _outcome in ("current", "last_good", "ignored", "observed", "failed", "refused"):
    SPAWNS.labels(_outcome)


def forget(source: str) -> None:
    """Removes all that is said of a document whose source is gone; should it come back, its counters begin at 0."""
    # How long requests took is said of the request for all of them, which goes on.
    for metric in (READS, PARSES, DOCUMENT_VALID, DOCUMENT_AGE):
        labels = {tuple(sample.labels.values()) for family in metric.collect() for sample in family.samples}
        for each in labels:
            if each[0] == source:
                metric.remove(*each)
