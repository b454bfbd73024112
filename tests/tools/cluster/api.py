"""A real API server where the tests expect the embedded one.

Clients reach it over plain HTTP at a port of this process, which notes their requests and strikes them with faults as
:class:`sandbox.api.EmbeddedAPI` does. Everything else, what is allowed and what is valid included, is decided by the
kube-apiserver behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import compare_digest
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from cluster.apiserver import ControlPlane
from sandbox.api import EmbeddedAPI
from sandbox.requests import RequestInfo
from sandbox.schema import RESOURCES
from sandbox.status import Object, StatusError
from sandbox.waiting import until_connections_are_gone

_KUBESPAWNERS_ROLE = Path(__file__).with_name("hub.yaml")
_USER_NAMESPACES_ROLE = Path(__file__).with_name("user-namespaces.yaml")
_DEPLOY = Path(__file__).parents[3] / "deploy"
_DOCUMENTED_ROLE = _DEPLOY / "role.yaml"
_SELECTING_ROLE = _DEPLOY / "role-label-selector.yaml"
_NAMESPACE = "jhub"
_ALWAYS_THERE = {("services", "kubernetes"), ("serviceaccounts", "default")}
_REQUEST_HEADERS = ("Accept", "Authorization", "Content-Type", "User-Agent")
_RESPONSE_HEADERS = ("Content-Type", "Retry-After", "Warning")


class ClusterAPI(EmbeddedAPI):
    """The API of a control plane, emptied of what an earlier test has left in it.

    Its kubeconfig is that of the service account `hub` in the namespace `jhub`, which has KubeSpawner's own Role and
    `deploy/role.yaml`, and nothing else. What is denied is denied to the service account. A kubelet, or the
    test itself, is an administrator: a client without credentials, or with the token.

    Args:
        control_plane: It must be running.
        token: What an administrator's requests must hold as their bearer token; empty for none.
    """

    def __init__(self, control_plane: ControlPlane, *, token: str = "") -> None:
        self._control_plane = control_plane
        self._watches: set[asyncio.Timeout] = set()
        self._roles: list[Object] = []
        super().__init__(namespaces=(_NAMESPACE,), token=token)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._control_plane.trust, limit=0))
        await super().start()

    async def stop(self) -> None:
        for watch in self._watches:
            watch.reschedule(asyncio.get_running_loop().time())
        await super().stop()
        await self._session.close()
        await until_connections_are_gone()

    async def __aenter__(self) -> Self:
        self._empty()
        self._control_plane.create_namespace(_NAMESPACE)
        self._apply(_KUBESPAWNERS_ROLE, _DOCUMENTED_ROLE)
        return await super().__aenter__()

    def kubeconfig(self) -> str:
        kubeconfig = json.loads(super().kubeconfig())
        kubeconfig["users"][0]["user"]["token"] = self._control_plane.service_account_token(_NAMESPACE, "hub")
        return json.dumps(kubeconfig)

    def allow_label_selectors(self) -> None:
        """Let the hub list ConfigMaps, as `deploy/role-label-selector.yaml` does, until the next test."""
        self._apply(_SELECTING_ROLE)

    def allow_user_namespaces(self) -> None:
        """Let the hub create namespaces, and work in all of them, until the next test."""
        for obj in yaml.safe_load_all(_USER_NAMESPACES_ROLE.read_text()):
            self._control_plane.put(obj)
        while not self._control_plane.allows(self._user, "create", "namespaces"):
            time.sleep(0.005)

    def put(self, obj: Object) -> Object:
        obj = {"apiVersion": "v1", **obj}
        stored = self._control_plane.put(obj)
        if "status" in obj:
            path = self._path(obj["kind"], stored["metadata"].get("namespace", ""), stored["metadata"]["name"])
            stored = self._control_plane.request("PUT", f"{path}/status", {**stored, "status": obj["status"]})
        return stored

    def get(self, resource: str, namespace: str, name: str) -> Object:
        obj: Object = self._control_plane.request("GET", self._path(resource, namespace, name))
        return obj

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        found = self._control_plane.request("GET", self._path(resource, namespace))
        kind = found["kind"].removesuffix("List")
        return [{"kind": kind, "apiVersion": "v1", **item} for item in found["items"]]

    def delete(self, resource: str, namespace: str, name: str, *, grace_period_seconds: int | None = None) -> None:
        options = {} if grace_period_seconds is None else {"gracePeriodSeconds": grace_period_seconds}
        self._control_plane.request("DELETE", self._path(resource, namespace, name), options)

    def deny(self, verb: str, resource: str, name: str | None = None, namespace: str | None = None) -> None:
        super().deny(verb, resource, name, namespace)
        self._write_roles()

    def allow(self, verb: str, resource: str, name: str | None = None, namespace: str | None = None) -> None:
        super().allow(verb, resource, name, namespace)
        self._write_roles()

    def _authenticate(self, request: web.Request) -> None:
        """Leaves it to the real server."""

    def _authorize(self, info: RequestInfo) -> None:
        """Leaves it to the real server."""

    async def _serve(self, request: web.Request, info: RequestInfo, *, cut: bool = False) -> web.StreamResponse:
        try:
            return await self._pass_on(request, info, cut=cut)
        except aiohttp.ClientError as error:
            raise StatusError(503, "ServiceUnavailable", f"kube-apiserver is away: {error}") from error

    async def _pass_on(self, request: web.Request, info: RequestInfo, *, cut: bool) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        if compare_digest(headers.get("Authorization", ""), f"Bearer {self.token}" if self.token else ""):
            headers["Authorization"] = f"Bearer {self._control_plane.admin_token}"
        url = URL(self._control_plane.url + request.raw_path, encoded=True)
        body = await request.read()
        timeout = aiohttp.ClientTimeout(total=None)
        answering = self._session.request(request.method, url, data=body or None, headers=headers, timeout=timeout)
        async with answering as answer:
            passed_back = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
            if (info.verb, info.resource, answer.status) == ("create", "namespaces", 201):
                # In a cluster, the controller manager adds the service account, and a pod's creation is tried again.
                self._control_plane.create_namespace((await answer.json())["metadata"]["name"])
            if info.verb != "watch" or answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), headers=passed_back)
            response = web.StreamResponse(headers=passed_back)
            response.enable_chunked_encoding()
            await response.prepare(request)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._until_stopped():
                    async for events in answer.content.iter_any():
                        if cut:
                            await response.write(events[: len(events) // 2])
                            assert request.transport
                            request.transport.abort()
                        await response.write(events)
            return response

    @contextlib.asynccontextmanager
    async def _until_stopped(self) -> AsyncIterator[None]:
        """Raises TimeoutError inside when this server stops."""
        async with asyncio.timeout(None) as watch:
            self._watches.add(watch)
            try:
                yield
            finally:
                self._watches.discard(watch)

    def _path(self, resource: str, namespace: str, name: str = "") -> str:
        return self._control_plane.path("v1", resource, namespace, name)

    def _apply(self, *paths: Path) -> None:
        for obj in itertools.chain.from_iterable(yaml.safe_load_all(path.read_text()) for path in paths):
            self._control_plane.put(obj)
            if obj["kind"] == "Role":
                self._roles.append(obj)
        self._wait_for_roles()

    def _write_roles(self) -> None:
        """Take from the Roles what is denied."""
        for role in self._roles:
            rules = [
                {"apiGroups": [""], "verbs": [verb], "resources": [resource], "resourceNames": [name] if name else []}
                for verb, resource, name in _permissions(role)
                if not self._denies(verb, resource, name)
            ]
            self._control_plane.put({**role, "rules": rules})
        self._wait_for_roles()

    def _wait_for_roles(self) -> None:
        """Wait until what the Roles say is in force, which takes a moment."""
        for verb, resource, name in itertools.chain.from_iterable(map(_permissions, self._roles)):
            expected = not self._denies(verb, resource, name)
            while expected != self._control_plane.allows(self._user, verb, resource, name=name, namespace=_NAMESPACE):
                time.sleep(0.005)

    def _denies(self, verb: str, resource: str, name: str) -> bool:
        return any(
            (verb, resource) == denied[:2] and denied[2] in (None, name) and denied[3] in (None, _NAMESPACE)
            for denied in self._denied
        )

    def _empty(self) -> None:
        """Remove what no cluster has from the beginning."""
        for resource in RESOURCES.values():
            for obj in self.list(resource.plural) if resource.namespaced else ():
                metadata = obj["metadata"]
                name, namespace = metadata["name"], metadata["namespace"]
                if namespace.startswith("kube-") or (resource.plural, name) in _ALWAYS_THERE:
                    continue
                metadata.pop("resourceVersion")
                if metadata.pop("finalizers", None):
                    self._control_plane.put(obj)
                with contextlib.suppress(StatusError):
                    self.delete(resource.plural, namespace, name, grace_period_seconds=0)
        for kind in ("ClusterRole", "ClusterRoleBinding"):
            with contextlib.suppress(StatusError):
                path = self._control_plane.path("rbac.authorization.k8s.io/v1", kind, name="hub-user-namespaces")
                self._control_plane.request("DELETE", path)
        for kind in ("Role", "RoleBinding"):
            with contextlib.suppress(StatusError):
                path = self._control_plane.path(
                    "rbac.authorization.k8s.io/v1", kind, _NAMESPACE, "hub-selected-profiles"
                )
                self._control_plane.request("DELETE", path)
        for namespace in self.list("namespaces"):
            name, leaving = namespace["metadata"]["name"], "deletionTimestamp" in namespace["metadata"]
            if leaving or (name not in ("default", _NAMESPACE) and not name.startswith("kube-")):
                if not leaving:
                    self.delete("namespaces", "", name)
                # In a cluster, the controller manager says so when nothing is left in it.
                finalized = {"kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}}
                self._control_plane.request("PUT", f"{self._path('namespaces', '', name)}/finalize", finalized)


def _permissions(role: Object) -> Iterator[tuple[str, str, str]]:
    """The verb, resource and name (empty for all) of each thing that a Role allows."""
    for rule in role["rules"]:
        yield from itertools.product(rule["verbs"], rule["resources"], rule.get("resourceNames", [""]))
