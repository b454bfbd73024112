"""A kubelet for the chart's own pods: it runs their containers as processes that see a file system of their own.

Each container has this machine's file system under an overlay, in a mount namespace: its volumes are where its pod
says, and what it writes is gone with it. It shares the network with this machine, so two pods cannot listen on one
port. It needs root, as a real kubelet does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration, CoreV1Api, V1Container, V1Pod, V1Volume
from kubernetes_asyncio.config import load_kube_config_from_dict

from chart.image import Images
from cluster.controllers import Cluster
from sandbox.environment import Reference, ReferencedData, data_of, expand, references, resolve_environment
from sandbox.process import Process

__all__ = ["ChartKubelet", "why_not"]


def why_not() -> str:
    """Why this machine cannot run it; empty if it can."""
    if os.geteuid() != 0:
        return "the kubelet that runs the chart's pods needs root"
    if not all(map(shutil.which, ("unshare", "mount", "chroot", "nsenter"))):
        return "the kubelet that runs the chart's pods needs unshare, mount, chroot and nsenter"
    return ""


class ChartKubelet:
    """Runs the pods of one node of a cluster, for as long as its context lasts.

    The node is only for pods that select its label `role`, and tolerate its taint of the same name.

    Args:
        cluster: The cluster; the node is added to it.
        directory: Where volumes and logs are kept.
        images: What the images of the pods have in them.
        environment: Variables that every container has, below its own.
        node: The node's name.
    """

    def __init__(
        self, cluster: Cluster, directory: Path, images: Images, environment: dict[str, str], *, node: str = "core"
    ) -> None:
        self._cluster = cluster
        self._directory = directory
        self._images = images
        self._environment = environment
        self._node = node
        self._pods: dict[str, _RunningPod] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            port = await self._serve_logs(stack)
            taint = {"key": "role", "value": self._node, "effect": "NoSchedule"}
            self._cluster.add_node(self._node, labels={"role": self._node}, taints=[taint], is_managed=False)
            configuration = Configuration()
            await load_kube_config_from_dict(
                yaml.safe_load(self._cluster.kubeconfig()), client_configuration=configuration
            )
            self._core = CoreV1Api(await stack.enter_async_context(ApiClient(configuration)))
            stack.push_async_callback(self._end)
            self._tasks = [asyncio.create_task(self._beat(port)), asyncio.create_task(self._follow())]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run_in(self, pod_name: str, *command: str) -> tuple[int, str]:
        """Run a command in the container of a pod, as ``kubectl exec`` does.

        Returns:
            Its exit code, and what it printed.
        """
        (pod,) = (each for each in self._pods.values() if each.pod.metadata.name == pod_name)
        process = await asyncio.create_subprocess_exec(
            *pod.enter(),
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=pod.environment,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pod.stop() for pod in self._pods.values()))

    async def _serve_logs(self, stack: contextlib.AsyncExitStack) -> int:
        """Serve what ``kubectl logs`` shows; the API server asks the node for it."""

        async def answer(request: web.Request) -> web.Response:
            where = request.match_info
            log = self._directory / "logs" / f"{where['namespace']}-{where['pod']}-{where['container']}.log"
            return web.Response(text=log.read_text(errors="replace")) if log.exists() else web.Response(status=404)

        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self._cluster.ca_file, self._cluster.ca_file.with_suffix(".key"))
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return int(runner.addresses[0][1])

    async def _beat(self, port: int) -> None:
        """Tell the cluster that the node is there; without that, its controllers drive the pods away."""
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [ready],
        }
        while True:
            ready["lastHeartbeatTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            with contextlib.suppress(ApiException, aiohttp.ClientError):
                await self._core.patch_node_status(
                    self._node, {"status": status}, _content_type="application/strategic-merge-patch+json"
                )
            await asyncio.sleep(5)

    async def _follow(self) -> None:
        """Start the pods that the node has been given, and stop those that are deleted."""
        while True:
            with contextlib.suppress(ApiException, aiohttp.ClientError):
                found = await self._core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={self._node}")
                for pod in found.items:
                    running = self._pods.get(pod.metadata.uid)
                    if running is None and not pod.metadata.deletion_timestamp:
                        running = self._pods[pod.metadata.uid] = _RunningPod(
                            self._core, pod, self._directory, self._images, self._environment
                        )
                    if running and pod.metadata.deletion_timestamp:
                        running.end(pod.metadata.deletion_grace_period_seconds or 0)
                    if running:
                        await running.sync()
                present = {pod.metadata.uid for pod in found.items}
                for uid in [uid for uid in self._pods if uid not in present]:
                    await self._pods.pop(uid).stop()
            await asyncio.sleep(0.1)


class _RunningPod:
    """A pod from its start to its end."""

    def __init__(
        self, core: CoreV1Api, pod: V1Pod, directory: Path, images: Images, environment: dict[str, str]
    ) -> None:
        self.pod = pod
        self.environment: dict[str, str] = {}
        self._core = core
        self._directory = directory
        self._volumes = directory / "volumes" / pod.metadata.uid
        self._images = images
        self._given = environment
        self._process: Process | None = None
        self._restarts = 0
        self._synced: list[tuple[Path, V1Volume]] = []
        self._running = asyncio.create_task(self._run())
        self._ending: asyncio.Task[None] | None = None

    def enter(self) -> list[str]:
        """The command that enters its container."""
        pid = (self._volumes / "pid").read_text().strip()
        return ["nsenter", f"--target={pid}", "--mount", "--root", "--wd"]

    def end(self, grace_seconds: float) -> None:
        """Stop it, and then delete it: somebody has asked for that."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(grace_seconds))

    async def stop(self) -> None:
        """Stop it at once, and leave the pod as it is."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._process:
            await self._process.stop(0)
        shutil.rmtree(self._volumes, ignore_errors=True)

    async def _end(self, grace_seconds: float) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._process:
            await self._process.stop(grace_seconds)
        with contextlib.suppress(ApiException):
            await self._core.delete_namespaced_pod(
                self.pod.metadata.name, self.pod.metadata.namespace, body={"gracePeriodSeconds": 0}
            )

    async def _run(self) -> None:
        spec = self.pod.spec
        try:
            sources = {volume.name: await self._prepare(volume) for volume in spec.volumes or []}
            for container in spec.init_containers or []:
                while exit_code := await (await self._start(container, sources)).wait():
                    await self._report("Pending", waiting=f"Init:Error ({exit_code})")
                    await asyncio.sleep(1)
            (container,) = spec.containers
            while True:
                self._process = await self._start(container, sources)
                await self._report("Running")
                ended = asyncio.create_task(self._process.wait())
                with contextlib.suppress(TimeoutError):
                    while not ended.done() and not await self._is_ready(container):
                        await asyncio.wait([ended], timeout=0.2)
                if not ended.done():
                    await self._report("Running", is_ready=True)
                await ended
                self._restarts += 1
                await self._report("Running", waiting="CrashLoopBackOff")
                await asyncio.sleep(1)
        except (LookupError, NotImplementedError) as exc:
            await self._report("Pending", waiting=f"{type(exc).__name__}: {exc}")

    async def _start(self, container: V1Container, sources: dict[str, Path]) -> Process:
        programs = self._images.find(container.image)
        given = resolve_environment(self.pod, container, await self._read(container))
        services = await self._services()
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8", **self._given, **services, **given}
        command = [expand(part, services | given) for part in (*(container.command or ()), *(container.args or ()))]
        mounts = [
            (mount.mount_path, _below(sources[mount.name], mount.sub_path)) for mount in container.volume_mounts or ()
        ]
        mounts.append(("/etc/hosts", self._write_hosts(services)))
        name = f"{self.pod.metadata.namespace}-{self.pod.metadata.name}-{container.name}"
        log = self._directory / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        script = _script(self._volumes, mounts, container.working_dir or "/srv/jupyterhub", command)
        return await Process.start(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
            env=self.environment,
            cwd=self._directory,
            log=log,
        )

    async def _read(self, container: V1Container) -> ReferencedData:
        namespace = self.pod.metadata.namespace
        readers = {"ConfigMap": self._core.read_namespaced_config_map, "Secret": self._core.read_namespaced_secret}
        found: dict[Reference, dict[str, str]] = {}
        for reference in set(references(container)):
            found[reference] = data_of(await readers[reference.kind](reference.name, namespace))
        return ReferencedData(namespace, found)

    async def _services(self) -> dict[str, str]:
        """The variables of the namespace's services; here, each service is where its pods are."""
        variables = {}
        for service in (await self._core.list_namespaced_service(self.pod.metadata.namespace)).items:
            name = service.metadata.name.upper().replace("-", "_")
            variables[f"{name}_SERVICE_HOST"] = "127.0.0.1"
            variables[f"{name}_SERVICE_PORT"] = str(service.spec.ports[0].port)
        server = self._core.api_client.configuration.host
        host, _, port = server.removeprefix("https://").partition(":")
        return {**variables, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    def _write_hosts(self, services: dict[str, str]) -> Path:
        names = [
            name.removesuffix("_SERVICE_HOST").lower().replace("_", "-") for name in services if name.endswith("_HOST")
        ]
        path = self._volumes / "hosts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
        return path

    async def _prepare(self, volume: V1Volume) -> Path:
        """Return the directory that a volume is."""
        namespace, path = self.pod.metadata.namespace, self._volumes / volume.name
        path.mkdir(parents=True)
        if volume.persistent_volume_claim:
            claim = await self._core.read_namespaced_persistent_volume_claim(
                volume.persistent_volume_claim.claim_name, namespace
            )
            bound = await self._core.read_persistent_volume(claim.spec.volume_name)
            persistent = Path(bound.spec.host_path.path)
            persistent.mkdir(parents=True, exist_ok=True)
            return persistent
        if volume.secret or volume.config_map:
            await self._write(path, volume)
            self._synced.append((path, volume))
        elif volume.projected:
            for source in volume.projected.sources:
                if source.service_account_token:
                    token = await self._core.create_namespaced_service_account_token(
                        self.pod.spec.service_account_name, namespace, {"spec": {}}
                    )
                    (path / source.service_account_token.path).write_text(token.status.token)
                elif source.config_map:
                    authority = await self._core.read_namespaced_config_map(source.config_map.name, namespace)
                    (path / "ca.crt").write_text(authority.data["ca.crt"])
                elif source.downward_api:
                    (path / "namespace").write_text(namespace)
        elif not volume.empty_dir:
            raise NotImplementedError(f"the volume {volume.name} is of no kind that is done here")
        return path

    async def sync(self) -> None:
        """Bring volumes of ConfigMaps and Secrets up to date, which a kubelet does within two minutes."""
        for path, volume in self._synced:
            with contextlib.suppress(ApiException):
                await self._write(path, volume)

    async def _write(self, path: Path, volume: V1Volume) -> None:
        """Replace what is in a volume in one step, as a kubelet does it: by a link to a directory."""
        namespace = self.pod.metadata.namespace
        if volume.secret:
            source, items = (
                await self._core.read_namespaced_secret(volume.secret.secret_name, namespace),
                volume.secret.items,
            )
        else:
            source = await self._core.read_namespaced_config_map(volume.config_map.name, namespace)
            items = volume.config_map.items
        data, version = data_of(source), f"..{source.metadata.resource_version}"
        if (path / version).exists():
            return
        (path / version).mkdir()
        paths = {item.key: item.path for item in items} if items else {key: key for key in data}
        for key, target in paths.items():
            (path / version / target).write_text(data[key])
        (path / "..new").symlink_to(version)
        (path / "..new").replace(path / "..data")
        for target in paths.values():
            if not (path / target).is_symlink():
                (path / target).symlink_to(f"..data/{target}")

    async def _is_ready(self, container: V1Container) -> bool:
        probe = container.readiness_probe
        if probe is None or probe.http_get is None:
            return True
        ports = {port.name: port.container_port for port in container.ports}
        url = f"http://127.0.0.1:{ports.get(probe.http_get.port, probe.http_get.port)}{probe.http_get.path}"
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status < 400
        return False

    async def _report(self, phase: str, *, is_ready: bool = False, waiting: str = "") -> None:
        (container,) = self.pod.spec.containers
        running = {"running": {}}
        status = {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [
                {"type": kind, "status": str(is_ready)} for kind in ("Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": container.name,
                    "image": container.image,
                    "imageID": "",
                    "ready": is_ready,
                    "restartCount": self._restarts,
                    "state": {"waiting": {"reason": waiting}} if waiting else running,
                }
            ],
        }
        with contextlib.suppress(ApiException):
            await self._core.patch_namespaced_pod_status(
                self.pod.metadata.name,
                self.pod.metadata.namespace,
                {"metadata": {"uid": self.pod.metadata.uid}, "status": status},
                _content_type="application/merge-patch+json",
            )


def _below(source: Path, sub_path: str | None) -> Path:
    if not sub_path:
        return source
    path = source / sub_path
    if not path.exists():
        path.mkdir()
    # What a link leads to now: with `subPath`, a container never sees an edit.
    return path.resolve()


def _script(directory: Path, mounts: list[tuple[str, Path]], where: str, command: list[str]) -> str:
    """The commands that build a container's file system, and run its command there."""
    root = directory / "root"
    lines = [
        "set -e",
        f"echo $$ >{directory}/pid",
        f"mkdir -p {root}",
        f"mount -t tmpfs tmpfs {root}",
        f"mkdir {root}/upper {root}/work {root}/merged",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={root}/upper,workdir={root}/work {root}/merged",
        *(f"mount --rbind /{name} {root}/merged/{name}" for name in ("dev", "proc", "sys")),
        f"mkdir -p {root}/merged{where}",
    ]
    # What a mount is within another one comes after it.
    for target, source in sorted(mounts):
        inside = shlex.quote(f"{root}/merged{os.path.realpath(target.rstrip('/'))}")
        make = f"mkdir -p {inside}" if source.is_dir() else f"mkdir -p $(dirname {inside}) && touch {inside}"
        lines += [make, f"mount --bind {shlex.quote(str(source))} {inside}"]
    inner = f"cd {shlex.quote(where)} && exec {shlex.join(command)}"
    lines.append(f"exec chroot {root}/merged sh -c {shlex.quote(inner)}")
    return "\n".join(lines)
