"""An embedded Kubernetes API: a server on the loopback interface with the semantics of a kube-apiserver.

It serves what KubeSpawner, its client library and a kubelet need of the core group, in the words and status codes of a
real server. It may do less than a real one, but never something else: a resource, verb, parameter, selector or patch
that it does not know is refused (404, 405, 406, 415 or 501), never ignored. Not there, among others: authentication,
`managedFields` and server-side apply, `deletecollection`, lists at an exact older version, the controllers around a
cluster (but for the deletion of what an owner or a namespace leaves behind), a Service's address.

The parts, from the inside: `status` words the answers; `storage` keeps versions and watches; `schema` reads objects,
`admission` completes and validates them, `patch` patches them; `registry` has the rules of each verb; `requests` reads
requests; and this module answers them.
"""

import asyncio
import contextlib
import copy
import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import compare_digest
from typing import Literal, NoReturn, Self

from aiohttp import web

from sandbox import patch
from sandbox.registry import DeleteOptions, Registry, WriteOptions, in_namespace
from sandbox.requests import (
    RequestInfo,
    delete_options,
    number_parameter,
    parse_request,
    read_json,
    resource_version,
    selection,
    write_options,
)
from sandbox.schema import RESOURCES, Resource
from sandbox.status import Object, StatusError, field_forbidden, forbidden, invalid, not_implemented
from sandbox.storage import Version

_PATCHES = {
    "application/json-patch+json": patch.json_patch,
    "application/merge-patch+json": patch.merge_patch,
    "application/strategic-merge-patch+json": patch.strategic_merge_patch,
}
_BODY_LIMIT = 3 * 1024 * 1024
_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
_VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.0+embedded", "platform": "python"}
_TEXTS = {"/healthz": "ok", "/livez": "ok", "/readyz": "ok", "/version": json.dumps(_VERSION)}
_TEXT_TYPES = {"/version": "application/json"}
_FAULT_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass
class Fault:
    """Something that goes wrong with requests of one description.

    Attributes:
        effect: what happens. `none`: nothing more than the delay. `status`: an answer with `status`. `close`: the
            connection is closed before the request has any effect; `lose`: it takes effect, and the connection is
            closed before any answer. `cut`: the connection is closed in the middle of the answer. `truncate`: half
            of the answer's body, as if it were all. (A watch suffers the last three in its first event.) `hang`: no
            answer for as long as the client waits.
        verb: as in RBAC (see `RequestInfo`); `None` is any, as for the next three.
        times: how many requests it strikes before it is over; `None` is for ever.
        delay: seconds before the effect.
        gate: what to wait for before the effect.
        status: for the effect `status`, its HTTP code.
        retry_after: for the effect `status`, the seconds of a `Retry-After` header.
    """

    effect: Literal["none", "status", "close", "lose", "cut", "truncate", "hang"] = "none"
    verb: str | None = None
    resource: str | None = None
    name: str | None = None
    namespace: str | None = None
    times: int | None = 1
    delay: float = 0.0
    gate: asyncio.Event | None = None
    status: int = 503
    retry_after: int | None = None


class EmbeddedAPI:
    """An API server within this process and event loop.

    Use it as an asynchronous context manager, or `start` and `stop` it. What is in it outlives a `stop`.

    Args:
        port: where to listen on 127.0.0.1; 0 finds a free port.
        namespaces: created at first, besides `default` and `kube-system`.
        history: how many changes of each resource a watch can go back.
        user: who all clients are, in the messages of denied requests.
        token: what a request must hold as its bearer token; empty for none.

    Attributes:
        token: as given.
        requests: every request so far, in order of arrival; for tests to count, and to clear.
        faults: what is to go wrong; the first that fits a request strikes it.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        namespaces: Sequence[str] = ("jhub",),
        history: int = 4096,
        user: str = "system:serviceaccount:jhub:hub",
        token: str = "",
    ) -> None:
        self.port = port
        self.requests: list[RequestInfo] = []
        self.faults: list[Fault] = []
        self._namespaces = tuple(namespaces)
        self._user = user
        self.token = token
        self._denied: list[tuple[str, str, str | None, str | None]] = []
        self._registry = Registry(history)
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()
        for name in dict.fromkeys(("default", "kube-system", *namespaces)):
            self._registry.create(RESOURCES["namespaces"], "", {"metadata": {"name": name}}, WriteOptions())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: where the port is in use.
        """
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._stopping.clear()
        # A client that hangs up must end its watch, or its hanging request.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024).start()
        except OSError as exc:
            await runner.cleanup()
            if exc.errno != errno.EADDRINUSE:
                raise
            message = f"127.0.0.1:{self.port} is in use; stop what listens there, or choose another port"
            raise OSError(errno.EADDRINUSE, message) from None
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """End all watches and stop listening."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self._stopping.set()
        self._registry.storage.close()
        await runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self) -> str:
        """A kubeconfig for this API as YAML, in the first of its namespaces."""
        namespace = (*self._namespaces, "default")[0]
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "sandbox", "cluster": {"server": self.url}}],
                "users": [{"name": "sandbox", "user": {"token": self.token} if self.token else {}}],
                "contexts": [
                    {
                        "name": "sandbox",
                        "context": {"cluster": "sandbox", "user": "sandbox", "namespace": namespace},
                    }
                ],
                "current-context": "sandbox",
            },
            indent=2,
        )

    def put(self, obj: Object) -> Object:
        """Create an object, or replace the one of its name (with its status, if it has one).

        Raises:
            StatusError: as the same request would be answered.
        """
        resource = _resource(obj["kind"])
        metadata = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
        obj = {**obj, "metadata": metadata}
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        name, options = metadata.get("name", ""), WriteOptions(field_validation="Strict")
        if self._registry.storage.get(resource.plural, (namespace, name)) is None:
            stored = self._registry.create(resource, namespace, obj, options)
            name = stored["metadata"]["name"]
        else:
            stored = self._registry.update(resource, namespace, name, obj, options)
        if resource.has_status and "status" in obj:
            body = {**obj, "metadata": stored["metadata"]}
            stored = self._registry.update(resource, namespace, name, body, options, "status")
        return _typed(resource, stored)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """One object, by the name of its resource or its kind; what has no namespace is in `""`.

        Raises:
            StatusError: 404.
        """
        found = _resource(resource)
        return _typed(found, self._registry.read(found, namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """The objects of a resource (or kind) in one namespace or in all, by namespace and name."""
        found = _resource(resource)
        return [
            _typed(found, version.object) for version in self._registry.list(found, in_namespace(namespace)).versions
        ]

    def delete(self, resource: str, namespace: str, name: str, *, grace_period_seconds: int | None = None) -> None:
        """Delete an object, by the rules of a client's request.

        Raises:
            StatusError: as the same request would be answered.
        """
        options = DeleteOptions(grace_period_seconds)
        self._registry.delete(_resource(resource), namespace, name, options)

    def deny(self, verb: str, resource: str, name: str | None = None, namespace: str | None = None) -> None:
        """Answer such requests with 403, as if no Role allowed them; `None` is any name or namespace.

        A subresource is written as in a Role: `pods/status`.
        """
        self._denied.append((verb, resource, name, namespace))

    def allow(self, verb: str, resource: str, name: str | None = None, namespace: str | None = None) -> None:
        """Take a `deny` back.

        Raises:
            ValueError: if there was none.
        """
        self._denied.remove((verb, resource, name, namespace))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.method == "GET" and request.path in _TEXTS:
                return web.Response(text=_TEXTS[request.path], content_type=_TEXT_TYPES.get(request.path, "text/plain"))
            self._authenticate(request)
            if not re.fullmatch("/api(/.*)?", request.path):
                return web.Response(status=404, text="404 page not found\n")
            _check_accepts(request)
            info = parse_request(request, number=len(self.requests))
            self.requests.append(info)
            self._authorize(info)
            if fault := self._strike(info):
                return await self._suffer(request, info, fault)
            return await self._serve(request, info)
        except StatusError as exc:
            return web.json_response(exc.status, status=exc.code)
        except web.HTTPRequestEntityTooLarge:
            message = f"Request entity too large: limit is {_BODY_LIMIT}"
            error = StatusError(413, "RequestEntityTooLarge", message)
            return web.json_response(error.status, status=error.code)

    def _authenticate(self, request: web.Request) -> None:
        if self.token and not compare_digest(request.headers.get("Authorization", ""), f"Bearer {self.token}"):
            raise StatusError(401, "Unauthorized", "Unauthorized")

    def _authorize(self, info: RequestInfo) -> None:
        resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        for verb, denied, name, namespace in self._denied:
            if denied == resource and info.fits(verb, None, name, namespace):
                # A namespace is in itself.
                place = info.name if info.resource == "namespaces" else info.namespace
                scope = f'in the namespace "{place}"' if place else "at the cluster scope"
                why = f'User "{self._user}" cannot {verb} resource "{resource}" in API group "" {scope}'
                raise forbidden(info.resource, info.name, why)

    def _strike(self, info: RequestInfo) -> Fault | None:
        """The fault that a request meets, if any."""
        for fault in self.faults:
            if fault.times != 0 and info.fits(fault.verb, fault.resource, fault.name, fault.namespace):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def _suffer(self, request: web.Request, info: RequestInfo, fault: Fault) -> web.StreamResponse:
        if fault.delay or fault.effect == "hang":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if fault.effect == "hang" else fault.delay):
                    await self._stopping.wait()
                    _hang_up(request)
        if fault.gate:
            await fault.gate.wait()
        if fault.effect == "close":
            _hang_up(request)
        if fault.effect == "status":
            error = StatusError(fault.status, _FAULT_REASONS.get(fault.status, ""), f"injected fault: {fault.status}")
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            return web.json_response(error.status, status=fault.status, headers=headers)
        broken = fault.effect in ("lose", "cut", "truncate")
        response = await self._serve(request, info, cut=broken)
        if not broken or not isinstance(response, web.Response):
            return response
        assert isinstance(response.body, bytes)
        half = response.body[: len(response.body) // 2]
        if fault.effect == "cut":
            begun = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
            begun.content_length = len(response.body)
            await begun.prepare(request)
            await begun.write(half)
        if fault.effect != "truncate":
            _hang_up(request)
        response.body = half
        return response

    async def _serve(self, request: web.Request, info: RequestInfo, *, cut: bool = False) -> web.StreamResponse:
        resource = RESOURCES[info.resource]
        match info.verb:
            case "get":
                self._check_reached(info, request.query)
                return _object_response(resource, self._registry.read(resource, info.namespace, info.name))
            case "list":
                return self._list(resource, info, request.query)
            case "watch":
                return await self._watch(request, resource, info, cut=cut)
            case "delete":
                return self._delete(resource, info, await delete_options(request))
            case "patch" if request.content_type not in _PATCHES:
                raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
            case "create" | "update" if request.content_type != "application/json":
                # Without any, aiohttp assumes a type; a real API server assumes JSON.
                if "Content-Type" in request.headers:
                    accepted = "accepted media types include: application/json"
                    message = f"the body of the request was in an unknown format - {accepted}"
                    raise StatusError(415, "UnsupportedMediaType", message)
        options = write_options(request)
        body = await read_json(request, resource)
        where = (resource, info.namespace, info.name)
        if info.subresource == "binding":
            self._registry.bind(info.namespace, info.name, body, options)
            return _json_response(json.dumps({**_SUCCESS, "code": 201}), 201)
        if info.verb == "create":
            stored = self._registry.create(resource, info.namespace, body, options)
        elif info.verb == "update":
            stored = self._registry.update(*where, body, options, info.subresource)
        else:
            apply = _PATCHES[request.content_type]
            stored = self._registry.patch(*where, lambda obj: apply(obj, body), options, info.subresource)
        return _object_response(resource, stored, 201 if info.verb == "create" else 200, options.warnings)

    def _delete(self, resource: Resource, info: RequestInfo, options: DeleteOptions) -> web.Response:
        gone = self._registry.delete(resource, info.namespace, info.name, options)
        waits = "deletionTimestamp" in gone["metadata"]
        if resource.returned or waits:
            return _object_response(resource, gone)
        details = {"name": info.name, "kind": resource.plural, "uid": gone["metadata"]["uid"]}
        return _json_response(json.dumps({**_SUCCESS, "details": details}))

    def _check_reached(self, info: RequestInfo, query: Mapping[str, str]) -> None:
        """Refuse a `resourceVersion` that lies ahead."""
        wanted, current = resource_version(info, query), self._registry.storage.revision
        if wanted > current:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            message = f"Timeout: Too large resource version: {wanted}, current: {current}"
            raise StatusError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})

    def _list(self, resource: Resource, info: RequestInfo, query: Mapping[str, str]) -> web.Response:
        match = query.get("resourceVersionMatch", "")
        if match and not query.get("resourceVersion"):
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise invalid("ListOptions.meta.k8s.io", "", [field_forbidden("resourceVersionMatch", why)])
        if match not in ("", "NotOlderThan"):
            raise not_implemented(f"list with resourceVersionMatch={match}")
        self._check_reached(info, query)
        limit = number_parameter(query, "limit")
        page = self._registry.list(resource, selection(info, query), limit, query.get("continue", ""))
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.continue_token:
            metadata["continue"] = page.continue_token
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                metadata["remainingItemCount"] = page.remaining
        items = ",".join(version.json for version in page.versions)
        head = f'"kind":"{resource.kind}List","apiVersion":"v1","metadata":{json.dumps(metadata)}'
        return _json_response(f'{{{head},"items":[{items}]}}')

    async def _watch(
        self, request: web.Request, resource: Resource, info: RequestInfo, *, cut: bool
    ) -> web.StreamResponse:
        query, storage = request.query, self._registry.storage
        since = resource_version(info, query)
        timeout_seconds = number_parameter(query, "timeoutSeconds")
        selects = selection(info, query)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            watch = storage.watch(resource.plural, selects, since or None)
            if self._stopping.is_set():
                watch.close()
        except StatusError as exc:
            await response.prepare(request)
            await response.write(_event_line("ERROR", json.dumps(exc.status)))
            return response
        try:
            await response.prepare(request)
            async with asyncio.timeout(timeout_seconds or None):
                async for event, version in watch:
                    line = _event_line(event, version.typed_json(resource.kind))
                    if cut:
                        await response.write(line[: len(line) // 2])
                        _hang_up(request)
                    await response.write(line)
        except TimeoutError:
            pass
        finally:
            storage.unwatch(resource.plural, watch)
        return response


def _resource(name: str) -> Resource:
    """A resource by its plural name or its kind."""
    for resource in RESOURCES.values():
        if name in (resource.plural, resource.kind):
            return resource
    raise not_implemented(f"serve {name}")


def _typed(resource: Resource, obj: Object) -> Object:
    """A copy of a stored object, with what the storage leaves out."""
    return {"kind": resource.kind, "apiVersion": "v1", **copy.deepcopy(obj)}


def _object_response(resource: Resource, obj: Object, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    return _json_response(Version(obj).typed_json(resource.kind), status, warnings)


def _json_response(text: str, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    response = web.Response(body=text.encode(), status=status, content_type="application/json")
    for warning in warnings:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def _event_line(event: str, object_json: str) -> bytes:
    return f'{{"type":"{event}","object":{object_json}}}\n'.encode()


def _hang_up(request: web.Request) -> NoReturn:
    """Close the connection without (more of) an answer."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError


def _check_accepts(request: web.Request) -> None:
    accepted = [part.partition(";")[::2] for part in request.headers.get("Accept", "*/*").split(",")]
    # `application/json;as=Table` asks for another form of the answer.
    if not any(
        media.strip() in ("*/*", "application/*", "application/json") and "as=" not in options
        for media, options in accepted
    ):
        message = "406: Not Acceptable\n\nAvailable representations: application/json, application/json;stream=watch"
        raise StatusError(406, "NotAcceptable", message, {})
