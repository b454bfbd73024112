"""What a kubelet tells the API server about a pod: its node, its status, its events, its end."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from kubernetes_asyncio.client import (
    ApiException,
    CoreV1Api,
    V1Binding,
    V1ObjectMeta,
    V1ObjectReference,
    V1Pod,
)

NODE_NAME = "sandbox"
NODE_ADDRESS = "127.0.0.1"


class PodStatus:
    """The status of one pod with one container, as far as the API server knows it.

    Attributes:
        pod: The pod as the API server had it last.
        address: The pod's own IP address, once it has one.
    """

    def __init__(self, core: CoreV1Api, pod: V1Pod, container_name: str) -> None:
        self.pod = pod
        self.address: str | None = None
        self._core = core
        self._container_name = container_name
        self._restarts = 0
        self._last_state: dict[str, Any] = {}

    async def bind(self) -> None:
        """Bind the pod to the node, which is the scheduler's part."""
        name, namespace = self.pod.metadata.name, self.pod.metadata.namespace
        if not self.pod.spec.node_name:
            node = V1ObjectReference(kind="Node", name=NODE_NAME)
            binding = V1Binding(metadata=V1ObjectMeta(name=name), target=node)
            # The client cannot read the answer, which is a Status and not a Binding.
            await self._core.create_namespaced_pod_binding(name, namespace, binding, _preload_content=False)
        await self.emit("Scheduled", f"Assigned {namespace}/{name} to this machine", component="scheduler")

    async def wait(self, phase: str, reason: str, message: str = "") -> None:
        """Report a container that waits, and what for."""
        await self._write(phase, state={"waiting": {"reason": reason, "message": message}})

    async def run(self) -> None:
        """Report a container that runs; with no probes to pass it is ready, too."""
        await self._write("Running", ready=True, state={"running": {"startedAt": _now()}})

    async def end(self, exit_code: int, message: str = "", *, restarted: bool) -> None:
        """Report a container that has ended.

        Args:
            exit_code: Its exit code.
            message: Why, where the exit code does not say it.
            restarted: Whether it will be restarted; if not, the pod has ended with it.
        """
        reason = "Error" if exit_code else "Completed"
        state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": reason,
                "message": message,
                "finishedAt": _now(),
            }
        }
        phase = "Running" if restarted else "Failed" if exit_code else "Succeeded"
        await self._write(phase, state=state)
        self._last_state = state
        self._restarts += restarted

    async def refuse(self, message: str) -> None:
        """Report a pod whose container will never run."""
        await self.emit("Failed", f"Refused by the sandbox: {message}", type_="Warning")
        await self._write("Failed", reason="SandboxRefused", message=message)

    async def emit(self, reason: str, message: str, *, type_: str = "Normal", component: str = "kubelet") -> None:
        """Write an event about the pod; KubeSpawner shows them on the progress page."""
        metadata, now = self.pod.metadata, _now()
        event = {
            # Named as client-go does it: KubeSpawner sorts by the second, and its reflector lists by name.
            "metadata": {"name": f"{metadata.name}.{time.time_ns():x}", "namespace": metadata.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
            },
            "reason": reason,
            "message": message,
            "type": type_,
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": NODE_NAME,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._core.create_namespaced_event(metadata.namespace, event)

    async def remove(self) -> None:
        """Delete the pod for good, now that its container has ended."""
        with objects_may_be_missing():
            await self._core.delete_namespaced_pod(
                self.pod.metadata.name,
                self.pod.metadata.namespace,
                body={"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod.metadata.uid}},
            )

    async def _write(
        self,
        phase: str,
        *,
        ready: bool = False,
        state: dict[str, Any] | None = None,
        reason: str | None = None,
        message: str | None = None,
    ) -> None:
        conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        status: dict[str, Any] = {
            "phase": phase,
            "reason": reason,
            "message": message,
            "hostIP": NODE_ADDRESS,
            "podIP": self.address,
            "podIPs": [{"ip": self.address}] if self.address else None,
            "conditions": [
                {"type": type_, "status": str(value), "lastTransitionTime": _now()}
                for type_, value in conditions.items()
            ],
        }
        if state:
            status["containerStatuses"] = [
                {
                    "name": self._container_name,
                    "image": next(c.image for c in self.pod.spec.containers if c.name == self._container_name),
                    "imageID": "this-python",
                    "ready": ready,
                    "started": ready,
                    "restartCount": self._restarts,
                    "state": state,
                    "lastState": self._last_state,
                }
            ]
        with objects_may_be_missing():
            self.pod = await self._core.patch_namespaced_pod_status(
                self.pod.metadata.name,
                self.pod.metadata.namespace,
                # With the uid: a pod of the same name may have taken this one's place.
                {"metadata": {"uid": self.pod.metadata.uid}, "status": status},
                _content_type="application/merge-patch+json",
            )


@contextlib.contextmanager
def objects_may_be_missing() -> Iterator[None]:
    """Go on where the object is not there, or another one of the same name is."""
    try:
        yield
    except ApiException as exc:
        if exc.status not in (404, 409):
            raise


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
