"""Merges the profiles that match into one effective profile. Each setting keeps the profile that it came from.

`merge_profiles` looks at profiles alone. `reconcile_resources` then adds the limits and requests of the hub's own
settings, and corrects combinations that Kubernetes would refuse.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, cast

from ..document.limits import MAX_EXPRESSIONS, MAX_OBJECT_VALUES, MAX_TERMS, MAX_VALUES, find_excess, weigh
from ..document.model import EnvValue, Object, Profile
from ..document.quantity import Quantity, is_whole_and_equal
from ..errors import PodError

__all__ = [
    "PREFERRED",
    "REQUIRED",
    "Amounts",
    "Conflict",
    "EffectiveProfile",
    "Resources",
    "Setting",
    "check_merge_input",
    "check_merge_result",
    "combine_terms",
    "merge_profiles",
    "reconcile_resources",
    "to_key",
]

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

# Sections that map a name to one value, and sections whose objects hold many values.
_NAMED_VALUES = ("env", "limits", "requests", "node_selector", "labels", "annotations")
_OBJECTS = ("env_from", "node_tolerations", "node_affinity", "volumes")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value and its origin.

    Attributes:
        value: The value.
        profile: The profile that set the value. None: the hub's own settings set it.
    """

    # It may be the value of an environment variable, so keep it out of logs and tracebacks.
    value: T = field(repr=False)
    profile: Profile | None


@dataclass(frozen=True, slots=True)
class EffectiveProfile:
    """The merged settings of all profiles that match.

    A setting whose value is None removes what the hub's own settings gave.

    Attributes:
        applied: The profiles in merge order: later overrides earlier.
        env: Environment variables by name.
        limits: Limits by Kubernetes' resource name, such as ``memory``.
        requests: Requests (guarantees) by Kubernetes' resource name.
        env_from: Kubernetes' EnvFromSource objects. Later overrides earlier.
        node_selector: Required node labels: name to value.
        node_tolerations: Kubernetes' Toleration objects, without duplicates.
        node_requirements: The NodeSelectorTerm objects of each profile that has any. Terms of one profile are
            alternatives; every profile's requirement must hold. See `combine_terms`.
        node_preferences: Kubernetes' PreferredSchedulingTerm objects.
        volumes: Volumes, each with its mount. Names and mount paths are unique.
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


class Amounts(NamedTuple):
    """The limits and requests of an `EffectiveProfile`, without the rest."""

    limits: Mapping[str, Setting[Quantity | None]]
    requests: Mapping[str, Setting[Quantity | None]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A guarantee that the limit replaced, because Kubernetes refuses the two together.

    As text it is one sentence, such as ``memory: the guarantee of 2Gi (a) is above the limit of 1Gi (b); the limit is
    used for both``.

    Attributes:
        resource: Kubernetes' name of the resource.
        limit: The limit, which is now the guarantee too.
        request: The guarantee that was replaced.
    """

    resource: str
    limit: Setting[Quantity]
    request: Setting[Quantity]

    def __str__(self) -> str:
        request, limit = (
            f"{setting.value} ({setting.profile.label if setting.profile else 'the hub'})"
            for setting in (self.request, self.limit)
        )
        # The guarantee of a GPU may be below its limit: the two must be equal.
        relation = "is above" if self.request.value > self.limit.value else "differs from"
        return (
            f"{self.resource}: the guarantee of {request} {relation} the limit of {limit}; the limit is used for both"
        )


@dataclass(frozen=True, slots=True)
class Resources:
    """The limits and requests of a container, in a combination that Kubernetes accepts.

    Attributes:
        limits: Limits by Kubernetes' resource name.
        requests: Requests (guarantees) by Kubernetes' resource name.
        conflicts: The guarantees that a limit replaced.
    """

    limits: Mapping[str, Setting[Quantity]]
    requests: Mapping[str, Setting[Quantity]]
    conflicts: tuple[Conflict, ...]


def merge_profiles(applied: Iterable[Profile]) -> EffectiveProfile:
    """Merges profiles. Later profiles override earlier ones, setting by setting.

    Args:
        applied: The profiles in merge order, as `match_profiles` returns them.

    Returns:
        For named settings (`env`, `limits`, `labels`, …), the last profile that sets a name. For `volumes`, the last
        profile that uses a name or a mount path. Tolerations, node requirements and preferences are added up, and so
        is `env_from`.

    Example:
        ``{env: {A: 1, B: 1}}`` and ``{env: {A: 2}}`` give ``A=2`` from the second, and ``B=1`` from the first.
    """
    profiles = tuple(applied)
    # Find duplicates by key: a search through a list would be slow for many objects.
    env_from: dict[Hashable, Setting[Object]] = {}
    tolerations: dict[Hashable, Setting[Object]] = {}
    requirements: list[Setting[tuple[Object, ...]]] = []
    preferences: list[Setting[Object]] = []
    volumes: dict[str, Setting[Object]] = {}
    mounted: dict[str, str] = {}
    for profile in profiles:
        for each in profile.env_from:
            # Keep the last duplicate: for Kubernetes, later sources override earlier ones.
            key = to_key(each)
            env_from.pop(key, None)
            env_from[key] = Setting(each, profile)
        for each in profile.node_tolerations:
            tolerations.setdefault(to_key(each), Setting(each, profile))
        if REQUIRED in profile.node_affinity:
            requirements.append(Setting(profile.node_affinity[REQUIRED]["nodeSelectorTerms"], profile))
        preferences += [Setting(each, profile) for each in profile.node_affinity.get(PREFERRED, ())]
        for each in profile.volumes:
            name: str = each["name"]
            path: str = each["mountPath"].rstrip("/")
            for used_name in {name, mounted.get(path, name)}:
                overridden = volumes.pop(used_name, None)
                if overridden:
                    del mounted[overridden.value["mountPath"].rstrip("/")]
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


def check_merge_result(effective: EffectiveProfile) -> None:
    """Checks that the merged settings stay within the limits for one server (`document.limits`).

    Raises:
        PodError: A limit is exceeded. The message names the limit and the profiles that contribute most.
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
            if section
        }
    )
    if not excess:
        return
    name, what = excess
    section = settings[name]
    weights: dict[str, int] = {}
    for setting in section.values() if isinstance(section, Mapping) else section:
        origin = setting.profile.label if setting.profile else "the hub"
        length = len(setting.value) if isinstance(setting.value, str) else weigh(setting.value)[1]
        weights[origin] = weights.get(origin, 0) + 1 + length
    raise PodError(f"the profiles that match give {what} ({name}); most of it is from {_name_heaviest(weights)}")


def check_merge_input(applied: Sequence[Profile]) -> None:
    """Checks the size of the profiles before they are merged, so that merging cannot take long.

    Raises:
        PodError: Together, the profiles have more than `MAX_VALUES` named values, or more than `MAX_OBJECT_VALUES`
            values within objects. The message names the profiles that contribute most.
    """
    for maximum, sections, what in (
        (MAX_VALUES, _NAMED_VALUES, "values"),
        (MAX_OBJECT_VALUES, _OBJECTS, "values within objects"),
    ):
        values = 0
        weights: list[int] = []
        for profile in applied:
            count = 0
            for name in sections:
                section = getattr(profile, name)
                if section:
                    count += weigh(section)[0] if sections is _OBJECTS else len(section)
            values += count
            weights.append(count)
            if values > maximum:
                heaviest = {profile.label: weight for profile, weight in zip(applied, weights, strict=False) if weight}
                raise PodError(
                    f"the profiles that match give more than {maximum:,} {what} together, and a server can have no "
                    f"more; most of it is from {_name_heaviest(heaviest)}"
                )


def _name_heaviest(weights: Mapping[str, int], maximum: int = 3) -> str:
    """The names with the largest weights, such as ``a and b and c and 2 more``."""
    names = [name[:100] for name in sorted(weights, key=lambda name: -weights[name])]
    return " and ".join(names[:maximum]) + (f" and {len(names) - maximum:,} more" if len(names) > maximum else "")


def combine_terms(requirements: Iterable[Sequence[Object]]) -> tuple[Object, ...]:
    """Combines node requirements, all of which must hold, into one list of NodeSelectorTerm objects.

    Kubernetes ORs the terms of a list, and ANDs the expressions of a term
    (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity). So the result has a term
    for every combination of the requirements' terms.

    Args:
        requirements: For each requirement its NodeSelectorTerm objects. One matching term fulfils the requirement.

    Returns:
        Terms without duplicates. A node that matches one of them fulfils every requirement, and the reverse.

    Raises:
        PodError: The result has more than `MAX_TERMS` terms, `MAX_EXPRESSIONS` expressions or `MAX_OBJECT_VALUES`
            values.

    Example:
        ``[[a, b], [c]]`` becomes ``[a AND c, b AND c]``.
    """
    given = [tuple(terms) for terms in requirements]
    if len(given) <= 1:
        return given[0] if given else ()
    bitmasks = _ExpressionBitmasks()
    # A term is a bitmask of its expressions: joining and comparing terms is then fast.
    combined = [0]
    seen: set[frozenset[int]] = set()
    for terms in given:
        # A term without expressions matches no node, says Kubernetes.
        alternatives = dict.fromkeys(filter(None, map(bitmasks.from_term, terms)))
        if not alternatives:
            return ({},)
        if frozenset(alternatives) in seen:
            continue
        seen.add(frozenset(alternatives))
        if len(combined) * len(alternatives) > MAX_TERMS:
            raise _requirement_error(f"{MAX_TERMS} alternatives")
        combined = list(dict.fromkeys([one | other for one in combined for other in alternatives]))
        if sum(map(int.bit_count, combined)) > MAX_EXPRESSIONS:
            raise _requirement_error(f"{MAX_EXPRESSIONS:,} expressions")
    joined = tuple(map(bitmasks.to_term, combined))
    # Terms that share an expression each repeat all its values.
    if (
        sum(len(each.get("values") or ()) for term in joined for listed in term.values() for each in listed)
        > MAX_OBJECT_VALUES
    ):
        raise _requirement_error(f"{MAX_OBJECT_VALUES:,} values")
    return joined


def _requirement_error(limit: str) -> PodError:
    return PodError(
        f"combined, the node requirements of the profiles have more than {limit}; simplify their node_affinity"
    )


class _ExpressionBitmasks:
    """Terms as bitmasks: each distinct expression has one bit."""

    def __init__(self) -> None:
        self._bits: dict[Hashable, int] = {}
        self._expressions: list[tuple[str, Any]] = []

    def from_term(self, term: Object) -> int:
        """The bitmask of the term's expressions; 0 if it has none."""
        bitmask = 0
        for kind in ("matchExpressions", "matchFields"):
            for expression in term.get(kind) or ():
                key = kind, to_key(expression)
                if key not in self._bits:
                    self._bits[key] = 1 << len(self._expressions)
                    self._expressions.append((kind, expression))
                bitmask |= self._bits[key]
        return bitmask

    def to_term(self, bitmask: int) -> Object:
        """The term with the expressions of the bitmask."""
        term: dict[str, list[Any]] = {}
        while bitmask:
            lowest_bit = bitmask & -bitmask
            kind, expression = self._expressions[lowest_bit.bit_length() - 1]
            term.setdefault(kind, []).append(expression)
            bitmask ^= lowest_bit
        return MappingProxyType({kind: tuple(expressions) for kind, expressions in term.items()})


def to_key(value: Any) -> Hashable:
    """A hashable key: equal objects have equal keys."""
    if isinstance(value, MappingProxyType | dict):
        try:
            return frozenset(value.items())
        except TypeError:
            pass  # It contains another object, which is not hashable.
        return frozenset((name, to_key(each)) for name, each in value.items())
    if isinstance(value, tuple | list):
        return tuple(to_key(each) for each in value)
    hashable: Hashable = value
    return hashable


def _merge(profiles: Iterable[Profile], section: str) -> Mapping[str, Setting[Any]]:
    # Many profiles may set the same name. Find the last one first, and make a Setting only for that.
    origins: dict[str, Profile] = {}
    for profile in profiles:
        values = getattr(profile, section)
        if values:
            origins.update(dict.fromkeys(values, profile))
    return MappingProxyType(
        {name: Setting(getattr(profile, section)[name], profile) for name, profile in origins.items()}
    )


def reconcile_resources(
    effective: EffectiveProfile | Amounts,
    own_limits: Mapping[str, Quantity] = MappingProxyType({}),
    own_requests: Mapping[str, Quantity] = MappingProxyType({}),
) -> Resources:
    """Overrides the hub's own limits and requests with the profiles', and makes the two consistent.

    - A request above its limit becomes the limit: Kubernetes would refuse the pod.
    - For a resource whose request must equal its limit, such as a GPU, the missing one of the two is filled in
      (`is_whole_and_equal`).
    - Zero of such a resource removes it. A pod that names a GPU may run on GPU nodes, whatever the amount: see
      ExtendedResourceToleration in
      https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#extendedresourcetoleration.

    Args:
        effective: The merged profiles.
        own_limits: The container's limits from the hub's own settings.
        own_requests: The container's requests from the hub's own settings.

    Returns:
        The limits, the requests, and the requests that had to change. Where the hub's own settings set both, they are
        left as they are.

    Example:
        A limit of ``memory: 1Gi`` from a profile, and a request of ``memory: 2Gi`` from the hub, give 1Gi for both, and
        one `Conflict`.
    """
    limits = _override(own_limits, effective.limits)
    requests = _override(own_requests, effective.requests)
    conflicts = []
    for resource, limit in list(limits.items()):
        request = requests.get(resource, limit)
        must_be_equal = is_whole_and_equal(resource)
        if limit.profile is None and request.profile is None:
            continue  # Neither is from a profile: leave it.
        if must_be_equal and limit.profile is None and not request.value.amount:
            limits[resource] = request
        elif request.value > limit.value or (must_be_equal and request.value != limit.value):
            conflicts.append(Conflict(resource, limit, request))
            requests[resource] = limit
        elif must_be_equal:
            requests[resource] = request
    for resource, request in list(requests.items()):
        if resource in limits or not is_whole_and_equal(resource):
            continue
        if request.profile is not None:
            limits[resource] = request
        elif resource in effective.limits:
            # A profile removed the limit. Kubernetes refuses this request without it.
            del requests[resource]
    limits, requests = _without_zeros(limits), _without_zeros(requests)
    return Resources(MappingProxyType(limits), MappingProxyType(requests), tuple(conflicts))


def _without_zeros(amounts: dict[str, Setting[Quantity]]) -> dict[str, Setting[Quantity]]:
    """Removes what a profile set to zero, if its limit and request must be equal."""
    return {
        resource: setting
        for resource, setting in amounts.items()
        if setting.profile is None or setting.value.amount or not is_whole_and_equal(resource)
    }


def _override(
    own: Mapping[str, Quantity], profiles: Mapping[str, Setting[Quantity | None]]
) -> dict[str, Setting[Quantity]]:
    """The hub's own amounts, overridden by the profiles'; None removes one."""
    amounts: dict[str, Setting[Quantity]] = {name: Setting(quantity, None) for name, quantity in own.items()}
    for name, setting in profiles.items():
        if setting.value is None:
            amounts.pop(name, None)
        else:
            amounts[name] = cast("Setting[Quantity]", setting)
    return amounts
