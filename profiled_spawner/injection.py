"""Pod and effective profile to the pod that is sent.

Works on the manifest that KubeSpawner has built, and on a copy of what it changes: the variables and resources of
the notebook container, and two annotations. The container may be a model or, where an admin's
``extra_pod_config`` or ``extra_container_config`` put one there, a plain dictionary in Kubernetes' spelling; so may
its environment and its resources.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio.client import (
    V1ConfigMapKeySelector,
    V1EnvVar,
    V1EnvVarSource,
    V1ObjectFieldSelector,
    V1Pod,
    V1ResourceFieldSelector,
    V1ResourceRequirements,
    V1SecretKeySelector,
)

from .document import EnvValue, EnvVarSource, is_hub_owned
from .errors import QuantityError
from .merging import EffectiveProfile, Resources, settle_resources
from .quantity import Quantity, format_bytes, format_cores, parse_quantity

__all__ = [
    "APPLIED",
    "SOURCE",
    "Injection",
    "find_env_values",
    "find_image",
    "format_names",
    "hide_env_values",
    "inject_profile",
]

APPLIED = "profiled-spawner/applied"
SOURCE = "profiled-spawner/source"

_MAX_ANNOTATION_BYTES = 4096

_MASK = "***"

# JupyterHub's names for a container's resources, and how it writes them.
_HUB_VARIABLES = {
    "MEM_LIMIT": ("limits", "memory", format_bytes),
    "MEM_GUARANTEE": ("requests", "memory", format_bytes),
    "CPU_LIMIT": ("limits", "cpu", format_cores),
    "CPU_GUARANTEE": ("requests", "cpu", format_cores),
}

# A reference to another variable; $$ is how Kubernetes escapes a dollar.
_REFERENCE = re.compile(r"\$\$|\$\(([^)]+)\)")


@dataclass(frozen=True, slots=True)
class Injection:
    """A pod with a profile in it.

    Attributes:
        pod: The pod to create.
        resources: What its notebook container gets, and which guarantees that overruled.
    """

    pod: V1Pod = field(repr=False)
    resources: Resources


def find_image(pod: V1Pod) -> str:
    """The image that the pod's notebook container runs."""
    containers = pod.spec.containers
    return _get(containers[_notebook(containers)], "image") or ""


def inject_profile(pod: V1Pod, effective: EffectiveProfile, source: str | None) -> Injection:
    """Puts what the profiles give into a pod.

    Neither argument is changed; what the new pod shares with the old one is what nobody changed.

    Args:
        pod: The manifest that KubeSpawner built.
        effective: The merged profiles.
        source: What the document was read from, as the annotation is to say; None for no such annotation.
    """
    containers = list(pod.spec.containers)
    position = _notebook(containers)
    container = containers[position]

    requirements = _get(container, "resources")
    raw = {kind: dict(_get(requirements, kind) or {}) for kind in ("limits", "requests")}
    own = {kind: _quantities(amounts) for kind, amounts in raw.items()}
    resources = settle_resources(effective, own["limits"], own["requests"])
    settled = {"limits": resources.limits, "requests": resources.requests}

    env = {_get(variable, "name"): variable for variable in _get(container, "env") or ()}
    for name in sorted(effective.env):
        value = effective.env[name].value
        if value is None:
            env.pop(name, None)
        else:
            env[name] = _variable(name, value)
    for name, (kind, resource, write) in _HUB_VARIABLES.items():
        setting = settled[kind].get(resource)
        if setting is None and resource in getattr(effective, kind):
            env.pop(name, None)
        elif setting is not None and setting.value is not own[kind].get(resource):
            env[name] = V1EnvVar(name=name, value=write(setting.value))

    for kind, amounts in raw.items():
        for resource in (own[kind].keys() | getattr(effective, kind).keys()) - settled[kind].keys():
            amounts.pop(resource, None)
        for resource, setting in settled[kind].items():
            if setting.value is not own[kind].get(resource):
                amounts[resource] = setting.value.text

    containers[position] = _with(
        container,
        env=_order_variables(env),
        resources=_with(requirements or V1ResourceRequirements(), **raw),
    )
    annotations = dict(pod.metadata.annotations or {})
    annotations[APPLIED] = format_names(
        (profile.label for profile in effective.applied), max_bytes=_MAX_ANNOTATION_BYTES
    )
    if source is not None:
        annotations[SOURCE] = source
    return Injection(
        _with(
            pod,
            metadata=_with(pod.metadata, annotations=annotations),
            spec=_with(pod.spec, containers=containers),
        ),
        resources,
    )


def hide_env_values(pod: V1Pod) -> V1Pod:
    """A copy of a pod for logs, in which no environment variable has its value."""
    spec = _with(
        pod.spec,
        containers=_hide_each(pod.spec.containers),
        init_containers=_hide_each(pod.spec.init_containers),
    )
    hidden: V1Pod = _with(pod, spec=spec)
    return hidden


def find_env_values(pod: V1Pod) -> set[str]:
    """The values of a pod's environment variables, but for those by which the hub knows a server."""
    containers = [*pod.spec.containers, *(pod.spec.init_containers or ())]
    variables = [variable for container in containers for variable in _get(container, "env") or ()]
    values = {_get(variable, "value") for variable in variables if not is_hub_owned(_get(variable, "name") or "")}
    return {value for value in values if isinstance(value, str)}


def _hide_each(containers: Iterable[Any] | None) -> list[Any]:
    return [
        _with(
            container,
            env=[
                _with(variable, value=_MASK) if _get(variable, "value") else variable
                for variable in _get(container, "env") or ()
            ],
        )
        for container in containers or ()
    ]


def format_names(names: Iterable[str], *, max_bytes: int) -> str:
    """A JSON list of names; where that is too long, of the first of them, and ``"…"``."""
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    whole = f"[{', '.join(quoted)}]"
    if len(whole.encode()) <= max_bytes:
        return whole
    left = max_bytes - len('["…"]'.encode())
    kept = []
    for name in quoted:
        left -= len(f"{name}, ".encode())
        if left < 0:
            break
        kept.append(name)
    kept.append('"…"')
    return f"[{', '.join(kept)}]"


def _notebook(containers: list[Any]) -> int:
    """Where the notebook container is: KubeSpawner puts it first and knows it by this name."""
    names = [_get(container, "name") for container in containers]
    return names.index("notebook") if "notebook" in names else 0


def _get(model: Any, field: str) -> Any:
    """A field whose name is the same in Python's and in Kubernetes' spelling."""
    if isinstance(model, Mapping):
        return model.get(field)
    return getattr(model, field, None)


def _with(model: Any, **fields: Any) -> Any:
    """A shallow copy with other fields."""
    changed = copy.copy(model)
    for name, value in fields.items():
        if isinstance(changed, dict):
            changed[name] = value
        else:
            setattr(changed, name, value)
    return changed


def _quantities(amounts: Mapping[str, Any]) -> dict[str, Quantity]:
    """The hub's own amounts, numbers among them; one that is no quantity is Kubernetes' to refuse."""
    quantities = {}
    for resource, amount in amounts.items():
        try:
            quantities[resource] = parse_quantity(str(amount))
        except QuantityError:
            continue
    return quantities


def _variable(name: str, value: EnvValue) -> V1EnvVar:
    if isinstance(value, EnvVarSource):
        return V1EnvVar(name=name, value_from=_SOURCES[value.kind](value))
    return V1EnvVar(name=name, value=value)


_SOURCES = {
    "secretKeyRef": lambda value: V1EnvVarSource(secret_key_ref=V1SecretKeySelector(**value.fields)),
    "configMapKeyRef": lambda value: V1EnvVarSource(config_map_key_ref=V1ConfigMapKeySelector(**value.fields)),
    "fieldRef": lambda value: V1EnvVarSource(
        field_ref=V1ObjectFieldSelector(
            field_path=value.fields["fieldPath"], api_version=value.fields.get("apiVersion")
        )
    ),
    "resourceFieldRef": lambda value: V1EnvVarSource(
        resource_field_ref=V1ResourceFieldSelector(
            resource=value.fields["resource"],
            container_name=value.fields.get("containerName"),
            divisor=value.fields.get("divisor"),
        )
    ),
}


def _order_variables(env: Mapping[str, Any]) -> list[Any]:
    """Variables, each behind those that it refers to as ``$(NAME)``, else in the order given.

    Kubernetes expands a reference only to what stands before it. In a circle there is no such order, and one of its
    references stays unexpanded.
    """
    ordered: dict[str, Any] = {}
    for start in env:
        # Depth first, with a list in place of recursion: a chain may be as long as the environment.
        visiting = {start: iter(_references(env[start]))}
        while visiting:
            name, references = next(reversed(visiting.items()))
            reference = next(
                (each for each in references if each in env and each not in ordered and each not in visiting),
                None,
            )
            if reference is None:
                ordered.setdefault(name, env[name])
                del visiting[name]
            else:
                visiting[reference] = iter(_references(env[reference]))
    return list(ordered.values())


def _references(variable: Any) -> list[str]:
    value = _get(variable, "value")
    return [name for name in _REFERENCE.findall(value) if name] if isinstance(value, str) and "$(" in value else []
