"""One pod's life on the stand-in kubelet's node, from when it is bound to when it is gone."""

import asyncio
import logging
import re
import shutil
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes_asyncio.client import CoreV1Api, V1Container, V1Pod

from sandbox import image
from sandbox.environment import (
    CreateContainerConfigError,
    Reference,
    ReferencedData,
    data_of,
    expand,
    references,
    resolve_environment,
)
from sandbox.podstatus import PodStatus, objects_may_be_missing
from sandbox.process import Process

log = logging.getLogger(__name__)

#: The container that is run; it is what KubeSpawner calls its own.
CONTAINER_NAME = "notebook"
#: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
LONGEST_BACKOFF_SECONDS = 300


class PodRefusedError(Exception):
    """A pod asks for what the sandbox cannot do; the text says what, and what to do instead."""


@dataclass(frozen=True)
class Node:
    """What the pods of one kubelet share.

    Attributes:
        core: The API server.
        directory: Where the containers' home directories and logs are.
        addresses: The addresses that no pod has; the next one to be used first.
        retry_seconds: How long a container that cannot be configured, or that failed, waits for another try.
        ignored: What to leave out of a pod instead of refusing the pod for it: names of :func:`unsupported`.
        container_started: Called with each pod whose container has been started.
    """

    core: CoreV1Api
    directory: Path
    addresses: deque[str]
    retry_seconds: float
    ignored: frozenset[str]
    container_started: Callable[[V1Pod], None]

    def take_address(self) -> str:
        """Return an address that no other pod has.

        Raises:
            PodRefusedError: There is none left.
        """
        if not self.addresses:
            raise PodRefusedError("every loopback address that the sandbox has for pods is taken")
        return self.addresses.popleft()

    def log_file(self, namespace: str, pod_name: str) -> Path:
        """Return where the output of a pod's container goes."""
        return self.directory / "logs" / f"{namespace}-{pod_name}.log"

    def home(self, pod: V1Pod) -> Path:
        """Return the directory that stands in for the file system of a pod's container.

        Servers that mount the same claim have the same one; others have one by the pod's name.
        """
        claims = [v.persistent_volume_claim for v in pod.spec.volumes or [] if v.persistent_volume_claim]
        name = claims[0].claim_name if claims else pod.metadata.name
        return self.directory / "homes" / f"{pod.metadata.namespace}-{name}"


class PodWorker:
    """Runs one pod; the kubelet tells it when the pod is to end."""

    def __init__(self, node: Node, pod: V1Pod) -> None:
        self._node = node
        self._status = PodStatus(node.core, pod, CONTAINER_NAME)
        self._process: Process | None = None
        self._running = asyncio.create_task(self._logged(self._run()))
        self._terminating: asyncio.Task[None] | None = None

    @property
    def pod(self) -> V1Pod:
        """The pod as the API server had it last."""
        return self._status.pod

    def terminate(self, grace_seconds: float) -> asyncio.Task[None]:
        """End the container and then the pod: it is being deleted."""
        if self._terminating is None:
            self._terminating = asyncio.create_task(self._logged(self._terminate(grace_seconds)))
        return self._terminating

    def vanish(self) -> asyncio.Task[None]:
        """End the container at once: the pod does not exist any more."""
        if self._process:
            self._process.kill()
        return self.terminate(0)

    async def abandon(self) -> None:
        """End the container and leave the pod as it is: the kubelet itself is going."""
        for task in (self._running, self._terminating):
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._process:
            await self._process.stop(grace_seconds=2)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what nobody awaits; unlogged, a fault would leave a pod pending without a word."""
        try:
            await work
        except Exception:
            log.exception("pod %s/%s", self.pod.metadata.namespace, self.pod.metadata.name)

    async def _run(self) -> None:
        try:
            await self._status.bind()
            container = runnable_container(self.pod, self._node.ignored)
            self._status.address = self._node.take_address()
            await self._status.wait("Pending", "ContainerCreating")
            await self._status.emit("Pulled", f"Pulled nothing: {container.image} is this machine's Python")
            delay = self._node.retry_seconds
            while await self._run_container(container):
                await self._status.emit("BackOff", "Back-off restarting failed container", type_="Warning")
                await self._status.wait("Running", "CrashLoopBackOff", f"back-off {delay:g}s restarting")
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)
        except PodRefusedError as exc:
            log.warning("pod %s/%s is refused: %s", self.pod.metadata.namespace, self.pod.metadata.name, exc)
            await self._status.refuse(str(exc))

    async def _run_container(self, container: V1Container) -> bool:
        """Run the container to its end.

        Returns:
            Whether it is to be restarted.
        """
        home = self._node.home(self.pod)
        image.furnish(home)
        given = await self._wait_for_environment(container)
        variables = image.environment(home) | given
        args = [expand(arg, given) for arg in (*(container.command or []), *(container.args or []))]
        args = args or list(image.COMMAND)
        refuse_shared_address(self._status.address or "", container, args, variables)
        await self._status.emit("Created", f"Created container {container.name}")
        if not shutil.which(args[0], path=variables["PATH"]):
            message = f'exec: "{args[0]}": executable file not found in $PATH'
            await self._status.emit("Failed", f"Error: {message}", type_="Warning")
            return await self._container_ended(128, message)
        self._process = await Process.start(
            args,
            env=variables,
            cwd=home,
            log=self._node.log_file(self.pod.metadata.namespace, self.pod.metadata.name),
        )
        await self._status.emit("Started", f"Started container {container.name}")
        await self._status.run()
        self._node.container_started(self.pod)
        return await self._container_ended(await self._process.wait())

    async def _container_ended(self, exit_code: int, message: str = "") -> bool:
        policy = self.pod.spec.restart_policy
        restarted = policy == "Always" or (policy == "OnFailure" and exit_code != 0)
        await self._status.end(exit_code, message, restarted=restarted)
        return restarted

    async def _wait_for_environment(self, container: V1Container) -> dict[str, str]:
        """Resolve the environment, trying again while something that it refers to is missing."""
        said = None
        while True:
            try:
                return resolve_environment(self.pod, container, await self._read(set(references(container))))
            except CreateContainerConfigError as exc:
                if str(exc) != said:
                    said = str(exc)
                    log.warning("pod %s/%s waits: %s", self.pod.metadata.namespace, self.pod.metadata.name, said)
                    await self._status.emit("Failed", f"Error: {said}", type_="Warning")
                    await self._status.wait("Pending", "CreateContainerConfigError", said)
            await asyncio.sleep(self._node.retry_seconds)

    async def _read(self, wanted: set[Reference]) -> ReferencedData:
        core, namespace = self._node.core, self.pod.metadata.namespace
        readers = {"ConfigMap": core.read_namespaced_config_map, "Secret": core.read_namespaced_secret}
        found = {}
        for reference in wanted:
            with objects_may_be_missing():
                found[reference] = data_of(await readers[reference.kind](reference.name, namespace))
        return ReferencedData(namespace, found)

    async def _terminate(self, grace_seconds: float) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._process:
            await self._status.emit("Killing", f"Stopping container {CONTAINER_NAME}")
            await self._status.end(await self._process.stop(grace_seconds), restarted=False)
        if self._status.address:
            # Behind all others, so that whoever still has the old address meets nobody for long.
            self._node.addresses.append(self._status.address)
        await self._status.remove()


def runnable_container(pod: V1Pod, ignored: frozenset[str]) -> V1Container:
    """Return the container that is run.

    Raises:
        PodRefusedError: There is none, or the pod asks for more than can be done and than may be ignored.
    """
    refused = [what for what in unsupported(pod) if what.split()[0] not in ignored]
    if refused:
        raise PodRefusedError(f"it cannot do {', '.join(refused)}")
    for container in pod.spec.containers:
        if container.name == CONTAINER_NAME:
            return container
    raise PodRefusedError(f"it runs the container called {CONTAINER_NAME}, and there is none")


def unsupported(pod: V1Pod) -> Iterator[str]:
    """Return what a pod asks for that the sandbox cannot do: the field's name, and what has it."""
    for container in pod.spec.init_containers or []:
        yield f"initContainers {container.name}"
    for container in pod.spec.containers:
        if container.name != CONTAINER_NAME:
            yield f"containers {container.name}"
            continue
        if container.lifecycle and (container.lifecycle.post_start or container.lifecycle.pre_stop):
            yield f"lifecycle of {container.name}"
        for attribute in ("startup_probe", "readiness_probe", "liveness_probe", "working_dir"):
            if getattr(container, attribute):
                yield f"{container.attribute_map[attribute]} of {container.name}"
    for volume in pod.spec.volumes or []:
        if not (volume.persistent_volume_claim or volume.empty_dir):
            yield f"volumes {volume.name}"
    if pod.spec.host_network:
        yield "hostNetwork"


def refuse_shared_address(address: str, container: V1Container, args: list[str], variables: Mapping[str, str]) -> None:
    """Refuse a server that would not listen on its pod's own address, or could not.

    All pods share this machine's network: a server that listens on every address is sent what is meant for
    another user's.

    Raises:
        PodRefusedError: That is so.
    """
    hosts = re.findall(r"--(?:\w+\.)?ip[= ](\S*)", " ".join(args))
    if url := variables.get("JUPYTERHUB_SERVICE_URL"):
        hosts.append(urlsplit(url).hostname)
    for host in hosts:
        if host != address:
            raise PodRefusedError(
                f"the server would listen on {host or '0.0.0.0'} and not on its pod's own {address}; "
                "set KubeSpawner.ip to $(POD_IP), with POD_IP from fieldRef status.podIP"
            )
    for port in container.ports or []:
        if not port_is_free(address, port.container_port):
            raise PodRefusedError(
                f"a program of this machine listens on port {port.container_port} of every address; "
                "stop that program, or set KubeSpawner.port to another port"
            )


def port_is_free(address: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError:
            return False
        return True
