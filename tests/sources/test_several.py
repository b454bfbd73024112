"""Several ConfigMaps: what a spawn is given of those that a label selector selects, when they are fine and when not."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config
from prometheus_client import REGISTRY

from profiled_spawner.document.model import Document
from profiled_spawner.errors import SourceError
from profiled_spawner.sources import cache, several
from profiled_spawner.sources.cache import Snapshot
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.file import FileSource
from profiled_spawner.sources.several import get_selection, read_documents
from sandbox.api import EmbeddedAPI, Fault
from sandbox.waiting import HANG_SECONDS, SHORT_SECONDS, Clock, our_threads, until

from ..conftest import API_SERVERS, CONFIGMAP, KEY, NAMESPACE, WriteProfiles, make_api_server

log = logging.getLogger("hub")

SELECTOR = "jupyterhub=singleuser-profiles"
LABELS = {"jupyterhub": "singleuser-profiles"}
BROKEN = "profiles: [{nmae: broken, env: {FOO: canary-value}}]"

WriteTeam = Callable[..., dict[str, Any]]


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


def profiles(*names: str) -> str:
    return f"profiles: [{', '.join(f'{{name: {name}, env: {{FOO: x}}}}' for name in names)}]"


class Reader:
    """The main ConfigMap and the selected ones, read as spawns read them."""

    def __init__(self, client: CoreV1Api) -> None:
        self.main = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=SHORT_SECONDS)
        self.selected = SelectedConfigMapsSource(
            NAMESPACE, SELECTOR, KEY, CONFIGMAP, client, timeout_seconds=SHORT_SECONDS
        )

    async def read(
        self, policy: Any = "last-good", timeout_seconds: float = HANG_SECONDS, purpose: Any = "start"
    ) -> Snapshot:
        return await read_documents(
            self.main, self.selected, policy=policy, timeout_seconds=timeout_seconds, log=log, purpose=purpose
        )

    async def labels(self, **kwargs: Any) -> list[str]:
        """What people know the profiles by, in document order."""
        return [profile.label for profile in (await self.read(**kwargs)).document.profiles]


@pytest.fixture
async def reader(api: EmbeddedAPI, label_selectors: None) -> AsyncIterator[Reader]:
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Reader(CoreV1Api(client))


@pytest.fixture
def write_team(write_profiles: WriteProfiles) -> WriteTeam:
    """Puts a text into a ConfigMap that the selector selects."""

    def write(name: str, text: str, **kwargs: Any) -> dict[str, Any]:
        return write_profiles(text, name=name, labels=LABELS, **kwargs)

    return write


def requests(api: EmbeddedAPI, verb: str) -> int:
    return sum((request.verb, request.resource) == (verb, "configmaps") for request in api.requests)


def gauge(name: str, configmap: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"source": f"configmap/{NAMESPACE}/{configmap}"})


def reads(source: str, outcome: str) -> float:
    """How many requests for a source ended so."""
    return REGISTRY.get_sample_value("profiled_spawner_reads_total", {"source": source, "outcome": outcome}) or 0


def unavailable_lists() -> float:
    """How many lists could not be had."""
    return reads(f"configmaps/{NAMESPACE}?labelSelector={SELECTOR}", "unavailable")


def good_mains() -> float:
    """How often the main ConfigMap was read."""
    return reads(f"configmap/{NAMESPACE}/{CONFIGMAP}", "ok")


def series(configmap: str) -> dict[str, float]:
    """What the metrics say of a ConfigMap, by name and outcome."""
    return {
        " ".join(filter(None, (sample.name, sample.labels.get("outcome")))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.labels.get("source") == f"configmap/{NAMESPACE}/{configmap}" and not sample.name.endswith("_created")
    }


async def test_they_stand_behind_the_main_one_in_order_of_name(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    main = write_profiles(profiles("globals", "others"))["metadata"]["resourceVersion"]
    zoology = write_team("zoology", profiles("globals"))["metadata"]["resourceVersion"]
    aviation = write_team("aviation", profiles("globals"))["metadata"]["resourceVersion"]
    write_profiles(profiles("unlabelled"), name="beside")

    snapshot = await reader.read()

    labels = [profile.label for profile in snapshot.document.profiles]
    assert labels == ["globals", "others", "aviation/globals", "zoology/globals"]
    assert snapshot.source == f"configmap/{NAMESPACE}/{CONFIGMAP}@{main}"
    assert snapshot.selected == (
        f"configmap/{NAMESPACE}/aviation@{aviation}",
        f"configmap/{NAMESPACE}/zoology@{zoology}",
    )
    assert snapshot.origin == ", ".join([snapshot.source, *snapshot.selected])
    assert (requests(api, "get"), requests(api, "list")) == (1, 1)


async def test_the_main_one_may_have_the_label_and_is_not_read_twice(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"), labels=LABELS)
    write_team("team", profiles("a"))
    assert await reader.labels() == ["globals", "team/a"]


async def test_beside_a_file_every_selected_configmap_counts(
    reader: Reader, write_team: WriteTeam, tmp_path: Path
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(profiles("globals"))
    reader.main = FileSource(path, KEY)  # type: ignore[assignment]
    reader.selected = SelectedConfigMapsSource(NAMESPACE, SELECTOR, KEY, None, reader.selected.api, SHORT_SECONDS)
    write_team(CONFIGMAP, profiles("a"))
    assert await reader.labels() == ["globals", f"{CONFIGMAP}/a"]


async def test_both_requests_are_sent_at_once(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    write_team("team", profiles("a"))
    gate = asyncio.Event()
    api.faults.append(Fault(gate=gate, verb="get", resource="configmaps"))
    reading = asyncio.create_task(reader.labels())
    await until(lambda: requests(api, "get") and requests(api, "list"))
    assert not reading.done()
    gate.set()
    assert await reading == ["globals", "team/a"]


async def test_an_edit_an_arrival_and_a_departure_are_seen_by_the_next_read(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    write_team("one", profiles("a"))
    assert await reader.labels() == ["globals", "one/a"]
    write_team("one", profiles("b"))
    write_team("two", profiles("c"))
    assert await reader.labels() == ["globals", "one/b", "two/c"]
    write_profiles(profiles("b"), name="one", labels={"jupyterhub": "no-more"})
    assert await reader.labels() == ["globals", "two/c"]
    api.delete("configmaps", NAMESPACE, "two")
    assert await reader.labels() == ["globals"]


async def test_a_read_does_not_join_a_list_that_was_requested_before_it(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    write_team("team", profiles("old"))
    gates = [asyncio.Event(), asyncio.Event()]
    api.faults += [Fault(gate=gate, verb="list", resource="configmaps") for gate in gates]
    early = asyncio.create_task(reader.labels())
    await until(lambda: requests(api, "list"))
    late = asyncio.create_task(reader.labels())
    gates[0].set()
    assert await early == ["globals", "team/old"]
    write_team("team", profiles("new"))
    gates[1].set()
    assert await late == ["globals", "team/new"]
    assert requests(api, "list") == 2


async def test_a_burst_shares_a_handful_of_requests(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    write_team("team", profiles("a"))
    labels = await asyncio.gather(*(reader.labels() for _ in range(500)))
    assert labels == [["globals", "team/a"]] * 500
    assert requests(api, "get") <= 3
    assert requests(api, "list") <= 3


async def test_only_what_has_changed_is_parsed(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    parse_document = cache.parse_document

    def parse(text: str, *, source: str, **kwargs: Any) -> Any:
        parsed.append(source.partition("@")[0].rpartition("/")[2])
        return parse_document(text, source=source, **kwargs)

    monkeypatch.setattr(cache, "parse_document", parse)
    write_profiles(profiles("globals"))
    for name in ("one", "two", "three"):
        write_team(name, profiles("a"))
    await reader.read()
    assert sorted(parsed) == sorted([CONFIGMAP, "one", "three", "two"])
    parsed.clear()
    write_team("two", profiles("b"))
    await reader.read()
    await reader.read()
    assert parsed == ["two"]


async def test_many_that_were_edited_at_once_are_parsed_in_turn(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(profiles("globals"))
    await reader.read()
    for number in range(30):
        write_team(f"team-{number:02}", profiles("a"))
    parse_document, parsing, at_once = cache.parse_document, set(), []

    def parse(text: str, *, source: str, **kwargs: Any) -> Any:
        parsing.add(source)
        at_once.append(len(parsing))
        try:
            return parse_document(text, source=source, **kwargs)
        finally:
            parsing.remove(source)

    monkeypatch.setattr(cache, "parse_document", parse)
    # However busy the machine is.
    monkeypatch.setattr(several, "TURN_SECONDS", HANG_SECONDS)
    assert len(await reader.labels()) == 31
    assert at_once == [1] * 30


async def test_an_edit_elsewhere_costs_no_decoding(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = SelectedConfigMapsSource.extract
    extracted = []

    def count(self: SelectedConfigMapsSource, raw: bytes) -> Any:
        extracted.append(raw)
        return extract(self, raw)

    monkeypatch.setattr(SelectedConfigMapsSource, "extract", count)
    write_profiles(profiles("globals"))
    write_team("one", profiles("a"))
    write_team("two", BROKEN)
    assert await reader.labels() == ["globals", "one/a"]
    # The list's own resourceVersion is another after it.
    write_profiles(profiles("edited"))
    assert await reader.labels() == ["edited", "one/a"]
    assert len(extracted) == 1
    write_team("two", profiles("mended"))
    assert await reader.labels() == ["edited", "one/a", "two/mended"]
    assert len(extracted) == 2


async def test_of_too_many_patterns_those_of_the_largest_do_not_count(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, caplog: pytest.LogCaptureFixture
) -> None:
    def many(name: str, patterns: int) -> str:
        images = ", ".join(f'"{name}-{number}-*"' for number in range(patterns))
        return f"profiles: [{{name: {name}, images: [{images}]}}]"

    write_profiles(many("globals", 300))
    for name, patterns in (("a", 300), ("b", 180), ("c", 240), ("d", 180)):
        write_team(name, many(name, patterns))
    for _ in range(2):
        snapshot = await reader.read()
        assert [profile.label for profile in snapshot.document.profiles] == ["globals", "b/b", "c/c", "d/d"]
        assert [source.partition("@")[0] for source in snapshot.selected] == [
            f"configmap/jhub/{name}" for name in "bcd"
        ]
    # One line for as long as nothing changes.
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert re.match(r"Leaving out configmap/jhub/a@\d+, because .* more than 600 different images with a star", line)
    write_team("c", many("c", 100))
    assert await reader.labels() == ["globals", "b/b", "c/c", "d/d"]
    write_team("a", many("a", 140))
    assert await reader.labels() == ["globals", "a/a", "b/b", "c/c", "d/d"]


async def test_of_too_much_text_the_largest_does_not_count(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"a": 1000, "b": 1010, "c": 900, "d": 900, "e": 900}

    def large(name: str) -> str:
        return profiles(name) + "#" * (sizes[name] * 1024)

    write_profiles(profiles("globals"))
    for name in sizes:
        write_team(name, large(name))
    assert await reader.labels() == ["globals", "a/a", "c/c", "d/d", "e/e"]
    assert (
        "Leaving out configmap/jhub/b, because the selected ConfigMaps have more than 4 MiB of documents together, "
        "and it is one of the largest" in caplog.text
    )
    write_team("b", profiles("b"))
    assert await reader.labels() == ["globals", "a/a", "b/b", "c/c", "d/d", "e/e"]
    # Who grows too large counts as it was before.
    write_team("b", large("b"))
    assert await reader.labels() == ["globals", "a/a", "b/b", "c/c", "d/d", "e/e"]
    assert "Using the last good version, configmap/jhub/b@" in caplog.text


async def test_another_text_is_another_version_whatever_its_number(
    reader: Reader, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = iter([profiles("before"), profiles("restored")])

    async def fetch(self: SelectedConfigMapsSource) -> bytes:
        metadata = {"name": "team", "uid": "0f0f", "resourceVersion": "7"}
        items = [{"metadata": metadata, "data": {KEY: next(texts)}}]
        return json.dumps({"kind": "ConfigMapList", "metadata": {}, "items": items}).encode()

    write_profiles(profiles("globals"))
    monkeypatch.setattr(SelectedConfigMapsSource, "fetch", fetch)
    assert await reader.labels() == ["globals", "team/before"]
    assert await reader.labels() == ["globals", "team/restored"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        pytest.param("invalid", "line 1, column 13: profiles[0].nmae: unknown key", id="invalid"),
        pytest.param("no-key", f"jhub/team has no key '{KEY}'; it has 'other'", id="no-key"),
        pytest.param("binary", "under binaryData, so it is not UTF-8 text", id="binary"),
        pytest.param("nothing", f"jhub/team has no key '{KEY}'; it has no keys under data", id="no-data"),
    ],
)
@pytest.mark.parametrize("good_before", [False, True], ids=["nothing-good-before", "good-before"])
@pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
async def test_a_broken_one_is_handled_for_itself_alone(
    api: EmbeddedAPI,
    reader: Reader,
    write_profiles: WriteProfiles,
    write_team: WriteTeam,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    why: str,
    good_before: bool,
    policy: str,
) -> None:
    write_profiles(profiles("globals"))
    write_team("another", profiles("a"))
    if good_before:
        good = write_team("team", profiles("good"))["metadata"]["resourceVersion"]
        await reader.read(policy)
    match fault:
        case "invalid":
            write_team("team", BROKEN)
        case "no-key":
            write_team("team", profiles("x"), key="other")
        case "binary" | "nothing":
            data = {"binaryData": {KEY: "/w=="}} if fault == "binary" else {}
            metadata = {"name": "team", "namespace": NAMESPACE, "labels": LABELS}
            api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **data})
    write_profiles(profiles("edited"))
    write_team("another", profiles("b"))
    caplog.clear()

    labels = await reader.labels(policy=policy)

    (record,) = (record for record in caplog.records if record.name == "hub")
    assert why in record.getMessage()
    assert "canary" not in caplog.text
    if good_before:
        assert labels == ["edited", "another/b", "team/good"]
        assert record.levelname == "WARNING"
        last_good = rf"Using the last good version, configmap/jhub/team@{good}, read \d+ s ago, because "
        assert re.match(last_good, record.getMessage())
    else:
        assert labels == ["edited", "another/b"]
        assert record.levelname == "ERROR"
        assert record.getMessage().startswith("Leaving out configmap/jhub/team, because ")

    write_team("team", profiles("mended"))
    assert await reader.labels(policy=policy) == ["edited", "another/b", "team/mended"]


@pytest.mark.parametrize("seen_gone", [True, False], ids=["seen-gone", "not-seen-gone"])
async def test_one_that_is_made_anew_and_broken_does_not_bring_back_what_was_deleted(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam, seen_gone: bool
) -> None:
    write_profiles(profiles("globals"))
    write_team("team", profiles("good"))
    assert await reader.labels() == ["globals", "team/good"]
    api.delete("configmaps", NAMESPACE, "team")
    if seen_gone:
        assert await reader.labels() == ["globals"]
    write_team("team", BROKEN)
    assert await reader.labels() == ["globals"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(
            "forbidden",
            "the hub may not list configmaps/jhub?labelSelector=jupyterhub=singleuser-profiles (403",
            id="forbidden",
        ),
        pytest.param("unavailable", "could not be asked for configmaps/jhub", id="unavailable"),
        pytest.param("truncated", "is no list of ConfigMaps", id="truncated"),
    ],
)
@pytest.mark.parametrize("good_before", [False, True], ids=["never-read", "read-before"])
async def test_where_they_cannot_be_read_they_are_as_they_were(
    api: EmbeddedAPI,
    reader: Reader,
    write_profiles: WriteProfiles,
    write_team: WriteTeam,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    fault: str,
    message: str,
    good_before: bool,
) -> None:
    write_profiles(profiles("globals"))
    write_team("one", profiles("a"))
    write_team("two", profiles("b"))
    if good_before:
        await reader.read()
    write_team("one", profiles("unread"))
    match fault:
        case "forbidden":
            api.deny("list", "configmaps")
        case "unavailable":
            api.faults.append(Fault("close", verb="list", resource="configmaps", times=None))
        case "truncated":
            api.faults.append(Fault("truncate", verb="list", resource="configmaps"))

    lists, mains = unavailable_lists(), good_mains()
    reading = asyncio.create_task(reader.labels(policy="fail", timeout_seconds=SHORT_SECONDS))
    if fault == "unavailable":
        # The main one must be there: its time ends, too.
        await until(lambda: unavailable_lists() > lists and good_mains() > mains)
        clock.forward(SHORT_SECONDS)
    labels = await reading

    (record,) = (record for record in caplog.records if record.name == "hub")
    assert message in record.getMessage()
    if fault == "forbidden":
        assert '{apiGroups: [""], resources: ["configmaps"], verbs: ["list"]}' in record.getMessage()
    if good_before:
        assert labels == ["globals", "one/a", "two/b"]
        assert re.match(r"Using the selected ConfigMaps as they were \d+ s ago, because ", record.getMessage())
        assert record.levelname == "WARNING"
    else:
        assert labels == ["globals"]
        assert record.getMessage().startswith("Leaving out all ConfigMaps that configmap_label_selector selects, ")
        assert record.levelname == "ERROR"


@pytest.mark.parametrize("good_before", [False, True], ids=["never-read", "read-before"])
@pytest.mark.parametrize("fault", ["invalid", "forbidden"])
async def test_a_page_has_a_line_of_its_own_and_leaves_all_to_tell_to_the_start(
    api: EmbeddedAPI,
    reader: Reader,
    write_profiles: WriteProfiles,
    write_team: WriteTeam,
    caplog: pytest.LogCaptureFixture,
    good_before: bool,
    fault: str,
) -> None:
    caplog.set_level(logging.INFO, log.name)
    write_profiles(profiles("globals"))
    if good_before:
        write_team("team", profiles("a"))
        await reader.read()
    if fault == "forbidden":
        api.deny("list", "configmaps")
    else:
        write_team("team", "profiles: [{nmae: a, env: {FOO: canary-value}}, {nmae: b}]")

    async def lines(*purposes: str) -> list[str]:
        caplog.clear()
        await asyncio.gather(*(reader.read(purpose=each) for each in purposes))
        return [f"{record.levelname}: {record.getMessage()}" for record in caplog.records if record.name == log.name]

    page = {
        ("invalid", True): "the last good version, configmap/jhub/team@",
        ("invalid", False): "nothing of configmap/jhub/team, because ",
        ("forbidden", True): "the selected ConfigMaps as they were ",
        ("forbidden", False): "none of the selected ConfigMaps, because ",
    }[fault, good_before]
    (alone,) = await lines("page")
    assert alone.startswith(f"INFO: Showing the spawn page with {page}")
    assert "\n" not in alone
    first, second = sorted(await lines("page", "start", "page"), key=lambda line: "page" not in line)
    assert first.startswith(f"INFO: Showing the spawn page with {page}")
    assert second.startswith("WARNING: Using the " if good_before else "ERROR: Leaving out ")
    assert ("profiles[1].nmae" in second) == (fault == "invalid")
    (observed,) = await lines("observation")
    assert observed.startswith("WARNING: Would use the " if good_before else "WARNING: Would leave out ")
    assert "canary" not in caplog.text


async def test_a_transient_fault_of_the_list_is_retried(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    write_team("team", profiles("a"))
    api.faults.append(Fault("status", status=503, verb="list", resource="configmaps"))
    assert await reader.labels() == ["globals", "team/a"]
    assert (requests(api, "get"), requests(api, "list")) == (1, 2)


async def test_a_selector_that_is_none_is_told(
    reader: Reader, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles(profiles("globals"))
    reader.selected = SelectedConfigMapsSource(NAMESPACE, "a b", KEY, CONFIGMAP, reader.selected.api, SHORT_SECONDS)
    assert await reader.labels() == ["globals"]
    assert "check the label selector" in caplog.text


async def test_more_than_can_be_read_is_not_read_at_all(
    reader: Reader,
    write_profiles: WriteProfiles,
    write_team: WriteTeam,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_profiles(profiles("globals"))
    write_team("one", profiles("a"))
    assert await reader.labels() == ["globals", "one/a"]
    monkeypatch.setattr("profiled_spawner.sources.configmap.MAX_SELECTED_BYTES", 2 * 2**20)
    for name in ("two", "three", "four"):
        write_team(name, profiles("b") + "#" * (900 * 1024))
    assert await reader.labels() == ["globals", "one/a"]
    assert "are larger than 2 MiB together" in caplog.text


@pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
async def test_only_the_main_one_decides_whether_a_spawn_fails(
    reader: Reader, write_team: WriteTeam, policy: str
) -> None:
    write_team("team", profiles("a"))
    if policy == "ignore":
        snapshot = await reader.read(policy)
        assert snapshot.document.profiles == ()
        assert isinstance(snapshot.fault, SourceError)
        assert snapshot.source is None
    else:
        with pytest.raises(SourceError, match="there is no ConfigMap 'jupyter-singleuser-profiles'"):
            await reader.read(policy)


async def test_a_failing_spawn_does_not_wait_for_the_others(
    api: EmbeddedAPI, reader: Reader, write_team: WriteTeam
) -> None:
    write_team("team", profiles("a"))
    api.faults.append(Fault("hang", verb="list", resource="configmaps", times=None))
    with pytest.raises(SourceError, match="there is no ConfigMap"):
        await reader.read(timeout_seconds=3600)


async def test_each_has_metrics_of_its_own_until_it_is_gone(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    listed = {"source": f"configmaps/{NAMESPACE}?labelSelector={SELECTOR}", "outcome": "ok"}
    before = REGISTRY.get_sample_value("profiled_spawner_reads_total", listed) or 0
    write_profiles(profiles("globals"))
    write_team("measured", profiles("a"))
    write_team("unwell", BROKEN)
    await reader.read()
    assert REGISTRY.get_sample_value("profiled_spawner_reads_total", listed) == before + 1
    assert gauge("profiled_spawner_document_valid", "measured") == 1
    assert gauge("profiled_spawner_document_valid", "unwell") == 0
    age = gauge("profiled_spawner_last_good_read_age_seconds", "measured")
    assert age is not None
    assert gauge("profiled_spawner_last_good_read_age_seconds", "unwell") is None
    for name in ("measured", "unwell"):
        api.delete("configmaps", NAMESPACE, name)
    write_team("unwell", BROKEN)
    await reader.read()
    assert series("measured") == {}
    # That of the same name is another, and begins anew.
    assert series("unwell") == {
        "profiled_spawner_reads_total ok": 1,
        "profiled_spawner_parses_total invalid": 1,
        "profiled_spawner_document_valid": 0,
    }
    write_team("measured", profiles("a"))
    await reader.read()
    assert series("measured")["profiled_spawner_reads_total ok"] == 1
    assert series("unwell")["profiled_spawner_reads_total ok"] == 2


def test_an_origin_of_many_is_cut() -> None:
    many = tuple(f"configmap/jhub/team-{number}@1" for number in range(100))
    origin = Snapshot(Document(), "configmap/jhub/main@1", selected=many).origin
    assert origin is not None
    assert origin.startswith("configmap/jhub/main@1, configmap/jhub/team-0@1, ")
    assert origin.endswith("configmap/jhub/team-48@1, …")


async def test_spawns_of_one_selection_share_it_and_others_do_not(reader: Reader) -> None:
    one = reader.selected
    assert get_selection(one) is get_selection(
        SelectedConfigMapsSource(NAMESPACE, SELECTOR, KEY, CONFIGMAP, one.api, timeout_seconds=9)
    )
    for other in (("other", KEY, CONFIGMAP), (SELECTOR, "other", CONFIGMAP), (SELECTOR, KEY, None)):
        assert get_selection(one) is not get_selection(SelectedConfigMapsSource(NAMESPACE, *other, one.api, 1))


def test_a_selection_goes_with_its_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fetch(self: SelectedConfigMapsSource) -> bytes:
        return b'{"kind": "ConfigMapList", "metadata": {}, "items": []}'

    monkeypatch.setattr(SelectedConfigMapsSource, "fetch", fetch)

    async def spawn() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        source = SelectedConfigMapsSource(NAMESPACE, SELECTOR, KEY, CONFIGMAP, None, SHORT_SECONDS)
        selection = get_selection(source)
        await selection.read(source, timeout_seconds=HANG_SECONDS, log=log)
        return weakref.ref(selection), weakref.ref(asyncio.get_running_loop())

    selection, loop = asyncio.run(spawn())
    asyncio.run(until(lambda: not our_threads()))
    gc.collect()
    assert loop() is None
    gc.collect()  # of what went with it
    assert selection() is None


async def test_edits_count_at_once_while_many_read(
    reader: Reader, write_profiles: WriteProfiles, write_team: WriteTeam
) -> None:
    write_profiles(profiles("globals"))
    current = 0

    async def spawn() -> None:
        at_least = current
        (_, label) = await reader.labels()
        assert int(label.removeprefix("team/v")) >= at_least

    spawns = []
    for current in range(1, 101):
        write_team("team", profiles(f"v{current}"))
        spawns += [asyncio.create_task(spawn()) for _ in range(2)]
        await asyncio.sleep(0.002)
    await asyncio.gather(*spawns)
