"""Runs the fault table: a hub in front of an API server, and people who start servers while things go wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import itertools
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner import metrics
from profiled_spawner.sources import cache, last_good
from sandbox.api import EmbeddedAPI, Fault
from sandbox.inprocess import InProcessHub, found_by_kubespawner
from sandbox.paperkubelet import PaperKubelet
from sandbox.status import StatusError
from sandbox.waiting import HANG_SECONDS, Clock, until

from .rows import GOOD, KEY, LANES, ROWS, Lane, Row

__all__ = ["BURST", "Cell", "Result", "Samples", "Table", "growth", "run", "samples"]

NAMESPACE = "jhub"
BURST = 200
# For faults that are retried until time is up; the clock is put forward by as much when all have been.
_SHORT_PATIENCE_SECONDS = 30
Samples: TypeAlias = dict[tuple[str, str, str], float]
# A person, and the ConfigMap that nothing happens to.
_BYSTANDER = "bystander"
# A person whose starts are only observed, and the ConfigMap for that: nothing good was ever read of it.
_OBSERVED = "observed"


@dataclass(frozen=True)
class Cell:
    """What came of a fault in a lane.

    Attributes:
        status: The REST API's answer to the start; the worst of several.
        message: What it told the person.
        given: What the pod was given: ``current``, ``last good`` or ``no profiles``; or ``no pod``.
        created: What was created for the person.
        told: What the log says of the ConfigMap from WARNING on, each line with its level.
        counted: By how much the counters of the ConfigMap have grown, such as ``reads_total ok``; no zeros.
        valid: ``document_valid`` of the ConfigMap; None where there is none.
        has_age: Whether there is an age of a last good read.
        again: What the next start was given, after the fault.
        valid_again: ``document_valid`` after that.
    """

    status: int
    message: str
    given: str
    created: list[str]
    told: list[str]
    counted: dict[str, float]
    valid: float | None
    has_age: bool
    again: str
    valid_again: float | None


@dataclass(frozen=True)
class Result:
    """What came of a fault.

    Attributes:
        cells: In each lane.
        healthy: Whether the hub answered meanwhile.
        bystander: What somebody was given meanwhile who has another ConfigMap.
        observed: What the fault came to where a start is only observed: the API server's answer, what the pod was
            given, and what its annotation says.
        spawns: By how much ``spawns_total`` has grown with them all, by outcome; no zeros.
        stall_seconds: For how long the event loop ran nothing else, at most.
    """

    cells: dict[Lane, Cell]
    healthy: bool
    bystander: str
    observed: tuple[int, str, dict[str, Any]]
    spawns: dict[str, float]
    stall_seconds: float


@dataclass
class Table:
    """What came of all.

    Attributes:
        results: Of each fault.
        log: The hub's log from INFO on, each line with its level.
    """

    results: dict[Row, Result] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Server:
    """Whose server it is, and how it is configured; its name tells it from all others."""

    name: str
    user: str
    configmap: str
    policy: str
    patience_seconds: int

    @property
    def fullname(self) -> str:
        return f"{self.user}--{self.name}"


class _Detour:
    """A CoreV1Api that asks another server for ConfigMaps."""

    def __init__(self, api: CoreV1Api, elsewhere: CoreV1Api) -> None:
        self._api = api
        self.read_namespaced_config_map = elsewhere.read_namespaced_config_map

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class _Bench:
    """A hub, its API server, and who starts servers there.

    Args:
        api: The API server.
        unreachable: Clients that reach nothing, by scheme.
    """

    def __init__(self, api: EmbeddedAPI, unreachable: dict[str, CoreV1Api]) -> None:
        self.hub: InProcessHub
        self.table = Table()
        self._clock = Clock()
        self._api = api
        self._unreachable = unreachable
        self._detours: dict[str, CoreV1Api] = {}
        self._servers: dict[str, _Server] = {}
        self._starting = 0
        self._number = itertools.count()

    def config(self) -> Config:
        config = Config()
        config.JupyterHub.concurrent_spawn_limit = 0
        # A person has many servers, as to make a user takes longer than to start one.
        config.JupyterHub.allow_named_servers = True
        # Else each request spends milliseconds on the token's hash.
        config.JupyterHub.trust_user_provided_tokens = True
        config.KubeSpawner.namespace = NAMESPACE
        config.KubeSpawner.image = "quay.io/example/notebook:1"
        config.KubeSpawner.events_enabled = False
        config.KubeSpawner.poll_interval = 0
        # The hub exits at the first failure that counts.
        config.KubeSpawner.consecutive_failure_limit = 1
        config.KubeSpawner.storage_pvc_ensure = True
        config.KubeSpawner.pvc_name_template = "claim-{user_server}"
        config.KubeSpawner.storage_capacity = "1Gi"
        # Configuration is copied deeply: a function is not, a method would be, with all that it belongs to.
        config.KubeSpawner.pre_spawn_hook = lambda spawner: self._configure(spawner)
        config.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
        return config

    def _configure(self, spawner: KubeSpawner) -> None:
        server = self._servers[spawner.name]
        spawner.configmap_name = server.configmap
        spawner.failure_policy = server.policy
        spawner.k8s_api_request_retry_timeout = server.patience_seconds
        if server.user == _OBSERVED:
            spawner.observe_only = True
            # Reading takes a little less than all this time: it ends when the clock has been put forward.
            spawner.k8s_api_request_timeout = _SHORT_PATIENCE_SECONDS + 5
        if server.configmap in self._detours:
            spawner.api = _Detour(spawner.api, self._detours[server.configmap])
        self._starting += 1

    async def run(self, rows: list[Row]) -> None:
        users = [_BYSTANDER, _OBSERVED, *(f"user-{number}" for number in range(BURST))]
        (await self.hub.api("POST", "/users", json={"usernames": users})).raise_for_status()
        self._write(_BYSTANDER, GOOD)
        for number, lane in enumerate(LANES):
            if lane.good_before:
                self._write(_configmap(lane), GOOD)
                assert await self._start(self._server(f"user-{number}", _configmap(lane))) == (201, "")
        for row in rows:
            self.table.results[row] = await self._run_row(row)

    async def _run_row(self, row: Row) -> Result:
        patience_seconds = _SHORT_PATIENCE_SECONDS if row.retried else HANG_SECONDS
        count = BURST if row.restart else len(LANES)
        lanes = {
            self._server(f"user-{number}", _configmap(lane, row), lane.policy, patience_seconds): lane
            for number, lane in zip(range(count), itertools.cycle(LANES), strict=False)
        }
        bystander = self._server(_BYSTANDER, _BYSTANDER)
        watched = f"{_OBSERVED}-{ROWS.index(row)}"
        observed = self._server(_OBSERVED, watched, "fail")
        configmaps = [watched, *(_configmap(lane, row) for lane in LANES)]
        for configmap in configmaps:
            self._strike(row, configmap)
        if row.hub_restarts:
            await until(lambda: not any(file.is_writing for file in last_good.all_files.values()))
            # All that a hub knows of documents.
            cache.all_stores.clear()
            last_good.all_files.clear()
        before, logged = samples(), len(self.table.log)
        self._api.requests.clear()
        self._starting = 0
        with _longest_stall() as stalls:
            starts = asyncio.gather(*map(self._start, lanes))
            other = asyncio.create_task(self._start(bystander))
            watching = asyncio.create_task(self._start(observed))
            await until(lambda: self._starting == len(lanes) + 2)
            healthy = await self._is_healthy()
            await other
            if row.retried or row.restart:
                await until(lambda: all(self._was_tried(row, configmap, before) for configmap in configmaps))
                self._clock.forward(_SHORT_PATIENCE_SECONDS)
            status, _ = await watching
            if row.restart:
                await self._api.stop()
                self._api.faults.clear()
                healthy &= await self._is_healthy()
                await until(lambda: all(_has_failed(_configmap(lane, row), before) for lane in LANES))
                await self._api.start()
            answers = dict(zip(lanes, await starts, strict=True))
        after, log = samples(), self.table.log[logged:]
        given = {server: self._given(server) for server in [*lanes, bystander, observed]}
        created = {server: self._created(server) for server in lanes}

        annotations = self._api.get("pods", NAMESPACE, f"jupyter-{observed.fullname}")["metadata"]["annotations"]
        seen = (status, given[observed], json.loads(annotations["profiled-spawner/observed"]))
        for configmap in configmaps:
            self._lift(configmap)
        again = {
            # The server that did not start is the one to try again.
            lane: self._server(server.user, server.configmap, server.policy)
            if answers[server][0] == 201
            else self._register(dataclasses.replace(server, patience_seconds=HANG_SECONDS))
            for server, lane in lanes.items()
        }
        await asyncio.gather(*map(self._start, again.values()))
        recovered = samples()

        cells = {}
        for lane in LANES:
            configmap = _configmap(lane, row)
            source = f"configmap/{NAMESPACE}/{configmap}"
            servers = [server for server in lanes if lanes[server] == lane]
            status, message = max(answers[server] for server in servers)
            cells[lane] = Cell(
                status=status,
                message=message,
                given=", ".join(sorted({given[server] for server in servers})),
                created=[resource for server in servers for resource in created[server]],
                told=[line for line in log if configmap in line and not line.startswith("INFO")],
                counted=growth(before, after, source),
                valid=after.get(("document_valid", source, "")),
                has_age=("last_good_read_age_seconds", source, "") in after,
                again=self._given(again[lane]),
                valid_again=recovered.get(("document_valid", source, "")),
            )
        spawns = {name.split()[1]: count for name, count in growth(before, after, "").items()}
        return Result(cells, healthy, given[bystander], seen, spawns, max(stalls))

    def _was_tried(self, row: Row, configmap: str, before: Samples) -> bool:
        """Whether a request for it has met the fault."""
        if row.effect.get("effect") == "hang":
            return any(request.name == configmap for request in self._api.requests)
        return _has_failed(configmap, before)

    def _strike(self, row: Row, configmap: str) -> None:
        if row.content is not None:
            self._write(configmap, row.content, row.key)
        else:
            with contextlib.suppress(StatusError):
                self._api.delete("configmaps", NAMESPACE, configmap)
        if row.effect:
            self._api.faults.append(Fault(resource="configmaps", name=configmap, times=None, **row.effect))
        if row.unreachable:
            self._detours[configmap] = self._unreachable[row.unreachable]

    def _lift(self, configmap: str) -> None:
        self._api.faults[:] = [fault for fault in self._api.faults if fault.name != configmap]
        self._detours.pop(configmap, None)
        self._write(configmap, GOOD)

    def _write(self, configmap: str, content: str | bytes, key: str = KEY) -> None:
        manifest: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            # What is written as it was would be no new version.
            "metadata": {
                "name": configmap,
                "namespace": NAMESPACE,
                "annotations": {"written": str(next(self._number))},
            },
        }
        if isinstance(content, bytes):
            manifest["binaryData"] = {key: base64.b64encode(content).decode()}
        else:
            manifest["data"] = {key: content}
        self._api.put(manifest)

    def _server(
        self, user: str, configmap: str, policy: str = "last-good", patience_seconds: int = HANG_SECONDS
    ) -> _Server:
        return self._register(_Server(f"s{next(self._number)}", user, configmap, policy, patience_seconds))

    def _register(self, server: _Server) -> _Server:
        self._servers[server.name] = server
        return server

    async def _start(self, server: _Server) -> tuple[int, str]:
        path = f"/users/{server.user}/servers/{server.name}"
        response = await self.hub.api("POST", path)
        return response.status, "" if response.status == 201 else (await response.json())["message"]

    async def _is_healthy(self) -> bool:
        return (await self.hub.api("GET", "/../health")).status == 200

    def _given(self, server: _Server) -> str:
        try:
            pod = self._api.get("pods", NAMESPACE, f"jupyter-{server.fullname}")
        except StatusError:
            return "no pod"
        source = pod["metadata"]["annotations"].get("profiled-spawner/source")
        if not any(variable["name"] == "MARK" for variable in pod["spec"]["containers"][0]["env"]):
            return "no profiles" if source is None else f"nothing, from {source}"
        try:
            configmap = self._api.get("configmaps", NAMESPACE, server.configmap)
        except StatusError:
            return "last good"
        return "current" if source.endswith(f"@{configmap['metadata']['resourceVersion']}") else "last good"

    def _created(self, server: _Server) -> list[str]:
        found = []
        for resource, prefix in (("pods", "jupyter"), ("persistentvolumeclaims", "claim")):
            with contextlib.suppress(StatusError):
                self._api.get(resource, NAMESPACE, f"{prefix}-{server.fullname}")
                found.append(resource)
        return found


def _configmap(lane: Lane, row: Row | None = None) -> str:
    """The lane's own; without a last good document, one that was never read."""
    if lane.good_before:
        return f"{lane.policy}-known"
    assert row is not None
    return f"{lane.policy}-unread-{ROWS.index(row)}"


def _has_failed(configmap: str, before: Samples) -> bool:
    """Whether a request for it has failed since."""
    return "reads_total unavailable" in growth(before, samples(), f"configmap/{NAMESPACE}/{configmap}")


def samples() -> Samples:
    """The metrics, by name, source and outcome."""
    series = (metrics.READS, metrics.PARSES, metrics.DOCUMENT_VALID, metrics.DOCUMENT_AGE, metrics.SPAWNS)
    return {
        (
            sample.name.removeprefix("profiled_spawner_"),
            sample.labels.get("source", ""),
            sample.labels.get("outcome", ""),
        ): sample.value
        for metric in series
        for family in metric.collect()
        for sample in family.samples
    }


def growth(before: Samples, after: Samples, source: str) -> dict[str, float]:
    """By how much the counters of a source have grown, by name and outcome."""
    return {
        f"{name} {outcome}": value - before.get((name, of, outcome), 0)
        for (name, of, outcome), value in after.items()
        if name.endswith("_total") and of == source and value != before.get((name, of, outcome), 0)
    }


@contextlib.contextmanager
def _longest_stall() -> Iterator[list[float]]:
    """Measures for how long the event loop does not come round, by a task that wants to run every few milliseconds."""
    interval_seconds = 0.005
    stalls = [0.0]

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(interval_seconds)
            stalls.append(time.monotonic() - before - interval_seconds)

    ticker = asyncio.create_task(tick())
    try:
        yield stalls
    finally:
        ticker.cancel()


class _Log(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname}: {record.getMessage()}")


@contextlib.contextmanager
def _logged(lines: list[str]) -> Iterator[None]:
    root, handler = logging.getLogger(), _Log(lines)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@contextlib.asynccontextmanager
async def _unreachable_servers(directory: Path) -> AsyncIterator[dict[str, CoreV1Api]]:
    """Clients of a port where nobody listens, and of a server whose certificate nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_write_certificate(directory))
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        )
        port = server.sockets[0].getsockname()[1]
        hosts = {"http": "http://127.0.0.1:1", "https": f"https://127.0.0.1:{port}"}
        yield {
            scheme: CoreV1Api(await stack.enter_async_context(ApiClient(Configuration(host=host))))
            for scheme, host in hosts.items()
        }


def _write_certificate(directory: Path) -> Path:
    """A self-signed certificate, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(encoding, form, serialization.NoEncryption()) + certificate.public_bytes(encoding)
    )
    return path


async def run(directory: Path, rows: list[Row]) -> Table:
    """Runs rows in all lanes, one row after the other.

    Args:
        directory: Where it may write.
        rows: Which.
    """
    async with (
        EmbeddedAPI(namespaces=(NAMESPACE,)) as api,
        found_by_kubespawner(api.kubeconfig(), directory),
        PaperKubelet(api.url),
        _unreachable_servers(directory) as unreachable,
    ):
        bench = _Bench(api, unreachable)
        with _logged(bench.table.log):
            async with InProcessHub(directory, bench.config()) as bench.hub:
                await bench.run(rows)
    return bench.table
