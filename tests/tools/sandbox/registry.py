"""What the verbs of the API do to objects: create, update, patch, delete, list.

Between the HTTP of `api` and the `storage`. Of what controllers do around a real API server there are two things here,
both done at once: the objects of a deleted owner go, and those of a deleted namespace.
"""

import base64
import binascii
import json
import random
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes_asyncio.client import models

from sandbox.admission import admit_new, initial_status, set_defaults, validate
from sandbox.schema import RESOURCES, Decoder, DecodingError, Resource
from sandbox.status import (
    Object,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    expired,
    field_invalid,
    forbidden,
    invalid,
    not_found,
    quote,
)
from sandbox.storage import Key, Predicate, Storage, Version

_SET_BY_THE_SERVER = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_PERMANENT_NAMESPACES = ("default", "kube-public", "kube-system")
_BINDING = Resource("bindings", "Binding", models.V1Binding)
_OWNER_KINDS = {resource.kind for resource in RESOURCES.values()}


@dataclass
class WriteOptions:
    """How to write.

    Attributes:
        dry_run: go through everything but the storage.
        field_validation: what an unknown field is: `Ignore`, `Warn` or `Strict`.
        warnings: collects what a client is warned of.
    """

    dry_run: bool = False
    field_validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


@dataclass
class DeleteOptions:
    """`DeleteOptions` of the API, as far as they are known here."""

    grace_period_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


@dataclass
class Page:
    """A list, or the part of it that `limit` lets through."""

    versions: Sequence[Version]
    revision: int
    continue_token: str = ""
    remaining: int = 0


class Registry:
    """The objects of the cluster and the rules for changing them.

    Objects that its methods return are the stored ones: they must not be changed.

    Args:
        history: how many changes of each resource a watch can go back.
    """

    def __init__(self, history: int) -> None:
        self.storage = Storage(list(RESOURCES), history)
        self._resource_of_uid: dict[str, tuple[Resource, Key]] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
        self._population: Counter[str] = Counter()
        self._pages: OrderedDict[str, Sequence[Version]] = OrderedDict()

    def read(self, resource: Resource, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            StatusError: 404.
        """
        obj = self.storage.get(resource.plural, (namespace, name))
        if obj is None:
            raise not_found(resource.plural, name)
        return obj

    def list(self, resource: Resource, selects: Predicate, limit: int = 0, token: str = "") -> Page:
        """The selected objects, in pages if there is a limit; the pages of one list show one moment.

        Raises:
            StatusError: 400 for a token that is none, 410 for one that is too old.
        """
        if token:
            revision, versions = self._resume(token)
        else:
            revision, versions = self.storage.revision, self.storage.list(resource.plural, selects)
        if limit <= 0 or len(versions) <= limit:
            return Page(versions, revision)
        page, rest = versions[:limit], versions[limit:]
        start = {"v": "meta.k8s.io/v1", "rv": revision, "start": "\0".join(page[-1].key), "for": uuid.uuid4().hex}
        token = base64.urlsafe_b64encode(json.dumps(start).encode()).decode().rstrip("=")
        self._pages[token] = rest
        if len(self._pages) > 100:
            self._pages.popitem(last=False)
        return Page(page, revision, token, len(rest))

    def _resume(self, token: str) -> tuple[int, Sequence[Version]]:
        try:
            revision = int(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))["rv"])
        except (binascii.Error, ValueError, KeyError, TypeError):
            raise bad_request("invalid continue token: continue key is not valid") from None
        if token not in self._pages:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a "
                "new list without the continue parameter."
            )
        return revision, self._pages[token]

    def create(self, resource: Resource, namespace: str, body: Any, options: WriteOptions) -> Object:
        """Store a new object.

        Raises:
            StatusError: 400, 403, 404 for its namespace, 409 AlreadyExists, 422.
        """
        obj = self._decode(resource, body, options)
        metadata = obj["metadata"]
        self._place(resource, namespace, metadata)
        if metadata.get("resourceVersion"):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        for name in _SET_BY_THE_SERVER:
            metadata.pop(name, None)
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
            metadata["name"] = metadata["generateName"][:58] + suffix
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _timestamp()}
        self._prepare_new(resource, obj)
        validate(resource, obj)
        if (existing := self.storage.get(resource.plural, (namespace, metadata["name"]))) is not None:
            raise already_exists(resource.plural, metadata["name"], leaving="deletionTimestamp" in existing["metadata"])
        if options.dry_run:
            return obj
        return self._write(resource, obj)

    def _decode(self, resource: Resource, body: Any, options: WriteOptions, *, patched: bool = False) -> Object:
        decoder = Decoder(resource)
        try:
            obj = decoder.decode(body)
        except DecodingError as exc:
            if patched:
                raise invalid("", "", [field_invalid("patch", json.dumps(body), str(exc))]) from None
            raise bad_request(exc.message) from None
        unknown = [f'unknown field "{path}"' for path in decoder.unknown]
        if unknown and options.field_validation == "Strict":
            why = f"strict decoding error: {', '.join(unknown)}"
            raise bad_request(f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {why}')
        if options.field_validation == "Warn":
            options.warnings += unknown
        set_defaults(resource, obj)
        return obj

    def _place(self, resource: Resource, namespace: str, metadata: Object) -> None:
        """Put a new object into its namespace, which must exist and be there to stay."""
        if not resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        home = self.storage.get("namespaces", ("", namespace))
        if home is None:
            raise not_found("namespaces", namespace)
        if home["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            message = f"namespace {namespace} is being terminated"
            causes = [{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]
            raise forbidden(resource.plural, metadata.get("name", ""), why, causes)

    def _prepare_new(self, resource: Resource, obj: Object) -> None:
        admit_new(resource, obj)
        obj.pop("status", None)
        if (status := initial_status(resource)) is not None:
            obj["status"] = status
        if resource.plural == "pods":
            obj["metadata"]["generation"] = 1
        if resource.plural == "namespaces":
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")

    def update(
        self, resource: Resource, namespace: str, name: str, body: Any, options: WriteOptions, subresource: str = ""
    ) -> Object:
        """Replace an object, or, through `status`, its status alone.

        Raises:
            StatusError: 400, 404, 409 Conflict for an outdated `resourceVersion` or another's `uid`, 422.
        """
        new = self._decode(resource, body, options)
        _check_place(resource, namespace, name, new["metadata"])
        old = self.read(resource, namespace, name)
        if not (version := new["metadata"].get("resourceVersion", "0")).isdecimal():
            raise StatusError(500, "", f"strconv.ParseUint: parsing {quote(version)}: invalid syntax")
        if (uid := new["metadata"].get("uid", "")) not in ("", actual := old["metadata"]["uid"]):
            key = "/".join(filter(None, ("/registry", resource.plural, namespace, name)))
            failed = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
            why = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {failed}"
            raise conflict(resource.plural, name, why)
        return self._replace(resource, old, new, options, subresource)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], Any],
        options: WriteOptions,
        subresource: str = "",
    ) -> Object:
        """Replace an object with what `change` makes of it.

        Raises:
            StatusError: as `update` does, and what `change` raises.
        """
        old = self.read(resource, namespace, name)
        body = change({"kind": resource.kind, "apiVersion": "v1", **old})
        new = self._decode(resource, body, options, patched=True)
        _check_place(resource, namespace, name, new["metadata"])
        return self._replace(resource, old, new, options, subresource)

    def _replace(self, resource: Resource, old: Object, new: Object, options: WriteOptions, subresource: str) -> Object:
        metadata = new["metadata"]
        if metadata.get("resourceVersion", "") not in ("", old["metadata"]["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(resource.plural, metadata["name"], why)
        changed = [
            field_invalid(f"metadata.{name}", metadata[name], "field is immutable")
            for name in ("uid", "deletionTimestamp", "deletionGracePeriodSeconds")
            if name in metadata and metadata[name] != old["metadata"].get(name)
        ]
        if changed:
            raise invalid(resource.kind, metadata["name"], changed)
        for kept in (*_SET_BY_THE_SERVER, "resourceVersion", *(["ownerReferences"] if subresource else [])):
            metadata.pop(kept, None)
            if kept in old["metadata"]:
                metadata[kept] = old["metadata"][kept]
        if subresource == "status":
            new = {**old, "metadata": metadata, "status": new.get("status", {})}
        elif resource.has_status:
            new["status"] = old["status"]
            if "generation" in metadata and new["spec"] != old["spec"]:
                metadata["generation"] += 1
        if resource.plural == "namespaces":
            new["spec"] = old["spec"]
        validate(resource, new, old)
        if new == old or options.dry_run:
            return new
        if "deletionTimestamp" in metadata and not _is_held(new):
            # Its last finalizer has let go of it.
            self._remove(resource, old)
            return new
        return self._write(resource, new)

    def bind(self, namespace: str, name: str, body: Any, options: WriteOptions) -> None:
        """Assign a pod to a node, as a scheduler does.

        Raises:
            StatusError: 400 for the binding of another pod, 404, 409 for a pod that is assigned already or on its way
                out, 500 (as in a real API server) without a node.
        """
        pods = RESOURCES["pods"]
        binding = self._decode(_BINDING, body, options)
        if binding["metadata"].get("name") != name:
            raise bad_request("name in URL does not match name in Binding object")
        node = binding.get("target", {}).get("name")
        if not node:
            raise StatusError(500, "", "target.name: Required value")
        pod = self.read(pods, namespace, name)
        if "deletionTimestamp" in pod["metadata"]:
            raise conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
        if assigned := pod["spec"].get("nodeName"):
            raise conflict("pods/binding", name, f'pod {name} is already assigned to node "{assigned}"')
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": _timestamp(),
        }
        conditions = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodScheduled"]
        status = {**pod["status"], "conditions": [*conditions, scheduled]}
        if not options.dry_run:
            self._write(pods, {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status})

    def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Object:
        """Delete an object, or begin to: a pod on a node goes when its kubelet says so.

        Returns:
            The object as it last was.

        Raises:
            StatusError: 403 for a namespace that is there to stay, 404, 409 where a precondition fails.
        """
        old = self.read(resource, namespace, name)
        _check_preconditions(resource, old, options)
        if resource.plural == "namespaces":
            return self._delete_namespace(old, options)
        grace = _grace_period(old, options) if resource.plural == "pods" else 0
        if resource.plural == "pods" or old["metadata"].get("finalizers"):
            new = _marked_for_deletion(old, grace)
            if options.dry_run or new == old:
                return new
            new = self._write(resource, new)
            return new if _is_held(new) else self._remove(resource, new)
        return old if options.dry_run else self._remove(resource, old)

    def _delete_namespace(self, old: Object, options: DeleteOptions) -> Object:
        name = old["metadata"]["name"]
        if name in _PERMANENT_NAMESPACES:
            raise forbidden("namespaces", name, "this namespace may not be deleted")
        if "deletionTimestamp" in old["metadata"]:
            why = (
                "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace "
                "will automatically be purged by the system."
            )
            raise conflict("namespaces", name, why)
        metadata = {**old["metadata"], "deletionTimestamp": _timestamp()}
        new = {**old, "metadata": metadata, "status": {**old["status"], "phase": "Terminating"}}
        if options.dry_run:
            return new
        new = self._write(RESOURCES["namespaces"], new)
        for resource in RESOURCES.values():
            for version in self.storage.list(resource.plural, in_namespace(name)) if resource.namespaced else ():
                # What an earlier one of them owned is gone already.
                if self.storage.get(resource.plural, version.key) is not None:
                    self.delete(resource, *version.key, DeleteOptions())
        self._finish_namespace(name)
        return new

    def _finish_namespace(self, name: str) -> None:
        """Remove a namespace that is being deleted, once nothing is left in it."""
        namespace = self.storage.get("namespaces", ("", name))
        if namespace and namespace["status"]["phase"] == "Terminating" and not self._population[name]:
            self._remove(RESOURCES["namespaces"], namespace)

    def _write(self, resource: Resource, obj: Object) -> Object:
        stored = self.storage.write(resource.plural, obj)
        metadata = stored["metadata"]
        key = metadata.get("namespace", ""), metadata["name"]
        if metadata["uid"] not in self._resource_of_uid:
            self._resource_of_uid[metadata["uid"]] = (resource, key)
            self._population[key[0]] += 1
        for owner in metadata.get("ownerReferences", []):
            self._dependents[owner["uid"]].add(metadata["uid"])
        self._collect(metadata["uid"])
        return stored

    def _remove(self, resource: Resource, obj: Object) -> Object:
        metadata = obj["metadata"]
        uid, namespace = metadata["uid"], metadata.get("namespace", "")
        gone = self.storage.remove(resource.plural, (namespace, metadata["name"]))
        del self._resource_of_uid[uid]
        self._population[namespace] -= 1
        for owner in metadata.get("ownerReferences", []):
            self._dependents[owner["uid"]].discard(uid)
        for dependent in self._dependents.pop(uid, set()):
            self._collect(dependent)
        if namespace:
            self._finish_namespace(namespace)
        return gone

    def _collect(self, uid: str) -> None:
        """Delete an object that has owners, if none of them is left."""
        if uid not in self._resource_of_uid:
            return
        resource, key = self._resource_of_uid[uid]
        metadata = self.read(resource, *key)["metadata"]
        owners = metadata.get("ownerReferences", [])
        if not owners or "deletionTimestamp" in metadata:
            return
        # Whether an owner of a kind that is not served here is there, nobody knows: it counts as there.
        if not any(owner["uid"] in self._resource_of_uid or owner["kind"] not in _OWNER_KINDS for owner in owners):
            self.delete(resource, *key, DeleteOptions())


def in_namespace(namespace: str) -> Predicate:
    """The selection of a namespace's objects; of all objects, if it is empty."""
    return lambda obj: not namespace or obj["metadata"].get("namespace") == namespace


def _check_place(resource: Resource, namespace: str, name: str, metadata: Object) -> None:
    """Check that an object is the one that the path of its request names."""
    given = metadata.get("name")
    if not given:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if given != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
    if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _check_preconditions(resource: Resource, obj: Object, options: DeleteOptions) -> None:
    metadata = obj["metadata"]
    for field_name, expected, actual, suspicion in (
        ("UID", options.uid, metadata["uid"], "deleted and then recreated"),
        ("ResourceVersion", options.resource_version, metadata["resourceVersion"], "modified"),
    ):
        if expected not in (None, actual):
            difference = f"the {field_name} in the precondition ({expected}) does not match the {field_name} in record"
            why = f"{difference} ({actual}). The object might have been {suspicion}"
            # A real API server names the kind here, not the resource.
            raise conflict(resource.kind, metadata["name"], why)


def _grace_period(pod: Object, options: DeleteOptions) -> int:
    """The seconds that a pod is given, by the rules of a real API server."""
    terminated = pod["status"].get("phase") in ("Failed", "Succeeded")
    if not pod["spec"].get("nodeName") or terminated:
        return 0
    if options.grace_period_seconds is None:
        return int(pod["spec"]["terminationGracePeriodSeconds"])
    return options.grace_period_seconds if options.grace_period_seconds >= 0 else 1


def _marked_for_deletion(obj: Object, grace: int) -> Object:
    """The object with its deletion announced; once it is, its grace period can only become shorter."""
    metadata = dict(obj["metadata"])
    if "deletionTimestamp" in metadata:
        before = metadata.get("deletionGracePeriodSeconds", 0)
        if grace >= before:
            return obj
        announced = datetime.fromisoformat(metadata["deletionTimestamp"]) - timedelta(seconds=before)
        metadata["deletionTimestamp"] = _timestamp(announced + timedelta(seconds=grace))
    else:
        metadata["deletionTimestamp"] = _timestamp(datetime.now(UTC) + timedelta(seconds=grace))
        if "generation" in metadata:
            metadata["generation"] += 1
    metadata["deletionGracePeriodSeconds"] = grace
    return {**obj, "metadata": metadata}


def _is_held(obj: Object) -> bool:
    """Whether something keeps an object whose deletion was announced: a finalizer, or a pod's kubelet."""
    metadata = obj["metadata"]
    finalizers = metadata.get("finalizers") or obj.get("spec", {}).get("finalizers")
    return bool(finalizers or metadata.get("deletionGracePeriodSeconds"))


def _timestamp(moment: datetime | None = None) -> str:
    return f"{moment or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
