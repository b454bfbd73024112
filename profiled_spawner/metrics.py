"""The Prometheus metrics, which the hub serves at ``/hub/metrics``.

JupyterHub serves the default registry of prometheus_client, so there is one set of metrics per process.
Labels hold outcomes, sources, names of quotas and of resources, never other content of a document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = [
    "DOCUMENT_AGE",
    "DOCUMENT_VALID",
    "PARSES",
    "QUOTAS",
    "READS",
    "READ_DURATION",
    "SPAWNS",
    "QuotaUse",
    "remove_series",
]

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
# Prometheus needs an initial 0 to see the first increase.
for _outcome in ("current", "last_good", "ignored", "observed", "failed", "refused"):
    SPAWNS.labels(_outcome)


class QuotaUse(NamedTuple):
    """How much of one amount of a quota is used.

    Attributes:
        quota: The quota's name.
        resource: The amount's name, such as ``requests.nvidia.com/gpu``.
        used: How much is used, in bytes, cores or units; of a quota per user, by the person who uses most.
        hard: How much may be used.
    """

    quota: str
    resource: str
    used: float
    hard: float


class QuotaCollector(Collector):
    """The use of all quotas, added up when somebody asks for the metrics.

    Attributes:
        find: Returns the use.
    """

    find: Callable[[], Iterable[QuotaUse]] = tuple

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from self._make()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        used, hard = self._make()
        for each in self.find():
            labels = [each.quota, each.resource]
            used.add_metric(labels, each.used)
            hard.add_metric(labels, each.hard)
        yield from (used, hard)

    def _make(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        labels = ("quota", "resource")
        what = "by the servers that start, run or stop; of a quota per user, by the person who uses most."
        return (
            GaugeMetricFamily("profiled_spawner_quota_used", f"How much of a quota is used {what}", labels=labels),
            GaugeMetricFamily("profiled_spawner_quota_hard", "How much a quota allows.", labels=labels),
        )


QUOTAS = QuotaCollector()
REGISTRY.register(QUOTAS)


def remove_series(source: str) -> None:
    """Removes the series of a source that is gone. If it comes back, its counters start at 0."""
    # READ_DURATION stays: it belongs to the request for all selected ConfigMaps, not to a single one.
    for metric in (READS, PARSES, DOCUMENT_VALID, DOCUMENT_AGE):
        labels = {tuple(sample.labels.values()) for family in metric.collect() for sample in family.samples}
        for each in labels:
            if each[0] == source:
                metric.remove(*each)
