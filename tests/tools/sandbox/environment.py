"""A container's environment, resolved as a kubelet resolves it.

``envFrom`` comes first and ``env`` after it, the later winning; ``$(NAME)`` refers to what has been set
before. Variables for Services, ``KUBERNETES_SERVICE_HOST`` among them, are left out: the sandbox has none.

See https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/ and
``makeEnvironmentVariables`` in https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kubelet_pods.go.
"""

import base64
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from kubernetes_asyncio.client import (
    V1ConfigMap,
    V1Container,
    V1EnvVarSource,
    V1ObjectFieldSelector,
    V1Pod,
    V1ResourceFieldSelector,
    V1Secret,
)


class CreateContainerConfigError(Exception):
    """What the container's environment refers to is not there (yet): a kubelet waits and tries again."""


class Reference(NamedTuple):
    """A ConfigMap or Secret that a container's environment refers to."""

    kind: str
    name: str


@dataclass(frozen=True)
class ReferencedData:
    """The data of the objects that a container's environment refers to, by what refers to them.

    An object that does not exist is not in `found`.
    """

    namespace: str
    found: Mapping[Reference, Mapping[str, str]] = field(default_factory=dict)

    def all_of(self, reference: Reference, *, optional: bool | None) -> Mapping[str, str]:
        """Return everything in an object; nothing if it does not exist and is optional."""
        data = self.found.get(reference)
        if data is None and not optional:
            raise CreateContainerConfigError(f'{reference.kind.lower()} "{reference.name}" not found')
        return data or {}

    def key_of(self, reference: Reference, key: str, *, optional: bool | None) -> str | None:
        """Return one key's value; None if it does not exist and is optional."""
        value = self.all_of(reference, optional=optional).get(key)
        if value is None and not optional:
            raise CreateContainerConfigError(
                f"couldn't find key {key} in {reference.kind} {self.namespace}/{reference.name}"
            )
        return value


def references(container: V1Container) -> Iterator[Reference]:
    """Return the ConfigMaps and Secrets that a container's environment refers to; some more than once."""
    for source in container.env_from or []:
        if source.config_map_ref:
            yield Reference("ConfigMap", source.config_map_ref.name)
        if source.secret_ref:
            yield Reference("Secret", source.secret_ref.name)
    for variable in container.env or []:
        if variable.value_from and variable.value_from.config_map_key_ref:
            yield Reference("ConfigMap", variable.value_from.config_map_key_ref.name)
        if variable.value_from and variable.value_from.secret_key_ref:
            yield Reference("Secret", variable.value_from.secret_key_ref.name)


def data_of(source: V1ConfigMap | V1Secret) -> dict[str, str]:
    """Return what an object holds, a Secret's decoded; ``binaryData`` is not for environments."""
    if isinstance(source, V1ConfigMap):
        return source.data or {}
    # Environments are bytes; the surrogates come out of execve() as the bytes that went in here.
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in (source.data or {}).items()}


def resolve_environment(pod: V1Pod, container: V1Container, data: ReferencedData) -> dict[str, str]:
    """Return the variables that a container is given on top of its image's own.

    Args:
        pod: The pod, bound to a node and with its address in ``status.podIP``.
        container: One of its containers.
        data: What :func:`references` refer to.

    Raises:
        CreateContainerConfigError: Something referred to does not exist and is not optional.
    """
    environment: dict[str, str] = {}
    for source in container.env_from or []:
        for kind, selector in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
            if selector:
                values = data.all_of(Reference(kind, selector.name), optional=selector.optional)
                prefix = source.prefix or ""
                environment |= {prefix + key: value for key, value in values.items()}
    for variable in container.env or []:
        if variable.value:
            environment[variable.name] = expand(variable.value, environment)
        elif variable.value_from:
            value = _value_from(variable.value_from, pod, container, data)
            if value is not None:
                environment[variable.name] = value
        else:
            environment[variable.name] = ""
    return environment


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace each ``$(NAME)`` that is set, leave those that are not, and make ``$$`` one ``$``."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replacement, text)


def _value_from(source: V1EnvVarSource, pod: V1Pod, container: V1Container, data: ReferencedData) -> str | None:
    for kind, selector in (("ConfigMap", source.config_map_key_ref), ("Secret", source.secret_key_ref)):
        if selector:
            return data.key_of(Reference(kind, selector.name), selector.key, optional=selector.optional)
    if source.field_ref:
        return _pod_field(pod, source.field_ref)
    if source.resource_field_ref:
        return _container_resource(pod, container, source.resource_field_ref)
    raise CreateContainerConfigError("the sandbox does not know this kind of valueFrom")


def _pod_field(pod: V1Pod, selector: V1ObjectFieldSelector) -> str:
    path = selector.field_path
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name or "default",
        "status.hostIP": pod.status.host_ip,
        "status.podIP": pod.status.pod_ip,
        "status.podIPs": pod.status.pod_ip,
    }
    if path in fields:
        return fields[path] or ""
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return (getattr(pod.metadata, match[1]) or {}).get(match[2], "")
    raise CreateContainerConfigError(f"unsupported fieldPath: {path}")


def _container_resource(pod: V1Pod, container: V1Container, selector: V1ResourceFieldSelector) -> str:
    if selector.container_name:
        container = next(c for c in pod.spec.containers if c.name == selector.container_name)
    kind, _, resource = selector.resource.partition(".")
    quantities = getattr(container.resources, kind, None) or {}
    if resource in quantities:
        amount = _parse_quantity(quantities[resource])
    elif kind == "requests":
        amount = Fraction(0)
    else:
        # Without a limit, the node's own size: https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
        amount = {
            "cpu": Fraction(os.cpu_count() or 1),
            "memory": Fraction(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        }.get(resource, Fraction(0))
    divisor = _parse_quantity(selector.divisor or "1")
    return str(math.ceil(amount / (divisor or 1)))


_SUFFIXES: dict[str, int | Fraction] = {"": 1, "k": 1000}
_SUFFIXES |= {letter: Fraction(1, 1000**power) for power, letter in enumerate("mun", start=1)}
_SUFFIXES |= {letter: 1000**power for power, letter in enumerate("MGTPE", start=2)}
_SUFFIXES |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}


def _parse_quantity(text: str) -> Fraction:
    """Parse a quantity that the API has let pass: ``500m``, ``2Gi``, ``1e3``."""
    match = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([numkMGTPE]?i?)", text)
    assert match is not None, text
    return Fraction(match[1]) * _SUFFIXES[match[2]]
