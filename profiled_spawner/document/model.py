"""The profile document as frozen values, and which names it may use.

No I/O and no YAML: `parser` makes these values from text, and the other packages read them. They are shared by
all spawns, so nothing in them can be changed. A document knows by which names its profiles are found. What a section
means for people stands here too, once: the JSON Schema and the reference are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, TypeVar

from .limits import MAX_SELECTED_PATTERNS, find_within
from .quantity import Quantity

__all__ = [
    "DEFAULT_SIZE",
    "EVERYONE",
    "GPU",
    "KUBESPAWNER_LABELS",
    "KUBESPAWNER_PREFIXES",
    "RESOURCE_KEYS",
    "Combination",
    "Document",
    "EnvValue",
    "EnvVarSource",
    "Index",
    "Names",
    "Object",
    "Profile",
    "Size",
    "combine_documents",
    "find_env_name_fault",
    "is_hub_owned",
    "is_kubespawner_owned",
]

T = TypeVar("T")

DEFAULT_SIZE = "default"
"""What a person chooses to have no size; no size has this name, in any capitalization."""

EVERYONE = "*"
"""In ``users``, every user; in ``images``, any run of characters."""

RESOURCE_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "mem_limit": ("limits", "memory"),
        "cpu_limit": ("limits", "cpu"),
        "mem_guarantee": ("requests", "memory"),
        "cpu_guarantee": ("requests", "cpu"),
    }
)
"""JupyterHub's names for resources, and where Kubernetes keeps each."""

GPU = "nvidia.com/gpu"
"""What a profile's ``gpu`` is short for."""

Object: TypeAlias = Mapping[str, Any]
"""An object of Kubernetes in a manifest's form, of mappings and tuples that cannot be changed."""

# Kubernetes' IsEnvVarName. Newer releases accept almost any ASCII; this is what every release accepts.
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
KUBESPAWNER_PREFIXES = ("hub.jupyter.org/", "profiled-spawner/")
"""What names of labels and annotations begin with that are KubeSpawner's, and this spawner's."""
KUBESPAWNER_LABELS = (
    *("app", "component", "heritage", "release", "chart"),
    *("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"),
)
"""Other labels: KubeSpawner finds its pods by some, and services and network policies of the hub's chart do."""

_HUB_OWNED = frozenset({"JPY_API_TOKEN", "MEM_LIMIT", "MEM_GUARANTEE", "CPU_LIMIT", "CPU_GUARANTEE"})


@dataclass(frozen=True, slots=True)
class EnvVarSource:
    """Where Kubernetes takes a variable's value from: its EnvVarSource.

    Attributes:
        kind: ``secretKeyRef``, ``configMapKeyRef``, ``fieldRef`` or ``resourceFieldRef``.
        fields: That selector's fields by Kubernetes' names, such as ``name`` and ``key``.
    """

    kind: str
    fields: Object

    def to_kubernetes(self) -> dict[str, dict[str, Any]]:
        """As it stands behind ``valueFrom`` in a manifest."""
        return {self.kind: dict(self.fields)}


EnvValue: TypeAlias = str | EnvVarSource | None
"""A variable's value, where to take it from, or None to take the variable away."""


_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    # One for all: there may be thousands of profiles, each without most of its sections.
    return _NOTHING


def _section(help_text: str) -> dict[str, str]:
    return {"help": help_text}


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile: for whom and what it is, and what it gives.

    A filter that is None was left out and lets everything through; an empty one lets nothing through. A value of
    None in `env`, `limits` or `requests` takes away what less specific profiles or the hub's settings gave.
    """

    index: int
    """Position in its document, from 0."""
    name: str | None = field(
        default=None,
        metadata=_section(
            "For people: shown in logs, annotations, on the spawn page and by `explain`. "
            "A profile without a name is called by its position."
        ),
    )
    images: tuple[str, ...] | None = field(
        default=None,
        metadata=_section(
            "Images that the profile is for, as KubeSpawner is given them. `*` stands for any run of characters. "
            "Left out: every image."
        ),
    )
    users: frozenset[str] | None = field(
        default=None,
        metadata=_section(
            'JupyterHub usernames that the profile is for. Left out, or containing "*": every user; with `groups` '
            "beside it, the users listed and the groups' members."
        ),
    )
    groups: frozenset[str] | None = field(default=None, metadata=_section("JupyterHub groups that the profile is for."))
    # A repr ends in logs and tracebacks.
    env: Mapping[str, EnvValue] = field(
        default_factory=_nothing,
        repr=False,
        metadata=_section(
            "Environment variables: a mapping of names to values, or a list in the form of a Kubernetes container's "
            "`env`. A plain `null` takes a variable away."
        ),
    )
    limits: Mapping[str, Quantity | None] = field(default_factory=_nothing)
    """Kubernetes limits by resource, such as ``memory`` or ``nvidia.com/gpu``."""
    requests: Mapping[str, Quantity | None] = field(default_factory=_nothing)
    """Kubernetes requests by resource: JupyterHub's guarantees."""
    env_from: tuple[Object, ...] = field(
        default=(),
        metadata=_section(
            "All keys of a Secret or a ConfigMap as environment variables: Kubernetes' `envFrom`. A variable of the "
            "same name in `env`, whoever gives it, wins."
        ),
    )
    node_selector: Mapping[str, str] = field(
        default_factory=_nothing, metadata=_section("Labels that a node must have for the server to run on it.")
    )
    node_tolerations: tuple[Object, ...] = field(
        default=(), metadata=_section("Taints of nodes that the server tolerates: Kubernetes' `tolerations`.")
    )
    node_affinity: Object = field(
        default_factory=_nothing,
        metadata=_section(
            "Kubernetes' `nodeAffinity`. Of profiles that fit together every one's requirement holds; preferences add "
            "up."
        ),
    )
    volumes: tuple[Object, ...] = field(
        default=(),
        metadata=_section(
            "Kubernetes volumes, each with an absolute `mountPath`, and a `subPath` and `readOnly` if "
            "wanted. In names of objects and in paths, KubeSpawner's fields are expanded, such as `{username}`."
        ),
    )
    labels: Mapping[str, str] = field(default_factory=_nothing, metadata=_section("Labels of the server's pod."))
    annotations: Mapping[str, str] = field(
        default_factory=_nothing, metadata=_section("Annotations of the server's pod.")
    )
    configmap: str | None = None
    """The ConfigMap that it is from, by name; None where that is the main one, or a file."""

    @property
    def label(self) -> str:
        """What people know the profile by: its name on one line, or ``profiles[3]``, behind its ConfigMap's name."""
        configmap = "" if self.configmap is None else f"{self.configmap}/"
        return configmap + (f"profiles[{self.index}]" if self.name is None else self.shown_name)

    @property
    def shown_name(self) -> str:
        """The name on one line; empty without one."""
        name = self.name or ""
        return name if name.isprintable() else "".join(each if each.isprintable() else "·" for each in name)

    @property
    def names_who(self) -> bool:
        """Whether it is for some users or groups, not for everyone."""
        return (self.users is not None or self.groups is not None) and EVERYONE not in (self.users or ())

    @property
    def names_what(self) -> bool:
        """Whether it is for some images, not for every one."""
        return self.images is not None and EVERYONE not in self.images


@dataclass(frozen=True, slots=True)
class Size(Profile):
    """What a person may choose for a server: the sections of a profile that shape the pod, under a name."""

    description: str | None = field(
        default=None, metadata=_section("What the size is good for, in a sentence for the spawn page.")
    )

    @property
    def label(self) -> str:
        """What people know the size by."""
        # slots=True makes the class anew, which the argumentless super() does not find.
        return f"size {Profile.label.fget(self)}"  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Document:
    """A document without errors.

    Attributes:
        profiles: In the document's order.
        sizes: What people may choose from, likewise.
        ignored: Keys that it has and this format does not, each once (see `legacy`).
    """

    profiles: tuple[Profile, ...] = ()
    sizes: tuple[Size, ...] = ()
    ignored: tuple[str, ...] = ()
    # Made with the document, which is where nobody waits for it: off the hub's event loop.
    index: Index = field(init=False, repr=False, compare=False)
    """Where to look for the profiles that fit."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", Index(self.profiles))

    def of_configmap(self, name: str) -> Document:
        """The same document, whose profiles and sizes know that they are from the ConfigMap `name`."""
        return replace(
            self,
            profiles=tuple(replace(profile, configmap=name) for profile in self.profiles),
            sizes=tuple(replace(size, configmap=name) for size in self.sizes),
        )


@dataclass(frozen=True, slots=True)
class Combination:
    """Several documents as one.

    Attributes:
        document: The main one with the others behind it; of sizes with the same name the first is the one.
        left_out: The positions of those others that are not in it, since they all have more than
            `MAX_SELECTED_PATTERNS` together.
    """

    document: Document
    left_out: frozenset[int]

    REASON: ClassVar = (
        f"the selected ConfigMaps have more than {MAX_SELECTED_PATTERNS:,} different images with a star together, and "
        "it is one of those that have most"
    )


def combine_documents(main: Document, others: Sequence[Document]) -> Combination:
    """Makes one of a main document and others, in their order."""
    within = find_within([document.index.count_patterns() for document in others], MAX_SELECTED_PATTERNS)
    documents = [main, *(document for position, document in enumerate(others) if position in within)]
    sizes: dict[str | None, Size] = {}
    for size in (size for document in documents for size in document.sizes):
        sizes.setdefault(size.name, size)
    profiles = tuple(profile for document in documents for profile in document.profiles)
    return Combination(Document(profiles, tuple(sizes.values())), frozenset(range(len(others))) - within)


class Names:
    """Positions of profiles by what their filters name.

    Attributes:
        users: By username.
        groups: By group.
        images: By image, as written.
        patterns: By image with a ``*``: first by what stands before the first one and behind the last, then by the
            texts between them.
        pattern_lengths: How long the outer two are.
    """

    __slots__ = ("groups", "images", "pattern_lengths", "patterns", "users")

    def __init__(self, profiles: Iterable[tuple[int, Profile]]) -> None:
        self.users: dict[str, AbstractSet[int]] = {}
        self.groups: dict[str, AbstractSet[int]] = {}
        self.images: dict[str, AbstractSet[int]] = {}
        self.patterns: dict[tuple[str, str], dict[tuple[str, ...], AbstractSet[int]]] = {}
        for position, profile in profiles:
            # One for all the names of a profile, most of which no other has: a document may name very many.
            alone = frozenset((position,))
            for user in profile.users or ():
                _add(self.users, user, alone)
            for group in profile.groups or ():
                _add(self.groups, group, alone)
            for entry in profile.images or ():
                first, *between = entry.split(EVERYONE)
                if between:
                    last = between.pop()
                    _add(self.patterns.setdefault((first, last), {}), tuple(between), alone)
                else:
                    _add(self.images, entry, alone)
        self.pattern_lengths = {(len(first), len(last)) for first, last in self.patterns}

    def count_patterns(self) -> int:
        """How many different images with a ``*`` there are."""
        return sum(map(len, self.patterns.values()))


def _add(names: dict[T, AbstractSet[int]], name: T, alone: frozenset[int]) -> None:
    known = names.get(name)
    if known is None:
        names[name] = alone
    elif isinstance(known, set):
        known |= alone
    else:
        names[name] = {*known, *alone}


class Index:
    """A document's profiles, apart by which of the two they name: who, and what.

    A filter that holds ``*`` alone names nobody and nothing.

    Attributes:
        neither: The positions of those that name neither.
        who: Those that name users or groups alone.
        what: Those that name images alone.
        both: Those that name both.
    """

    __slots__ = ("both", "neither", "what", "who")

    def __init__(self, profiles: Iterable[Profile]) -> None:
        apart: dict[tuple[bool, bool], list[tuple[int, Profile]]] = {}
        neither: list[int] = []
        for position, profile in enumerate(profiles):
            names = profile.names_who, profile.names_what
            if any(names):
                apart.setdefault(names, []).append((position, profile))
            else:
                neither.append(position)
        self.neither = frozenset(neither)
        self.who = Names(apart.get((True, False), ()))
        self.what = Names(apart.get((False, True), ()))
        self.both = Names(apart.get((True, True), ()))

    def count_patterns(self) -> int:
        """How many images with a ``*`` may have to be compared with a server's."""
        return self.what.count_patterns() + self.both.count_patterns()


def is_env_name(name: str) -> bool:
    """Whether Kubernetes takes it for the name of an environment variable, whoever may set that."""
    return bool(_ENV_NAME.fullmatch(name)) and name != "." and not name.startswith("..")


def find_env_name_fault(name: str) -> str | None:
    """Says why a document may not set the environment variable `name`; None if it may.

    Kubernetes' rule is that of
    https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/ as every
    release has it. The message does not quote the name, which may be a value that slipped out of its place.
    """
    if not is_env_name(name):
        return "not a name that Kubernetes accepts; use letters, digits, '_', '-' and '.', and no digit first"
    if is_hub_owned(name):
        if name.startswith(("MEM_", "CPU_")):
            return "follows from 'resources' and cannot be set"
        return "belongs to the hub, which knows a server by it, and cannot be set"
    return None


def is_hub_owned(name: str) -> bool:
    """Whether the environment variable is part of a server's identity, or follows from its resources."""
    if name.startswith("JUPYTERHUB_"):
        return not name.startswith("JUPYTERHUB_SINGLEUSER_")
    return name in _HUB_OWNED


def may_begin_hub_owned(prefix: str) -> bool:
    """Whether some environment variable that `is_hub_owned` begins with the prefix; not for the empty one."""
    return is_hub_owned(prefix) or any(name.startswith(prefix) for name in (*_HUB_OWNED, "JUPYTERHUB_") if prefix)


def is_kubespawner_owned(kind: str, name: str) -> bool:
    """Whether KubeSpawner, or this spawner, knows its pods by the label, or tells of itself in the annotation.

    Args:
        kind: ``labels`` or ``annotations``.
        name: The name of one.
    """
    if name.startswith(KUBESPAWNER_PREFIXES):
        return True
    return kind == "labels" and name in KUBESPAWNER_LABELS
