"""Random small worlds: documents and edited copies of them, of few names, so that they get into each other's way.

A document is what its YAML says, as lists and mappings, in which texts are texts. `to_text` writes it as YAML, in one
of many ways; `load` reads YAML as the package does: text stays text. The documents of its teams' ConfigMaps stand under
the key `configmaps`, by name, and in the text one behind the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from random import Random
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import yaml

from .answer import GPU, PREFERRED, REQUIRED

Document = dict[str, Any]
Entry = dict[str, Any]
Order = Literal["specificity", "document"]

USERS = ("ada", "bo")
GROUPS = ("g", "h", "k")
VARIABLES = ("A", "B", "C")
ENTRIES = ("profiles", "sizes", "images", "quotas")
SECTIONS = (
    *("env", "resources", "gpu", "env_from", "node_selector", "node_tolerations", "node_affinity"),
    *("volumes", "labels", "annotations"),
)
#: What teams may ever give.
OF_TEAMS = ("env", "resources", "gpu", "env_from")
LITERALS = ("a", "a:latest", "a:b", "a/b", "a/b:latest", "b", "a@b", "a:b@b", "a:latest@b", "a/a:b", "ab", "a:a/b")
PATTERNS = (
    *("a*", "*a", "*b*", "a/*", "*/b", "*:latest", "*:*", "*@*", "a*b", "b*a", "a*b*a", "*a*b", "*b*a*", "a:*"),
    *("*latest", "a/*:*b", "a/*b", "*/a*", "a*a", "*a*a*", "a:*@b", "*", "**", "*", "a**", "*:b", "*ab*", "*ba*"),
)
AMOUNTS = {
    "memory": (("1Gi", "1024Mi", "1073741824"), ("1G", "1000M", "1e9"), ("2Gi", "2048Mi")),
    "cpu": (("1", "1000m"), ("500m", "0.5"), ("2",)),
    GPU: (("1", "1e0"), ("2",), ("0",)),
    "ephemeral-storage": (("1Gi", "1024Mi"), ("2Gi",)),
    "pods": (("1", "1e0"), ("2",), ("0",)),
}
#: Of quotas, by their names.
HARD = {
    "pods": "pods",
    **{f"{kind}.{resource}": resource for kind in ("limits", "requests") for resource in ("memory", "cpu")},
    f"requests.{GPU}": GPU,
    "requests.ephemeral-storage": "ephemeral-storage",
}
RESOURCES = (
    *(("mem_limit", "limits", "memory"), ("cpu_limit", "limits", "cpu")),
    *(("mem_guarantee", "requests", "memory"), ("cpu_guarantee", "requests", "cpu")),
    *(("", "limits", GPU), ("", "requests", GPU), ("", "requests", "ephemeral-storage")),
)
SOURCES = (
    {"secretRef": {"name": "s1"}},
    {"secretRef": {"name": "s2"}},
    {"secretRef": {"name": "s1"}, "prefix": "P_"},
    {"secretRef": {"name": "s1", "optional": True}},
    {"configMapRef": {"name": "s1"}},
)
TOLERATIONS = (
    {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"},
    {"operator": "Exists"},
    {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
)
EXPRESSIONS = (
    {"key": "pool", "operator": "In", "values": ["a"]},
    {"key": "pool", "operator": "In", "values": ["a", "b"]},
    {"key": "zone", "operator": "Exists"},
    {"key": "size", "operator": "Gt", "values": ["1"]},
)
FIELD = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
VOLUMES = (
    {"persistentVolumeClaim": {"claimName": "c1"}},
    {"persistentVolumeClaim": {"claimName": "c2"}},
    {"secret": {"secretName": "s1"}},
    {"configMap": {"name": "s1"}},
    {"emptyDir": {}},
    {"projected": {"sources": [{"secret": {"name": "s2"}}]}},
)
OF_CHOICES: dict[str, tuple[Any, ...]] = {
    "description": ("large", "small"),
    "image": ("a", "a:latest", "a:b", "a/b", "a:b@b", "ba", "a/z:b"),
    "image_pull_secrets": (["s1"], ["s1", "s2"], ["s2", "s1"], []),
    "default_url": ("/lab", "/tree"),
}
VOLUME_NAMES = ("v", "w")
PATHS = ("/v", "/w", "/w/")

#: No clock changes near them.
INSTANTS = tuple(
    int(datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp())
    for each in ("2026-12-01T00:00", "2026-12-09T22:00", "2026-12-15T12:30", "2027-01-31T00:00")
)
ZONES = ("UTC", "Europe/Athens")


@dataclass(frozen=True, slots=True)
class Pair:
    """A document, and an edited copy of it or another one.

    Attributes:
        old: The document.
        new: The other.
        old_text: The document as YAML.
        new_text: The other as YAML.
        order: The merge order.
        at: The only moment that counts; None if every one from `since` on does.
        since: See `at`.
        edits: What was done, for people.
    """

    old: Document
    new: Document
    old_text: str
    new_text: str
    order: Order
    at: int | None
    since: int
    edits: tuple[str, ...]


def make_pair(random: Random) -> Pair:
    """A pair. About half of all pairs are equal for everybody, and few texts are."""
    order: Order = random.choice(("specificity", "specificity", "document"))
    world = _World(random)
    old = world.make_document()
    edits: list[str] = []
    if random.random() < 0.04:
        new = world.make_document()
        edits.append("another document")
    else:
        new = deepcopy(old)
        kinds = NEUTRAL if random.random() < 0.4 else (*NEUTRAL, *CHANGES, *CHANGES, *CHANGES)
        if world.crossing and kinds is not NEUTRAL:
            kinds = CROSSING
        for _ in range(random.choice((1, 1, 2, 2, 3))):
            edits += _edit(world, new, order, kinds)
    old_text, new_text = to_text(old, random), to_text(new, random)
    since = random.choice((0, 0, *(instant + random.choice((-1, 0, 1)) for instant in INSTANTS)))
    at = since if random.random() < 0.1 else None
    return Pair(old, new, old_text, new_text, order, at, since, tuple(edits))


def _edit(world: _World, document: Document, order: Order, kinds: Sequence[_Edit]) -> list[str]:
    """Makes one edit; some do not apply to a document. Where there are teams, it is often one of theirs."""
    theirs = document.get("configmaps", {})
    if theirs and world.chance(0.5):
        name = world.random.choice([*theirs])
        return [f"in {name}: {each}" for each in _edit(world.of_team(), theirs[name], order, kinds)]
    if (theirs or "quotas" in document) and world.chance(0.5):
        kinds = NEUTRAL_OF_MAIN if kinds is NEUTRAL else CHANGES_OF_MAIN
    is_empty = not any(document.get(key) for key in ENTRIES)
    for _ in range(20):
        edit = world.random.choice((_add_for_nobody, _add) if is_empty else kinds)
        if edit(world, document, order):
            return [edit.__name__.strip("_").replace("_", " ")]
    return []


class _World:
    """Makes entries of one world: of few sections, so that profiles have something to quarrel about.

    In some worlds, nearly every profile is for one group, or for one pattern, and sets the same. Which of them wins
    shows only for somebody in two groups at once, or on an image that two patterns match.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        sections = [*SECTIONS, "env", "env", "env_from"]
        self.sections = list(dict.fromkeys(random.sample(sections, random.choice((1, 2, 2, 3)))))
        self.groups = random.sample(GROUPS, random.choice((1, 2, 2, 3)))
        self.users = random.sample(USERS, random.choice((1, 1, 2)))
        self.filters = [*(self.make_filter() for _ in range(random.choice((1, 2, 3, 4))))]
        self.has_images = random.random() < 0.6
        self.has_times = random.random() < 0.3
        self.zone = random.choice(ZONES)
        self.crossing = random.choice(("who", "who", "what", "both")) if self.chance(0.4) else ""
        self.variables = VARIABLES
        if self.crossing:
            self.sections = ["env"] if self.chance(0.7) else [random.choice(SECTIONS)]
            self.groups = [*GROUPS]
            self.variables = VARIABLES[: random.choice((1, 1, 2))]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def make_filter(self) -> str:
        """An entry of `images`."""
        kind = self.random.random()
        if kind < 0.35:
            return self.random.choice(LITERALS)
        if kind < 0.75:
            return self.random.choice(PATTERNS)
        pieces = ("a", "b", "/", ":", "@", "latest", "*", "*", "*")
        text = "".join(self.random.choice(pieces) for _ in range(self.random.choice((2, 3, 3, 4, 5))))
        return text if text.count("*") <= 4 else "*a*"

    def make_document(self) -> Document:
        random = self.random
        document: Document = {}
        if self.zone != "UTC":
            document["timezone"] = self.zone
        document["profiles"] = [self.make_profile() for _ in range(random.choice((1, 2, 3, 3, 4, 4, 5, 6)))]
        if self.chance(0.3):
            document["sizes"] = [self.make_size(name) for name in random.sample(("S", "L"), random.choice((1, 2)))]
        if self.chance(0.3):
            document["images"] = [self.make_image(name) for name in random.sample(("I", "J"), random.choice((1, 2)))]
        if self.chance(0.2):
            document["quotas"] = [self.make_quota(name) for name in random.sample(("Q", "R"), random.choice((1, 2)))]
        if self.chance(0.3):
            names = ("t", "u")[: random.choice((1, 1, 2))]
            document["teams"] = [{"name": name, "configmaps": [f"of-{name}"], **self.make_members()} for name in names]
            document["configmaps"] = {f"of-{name}": self.of_team().make_part() for name in names}
        return document

    def of_team(self) -> _World:
        """The same world, of what teams may give."""
        theirs = copy(self)
        theirs.sections = [section for section in self.sections if section in OF_TEAMS] or ["env"]
        return theirs

    def make_part(self) -> Document:
        """The document of a team's ConfigMap."""
        random = self.random
        part: Document = {} if self.zone == "UTC" else {"timezone": self.zone}
        part["profiles"] = [self.make_profile() for _ in range(random.choice((1, 2, 2, 3)))]
        if self.chance(0.2):
            part["sizes"] = [self.make_size(name) for name in random.sample(("S", "T"), random.choice((1, 2)))]
        if self.chance(0.2):
            part["images"] = [self.make_image(name) for name in random.sample(("I", "U"), random.choice((1, 2)))]
        return part

    def make_members(self) -> Entry:
        """Who is in a team."""
        return self.make_who() or {"groups": [self.random.choice(self.groups)]}

    def make_quota(self, name: str) -> Entry:
        quota = {"name": name, **self.make_who(), "hard": self.make_hard()}
        self.set_period(quota)
        if self.chance(0.5):
            quota["per"] = self.random.choice(("all", "user"))
        return quota

    def make_hard(self) -> Entry:
        names = self.random.sample([*HARD], self.random.choice((1, 1, 2, 3)))
        return {name: self.random.choice(self.random.choice(AMOUNTS[HARD[name]])) for name in names}

    def make_profile(self) -> Entry:
        profile: Entry = {}
        if self.chance(0.3):
            profile["name"] = self.random.choice(("one", "two"))
        if self.crossing and self.chance(0.85):
            if self.crossing in ("what", "both"):
                profile["images"] = [self.make_filter()]
            if self.crossing in ("who", "both"):
                profile["groups"] = [self.random.choice(self.groups)]
        else:
            if self.has_images and self.chance(0.6):
                profile["images"] = self.make_images()
            profile |= self.make_who()
        self.set_period(profile)
        self.add_sections(profile)
        return profile

    def make_size(self, name: str) -> Entry:
        size = {"name": name, **self.make_description(), **self.make_who()}
        self.set_period(size)
        self.add_sections(size)
        return size

    def make_image(self, name: str) -> Entry:
        image = {"name": name, **self.make_description(), **self.make_who()}
        self.set_period(image)
        if self.chance(0.7):
            image["image"] = self.random.choice(OF_CHOICES["image"])
        if self.chance(0.3):
            image["image_pull_secrets"] = self.random.choice(OF_CHOICES["image_pull_secrets"])
        if self.chance(0.3):
            image["default_url"] = self.random.choice(OF_CHOICES["default_url"])
        return image

    def make_description(self) -> Entry:
        return {"description": self.random.choice(OF_CHOICES["description"])} if self.chance(0.3) else {}

    def make_images(self) -> list[str]:
        return self.random.sample(self.filters, self.random.randint(1, min(2, len(self.filters))))

    def make_who(self) -> Entry:
        who: Entry = {}
        if self.chance(0.25):
            who["users"] = self.random.choice(
                (*([user] for user in self.users), self.users[:], *([["*"]] * 2), [], [self.users[0], "*"])
            )
        if self.chance(0.5):
            most = min(2, len(self.groups))
            who["groups"] = self.random.sample(self.groups, self.random.randint(1, most)) if self.chance(0.95) else []
        return who

    def set_period(self, entry: Entry) -> None:
        entry.pop("from", None)
        entry.pop("until", None)
        if not self.has_times or self.chance(0.5):
            return
        start, end = sorted(self.random.sample(INSTANTS, 2))
        if self.chance(0.7):
            entry["from"] = self.write_time(start, end=False)
        if self.chance(0.7):
            entry["until"] = self.write_time(end, end=True)

    def write_time(self, instant: int, *, end: bool) -> str:
        """An instant in one of the ways in which it can be written."""
        local = datetime.fromtimestamp(instant, ZoneInfo(self.zone))
        ways = [
            f"{local:%Y-%m-%dT%H:%M}",
            f"{local:%Y-%m-%dT%H:%M:%S}",
            f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%dT%H:%M}Z",
            f"{datetime.fromtimestamp(instant + 10800, UTC):%Y-%m-%dT%H:%M}+03:00",
        ]
        if (local.hour, local.minute) == (0, 0):
            ways += [f"{local - timedelta(days=end):%Y-%m-%d}"] * 2
        return self.random.choice(ways)

    def add_sections(self, entry: Entry) -> None:
        count = self.random.choice((0, *([1] * 6), *([2] * 4), 3))
        for section in self.random.sample(self.sections, min(count, len(self.sections))):
            self.set_section(entry, section)

    def set_section(self, entry: Entry, section: str) -> None:
        """Gives the section a new value."""
        entry[section] = getattr(self, f"make_{section}")()
        if section == "gpu" and GPU in entry.get("resources", {}).get("limits", {}):
            del entry["gpu"]
        if section == "resources" and GPU in entry[section].get("limits", {}):
            entry.pop("gpu", None)

    def make_env(self) -> Any:
        count = min(self.random.choice((1, 1, 2, 3)), len(self.variables))
        env = {name: self.make_value() for name in self.random.sample(self.variables, count)}
        return _to_list(env) if self.chance(0.15) else env

    def make_value(self) -> Any:
        reference = {"name": self.random.choice(("s1", "s2")), "key": self.random.choice(("k", "l"))}
        kind = self.random.choice(("secretKeyRef", "configMapKeyRef"))
        return self.random.choice(("1", "1", "2", "2", "3", "", None, {"valueFrom": {kind: reference}}))

    def make_resources(self) -> Entry:
        resources: Entry = {}
        for short, kind, resource in self.random.sample(RESOURCES, self.random.choice((1, 1, 2, 3))):
            amount = self.make_amount(resource)
            if short and self.chance(0.7):
                resources[short] = amount
            else:
                resources.setdefault(kind, {})[resource] = amount
        return resources

    def make_amount(self, resource: str) -> str | None:
        return None if self.chance(0.15) else self.random.choice(self.random.choice(AMOUNTS[resource]))

    def make_gpu(self) -> str | None:
        return self.make_amount(GPU)

    def sample(self, choices: Sequence[Any]) -> list[Any]:
        return deepcopy(self.random.sample(choices, self.random.choice((1, 1, 2))))

    def make_env_from(self) -> list[Any]:
        return self.sample(SOURCES)

    def make_node_selector(self) -> Entry:
        return {name: self.random.choice(("a", "b")) for name in self.sample(("pool", "zone"))}

    def make_labels(self) -> Entry:
        return {name: self.random.choice(("x", "y", "")) for name in self.sample(("team", "example.org/tier"))}

    def make_annotations(self) -> Entry:
        return {name: self.random.choice(("x", "y: z", "")) for name in self.sample(("note", "example.org/note"))}

    def make_node_tolerations(self) -> list[Any]:
        return self.sample(TOLERATIONS)

    def make_node_affinity(self) -> Entry:
        affinity: Entry = {}
        if self.chance(0.75):
            terms = [self.make_term() for _ in range(self.random.choice((1, 1, 2)))]
            affinity[REQUIRED] = {"nodeSelectorTerms": terms}
        if not affinity or self.chance(0.35):
            affinity[PREFERRED] = [
                {"weight": self.random.choice((1, 10)), "preference": self.make_term()}
                for _ in range(self.random.choice((1, 1, 2)))
            ]
        return affinity

    def make_term(self) -> Entry:
        term: Entry = {"matchExpressions": self.sample(EXPRESSIONS)}
        if self.chance(0.1):
            term["matchFields"] = [deepcopy(FIELD)]
        return term

    def make_volumes(self) -> list[Any]:
        count = self.random.choice((1, 1, 2))
        names = self.random.sample(VOLUME_NAMES, count)
        paths = self.random.sample(PATHS, count)
        if {*paths} == {"/w", "/w/"}:
            paths = ["/v", "/w"]
        return [
            {
                "name": name,
                "mountPath": path,
                **deepcopy(self.random.choice(VOLUMES)),
                **({"readOnly": True} if self.chance(0.2) else {}),
            }
            for name, path in zip(names, paths, strict=True)
        ]


def _to_list(env: Any) -> list[Any]:
    """Variables in the form of a container's `env`."""
    return [
        {"name": name, **value} if isinstance(value, dict) else {"name": name, "value": value}
        for name, value in env.items()
    ]


def _to_mapping(env: Any) -> Entry:
    if isinstance(env, dict):
        return env
    return {each["name"]: each["value"] if "value" in each else {"valueFrom": each["valueFrom"]} for each in env}


# Edits. Each returns whether it did something. Neutral ones are meant to change nothing for anybody; some do, now and
# then, and the oracle says so.

_Edit = Callable[[_World, Document, Order], bool]


def _pick(world: _World, document: Document, key: str = "profiles") -> Entry | None:
    entries = document.get(key)
    return world.random.choice(entries) if entries else None


def _pick_any(world: _World, document: Document) -> Entry:
    return world.random.choice([each for key in ENTRIES for each in document.get(key, ())])


def _rename(world: _World, document: Document, order: Order) -> bool:
    profile = _pick(world, document)
    if profile is None:
        return False
    before = profile.pop("name", None)
    if not before or world.chance(0.5):
        profile["name"] = "renamed"
    return True


def _swap_neighbours_apart(world: _World, document: Document, order: Order) -> bool:
    """Swaps two neighbours that differ in specificity, or that nobody has both of, or that set nothing in common."""
    profiles = document["profiles"]
    places = [place for place in range(len(profiles) - 1) if _are_apart(profiles[place], profiles[place + 1], order)]
    if not places:
        return False
    place = world.random.choice(places)
    profiles[place : place + 2] = profiles[place + 1], profiles[place]
    return True


def _are_apart(one: Entry, other: Entry, order: Order) -> bool:
    if one == other:
        return False
    if order == "specificity" and _count_filters(one) != _count_filters(other):
        return True
    if "groups" not in one and "groups" not in other and "users" in one and "users" in other:
        users = {*one["users"]} & {*other["users"]}
        return not users and "*" not in one["users"] + other["users"]
    common = {*one} & {*other} & {*SECTIONS} - {"node_tolerations", "node_affinity"}
    return not any(
        section in ("env_from", "volumes", "gpu", "resources") or {*_names(one[section])} & {*_names(other[section])}
        for section in common
    )


def _names(section: Any) -> list[str]:
    return [*section] if isinstance(section, dict) else [each["name"] for each in section]


def _count_filters(profile: Entry) -> int:
    who = ("users" in profile or "groups" in profile) and "*" not in profile.get("users", ())
    return who + ("images" in profile and "*" not in profile["images"])


def _duplicate(world: _World, document: Document, order: Order) -> bool:
    profiles = document["profiles"]
    if not profiles:
        return False
    place = world.random.randrange(len(profiles))
    copied = deepcopy(profiles[place])
    copied.pop("name", None)
    if PREFERRED in copied.get("node_affinity", ()) and world.chance(0.9):
        return False
    profiles.insert(place, copied)
    return True


def _split_who(world: _World, document: Document, order: Order) -> bool:
    """A profile for two groups becomes one for each."""
    return _split_list(world, document, ("users", "groups"))


def _split_images(world: _World, document: Document, order: Order) -> bool:
    """A profile for two images becomes one for each."""
    return _split_list(world, document, ("images",))


def _split_list(world: _World, document: Document, keys: Sequence[str]) -> bool:
    places = [
        (place, key)
        for place, profile in enumerate(document["profiles"])
        for key in keys
        if len(profile.get(key, ())) > 1 and "*" not in profile[key]
    ]
    if not places:
        return False
    place, key = world.random.choice(places)
    profile = document["profiles"][place]
    first, second = deepcopy(profile), deepcopy(profile)
    cut = world.random.randrange(1, len(profile[key]))
    first[key], second[key] = profile[key][:cut], profile[key][cut:]
    parts = [first, second]
    world.random.shuffle(parts)
    document["profiles"][place : place + 1] = parts
    return True


def _split_user_from_groups(world: _World, document: Document, order: Order) -> bool:
    """A profile for users and groups becomes one for the users and one for the groups."""
    for place, profile in enumerate(document["profiles"]):
        if "users" in profile and "groups" in profile and "*" not in profile["users"]:
            first, second = deepcopy(profile), deepcopy(profile)
            del first["users"], second["groups"]
            document["profiles"][place : place + 1] = [first, second]
            return True
    return False


def _join_who(world: _World, document: Document, order: Order) -> bool:
    """Two neighbours that give the same to different groups become one."""
    profiles = document["profiles"]
    for place, (one, other) in enumerate(pairwise(profiles)):
        same = _without(one, "name", "groups") == _without(other, "name", "groups")
        if same and "groups" in one and "groups" in other and "users" not in one:
            one["groups"] = list(dict.fromkeys(one["groups"] + other["groups"]))
            del profiles[place + 1]
            return True
    return False


def _without(entry: Entry, *keys: str) -> Entry:
    return {key: value for key, value in entry.items() if key not in keys}


def _split_sections(world: _World, document: Document, order: Order) -> bool:
    """A profile that gives several things becomes two, for the same."""
    profiles = document["profiles"]
    places = [place for place, each in enumerate(profiles) if {*each} & {*SECTIONS}]
    if not places:
        return False
    place = world.random.choice(places)
    profile = profiles[place]
    filters = _without(profile, *SECTIONS, "name")
    first, second = deepcopy(filters), deepcopy(filters)
    for section in SECTIONS:
        if section not in profile:
            continue
        one, other = _cut(world, section, profile[section])
        first |= {section: one} if one is not None else {}
        second |= {section: other} if other is not None else {}
    profiles[place : place + 1] = [first, second]
    return True


def _cut(world: _World, section: str, value: Any) -> tuple[Any, Any]:
    """Two parts of a section's value, either of which may be missing."""
    value = deepcopy(value)
    if section == "node_affinity" and REQUIRED in value:
        terms = value[REQUIRED]["nodeSelectorTerms"]
        if len(terms) == 1 and len(terms[0].get("matchExpressions", ())) > 1:
            first, *others = terms[0]["matchExpressions"]
            alone = {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [first]}]}}
            terms[0]["matchExpressions"] = others
            return alone, value
    if isinstance(value, list) and len(value) > 1:
        return value[:1], value[1:]
    if isinstance(value, dict) and len(value) > 1:
        first_name, *_ = value
        return {first_name: value.pop(first_name)}, value
    return (value, None) if world.chance(0.5) else (None, value)


def _write_latest(world: _World, document: Document, order: Order) -> bool:
    """An image without a tag is `:latest`."""
    found = [
        (profile, place)
        for profile in document["profiles"]
        for place, image in enumerate(profile.get("images", ()))
        if "*" not in image
        and "@" not in image
        and image != ":latest"
        and (image.endswith(":latest") or ":" not in image.rpartition("/")[2])
    ]
    if not found:
        return False
    profile, place = world.random.choice(found)
    image = profile["images"][place]
    profile["images"][place] = image.removesuffix(":latest") if image.endswith(":latest") else f"{image}:latest"
    return True


def _list_more_images(world: _World, document: Document, order: Order) -> bool:
    """Beside a pattern, an image that matches it changes nothing."""
    found = [(each, image) for each in document["profiles"] for image in each.get("images", ()) if "*" in image]
    if not found:
        return False
    profile, pattern = world.random.choice(found)
    more = "".join(world.random.choice(("", "b", "a", ":", "/")) if each == "*" else each for each in pattern)
    if world.chance(0.3):
        more = pattern.replace("*", "*b*", 1)
    if not more or more in profile["images"] or more.count("*") > 5:
        return False
    profile["images"].insert(world.random.randint(0, len(profile["images"])), more)
    return True


def _leave_out_images(world: _World, document: Document, order: Order) -> bool:
    """`"*"` among the images is the same as no images."""
    profile = _pick(world, document)
    if profile is None:
        return False
    if "images" in profile and "*" in profile["images"]:
        del profile["images"]
    elif "images" not in profile:
        profile["images"] = world.random.choice((["*"], ["a", "*"], ["**"]))
    else:
        return False
    return True


def _leave_out_who(world: _World, document: Document, order: Order) -> bool:
    """`"*"` among the users is the same as neither users nor groups."""
    entry = _pick_any(world, document)
    if "*" in entry.get("users", ()):
        del entry["users"]
        entry.pop("groups", None)
    elif "users" not in entry and "groups" not in entry:
        entry["users"] = world.random.choice((["*"], [world.users[0], "*"]))
        if world.chance(0.5):
            entry["groups"] = world.groups[:1]
    else:
        return False
    return True


def _shuffle_lists(world: _World, document: Document, order: Order) -> bool:
    """The order of users, groups, images and tolerations says nothing, nor that of volumes."""
    lists = [
        entry[key]
        for each in (*ENTRIES, "teams")
        for entry in document.get(each, ())
        for key in ("users", "groups", "images", "node_tolerations", "volumes")
        if len(entry.get(key, ())) > 1
    ]
    lists += [
        terms
        for entry in (*document["profiles"], *document.get("sizes", ()))
        for terms in _find_term_lists(entry.get("node_affinity", {}))
        if len(terms) > 1
    ]
    if not lists:
        return False
    world.random.choice(lists).reverse()
    return True


def _find_term_lists(affinity: Entry) -> Iterator[list[Any]]:
    """Lists of which Kubernetes does not mind the order."""
    terms = affinity.get(REQUIRED, {}).get("nodeSelectorTerms", [])
    preferences = affinity.get(PREFERRED, [])
    yield terms
    yield preferences
    for term in (*terms, *(each["preference"] for each in preferences)):
        yield term["matchExpressions"]


def _add_for_nobody(world: _World, document: Document, order: Order) -> bool:
    profile = world.make_profile()
    kind = world.random.choice(("users", "groups", "images"))
    if kind == "images":
        profile["images"] = []
    else:
        profile.pop("users", None)
        profile.pop("groups", None)
        profile[kind] = []
    document["profiles"].insert(world.random.randint(0, len(document["profiles"])), profile)
    return True


def _add_overridden(world: _World, document: Document, order: Order) -> bool:
    """Another value for the same people, before the one that wins."""
    found = [place for place, each in enumerate(document["profiles"]) if {*each} & {"env", "labels", "node_selector"}]
    if not found:
        return False
    place = world.random.choice(found)
    profile = document["profiles"][place]
    added = deepcopy(_without(profile, *SECTIONS, "name"))
    for section in {"env", "labels", "node_selector"} & {*profile}:
        made = getattr(world, f"make_{section}")()
        names = _names(profile[section])
        added[section] = {name: value for name, value in _to_mapping(made).items() if name in names}
    if world.chance(0.2):
        # It may then win for somebody.
        added.pop("groups", None)
    document["profiles"].insert(world.random.randint(0, place), added)
    return True


def _write_amounts(world: _World, document: Document, order: Order) -> bool:
    """An equal amount in another notation."""
    found = list(_find_amounts(document))
    if not found:
        return False
    amounts, key, resource = world.random.choice(found)
    amounts[key] = world.random.choice(next(each for each in AMOUNTS[resource] if amounts[key] in each))
    return True


def _find_amounts(document: Document) -> Iterator[tuple[Entry, str, str]]:
    short = {key: resource for key, _, resource in RESOURCES if key}
    for entry in (*document["profiles"], *document.get("sizes", ())):
        resources = entry.get("resources", {})
        places = [(resources, key, short[key]) for key in resources if key in short]
        places += [(resources[kind], each, each) for kind in ("limits", "requests") for each in resources.get(kind, ())]
        places += [(entry, "gpu", GPU)] if "gpu" in entry else []
        yield from (each for each in places if each[0][each[1]] is not None)
    for quota in document.get("quotas", ()):
        yield from ((quota["hard"], name, HARD[name]) for name in quota["hard"])


def _write_resources(world: _World, document: Document, order: Order) -> bool:
    """JupyterHub's names of resources become Kubernetes'."""
    entry = _pick_any(world, document)
    if "gpu" in entry:
        entry.setdefault("resources", {}).setdefault("limits", {})[GPU] = entry.pop("gpu")
        return True
    for key, kind, resource in RESOURCES:
        if key and key in entry.get("resources", {}):
            entry["resources"].setdefault(kind, {})[resource] = entry["resources"].pop(key)
            return True
    return False


def _write_env(world: _World, document: Document, order: Order) -> bool:
    entry = _pick_any(world, document)
    if "env" not in entry:
        return False
    env = entry["env"]
    entry["env"] = _to_list(env) if isinstance(env, dict) else _to_mapping(env)
    return True


def _write_times(world: _World, document: Document, order: Order) -> bool:
    """The same instants in other words, or none where a period begins before everything."""
    zone = ZoneInfo(document.get("timezone", "UTC"))
    entries = [each for key in ENTRIES for each in document.get(key, ())]
    found = [(each, key) for each in entries for key in ("from", "until") if key in each]
    if not found:
        return False
    for entry, key in found:
        moment = datetime.fromisoformat(entry[key])
        if key == "until" and "T" not in entry[key]:
            moment += timedelta(days=1)
        instant = int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())
        entry[key] = world.write_time(instant, end=key == "until")
    return True


def _remove_overridden(world: _World, document: Document, order: Order) -> bool:
    """Removes a profile that names nothing which a later one for everybody does not give."""
    profiles = document["profiles"]
    for place, profile in enumerate(profiles):
        for other in profiles[place + 1 :]:
            later = order == "document" or _count_filters(profile) == 0
            if later and not {*other} & {"users", "groups", "images", "from", "until"}:
                given = {*profile} & {*SECTIONS}
                if given <= {"env"} and {*_names(profile.get("env", {}))} <= {*_names(other.get("env", {}))}:
                    del profiles[place]
                    return True
    return False


NEUTRAL: tuple[_Edit, ...] = (
    *(_rename, _swap_neighbours_apart, _swap_neighbours_apart, _duplicate, _split_who, _split_who, _split_images),
    *(_split_user_from_groups, _join_who, _split_sections, _split_sections, _write_latest, _list_more_images),
    *(_leave_out_images, _leave_out_who, _shuffle_lists, _add_for_nobody, _add_overridden, _add_overridden),
    *(_write_amounts, _write_resources, _write_env, _write_times, _remove_overridden),
)


def _rename_team(world: _World, document: Document, order: Order) -> bool:
    team = _pick(world, document, "teams")
    if team is None or any(each["name"] == "renamed" for each in document["teams"]):
        return False
    team["name"] = "renamed"
    return True


def _reverse_what_has_no_order(world: _World, document: Document, order: Order) -> bool:
    """Neither teams nor quotas have an order."""
    found = [key for key in ("teams", "quotas") if len(document.get(key, ())) > 1]
    for key in found:
        document[key].reverse()
    return bool(found)


def _say_all_or_nothing(world: _World, document: Document, order: Order) -> bool:
    """`per: all` is what a quota is without `per`; an empty list of users or groups beside another says nothing."""
    quota = _pick(world, document, "quotas")
    if quota is None or quota.get("per") == "user":
        return False
    if quota.pop("per", None) is None:
        quota["per"] = "all"
    if "users" in quota:
        quota.setdefault("groups", [])
    return True


def _say_who_is_in_the_team(world: _World, document: Document, order: Order) -> bool:
    """What is for all of a team may name all of it, or everybody."""
    found = [
        (team, entry)
        for team in document.get("teams", ())
        for name in team["configmaps"]
        for key in ("profiles", "sizes", "images")
        for entry in document["configmaps"][name].get(key, ())
        if not {*entry} & {"users", "groups"}
    ]
    if not found:
        return False
    team, entry = world.random.choice(found)
    entry |= (
        {"users": ["*"]} if world.chance(0.3) else {key: [*team[key]] for key in ("users", "groups") if key in team}
    )
    return True


def _take_over(world: _World, document: Document, order: Order) -> bool:
    """What a team has for all its members becomes what the main document has for them."""
    for team in document.get("teams", ()):
        theirs = document["configmaps"][team["configmaps"][0]]["profiles"]
        if theirs and team["configmaps"] == [*document["configmaps"]][:1] and not {*theirs[0]} & {"users", "groups"}:
            who = {key: [*team[key]] for key in ("users", "groups") if key in team}
            document["profiles"].append({**theirs.pop(0), **who})
            return True
    return False


NEUTRAL_OF_MAIN: tuple[_Edit, ...] = (
    *(_rename_team, _reverse_what_has_no_order, _reverse_what_has_no_order, _say_all_or_nothing, _say_all_or_nothing),
    *(_say_who_is_in_the_team, _say_who_is_in_the_team, _take_over, _take_over, _write_amounts, _shuffle_lists),
)


def _remove(world: _World, document: Document, order: Order) -> bool:
    key = world.random.choice(("profiles", "profiles", "sizes", "images"))
    if not document.get(key):
        return False
    document[key].pop(world.random.randrange(len(document[key])))
    return True


def _add(world: _World, document: Document, order: Order) -> bool:
    document["profiles"].insert(world.random.randint(0, len(document["profiles"])), world.make_profile())
    return True


def _add_choice(world: _World, document: Document, order: Order) -> bool:
    key, make, names = world.random.choice(
        (("sizes", world.make_size, ("S", "L", "M")), ("images", world.make_image, ("I", "J", "K")))
    )
    taken = [each["name"] for each in document.get(key, ())]
    name = next(each for each in names if each not in taken or each == names[-1])
    if name in taken:
        return False
    entries = document.setdefault(key, [])
    entries.insert(world.random.randint(0, len(entries)), make(name))
    return True


def _move(world: _World, document: Document, order: Order) -> bool:
    key = world.random.choice(("profiles", "profiles", "profiles", "sizes", "images"))
    entries = document.get(key, [])
    if len(entries) < 2:
        return False
    entry = entries.pop(world.random.randrange(len(entries)))
    entries.insert(world.random.randint(0, len(entries)), entry)
    return True


def _change_who(world: _World, document: Document, order: Order) -> bool:
    entry = _pick_any(world, document)
    entry.pop("users", None)
    entry.pop("groups", None)
    entry |= world.make_who()
    return True


def _change_images(world: _World, document: Document, order: Order) -> bool:
    profile = _pick(world, document)
    if profile is None or (not world.has_images and world.chance(0.7)):
        return False
    profile.pop("images", None)
    if world.chance(0.8):
        profile["images"] = world.make_images()
    return True


def _change_one_image(world: _World, document: Document, order: Order) -> bool:
    found = [each["images"] for each in document["profiles"] if each.get("images")]
    if not found:
        return False
    images = world.random.choice(found)
    place = world.random.randrange(len(images))
    image = images[place]
    cut = world.random.randrange(len(image))
    images[place] = world.random.choice((image[:cut] + "*" + image[cut:], image[:cut] + image[cut + 1 :] or "a", "b*"))
    if images[place].count("*") > 5:
        images[place] = "a"
    return True


def _change_period(world: _World, document: Document, order: Order) -> bool:
    world.has_times = world.has_times or world.chance(0.2)
    if not world.has_times:
        return False
    world.set_period(_pick_any(world, document))
    return True


def _change_section(world: _World, document: Document, order: Order) -> bool:
    entry = _pick_any(world, document)
    sections = [*({*entry} & {*SECTIONS})]
    if not sections:
        return False
    world.set_section(entry, world.random.choice(sorted(sections)))
    return True


def _drop_section(world: _World, document: Document, order: Order) -> bool:
    entry = _pick_any(world, document)
    sections = sorted({*entry} & {*SECTIONS})
    if not sections:
        return False
    del entry[world.random.choice(sections)]
    return True


def _change_one_value(world: _World, document: Document, order: Order) -> bool:
    """A value of one name, or its null."""
    found = [
        each[section]
        for key in ("profiles", "sizes")
        for each in document.get(key, ())
        for section in ("env", "labels", "node_selector", "annotations")
        if each.get(section) and isinstance(each[section], dict)
    ]
    if not found:
        return False
    values = world.random.choice(found)
    name = world.random.choice(sorted(values))
    values[name] = world.make_value() if name in VARIABLES else world.random.choice(("x", "b", "c"))
    return True


def _reverse_sources(world: _World, document: Document, order: Order) -> bool:
    found = [each["env_from"] for each in document["profiles"] if len(each.get("env_from", ())) > 1]
    if not found:
        return False
    world.random.choice(found).reverse()
    return True


def _rename_group(world: _World, document: Document, order: Order) -> bool:
    """One group becomes another one, everywhere."""
    one, other = world.random.sample(GROUPS, 2)
    changed = False
    for key in (*ENTRIES, "teams"):
        for entry in document.get(key, ()):
            if one in entry.get("groups", ()):
                entry["groups"] = list(dict.fromkeys(other if each == one else each for each in entry["groups"]))
                changed = True
    return changed


def _change_choice(world: _World, document: Document, order: Order) -> bool:
    key = world.random.choice(("sizes", "images"))
    entry = _pick(world, document, key)
    if entry is None:
        return False
    changed = world.random.choice(("name", *(OF_CHOICES if key == "images" else ["description"])))
    if changed == "name":
        names = [each["name"] for each in document[key]]
        entry["name"] = world.random.choice([each for each in ("S", "L", "M", "I") if each not in names])
    elif changed in entry and world.chance(0.3):
        del entry[changed]
    else:
        entry[changed] = world.random.choice(OF_CHOICES[changed])
    return True


CHANGES: tuple[_Edit, ...] = (
    *(_remove, _add, _add_choice, _move, _move, _change_who, _change_who, _change_images, _change_one_image),
    *(_change_period, _change_section, _change_section, _drop_section, _change_one_value, _change_one_value),
    *(_reverse_sources, _rename_group, *([_change_choice] * 5)),
)


def _change_team(world: _World, document: Document, order: Order) -> bool:
    team = _pick(world, document, "teams")
    if team is None:
        return False
    team.pop("users", None)
    team.pop("groups", None)
    team |= world.make_members()
    return True


def _change_quota(world: _World, document: Document, order: Order) -> bool:
    quota = _pick(world, document, "quotas")
    if quota is None:
        return False
    changed = world.random.choice(("name", "per", "hard", "hard", "who", "who", "period"))
    if changed == "name":
        names = [each["name"] for each in document["quotas"]]
        quota["name"] = next(each for each in ("P", "Q", "R") if each not in names)
    elif changed == "per":
        quota["per"] = "all" if quota.get("per") == "user" else "user"
    elif changed == "hard":
        name = world.random.choice([*HARD])
        quota["hard"][name] = world.random.choice(world.random.choice(AMOUNTS[HARD[name]]))
    elif changed == "who":
        quota.pop("users", None)
        quota.pop("groups", None)
        quota |= world.make_who()
    else:
        world.set_period(quota)
    return True


def _add_or_remove_quota(world: _World, document: Document, order: Order) -> bool:
    quotas = document.setdefault("quotas", [])
    if quotas and world.chance(0.5):
        quotas.pop(world.random.randrange(len(quotas)))
    else:
        names = [each["name"] for each in quotas]
        free = [each for each in ("P", "Q", "R", "S") if each not in names]
        quotas.insert(world.random.randint(0, len(quotas)), world.make_quota(free[0]))
    return True


CHANGES_OF_MAIN: tuple[_Edit, ...] = (
    *NEUTRAL_OF_MAIN,
    *(_change_team, _change_team, _change_team, _change_quota, _change_quota, _change_quota, _add_or_remove_quota),
    *(_rename_group, _change_period),
)


def _swap_rivals(world: _World, document: Document, order: Order) -> bool:
    """Swaps two profiles that set the same, and are as specific."""
    profiles = document["profiles"]
    rivals = [
        (place, other)
        for place, other in combinations(range(len(profiles)), 2)
        if order == "document" or _count_filters(profiles[place]) == _count_filters(profiles[other])
        if {*profiles[place]} & {*profiles[other]} & {*SECTIONS} and profiles[place] != profiles[other]
    ]
    if not rivals:
        return False
    place, other = world.random.choice(rivals)
    profiles[place], profiles[other] = profiles[other], profiles[place]
    return True


def _put_behind(world: _World, document: Document, order: Order) -> bool:
    """A copy behind a later one: it then wins over that one, too."""
    profiles = document["profiles"]
    if len(profiles) < 2:
        return False
    place = world.random.randrange(len(profiles) - 1)
    copied = deepcopy(profiles[place])
    copied.pop("name", None)
    profiles.insert(world.random.randint(place + 2, len(profiles)), copied)
    return True


CROSSING: tuple[_Edit, ...] = (
    *([_swap_rivals] * 5),
    *(_move, _move, _put_behind, _put_behind, _rename_group, _change_one_image, _change_one_value, _remove),
)


# YAML

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:T[0-9:+-]+Z?)?")


def to_text(document: Document, random: Random) -> str:
    """The document as YAML: some texts are quoted and some are not, keys are in any order, what is the same may be an
    alias, and an `env` that has more than an earlier one may merge that in."""
    main = {key: value for key, value in document.items() if key != "configmaps"}
    others = document.get("configmaps", {})
    return "".join(
        [_Writer(random).write(main), *(f"--- # {name}\n{_Writer(random).write(others[name])}" for name in others)]
    )


def split(text: str) -> tuple[str, dict[str, str]]:
    """The text of the document itself, and those of the others, by the names of their ConfigMaps."""
    main, *others = re.split(r"^--- # (.*)\n", text, flags=re.MULTILINE)
    return main, dict(zip(others[::2], others[1::2], strict=True))


class _Writer:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._anchors: dict[str, str] = {}
        self._envs: list[tuple[Entry, str]] = []
        self._with_anchors = random.random() < 0.3

    def write(self, document: Document) -> str:
        lines = [f"{key}: {self._flow(value)}" for key, value in document.items() if not isinstance(value, list)]
        for key, entries in document.items():
            if isinstance(entries, list):
                lines.append(f"{key}:" if entries else f"{key}: []")
                for entry in entries:
                    lines += self._write_entry(entry)
        return "\n".join(lines) + "\n"

    def _write_entry(self, entry: Entry) -> list[str]:
        if not entry:
            return ["- {}"]
        keys = [*entry]
        if self._random.random() < 0.3:
            self._random.shuffle(keys)
        return [f"{'  ' if place else '- '}{key}: {self._section(key, entry[key])}" for place, key in enumerate(keys)]

    def _section(self, key: str, value: Any) -> str:
        if not self._with_anchors or not isinstance(value, list | dict) or key in ("image_pull_secrets", "images"):
            return self._flow(value)
        written = json.dumps([key, value])
        if written in self._anchors:
            return f"*{self._anchors[written]}"
        name = self._anchors[written] = f"x{len(self._anchors)}"
        if key == "env" and isinstance(value, dict):
            base = next((each for each in self._envs if {*each[0]} <= {*value}), None)
            self._envs.append((value, name))
            if base:
                own = {each: text for each, text in value.items() if each not in base[0] or base[0][each] != text}
                return f"&{name} {self._flow_mapping(own, f'<<: *{base[1]}')}"
        return f"&{name} {self._flow(value)}"

    def _flow(self, value: Any) -> str:
        if isinstance(value, dict):
            return self._flow_mapping(value)
        if isinstance(value, list):
            return f"[{', '.join(map(self._flow, value))}]"
        if isinstance(value, str):
            plain = _PLAIN.fullmatch(value) and value.lower() != "null"
            return value if plain and self._random.random() < 0.7 else json.dumps(value)
        return json.dumps(value)

    def _flow_mapping(self, value: Entry, *first: str) -> str:
        return f"{{{', '.join([*first, *(f'{json.dumps(key)}: {self._flow(each)}' for key, each in value.items())])}}}"


class _TextLoader(yaml.SafeLoader):
    """Reads texts as texts. Only `null` and the merge key mean more."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, expression) for tag, expression in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load(text: str) -> Document:
    """Reads a document as `to_text` writes it."""
    main, others = split(text)
    document: Document = yaml.load(main, Loader=_TextLoader)
    if others:
        document["configmaps"] = {name: yaml.load(each, Loader=_TextLoader) for name, each in others.items()}
    return document
