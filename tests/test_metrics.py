"""The metrics are those that the docs list, named as Prometheus has it, and the alerts to deploy go by them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics import MetricWrapperBase

from cluster.assets import find_tool
from profiled_spawner import metrics
from profiled_spawner.errors import SourceError
from sandbox.waiting import HANG_SECONDS

ROOT = Path(__file__).parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
RULE = ROOT / "deploy" / "prometheus-rule.yaml"

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
    (group,) = yaml.safe_load(RULE.read_text())["spec"]["groups"]
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


@pytest.fixture
def promtool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs promtool where the rules are, as `rules.yaml`, and their tests; takes an edit of the rules."""
    tests = shutil.copy(Path(__file__).with_name("prometheus-rule.test.yaml"), tmp_path)

    def run(command: str, old: str = "", new: str = "") -> subprocess.CompletedProcess[str]:
        text = RULE.read_text()
        assert old in text
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(text.replace(old, new))["spec"]))
        return subprocess.run(
            [find_tool("promtool"), command, "rules", tests if command == "test" else "rules.yaml"],
            cwd=tmp_path,
            check=False,
            text=True,
            capture_output=True,
            timeout=HANG_SECONDS,
        )

    return run


@pytest.mark.needs("promtool")
def test_prometheus_accepts_the_alerts(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    checked = promtool("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"SUCCESS: {len(alerts())} rules found" in checked.stdout
    assert promtool("check", "[5m]", "[5 minutes]").returncode != 0


@pytest.mark.needs("promtool")
def test_each_alert_fires_when_it_should_and_only_then(
    promtool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    tested = promtool("test")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('outcome="failed"', 'outcome="refused"'),
        ('outcome="failed"', 'outcome=~".*"'),
        ("[5m]) > 0", "[5m]) > 1"),
        ("[5m]", "[20m]"),
        ("valid == 0", "valid == 1"),
        ("for: 10m", "for: 9m"),
        ("for: 10m", "for: 11m"),
        ('outcome="last_good"', 'outcome="current"'),
        ("[10m]) > 0", "[10m]) > 1"),
        ("[10m]", "[20m]"),
        (">= profiled_spawner_quota_hard", "> profiled_spawner_quota_hard"),
        ("quota_hard > 0", "quota_hard"),
        ("for: 1h", "for: 59m"),
        ("$labels.quota ", "$labels.source "),
        ("alert: QuotaFull", "alert: QuotaIsFull"),
    ],
)
def test_an_alert_that_is_wrong_is_noticed(
    promtool: Callable[..., subprocess.CompletedProcess[str]], old: str, new: str
) -> None:
    assert "FAILED" in promtool("test", old, new).stderr
