"""The rules of Kubernetes, JupyterHub and KubeSpawner for names and other texts.

Validation and JSON Schema share the patterns, which are valid in Python and in ECMA 262. The source of Kubernetes'
rules is https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/apis/core/validation/validation.go. A message never
quotes the text, which may be a misplaced secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from .limits import MAX_IMAGE, MAX_TEXT
from .suggestions import find_closest

__all__ = [
    "ANNOTATION_NAME",
    "DNS_LABEL",
    "DNS_SUBDOMAIN",
    "ENV_NAME",
    "EXTENDED_RESOURCE",
    "GPU",
    "HUGE_PAGES",
    "IMAGE",
    "LABEL_NAME",
    "LABEL_VALUE",
    "OBJECT_NAME",
    "OWN_LABEL_NAME",
    "PATH_OF_URL",
    "QUALIFIED_NAME",
    "Rule",
    "explain_annotation_name",
    "explain_env_name",
    "explain_own_label_name",
    "explain_resource_name",
    "find_meant_resource",
    "is_env_name",
    "is_hub_owned",
    "is_kubespawner_owned",
    "is_label_or_annotation_name",
    "may_begin_hub_owned",
]


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for a text.

    Attributes:
        pattern: The whole text must match this.
        message: The problem of a text that does not match.
        longest: The maximal number of characters; 0: no limit.
        template: Whether KubeSpawner's fields are expanded in the text.
        is_shared: Whether the text names something outside the pod, which other users' servers can reach too.
    """

    pattern: str
    message: str
    longest: int = 0
    template: bool = False
    is_shared: bool = False

    def explain(self, text: str) -> str | None:
        """Returns the problem of a text; None: it has none."""
        too_long = self.longest and len(text) > self.longest
        return None if not too_long and _compile(self.pattern).fullmatch(text) else self.message


# Kubernetes' names are DNS labels or consist of them.
DNS_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(?:\.{DNS_LABEL})*"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
QUALIFIED_NAME = rf"(?:(?=[^/]{{1,253}}/){DNS_SUBDOMAIN}/)?{_NAME}"
"""Names of labels and extended resources."""

OBJECT_NAME = Rule(
    DNS_SUBDOMAIN, "not the name of a Kubernetes object; use lower-case letters, digits, '-' and '.'", longest=253
)

# In front, [ begins an IPv6 address; + is for a digest's algorithm alone.
IMAGE = Rule(
    r"(?!.*://)(?:\[[0-9A-Fa-f:]*\][A-Za-z0-9._/:-]*|[A-Za-z0-9][A-Za-z0-9._/:-]*)(?:@[A-Za-z0-9._+:-]+)?",
    "not the name of an image, such as quay.io/example/notebook:1.0",
    longest=MAX_IMAGE,
)
PATH_OF_URL = Rule(
    r"/[!-z|~]*", "must be a path that begins with '/', such as /lab, without spaces and braces", longest=MAX_TEXT
)

LABEL_NAME = Rule(QUALIFIED_NAME, "not a label's name, such as team or example.org/team")
LABEL_VALUE = Rule(rf"(?:{_NAME})?", "not a label's value; use up to 63 letters, digits, '-', '_' and '.'")

_KUBESPAWNER_PREFIXES = ("hub.jupyter.org/", "profiled-spawner/")
# KubeSpawner finds its pods by some of these. Services and network policies of the hub's chart use the others.
_KUBESPAWNER_LABELS = (
    *("app", "component", "heritage", "release", "chart"),
    *("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"),
)
# Not with re.escape, which escapes characters that ECMA 262 does not allow to escape.
_NOT_KUBESPAWNERS = f"(?!{'|'.join(_KUBESPAWNER_PREFIXES)})".replace(".", r"\.")
OWN_LABEL_NAME = f"(?!(?:{'|'.join(_KUBESPAWNER_LABELS)})$)".replace(".", r"\.") + _NOT_KUBESPAWNERS + QUALIFIED_NAME
"""Names of labels that a document may set."""
# Unlike other prefixes, the prefix of an annotation's name may have capitals.
ANNOTATION_NAME = _NOT_KUBESPAWNERS + QUALIFIED_NAME.replace("[a-z0-9]", "[A-Za-z0-9]").replace(
    "[-a-z0-9]", "[-A-Za-z0-9]"
)
"""Names of annotations that a document may set."""


def is_kubespawner_owned(kind: str, name: str) -> bool:
    """Whether KubeSpawner, the hub's chart or this spawner uses the label or annotation itself.

    Args:
        kind: ``labels`` or ``annotations``.
        name: The name of the label or annotation.
    """
    return name.startswith(_KUBESPAWNER_PREFIXES) or (kind == "labels" and name in _KUBESPAWNER_LABELS)


def is_label_or_annotation_name(name: str) -> bool:
    """Whether the name is valid for a label or an annotation, whose prefix may have capitals."""
    return LABEL_NAME.explain(name.lower()) is None


def explain_own_label_name(name: str) -> str | None:
    """Returns why a document may not set the label; None: it may."""
    if is_kubespawner_owned("labels", name):
        return "belongs to KubeSpawner, which finds its pods by it, and cannot be set"
    return LABEL_NAME.explain(name)


def explain_annotation_name(name: str) -> str | None:
    """Returns why a document may not set the annotation; None: it may."""
    if is_kubespawner_owned("annotations", name):
        return "belongs to KubeSpawner, and cannot be set"
    if _compile(ANNOTATION_NAME).fullmatch(name):
        return None
    return "not an annotation's name, such as team or example.org/team"


_HUB_OWNED = ("JPY_API_TOKEN", "MEM_LIMIT", "MEM_GUARANTEE", "CPU_LIMIT", "CPU_GUARANTEE")
# Kubernetes' IsEnvVarName of older releases. Newer releases also accept other ASCII characters.
_ANY_ENV_NAME = r"(?!\.\.|\.$)[-._a-zA-Z][-._a-zA-Z0-9]*"
ENV_NAME = rf"(?!JUPYTERHUB_(?!SINGLEUSER_)|(?:{'|'.join(_HUB_OWNED)})$){_ANY_ENV_NAME}"
"""Names of environment variables that a document may set."""


def is_env_name(name: str) -> bool:
    """Whether Kubernetes accepts the name of an environment variable, even if a document may not set it."""
    return _compile(_ANY_ENV_NAME).fullmatch(name) is not None


def is_hub_owned(name: str) -> bool:
    """Whether JupyterHub sets the environment variable: it identifies the server, or follows from its resources."""
    if name.startswith("JUPYTERHUB_"):
        return not name.startswith("JUPYTERHUB_SINGLEUSER_")
    return name in _HUB_OWNED


def may_begin_hub_owned(prefix: str) -> bool:
    """Whether the name of a variable that `is_hub_owned` may begin with the prefix. False for an empty prefix."""
    return is_hub_owned(prefix) or any(name.startswith(prefix) for name in (*_HUB_OWNED, "JUPYTERHUB_") if prefix)


def explain_env_name(name: str) -> str | None:
    """Returns why a document may not set the environment variable; None: it may.

    For Kubernetes' rule, see
    https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/.
    """
    if not is_env_name(name):
        return "not a name that Kubernetes accepts; use letters, digits, '_', '-' and '.', and no digit first"
    if is_hub_owned(name):
        if name.startswith(("MEM_", "CPU_")):
            return "follows from 'resources' and cannot be set"
        return "belongs to the hub, which identifies a server by it, and cannot be set"
    return None


GPU = "nvidia.com/gpu"
"""The resource that a profile's ``gpu`` sets."""

HUGE_PAGES = r"hugepages-[1-9][0-9]{0,8}[KMG]i"
"""Huge pages in the sizes that a node can have. Kubernetes accepts others too, which no node offers."""
EXTENDED_RESOURCE = rf"(?!requests\.|hugepages-|[^/]*kubernetes\.io/|[^/]{{245}})(?=.*/){QUALIFIED_NAME}"


def find_meant_resource(resource: str) -> str | None:
    """Returns the resource that was probably meant; None: the name resembles none."""
    if resource.lower() in ("gpu", "gpus", "nvidia"):
        return GPU
    return find_closest(resource, ("cpu", "memory", "ephemeral-storage"))


@lru_cache(maxsize=512)
def explain_resource_name(resource: str) -> str | None:
    """Returns why a container cannot have the resource; None: it can. See Kubernetes' ValidateContainerResourceName."""
    if resource in ("cpu", "memory", "ephemeral-storage") or _compile(HUGE_PAGES).fullmatch(resource):
        return None
    if resource.startswith("hugepages-"):
        return "not a size of huge pages, such as hugepages-2Mi"
    if "/" not in resource:
        meant = find_meant_resource(resource)
        hint = f"did you mean '{meant}'?" if meant else "an extended one has a domain, such as nvidia.com/gpu"
        return f"not a resource of Kubernetes; {hint}"
    # A ResourceQuota adds "requests." to the name, and the longer name must be valid too.
    if not _compile(QUALIFIED_NAME).fullmatch(f"requests.{resource}") or resource.startswith("requests."):
        return "not the name of an extended resource, such as nvidia.com/gpu"
    if resource.partition("/")[0].endswith("kubernetes.io"):
        return "kubernetes.io is reserved for Kubernetes; an extended resource has another domain"
    return None
