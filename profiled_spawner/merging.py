"""The profiles that fit to one effective profile, each field knowing where it came from.

`merge_profiles` knows the document alone. `settle_resources` then weighs what it says against what the hub's own
settings gave, so that Kubernetes accepts the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from .document import EnvValue, Profile
from .quantity import Quantity, is_whole_and_equal

__all__ = ["Conflict", "EffectiveProfile", "Resources", "Setting", "merge_profiles", "settle_resources"]

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
    """

    applied: tuple[Profile, ...]
    env: Mapping[str, Setting[EnvValue]]
    limits: Mapping[str, Setting[Quantity | None]]
    requests: Mapping[str, Setting[Quantity | None]]


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
    """Merges profiles, least specific first: the later wins, field by field."""
    profiles = tuple(applied)
    env: dict[str, Setting[EnvValue]] = {}
    limits: dict[str, Setting[Quantity | None]] = {}
    requests: dict[str, Setting[Quantity | None]] = {}
    for profile in profiles:
        env.update({name: Setting(value, profile) for name, value in profile.env.items()})
        limits.update({name: Setting(value, profile) for name, value in profile.limits.items()})
        requests.update({name: Setting(value, profile) for name, value in profile.requests.items()})
    return EffectiveProfile(profiles, MappingProxyType(env), MappingProxyType(limits), MappingProxyType(requests))


def settle_resources(
    effective: EffectiveProfile,
    own_limits: Mapping[str, Quantity] = MappingProxyType({}),
    own_requests: Mapping[str, Quantity] = MappingProxyType({}),
) -> Resources:
    """Puts the effective profile's resources over the hub's own, and lets limits win over guarantees.

    Where Kubernetes wants a request to equal its limit (a GPU's), whichever of the two is missing is filled in.

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
        if request.value > limit.value or (equal and request.value != limit.value):
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
    return Resources(MappingProxyType(limits), MappingProxyType(requests), tuple(conflicts))


def _overlay(
    own: Mapping[str, Quantity], given: Mapping[str, Setting[Quantity | None]]
) -> dict[str, Setting[Quantity]]:
    settled: dict[str, Setting[Quantity]] = {name: Setting(quantity, None) for name, quantity in own.items()}
    for name, setting in given.items():
        if setting.value is None:
            settled.pop(name, None)
        else:
            settled[name] = Setting(setting.value, setting.profile)
    return settled
