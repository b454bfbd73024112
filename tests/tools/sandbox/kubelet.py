"""A stand-in kubelet: runs each pod's notebook container as a process of this machine.

It does what KubeSpawner and a single-user server can see a kubelet do: binds pods to a node, gives each an
address, resolves its environment, reports status and events, restarts what failed, ends what is deleted. It
isolates nothing, enforces no limit and pulls no image (see :mod:`sandbox.image`). A pod that asks for what it
cannot do (init containers, probes, volumes that bring files, …) is refused with an event and a ``Failed``
status, rather than run as if that did not matter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from aiohttp import ClientError
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration, CoreV1Api, V1Pod
from kubernetes_asyncio.watch import Watch

from sandbox.podworker import Node, PodWorker

log = logging.getLogger(__name__)


class ProcessKubelet:
    """Runs the pods of an API server as local processes, for as long as its context lasts.

    Args:
        api_url: The API server.
        token: The bearer token that the API server wants, if it wants one.
        directory: Where each container's home directory and log are kept, under ``homes/`` and ``logs/``.
        retry_seconds: How long a container that cannot be configured, or that failed, waits for another try;
            after each failure twice as long, as Kubernetes does it from 10 seconds on.
        ignored: What to leave out of a pod instead of refusing the pod for it, such as ``initContainers``:
            the names of :func:`sandbox.podworker.unsupported`.
        container_started: Called with each pod whose container has been started.
    """

    def __init__(
        self,
        api_url: str,
        directory: Path,
        *,
        token: str = "",
        retry_seconds: float = 10,
        ignored: frozenset[str] = frozenset(),
        container_started: Callable[[V1Pod], None] = lambda pod: None,
    ) -> None:
        self._client = ApiClient(Configuration(host=api_url))
        if token:
            self._client.set_default_header("Authorization", f"Bearer {token}")
        self.node = Node(
            core=CoreV1Api(self._client),
            directory=directory,
            addresses=deque(pod_addresses(api_url)),
            retry_seconds=retry_seconds,
            ignored=ignored,
            container_started=container_started,
        )
        self._workers: dict[str, PodWorker] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for name in ("homes", "logs"):
            (self.node.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(worker.abandon() for worker in self._workers.values()), *self._ending)
        await self._client.close()

    async def _watch(self) -> None:
        """Follow the pods of all namespaces, listing them anew whenever the watch is lost."""
        list_pods = self.node.core.list_pod_for_all_namespaces
        while True:
            try:
                pods = await list_pods()
                for uid in self._workers.keys() - {pod.metadata.uid for pod in pods.items}:
                    self._forget(uid)
                for pod in pods.items:
                    self._observe(pod)
                version = pods.metadata.resource_version
                async with Watch() as watch:
                    async for change in watch.stream(list_pods, resource_version=version, timeout_seconds=300):
                        if change["type"] == "DELETED":
                            self._forget(change["object"].metadata.uid)
                        else:
                            self._observe(change["object"])
            except (ApiException, ClientError, TimeoutError) as exc:
                # "410 Gone" among them, when the watch has fallen too far behind.
                log.debug("watching pods again: %s", exc)
                await asyncio.sleep(0.2)
            except Exception:
                # A fault of ours; the kubelet goes on, as it does after the faults of others.
                log.exception("watching pods again")
                await asyncio.sleep(1)

    def _observe(self, pod: V1Pod) -> None:
        uid = pod.metadata.uid
        if uid not in self._workers:
            if pod.status and pod.status.phase in ("Succeeded", "Failed"):
                return
            self._workers[uid] = PodWorker(self.node, pod)
        if pod.metadata.deletion_timestamp:
            self._workers[uid].terminate(pod.metadata.deletion_grace_period_seconds or 0)

    def _forget(self, uid: str) -> None:
        if worker := self._workers.pop(uid, None):
            ending = worker.vanish()
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def pod_addresses(api_url: str) -> Iterator[str]:
    """Return the loopback addresses that the pods of an API server may have.

    They follow from its port, so that the pods of two sandboxes on one machine never have the same.
    """
    port = urlsplit(api_url).port or 0
    for host in range(2, 255):
        yield f"127.{port >> 8}.{port & 0xFF}.{host}"
