"""When the document is read and parsed, what many spawns share, and what they get when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import re
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config_from_dict
from prometheus_client import REGISTRY

from profiled_spawner.document.model import Document
from profiled_spawner.errors import DocumentError, SourceError
from profiled_spawner.sources import cache, shared_requests
from profiled_spawner.sources.cache import Snapshot, Store, get_store
from profiled_spawner.sources.configmap import ConfigMapSource
from profiled_spawner.sources.file import FileSource
from sandbox.api import EmbeddedAPI, Fault
from sandbox.waiting import HANG_SECONDS, SHORT_SECONDS, Clock, our_threads, until

from ..conftest import API_SERVERS, CONFIGMAP, KEY, NAMESPACE, WriteProfiles, make_api_server

log = logging.getLogger("hub")


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


def profiles(name: str, value: str = "x") -> str:
    return f"profiles: [{{name: {name}, env: {{FOO: {value}}}}}]"


INVALID = "profiles: [{nmae: broken, env: {FOO: canary-value}}]"


class Reader:
    """One store over one ConfigMap, read as spawns read it."""

    def __init__(self, source: ConfigMapSource | FileSource) -> None:
        self.source = source
        self.store = Store(source.name)

    async def read(
        self, policy: Any = "fail", timeout_seconds: float = HANG_SECONDS, purpose: Any = "start"
    ) -> Snapshot:
        return await self.store.read(
            self.source, policy=policy, timeout_seconds=timeout_seconds, log=log, purpose=purpose
        )

    async def name(self, **kwargs: Any) -> str | None:
        """The name of the first profile."""
        snapshot = await self.read(**kwargs)
        return snapshot.document.profiles[0].name if snapshot.document.profiles else None


@pytest.fixture
async def client(api: EmbeddedAPI) -> AsyncIterator[CoreV1Api]:
    configuration = Configuration()
    await load_kube_config_from_dict(json.loads(api.kubeconfig()), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield CoreV1Api(client)


@pytest.fixture
def reader(client: CoreV1Api) -> Reader:
    return Reader(ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=SHORT_SECONDS))


def reads(api: EmbeddedAPI) -> int:
    return sum(request.resource == "configmaps" for request in api.requests)


def failed_reads(reader: Reader) -> float:
    """How many requests of a reader have failed in a way that may pass."""
    labels = {"source": reader.source.name, "outcome": "unavailable"}
    return REGISTRY.get_sample_value("profiled_spawner_reads_total", labels) or 0


async def test_an_edit_is_seen_by_the_next_read(reader: Reader, write_profiles: WriteProfiles) -> None:
    for name in ("first", "second", "third"):
        written = write_profiles(profiles(name))
        snapshot = await reader.read()
        assert snapshot.document.profiles[0].name == name
        version = written["metadata"]["resourceVersion"]
        assert snapshot.source == f"configmap/{NAMESPACE}/{CONFIGMAP}@{version}"
        assert snapshot.fault is None


async def test_a_burst_shares_a_handful_of_requests(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("all"))
    names = await asyncio.gather(*(reader.name() for _ in range(1000)))
    assert set(names) == {"all"}
    assert reads(api) <= 3


async def test_a_read_does_not_join_a_request_that_was_sent_before_it(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("old"))
    gates = [asyncio.Event(), asyncio.Event()]
    api.faults += [Fault(gate=gate, resource="configmaps") for gate in gates]
    early = asyncio.create_task(reader.name())
    await until(lambda: reads(api))
    late = asyncio.create_task(reader.name())
    gates[0].set()
    assert await early == "old"
    write_profiles(profiles("new"))
    gates[1].set()
    assert await late == "new"
    assert reads(api) == 2


async def test_no_read_is_ever_older_than_its_beginning(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    rng = random.Random(1)
    api.faults.append(Fault(delay=0.003, resource="configmaps", times=None))
    current = 0

    async def spawn() -> None:
        at_least = current
        name = await reader.name()
        assert name is not None
        assert int(name[1:]) >= at_least

    spawns = []
    for current in range(1, 151):
        write_profiles(profiles(f"v{current}"))
        spawns += [asyncio.create_task(spawn()) for _ in range(rng.randrange(5))]
        await asyncio.sleep(0.002)
    await asyncio.gather(*spawns)
    assert reads(api) < len(spawns)


async def test_a_version_is_parsed_once(reader: Reader, write_profiles: WriteProfiles) -> None:
    write_profiles(profiles("same"))
    first = await reader.read()
    second = await reader.read()
    assert second.document is first.document
    write_profiles(profiles("same", "y"))
    third = await reader.read()
    assert third.document is not first.document


async def test_a_recreated_configmap_is_another_version(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("before"))
    assert await reader.name() == "before"
    api.delete("configmaps", NAMESPACE, CONFIGMAP)
    write_profiles(profiles("after"))
    assert await reader.name() == "after"


async def test_another_text_is_another_version_whatever_its_number(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = iter([profiles("before"), profiles("restored"), INVALID])

    async def fetch(self: ConfigMapSource) -> bytes:
        metadata = {"name": CONFIGMAP, "uid": "0f0f", "resourceVersion": "7"}
        return json.dumps({"kind": "ConfigMap", "metadata": metadata, "data": {KEY: next(texts)}}).encode()

    monkeypatch.setattr(ConfigMapSource, "fetch", fetch)
    assert await reader.name() == "before"
    assert await reader.name() == "restored"
    with pytest.raises(DocumentError):
        await reader.read()


TRANSIENT = [
    pytest.param(Fault("status", status=503, times=2), 3, id="service-unavailable-twice"),
    pytest.param(Fault("status", status=500), 2, id="internal-error"),
    pytest.param(Fault("status", status=429, retry_after=1), 2, id="too-many-requests"),
    pytest.param(Fault("close"), 2, id="reset"),
    pytest.param(Fault("cut"), 2, id="cut-in-the-body"),
    pytest.param(Fault("hang"), 2, id="hangs"),
]


@pytest.mark.parametrize(("fault", "requests"), TRANSIENT)
async def test_a_transient_fault_is_retried(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, clock: Clock, fault: Fault, requests: int
) -> None:
    write_profiles(profiles("there"))
    fault.resource = "configmaps"
    api.faults.append(Fault(**vars(fault)))
    reading = asyncio.create_task(reader.name())
    if fault.effect == "hang":
        await until(lambda: reads(api))
        # aiohttp rounds up to a whole second.
        clock.forward(SHORT_SECONDS + 1)
    assert await reading == "there"
    assert reads(api) == requests


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_by_an_api_server_that_has_just_started_is_retried(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, status: int
) -> None:
    """For a moment, a kube-apiserver that starts answers 403, whatever its Roles say."""
    write_profiles(profiles("there"))
    for code in (503, status, status):
        api.faults.append(Fault("status", status=code, resource="configmaps"))
    assert await reader.name() == "there"
    assert reads(api) == 4


async def test_a_refusal_by_an_api_server_that_starts_slowly_is_retried(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, clock: Clock
) -> None:
    """It accepts connections, and answers when it is ready."""
    write_profiles(profiles("there"))
    gate = asyncio.Event()
    api.faults.append(Fault("status", status=503, resource="configmaps"))
    api.faults.append(Fault("status", status=403, resource="configmaps", gate=gate))
    reading = asyncio.create_task(reader.name())
    await until(lambda: reads(api) > 1)
    clock.forward(shared_requests.START_UP_SECONDS)
    gate.set()
    assert await reading == "there"


async def test_a_refusal_that_lasts_is_an_answer(api: EmbeddedAPI, reader: Reader, clock: Clock) -> None:
    api.faults.append(Fault("status", status=503, resource="configmaps"))
    api.faults.append(Fault("status", status=403, resource="configmaps", times=None))
    reading = asyncio.create_task(reader.read())
    await until(lambda: reads(api) > 1)
    clock.forward(shared_requests.START_UP_SECONDS)
    with pytest.raises(SourceError, match="the hub may not read"):
        await reading
    asked = reads(api)
    with pytest.raises(SourceError, match="the hub may not read"):
        await reader.read()
    assert reads(api) == asked + 1


async def test_retry_after_is_waited_for(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(profiles("there"))
    api.faults.append(Fault("status", status=429, retry_after=2, resource="configmaps"))
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(cache.asyncio, "sleep", sleep)
    await reader.read()
    assert pauses == [2]


async def test_a_spawn_joins_a_retry_that_is_sent_after_it(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("there"))
    gate = asyncio.Event()
    api.faults.append(Fault("status", status=503, resource="configmaps", gate=gate))
    first = asyncio.create_task(reader.name())
    await until(lambda: reads(api))
    second = asyncio.create_task(reader.name())
    await asyncio.sleep(0)  # it asks
    gate.set()
    assert await asyncio.gather(first, second) == ["there", "there"]
    assert reads(api) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(401, "did not accept the hub's credentials", id="unauthorized"),
        pytest.param(403, 'resourceNames: ["jupyter-singleuser-profiles"], verbs: ["get"]', id="forbidden"),
        pytest.param(404, "there is no ConfigMap 'jupyter-singleuser-profiles' in namespace 'jhub'", id="not-found"),
        pytest.param(409, "answered 409", id="conflict"),
    ],
)
async def test_an_answer_is_not_asked_for_again(api: EmbeddedAPI, reader: Reader, status: int, message: str) -> None:
    api.faults.append(Fault("status", status=status, resource="configmaps", times=None))
    with pytest.raises(SourceError, match=re.escape(message)):
        await reader.read()
    assert reads(api) == 1


async def test_a_missing_key_is_told_with_the_keys_there_are(reader: Reader, write_profiles: WriteProfiles) -> None:
    write_profiles(profiles("x"), key="profiles.yml")
    with pytest.raises(SourceError, match=f"has no key '{KEY}'; it has 'profiles.yml'"):
        await reader.read()


async def test_binary_data_has_an_error_of_its_own(api: EmbeddedAPI, reader: Reader) -> None:
    api.put(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIGMAP, "namespace": NAMESPACE},
            "binaryData": {KEY: "/w=="},
        }
    )
    with pytest.raises(SourceError, match="under binaryData, so it is not UTF-8 text"):
        await reader.read()


async def test_a_truncated_body_is_no_configmap(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("there"))
    api.faults.append(Fault("truncate", resource="configmaps"))
    with pytest.raises(SourceError, match="is no ConfigMap"):
        await reader.read()
    assert await reader.name() == "there"


async def test_waiting_ends_with_what_was_wrong_last(api: EmbeddedAPI, reader: Reader, clock: Clock) -> None:
    api.faults.append(Fault("status", status=503, resource="configmaps", times=None))
    before = failed_reads(reader)
    reading = asyncio.create_task(reader.read(timeout_seconds=SHORT_SECONDS))
    await until(lambda: failed_reads(reader) > before)
    clock.forward(SHORT_SECONDS)
    with pytest.raises(SourceError, match=rf"within {SHORT_SECONDS} s, retries included; the last was: .*answered 503"):
        await reading


async def test_an_api_server_that_is_away_and_comes_back(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("there"))
    await api.stop()
    before = failed_reads(reader)
    reading = asyncio.create_task(reader.name())
    await until(lambda: failed_reads(reader) > before)
    await api.start()
    assert await reading == "there"


@pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
@pytest.mark.parametrize("good_before", [False, True], ids=["nothing-good-before", "good-before"])
@pytest.mark.parametrize("fault", ["unavailable", "forbidden", "missing", "no-key", "invalid"])
async def test_what_a_spawn_gets_when_nothing_good_is_read(
    api: EmbeddedAPI,
    reader: Reader,
    write_profiles: WriteProfiles,
    clock: Clock,
    policy: str,
    good_before: bool,
    fault: str,
) -> None:
    if good_before:
        write_profiles(profiles("good"))
        await reader.read()
    match fault:
        case "unavailable":
            api.faults.append(Fault("close", resource="configmaps", times=None))
        case "forbidden":
            api.deny("get", "configmaps")
        case "missing" if good_before:
            api.delete("configmaps", NAMESPACE, CONFIGMAP)
        case "no-key":
            write_profiles(profiles("other"), key="other")
        case "invalid":
            write_profiles(INVALID)
    expected = DocumentError if fault == "invalid" else SourceError
    asked = reads(api)
    starting = asyncio.create_task(reader.read(policy, timeout_seconds=SHORT_SECONDS))
    if fault == "unavailable":
        await until(lambda: reads(api) > asked)
        clock.forward(SHORT_SECONDS)
    if policy == "ignore":
        snapshot = await starting
        assert snapshot.document == Document()
        assert snapshot.source is None
        assert isinstance(snapshot.fault, expected)
    elif policy == "last-good" and good_before:
        snapshot = await starting
        assert snapshot.document.profiles[0].name == "good"
        assert isinstance(snapshot.fault, expected)
    else:
        with pytest.raises(expected):
            await starting

    api.faults.clear()
    if fault == "forbidden":
        api.allow("get", "configmaps")
    write_profiles(profiles("recovered"))
    assert (await reader.read(policy)).document.profiles[0].name == "recovered"


async def test_an_invalid_document_is_told_once_in_full_and_without_values(
    reader: Reader, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles(profiles("good"))
    await reader.read("last-good")
    write_profiles("profiles: [{nmae: a, env: {FOO: canary-value}}, {nmae: b}]")
    for _ in range(2):
        await reader.read("last-good")
    full, short = (record.getMessage() for record in caplog.records)
    assert "Using the last good profiles, configmap/jhub/jupyter-singleuser-profiles@" in full
    assert "profiles[0].nmae: unknown key; did you mean 'name'?" in full
    assert "profiles[1].nmae" in full
    assert "still: line 1, column 13: profiles[0].nmae: unknown key" in short
    assert "profiles[1].nmae" not in short
    assert "canary" not in caplog.text


PAGE_LINES = [
    pytest.param(
        "last-good",
        False,
        "INFO: Showing the spawn page with no sizes, because configmap/jhub/jupyter-singleuser-profiles@",
        "ERROR: Starting no server, because configmap/jhub/jupyter-singleuser-profiles@",
        id="nothing-good-before",
    ),
    pytest.param(
        "last-good",
        True,
        "INFO: Showing the spawn page with the last good sizes, configmap/jhub/jupyter-singleuser-profiles@",
        "WARNING: Using the last good profiles, configmap/jhub/jupyter-singleuser-profiles@",
        id="good-before",
    ),
    pytest.param(
        "fail",
        True,
        "INFO: Showing the spawn page with no sizes, because ",
        "ERROR: Starting no server, because ",
        id="fail",
    ),
    pytest.param(
        "ignore",
        True,
        "INFO: Showing the spawn page with no sizes, because ",
        "ERROR: Starting servers without its profiles, as failure_policy says, because ",
        id="ignore",
    ),
]


@pytest.mark.parametrize(("policy", "good_before", "page", "start"), PAGE_LINES)
async def test_a_page_has_a_line_of_its_own_and_leaves_all_to_tell_to_the_start(
    api: EmbeddedAPI,
    reader: Reader,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    good_before: bool,
    page: str,
    start: str,
) -> None:
    caplog.set_level(logging.INFO, log.name)
    if good_before:
        write_profiles(profiles("good"))
        await reader.read()
    write_profiles("profiles: [{nmae: a, env: {FOO: canary-value}}, {nmae: b}]")

    async def lines(*purposes: str) -> list[str]:
        caplog.clear()
        asked = reads(api)
        await asyncio.gather(*(reader.read(policy, purpose=each) for each in purposes), return_exceptions=True)
        assert reads(api) == asked + 1
        return [f"{record.levelname}: {record.getMessage()}" for record in caplog.records if record.name == log.name]

    (alone,) = await lines("page")
    assert alone.startswith(page)
    assert "is not valid: line 1, column 13: profiles[0].nmae: unknown key" in alone
    assert "\n" not in alone
    # They share one request, and so do several pages a line.
    first, second = sorted(await lines("page", "start", "page"), key=lambda line: "page" not in line)
    assert first.startswith(page)
    assert second.startswith(start)
    assert "profiles[1].nmae" in second
    await lines("page")
    (third,) = await lines("start")
    assert third.startswith(start)
    assert "still: line 1, column 13" in third
    assert "canary" not in caplog.text


async def test_a_page_that_waited_in_vain_is_no_error(
    api: EmbeddedAPI, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, log.name)
    api.faults.append(Fault("hang", resource="configmaps", times=None))
    with pytest.raises(SourceError):
        await reader.read(timeout_seconds=0, purpose="page")
    (record,) = [record for record in caplog.records if record.name == log.name]
    assert record.levelname == "INFO"
    assert record.getMessage().startswith("Showing the spawn page with no sizes, because no answer for ")


async def test_keys_that_are_ignored_are_told_once_for_a_version(
    reader: Reader, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    ignored = "{services: {a: {}}, env: {FOO: canary-value}}"
    written = write_profiles(f"{{profiles: [{ignored}, {ignored}], ui: {{}}}}")
    for _ in range(3):
        await reader.read()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"configmap/jhub/jupyter-singleuser-profiles@{written['metadata']['resourceVersion']} has keys of "
        "jupyterhub-singleuser-profiles that are ignored: ui, services; "
        "`profiled-spawner validate` says what to do instead"
    )
    write_profiles(f"profiles: [{ignored}]")
    await reader.read()
    assert "that are ignored: services; " in caplog.records[1].getMessage()
    write_profiles(profiles("without"))
    await reader.read()
    assert len(caplog.records) == 2


async def test_a_caller_that_is_cancelled_disturbs_nobody(
    api: EmbeddedAPI, reader: Reader, write_profiles: WriteProfiles
) -> None:
    write_profiles(profiles("there"))
    gate = asyncio.Event()
    api.faults.append(Fault(gate=gate, resource="configmaps"))
    leaving, staying = (asyncio.create_task(reader.name()) for _ in range(2))
    await until(lambda: reads(api))
    leaving.cancel()
    gate.set()
    assert await staying == "there"
    assert leaving.cancelled()
    assert reads(api) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("hang"), id="request"),
        pytest.param(Fault("status", status=503, retry_after=5), id="pause"),
    ],
)
async def test_what_everybody_gave_up_holds_up_nobody(
    api: EmbeddedAPI,
    client: CoreV1Api,
    write_profiles: WriteProfiles,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    # Either would hold up a read for longer than that has patience.
    for pause in ("FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(shared_requests, pause, 3 * HANG_SECONDS)
    reader = Reader(ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=3 * HANG_SECONDS))
    write_profiles(profiles("there"))
    failed = failed_reads(reader)
    api.faults.append(Fault(**{**vars(fault), "resource": "configmaps"}))
    given_up = [asyncio.create_task(reader.read(timeout_seconds=SHORT_SECONDS)) for _ in range(2)]
    await until(lambda: reads(api) if fault.effect == "hang" else failed_reads(reader) > failed)
    clock.forward(SHORT_SECONDS)
    faults = await asyncio.gather(*given_up, return_exceptions=True)
    assert [type(fault) for fault in faults] == [SourceError, SourceError]
    assert await reader.name() == "there"
    assert reads(api) == 2


async def test_a_defect_in_reading_is_an_error_and_not_a_hang(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(self: ConfigMapSource) -> bytes:
        raise ZeroDivisionError("canary-value")

    monkeypatch.setattr(ConfigMapSource, "fetch", fetch)
    with pytest.raises(SourceError, match="because of a defect \\(ZeroDivisionError\\)"):
        await reader.read()


async def test_a_defect_in_parsing_is_an_invalid_document(
    reader: Reader, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse_document(text: str, **_: Any) -> Document:
        raise ZeroDivisionError(text)

    write_profiles(profiles("x", "canary-value"))
    monkeypatch.setattr(cache, "parse_document", parse_document)
    with pytest.raises(DocumentError, match=r"because of a defect of this package \(ZeroDivisionError\)") as caught:
        await reader.read()
    assert "canary" not in str(caught.value)


async def test_a_read_is_tried_again_while_there_can_be_no_thread(
    reader: Reader, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(profiles("there"))
    start, tries = threading.Thread.start, []

    def start_the_third(self: threading.Thread) -> None:
        # The loop has threads of its own.
        if self.name == "profiled-spawner":
            tries.append(self)
            if len(tries) <= 2:
                raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_the_third)
    assert await reader.name() == "there"
    assert len(tries) == 3


async def test_spawns_of_one_source_share_a_store_and_others_do_not(client: CoreV1Api) -> None:
    one = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=1)
    same = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=2)
    assert get_store(one) is get_store(same)
    other_key = ConfigMapSource(NAMESPACE, CONFIGMAP, "other", client, timeout_seconds=1)
    assert get_store(one) is not get_store(other_key)


class LoopsOwnSource(FileSource):
    """One that refers to its event loop, as a ConfigMap's does through the client."""

    __slots__ = ("loop",)


@pytest.mark.parametrize("text", [profiles("here"), INVALID, None], ids=["valid", "invalid", "missing"])
def test_a_store_goes_with_its_event_loop(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "profiles.yaml"
    if text is not None:
        path.write_text(text)

    async def spawn() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        source = LoopsOwnSource(path, KEY)
        object.__setattr__(source, "loop", asyncio.get_running_loop())
        store = get_store(source)
        with contextlib.suppress(SourceError, DocumentError):
            await store.read(source, policy="fail", timeout_seconds=HANG_SECONDS, log=log)
        return weakref.ref(store), weakref.ref(asyncio.get_running_loop())

    store, loop = asyncio.run(spawn())
    asyncio.run(until(lambda: not our_threads()))
    gc.collect()
    assert loop() is None
    gc.collect()  # of what went with it
    assert store() is None


async def _wait_in_vain(path: Path) -> weakref.ref[Any]:
    source = FileSource(path, KEY)
    with contextlib.suppress(SourceError):
        await get_store(source).read(source, policy="fail", timeout_seconds=0, log=log)
    return weakref.ref(asyncio.get_running_loop())


def test_a_store_goes_with_its_event_loop_though_somebody_waited_in_vain(tmp_path: Path) -> None:
    loop = asyncio.run(_wait_in_vain(tmp_path / "profiles.yaml"))
    asyncio.run(until(lambda: not our_threads()))
    gc.collect()
    assert loop() is None


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


class TestFile:
    """A file is a source like a ConfigMap."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "profiles.yaml"

    @pytest.fixture
    def reader(self, path: Path) -> Reader:
        return Reader(FileSource(path, KEY))

    async def test_an_edit_is_seen_by_the_next_read(self, path: Path, reader: Reader) -> None:
        for name in ("first", "second"):
            path.write_text(profiles(name))
            assert await reader.name() == name

    async def test_the_same_bytes_are_parsed_once(self, path: Path, reader: Reader) -> None:
        path.write_text(profiles("same"))
        first = await reader.read()
        path.write_text(profiles("same"))
        assert (await reader.read()).document is first.document
        assert first.source is not None
        assert first.source.startswith(f"file/{path}@sha256:")

    async def test_a_manifest_is_read_by_its_key_and_told_in_its_own_lines(self, path: Path, reader: Reader) -> None:
        path.write_text(f"kind: ConfigMap\napiVersion: v1\ndata:\n  {KEY}: |\n    profiles:\n    - nmae: x\n")
        with pytest.raises(DocumentError, match=r"line 6, column 7: profiles\[0\].nmae"):
            await reader.read()

    async def test_a_missing_file_is_told_by_its_path(self, path: Path, reader: Reader) -> None:
        with pytest.raises(SourceError, match=f"there is no file {path}"):
            await reader.read()

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            pytest.param(Path.mkdir, "a directory", id="directory"),
            pytest.param(os.mkfifo, "a FIFO", id="fifo"),
            pytest.param(make_socket, "a socket", id="socket"),
            pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="device"),
        ],
    )
    async def test_what_is_no_regular_file_is_told_and_not_waited_for(
        self, path: Path, reader: Reader, make: Callable[[Path], object], kind: str
    ) -> None:
        make(path)
        for _ in range(2):
            with pytest.raises(SourceError, match=f"{path} could not be read: it is {kind}, not a regular file; name"):
                await reader.read()
        path.rename(path.with_name("elsewhere"))
        path.write_text(profiles("there"))
        assert await reader.name() == "there"

    async def test_what_is_no_utf8_is_told_with_its_place(self, path: Path, reader: Reader) -> None:
        path.write_bytes(b"profiles:\n- name: \xff\n")
        with pytest.raises(DocumentError, match="line 2, column 9: not UTF-8 text"):
            await reader.read()
