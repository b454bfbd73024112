"""The metrics are those that the docs list, named as Prometheus has it, and the docs' alerts go by them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics import MetricWrapperBase

from profiled_spawner import metrics
from profiled_spawner.errors import SourceError

REFERENCE = (Path(__file__).parent.parent / "docs" / "reference.md").read_text()

METRICS = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


FAMILIES = list(metrics.QUOTAS.describe())


def name_of(metric: MetricWrapperBase) -> str:
    (described,) = metric.describe()
    return f"{described.name}_total" if isinstance(metric, Counter) else described.name


def documented() -> dict[str, dict[str, set[str]]]:
    """The series of the docs' table: their labels, each with the values that are listed."""
    series = {}
    for name, labels in re.findall(r"^\| `(profiled_spawner_\w+)` \| (.*?) \|", REFERENCE, re.MULTILINE):
        names, _, values = labels.partition(": ")
        *others, last = re.findall(r"\w+", names)
        series[name] = {label: set[str]() for label in others} | {last: set(re.findall(r"\w+", values))}
    return series


def alerts() -> list[dict[str, Any]]:
    (text,) = re.findall(r"^```yaml\n(groups:.*?)^```", REFERENCE, re.DOTALL | re.MULTILINE)
    (group,) = yaml.safe_load(text)["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_the_docs_list_every_series_with_its_labels() -> None:
    assert {name: set(labels) for name, labels in documented().items()} == {
        **{name_of(metric): set(metric._labelnames) for metric in METRICS},
        **{family.name: set(family._labelnames) for family in FAMILIES},
    }


def test_every_series_of_ours_in_the_registry_is_in_its_module() -> None:
    registered = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("profiled_spawner")}
    known = {name_of(metric).removesuffix("_total") for metric in METRICS}
    assert registered == known | {family.name for family in FAMILIES}


def test_the_docs_list_every_outcome() -> None:
    outcomes = get_args(get_type_hints(SourceError.__init__)["outcome"])
    assert documented()["profiled_spawner_reads_total"]["outcome"] == {"ok", *outcomes}
    (spawns,) = metrics.SPAWNS.collect()
    listed = documented()["profiled_spawner_spawns_total"]["outcome"]
    assert {sample.labels["outcome"] for sample in spawns.samples} == listed


@pytest.mark.parametrize("metric", METRICS, ids=name_of)
def test_a_name_follows_prometheus_conventions(metric: MetricWrapperBase) -> None:
    name = name_of(metric)
    assert re.fullmatch(r"profiled_spawner_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == isinstance(metric, Counter)
    assert not re.search(r"_(milliseconds|ms|minutes|count|sum|bucket|info)$", name)
    (described,) = metric.describe()
    is_time = re.search(r"duration|age", name) is not None
    assert is_time == name.endswith("_seconds")
    assert described.documentation.endswith(".")


def test_the_alerts_are_the_three_that_are_needed() -> None:
    invalid, last_good, full = alerts()
    assert (invalid["expr"], invalid["for"]) == ("profiled_spawner_document_valid == 0", "10m")
    assert "last_good" in last_good["expr"]
    assert full["expr"] == "profiled_spawner_quota_used >= profiled_spawner_quota_hard > 0"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_goes_by_series_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    series = documented()
    names = re.findall(r"profiled_spawner_\w+", rule["expr"])
    assert names
    assert set(names) <= series.keys()
    labels = {label: values for name in names for label, values in series[name].items()}
    for label, value in re.findall(r'(\w+)="(\w+)"', rule["expr"]):
        assert value in labels[label]
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels.keys()
