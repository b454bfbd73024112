"""The profiles that fit to one effective profile, each field knowing where it came from.

`merge_profiles` knows the document alone. `settle_resources` then weighs what it says against what the hub's own
settings gave, so that Kubernetes accepts the sum.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from ..document.limits import MAX_EXPRESSIONS, MAX_OBJECT_VALUES, MAX_TERMS, MAX_VALUES, find_excess, weigh
from ..document.model import EnvValue, Object, Profile
from ..document.quantity import Quantity, is_whole_and_equal
from ..errors import PodError

__all__ = [
    "Conflict",
    "EffectiveProfile",
    "Resources",
    "Setting",
    "check_applied",
    "check_start",
    "combine_terms",
    "merge_profiles",
    "settle_resources",
]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

# What profiles give: values by name, and objects of many values.
_NAMED_VALUES = ("env", "limits", "requests", "node_selector", "labels", "annotations")
_OBJECTS = ("env_from", "node_tolerations", "node_affinity", "volumes")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value and where it came from.

    Attributes:
        value: The value.
        profile: The profile that gave it; None where the hub's own settings did.
    """

    # An environment variable's value, among others: not for logs and tracebacks.
    value: T = field(repr=False)
    profile: Profile | None


@dataclass(frozen=True, slots=True)
class EffectiveProfile:
    """What the profiles that fit give together.

    A value of None takes away what the hub's own settings gave.

    Attributes:
        applied: The profiles, least specific first.
        env: Environment variables by name.
        limits: Limits by Kubernetes' names of resources.
        requests: Guarantees likewise.
        env_from: Kubernetes' EnvFromSource objects, the later winning over the earlier.
        node_selector: What a node's labels must be.
        node_tolerations: Kubernetes' Toleration objects, each once.
        node_requirements: For each profile that requires something of a node, its NodeSelectorTerm objects, of
            which one must hold.
        node_preferences: Kubernetes' PreferredSchedulingTerm objects.
        volumes: Volumes with their mounts; no name and no path is there twice.
        labels: Labels by name.
        annotations: Annotations by name.
    """

    applied: tuple[Profile, ...]
    env: Mapping[str, Setting[EnvValue]]
    limits: Mapping[str, Setting[Quantity | None]]
    requests: Mapping[str, Setting[Quantity | None]]
    env_from: tuple[Setting[Object], ...]
    node_selector: Mapping[str, Setting[str]]
    node_tolerations: tuple[Setting[Object], ...]
    node_requirements: tuple[Setting[tuple[Object, ...]], ...]
    node_preferences: tuple[Setting[Object], ...]
    volumes: tuple[Setting[Object], ...]
    labels: Mapping[str, Setting[str]]
    annotations: Mapping[str, Setting[str]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A guarantee that had to become the limit, because Kubernetes refuses what was asked for.

    Attributes:
        resource: The resource by Kubernetes' name.
        limit: The limit, which is the guarantee now.
        request: The guarantee that was asked for, and by whom.
    """

    resource: str
    limit: Setting[Quantity]
    request: Setting[Quantity]

    def __str__(self) -> str:
        asked, given = (
            f"{setting.value} ({setting.profile.label if setting.profile else 'the hub'})"
            for setting in (self.request, self.limit)
        )
        return f"{self.resource}: the guarantee of {asked} is not the limit of {given}; the limit is used for both"


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of a container, settled.

    Attributes:
        limits: Limits by Kubernetes' names of resources.
        requests: Guarantees likewise.
        conflicts: The guarantees that the limits overruled.
    """

    limits: Mapping[str, Setting[Quantity]]
    requests: Mapping[str, Setting[Quantity]]
    conflicts: tuple[Conflict, ...]


def merge_profiles(applied: Iterable[Profile]) -> EffectiveProfile:
    """Merges profiles, least specific first: the later wins, field by field, or comes behind the earlier."""
    profiles = tuple(applied)
    # Dictionaries by content, because there may be many of each.
    env_from: dict[Hashable, Setting[Object]] = {}
    tolerations: dict[Hashable, Setting[Object]] = {}
    requirements: list[Setting[tuple[Object, ...]]] = []
    preferences: list[Setting[Object]] = []
    volumes: dict[str, Setting[Object]] = {}
    mounted: dict[str, str] = {}
    for profile in profiles:
        for each in profile.env_from:
            # The last of the same counts, as it does for Kubernetes.
            frozen = _freeze(each)
            env_from.pop(frozen, None)
            env_from[frozen] = Setting(each, profile)
        for each in profile.node_tolerations:
            tolerations.setdefault(_freeze(each), Setting(each, profile))
        if _REQUIRED in profile.node_affinity:
            requirements.append(Setting(profile.node_affinity[_REQUIRED]["nodeSelectorTerms"], profile))
        preferences += [Setting(each, profile) for each in profile.node_affinity.get(_PREFERRED, ())]
        for each in profile.volumes:
            name: str = each["name"]
            path: str = each["mountPath"].rstrip("/")
            for taken in {name, mounted.get(path, name)}:
                less_specific = volumes.pop(taken, None)
                if less_specific:
                    del mounted[less_specific.value["mountPath"].rstrip("/")]
            volumes[name] = Setting(each, profile)
            mounted[path] = name
    return EffectiveProfile(
        profiles,
        env=_merge(profiles, "env"),
        limits=_merge(profiles, "limits"),
        requests=_merge(profiles, "requests"),
        env_from=tuple(env_from.values()),
        node_selector=_merge(profiles, "node_selector"),
        node_tolerations=tuple(tolerations.values()),
        node_requirements=tuple(requirements),
        node_preferences=tuple(preferences),
        volumes=tuple(volumes.values()),
        labels=_merge(profiles, "labels"),
        annotations=_merge(profiles, "annotations"),
    )


def check_start(effective: EffectiveProfile) -> None:
    """Checks that one server can have what its profiles give it together.

    Raises:
        PodError: It cannot. The message names the limit, and the profiles that give most.
    """
    settings: dict[str, Mapping[str, Setting[Any]] | tuple[Setting[Any], ...]] = {
        "env": effective.env,
        "env_from": effective.env_from,
        "limits": effective.limits,
        "requests": effective.requests,
        "node_selector": effective.node_selector,
        "node_tolerations": effective.node_tolerations,
        "node_preferences": effective.node_preferences,
        "volumes": effective.volumes,
        "labels": effective.labels,
        "annotations": effective.annotations,
    }
    excess = find_excess(
        {
            name: {key: setting.value for key, setting in section.items()}
            if isinstance(section, Mapping)
            else tuple([setting.value for setting in section])
            for name, section in settings.items()
        }
    )
    if not excess:
        return
    name, what = excess
    section = settings[name]
    weights: dict[str, int] = {}
    for setting in section.values() if isinstance(section, Mapping) else section:
        giver = setting.profile.label if setting.profile else "the hub"
        longer = len(setting.value) if isinstance(setting.value, str) else weigh(setting.value)[1]
        weights[giver] = weights.get(giver, 0) + 1 + longer
    raise PodError(f"the profiles that fit give {what} ({name}); most of it is from {_name_heaviest(weights)}")


def check_applied(applied: Sequence[Profile]) -> None:
    """Checks that merging the profiles takes no longer than a start may.

    Raises:
        PodError: They give more than `MAX_VALUES` values together, or more than `MAX_OBJECT_VALUES` within objects.
    """
    for most, sections, what in (
        (MAX_VALUES, _NAMED_VALUES, "values"),
        (MAX_OBJECT_VALUES, _OBJECTS, "values within objects"),
    ):
        values = 0
        weights: list[int] = []
        for profile in applied:
            given = 0
            for name in sections:
                section = getattr(profile, name)
                if section:
                    given += weigh(section)[0] if sections is _OBJECTS else len(section)
            values += given
            weights.append(given)
            if values > most:
                heaviest = {profile.label: weight for profile, weight in zip(applied, weights, strict=False) if weight}
                raise PodError(
                    f"the profiles that fit give more than {most:,} {what} together, and a server can have no more; "
                    f"most of it is from {_name_heaviest(heaviest)}"
                )


def _name_heaviest(weights: Mapping[str, int], most: int = 3) -> str:
    names = [name[:100] for name in sorted(weights, key=lambda name: -weights[name])]
    return " and ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def combine_terms(requirements: Iterable[Sequence[Object]]) -> tuple[Object, ...]:
    """Kubernetes' NodeSelectorTerm objects of which one holds exactly where one of each requirement's holds.

    Kubernetes knows alternatives of conjunctions and no more than that, so every alternative of one is joined with
    every one of the others.

    Args:
        requirements: NodeSelectorTerm objects, of which one is enough to fulfil the requirement.

    Raises:
        PodError: There are more than `MAX_TERMS`, or they have more than `MAX_EXPRESSIONS` together, or more values
            than `MAX_OBJECT_VALUES`.
    """
    given = [tuple(terms) for terms in requirements]
    if len(given) <= 1:
        return given[0] if given else ()
    expressions = _Expressions()
    # Each alternative is a number with a bit for each of its expressions: to join two takes no time, nor to compare.
    combined = [0]
    seen: set[frozenset[int]] = set()
    for terms in given:
        # Kubernetes has it that no node fits a term without expressions.
        alternatives = dict.fromkeys(filter(None, map(expressions.number, terms)))
        if not alternatives:
            return ({},)
        if frozenset(alternatives) in seen:
            continue
        seen.add(frozenset(alternatives))
        if len(combined) * len(alternatives) > MAX_TERMS:
            raise _too_much(f"{MAX_TERMS} alternatives")
        combined = list(dict.fromkeys([one | other for one in combined for other in alternatives]))
        if sum(map(int.bit_count, combined)) > MAX_EXPRESSIONS:
            raise _too_much(f"{MAX_EXPRESSIONS:,} expressions")
    joined = tuple(map(expressions.term, combined))
    # An alternative names again what others name too, with all its values.
    if (
        sum(len(each.get("values") or ()) for term in joined for both in term.values() for each in both)
        > MAX_OBJECT_VALUES
    ):
        raise _too_much(f"{MAX_OBJECT_VALUES:,} values")
    return joined


def _too_much(what: str) -> PodError:
    return PodError(
        f"what the profiles require of a node comes to more than {what} together; require labels that have fewer"
    )


class _Expressions:
    """The expressions of terms, each once, by a bit of its own."""

    def __init__(self) -> None:
        self._bits: dict[Hashable, int] = {}
        self._found: list[tuple[str, Any]] = []

    def number(self, term: Object) -> int:
        """The bits of a term's expressions."""
        number = 0
        for key in ("matchExpressions", "matchFields"):
            for expression in term.get(key) or ():
                frozen = key, _freeze(expression)
                if frozen not in self._bits:
                    self._bits[frozen] = 1 << len(self._found)
                    self._found.append((key, expression))
                number |= self._bits[frozen]
        return number

    def term(self, number: int) -> Object:
        """The term that has these bits."""
        joined: dict[str, list[Any]] = {}
        while number:
            bit = number & -number
            key, expression = self._found[bit.bit_length() - 1]
            joined.setdefault(key, []).append(expression)
            number ^= bit
        return MappingProxyType({key: tuple(both) for key, both in joined.items()})


def _freeze(value: Any) -> Hashable:
    """What is equal for equal objects, and can be a key."""
    if isinstance(value, MappingProxyType | dict):
        try:
            return frozenset(value.items())
        except TypeError:
            pass  # an object within it
        return frozenset((name, _freeze(each)) for name, each in value.items())
    if isinstance(value, tuple | list):
        return tuple(_freeze(each) for each in value)
    hashable: Hashable = value
    return hashable


def _merge(profiles: Iterable[Profile], section: str) -> Mapping[str, Setting[Any]]:
    # Many profiles may give the same, and only the last of them counts: a Setting is made for that alone.
    givers: dict[str, Profile] = {}
    for profile in profiles:
        given = getattr(profile, section)
        if given:
            givers.update(dict.fromkeys(given, profile))
    return MappingProxyType(
        {name: Setting(getattr(profile, section)[name], profile) for name, profile in givers.items()}
    )


def settle_resources(
    effective: EffectiveProfile,
    own_limits: Mapping[str, Quantity] = MappingProxyType({}),
    own_requests: Mapping[str, Quantity] = MappingProxyType({}),
) -> Resources:
    """Puts the effective profile's resources over the hub's own, and lets limits win over guarantees.

    Where Kubernetes wants a request to equal its limit (a GPU's), whichever of the two is missing is filled in. Zero of
    such a resource is none: it has neither. A pod that names it is let onto the nodes that are kept for it
    (Kubernetes' ExtendedResourceToleration), whatever the amount.

    Args:
        effective: What the profiles give.
        own_limits: The limits that the hub's settings gave the container.
        own_requests: Its guarantees likewise.
    """
    limits = _overlay(own_limits, effective.limits)
    requests = _overlay(own_requests, effective.requests)
    conflicts = []
    for resource, limit in list(limits.items()):
        request = requests.get(resource, limit)
        equal = is_whole_and_equal(resource)
        if limit.profile is None and request.profile is None:
            continue  # the hub's own affair
        if equal and limit.profile is None and not request.value.amount:
            limits[resource] = request
        elif request.value > limit.value or (equal and request.value != limit.value):
            conflicts.append(Conflict(resource, limit, request))
            requests[resource] = limit
        elif equal:
            requests[resource] = request
    for resource, request in list(requests.items()):
        if resource in limits or not is_whole_and_equal(resource):
            continue
        if request.profile is not None:
            limits[resource] = request
        elif resource in effective.limits:
            # A profile took away the limit, without which Kubernetes takes no such request.
            del requests[resource]
    limits, requests = _without_zeros(limits), _without_zeros(requests)
    return Resources(MappingProxyType(limits), MappingProxyType(requests), tuple(conflicts))


def _without_zeros(amounts: dict[str, Setting[Quantity]]) -> dict[str, Setting[Quantity]]:
    return {
        resource: setting
        for resource, setting in amounts.items()
        if setting.profile is None or setting.value.amount or not is_whole_and_equal(resource)
    }


def _overlay(
    own: Mapping[str, Quantity], given: Mapping[str, Setting[Quantity | None]]
) -> dict[str, Setting[Quantity]]:
    settled: dict[str, Setting[Quantity]] = {name: Setting(quantity, None) for name, quantity in own.items()}
    for name, setting in given.items():
        if setting.value is None:
            settled.pop(name, None)
        else:
            settled[name] = cast("Setting[Quantity]", setting)
    return settled
