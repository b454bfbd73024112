"""What the API server adds to an object that is written, and what it refuses.

Validation covers what JupyterHub's objects need; its errors are worded as a real API server words them. Names of
environment variables follow the relaxed rule (any printable ASCII but `=`), which is on by default from Kubernetes
1.32 and fixed from 1.34:
https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/4369-allow-special-characters-environment-variable
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from sandbox.schema import Resource, parse_quantity
from sandbox.status import (
    Cause,
    Object,
    field_duplicate,
    field_forbidden,
    field_invalid,
    field_not_found,
    field_not_supported,
    field_required,
    field_too_long,
    invalid,
    not_implemented,
    quote,
)


def set_defaults(resource: Resource, obj: Object) -> None:
    """Fill in what the API's own defaulting fills in on every write."""
    spec = obj.setdefault("spec", {}) if resource.plural in _DEFAULTED_SPECS else {}
    match resource.plural:
        case "pods":
            for name, value in _POD_DEFAULTS.items():
                spec.setdefault(name, value)
            spec.setdefault("securityContext", {})
            for volume in spec.get("volumes", []):
                if volume.keys() <= {"name"}:
                    volume["emptyDir"] = {}
            for container in spec.get("initContainers", []) + spec.get("containers", []):
                _default_container(container)
            if (address := obj.get("status", {}).get("podIP")) is not None:
                obj["status"].setdefault("podIPs", [{"ip": address}])
            for status in obj.get("status", {}).get("containerStatuses", []):
                status.setdefault("state", {})
                status.setdefault("lastState", {})
            for condition in obj.get("status", {}).get("conditions", []):
                condition.setdefault("lastProbeTime", None)
                condition.setdefault("lastTransitionTime", None)
        case "services":
            spec.setdefault("type", "ClusterIP")
            spec.setdefault("sessionAffinity", "None")
            for port in spec.get("ports", []):
                port.setdefault("protocol", "TCP")
                port.setdefault("targetPort", port.get("port"))
        case "persistentvolumeclaims":
            spec.setdefault("volumeMode", "Filesystem")
        case "secrets":
            obj.setdefault("type", "Opaque")
            # `stringData` is for writing only.
            for key, text in obj.pop("stringData", {}).items():
                obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
        case "events":
            # These are written even when empty, and KubeSpawner relies on it.
            for name, value in _EVENT_DEFAULTS.items():
                obj.setdefault(name, value)


_DEFAULTED_SPECS = {"pods", "services", "persistentvolumeclaims"}
_POD_DEFAULTS = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
_EVENT_DEFAULTS: Object = {
    "source": {},
    "eventTime": None,
    "firstTimestamp": None,
    "lastTimestamp": None,
    "reportingComponent": "",
    "reportingInstance": "",
}


def _default_container(container: Object) -> None:
    tagged = re.search(r":(?!latest$)[^/:@]+$|@", container.get("image", ""))
    container.setdefault("imagePullPolicy", "IfNotPresent" if tagged else "Always")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    for name, limit in resources.get("limits", {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for variable in container.get("env", []):
        if "fieldRef" in variable.get("valueFrom", {}):
            variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def admit_new(resource: Resource, obj: Object) -> None:
    """Fill in what the admission plugins of a default installation fill in on creation."""
    if resource.plural == "pods":
        spec = obj["spec"]
        account = spec.setdefault("serviceAccountName", "default")
        spec |= {"serviceAccount": account, "priority": 0, "preemptionPolicy": "PreemptLowerPriority"}


def initial_status(resource: Resource) -> Object | None:
    """The status of a new object: whatever the client sent is no matter."""
    match resource.plural:
        case "namespaces":
            return {"phase": "Active"}
        case "pods" | "persistentvolumeclaims":
            return {"phase": "Pending"}
        case "services":
            return {"loadBalancer": {}}
    return None


def validate(resource: Resource, obj: Object, old: Object | None = None) -> None:
    """Check an object that is complete but for what the storage adds, and, with `old`, that it may change so.

    Raises:
        StatusError: 422, with every field that is wrong.
    """
    causes = [*_validate_metadata(resource, obj["metadata"])]
    causes += _VALIDATORS.get(resource.plural, lambda _: ())(obj)
    if old is not None:
        causes += _validate_change(resource, obj, old)
    if causes:
        raise invalid(resource.kind, obj["metadata"].get("name", ""), causes)


@dataclass(frozen=True)
class _Syntax:
    """What a name may look like, and how a real API server says it."""

    description: str
    form: str
    examples: tuple[str, ...]
    longest: int = 63
    unit: str = "characters"

    def problems(self, text: str) -> Iterator[str]:
        if len(text.encode()) > self.longest:
            yield f"must be no more than {self.longest} {self.unit}"
        if not re.fullmatch(self.form, text):
            yield self.problem

    @property
    def problem(self) -> str:
        examples = ",  or ".join(f"'{example}'" for example in self.examples)
        return f"{self.description} (e.g. {examples}, regex used for validation is '{self.form}')"


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = _Syntax(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character",
    _LABEL,
    ("my-name", "123-abc"),
)
_DNS_SUBDOMAIN = _Syntax(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character",
    rf"{_LABEL}(\.{_LABEL})*",
    ("example.com",),
    longest=253,
)
_LABEL_VALUE = _Syntax(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
    ("MyValue", "my_value", "12345"),
    unit="bytes",
)
_NAME_PART = _Syntax(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
    ("MyName", "my.name", "123-abc"),
    unit="bytes",
)
_CONFIG_KEY = _Syntax(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    "[-._a-zA-Z0-9]+",
    ("key.name", "KEY_NAME", "key-name"),
    longest=253,
)


def _dns_label_problems(text: str) -> Iterable[str]:
    # A longer name that is no label for its dots alone is told so.
    dotted = "." in text and re.fullmatch(_DNS_SUBDOMAIN.form, text)
    return ["must not contain dots"] if dotted else _DNS_LABEL.problems(text)


_NAME_PROBLEMS = {"namespaces": _dns_label_problems, "services": _dns_label_problems}


def _config_key_problems(key: str) -> Iterator[str]:
    yield from _CONFIG_KEY.problems(key)
    # Keys become file names.
    if key in (".", ".."):
        yield f"must not be '{key}'"
    elif key.startswith(".."):
        yield "must not start with '..'"


def _qualified_name_problems(name: str) -> Iterator[str]:
    prefix, slash, local = name.rpartition("/")
    if "/" in prefix:
        problem = f"a valid label key {_NAME_PART.problem}"
        yield f"{problem} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif prefix:
        yield from (f"prefix part {problem}" for problem in _DNS_SUBDOMAIN.problems(prefix))
    if not local:
        yield "name part must be non-empty"
    yield from (f"name part {problem}" for problem in _NAME_PART.problems(local))


def _validate_metadata(resource: Resource, metadata: Object) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield field_required("metadata.name", "name or generateName is required")
    else:
        for problem in _NAME_PROBLEMS.get(resource.plural, _DNS_SUBDOMAIN.problems)(name):
            yield field_invalid("metadata.name", name, problem)
    for key, value in metadata.get("labels", {}).items():
        for problem in _qualified_name_problems(key):
            yield field_invalid("metadata.labels", key, problem)
        for problem in _LABEL_VALUE.problems(value):
            yield field_invalid("metadata.labels", value, problem)
    annotations = metadata.get("annotations", {})
    for key in annotations:
        for problem in _qualified_name_problems(key.lower()):
            yield field_invalid("metadata.annotations", key, problem)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > 256 * 1024:
        yield field_too_long("metadata.annotations", "may not be more than 262144 bytes")
    for i, owner in enumerate(metadata.get("ownerReferences", [])):
        for needed in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(needed):
                yield field_required(f"metadata.ownerReferences[{i}].{needed}", "must not be empty")


def _validate_pod(pod: Object) -> Iterator[Cause]:
    spec = pod["spec"]
    volumes: set[str] = set()
    for i, volume in enumerate(spec.get("volumes", [])):
        yield from _validate_volume(volume, f"spec.volumes[{i}]", volumes)
    if not spec.get("containers"):
        yield field_required("spec.containers")
    names: set[str] = set()
    for where in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(where, [])):
            yield from _validate_container(container, f"spec.{where}[{i}]", names, volumes)
    policies = ("Always", "OnFailure", "Never")
    if spec["restartPolicy"] not in policies:
        yield field_not_supported("spec.restartPolicy", spec["restartPolicy"], policies)
    for i, toleration in enumerate(spec.get("tolerations", [])):
        yield from _validate_toleration(toleration, f"spec.tolerations[{i}]")


def _validate_toleration(toleration: Object, path: str) -> Iterator[Cause]:
    key, value, operator = (toleration.get(name, "") for name in ("key", "value", "operator"))
    if key:
        for problem in _qualified_name_problems(key):
            yield field_invalid(f"{path}.key", key, problem)
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield field_invalid(f"{path}.operator", operator, why)
    effect = toleration.get("effect", "")
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield field_invalid(f"{path}.effect", effect, why)
    if operator == "Exists" and value:
        yield field_invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    elif operator in ("", "Equal"):
        for problem in _LABEL_VALUE.problems(value):
            yield field_invalid(f"{path}.operator", value, problem)
    elif operator != "Exists":
        yield field_not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    if effect not in ("", *_EFFECTS):
        yield field_not_supported(f"{path}.effect", effect, _EFFECTS)


_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _unique_label(name: str, path: str, taken: set[str]) -> Iterator[Cause]:
    """Check a name that must be a DNS label and not among those taken."""
    if not name:
        yield field_required(path)
        return
    for problem in _dns_label_problems(name):
        yield field_invalid(path, name, problem)
    if name in taken:
        yield field_duplicate(path, name)
    taken.add(name)


def _validate_volume(volume: Object, path: str, names: set[str]) -> Iterator[Cause]:
    yield from _unique_label(volume.get("name", ""), f"{path}.name", names)
    for surplus in [key for key in volume if key != "name"][1:]:
        yield field_forbidden(f"{path}.{surplus}", "may not specify more than 1 volume type")


def _validate_container(container: Object, path: str, names: set[str], volumes: set[str]) -> Iterator[Cause]:
    yield from _unique_label(container.get("name", ""), f"{path}.name", names)
    image = container.get("image", "")
    if not image:
        yield field_required(f"{path}.image")
    elif image.strip() != image:
        yield field_invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    policies = ("Always", "IfNotPresent", "Never")
    if container["imagePullPolicy"] not in policies:
        yield field_not_supported(f"{path}.imagePullPolicy", container["imagePullPolicy"], policies)
    for i, variable in enumerate(container.get("env", [])):
        yield from _validate_variable(variable, f"{path}.env[{i}]")
    mounted: set[str] = set()
    for i, mount in enumerate(container.get("volumeMounts", [])):
        at, name, target = f"{path}.volumeMounts[{i}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield field_required(f"{at}.name")
        elif name not in volumes:
            yield field_not_found(f"{at}.name", name)
        if not target:
            yield field_required(f"{at}.mountPath")
        elif target in mounted:
            yield field_invalid(f"{at}.mountPath", target, "must be unique")
        mounted.add(target)
    yield from _validate_resources(container["resources"], f"{path}.resources")


_FIELDS_FOR_ENV = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
_FIELDS_NOT_FOR_ENV = (
    *("metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"),
)
_KEYED_FIELD = r"metadata\.(labels|annotations)\['[^']+'\]"


def _validate_variable(variable: Object, path: str) -> Iterator[Cause]:
    name = variable.get("name", "")
    if not name:
        yield field_required(f"{path}.name")
    elif not all(" " <= character <= "~" and character != "=" for character in name):
        message = "a valid environment variable name must consist only of printable ASCII characters other than '='"
        yield field_invalid(f"{path}.name", name, message)
    source = variable.get("valueFrom")
    if source is None:
        return
    if not source:
        one_of = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield field_invalid(f"{path}.valueFrom", "", f"must specify one of: {one_of}")
    elif variable.get("value"):
        yield field_invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    elif len(source) > 1:
        yield field_invalid(f"{path}.valueFrom", "", "may not have more than one field specified at a time")
    if "fieldRef" in source:
        at, field_path = f"{path}.valueFrom.fieldRef.fieldPath", source["fieldRef"].get("fieldPath", "")
        if not field_path:
            yield field_required(at)
        elif field_path in _FIELDS_NOT_FOR_ENV:
            yield field_not_supported(at, field_path, _FIELDS_FOR_ENV)
        elif field_path not in _FIELDS_FOR_ENV and not re.fullmatch(_KEYED_FIELD, field_path):
            why = f"error converting fieldPath: field label not supported: {field_path}"
            yield field_invalid(at, field_path, why)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if (reference := source.get(kind)) is None:
            continue
        at, name, key = f"{path}.valueFrom.{kind}", reference.get("name", ""), reference.get("key", "")
        for problem in _DNS_SUBDOMAIN.problems(name):
            yield field_invalid(f"{at}.name", name, problem)
        if not key:
            yield field_required(f"{at}.key")
        else:
            for problem in _config_key_problems(key):
                yield field_invalid(f"{at}.key", key, problem)


_HUGE_PAGES = "hugepages-"


def _validate_resources(resources: Object, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for where, quantities in (("limits", limits), ("requests", requests)):
        for name, quantity in quantities.items():
            at = f"{path}.{where}[{name}]"
            for problem in _qualified_name_problems(name):
                yield field_invalid(at, name, problem)
            if "/" not in name and not _is_standard(name):
                yield field_invalid(at, name, "must be a standard resource type or fully qualified")
                yield field_invalid(at, name, "must be a standard resource for containers")
            if parse_quantity(quantity) < 0:
                yield field_invalid(at, quantity, "must be greater than or equal to 0")
            if "/" in name and not _is_countable(parse_quantity(quantity)):
                yield field_invalid(at, quantity, "must be an integer")
            if name.startswith(_HUGE_PAGES) and not _is_whole_pages(name, parse_quantity(quantity)):
                yield field_invalid(at, quantity, f"{quantity} is not positive integer multiple of {name}")
    for name, request in requests.items():
        overcommitted = _is_standard(name) and not name.startswith(_HUGE_PAGES)
        if name not in limits:
            if not overcommitted:
                yield field_required(f"{path}.limits", "Limit must be set for non overcommitable resources")
            continue
        limit = limits[name]
        if parse_quantity(request) != parse_quantity(limit) and not overcommitted:
            yield field_invalid(f"{path}.requests", request, f"must be equal to {name} limit of {limit}")
        elif parse_quantity(request) > parse_quantity(limit):
            problem = f"must be less than or equal to {name} limit of {limit}"
            yield field_invalid(f"{path}.requests", request, problem)
    given = limits.keys() | requests.keys()
    if any(name.startswith(_HUGE_PAGES) for name in given) and not given & {"cpu", "memory"}:
        yield field_forbidden(path, "HugePages require cpu or memory")


def _is_standard(resource_name: str) -> bool:
    return resource_name in ("cpu", "memory", "ephemeral-storage") or resource_name.startswith(_HUGE_PAGES)


def _is_countable(pieces: Decimal) -> bool:
    # They are counted in thousandths, of 64 bits.
    return pieces == pieces.to_integral_value() and pieces * 1000 < 2**63


def _is_whole_pages(resource_name: str, amount: Decimal) -> bool:
    try:
        size = parse_quantity(resource_name.removeprefix(_HUGE_PAGES))
    except ValueError:
        return False
    return size > 0 and amount % size == 0


_MEBIBYTE = 1024 * 1024


def _validate_data(obj: Object) -> Iterator[Cause]:
    """Check the keys and the size of a ConfigMap or a Secret."""
    size = 0
    for where, encoded in (("data", "type" in obj), ("binaryData", True)):
        for key, value in obj.get(where, {}).items():
            for problem in _config_key_problems(key):
                yield field_invalid(f"{where}[{key}]", key, problem)
            if where == "binaryData" and key in obj.get("data", {}):
                yield field_invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            size += len(base64.b64decode(value)) if encoded else len(value.encode())
    if size > _MEBIBYTE:
        yield field_too_long("data" if "type" in obj else "[]", f"may not be more than {_MEBIBYTE} bytes")


def _validate_claim(claim: Object) -> Iterator[Cause]:
    if not claim["spec"].get("accessModes"):
        yield field_required("spec.accessModes", "at least 1 access mode is required")
    if "storage" not in claim["spec"].get("resources", {}).get("requests", {}):
        yield field_required("spec.resources[storage]")


def _validate_service(service: Object) -> Iterator[Cause]:
    spec = service["spec"]
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield field_required("spec.ports")


def _validate_event(event: Object) -> Iterator[Cause]:
    involved = event.get("involvedObject", {}).get("namespace", "")
    # An event about something without a namespace is kept in `default`.
    if event["metadata"]["namespace"] != (involved or "default"):
        yield field_invalid("involvedObject.namespace", involved, "does not match event.namespace")
    if event["eventTime"]:
        for needed in ("reportingComponent", "reportingInstance", "action", "reason"):
            if not event.get(needed):
                yield field_required(needed)
            if needed == "reportingComponent":
                for problem in _qualified_name_problems(event[needed]):
                    yield field_invalid(needed, event[needed], problem)


_VALIDATORS: dict[str, Callable[[Object], Iterator[Cause]]] = {
    "configmaps": _validate_data,
    "events": _validate_event,
    "persistentvolumeclaims": _validate_claim,
    "pods": _validate_pod,
    "secrets": _validate_data,
    "services": _validate_service,
}


def _validate_change(resource: Resource, new: Object, old: Object) -> Iterator[Cause]:
    added = sorted(set(new["metadata"].get("finalizers", [])) - set(old["metadata"].get("finalizers", [])))
    if added and "deletionTimestamp" in old["metadata"]:
        why = "no new finalizers can be added if the object is being deleted, found new finalizers"
        yield field_forbidden("metadata.finalizers", f"{why} []string{{{', '.join(map(quote, added))}}}")
    if resource.plural in ("configmaps", "secrets") and old.get("immutable"):
        message = "field is immutable when `immutable` is set"
        if not new.get("immutable"):
            yield field_forbidden("immutable", message)
        for name in ("data", "binaryData"):
            if new.get(name) != old.get(name):
                yield field_forbidden(name, message)
    if resource.plural == "secrets" and new["type"] != old["type"]:
        yield field_invalid("type", new["type"], "field is immutable")
    if resource.plural == "pods" and len(new["spec"].get("containers", [])) != len(old["spec"]["containers"]):
        yield field_forbidden("spec.containers", "pod updates may not add or remove containers")
    elif resource.plural == "pods" and _without(new["spec"], "image") != _without(old["spec"], "image"):
        also = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
        if _without(new["spec"], "image", *also) == _without(old["spec"], "image", *also):
            raise not_implemented(f"change {', '.join(also)} of a pod")
        yield field_forbidden("spec", f"pod updates may not change fields other than {_CHANGEABLE_IN_A_POD}")
    if resource.plural == "persistentvolumeclaims" and new["spec"] != old["spec"]:
        raise not_implemented("change the spec of a PersistentVolumeClaim, of which some may be changed")


_CHANGEABLE_IN_A_POD = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def _without(spec: Object, *fields: str) -> Object:
    """The spec of a pod without some fields of its own and of its containers."""
    kept = {name: value for name, value in spec.items() if name not in fields}
    for where in ("initContainers", "containers"):
        kept[where] = [{k: v for k, v in each.items() if k not in fields} for each in spec.get(where, [])]
    return kept
