"""The far side of the wire: pods in a dictionary, and requests that wait until somebody lets them go on."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from kubernetes_asyncio.client import ApiException, V1Pod

from profiled_spawner.pod.patch import to_manifest

__all__ = ["Cluster"]


class Cluster:
    """Stands in for KubeSpawner's API client and for its reflector of pods.

    Attributes:
        pods: The pods by namespace and name, as the reflector has them.
        behaviour: What the next creation of a pod does, by the pod's name: ``run``, ``pend``, ``hold``, ``refuse`` or
            ``break``.
        held: Creations and deletions that wait, by the pod's name.
        holds_deletions: Whether deletions wait.
    """

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.behaviour: dict[str, str] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.holds_deletions = False
        self._uids = itertools.count()

    async def create_namespaced_pod(self, namespace: str, pod: V1Pod) -> None:
        name = pod.metadata.name
        behaviour = self.behaviour.get(name, "run")
        if behaviour == "hold":
            await self._wait(name)
        if behaviour in ("refuse", "break"):
            raise ApiException(status=403 if behaviour == "refuse" else 500)
        if f"{namespace}/{name}" in self.pods:
            raise ApiException(status=409)
        self.pods[f"{namespace}/{name}"] = {
            "metadata": {"name": name, "uid": f"{next(self._uids)}", "annotations": pod.metadata.annotations},
            "spec": to_manifest(pod.spec),
            "status": {"phase": "Pending"},
        }
        if behaviour != "pend":
            self.run(namespace, name)

    async def delete_namespaced_pod(self, name: str, namespace: str, **_: Any) -> None:
        if self.holds_deletions:
            await self._wait(name)
        if self.pods.pop(f"{namespace}/{name}", None) is None:
            raise ApiException(status=404)

    def run(self, namespace: str, name: str) -> None:
        """Makes a pending pod run."""
        self.pods[f"{namespace}/{name}"]["status"] = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": [{"name": "notebook", "ready": True, "state": {"running": {}}}],
        }

    def let_go(self, name: str) -> None:
        """Lets a creation or a deletion go on."""
        self.held.pop(name).set()

    async def _wait(self, name: str) -> None:
        event = self.held[name] = asyncio.Event()
        try:
            await event.wait()
        finally:
            if self.held.get(name) is event:
                del self.held[name]
