"""Faults of a real API server, and of what is behind it, amid many starts on a real hub.

An *outage* begins, lasts and ends. Some people start servers before it begins, some while it lasts, some after it. All
the time, somebody edits the document: each edit writes the next number into it, so a pod tells how old its document is.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import incluster_config
from kubespawner import KubeSpawner
from traitlets.config import Config

from cluster.api import ClusterAPI
from cluster.assets import Assets, find_tool
from cluster.breaking import BreakableControlPlane
from profiled_spawner.hub.reservations import get_reservations
from profiled_spawner.sources import cache, last_good
from sandbox.inprocess import InProcessHub, forget_clients
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import Clock, until

from .bench import Samples, growth, samples
from .rows import KEY

__all__ = ["OUTAGES", "Outage", "OutageResult", "Start", "run_outages"]

When: TypeAlias = Literal["before", "meanwhile", "after"]

NAMESPACE = "jhub"
CONFIGMAP = "jupyter-singleuser-profiles"
SOURCE = f"configmap/{NAMESPACE}/{CONFIGMAP}"
# Longer than KubeSpawner's watches wait between two attempts.
_LONGEST_PAUSE_SECONDS = 30
# Of the hub, for each request.
_REQUEST_SECONDS = 60
_HOUR = 3600.0


@dataclass
class Start:
    """One start, and what came of it.

    Attributes:
        user: Who starts a server.
        name: The server's name.
        when: Whether the start began before the outage, while it lasted, or after it.
        policy: Its failure policy.
        least: The number of the oldest document that it may have.
        most: The number of the newest document that there was when its pod was made.
        status: The REST API's answer.
        error: The type of the error that ended it; empty if it succeeded.
        given: ``current``, ``last good``, ``no profiles``, or ``no pod`` if none was made.
        number: The number of the document in its pod.
        has_course: Whether the pod has the profile that is in force for an hour.
    """

    user: str
    name: str
    when: When
    policy: str
    least: int
    most: int = 0
    status: int = 0
    error: str = ""
    given: str = "no pod"
    number: int | None = None
    has_course: bool = False

    @property
    def fullname(self) -> str:
        return f"{self.user}--{self.name}"


@dataclass
class OutageResult:
    """What came of an outage.

    Attributes:
        starts: All starts, but for those that were tried again.
        again: What came of those that had failed, when they were tried again after the outage.
        health: The answers of ``/hub/health``, by status.
        failure_count: How many failures JupyterHub counted, at most.
        orphans: The pods that had no server after the outage.
        lost: The servers that had no pod after the outage.
        left_pods: The pods that were left after all servers had stopped.
        left_claims: The volume claims whose owner never got a server.
        left_reservations: What counted towards a quota after all servers had stopped.
        counted: By how much the counters of the metrics have grown.
        valid: ``document_valid`` at the end.
    """

    starts: list[Start] = field(default_factory=list)
    again: list[Start] = field(default_factory=list)
    health: Counter[int] = field(default_factory=Counter)
    failure_count: int = 0
    orphans: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left_pods: list[str] = field(default_factory=list)
    left_claims: list[str] = field(default_factory=list)
    left_reservations: list[str] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)
    valid: float | None = None

    def select(self, when: When) -> list[Start]:
        """The starts that began then."""
        return [start for start in self.starts if start.when == when]


@dataclass(frozen=True)
class Outage:
    """Something that goes wrong.

    Attributes:
        title: What it is, for people.
        lasts: Is entered when it begins, and left when it ends.
        prepare: What happens before the first start.
        has_meanwhile: Whether people start servers while it lasts.
        ends_starts: Whether it lasts until these starts have ended.
        is_hopeless: Whether no server can start while it lasts.
        hub_restarts: Whether the hub restarts at its end.
        is_compared: Whether stock KubeSpawner goes through the same.
    """

    title: str
    lasts: Callable[[Scene], AbstractAsyncContextManager[None]]
    prepare: Callable[[Scene], Awaitable[None]] | None = None
    has_meanwhile: bool = True
    ends_starts: bool = False
    is_hopeless: bool = False
    hub_restarts: bool = False
    is_compared: bool = False

    def __str__(self) -> str:
        return self.title


class Scene:
    """A control plane, a hub, and people.

    Args:
        control_plane: The control plane.
        directory: Where it may write.
        is_stock: Whether servers are started by stock KubeSpawner.
        starts: How many people start servers in an outage.
    """

    def __init__(self, control_plane: BreakableControlPlane, directory: Path, starts: int, *, is_stock: bool) -> None:
        self.control_plane = control_plane
        self.token_file, self.ca_file = directory / "token", directory / "ca.crt"
        self.clock = Clock()
        self.copy = Path()
        self._count = starts
        self.is_stock = is_stock
        self._hub = InProcessHub(directory, self._config(directory))
        self._starts: dict[str, Start] = {}
        self._begun: set[str] = set()
        self._number = itertools.count()
        self._most_failures = 0
        # The document's number as it was last written, and as the API server has last confirmed it.
        self._written = self.confirmed = 0
        self._may_write = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A hub that runs as in a pod of the cluster, and its users."""
        self.renew_token()
        self.renew_authority()
        connector = aiohttp.TCPConnector(ssl=self.control_plane.trust)
        headers = {"Authorization": f"Bearer {self.control_plane.admin_token}"}
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as self._admin,
            self._in_cluster(),
        ):
            self._course = _course()
            await self.write()
            writer = asyncio.create_task(self._keep_writing())
            try:
                async with contextlib.AsyncExitStack() as self._stack:
                    await self._stack.enter_async_context(self._hub)
                    users = [f"user-{number}" for number in range(self._count)]
                    (await self._hub.api("POST", "/users", json={"usernames": users})).raise_for_status()
                    yield
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def run(self, outage: Outage) -> OutageResult:
        """Lets an outage happen."""
        result = OutageResult()
        if outage.prepare:
            await outage.prepare(self)
        settings = self._hub.app.tornado_application.settings
        settings["failure_count"] = self._most_failures = 0
        before, self._starts = samples(), {}
        health = asyncio.create_task(self._watch_health(result))
        quarter = self._count // 4
        self.go_on_writing()
        starting = self._start_many("before", range(quarter))
        await until(lambda: sum(start.given != "no pod" for start in self._starts.values()) >= quarter // 2)
        async with outage.lasts(self):
            if outage.has_meanwhile:
                meanwhile = self._start_many("meanwhile", range(quarter, 3 * quarter))
                starting += meanwhile
                await until(lambda: all(start.name in self._begun for start in self._starts.values()))
                if outage.ends_starts:
                    await asyncio.gather(*meanwhile)
                    result.failure_count = self._most_failures
        if outage.hub_restarts:
            await asyncio.gather(*starting)
            health.cancel()
            await self._restart_hub()
            health = asyncio.create_task(self._watch_health(result))
        self.clock.forward(_LONGEST_PAUSE_SECONDS)
        starting += self._start_many("after", range(3 * quarter, self._count))
        await asyncio.gather(*starting)
        result.starts = list(self._starts.values())
        result.counted = _counted(before, samples())
        await self._clean_up(result)
        result.valid = samples().get(("document_valid", SOURCE, ""))
        health.cancel()
        return result

    async def _clean_up(self, result: OutageResult) -> None:
        """Starts again what has failed, stops everything, and looks what is left."""
        pods, active = self._list("pods"), self._find_active()
        result.orphans = sorted(pods - active)
        result.lost = sorted(active - pods)
        failed = [(start.user, start.name) for start in result.starts if start.status != 201]
        result.again = [self._make_start("after", *who) for who in [*failed, *map(_split, result.orphans)]]
        # A server that could not be tried again is one that was not lost.
        result.again = list({start.fullname: start for start in result.again}.values())
        await asyncio.gather(*map(self._start, result.again))
        await asyncio.gather(*(self._stop(*_split(name)) for name in self._find_active()))
        result.left_pods = sorted(self._list("pods"))
        got = {start.fullname for start in [*result.starts, *result.again] if start.status == 201}
        asked = {start.fullname for start in result.starts}
        result.left_claims = sorted(asked & self._list("persistentvolumeclaims") - got)
        if not self.is_stock:
            reservations = get_reservations(self._hub.app.hub)
            result.left_reservations = [
                server.name for quota in reservations.quotas for server in reservations.list_servers(quota, "")
            ]

    def _start_many(self, when: When, numbers: range) -> list[asyncio.Task[None]]:
        """Starts servers of some users; every fourth start has the policy that refuses it if reading fails."""
        starts = [self._make_start(when, f"user-{number}", is_strict=number % 4 == 0) for number in numbers]
        self._starts |= {start.name: start for start in starts}
        return [asyncio.create_task(self._start(start)) for start in starts]

    def _make_start(self, when: When, user: str, name: str = "", *, is_strict: bool = False) -> Start:
        return Start(user, name or f"s{next(self._number)}", when, "fail" if is_strict else "last-good", self.confirmed)

    async def _start(self, start: Start) -> None:
        self._starts[start.name] = start
        path = f"/users/{start.user}/servers/{start.name}"
        start.status = (await self._hub.api("POST", path)).status
        # A start that succeeds sets the count to zero, and may have begun long before.
        settings = self._hub.app.tornado_application.settings
        self._most_failures = max(self._most_failures, settings["failure_count"])
        if start.status != 201:
            spawner = self._hub.app.users[start.user].spawners[start.name]
            start.error = type(spawner._spawn_future.exception()).__name__

    async def _stop(self, user: str, name: str) -> None:
        (await self._hub.api("DELETE", f"/users/{user}/servers/{name}")).raise_for_status()

    async def start_one(self) -> Start:
        """Starts one more server, and returns it when it runs."""
        start = self._make_start("before", "user-0")
        await self._start(start)
        return start

    async def stop_one(self, start: Start) -> None:
        """Stops it."""
        await self._stop(start.user, start.name)

    async def wait_for_starts(self) -> None:
        """Waits until all starts so far have ended."""
        await until(lambda: all(start.status for start in self._starts.values()))

    def _find_active(self) -> set[str]:
        active = [spawner for spawner in self._list_spawners() if spawner.active and spawner.name]
        return {f"{spawner.user.name}--{spawner.name}" for spawner in active}

    def _list_spawners(self) -> list[Any]:
        return [spawner for user in self._hub.app.users.values() for spawner in user.spawners.values()]

    def _list(self, resource: str) -> set[str]:
        """The full names of the servers that such objects belong to."""
        items = self.control_plane.request("GET", self._path(resource))["items"]
        return {item["metadata"]["name"].partition("-")[2] for item in items}

    def _path(self, resource: str, name: str = "") -> str:
        return self.control_plane.path("v1", resource, NAMESPACE, name)

    async def _watch_health(self, result: OutageResult) -> None:
        while True:
            result.health[(await self._hub.api("GET", "/../health")).status] += 1
            await asyncio.sleep(0.2)

    async def _restart_hub(self) -> None:
        await self._stack.aclose()
        await forget_clients()
        # All that a hub knows of documents.
        await until(lambda: not any(file.is_writing for file in last_good.all_files.values()))
        cache.all_stores.clear()
        last_good.all_files.clear()
        await self._stack.enter_async_context(self._hub)
        # It looks after the servers that it knows of.
        await until(lambda: not any(spawner.pending for spawner in self._list_spawners()))

    def renew_token(self, *, expires_in_seconds: float = _HOUR) -> None:
        """Writes a new token into the file that the hub's pod has it in, as the kubelet does."""
        token = self.control_plane.sign_token(NAMESPACE, "hub", expires_in_seconds=expires_in_seconds)
        self.token_file.write_text(token)

    def renew_authority(self) -> None:
        """Writes the API server's authority into the file that the hub's pod has it in."""
        self.ca_file.write_bytes(self.control_plane.ca_file.read_bytes())

    @contextlib.asynccontextmanager
    async def _in_cluster(self) -> AsyncIterator[None]:
        """Lets KubeSpawner find the API server as it does in a pod."""
        host, _, port = self.control_plane.url.removeprefix("https://").partition(":")
        replaced = {
            "SERVICE_TOKEN_FILENAME": str(self.token_file),
            "SERVICE_CERT_FILENAME": str(self.ca_file),
            # The client reads the token again after a minute; nobody should have to wait for that.
            "TOKEN_REFRESH_PERIOD": datetime.timedelta(0),
        }
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        with (
            mock.patch.multiple(incluster_config, **replaced),
            mock.patch.object(Configuration, "_default", None),
            mock.patch.dict(os.environ, environment),
        ):
            try:
                yield
            finally:
                await forget_clients()

    def _config(self, directory: Path) -> Config:
        config = Config()
        config.JupyterHub.log_level = logging.WARNING
        config.JupyterHub.concurrent_spawn_limit = 0
        config.JupyterHub.allow_named_servers = True
        # Else each request spends milliseconds on the token's hash.
        config.JupyterHub.trust_user_provided_tokens = True
        config.JupyterHub.db_url = f"sqlite:///{directory}/hub.sqlite"
        config.KubeSpawner.namespace = NAMESPACE
        config.KubeSpawner.image = "quay.io/example/notebook:1"
        config.KubeSpawner.events_enabled = False
        config.KubeSpawner.poll_interval = 0
        config.KubeSpawner.k8s_api_request_timeout = _REQUEST_SECONDS
        # What the host's own errors come to is counted, and does not end the hub.
        config.KubeSpawner.consecutive_failure_limit = 0
        config.KubeSpawner.storage_pvc_ensure = True
        config.KubeSpawner.pvc_name_template = "claim-{user_server}"
        config.KubeSpawner.storage_capacity = "1Gi"
        # Configuration is copied deeply: a function is not, a method would be, with all that it belongs to.
        config.KubeSpawner.pre_spawn_hook = lambda spawner: self._begin(spawner)
        config.KubeSpawner.modify_pod_hook = lambda spawner, pod: self._note(spawner, pod)
        config.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
        if self.is_stock:
            config.JupyterHub.spawner_class = KubeSpawner
        return config

    def _begin(self, spawner: KubeSpawner) -> None:
        self._begun.add(spawner.name)
        if not self.is_stock:
            spawner.failure_policy = self._starts[spawner.name].policy

    def _note(self, spawner: KubeSpawner, pod: Any) -> Any:
        """Notes what a pod is given, when it is made."""
        start = self._starts[spawner.name]
        variables = {variable.name: variable.value for variable in pod.spec.containers[0].env}
        start.most = self._written
        start.has_course = "COURSE" in variables
        if "NUMBER" in variables:
            start.number = int(variables["NUMBER"])
            start.given = "current" if spawner.snapshot.fault is None else "last good"
        else:
            start.given = "no profiles"
        return pod

    async def write(self) -> str:
        """Writes the document with the next number, and returns its resourceVersion."""
        self._written += 1
        number = self._written
        text = (
            f"profiles: [{{env: {{NUMBER: '{number}'}}}}, {{{self._course}, env: {{COURSE: x}}}}]\n"
            "quotas: [{name: everybody, hard: {pods: 100000}}]\n"
        )
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIGMAP, "namespace": NAMESPACE},
            "data": {KEY: text},
        }
        url = f"{self.control_plane.url}/api/v1/namespaces/{NAMESPACE}/configmaps"
        async with self._admin.put(f"{url}/{CONFIGMAP}", json=manifest) as answer:
            status, obj = answer.status, await answer.json()
        if status == 404:
            async with self._admin.post(url, json=manifest) as answer:
                status, obj = answer.status, await answer.json()
        assert status in (200, 201), obj
        self.confirmed = number
        version: str = obj["metadata"]["resourceVersion"]
        return version

    async def _keep_writing(self) -> None:
        while True:
            await self._may_write.wait()
            # The API server may be away.
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                await self.write()
            await asyncio.sleep(0.2)

    async def stop_writing(self) -> None:
        """Lets nobody edit the document. Returns when its number is certain."""
        self._may_write.clear()
        await until(lambda: self._written == self.confirmed)

    def go_on_writing(self) -> None:
        self._may_write.set()

    def turn_back(self, number: int) -> None:
        """From now on, the document with this number is the newest, for starts that have not ended as well."""
        self._written = self.confirmed = number
        for start in self._starts.values():
            if not start.status:
                start.least = min(start.least, number)


def _course() -> str:
    """A profile's period: an hour, half of which is over."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (now + datetime.timedelta(minutes=minutes) for minutes in (-30, 30))
    return f"from: '{begin:%Y-%m-%d %H:%M}', until: '{end:%Y-%m-%d %H:%M}'"


def _split(fullname: str) -> tuple[str, str]:
    user, _, name = fullname.partition("--")
    return user, name


def _counted(before: Samples, after: Samples) -> dict[str, float]:
    return growth(before, after, SOURCE) | growth(before, after, "")


@contextlib.asynccontextmanager
async def _kill_apiserver(scene: Scene) -> AsyncIterator[None]:
    await scene.control_plane.kill_apiserver()
    yield
    await scene.control_plane.start_apiserver()


@contextlib.asynccontextmanager
async def _kill_etcd(scene: Scene) -> AsyncIterator[None]:
    await scene.control_plane.kill_etcd()
    yield
    await scene.control_plane.start_etcd()


@contextlib.asynccontextmanager
async def _slow(scene: Scene) -> AsyncIterator[None]:
    before = samples()
    async with scene.control_plane.paused():
        yield
        # So much later, no request has an answer. Stock KubeSpawner counts none of its requests.
        await asyncio.sleep(0.2)
        scene.clock.forward(_REQUEST_SECONDS)
        await asyncio.sleep(0.2)
        while not scene.is_stock and "reads_total unavailable" not in growth(before, samples(), SOURCE):
            scene.clock.forward(_REQUEST_SECONDS)
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def _compacted(scene: Scene) -> AsyncIterator[None]:
    await scene.control_plane.forget_history()
    yield


async def _copy_data(scene: Scene) -> None:
    await _copy(scene, scene.control_plane.copy_data)


async def _copy_snapshot(scene: Scene) -> None:
    await _copy(scene, lambda: scene.control_plane.copy_snapshot(find_tool("etcdutl")))


async def _copy(scene: Scene, copy: Callable[[], Awaitable[Path]]) -> None:
    """Copies etcd's data. A server that runs then has stopped when the copy comes back."""
    ghost = await scene.start_one()
    await scene.stop_writing()
    scene.copy, scene.copied = await copy(), scene.confirmed
    await scene.stop_one(ghost)
    # More than what kube-apiserver writes when it starts.
    for _ in range(100):
        await scene.write()


@contextlib.asynccontextmanager
async def _restored(scene: Scene) -> AsyncIterator[None]:
    # A start whose pod is lost would wait for it until its `start_timeout` is over.
    await scene.wait_for_starts()
    await scene.stop_writing()
    await scene.control_plane.kill_apiserver()
    scene.turn_back(scene.copied)
    yield
    await scene.control_plane.restore(scene.copy)


@contextlib.asynccontextmanager
async def _restored_with_the_same_versions(scene: Scene) -> AsyncIterator[None]:
    await scene.wait_for_starts()
    await scene.stop_writing()
    # What the hub has read last.
    version = await scene.write()
    await scene.start_one()
    number = scene.confirmed
    yield
    while True:
        await scene.control_plane.restore(scene.copy)
        scene.turn_back(number)
        # Other content, until it has the version that the hub has read.
        while int(again := await scene.write()) < int(version):
            pass
        if again == version:
            return


@contextlib.asynccontextmanager
async def _token_expired(scene: Scene) -> AsyncIterator[None]:
    scene.renew_token(expires_in_seconds=-_HOUR / 2)
    yield
    scene.renew_token()


@contextlib.asynccontextmanager
async def _token_renewed(scene: Scene) -> AsyncIterator[None]:
    # Accepted for a minute more than it says.
    scene.renew_token(expires_in_seconds=-58)
    old = scene.token_file.read_text()
    await scene.start_one()
    scene.renew_token()
    await until(lambda: not _is_accepted(scene.control_plane, old))
    yield


def _is_accepted(control_plane: BreakableControlPlane, token: str) -> bool:
    path = control_plane.path("v1", "ConfigMap", NAMESPACE, CONFIGMAP)
    try:
        control_plane.request("GET", path, token=token)
    except Exception:  # noqa: BLE001
        return False
    return True


@contextlib.asynccontextmanager
async def _certificate_renewed(scene: Scene) -> AsyncIterator[None]:
    await scene.control_plane.rotate_certificate()
    yield


@contextlib.asynccontextmanager
async def _authority_replaced(scene: Scene) -> AsyncIterator[None]:
    # A start whose pod the hub cannot see any more would wait for it until its `start_timeout` is over.
    await scene.wait_for_starts()
    await scene.control_plane.rotate_certificate(new_authority=True)
    scene.renew_authority()
    yield


def _clock_step(seconds: float) -> Callable[[Scene], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def step(_: Scene) -> AsyncIterator[None]:
        now = time.time
        with mock.patch.object(time, "time", side_effect=lambda: now() + seconds):
            yield

    return step


OUTAGES = [
    Outage("kube-apiserver is killed, and starts again", _kill_apiserver, is_compared=True),
    Outage("etcd is killed, and starts again", _kill_etcd, is_compared=True),
    Outage("kube-apiserver answers nothing for a minute", _slow, is_compared=True),
    Outage("etcd is compacted, and all watches end", _compacted),
    Outage("the token in the hub's pod is renewed, and the old one expires", _token_renewed),
    Outage(
        "the token expires, and is renewed late", _token_expired, ends_starts=True, is_hopeless=True, is_compared=True
    ),
    Outage("the hub's clock is an hour fast for a while", _clock_step(_HOUR), ends_starts=True),
    Outage("the hub's clock is an hour slow for a while", _clock_step(-_HOUR), ends_starts=True),
    Outage("kube-apiserver gets a new certificate of the same authority", _certificate_renewed),
    Outage("etcd is restored from an older copy", _restored, prepare=_copy_data),
    Outage("etcd is restored with `etcdutl snapshot restore --bump-revision`", _restored, prepare=_copy_snapshot),
    Outage(
        "etcd is restored, and other content gets the resourceVersion that the hub has read",
        _restored_with_the_same_versions,
        prepare=_copy_data,
        has_meanwhile=False,
    ),
    Outage(
        "kube-apiserver gets a certificate of a new authority, until the hub restarts",
        _authority_replaced,
        ends_starts=True,
        is_hopeless=True,
        hub_restarts=True,
        is_compared=True,
    ),
]


async def run_outages(
    assets: Assets, outages: list[Outage], *, starts: int, is_stock: bool = False
) -> dict[Outage, OutageResult]:
    """Runs outages on one hub, one after the other.

    Args:
        assets: The binaries of the control plane.
        outages: Which.
        starts: How many people start servers in each.
        is_stock: Whether they are started by stock KubeSpawner.
    """
    # In memory, where there is such a place: a database on a disk takes most of the time.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as directory:
        async with (
            BreakableControlPlane(assets) as control_plane,
            ClusterAPI(control_plane) as api,
            PaperKubelet(api.url),
        ):
            scene = Scene(control_plane, Path(directory), starts, is_stock=is_stock)
            async with scene.open():
                results = {}
                for outage in outages:
                    print(outage, file=sys.stderr, flush=True)
                    results[outage] = await scene.run(outage)
                return results
