"""A stand-in kubelet that runs nothing: every pod is Running at once, at one address.

For tests of the spawner and of a hub in the test's own process, where what is behind the pod's address is not the
point. It talks to the API server as any kubelet does, so it serves a real one too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes_asyncio.watch import Watch


class PaperKubelet:
    """Sets the status of every pod of an API server, for as long as its context lasts.

    Args:
        api_url: The API server.
        pod_ip: The address that every pod is said to have.
    """

    def __init__(self, api_url: str, *, pod_ip: str = "127.0.0.1") -> None:
        self._client = ApiClient(Configuration(host=api_url))
        self._core = CoreV1Api(self._client)
        self._pod_ip = pod_ip
        self._reporting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in (self._watching, *self._reporting):
            task.cancel()
        await asyncio.gather(self._watching, *self._reporting, return_exceptions=True)
        await self._client.close()

    async def _watch(self) -> None:
        while True:
            # The API server of a test may be away for a while.
            with suppress(ApiException, ClientError, TimeoutError):
                async with Watch() as watch:
                    async for change in watch.stream(self._core.list_pod_for_all_namespaces, timeout_seconds=300):
                        if change["type"] == "ADDED":
                            task = asyncio.create_task(self._report(change["object"]))
                            self._reporting.add(task)
                            task.add_done_callback(self._reporting.discard)
            await asyncio.sleep(0.05)

    async def _report(self, pod: Any) -> None:
        if pod.status and pod.status.phase == "Running":
            return
        status = {
            "phase": "Running",
            "podIP": self._pod_ip,
            "containerStatuses": [
                {
                    "name": container.name,
                    "image": container.image,
                    "imageID": "sandbox",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
                for container in pod.spec.containers
            ],
        }
        while True:
            try:
                await self._core.patch_namespaced_pod_status(
                    pod.metadata.name,
                    pod.metadata.namespace,
                    {"status": status},
                    _content_type="application/merge-patch+json",
                )
            except (ApiException, ClientError) as error:
                # As a kubelet does, it tries again while the API server is away. The pod may be gone by now.
                if isinstance(error, ApiException) and error.status < 500:
                    return
                await asyncio.sleep(0.05)
            else:
                return
