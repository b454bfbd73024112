"""The far side of the wire in a process of its own: an API server and a kubelet, so that what they cost is not ours.

`FarSide` starts it and tells it what to do, in lines of JSON. The API server is the embedded one, or a real one: then
KubeSpawner talks to kube-apiserver directly, and only the kubelet's requests go through the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes_asyncio.config import kube_config

from cluster.api import ClusterAPI
from cluster.apiserver import ControlPlane
from cluster.assets import find_assets
from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet

NAMESPACE = "jhub"
CONFIGMAP = "jupyter-singleuser-profiles"
KEY = "jupyterhub-singleuser-profiles.yaml"
LABEL = "profiled-spawner-bench"


class FarSide:
    """Runs the API server as long as its context lasts, and makes KubeSpawner's client find it.

    Args:
        is_real: Whether it is a real kube-apiserver, with etcd. Delays and counts are for the embedded one.

    Attributes:
        kubeconfig: The file that says where it is.
    """

    kubeconfig: Path

    def __init__(self, *, is_real: bool = False) -> None:
        self.is_real = is_real

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="profiled-spawner-bench-")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.farside",
            *(["real"] if self.is_real else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.kubeconfig = Path(self._directory.name) / "kubeconfig"
        self.kubeconfig.write_text(await self._ask("kubeconfig"))
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(self.kubeconfig)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        self._directory.cleanup()

    async def write(self, document: str) -> None:
        """Puts a document into the ConfigMap."""
        await self._ask("write", document)

    async def write_selected(self, configmaps: int, document: str, other_bytes: int) -> None:
        """Puts a document into each of so many ConfigMaps with the label, beside so many bytes of something else."""
        await self._ask("write_selected", configmaps, document, other_bytes)

    async def delay(self, seconds: float) -> None:
        """Makes every answer for a ConfigMap take so long from now on."""
        await self._ask("delay", seconds)

    async def delete_pods(self) -> None:
        """Deletes every pod."""
        await self._ask("delete_pods")

    async def count_reads(self) -> int:
        """How many requests for a ConfigMap there have been since this was last asked."""
        return int(await self._ask("count_reads"))

    async def _ask(self, *order: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        return json.loads(await stdout.readline())


class _Orders:
    """What each order does."""

    def __init__(self, api: EmbeddedAPI, kubeconfig: str) -> None:
        self._api = api
        self._kubeconfig = kubeconfig

    def kubeconfig(self) -> str:
        return self._kubeconfig

    def write(self, document: str) -> None:
        self._api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": CONFIGMAP, "namespace": NAMESPACE},
                "data": {KEY: document},
            }
        )

    def write_selected(self, configmaps: int, document: str, other_bytes: int) -> None:
        for number in range(configmaps):
            self._api.put(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": f"team-{number:03d}", "namespace": NAMESPACE, "labels": {LABEL: "selected"}},
                    "data": {KEY: document, "other": "x" * other_bytes},
                }
            )

    def delay(self, seconds: float) -> None:
        self._api.faults[:] = [Fault(delay=seconds, resource="configmaps", times=None)] if seconds else []

    def delete_pods(self) -> None:
        for pod in self._api.list("pods", NAMESPACE):
            self._api.delete("pods", NAMESPACE, pod["metadata"]["name"], grace_period_seconds=0)

    def count_reads(self) -> int:
        count = sum(request.resource == "configmaps" for request in self._api.requests)
        self._api.requests.clear()
        return count


async def _serve() -> None:
    lines = asyncio.StreamReader(limit=8 * 2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with contextlib.AsyncExitStack() as stack:
        if sys.argv[1:] == ["real"]:
            control_plane = await stack.enter_async_context(ControlPlane(find_assets()))
            api: EmbeddedAPI = await stack.enter_async_context(ClusterAPI(control_plane))
            kubeconfig = control_plane.kubeconfig(token=control_plane.service_account_token(NAMESPACE, "hub"))
        else:
            api = await stack.enter_async_context(EmbeddedAPI(namespaces=(NAMESPACE,), history=100_000))
            kubeconfig = api.kubeconfig()
        await stack.enter_async_context(PaperKubelet(api.url))
        orders = _Orders(api, kubeconfig)
        async for line in lines:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(orders, name)(*arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
