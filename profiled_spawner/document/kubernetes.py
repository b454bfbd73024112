"""The Kubernetes objects in a profile: their fields, and the API server's rules for them.

`SHAPES` defines the fields of each type, `RULES` and `FIELD_RANGES` the values of a field, and `_CHECKS` the rules for
several fields together. Validation and JSON Schema are made from these. The source of the rules is
https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ..errors import QuantityError
from .limits import MAX_TEMPLATE
from .quantity import AMOUNT_PATTERN, parse_quantity
from .rules import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_NAME,
    LABEL_VALUE,
    OBJECT_NAME,
    QUALIFIED_NAME,
    Rule,
    is_label_or_annotation_name,
    may_begin_hub_owned,
)
from .templates import (
    TEMPLATE_PATTERN,
    Template,
    expand_example,
    explain_collision,
    find_templates,
    is_unique_per_user,
)
from .validator import Path, Validator
from .yaml_tree import Mapping, Node, Scalar

__all__ = [
    "FIELD_RANGES",
    "RULES",
    "SHAPES",
    "UNSUPPORTED_VOLUMES",
    "Field",
    "Object",
    "Schema",
    "describe_object",
    "describe_text",
    "find_alternatives",
    "read_object",
    "read_objects",
    "read_text",
    "read_texts",
]

Object: TypeAlias = MappingABC[str, Any]
"""A Kubernetes object as in a manifest, of immutable mappings and tuples."""
Schema: TypeAlias = dict[str, Any]
"""A part of a JSON Schema."""

# The fields of each type: "name" is a text, "name:int" a number, "name:Other" an object of another type, "[…]" a list
# and "{…}" a mapping of these; "!" marks a required field. The types have the names of Kubernetes' API. If a type
# has different rules in different places, it has a name of ours for each place.
_SHAPES = """
EnvVarSource                secretKeyRef:SecretKeySelector configMapKeyRef:ConfigMapKeySelector
                            fieldRef:ObjectFieldSelector resourceFieldRef:ResourceFieldSelector
SecretKeySelector           name! key! optional:bool
ConfigMapKeySelector        name! key! optional:bool
ObjectFieldSelector         fieldPath! apiVersion
ResourceFieldSelector       resource! containerName divisor
EnvFromSource               secretRef:SecretEnvSource configMapRef:ConfigMapEnvSource prefix
SecretEnvSource             name! optional:bool
ConfigMapEnvSource          name! optional:bool

Toleration                  key operator value effect tolerationSeconds:int

NodeAffinity                requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
                            preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
NodeSelector                nodeSelectorTerms!:[NodeSelectorTerm]
NodeSelectorTerm            matchExpressions:[NodeSelectorRequirement] matchFields:[FieldRequirement]
NodeSelectorRequirement     key! operator! values:[text]
FieldRequirement            key! operator! values:[text]
PreferredSchedulingTerm     weight!:int preference!:NodeSelectorTerm

MountedVolume               name! mountPath! subPath readOnly:bool
                            persistentVolumeClaim:PersistentVolumeClaimVolumeSource secret:SecretVolumeSource
                            configMap:ConfigMapVolumeSource emptyDir:EmptyDirVolumeSource nfs:NFSVolumeSource
                            csi:CSIVolumeSource ephemeral:EphemeralVolumeSource projected:ProjectedVolumeSource
                            hostPath:HostPathVolumeSource downwardAPI:DownwardAPIVolumeSource image:ImageVolumeSource
PersistentVolumeClaimVolumeSource claimName! readOnly:bool
SecretVolumeSource          secretName! items:[KeyToPath] defaultMode:int optional:bool
ConfigMapVolumeSource       name! items:[KeyToPath] defaultMode:int optional:bool
KeyToPath                   key! path! mode:int
EmptyDirVolumeSource        medium sizeLimit:quantity
NFSVolumeSource             server! path! readOnly:bool
CSIVolumeSource             driver! fsType nodePublishSecretRef:LocalObjectReference readOnly:bool
                            volumeAttributes:{text}
LocalObjectReference        name!
HostPathVolumeSource        path! type
DownwardAPIVolumeSource     items:[DownwardAPIVolumeFile] defaultMode:int
DownwardAPIVolumeFile       path! fieldRef:FileFieldSelector resourceFieldRef:FileResourceSelector mode:int
FileFieldSelector           fieldPath! apiVersion
FileResourceSelector        resource! containerName! divisor
ImageVolumeSource           reference! pullPolicy
EphemeralVolumeSource       volumeClaimTemplate!:PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate metadata:ObjectMeta spec!:PersistentVolumeClaimSpec
ObjectMeta                  labels:{text} annotations:{text}
PersistentVolumeClaimSpec   accessModes!:[text] resources!:VolumeResourceRequirements storageClassName volumeMode
                            volumeName selector:LabelSelector dataSource:TypedLocalObjectReference
                            dataSourceRef:TypedObjectReference volumeAttributesClassName
VolumeResourceRequirements  requests!:{quantity} limits:{quantity}
LabelSelector               matchLabels:{text} matchExpressions:[LabelSelectorRequirement]
LabelSelectorRequirement    key! operator! values:[text]
TypedLocalObjectReference   apiGroup kind! name!
TypedObjectReference        apiGroup kind! name!
ProjectedVolumeSource       sources!:[VolumeProjection] defaultMode:int
VolumeProjection            secret:SecretProjection configMap:ConfigMapProjection
                            downwardAPI:DownwardAPIProjection serviceAccountToken:ServiceAccountTokenProjection
                            clusterTrustBundle:ClusterTrustBundleProjection
                            podCertificate:PodCertificateProjection
SecretProjection            name! items:[KeyToPath] optional:bool
ConfigMapProjection         name! items:[KeyToPath] optional:bool
DownwardAPIProjection       items:[DownwardAPIVolumeFile]
ServiceAccountTokenProjection path! audience expirationSeconds:int
ClusterTrustBundleProjection path! name signerName labelSelector:LabelSelector optional:bool
PodCertificateProjection    signerName! keyType! maxExpirationSeconds:int credentialBundlePath keyPath
                            certificateChainPath
"""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a type.

    Attributes:
        name: The field's name in a manifest.
        kind: The type of its value, or of each value: ``text``, ``int``, ``bool``, ``quantity``, or a key of `SHAPES`.
        many: Whether it has a list of values, or a mapping of names to values. Empty: one value.
        required: Whether the API server requires the field.
    """

    name: str
    kind: str
    many: Literal["", "list", "mapping"]
    required: bool


UNSUPPORTED_VOLUMES = frozenset(
    {
        *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker"),
        *("gcePersistentDisk", "gitRepo", "glusterfs", "iscsi", "photonPersistentDisk", "portworxVolume", "quobyte"),
        *("rbd", "scaleIO", "storageos", "vsphereVolume"),
    }
)
"""Kinds of volumes that Kubernetes removed or moved to CSI drivers, or that a hub cannot provide."""
# Advice for keys that a type of Kubernetes has, and a document cannot have.
_HINTS = {
    "MountedVolume": dict.fromkeys(
        UNSUPPORTED_VOLUMES, "this kind of volume is not supported; use csi, or a persistentVolumeClaim"
    )
}

_FIELD = re.compile(r"(?P<name>\w+)(?P<required>!?)(?::(?P<open>[\[{]?)(?P<kind>\w+)[\]}]?)?")


def _read_shapes(text: str) -> dict[str, dict[str, Field]]:
    shapes: dict[str, dict[str, Field]] = {}
    fields: dict[str, Field] = {}
    for line in text.splitlines():
        words = line.split()
        if line and not line[0].isspace():
            fields = shapes[words.pop(0)] = {}
        for word in words:
            match = _FIELD.fullmatch(word)
            assert match, word
            many: Any = {"[": "list", "{": "mapping"}.get(match["open"] or "", "")
            fields[match["name"]] = Field(match["name"], match["kind"] or "text", many, bool(match["required"]))
    return shapes


SHAPES: MappingProxyType[str, dict[str, Field]] = MappingProxyType(_read_shapes(_SHAPES))
"""The fields of each type by name."""

_MEMBER = rf"metadata\.(?:labels|annotations)\['{QUALIFIED_NAME}'\]"
_NO_PARENT = r"(?!(?:.*/)?\.\.(?:/|$))"
# Kubernetes allows control characters in paths, but nobody wants them.
_CHARACTERS = r"[^\x00-\x1f\x7f]"

_OBJECT_NAME = replace(OBJECT_NAME, template=True, is_shared=True)
_SECRET_KEY = Rule(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+", "not a key that a Secret can have", longest=253)
_CONFIGMAP_KEY = Rule(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+", "not a key that a ConfigMap can have", longest=253)
_FILE = Rule(
    rf"(?!/|\.\.){_NO_PARENT}{_CHARACTERS}+", "must be a relative path, on one line and without '..'", template=True
)
# For a volume's other texts: KubeSpawner expands fields in all texts of volumes.
_FREE = Rule(r"[\s\S]*", "", template=True, is_shared=True)
_RESOURCE = Rule(
    r"(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)",
    "not a resource that Kubernetes offers, such as limits.memory or requests.cpu",
)
_CONTAINER = Rule(DNS_LABEL, "not the name of a container", longest=63)
_POD_FIELDS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
_FILE_FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")


def _one_of(*words: str) -> Rule:
    *others, last = [word or '""' for word in words]
    what = f"must be {', '.join(others)} or {last}" if others else f"must be {last}"
    return Rule("|".join(map(re.escape, words)), what)


def _field_path(fields: tuple[str, ...]) -> Rule:
    return Rule(
        "|".join([*(re.escape(field) for field in fields), _MEMBER]),
        f"not a field that Kubernetes offers: {', '.join(fields)}, metadata.labels['…'] or metadata.annotations['…']",
    )


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("SecretKeySelector.name", "ConfigMapKeySelector.name", "SecretEnvSource.name"),
                *("ConfigMapEnvSource.name", "SecretVolumeSource.secretName", "ConfigMapVolumeSource.name"),
                *("PersistentVolumeClaimVolumeSource.claimName", "LocalObjectReference.name"),
                *("SecretProjection.name", "ConfigMapProjection.name"),
            ),
            _OBJECT_NAME,
        ),
        "SecretKeySelector.key": _SECRET_KEY,
        "ConfigMapKeySelector.key": _CONFIGMAP_KEY,
        "ObjectFieldSelector.fieldPath": _field_path(_POD_FIELDS),
        "ObjectFieldSelector.apiVersion": _one_of("v1"),
        "ResourceFieldSelector.resource": _RESOURCE,
        "ResourceFieldSelector.containerName": _CONTAINER,
        "EnvFromSource.prefix": Rule(
            r"(?!\.\.|\.$)(?:[-._a-zA-Z][-._a-zA-Z0-9]*)?",
            "not what a variable's name can begin with; use letters, digits, '_', '-' and '.', and no digit first",
        ),
        "Toleration.key": Rule(f"(?:{QUALIFIED_NAME})?", "not the name of a taint, such as nvidia.com/gpu"),
        "Toleration.operator": _one_of("Exists", "Equal"),
        "Toleration.value": Rule(
            LABEL_VALUE.pattern, "not a taint's value; use up to 63 letters, digits, '-', '_' and '.'"
        ),
        "Toleration.effect": _one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
        "NodeSelectorRequirement.key": LABEL_NAME,
        "NodeSelectorRequirement.operator": _one_of("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"),
        "NodeSelectorRequirement.values": LABEL_VALUE,
        "FieldRequirement.key": _one_of("metadata.name"),
        "FieldRequirement.operator": _one_of("In", "NotIn"),
        "FieldRequirement.values": Rule(DNS_SUBDOMAIN, "not the name of a node", longest=253),
        "MountedVolume.name": Rule(
            DNS_LABEL, "not the name of a volume; use up to 63 lower-case letters, digits and '-'", longest=63
        ),
        "MountedVolume.mountPath": Rule(
            rf"{_NO_PARENT}/(?=[^:]*[^:/])[^:\x00-\x1f\x7f]*",
            "must be an absolute path below '/', on one line and without '..' and ':'",
            template=True,
        ),
        "MountedVolume.subPath": Rule(
            rf"(?!/){_NO_PARENT}{_CHARACTERS}+", "must be a relative path, on one line and without '..'", template=True
        ),
        "KeyToPath.key": _CONFIGMAP_KEY,
        "KeyToPath.path": _FILE,
        "EmptyDirVolumeSource.medium": Rule(
            r"(?:Memory|HugePages(?:-[0-9]+[KMG]i)?)?", 'must be Memory, HugePages or "" for the node\'s disk'
        ),
        "NFSVolumeSource.path": Rule(
            rf"(?=/){_NO_PARENT}{_CHARACTERS}+",
            "must be an absolute path, on one line and without '..'",
            template=True,
            is_shared=True,
        ),
        "CSIVolumeSource.driver": Rule(
            r"[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?", "not the name of a CSI driver", longest=63
        ),
        "HostPathVolumeSource.path": Rule(
            rf"{_NO_PARENT}{_CHARACTERS}+",
            "must be a path, on one line and without '..'",
            template=True,
            is_shared=True,
        ),
        "HostPathVolumeSource.type": _one_of(
            "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
        ),
        "DownwardAPIVolumeFile.path": _FILE,
        "FileFieldSelector.fieldPath": _field_path(_FILE_FIELDS),
        "FileFieldSelector.apiVersion": _one_of("v1"),
        "FileResourceSelector.resource": _RESOURCE,
        "FileResourceSelector.containerName": _CONTAINER,
        "ImageVolumeSource.pullPolicy": _one_of("Always", "IfNotPresent", "Never"),
        "PersistentVolumeClaimSpec.accessModes": _one_of(
            "ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"
        ),
        "PersistentVolumeClaimSpec.volumeMode": _one_of("Filesystem"),
        "PersistentVolumeClaimSpec.storageClassName": Rule(
            f"(?:{DNS_SUBDOMAIN})?", "not the name of a StorageClass", longest=253
        ),
        "PersistentVolumeClaimSpec.volumeAttributesClassName": Rule(
            DNS_SUBDOMAIN, "not the name of a VolumeAttributesClass", longest=253
        ),
        **dict.fromkeys(
            ("PodCertificateProjection.signerName", "ClusterTrustBundleProjection.signerName"),
            Rule(
                rf"{DNS_LABEL}\.{DNS_SUBDOMAIN}/{DNS_SUBDOMAIN}",
                "not the name of a signer, such as example.com/signer",
            ),
        ),
        "PodCertificateProjection.keyType": _one_of(
            "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"
        ),
        "PodCertificateProjection.credentialBundlePath": _FILE,
        "PodCertificateProjection.keyPath": _FILE,
        "PodCertificateProjection.certificateChainPath": _FILE,
        **dict.fromkeys(
            ("TypedLocalObjectReference.apiGroup", "TypedObjectReference.apiGroup"),
            Rule(DNS_SUBDOMAIN, "not the name of an API group, such as snapshot.storage.k8s.io", longest=253),
        ),
        "ObjectMeta.labels": LABEL_VALUE,
        "LabelSelector.matchLabels": LABEL_VALUE,
        "LabelSelectorRequirement.key": LABEL_NAME,
        "LabelSelectorRequirement.operator": _one_of("In", "NotIn", "Exists", "DoesNotExist"),
        "LabelSelectorRequirement.values": LABEL_VALUE,
        "ServiceAccountTokenProjection.path": _FILE,
        "ClusterTrustBundleProjection.path": _FILE,
    }
)
"""Rules by ``Type.field``."""

_INT32 = (-(2**31), 2**31 - 1)
# Mappings whose keys are names of labels or of annotations.
_NAMED = frozenset({"ObjectMeta.labels", "ObjectMeta.annotations", "LabelSelector.matchLabels"})

FIELD_RANGES = {
    **dict.fromkeys(
        (
            *("SecretVolumeSource.defaultMode", "ConfigMapVolumeSource.defaultMode", "KeyToPath.mode"),
            *("DownwardAPIVolumeSource.defaultMode", "DownwardAPIVolumeFile.mode"),
            "ProjectedVolumeSource.defaultMode",
        ),
        (0, 0o777),
    ),
    "Toleration.tolerationSeconds": (-(2**63), 2**63 - 1),
    "PreferredSchedulingTerm.weight": (1, 100),
    "ServiceAccountTokenProjection.expirationSeconds": (600, 2**32),
    "PodCertificateProjection.maxExpirationSeconds": (3600, 91 * 86400),
}
"""The least and the greatest value of a number, by ``Type.field``. Other numbers have 32 bits."""

# An object of these types has exactly one of the fields that are objects themselves.
_ALTERNATIVES = frozenset(
    {"EnvVarSource", "EnvFromSource", "MountedVolume", "VolumeProjection", "DownwardAPIVolumeFile"}
)

_DIVISORS = {
    "cpu": frozenset({"0", "1m", "1"}),
    "memory": frozenset(["0", "1", *(f"1{prefix}" for prefix in "kMGTPE"), *(f"1{prefix}i" for prefix in "KMGTPE")]),
}

_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_OCTAL = re.compile(r"0o?[0-7]{1,11}")


@cache
def find_alternatives(kind: str) -> tuple[str, ...]:
    """Returns the fields of which an object of the type has exactly one; empty: there are no such fields."""
    if kind not in _ALTERNATIVES:
        return ()
    return tuple(name for name, field in SHAPES[kind].items() if field.kind in SHAPES and not field.many)


def _find_volume_kinds() -> frozenset[str]:
    """Returns the type of volumes, and all types within it."""
    kinds, left = set[str](), ["MountedVolume"]
    while left:
        kind = left.pop()
        if kind not in kinds:
            kinds.add(kind)
            left += [field.kind for field in SHAPES[kind].values() if field.kind in SHAPES]
    return frozenset(kinds)


_VOLUME_KINDS = _find_volume_kinds()


def find_rule(place: str) -> Rule | None:
    """Returns the rule for a text, by ``Type.field``; None: any text is valid."""
    return RULES.get(place) or (_FREE if place.partition(".")[0] in _VOLUME_KINDS else None)


def read_object(validator: Validator, node: Node, path: Path, kind: str, *, empty: str = "") -> Object | None:
    """Reads an object of a type.

    Args:
        validator: Collects the errors.
        node: The object.
        path: Its place.
        kind: Its type, a key of `SHAPES`.
        empty: How to write an empty value, if that is possible.

    Returns:
        The object; None: it is not a mapping. A text whose KubeSpawner fields are expanded is a `Template`.
    """
    return validator.once(node, kind, lambda: _read_mapping(validator, node, path, kind, empty))


def _read_mapping(validator: Validator, node: Node, path: Path, kind: str, empty: str) -> Object | None:
    fields = SHAPES[kind]
    if not isinstance(node, Mapping):
        validator.wrong_type(node, path, f"a mapping with {_describe(kind)}", empty=empty)
        return None
    errors = validator.count
    entries = validator.known_entries(node, path, tuple(fields), _name(path), hints=_HINTS.get(kind, {}))
    misspelled = validator.count > errors
    for name, field in fields.items():
        if field.required and name not in entries:
            validator.error(node, path, f"has no '{name}'")
    found = MappingProxyType(
        {name: _read_field(validator, value, (*path, name), kind, name) for name, (_, value) in entries.items()}
    )
    alternatives = find_alternatives(kind)
    given = [name for name in alternatives if name in entries]
    if alternatives and len(given) != 1 and (given or not misspelled):
        validator.error(node, path, _one_alternative(given, alternatives))
    check = _CHECKS.get(kind)
    for where, what in check(found) if check else ():
        validator.error(entries[where][1] if where in entries else node, (*path, where) if where else path, what)
    return found


def read_objects(validator: Validator, node: Node, path: Path, kind: str) -> tuple[Object, ...]:
    """Reads a list of objects of a type, without those that have a wrong type."""

    def read() -> tuple[Object, ...]:
        items = enumerate(validator.items(node, path))
        found = [read_object(validator, item, (*path, position), kind) for position, item in items]
        return tuple([each for each in found if each is not None])

    return validator.once(node, f"list of {kind}", read)


def read_texts(
    validator: Validator, node: Node, path: Path, explain_name: Callable[[str], str | None], rule: Rule | None
) -> MappingProxyType[str, str]:
    """Reads labels or annotations.

    Args:
        validator: Collects the errors.
        node: The mapping.
        path: Its place.
        explain_name: Returns the problem of a name; None: it has none.
        rule: The rule for the values.
    """

    def read() -> MappingProxyType[str, str]:
        found: dict[str, str] = {}
        for name, key, value, here in _named(validator, node, path, "a mapping of names to texts"):
            problem = explain_name(name)
            if problem:
                validator.error(key, here, problem)
            text = read_text(validator, value, here, rule)
            if text is not None:
                found[name] = text
        return MappingProxyType(found)

    return validator.once(node, str(path[-1]), read)


def _named(validator: Validator, node: Node, path: Path, wanted: str) -> Iterator[tuple[str, Node, Node, Path]]:
    """Yields each name with its key, its value and the value's path. The path only shows names of labels."""
    if not isinstance(node, Mapping):
        validator.wrong_type(node, path, wanted, empty=f"{path[-1]}: {{}}")
        return
    for name, (key, value) in validator.entries(node, path, is_label_or_annotation_name).items():
        yield name, key, value, (*path, validator.step(key, is_public=is_label_or_annotation_name(name)))


def _read_field(validator: Validator, node: Node, path: Path, kind: str, name: str) -> Any:
    field = SHAPES[kind][name]
    place = f"{kind}.{name}"
    if field.many == "list":
        if field.kind in SHAPES:
            return read_objects(validator, node, path, field.kind)
        items = enumerate(validator.items(node, path))
        return tuple([_read_value(validator, item, (*path, index), field.kind, place) for index, item in items])
    if field.many == "mapping":
        found = {}
        for label, key, value, here in _named(validator, node, path, "a mapping"):
            if place in _NAMED and LABEL_NAME.explain(label):
                validator.error(key, path, "has a key that is not a label's name, such as team or example.org/team")
            found[label] = _read_value(validator, value, here, field.kind, place)
        return MappingProxyType(found)
    return _read_value(validator, node, path, field.kind, place)


def _read_value(validator: Validator, node: Node, path: Path, kind: str, place: str) -> Any:
    if kind in SHAPES:
        return read_object(validator, node, path, kind)
    if kind == "text":
        return read_text(validator, node, path, find_rule(place))
    text = validator.text(node, path)
    if text is None:
        return None
    value, problem = _READ[kind](text, place)
    if problem:
        what = "not a Kubernetes quantity" if kind == "quantity" and not validator.is_quotable(node) else problem
        validator.error(node, path, what)
    return value


def _read_bool(text: str, _: str) -> tuple[bool, str | None]:
    return text == "true", None if text in ("true", "false") else "must be true or false"


def _read_quantity(text: str, _: str) -> tuple[str | None, str | None]:
    try:
        return parse_quantity(text).text, None
    except QuantityError as error:
        return None, str(error)


def _read_integer(text: str, place: str) -> tuple[int, str | None]:
    least, most = FIELD_RANGES.get(place, _INT32)
    octal = _OCTAL.fullmatch(text)
    if not octal and not _INTEGER.fullmatch(text):
        return 0, "must be a whole number"
    # As in YAML 1.1 and kubectl, a number such as a mode of 0644 is octal.
    number = int(text.replace("o", ""), 8) if octal else int(text)
    span = f"{least:o} to {most:o}, in octal digits behind a 0" if most == 0o777 else f"{least} to {most}"
    return number, None if least <= number <= most else f"must be from {span}"


_READ: dict[str, Callable[[str, str], tuple[Any, str | None]]] = {
    "bool": _read_bool,
    "int": _read_integer,
    "quantity": _read_quantity,
}


def read_text(validator: Validator, node: Node, path: Path, rule: Rule | None) -> str | None:
    """Reads a text, which may be empty if the rule allows it. Returns None if there is none."""
    # Unlike in a profile's own sections, "" has a meaning in many fields of Kubernetes.
    is_written_empty = isinstance(node, Scalar) and not node.value and not node.plain
    text = "" if is_written_empty else validator.text(node, path)
    if text is None or rule is None:
        return text
    if rule.template and ("{" in text or "}" in text):
        example, problem = expand_example(text)
        problem = problem or rule.explain(example) or (explain_collision(text) if rule.is_shared else None)
        text = Template(text, rule.explain, rule.is_shared)
    elif rule.template and len(text) > MAX_TEMPLATE:
        problem = f"has {len(text):,} characters; use at most {MAX_TEMPLATE:,}"
    else:
        problem = rule.explain(text)
    if problem is not None:
        validator.error(node, path, problem if text else "must not be empty")
    return text


def describe_object(kind: str) -> Schema:
    """Returns the JSON Schema of a type. It refers to other types as ``#/$defs/TYPE``."""
    fields = SHAPES[kind]
    alternatives = find_alternatives(kind)
    required = [name for name, field in fields.items() if field.required]
    return {
        "description": f"Kubernetes' {kind}." if kind != "MountedVolume" else "Kubernetes' Volume, and where it goes.",
        "type": "object",
        "properties": {name: _describe_field(kind, field) for name, field in fields.items()},
        **({"required": required} if required else {}),
        **({"oneOf": [{"required": [name]} for name in alternatives]} if alternatives else {}),
        "additionalProperties": False,
    }


def _describe_field(kind: str, field: Field) -> Schema:
    is_object = field.kind in SHAPES
    one = {"$ref": f"#/$defs/{field.kind}"} if is_object else _describe_value(field.kind, f"{kind}.{field.name}")
    if field.many == "list":
        return {"type": "array", "items": one}
    return {"type": "object", "additionalProperties": one} if field.many == "mapping" else one


def _describe_value(kind: str, place: str) -> Schema:
    if kind == "text":
        return describe_text(find_rule(place))
    if kind == "bool":
        return {"enum": [True, False, "true", "false"]}
    if kind == "quantity":
        return {"type": ["string", "number"], "pattern": f"^{AMOUNT_PATTERN}$", "minimum": 0}
    least, most = FIELD_RANGES.get(place, _INT32)
    # A parser of YAML 1.2 reads a mode of 0777 as the decimal number 777.
    most = 777 if most == 0o777 else most
    return {"type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": "^[-+]?(?:0o)?[0-9]+$"}


def describe_text(rule: Rule | None) -> Schema:
    """Returns the JSON Schema of a text, which a YAML parser may have read as a number or a boolean."""
    schema: Schema = {"type": ["string", "number", "boolean"]}
    if rule is None:
        return schema
    if rule.template:
        return schema | {"pattern": rf"^(?:(?![\s\S]*[{{}}])(?:{rule.pattern})|{TEMPLATE_PATTERN})$"}
    return schema | {"pattern": f"^(?:{rule.pattern})$"} | ({"maxLength": rule.longest} if rule.longest else {})


def _describe(kind: str) -> str:
    required = [name for name, field in SHAPES[kind].items() if field.required]
    return " and ".join(required[:3]) or f"one of {_some(find_alternatives(kind) or tuple(SHAPES[kind]))}"


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, …"


def _one_alternative(given: list[str], alternatives: tuple[str, ...]) -> str:
    if given:
        return f"has {' and '.join(given[:3])}, of which it can have one"
    return f"must have one of {_some(alternatives)}"


def _name(path: Path) -> str:
    """Returns what an error calls the object at a path: ``volumes`` for ``volumes[1]``."""
    return next((step for step in reversed(path) if isinstance(step, str)), "this")


_Problems: TypeAlias = Iterator[tuple[str, str]]
"""Fields, each with its problem."""

_PROJECTED_FILES = ("path", "credentialBundlePath", "keyPath", "certificateChainPath")


def _check_volume(volume: Object) -> _Problems:
    problem = explain_collision(volume.get("subPath") or "")
    # In a volume that only one user has, a path may be the same for two users.
    if problem and not any(map(is_unique_per_user, find_templates(volume))):
        yield "subPath", problem


def _check_env_from(source: Object) -> _Problems:
    if may_begin_hub_owned(source.get("prefix") or ""):
        yield "prefix", "could make a variable that belongs to the hub; use another prefix"


def _check_resource_field(selector: Object) -> _Problems:
    resource = (selector.get("resource") or "").partition(".")[2]
    if selector.get("divisor", "0") not in _DIVISORS["cpu" if resource == "cpu" else "memory"]:
        yield "divisor", "not a divisor that this resource can have, such as 1"


def _check_toleration(toleration: Object) -> _Problems:
    if toleration.get("operator") == "Exists" and toleration.get("value"):
        yield "value", "must be left out with the operator Exists, which has no value"
    if not toleration.get("key") and toleration.get("operator") != "Exists":
        yield "key", "is required, except with the operator Exists, which then tolerates all taints"
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        yield "tolerationSeconds", "only has a meaning with the effect NoExecute"


def _check_requirement(requirement: Object) -> _Problems:
    operator = requirement.get("operator")
    values: tuple[str | None, ...] = requirement.get("values") or ()
    if operator in ("In", "NotIn") and not values:
        yield "values", f"must list at least one value for the operator {operator}"
    if operator in ("Exists", "DoesNotExist") and values:
        yield "values", f"must be left out with the operator {operator}"
    if operator in ("Gt", "Lt") and not (len(values) == 1 and re.fullmatch(r"-?[0-9]{1,18}", values[0] or "")):
        yield "values", f"must be one whole number for the operator {operator}"


def _check_field_requirement(requirement: Object) -> _Problems:
    if len(requirement.get("values") or ()) != 1:
        yield "values", "must be the name of one node"


def _check_node_selector(selector: Object) -> _Problems:
    terms = selector.get("nodeSelectorTerms")
    if terms == ():
        yield "nodeSelectorTerms", "must have at least one term"
    for position, term in enumerate(terms or ()):
        if not term.get("matchExpressions") and not term.get("matchFields"):
            yield "nodeSelectorTerms", f"has a term without expressions ({position}), which matches no node"


def _check_claim(spec: Object) -> _Problems:
    modes = spec.get("accessModes")
    if modes == ():
        yield "accessModes", "must name at least one, such as ReadWriteOnce"
    if modes and "ReadWriteOncePod" in modes and set(modes) != {"ReadWriteOncePod"}:
        yield "accessModes", "cannot combine ReadWriteOncePod with other modes"
    resources = spec.get("resources")
    if resources is not None and "storage" not in (resources.get("requests") or ()):
        yield "resources", "must request storage: {requests: {storage: 1Gi}}"
    elif (
        resources is not None
        and resources["requests"]["storage"]
        and not parse_quantity(resources["requests"]["storage"]).amount
    ):
        yield "resources", "must request more than 0 of storage"
    if "dataSource" in spec and "dataSourceRef" in spec:
        yield "dataSource", "cannot be combined with dataSourceRef"


def _check_projected(source: Object) -> _Problems:
    taken: set[str] = set()
    for projection in source.get("sources") or ():
        for each in (projection or {}).values():
            files = [each.get(name) for name in _PROJECTED_FILES] if each else []
            files += [item.get("path") for item in each.get("items") or ()] if each else []
            for path in filter(None, files):
                if path in taken:
                    yield "sources", "has two files with the same path"
                    return
                taken.add(path)


def _check_source(reference: Object) -> _Problems:
    if not reference.get("apiGroup") and reference.get("kind") not in (None, "PersistentVolumeClaim"):
        yield "kind", "must be PersistentVolumeClaim without an apiGroup"


def _check_trust_bundle(projection: Object) -> _Problems:
    if ("name" in projection) == ("signerName" in projection):
        yield "name", "must be given, or signerName, but not both"
    if "labelSelector" in projection and "signerName" not in projection:
        yield "labelSelector", "only has a meaning with signerName"


def _check_certificate(projection: Object) -> _Problems:
    if not {"credentialBundlePath", "keyPath", "certificateChainPath"} & set(projection):
        yield "credentialBundlePath", "must be given, or keyPath and certificateChainPath"


_CHECKS: dict[str, Callable[[Object], _Problems]] = {
    "EnvFromSource": _check_env_from,
    "MountedVolume": _check_volume,
    "ResourceFieldSelector": _check_resource_field,
    "FileResourceSelector": _check_resource_field,
    "Toleration": _check_toleration,
    "NodeSelectorRequirement": _check_requirement,
    "LabelSelectorRequirement": _check_requirement,
    "FieldRequirement": _check_field_requirement,
    "NodeSelector": _check_node_selector,
    "PersistentVolumeClaimSpec": _check_claim,
    "ProjectedVolumeSource": _check_projected,
    "TypedLocalObjectReference": _check_source,
    "TypedObjectReference": _check_source,
    "ClusterTrustBundleProjection": _check_trust_bundle,
    "PodCertificateProjection": _check_certificate,
}
