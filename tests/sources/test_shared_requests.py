"""Who leaves while reading disturbs nobody, and a hub that ends leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config_from_dict

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.document.model import Document
from profiled_spawner.errors import DocumentError, SourceError
from profiled_spawner.sources import cache
from profiled_spawner.sources.cache import Snapshot, Store, get_store
from profiled_spawner.sources.configmap import ConfigMapSource
from sandbox.api import EmbeddedAPI, Fault
from sandbox.waiting import HANG_SECONDS, our_threads, until

from ..conftest import CONFIGMAP, KEY, NAMESPACE, MakeSpawner, WriteProfiles

log = logging.getLogger("hub")

DOCUMENT = "profiles: [{name: good, env: {A: good}}]"

# What a read may be at when it is disturbed.
FAULTS = [
    pytest.param(Fault("hang"), id="no-answer"),
    pytest.param(Fault("status", status=503, times=None), id="retries"),
]


def reads(api: EmbeddedAPI) -> int:
    return sum(request.resource == "configmaps" for request in api.requests)


async def until_asked(api: EmbeddedAPI) -> None:
    await until(lambda: reads(api))


def break_reads(api: EmbeddedAPI, fault: Fault) -> None:
    api.faults.append(Fault(**{**vars(fault), "resource": "configmaps"}))


def reading_tasks() -> list[asyncio.Future[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("read ")]


async def applied(api: EmbeddedAPI, spawner: ProfiledKubeSpawner) -> list[str]:
    """The profiles of the pod that was created."""
    pod = api.get("pods", spawner.namespace, spawner.pod_name)
    names: list[str] = json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"])
    return names


async def leave(task: asyncio.Task[object], how: str) -> None:
    """Ends a spawn as JupyterHub does: 6 cancels it when its time is over."""
    if how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)


@pytest.mark.parametrize("how", ["cancelled", "timed-out"])
@pytest.mark.parametrize("leaves", [0, 1], ids=["who-asked-first", "who-joined"])
@pytest.mark.usefixtures("kubelet")
async def test_a_spawn_that_leaves_while_reading_disturbs_nobody(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, how: str, leaves: int
) -> None:
    write_profiles(DOCUMENT)
    gate = asyncio.Event()
    break_reads(api, Fault(gate=gate))
    spawners = [make_spawner("ada"), make_spawner("grace")]
    tasks = [spawner.start() for spawner in spawners]
    await until_asked(api)

    await leave(tasks[leaves], how)

    gate.set()
    await tasks[1 - leaves]
    assert await applied(api, spawners[1 - leaves]) == ["good"]
    assert reads(api) == 1
    again = make_spawner(spawners[leaves].user.name)
    await again.start()
    assert await applied(api, again) == ["good"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("kubelet")
async def test_a_read_that_everybody_has_left_ends_and_poisons_nothing(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, fault: Fault
) -> None:
    write_profiles(DOCUMENT)
    break_reads(api, fault)
    tasks = [make_spawner(user).start() for user in ("ada", "grace")]
    await until_asked(api)
    assert len(reading_tasks()) == 1

    for task in tasks:
        await leave(task, "cancelled")

    await until(lambda: not reading_tasks())
    api.faults.clear()
    spawner = make_spawner("ada")
    await spawner.start()
    assert await applied(api, spawner) == ["good"]


async def test_a_spawn_that_comes_while_the_others_leave_is_served(
    api: EmbeddedAPI, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    async with open_source(api) as source:
        for steps in range(30):
            leaving = asyncio.create_task(read(source))
            for _ in range(steps):
                await asyncio.sleep(0)
            coming = asyncio.create_task(read(source))
            leaving.cancel()
            assert (await coming).fault is None
            await asyncio.gather(leaving, return_exceptions=True)
        assert not reading_tasks()


@pytest.mark.parametrize("fault", [*FAULTS, pytest.param(None, id="parses")])
async def test_a_read_in_flight_when_the_loop_ends_leaves_nothing(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None,
) -> None:
    write_profiles(DOCUMENT)
    parses, ends = threading.Event(), threading.Event()
    parse_document = cache.parse_document

    def parse(*args: Any, **kwargs: Any) -> Document:
        parses.set()
        ends.wait()
        return parse_document(*args, **kwargs)

    monkeypatch.setattr(cache, "parse_document", parse)
    if fault:
        break_reads(api, fault)

    async def live() -> tuple[weakref.ref[Store], list[asyncio.Future[object]]]:
        spawns = [make_spawner(user) for user in ("ada", "grace")]
        tasks: list[asyncio.Future[object]] = [spawner.start() for spawner in spawns]
        await until(lambda: reads(api) if fault else parses.is_set())
        ends.set()
        return weakref.ref(get_store(spawns[0].make_source())), [*tasks, *reading_tasks()]

    store, tasks = await asyncio.to_thread(asyncio.run, live())
    await until(lambda: not our_threads())

    assert len(tasks) == 3
    assert all(task.cancelled() for task in tasks)
    tasks.clear()
    # What is destroyed while it is pending, or never retrieved, is told by asyncio when it is collected; a connection
    # that was not closed gives a warning, which is an error here. What a finalizer was still to run for goes after it.
    gc.collect()
    gc.collect()
    assert store() is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("fault", "document", "message"),
    [
        pytest.param(Fault("status", status=403), DOCUMENT, "may not read", id="refused"),
        pytest.param(Fault("truncate"), DOCUMENT, "is no ConfigMap", id="truncated"),
        pytest.param(Fault("none"), "profiles: [{nmae: a}]", "unknown key", id="invalid"),
    ],
)
async def test_a_failure_that_a_hub_has_told_keeps_nothing_of_its_loop(
    api: EmbeddedAPI, write_profiles: WriteProfiles, fault: Fault, document: str, message: str
) -> None:
    write_profiles(document)
    break_reads(api, fault)

    async def live() -> tuple[weakref.ref[Store], weakref.ref[asyncio.AbstractEventLoop]]:
        async with open_source(api) as source:
            with pytest.raises((SourceError, DocumentError), match=message):
                await read(source)
            return weakref.ref(get_store(source)), weakref.ref(asyncio.get_running_loop())

    store, loop = await asyncio.to_thread(asyncio.run, live())
    await until(lambda: not our_threads())

    gc.collect()
    assert store() is None
    assert loop() is None


async def test_two_hubs_in_one_process_share_no_document(api: EmbeddedAPI, write_profiles: WriteProfiles) -> None:
    write_profiles(DOCUMENT)
    has_read, is_over = threading.Event(), threading.Event()

    async def hub_that_has_read() -> tuple[int, Snapshot]:
        async with open_source(api) as source:
            await read(source)
            api.deny("get", "configmaps")
            has_read.set()
            await asyncio.to_thread(is_over.wait)
            return id(get_store(source)), await read(source)

    async def hub_that_has_not() -> int:
        try:
            async with open_source(api) as source:
                await asyncio.to_thread(has_read.wait)
                with pytest.raises(SourceError, match="may not read"):
                    await read(source)
                return id(get_store(source))
        finally:
            is_over.set()

    (one, snapshot), other = await asyncio.gather(
        asyncio.to_thread(asyncio.run, hub_that_has_read()), asyncio.to_thread(asyncio.run, hub_that_has_not())
    )

    assert one != other
    assert [profile.name for profile in snapshot.document.profiles] == ["good"]
    assert isinstance(snapshot.fault, SourceError)


async def test_a_hub_that_ends_does_not_end_the_read_of_another(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    gate = asyncio.Event()
    break_reads(api, Fault(gate=gate, times=2))

    async def hub_that_ends() -> None:
        task = make_spawner("ada").start()
        await until(lambda: reads(api) == 2)
        assert not task.done()

    async def hub_that_stays() -> Snapshot:
        async with open_source(api) as source:
            return await read(source)

    staying = asyncio.create_task(asyncio.to_thread(asyncio.run, hub_that_stays()))
    await asyncio.to_thread(asyncio.run, hub_that_ends())
    gate.set()
    snapshot = await staying

    assert snapshot.fault is None
    assert [profile.name for profile in snapshot.document.profiles] == ["good"]


@asynccontextmanager
async def open_source(api: EmbeddedAPI) -> AsyncIterator[ConfigMapSource]:
    """The ConfigMap, through a client of the running loop's own."""
    configuration = Configuration()
    await load_kube_config_from_dict(json.loads(api.kubeconfig()), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, CoreV1Api(client), timeout_seconds=HANG_SECONDS)


async def read(source: ConfigMapSource) -> Snapshot:
    return await get_store(source).read(source, policy="last-good", timeout_seconds=HANG_SECONDS, log=log)
