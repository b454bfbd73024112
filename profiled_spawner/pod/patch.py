"""Pod and effective profile to the pod that is sent.

Works on the manifest that KubeSpawner has built, and on a copy of what it changes: the notebook container, where the
pod may run, its volumes, labels and annotations. Every part may be a model or, where an admin's ``extra_pod_config``
or ``extra_container_config`` put one there, a plain dictionary in Kubernetes' spelling. What profiles add is models
of plain dictionaries, which is what KubeSpawner makes of the same things in its own settings.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kubernetes_asyncio.client import (
    Configuration,
    V1Affinity,
    V1ConfigMapKeySelector,
    V1EnvFromSource,
    V1EnvVar,
    V1EnvVarSource,
    V1NodeAffinity,
    V1NodeSelector,
    V1ObjectFieldSelector,
    V1Pod,
    V1PreferredSchedulingTerm,
    V1ResourceFieldSelector,
    V1ResourceRequirements,
    V1SecretKeySelector,
    V1Toleration,
    V1Volume,
    V1VolumeMount,
)

from ..decide.merging import EffectiveProfile, Resources, Setting, check_start, combine_terms, settle_resources
from ..document.model import EnvValue, EnvVarSource, is_hub_owned
from ..document.quantity import Quantity, format_bytes, format_cores, parse_quantity
from ..document.templates import Template, expand_template
from ..errors import PodError, QuantityError

__all__ = [
    "APPLIED",
    "OBSERVED",
    "SOURCE",
    "Injection",
    "annotate_observation",
    "expand_together",
    "find_env_values",
    "find_image",
    "format_applied",
    "format_names",
    "hide_env_values",
    "inject_profile",
    "to_manifest",
]

APPLIED = "profiled-spawner/applied"
SOURCE = "profiled-spawner/source"
OBSERVED = "profiled-spawner/observed"

_MAX_ANNOTATION_BYTES = 4096

_REQUIRED = "required_during_scheduling_ignored_during_execution"
_PREFERRED = "preferred_during_scheduling_ignored_during_execution"

_KINDS = ("limits", "requests")

_MASK = "***"

# Stands between templates that are expanded together; no name of a person has it, nor a template that is a path.
_BETWEEN = "\0\n\0"

# JupyterHub's names for a container's resources, and how it writes them.
_HUB_VARIABLES = {
    "MEM_LIMIT": ("limits", "memory", format_bytes),
    "MEM_GUARANTEE": ("requests", "memory", format_bytes),
    "CPU_LIMIT": ("limits", "cpu", format_cores),
    "CPU_GUARANTEE": ("requests", "cpu", format_cores),
}

# What of a volume in a document is its mount's.
_MOUNT_FIELDS = ("mountPath", "subPath", "readOnly")

# Without one, older clients make each model a copy of their own: 300 variables would take 10 ms.
_CONFIGURATION = Configuration()

# A reference to another variable: a dollar that none before it escapes, which takes another one.
_REFERENCE = re.compile(r"(?<!\$)(?:\$\$)*\$\(([^)]+)\)")


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


def inject_profile(
    pod: V1Pod, effective: EffectiveProfile, source: str | None, expand: Callable[[str], str]
) -> Injection:
    """Puts what the profiles give into a pod.

    Neither argument is changed; what the new pod shares with the old one is what nobody changed.

    Args:
        pod: The manifest that KubeSpawner built.
        effective: The merged profiles.
        source: What the document was read from, as the annotation is to say; None for no such annotation.
        expand: Puts the server's values for KubeSpawner's fields into a template; `expand_together` makes a fast one.

    Raises:
        PodError: The profiles give more than a server can have (see `check_start`), the pod has a volume or a mount
            that a profile gives too, what is required of a node comes to too many alternatives, or a template comes to
            what could be somebody else's (see `expand_template`).
    """
    check_start(effective)
    containers = list(pod.spec.containers)
    position = _notebook(containers)
    container = containers[position]
    amounts = _Amounts.of(container, effective)
    of_container = {"env": _give_env(container, effective, amounts, expand), "resources": amounts.requirements()}
    of_pod = {"containers": containers, **_place(pod, effective)}
    if effective.env_from:
        given = [_model(V1EnvFromSource, _thaw(setting.value, expand)) for setting in effective.env_from]
        of_container["env_from"] = [*(_get(container, "env_from") or ()), *given]
    if effective.volumes:
        of_pod["volumes"], of_container["volume_mounts"] = _add_volumes(pod, container, effective, expand)
    containers[position] = _with(container, **of_container)
    metadata = _with(pod.metadata, **_describe(pod, effective, source))
    return Injection(_with(pod, metadata=metadata, spec=_with(pod.spec, **of_pod)), amounts.resources)


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What a container gets, beside what it had.

    Attributes:
        own: Its limits and requests as they were.
        quantities: The same, where they can be read.
        effective: What the profiles give.
        resources: Both together.
    """

    own: Any
    quantities: Mapping[str, Mapping[str, Quantity]]
    effective: EffectiveProfile
    resources: Resources

    @classmethod
    def of(cls, container: Any, effective: EffectiveProfile) -> _Amounts:
        own = _get(container, "resources")
        quantities = {kind: _quantities(_get(own, kind) or {}) for kind in _KINDS}
        resources = settle_resources(effective, quantities["limits"], quantities["requests"])
        return cls(own, quantities, effective, resources)

    def requirements(self) -> Any:
        """Kubernetes' ResourceRequirements; what no profile changes is as it was written."""
        return _with(self.own or V1ResourceRequirements(), **{kind: self._amounts(kind) for kind in _KINDS})

    def _amounts(self, kind: str) -> dict[str, Any]:
        amounts = dict(_get(self.own, kind) or {})
        settled = getattr(self.resources, kind)
        for resource in (self.quantities[kind].keys() | getattr(self.effective, kind).keys()) - settled.keys():
            amounts.pop(resource, None)
        for resource in settled:
            changed = self.changed(kind, resource)
            if changed is not None:
                amounts[resource] = changed.text
        return amounts

    def changed(self, kind: str, resource: str) -> Quantity | None:
        """The amount that the container gets now; None if that is what it had, or nothing."""
        setting = getattr(self.resources, kind).get(resource)
        return None if setting is None or setting.value is self.quantities[kind].get(resource) else setting.value

    def is_taken_away(self, kind: str, resource: str) -> bool:
        """Whether a profile took away what the container had, or said that it shall have nothing."""
        return resource not in getattr(self.resources, kind) and resource in getattr(self.effective, kind)


def _give_env(
    container: Any, effective: EffectiveProfile, amounts: _Amounts, expand: Callable[[str], str]
) -> list[Any]:
    """The container's variables with those of the profiles, and with JupyterHub's own for what it gets now."""
    env = {_get(variable, "name"): variable for variable in _get(container, "env") or ()}
    for name in sorted(effective.env):
        value = effective.env[name].value
        if value is None:
            env.pop(name, None)
        else:
            env[name] = _variable(name, value, expand)
    for name, (kind, resource, write) in _HUB_VARIABLES.items():
        changed = amounts.changed(kind, resource)
        if changed is not None:
            env[name] = V1EnvVar(name=name, value=write(changed))
        elif amounts.is_taken_away(kind, resource):
            env.pop(name, None)
    return _order_variables(env)


def _describe(pod: V1Pod, effective: EffectiveProfile, source: str | None) -> dict[str, Any]:
    """The pod's labels and annotations, with those of the profiles, and with what was applied."""
    own_labels = pod.metadata.labels
    annotations = {
        **_overlay(pod.metadata.annotations, effective.annotations),
        APPLIED: format_applied(effective),
        **({} if source is None else {SOURCE: source}),
    }
    labels = _overlay(own_labels, effective.labels) if effective.labels else own_labels
    return {"labels": labels, "annotations": annotations}


def format_applied(effective: EffectiveProfile) -> str:
    """The names of all that was merged, as annotations have them: a JSON list, of the first ones if they are many."""
    return format_names((profile.label for profile in effective.applied), max_bytes=_MAX_ANNOTATION_BYTES)


def annotate_observation(pod: V1Pod, observed: str) -> V1Pod:
    """A copy of a pod with one annotation more, which says what would have come of the profiles."""
    annotations = {**(pod.metadata.annotations or {}), OBSERVED: observed}
    annotated: V1Pod = _with(pod, metadata=_with(pod.metadata, annotations=annotations))
    return annotated


def expand_together(effective: EffectiveProfile, expand: Callable[[str], str]) -> Callable[[str], str]:
    """The same as `expand`, with all templates of the profiles expanded already, in one go.

    KubeSpawner computes all its fields for each template anew, which for a hundred of them takes too long.

    Args:
        effective: The merged profiles.
        expand: Puts the server's values for KubeSpawner's fields into a template.
    """
    sources = [each.value.fields for each in effective.env.values() if isinstance(each.value, EnvVarSource)]
    objects = [*sources, *(each.value for each in (*effective.env_from, *effective.volumes))]
    templates = dict.fromkeys(_find_templates(objects))
    # With something behind the last one, so that KubeSpawner drops no hyphen; that is done here, as it does it.
    parts = expand(_BETWEEN.join([*templates, "."])).split(_BETWEEN) if templates else []
    if len(parts) != len(templates) + 1:
        return expand
    texts = {
        template: text if template.endswith("-") else text.rstrip("-")
        for template, text in zip(templates, parts, strict=False)
    }
    return lambda template: texts[template] if template in texts else expand(template)


def _find_templates(objects: Iterable[Any]) -> Iterator[str]:
    left = [*objects]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if isinstance(value, Template):
                yield value
                yield f"{value}."
        elif isinstance(value, MappingProxyType):
            left += value.values()
        elif isinstance(value, tuple):
            left += value


def _overlay(own: Mapping[str, str] | None, given: Mapping[str, Setting[str]]) -> dict[str, str]:
    return {**(own or {}), **{name: setting.value for name, setting in given.items()}}


def _add_volumes(
    pod: V1Pod, container: Any, effective: EffectiveProfile, expand: Callable[[str], str]
) -> tuple[list[Any], list[Any]]:
    """The pod's volumes and the container's mounts, with those of the profiles behind them."""
    volumes, mounts = list(pod.spec.volumes or ()), list(_get(container, "volume_mounts") or ())
    names = {_get(volume, "name") for volume in volumes}
    paths = {str(_get(mount, "mount_path")).rstrip("/") for mount in mounts}
    for setting in effective.volumes:
        volume = _thaw(setting.value, expand)
        mount = {"name": volume["name"], **{name: volume.pop(name) for name in _MOUNT_FIELDS if name in volume}}
        giver = setting.profile.label if setting.profile else "a profile"
        path = mount["mountPath"].rstrip("/")
        if volume["name"] in names:
            raise PodError(f"{giver} has a volume {volume['name']!r}, and so has the pod already; give it another name")
        if path in paths:
            raise PodError(f"{giver} mounts a volume at {path}, and so does the pod already; mount it elsewhere")
        # Two templates may come to the same path, while merging has left each name once.
        paths.add(path)
        volumes.append(_model(V1Volume, volume))
        mounts.append(_model(V1VolumeMount, mount))
    return volumes, mounts


def _place(pod: V1Pod, effective: EffectiveProfile) -> dict[str, Any]:
    """What of the pod's spec says where it may run, as far as the profiles change it."""
    spec: dict[str, Any] = {}
    if effective.node_selector:
        spec["node_selector"] = _overlay(pod.spec.node_selector, effective.node_selector)
    if effective.node_tolerations:
        own = list(pod.spec.tolerations or ())
        known = [_fields(toleration) for toleration in own]
        given = (_thaw(setting.value) for setting in effective.node_tolerations)
        spec["tolerations"] = own + [_model(V1Toleration, each) for each in given if each not in known]
    if effective.node_requirements or effective.node_preferences:
        affinity = pod.spec.affinity or V1Affinity()
        node = _get(affinity, "node_affinity") or V1NodeAffinity()
        spec["affinity"] = _with(affinity, node_affinity=_with(node, **_add_affinity(node, effective)))
    return spec


def _add_affinity(own: Any, effective: EffectiveProfile) -> dict[str, Any]:
    """The fields of a node affinity, with every requirement of the profiles beside what it already requires."""
    fields: dict[str, Any] = {}
    if effective.node_requirements:
        selector = _get(own, _REQUIRED) or V1NodeSelector(node_selector_terms=[])
        terms = [_fields(term) for term in _get(selector, "node_selector_terms") or ()]
        requirements = [*([terms] if terms else []), *(setting.value for setting in effective.node_requirements)]
        fields[_REQUIRED] = _with(selector, node_selector_terms=[_thaw(term) for term in combine_terms(requirements)])
    if effective.node_preferences:
        preferences = [_model(V1PreferredSchedulingTerm, _thaw(each.value)) for each in effective.node_preferences]
        fields[_PREFERRED] = [*(_get(own, _PREFERRED) or ()), *preferences]
    return fields


def _model(kind: Any, fields: Mapping[str, Any]) -> Any:
    """A client's model of an object, whose own objects stay as they are."""
    given = {each: fields[name] for each, name in kind.attribute_map.items() if name in fields}
    if len(given) < len(fields):
        # A client that is older than what the cluster offers sends it all the same.
        return dict(fields)
    return kind(**given, local_vars_configuration=_CONFIGURATION)


def _fields(model: Any) -> dict[str, Any]:
    """An object's fields by their names in a manifest."""
    if isinstance(model, Mapping):
        return dict(model)
    fields: dict[str, Any] = to_manifest(model)
    return fields


def to_manifest(value: Any) -> Any:
    """A model as a manifest has it, or what holds models."""
    if hasattr(value, "attribute_map"):
        given = ((manifest, getattr(value, attribute)) for attribute, manifest in value.attribute_map.items())
        return {name: to_manifest(each) for name, each in given if each is not None}
    if isinstance(value, list):
        return [to_manifest(each) for each in value]
    if isinstance(value, dict):
        return {name: to_manifest(each) for name, each in value.items()}
    return value


def _thaw(value: Any, expand: Callable[[str], str] = str) -> Any:
    """An object of the document as the client takes it: of dictionaries and lists, templates filled in."""
    if isinstance(value, str):
        return expand_template(value, expand) if isinstance(value, Template) else value
    if isinstance(value, MappingProxyType):
        return {name: _thaw(each, expand) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_thaw(each, expand) for each in value]
    return value


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
    quoted: list[str] = []
    left = max_bytes
    for name in names:
        quoted.append(json.dumps(name, ensure_ascii=False))
        left -= len(f"{quoted[-1]}, ".encode())
        if left < 0:
            break  # only those that are shown are looked at
    else:
        return f"[{', '.join(quoted)}]"
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
    """A field of a model or of a dictionary, by its name in the model."""
    if isinstance(model, dict):
        return model.get(_manifest_name(field))
    return getattr(model, field, None)


def _manifest_name(field: str) -> str:
    first, *others = field.split("_")
    return first + "".join(word.capitalize() for word in others)


def _with(model: Any, **fields: Any) -> Any:
    """A shallow copy with other fields."""
    changed = copy.copy(model)
    for name, value in fields.items():
        if isinstance(changed, dict):
            changed[_manifest_name(name)] = value
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


def _variable(name: str, value: EnvValue, expand: Callable[[str], str]) -> V1EnvVar:
    if isinstance(value, EnvVarSource):
        kind, model = _SOURCES[value.kind]
        selector = {kind: _model(model, _thaw(value.fields, expand))}
        value_from = V1EnvVarSource(**selector, local_vars_configuration=_CONFIGURATION)
        return V1EnvVar(name=name, value_from=value_from, local_vars_configuration=_CONFIGURATION)
    return V1EnvVar(name=name, value=value, local_vars_configuration=_CONFIGURATION)


_SOURCES = {
    "secretKeyRef": ("secret_key_ref", V1SecretKeySelector),
    "configMapKeyRef": ("config_map_key_ref", V1ConfigMapKeySelector),
    "fieldRef": ("field_ref", V1ObjectFieldSelector),
    "resourceFieldRef": ("resource_field_ref", V1ResourceFieldSelector),
}


def _order_variables(env: Mapping[str, Any]) -> list[Any]:
    """Variables, each behind those that it refers to as ``$(NAME)``, else in the order given.

    Kubernetes expands a reference only to what stands before it. In a circle there is no such order, and one of its
    references stays unexpanded.
    """
    references: dict[str, list[str]] = {}
    for name, variable in env.items():
        found = [each for each in _references(variable) if each in env]
        if found:
            references[name] = found
    ordered: dict[str, Any] = {}
    for start in env:
        if start not in references:
            ordered.setdefault(start, env[start])
            continue
        # Depth first, with a list in place of recursion: a chain may be as long as the environment.
        visiting = {start: iter(references[start])}
        while visiting:
            name, left = next(reversed(visiting.items()))
            reference = next((each for each in left if each not in ordered and each not in visiting), None)
            if reference is None:
                ordered.setdefault(name, env[name])
                del visiting[name]
            else:
                visiting[reference] = iter(references.get(reference, ()))
    return list(ordered.values())


def _references(variable: Any) -> list[str]:
    value = _get(variable, "value")
    if not isinstance(value, str) or "$(" not in value:
        return []
    # Behind the last bracket nothing ends: without the cut, each beginning would be followed to the end of the text.
    return list(dict.fromkeys(_REFERENCE.findall(value[: value.rfind(")") + 1])))
