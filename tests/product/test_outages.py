"""Faults of a real API server amid starts on a real hub: see `faults.outages`. docs/faults.md has what comes of it."""

from __future__ import annotations

import asyncio

import pytest

from cluster.assets import Assets, AssetsUnavailableError, find_tool
from faults.outages import OUTAGES, Outage, OutageResult, Start, run_outages
from faults.outages_page import format_starts, list_rows, render_outages
from faults.page import PAGE, split

Results = dict[Outage, OutageResult]

# With all of them, `make faults-cluster` takes minutes.
STARTS = 12
RESTORES = [outage for outage in OUTAGES if outage.prepare]

in_every_outage = pytest.mark.parametrize(
    "outage",
    [
        pytest.param(outage, id=outage.title, marks=pytest.mark.needs("etcdutl") if "etcdutl" in outage.title else ())
        for outage in OUTAGES
    ],
)


def _list_possible() -> list[Outage]:
    try:
        find_tool("etcdutl")
    except AssetsUnavailableError:
        return [outage for outage in OUTAGES if "etcdutl" not in outage.title]
    return OUTAGES


@pytest.fixture(scope="module")
def results(assets: Assets) -> Results:
    return asyncio.run(run_outages(assets, _list_possible(), starts=STARTS))


@pytest.fixture
def result(results: Results, outage: Outage) -> OutageResult:
    return results[outage]


@pytest.mark.cluster
@in_every_outage
def test_nobody_gets_an_older_document_than_the_api_server_has(result: OutageResult) -> None:
    made = [start for start in [*result.starts, *result.again] if start.number is not None]
    assert made
    assert [start for start in made if not start.least <= start.number <= start.most] == []
    assert {start.given for start in made} == {"current"}


@pytest.mark.cluster
@in_every_outage
def test_a_start_succeeds_or_is_refused_in_a_way_that_is_documented(outage: Outage, result: OutageResult) -> None:
    before, meanwhile, after = (result.select(when) for when in ("before", "meanwhile", "after"))
    # What KubeSpawner has begun when the API server goes away, it does not repeat. Others may not have read yet.
    assert {start.status for start in before} <= {201, 500, 503}
    assert {(start.policy, start.status) for start in meanwhile} == (
        set()
        if not outage.has_meanwhile
        else {("fail", 503), ("last-good", 500)}
        if outage.is_hopeless
        else {("fail", 201), ("last-good", 201)}
    )
    assert {start.status for start in after} == {201}


@pytest.mark.cluster
@in_every_outage
def test_only_what_we_refuse_is_refused_by_us(result: OutageResult) -> None:
    ours = {start.name for start in result.starts if start.error == "ProfilesUnavailableError"}
    assert ours == {start.name for start in result.starts if start.status == 503}


@pytest.mark.cluster
@in_every_outage
def test_whoever_had_no_server_gets_one_after_it(result: OutageResult) -> None:
    assert {start.name for start in result.again} >= {start.name for start in result.starts if start.status != 201}
    assert [start for start in result.again if (start.status, start.given) != (201, "current")] == []


@pytest.mark.cluster
@in_every_outage
def test_nothing_is_left_when_all_servers_have_stopped(result: OutageResult) -> None:
    assert (result.left_pods, result.left_claims, result.left_reservations) == ([], [], [])


@pytest.mark.cluster
@in_every_outage
def test_the_hub_answers_all_the_time(result: OutageResult) -> None:
    assert set(result.health) == {200}


@pytest.mark.cluster
@in_every_outage
def test_only_failures_of_the_host_are_counted_as_failures(outage: Outage, result: OutageResult) -> None:
    failed = [start for start in result.starts if start.status == 500]
    assert outage.is_hopeless <= result.failure_count <= len(failed)


@pytest.mark.cluster
@in_every_outage
def test_the_metrics_say_what_happened(outage: Outage, result: OutageResult) -> None:
    refused = [start for start in result.starts if start.status == 503]
    assert result.counted.get("spawns_total failed", 0) == len(refused)
    assert result.counted["spawns_total current"] >= sum(start.status == 201 for start in result.starts)
    assert result.counted["reads_total ok"] > 0
    if outage.is_hopeless:
        assert result.counted.keys() & {"reads_total refused", "reads_total unavailable"}
    assert result.valid == 1.0


@pytest.mark.cluster
@pytest.mark.parametrize("outage", [outage for outage in OUTAGES if "clock" in outage.title], ids=str)
def test_a_profile_for_an_hour_follows_the_clock_of_the_hub(result: OutageResult) -> None:
    applied = {start.when: start.has_course for start in result.starts}
    assert applied == {"before": True, "meanwhile": False, "after": True}
    assert {(start.when, start.has_course) for start in result.starts} == set(applied.items())


@pytest.mark.cluster
@pytest.mark.parametrize(
    "outage",
    [
        pytest.param(outage, id=outage.title, marks=pytest.mark.needs("etcdutl") if "etcdutl" in outage.title else ())
        for outage in RESTORES
    ],
)
def test_after_a_restore_there_is_one_document_for_all(result: OutageResult) -> None:
    after = result.select("after")
    assert len({start.number for start in after}) == 1
    # It is known exactly, since nobody edits it then.
    assert [start for start in after if not start.least == start.number == start.most] == []
    # A server that stopped after the copy has its pod again, and its owner's next start replaces it.
    assert len(result.orphans) == 1
    assert result.orphans[0] in {start.fullname for start in result.again}
    # Those that started after the copy have lost theirs.
    assert len(result.lost) >= len(result.select("before"))


@pytest.mark.cluster
def test_the_page_says_what_was_seen(results: Results) -> None:
    """If it does not, `make faults-cluster` writes it anew."""
    _, part = split(PAGE.read_text(encoding="utf-8"))
    seen = list_rows(render_outages(results, {}, starts=STARTS))
    written = list_rows(part)
    # How many of those that began before it got a server, and how stock KubeSpawner does, tells the page alone.
    assert {title: written[title][1:3] for title in seen} == {title: cells[1:3] for title, cells in seen.items()}


def test_the_page_has_every_outage() -> None:
    _, part = split(PAGE.read_text(encoding="utf-8"))
    assert list(list_rows(part)) == [outage.title for outage in OUTAGES]


def test_each_command_keeps_what_the_other_writes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    first, last = split(page)
    assert first + last == page
    assert split(first + render_outages({}, {}, starts=1))[0] == first


def test_what_came_of_starts_is_told_in_numbers() -> None:
    starts = [Start("ada", f"s{status}", "after", "fail", 1, status=status) for status in (503, 201, 500, 201)]
    assert format_starts(starts) == "2 servers, 1 × 500, 1 × 503"
    assert format_starts(starts[1:2]) == "1 server"
    assert format_starts([]) == ""
