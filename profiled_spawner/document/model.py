"""The profile document: its keys, and the frozen values that validation makes of it.

`PROFILE_KEYS`, `SIZE_KEYS`, `IMAGE_KEYS`, `QUOTA_KEYS` and `TEAM_KEYS` define the format: validation, JSON Schema and
reference are made from them, and a new key of a profile is added here. The values are shared by all spawns, so nothing
in them can be changed. No I/O and no YAML: `parser` makes these values from text, and the other packages read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from types import MappingProxyType
from typing import Any, ClassVar

from .hard import Hard
from .index import ProfileIndex
from .kubernetes import Object
from .limits import MAX_SELECTED_PATTERNS, find_within
from .quantity import Quantity
from .rules import (
    ANNOTATION_NAME,
    GPU,
    IMAGE,
    LABEL_NAME,
    LABEL_VALUE,
    OBJECT_NAME,
    OWN_LABEL_NAME,
    PATH_OF_URL,
    explain_annotation_name,
    explain_own_label_name,
)
from .sections import (
    DEFAULT_SIZE,
    EVERYONE,
    Amount,
    Env,
    EnvValue,
    EnvVarSource,
    Images,
    Instant,
    Key,
    Line,
    Names,
    NodeAffinity,
    Objects,
    OneOf,
    Patterns,
    Resources,
    SizeName,
    SomeOf,
    Text,
    Texts,
    TextsByName,
    Volumes,
)
from .times import ALWAYS, Period

__all__ = [
    "DEFAULT_SIZE",
    "EVERYONE",
    "GPU",
    "IMAGE_KEYS",
    "PROFILE_KEYS",
    "QUOTA_KEYS",
    "SIZE_KEYS",
    "TEAM_KEYS",
    "Combination",
    "Document",
    "Entry",
    "EnvValue",
    "EnvVarSource",
    "ImageChoice",
    "Object",
    "Profile",
    "Quota",
    "Size",
    "Team",
    "combine_documents",
]

_WHO = {
    "users": Key(
        Names(),
        'JupyterHub usernames that the profile is for. Left out, or containing "*": every user; with `groups` beside '
        "it, the users listed and the groups' members.",
        (["ada", "grace"], ["*"]),
    ),
    "groups": Key(Names(), "JupyterHub groups that the profile is for.", (["forecasters"],)),
    "from": Key(
        Instant(is_end=False),
        "When it begins to apply: a date (its first instant) or a time, in the document's `timezone` unless it has an "
        "offset. Left out: always.",
        ("2026-12-01", "2026-12-01T14:00"),
    ),
    "until": Key(
        Instant(is_end=True),
        "When it ends: a date, which is included as a whole, or a time, which is not. Left out: never.",
        ("2027-01-31", "2027-01-31T18:00+02:00"),
    ),
}
# What a profile gives. Each key is an attribute of `Profile`; `resources` and `gpu` are its limits and requests.
_GIVEN = {
    "env": Key(
        Env(),
        "Environment variables: a mapping of names to values, or a list in the form of a Kubernetes container's `env`. "
        "A plain `null` removes a variable.",
        (
            {"BUCKET_PREFIX": "data/forecast", "JANUS_PORT": 80},
            [{"name": "S3_KEY", "valueFrom": {"secretKeyRef": {"name": "team-s3", "key": "access-key"}}}],
        ),
    ),
    "env_from": Key(
        Objects("EnvFromSource"),
        "All keys of a Secret or a ConfigMap as environment variables: Kubernetes' `envFrom`. A variable of the same "
        "name overrides it, whether a profile or the hub sets that.",
        ([{"secretRef": {"name": "team-s3"}, "prefix": "S3_"}], []),
    ),
    "resources": Key(
        Resources(),
        "Memory and CPU, as Kubernetes quantities: JupyterHub's names, or Kubernetes' own limits and requests. A plain "
        "`null` removes what less specific profiles or the hub's settings gave.",
        ({"mem_limit": "2Gi", "cpu_limit": 1}, {"limits": {"memory": "2Gi", "nvidia.com/gpu": 1}}),
    ),
    "gpu": Key(Amount("limits", GPU), f"GPUs: short for a limit of `{GPU}`.", (1,)),
    "node_selector": Key(
        TextsByName(LABEL_NAME.explain, LABEL_NAME.pattern, LABEL_VALUE),
        "Labels that a node must have for the server to run on it.",
        ({"pool": "gpu"},),
    ),
    "node_tolerations": Key(
        Objects("Toleration"),
        "Taints of nodes that the server tolerates: Kubernetes' `tolerations`.",
        ([{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],),
    ),
    "node_affinity": Key(
        NodeAffinity(),
        "Kubernetes' `nodeAffinity`. If several profiles match, the requirements of all must hold; preferences add up.",
        (
            {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu", "large"]}]}
                    ]
                }
            },
        ),
    ),
    "volumes": Key(
        Volumes("MountedVolume"),
        "Kubernetes volumes, each with an absolute `mountPath`, and optionally a `subPath` and `readOnly`. In names of "
        "objects and in paths, KubeSpawner's fields are expanded, such as `{username}`.",
        (
            [{"name": "team", "persistentVolumeClaim": {"claimName": "team-data"}, "mountPath": "/team"}],
            [
                {
                    "name": "keys",
                    "secret": {"secretName": "keys-{username}", "optional": True},
                    "mountPath": "/etc/keys",
                    "readOnly": True,
                }
            ],
        ),
    ),
    "labels": Key(
        TextsByName(explain_own_label_name, OWN_LABEL_NAME, LABEL_VALUE),
        "Labels of the server's pod.",
        ({"team": "forecasting"},),
    ),
    "annotations": Key(
        TextsByName(explain_annotation_name, ANNOTATION_NAME, None),
        "Annotations of the server's pod.",
        ({"example.org/cost-center": "4711"},),
    ),
}
PROFILE_KEYS: Mapping[str, Key] = {
    "name": Key(
        Line(),
        "For people: shown in logs, annotations, on the spawn page and by `explain`. A profile without a name is "
        "called by its position.",
        ("forecasting",),
    ),
    "images": Key(
        Images(),
        "Images that the profile is for, as KubeSpawner is given them. `*` stands for any run of characters. Left out: "
        "every image.",
        (["quay.io/example/forecast-notebook:3.6"], ["registry.example.org/forecast/*"]),
    ),
    **_WHO,
    **_GIVEN,
}
"""The keys of a profile."""
SIZE_KEYS: Mapping[str, Key] = {
    "name": Key(
        SizeName(), f"What people choose it by. `{DEFAULT_SIZE}` is what they choose to have none.", ("Large",)
    ),
    "description": Key(
        Line(), "What the size is good for, in a sentence for the spawn page.", ("For whole years of data",)
    ),
    **_WHO,
    **_GIVEN,
}
"""The keys of a size."""
IMAGE_KEYS: Mapping[str, Key] = {
    "name": Key(Line(), "What people choose it by.", ("Forecasting",)),
    "description": Key(
        Line(),
        "What the image is good for, in a sentence for the spawn page.",
        ("Python 3.13 with statsmodels, and R",),
    ),
    "image": Key(
        Text(IMAGE),
        "The image that the server runs. Left out: the one of the hub's settings, `profile_list` included.",
        ("quay.io/example/forecast-notebook:3.6",),
    ),
    "image_pull_secrets": Key(
        Texts(OBJECT_NAME),
        "Secrets that the image is pulled with, in place of the hub's.",
        (["example-registry"],),
    ),
    "default_url": Key(
        Text(PATH_OF_URL), "The page that the server opens with, in place of the hub's.", ("/lab", "/rstudio")
    ),
    **_WHO,
}
"""The keys of an image that people may choose."""
QUOTA_KEYS: Mapping[str, Key] = {
    "name": Key(
        Line(), "What refusals, the log, metrics and `explain` call it.", ("the forecasters' GPUs", "one server each")
    ),
    **_WHO,
    "per": Key(
        OneOf(("all", "user")),
        "`all`: the servers of all these people together must keep to it. `user`: those of each person. Left out: "
        "`all`.",
        ("user",),
    ),
    "hard": Key(
        Hard(),
        "How much may run at the same time, by the names of a Kubernetes ResourceQuota.",
        ({"requests.nvidia.com/gpu": 4, "limits.memory": "256Gi", "pods": 20},),
    ),
}
"""The keys of a quota."""
TEAM_KEYS: Mapping[str, Key] = {
    "name": Key(Line(), "What the log and `explain` call it.", ("forecasting",)),
    "configmaps": Key(
        Texts(OBJECT_NAME), "Selected ConfigMaps that the team may edit, by their exact names.", (["forecasting"],)
    ),
    "users": Key(
        Names(), "The team's members, by username: only members get anything from its ConfigMaps.", (["ada"], ["*"])
    ),
    "groups": Key(Names(), "JupyterHub groups whose members are the team's too.", (["forecasters"],)),
    "may": Key(
        SomeOf(("env", "env_from", "resources", "sizes", "images")),
        "What its ConfigMaps may have. Left out: `env` and `resources`. In a size, `env`, `env_from` and `resources` "
        "must be allowed too.",
        (["env", "resources", "sizes"],),
    ),
    "hard": Key(
        Hard(of_one=True),
        "What its ConfigMaps may give one server at most. A resource that is not here, they may not give.",
        ({"limits.memory": "8Gi", "limits.cpu": 4, "requests.nvidia.com/gpu": 1},),
    ),
    "refers": Key(
        Patterns(),
        "Secrets and ConfigMaps that its ConfigMaps may refer to. `*` stands for any run of characters. Left out: "
        "none.",
        (["forecasting-*"],),
    ),
}
"""The keys of a team."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    # One for all: there may be thousands of profiles, each without most of its sections.
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Entry:
    """What profiles, sizes, images, quotas and teams have in common: for whom an entry is, and when.

    A filter that is None was left out and matches everyone; an empty one matches nobody.

    Attributes:
        index: Position in its list, from 0.
        period: When it applies: its ``from`` and ``until``.
        configmap: The selected ConfigMap that it is from, by name; None if it is from the main document.
        team: Nobody but its members gets the entry; None if it is not from a team's ConfigMap.

    The other attributes are keys of the document.
    """

    index: int
    name: str | None = None
    users: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    period: Period = ALWAYS
    configmap: str | None = None
    team: Team | None = None

    @property
    def shown_name(self) -> str:
        """The name on one line; empty without one."""
        name = self.name or ""
        return name if name.isprintable() else "".join(each if each.isprintable() else "·" for each in name)

    @property
    def names_who(self) -> bool:
        """Whether it is for some users or groups, not for everyone. A team's entry always is."""
        return self.team is not None or not self.is_for_everyone

    @property
    def is_for_everyone(self) -> bool:
        """Whether its own filters match everyone."""
        return (self.users is None and self.groups is None) or EVERYONE in (self.users or ())


@dataclass(frozen=True, slots=True)
class Profile(Entry):
    """One profile: its filters and its settings.

    A value of None in `env`, `limits` or `requests` removes what less specific profiles or the hub's settings gave.

    Attributes:
        limits: Kubernetes limits by resource, such as ``memory`` or ``nvidia.com/gpu``.
        requests: Kubernetes requests by resource: JupyterHub's guarantees.

    The other attributes are keys of the document, described in `PROFILE_KEYS`.
    """

    images: tuple[str, ...] | None = None
    # Not in a repr, which ends in logs and tracebacks.
    env: Mapping[str, EnvValue] = field(default_factory=_nothing, repr=False)
    limits: Mapping[str, Quantity | None] = field(default_factory=_nothing)
    requests: Mapping[str, Quantity | None] = field(default_factory=_nothing)
    env_from: tuple[Object, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=_nothing)
    node_tolerations: tuple[Object, ...] = ()
    node_affinity: Object = field(default_factory=_nothing)
    volumes: tuple[Object, ...] = ()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    annotations: Mapping[str, str] = field(default_factory=_nothing)

    @property
    def label(self) -> str:
        """What people call the profile: its name on one line, or ``profiles[3]``, after its ConfigMap's name."""
        configmap = "" if self.configmap is None else f"{self.configmap}/"
        return configmap + (f"profiles[{self.index}]" if self.name is None else self.shown_name)

    @property
    def names_what(self) -> bool:
        """Whether it is for some images, not for every one."""
        return self.images is not None and EVERYONE not in self.images


@dataclass(frozen=True, slots=True)
class Size(Profile):
    """What a person may choose for a server: the sections of a profile that shape the pod, under a name."""

    description: str | None = None

    @property
    def label(self) -> str:
        """What people call the size."""
        # slots=True makes the class anew, which the argumentless super() does not find.
        return f"size {Profile.label.fget(self)}"  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class ImageChoice(Entry):
    """An image that a person may choose; its attributes are described in `IMAGE_KEYS`."""

    description: str | None = None
    image: str | None = None
    image_pull_secrets: tuple[str, ...] | None = None
    default_url: str | None = None


@dataclass(frozen=True, slots=True)
class Quota(Entry):
    """How much may run at the same time.

    Attributes:
        per: ``all``: the servers of all whom it matches must keep to it together. ``user``: those of each person.
        hard: The amounts, by the names of a Kubernetes ResourceQuota.
    """

    per: str = "all"
    hard: Mapping[str, Quantity] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Team(Entry):
    """What the ConfigMaps of a team may do; its attributes are described in `TEAM_KEYS`."""

    configmaps: tuple[str, ...] = ()
    may: frozenset[str] = frozenset({"env", "resources"})
    hard: Mapping[str, Quantity] = field(default_factory=_nothing)
    refers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document without errors.

    Attributes:
        profiles: In the document's order.
        sizes: Sizes that people may choose from, likewise.
        images: Images that people may choose from, likewise.
        quotas: How much may run at the same time, likewise.
        teams: What selected ConfigMaps may do, likewise; None if they may do everything.
        timezone: Of dates and times without an offset.
        ignored: Keys of another library that it has, each once (see `legacy`).
        index: Where to look for the profiles that match. Built in the parser's thread, off the hub's event loop.
    """

    profiles: tuple[Profile, ...] = ()
    sizes: tuple[Size, ...] = ()
    images: tuple[ImageChoice, ...] = ()
    quotas: tuple[Quota, ...] = ()
    teams: tuple[Team, ...] | None = None
    timezone: tzinfo = UTC
    ignored: tuple[str, ...] = ()
    index: ProfileIndex = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", ProfileIndex(self.profiles))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All profiles, sizes, images, quotas and teams."""
        return *self.profiles, *self.sizes, *self.images, *self.quotas, *(self.teams or ())

    def of_configmap(self, name: str, team: Team | None = None) -> Document:
        """The same document, whose entries name the ConfigMap `name`, and are for the members of a team only."""
        return replace(
            self,
            profiles=tuple(replace(profile, configmap=name, team=team) for profile in self.profiles),
            sizes=tuple(replace(size, configmap=name, team=team) for size in self.sizes),
            images=tuple(replace(image, configmap=name, team=team) for image in self.images),
        )


@dataclass(frozen=True, slots=True)
class Combination:
    """Several documents as one.

    Attributes:
        document: The main one, followed by the others, with the main one's time zone, quotas and teams; of sizes and
            of images with the same name, the first.
        left_out: The positions of those others that are not in it, because all together have more than
            `MAX_SELECTED_PATTERNS`.
    """

    document: Document
    left_out: frozenset[int]

    REASON: ClassVar = (
        f"the selected ConfigMaps have more than {MAX_SELECTED_PATTERNS:,} different images with a star together, and "
        "it is one of those that have most"
    )


def combine_documents(main: Document, others: Sequence[Document]) -> Combination:
    """Makes one document of a main one and others, in their order."""
    within = find_within([document.index.count_patterns() for document in others], MAX_SELECTED_PATTERNS)
    documents = [main, *(document for position, document in enumerate(others) if position in within)]
    sizes: dict[str | None, Size] = {}
    images: dict[str | None, ImageChoice] = {}
    for document in documents:
        for size in document.sizes:
            sizes.setdefault(size.name, size)
        for image in document.images:
            images.setdefault(image.name, image)
    profiles = tuple(profile for document in documents for profile in document.profiles)
    combined = Document(profiles, tuple(sizes.values()), tuple(images.values()), main.quotas, main.teams, main.timezone)
    return Combination(combined, frozenset(range(len(others))) - within)
