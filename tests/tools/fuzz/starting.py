"""What a start takes of the hub's event loop, and what stock KubeSpawner takes for the same pod."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from kubernetes_asyncio.client import V1Pod
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.decide.choices import OPTIONS_KEY
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import Document
from profiled_spawner.errors import ProfiledSpawnerError
from profiled_spawner.hub.kubespawner import no_kubeconfig
from profiled_spawner.sources.cache import Snapshot

__all__ = ["LoopTime", "measure_start"]


@dataclass(slots=True)
class LoopTime:
    """How long something keeps the event loop, in seconds of the processor.

    Attributes:
        total: All of it.
        longest: The longest that nobody else has a turn: in the options, the manifest and the request.
        pod_bytes: The pod as the API server is sent it.
        is_refused: Whether there is no such start.
    """

    total: float
    longest: tuple[float, ...]
    pod_bytes: int
    is_refused: bool


class _Lines(logging.Handler):
    """Formats each line, as a hub's log does, and drops it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


_log = logging.getLogger("fuzz.starting")
_log.setLevel(logging.INFO)
_log.propagate = False
_log.addHandler(_Lines())


@dataclass(slots=True)
class _ApiServer:
    """Creates each pod as it is, or refuses it and quotes it."""

    refuses: bool
    pod: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    status: int = 201
    reason: str = "Created"

    async def request(self, data: str, **_: Any) -> _ApiServer:
        self.pod = data
        if self.refuses:
            self.status, self.reason = 422, "Unprocessable Entity"
        return self

    async def read(self) -> bytes:
        # Most messages are shorter by far; the longest are the costliest to look through.
        return (json.dumps({"message": self.pod[:60_000]}) if self.refuses else self.pod).encode()


@contextlib.contextmanager
def _watch_loop() -> Iterator[list[float]]:
    """Gathers how long each callback that the event loop runs keeps it, but for the one that is running."""
    run = asyncio.Handle._run
    taken: list[float] = []

    def _run(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        try:
            run(handle)
        finally:
            taken.append(time.thread_time() - began)

    asyncio.Handle._run = _run  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


def _make_spawner(kind: type[KubeSpawner], subject: Subject, api_server: _ApiServer) -> Any:
    config = Config()
    config.KubeSpawner.update(namespace="jhub", image=subject.image)
    user = SimpleNamespace(
        name=subject.user,
        id=1,
        url=f"/user/{subject.user}/",
        escaped_name=subject.user,
        groups=[SimpleNamespace(name=name) for name in subject.groups],
    )
    with no_kubeconfig():
        spawner = kind(_mock=True, config=config, user=user)
    spawner.log = _log
    spawner.api.api_client.rest_client.pool_manager.request = api_server.request
    return spawner


async def _start(spawner: KubeSpawner, same_pod: V1Pod | None, api_server: _ApiServer) -> tuple[LoopTime, V1Pod | None]:
    """Takes those steps of a start in which it has something to do with profiles."""
    pod = same_pod
    is_refused = False
    # What a collection takes is the process's own affair.
    gc.collect(0)
    gc.disable()
    steps: list[list[float]] = []

    async def step(awaited: Awaitable[Any]) -> Any:
        with _watch_loop() as taken:
            steps.append(taken)
            # A task of its own, which callbacks of the loop take further.
            return await asyncio.create_task(awaited)  # type: ignore[arg-type]

    try:
        await step(spawner.load_user_options())
        made = await step(spawner.get_pod_manifest())
        pod = same_pod or made
        await step(spawner._make_create_pod_request(pod, 30))
    except Exception as error:
        is_refused = pod is None
        if not api_server.refuses and not isinstance(error, ProfiledSpawnerError):
            raise
    gc.enable()
    return LoopTime(sum(map(sum, steps)), tuple(map(max, steps)), len(api_server.pod), is_refused), pod


async def measure_start(
    document: Document, subject: Subject, *, size: str | None = None, refuses: bool = False, runs: int = 3
) -> tuple[LoopTime, LoopTime]:
    """The least of some runs: of a start with profiles, and of stock KubeSpawner's that is given the same pod.

    Args:
        document: The profiles.
        subject: Whose server it is.
        size: What is chosen for one.
        refuses: Whether the API server takes no pod.
        runs: How many.
    """
    best: list[LoopTime] = []
    pod: V1Pod | None = None
    for kind in (ProfiledKubeSpawner, KubeSpawner):
        times = []
        for _ in range(runs):
            api_server = _ApiServer(refuses)
            spawner = _make_spawner(kind, subject, api_server)
            same_pod = None
            if kind is ProfiledKubeSpawner:
                spawner.snapshot = Snapshot(document, "configmap/jhub/profiles@1")
                spawner.user_options = {} if size is None else {OPTIONS_KEY: {"size": size}}
            elif pod is not None:
                # KubeSpawner's own are of this class.
                same_pod = V1Pod(metadata=pod.metadata, spec=pod.spec, kind=pod.kind, api_version=pod.api_version)
            taken, made = await _start(spawner, same_pod, api_server)
            pod = pod or made
            times.append(taken)
        longest = tuple(map(min, zip(*(each.longest for each in times), strict=True)))
        best.append(replace(min(times, key=lambda each: each.total), longest=longest))
    ours, stock = best
    return ours, stock
