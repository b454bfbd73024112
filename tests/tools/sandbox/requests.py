"""What a request to the API asks for: its verb and its object, by method and path; its parameters and its body."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from kubernetes_asyncio.client import models

from sandbox.registry import DeleteOptions, WriteOptions, in_namespace
from sandbox.schema import RESOURCES, Decoder, DecodingError, Resource
from sandbox.status import (
    StatusError,
    bad_request,
    field_not_supported,
    invalid,
    no_such_path,
    not_implemented,
    quote,
)
from sandbox.storage import Predicate, field_requirements, field_selector, label_selector

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WRITE_PARAMETERS = {"dryRun", "fieldManager", "fieldValidation"}
_LIST_PARAMETERS = {
    *("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch"),
    *("watch", "timeoutSeconds", "allowWatchBookmarks"),
}
_PARAMETERS = {
    "get": {"resourceVersion"},
    "list": _LIST_PARAMETERS,
    "watch": _LIST_PARAMETERS,
    "create": _WRITE_PARAMETERS,
    "update": _WRITE_PARAMETERS,
    "patch": _WRITE_PARAMETERS,
    "delete": {"dryRun", "gracePeriodSeconds", "propagationPolicy", "orphanDependents"},
}
# Of the core group, and known to a real API server.
_NOT_SERVED = {
    *("bindings", "componentstatuses", "endpoints", "limitranges", "nodes", "persistentvolumes", "podtemplates"),
    *("replicationcontrollers", "resourcequotas"),
}
_DELETE_OPTIONS = Resource("", "DeleteOptions", models.V1DeleteOptions)


@dataclass(frozen=True)
class RequestInfo:
    """One request, without its body.

    Attributes:
        verb: as in RBAC: get, list, watch, create, update, patch, delete.
        namespace: empty for all namespaces, and for what has none.
        name: empty for a list or a creation.
        number: how many requests were there before.
        at: when it arrived, by `time.monotonic`.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    number: int = 0
    at: float = 0.0

    def fits(self, verb: str | None, resource: str | None, name: str | None, namespace: str | None) -> bool:
        """Whether this is a request as described; `None` stands for any."""
        described = ((verb, self.verb), (resource, self.resource), (name, self.name), (namespace, self.namespace))
        return all(expected is None or expected == actual for expected, actual in described)


def parse_request(request: web.Request, number: int) -> RequestInfo:
    """What a request asks for, by its method and path.

    Raises:
        StatusError: 404 for a path, 405 for a method that nothing is served under; 501 where a real API server would
            serve something, or for a parameter that is not known here.
    """
    steps = request.path.strip("/").split("/")
    if steps in (["api"], ["api", "v1"]):
        raise not_implemented(f"serve {request.path}")
    if steps[:2] != ["api", "v1"]:
        raise no_such_path()
    steps = steps[2:]
    namespace = ""
    if steps[0] == "namespaces" and len(steps) >= 3 and steps[2] not in ("status", "finalize"):
        namespace, steps = steps[1], steps[2:]
    resource, name, subresource, *more = *steps, *[""] * (3 - len(steps))
    if resource in _NOT_SERVED:
        raise not_implemented(f"serve {resource}")
    found = RESOURCES.get(resource)
    if found is None or more or (namespace and not found.namespaced) or (name and found.namespaced and not namespace):
        raise no_such_path()
    verb = _verb(request, found, name, subresource)
    if verb in ("list", "watch"):
        # As a real API server does it, so that a Role may allow to watch a single object.
        for path, equal, value in field_requirements(resource, request.query.get("fieldSelector", "")):
            name = value if equal and path == "metadata.name" else name
    if verb == "create" and found.namespaced and not namespace:
        raise method_not_allowed()
    if unknown := set(request.query) - _PARAMETERS[verb]:
        raise not_implemented(f"know the parameter {min(unknown)} of {verb}")
    return RequestInfo(verb, resource, namespace, name, subresource, number, time.monotonic())


def _verb(request: web.Request, resource: Resource, name: str, subresource: str) -> str:
    verb = _VERBS.get(request.method, "")
    if subresource == "binding" and resource.plural == "pods":
        if verb != "create":
            raise method_not_allowed()
        return "create"
    if subresource == "status" and resource.has_status:
        if verb not in ("get", "update", "patch"):
            raise method_not_allowed()
        return verb
    if subresource:
        raise not_implemented(f"serve {resource.plural}/{subresource}")
    if verb == "delete" and not name:
        raise not_implemented("delete collections")
    if verb not in (("get", "update", "patch", "delete") if name else ("get", "create")):
        raise method_not_allowed()
    if name or verb == "create":
        return verb
    return "watch" if _is_true(request.query.get("watch", "false")) else "list"


def selection(info: RequestInfo, query: Mapping[str, str]) -> Predicate:
    """Which objects a list or a watch is about."""
    fields = field_selector(field_requirements(info.resource, query.get("fieldSelector", "")))
    labels, inside = label_selector(query.get("labelSelector", "")), in_namespace(info.namespace)
    return lambda obj: inside(obj) and labels(obj) and fields(obj)


def write_options(request: web.Request) -> WriteOptions:
    """The parameters of a creation, an update or a patch.

    Raises:
        StatusError: 422, for a value that is none of those there are.
    """
    query = request.query
    validation = query.get("fieldValidation", "Warn") or "Warn"
    kind = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}[request.method]
    levels = ("", "Ignore", "Strict", "Warn")
    if validation not in levels:
        cause = field_not_supported("fieldValidation", validation, levels)
        raise invalid(f"{kind}.meta.k8s.io", "", [cause])
    return WriteOptions(_is_dry_run(query.getall("dryRun", []), kind), validation)


async def delete_options(request: web.Request) -> DeleteOptions:
    """The options of a deletion: those of its body, or else, as a real API server has it, its parameters.

    Raises:
        StatusError: 400 and 422 for what are no options, 501 for those that are not known here.
    """
    if request.can_read_body:
        try:
            given = Decoder(_DELETE_OPTIONS).decode(await read_json(request, _DELETE_OPTIONS))
        except DecodingError as exc:
            raise bad_request(str(exc)) from None
    else:
        given = {"dryRun": request.query.getall("dryRun", [])}
        for name, read in (
            ("gracePeriodSeconds", _integer),
            ("orphanDependents", _is_true),
            ("propagationPolicy", str),
        ):
            if name in request.query:
                given[name] = read(request.query[name])
    if given.get("propagationPolicy", "Background") != "Background" or given.get("orphanDependents"):
        raise not_implemented("leave dependents, or wait for them: it deletes them in the background")
    preconditions = given.get("preconditions", {})
    return DeleteOptions(
        given.get("gracePeriodSeconds"),
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        _is_dry_run(given.get("dryRun", []), "DeleteOptions"),
    )


def _is_dry_run(values: Sequence[str], kind: str) -> bool:
    if set(values) - {"All"}:
        raise invalid(f"{kind}.meta.k8s.io", "", [field_not_supported("dryRun", list(values), ["All"])])
    return bool(values)


def _is_true(text: str) -> bool:
    """A boolean parameter, as Kubernetes reads it: anything but these is true."""
    return text.lower() not in ("false", "0")


def number_parameter(query: Mapping[str, str], name: str) -> int:
    """A parameter that is a number; 0 if it is not there.

    Raises:
        StatusError: 400.
    """
    return _integer(query.get(name) or "0")


def resource_version(info: RequestInfo, query: Mapping[str, str]) -> int:
    """The parameter `resourceVersion`; 0 if it is not there.

    Raises:
        StatusError: 400 for a list, and, as in a real API server, 500 for others.
    """
    text = query.get("resourceVersion") or "0"
    try:
        return int(text)
    except ValueError:
        syntax = f"strconv.ParseUint: parsing {quote(text)}: invalid syntax"
        why = f"resourceVersion: Invalid value: {quote(text)}: {syntax}"
        if info.verb == "list":
            raise bad_request(f"invalid resource version: {why}") from None
        raise StatusError(500, "", why) from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax") from None


async def read_json(request: web.Request, resource: Resource) -> Any:
    """The body of a request.

    Raises:
        StatusError: 400, where it is not JSON.
    """
    try:
        return json.loads(await request.read())
    except ValueError:
        if request.method == "PATCH":
            raise bad_request("invalid JSON patch") from None
        why = "couldn't get version/kind; json parse error"
        raise bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {why}") from None


def method_not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})
