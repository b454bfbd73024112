"""A cluster: a control plane with its scheduler and controllers, and nodes that KWOK pretends to be.

A pod gets its node from the scheduler, runs as soon as it has one, and has a loopback address of its own. Nothing runs
there: whoever listens on all addresses of this machine answers for every pod.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self

from cluster.apiserver import ControlPlane, ControlPlaneError
from cluster.assets import find_assets, find_tool
from sandbox.process import Process
from sandbox.status import Object, StatusError
from sandbox.waiting import until

__all__ = ["PROGRAMS", "Cluster"]

PROGRAMS = ("kube-controller-manager", "kube-scheduler", "kwok")
"""What it needs beside a control plane's programs."""

_STAGES = Path(__file__).with_name("kwok.yaml")
# KWOK is only for these; another kubelet may have the others.
_MANAGED = "kwok.x-k8s.io/node"


class Cluster(ControlPlane):
    """A cluster for as long as its context lasts; it has no nodes at first.

    Raises:
        AssetsUnavailableError: A program is missing.
    """

    def __init__(self) -> None:
        super().__init__(find_assets())
        self._programs = {name: find_tool(name) for name in PROGRAMS}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            kubeconfig = self._directory / "admin.kubeconfig"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(self.kubeconfig())
            options = self._options()
            processes = [await self._run(name, f"--kubeconfig={kubeconfig}", *options[name]) for name in PROGRAMS]
            # Of what the controllers do, this comes last: a pod may be created.
            await until(lambda: self._has("ServiceAccount", "default", "default", *processes))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    def add_node(
        self,
        name: str,
        *,
        labels: dict[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
        is_managed: bool = True,
        **amounts: Any,
    ) -> None:
        """Add a node that is ready as soon as KWOK has seen it.

        Args:
            name: The node's name.
            labels: Its labels.
            taints: Its taints, as in its `spec`.
            is_managed: Whether KWOK runs its pods; if not, the node never becomes ready by itself.
            amounts: What it has beside 64 CPUs and 256 GiB for 100 pods, such as ``**{"nvidia.com/gpu": 2}``.
        """
        capacity = {"cpu": "64", "memory": "256Gi", "pods": "100", **{key: str(n) for key, n in amounts.items()}}
        metadata: dict[str, Any] = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        if is_managed:
            metadata["annotations"] = {_MANAGED: "fake"}
        node = self.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": metadata,
                "spec": {"taints": taints or []},
                "status": {"capacity": capacity, "allocatable": capacity},
            }
        )
        assert node["status"]["allocatable"] == capacity

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return an object of the core group.

        Raises:
            StatusError: There is none.
        """
        found: Object = self.request("GET", self.path("v1", kind, namespace, name))
        return found

    def list(self, kind: str, namespace: str = "") -> list[Object]:
        """Return the objects of a kind of the core group."""
        found: list[Object] = self.request("GET", self.path("v1", kind, namespace))["items"]
        return found

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object of the core group, as far as nothing holds it.

        Raises:
            StatusError: There is none.
        """
        self.request("DELETE", self.path("v1", kind, namespace, name))

    async def _run(self, name: str, *options: str) -> Process:
        process = await self._start(name, [str(self._programs[name]), *options])
        self._stack.push_async_callback(process.stop, 5)
        return process

    def _options(self) -> dict[str, list[str]]:
        """The options of each of `PROGRAMS`."""
        # By the port, as in the sandbox: the pods of two clusters never have the same address.
        pods = f"127.{self._port >> 8}.{self._port & 0xFF}.0/24"
        return {
            "kube-controller-manager": [
                "--leader-elect=false",
                "--secure-port=0",
                f"--service-account-private-key-file={self._signing_key}",
                f"--root-ca-file={self.ca_file}",
            ],
            "kube-scheduler": ["--leader-elect=false", "--secure-port=0"],
            "kwok": [
                f"--config={_STAGES}",
                f"--manage-nodes-with-annotation-selector={_MANAGED}=fake",
                f"--cidr={pods}",
                "--node-ip=127.0.0.1",
            ],
        }

    def _has(self, kind: str, namespace: str, name: str, *processes: Process) -> bool:
        for program, process in zip(PROGRAMS, processes, strict=True):
            if process.has_ended:
                raise ControlPlaneError(self._log_tail(program))
        with contextlib.suppress(StatusError):
            self.get(kind, namespace, name)
            return True
        return False
