"""What one document gives to one subject: the docs' rules, applied one after the other.

Written from docs/explanation.md and docs/reference.md, and from nothing else: it imports nothing of the package. A
document is what its YAML says, as lists and mappings (see `world.load`). It must be valid. Documents of selected
ConfigMaps, which the document's teams edit, stand under the key `configmaps`, by their names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
GPU = "nvidia.com/gpu"
NO_SIZE = "default"

#: Longer images match only the entry "*".
LONGEST_IMAGE = 1024

#: JupyterHub's names of resources: limits or requests, and Kubernetes' name.
HUB_RESOURCES = {
    "mem_limit": ("limits", "memory"),
    "cpu_limit": ("limits", "cpu"),
    "mem_guarantee": ("requests", "memory"),
    "cpu_guarantee": ("requests", "cpu"),
}

#: Sections of which the later profile's value counts, name by name.
BY_NAME = ("env", "limits", "requests", "node_selector", "labels", "annotations")

#: A requirement without an alternative.
NO_NODE: frozenset[Any] = frozenset()

Raw = Mapping[str, Any]
"""A mapping of the document, as its YAML has it."""


class Subject(NamedTuple):
    """A start of a server.

    Attributes:
        user: The owner's name.
        groups: The owner's groups.
        image: The image that the hub's settings say.
        image_choice: The name of the chosen image; None if nothing was chosen.
        size: The name of the chosen size, or `NO_SIZE`.
        at: When the start began, in seconds since 1970.
    """

    user: str
    groups: frozenset[str]
    image: str
    image_choice: str | None = None
    size: str = NO_SIZE
    at: float = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a document gives to a subject, before the hub's settings. Two are equal if nobody can tell them apart.

    Attributes:
        images: The images that are offered, in order: name, description, image, pull secrets, default URL.
        sizes: The sizes that are offered, in order: name, description.
        refused: Whether the choice is not offered.
        given: The merged settings by section; empty if the choice is refused. See `merge`.
        quotas: The quotas that the server counts towards: see `describe_quota`.
        applied: Names of the profiles that match. They do not count.
        runs: The name of the image entry that the server runs, if any. It follows from the choice and the offer.
    """

    images: tuple[Any, ...]
    sizes: tuple[Any, ...]
    refused: bool
    given: Mapping[str, Any]
    quotas: frozenset[Any] = frozenset()
    applied: tuple[str, ...] = field(default=(), compare=False)
    runs: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A profile, a size, an image or a quota of a document, in a normal form.

    Attributes:
        raw: The entry as the document has it.
        start: When it begins.
        end: When it has ended.
        sections: What it gives, by section: see `read_sections`.
        team: The team whose ConfigMap it is from, as the document has it; None for the document's own.
    """

    raw: Raw
    start: float
    end: float
    sections: Mapping[str, Any]
    team: Raw | None = None

    @property
    def names_who(self) -> bool:
        """Whether it names who it is for, as all from teams does. `"*"` in users counts as not naming it."""
        return self.team is not None or names_who(self.raw)

    @property
    def names_what(self) -> bool:
        """Whether it names the images that it is for. `"*"` counts as not naming them."""
        return "images" in self.raw and "*" not in self.raw["images"]

    def fits_who(self, user: str, groups: frozenset[str]) -> bool:
        """Somebody whom it is for, and who is in its team."""
        return is_for(self.raw, user, groups) and (self.team is None or is_for(self.team, user, groups))

    def fits_when(self, at: float) -> bool:
        """From the first instant on, and not at the end."""
        return self.start <= at < self.end

    def fits_what(self, image: str) -> bool:
        """An image that one of the entries of `images` matches. Without the key, every image."""
        return "images" not in self.raw or any(fits_image(entry, image) for entry in self.raw["images"])

    def is_offered(self, subject: Subject) -> bool:
        """Whether an image or a size is for the subject's user, now."""
        return self.fits_who(subject.user, subject.groups) and self.fits_when(subject.at)

    def matches(self, subject: Subject, image: str) -> bool:
        """Whether a profile matches the subject's server, which runs this image."""
        return self.is_offered(subject) and self.fits_what(image)


def names_who(raw: Raw) -> bool:
    """Whether an entry names users or groups, and not everybody."""
    return ("users" in raw or "groups" in raw) and "*" not in raw.get("users", ())


def is_for(raw: Raw, user: str, groups: frozenset[str]) -> bool:
    """Whether an entry is for a person: a listed user, or a member of a listed group. Without both keys, everyone."""
    if "users" not in raw and "groups" not in raw:
        return True
    users, listed = raw.get("users", ()), raw.get("groups", ())
    return user in users or "*" in users or any(group in groups for group in listed)


class Entries(NamedTuple):
    """A document in a normal form.

    Attributes:
        profiles: In merge order: the later wins.
        images: In the document's order.
        sizes: Likewise.
        quotas: Likewise.
    """

    profiles: tuple[Entry, ...]
    images: tuple[Entry, ...]
    sizes: tuple[Entry, ...]
    quotas: tuple[Entry, ...]


def result(document: Raw | Entries, subject: Subject, order: str = "specificity") -> Result:
    """What the document gives to the subject."""
    entries = document if isinstance(document, Entries) else read(document, order)
    images = [entry for entry in entries.images if entry.is_offered(subject)]
    sizes = [entry for entry in entries.sizes if entry.is_offered(subject)]
    offer = tuple(map(describe_image, images)), tuple(map(describe_size, sizes))
    quotas = frozenset(describe_quota(entry) for entry in entries.quotas if entry.is_offered(subject))

    # The chosen image, or else the first.
    running = [each for each in images if subject.image_choice in (None, each.raw["name"])][:1]
    chosen = [each for each in sizes if each.raw["name"] == subject.size]
    if (subject.image_choice is not None and not running) or (subject.size != NO_SIZE and not chosen):
        return Result(*offer, refused=True, given={}, quotas=quotas)

    # An entry without an image leaves the hub's.
    image = running[0].raw.get("image", subject.image) if running else subject.image
    applied = [profile for profile in entries.profiles if profile.matches(subject, image)]
    return Result(
        *offer,
        refused=False,
        given=merge([*applied, *chosen]),
        quotas=quotas,
        applied=tuple(profile.raw["name"] for profile in applied if "name" in profile.raw),
        runs=running[0].raw["name"] if running else None,
    )


def read(document: Raw, order: str = "specificity") -> Entries:
    """Reads a document: its profiles are then in merge order."""
    profiles, images, sizes, quotas = (
        [
            read_entry(raw, ZoneInfo(part.get("timezone", "UTC")), team)
            for part, team in list_parts(document)
            for raw in part.get(key, ())
        ]
        for key in ("profiles", "images", "sizes", "quotas")
    )
    if order == "specificity":
        # It keeps the document's order among equals.
        profiles.sort(key=lambda profile: profile.names_who + profile.names_what)
    return Entries(tuple(profiles), keep_first(images), keep_first(sizes), tuple(quotas))


def list_parts(document: Raw) -> list[tuple[Raw, Raw | None]]:
    """The document itself, and those of its teams' ConfigMaps, each with the team. One of no team is left out."""
    theirs = [
        (part, team)
        for name, part in document.get("configmaps", {}).items()
        for team in document.get("teams", ())
        if name in team["configmaps"]
    ]
    return [(document, None), *theirs]


def keep_first(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Of those of the same name, the first."""
    by_name: dict[str, Entry] = {}
    for entry in entries:
        by_name.setdefault(entry.raw["name"], entry)
    return tuple(by_name.values())


def read_entry(raw: Raw, zone: ZoneInfo, team: Raw | None) -> Entry:
    """Reads one profile, size, image or quota."""
    start = read_time(raw["from"], zone, end=False) if "from" in raw else float("-inf")
    end = read_time(raw["until"], zone, end=True) if "until" in raw else float("inf")
    return Entry(raw, start, end, read_sections(raw), team)


def describe_image(entry: Entry) -> tuple[Any, ...]:
    """What a person is offered, and what the server gets of it besides profiles."""
    secrets = entry.raw.get("image_pull_secrets")
    keys = ("name", "description", "image", "default_url")
    return (*map(entry.raw.get, keys), None if secrets is None else tuple(secrets))


def describe_size(entry: Entry) -> tuple[Any, ...]:
    """What a person is offered."""
    return entry.raw["name"], entry.raw.get("description")


def describe_quota(entry: Entry) -> tuple[Any, ...]:
    """What a quota allows, and who shares it, if people do."""
    raw = entry.raw
    amounts = frozenset((name, read_amount(amount)) for name, amount in raw["hard"].items())
    shared = raw.get("per", "all") == "all"
    named = (frozenset(raw.get("users", ())), frozenset(raw.get("groups", ()))) if names_who(raw) else None
    return raw["name"], amounts, shared, named if shared else None


# Times


def read_time(text: str, zone: ZoneInfo, *, end: bool) -> float:
    """A date or a time, as seconds since 1970. A date is its first instant, or, as an end, that of the next day."""
    moment = datetime.fromisoformat(text)
    if end and "T" not in text:
        moment += timedelta(days=1)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC).timestamp()


# Images


@lru_cache(maxsize=200_000)
def fits_image(entry: str, image: str) -> bool:
    """Whether an entry of `images` matches an image: as it is written, or as it may be written too."""
    if len(image) > LONGEST_IMAGE:
        return entry == "*"
    return any(fits_text(entry, written) for written in write_image(image))


def write_image(image: str) -> list[str]:
    """The image as it is written, and as it may be written too.

    Without a tag, it is `:latest`; with a digest, its tag means nothing. The digest is behind the first `@`, and the
    tag behind the first `:` of what follows the last `/` before that.
    """
    before, at, digest = image.partition("@")
    folder, name = before[: before.rfind("/") + 1], before[before.rfind("/") + 1 :]
    untagged, colon, tag = name.partition(":")
    if at:
        return [image, folder + untagged + at + digest]
    if not colon:
        return [image, f"{image}:latest"]
    return [image, folder + untagged] if tag == "latest" else [image]


@lru_cache(maxsize=10_000)
def to_expression(entry: str) -> re.Pattern[str]:
    """A star is any run of characters; the rest is as it is written."""
    return re.compile(".*".join(map(re.escape, entry.split("*"))), re.DOTALL)


def fits_text(entry: str, text: str) -> bool:
    """Whether the whole text matches."""
    return bool(to_expression(entry).fullmatch(text))


# Sections


def read_sections(raw: Raw) -> dict[str, Any]:
    """What an entry gives, by section. Equal sections are equal here, however they are written.

    `env`, `limits`, `requests`, `node_selector`, `labels`, `annotations`: values by name; None takes away.
    `env_from`, `node_tolerations`: objects, in order. `requirements`: a set of sets of alternatives, all of which must
    hold. `preferences`: weights with terms. `volumes`: names, paths and objects.
    """
    sections: dict[str, Any] = {
        "env": read_env(raw.get("env", {})),
        **read_amounts(raw),
        **{key: dict(raw.get(key, {})) for key in ("node_selector", "labels", "annotations")},
        **{key: [to_text(each) for each in raw.get(key, ())] for key in ("env_from", "node_tolerations")},
        "requirements": read_requirements(raw),
        "preferences": [
            (int(each["weight"]), read_term(each["preference"]))
            for each in raw.get("node_affinity", {}).get(PREFERRED, ())
        ],
        "volumes": [(each["name"], each["mountPath"].rstrip("/"), to_text(each)) for each in raw.get("volumes", ())],
    }
    return sections


def to_text(value: Any) -> str:
    """A Kubernetes object in one spelling: whatever the order of its keys, and however a scalar was typed."""
    return json.dumps(_to_plain(value), sort_keys=True)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_env(env: Any) -> dict[str, str | tuple[str, str] | None]:
    """Variables by name: a text, None, or `valueFrom` with its object."""
    if isinstance(env, list):
        env = {each["name"]: each["value"] if "value" in each else {"valueFrom": each["valueFrom"]} for each in env}
    return {
        name: ("valueFrom", to_text(value["valueFrom"])) if isinstance(value, Mapping) else value
        for name, value in env.items()
    }


def read_amounts(raw: Raw) -> dict[str, dict[str, Fraction | None]]:
    """Limits and requests by Kubernetes' names."""
    amounts: dict[str, dict[str, Fraction | None]] = {"limits": {}, "requests": {}}
    for key, value in raw.get("resources", {}).items():
        if key in HUB_RESOURCES:
            kind, resource = HUB_RESOURCES[key]
            amounts[kind][resource] = read_amount(value)
        else:
            amounts[key].update((resource, read_amount(each)) for resource, each in value.items())
    if "gpu" in raw:
        amounts["limits"][GPU] = read_amount(raw["gpu"])
    return amounts


_UNITS = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000) ** power for power, unit in enumerate("kMGT", start=1)},
    **{unit: Fraction(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)},
}


@lru_cache(maxsize=1000)
def read_amount(text: str | int | None) -> Fraction | None:
    """A Kubernetes quantity as a number; None removes the resource."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9.]+)(?:e([0-9]+)|([A-Za-z]*))", str(text))
    assert found, "an amount that no world has"
    number, power, unit = found.groups()
    return Fraction(number) * (Fraction(10) ** int(power) if power else _UNITS[unit])


def read_term(term: Raw) -> frozenset[Any]:
    """The expressions of a term of a node affinity; all must hold, in whatever order."""
    return frozenset((kind, to_text(each)) for kind, expressions in term.items() for each in expressions)


def read_requirements(raw: Raw) -> frozenset[Any]:
    """What one entry requires of a node: a set of requirements, each a set of terms, one of which must hold.

    A requirement with one term is the same as a requirement for each of its expressions. A term without expressions
    matches no node, says Kubernetes.
    """
    selector = raw.get("node_affinity", {}).get(REQUIRED)
    if selector is None:
        return frozenset()
    terms = frozenset(filter(None, map(read_term, selector["nodeSelectorTerms"])))
    if len(terms) == 1:
        (term,) = terms
        return frozenset(frozenset({frozenset({expression})}) for expression in term)
    return frozenset({terms})


# Merging


def merge(entries: Iterable[Entry]) -> dict[str, Any]:
    """Merges what the entries give; the later wins. The result compares with `==`, as Kubernetes would see it."""
    each = [entry.sections for entry in entries]
    merged: dict[str, Any] = {}
    for section in BY_NAME:
        merged[section] = {name: value for sections in each for name, value in sections[section].items()}

    # One behind the other. The same once: the last, since for Kubernetes the later wins.
    sources = [source for sections in each for source in sections["env_from"]]
    merged["env_from"] = [source for place, source in enumerate(sources) if source not in sources[place + 1 :]]

    merged["node_tolerations"] = frozenset(each for sections in each for each in sections["node_tolerations"])
    merged["preferences"] = Counter(each for sections in each for each in sections["preferences"])
    requirements = frozenset(each for sections in each for each in sections["requirements"])
    # If one can never hold, what else is required does not matter.
    merged["requirements"] = frozenset({NO_NODE}) if NO_NODE in requirements else requirements

    volumes: list[tuple[str, str, str]] = []
    for sections in each:
        for volume in sections["volumes"]:
            volumes = [other for other in volumes if other[0] != volume[0] and other[1] != volume[1]]
            volumes.append(volume)
    merged["volumes"] = frozenset(text for _, _, text in volumes)
    return merged


# Who gets a thing


def gets(found: Result, subject: Subject, kind: str, name: str) -> bool:
    """Whether a result holds a thing.

    Args:
        found: The result.
        subject: Its subject.
        kind: ``env``: a variable with a value, or a reference to one. ``secret``: a Secret that variables or volumes
            refer to. ``resource``: a limit or a request that is not zero. ``claim``: a volume's PersistentVolumeClaim.
            ``profile``: a profile that matches. ``size``: the chosen size. ``image``: the entry that the server runs.
        name: The thing's name.
    """
    if found.refused:
        return False
    given = found.given
    if kind == "env":
        return given["env"].get(name) is not None
    if kind == "resource":
        return any(bool(given[section].get(name)) for section in ("limits", "requests"))
    if kind == "profile":
        return name in found.applied
    if kind == "size":
        return subject.size == name
    if kind == "image":
        return found.runs == name
    objects = [value[1] for value in given["env"].values() if isinstance(value, tuple)]
    objects += [*given["env_from"], *given["volumes"]]
    field_names = {"secret": _SECRETS, "claim": _CLAIMS}[kind]
    return any(name in _find_names(json.loads(text), field_names) for text in objects)


_SECRETS = {"secretKeyRef": "name", "secretRef": "name", "secret": "name", "nodePublishSecretRef": "name"}
_CLAIMS = {"persistentVolumeClaim": "claimName"}


def _find_names(value: Any, fields: Mapping[str, str]) -> set[str]:
    """The names that an object refers to: of each field, under which key its object has it."""
    if isinstance(value, list):
        return {name for each in value for name in _find_names(each, fields)}
    if not isinstance(value, dict):
        return set()
    names = {name for each in value.values() for name in _find_names(each, fields)}
    for key, name in fields.items():
        if isinstance(value.get(key), dict):
            # A volume's `secret` says `secretName`, one of a projected volume `name`.
            names |= {value[key][each] for each in (name, "secretName") if each in value[key]}
    return names
