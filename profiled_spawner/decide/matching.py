"""Finds the profiles that match a subject, in merge order, and explains why each matches or does not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import chain
from typing import Literal, TypeAlias

from ..document.index import NameIndex
from ..document.limits import MAX_IMAGE, MAX_PROFILES
from ..document.model import EVERYONE, Document, Entry, Profile
from ..document.times import Period, describe_end, describe_start
from ..errors import PodError

__all__ = [
    "Match",
    "MergeOrder",
    "Roster",
    "Subject",
    "check_profile_count",
    "explain_match",
    "explain_period",
    "match_profiles",
    "matches",
    "matches_pattern",
    "matches_person",
    "order_profiles",
]

Roster: TypeAlias = Mapping[str, frozenset[str]]
"""People, with their groups by username."""

MergeOrder: TypeAlias = Literal["specificity", "document"]


@dataclass(frozen=True, slots=True)
class Subject:
    """The server that profiles are matched with: its user and its image.

    Attributes:
        user: The JupyterHub username of the server's owner.
        groups: The owner's JupyterHub groups.
        image: The image of the notebook container, exactly as in the pod's manifest.
        at: When the start began, in seconds since 1970.
    """

    user: str
    groups: frozenset[str]
    image: str
    at: float


@dataclass(frozen=True, slots=True)
class Match:
    """Whether one profile matches, and why.

    Attributes:
        profile: The profile.
        is_match: Whether both filters match, who (`users`, `groups`) and what (`images`), and the moment is in its
            period.
        reasons: Short texts for people: why the user matches or not, why the image does, and, for a profile with a
            period, when it applies.
    """

    profile: Profile
    is_match: bool
    reasons: tuple[str, ...]


def match_profiles(document: Document, subject: Subject, order: MergeOrder = "specificity") -> tuple[Profile, ...]:
    """The profiles that match the subject, in merge order: later overrides earlier.

    It returns the same profiles as testing each with `matches`. It is faster: it uses the document's index, and only
    looks at profiles that name the user, one of the groups or the image.

    Args:
        document: The document.
        subject: The user and the image.
        order: ``specificity``: profiles without filters, then those with one (who or what), then those with both; the
            document's order among equals. ``document``: the document's order.

    Raises:
        PodError: More than `MAX_PROFILES` profiles match.
    """
    index = document.index
    images = _equivalent_images(subject.image)
    # What a team gives to others than its members must not count: it could keep their servers from starting.
    foreign = [positions for team, positions in index.teams if not _is_for(team, subject)]
    # A profile with a single filter matches if it is found by that filter.
    one_filter: set[int] = set()
    for positions in chain(_lookup_user(index.who, subject), _lookup_image(index.what, images)):
        one_filter |= _subtract(positions, foreign)
        check_profile_count(len(one_filter))
    who = set[int]().union(*(_subtract(positions, foreign) for positions in _lookup_user(index.both, subject)))
    both = set[int]().union(*(who & what for what in _lookup_image(index.both, images)))
    check_profile_count(len(index.neither) + len(one_filter) + len(both))
    found = [index.neither, one_filter, both] if order == "specificity" else [index.neither | one_filter | both]
    profiles = document.profiles
    at = subject.at
    in_order = (profiles[position] for positions in found for position in sorted(positions))
    return tuple([profile for profile in in_order if profile.period.covers(at)])


def _subtract(positions: AbstractSet[int], others: Iterable[AbstractSet[int]]) -> AbstractSet[int]:
    # By the operator, which takes no longer for a large set of others; `difference_update` does.
    for each in others:
        positions = positions - each
    return positions


def check_profile_count(profiles: int) -> None:
    """Checks that one server may have this number of profiles.

    Raises:
        PodError: There are more than `MAX_PROFILES`.
    """
    if profiles > MAX_PROFILES:
        raise PodError(f"more than {MAX_PROFILES} profiles match, whatever their time, and a server can have no more")


def order_profiles(profiles: Iterable[Profile], order: MergeOrder = "specificity") -> tuple[Profile, ...]:
    """Sorts profiles into merge order: later overrides earlier.

    Args:
        profiles: Profiles in the document's order.
        order: As for `match_profiles`.
    """
    if order == "document":
        return tuple(profiles)
    return tuple(sorted(profiles, key=_specificity))


def matches_person(entry: Entry, subject: Subject) -> bool:
    """Whether the entry is for this user (or one of the groups), at this moment.

    Example:
        An entry with ``users: [ada]`` and ``groups: [forecasters]`` is for ada, and for every member of forecasters.
        From a team's ConfigMap, it is for those of them who are members of the team.
    """
    is_member = entry.team is None or _is_for(entry.team, subject)
    return is_member and _is_for(entry, subject) and entry.period.covers(subject.at)


def _is_for(entry: Entry, subject: Subject) -> bool:
    """Whether the entry's own filters match the user, or one of the groups."""
    users, groups = entry.users, entry.groups
    return (
        (users is None and groups is None)
        or (users is not None and (subject.user in users or EVERYONE in users))
        or (groups is not None and not groups.isdisjoint(subject.groups))
    )


def matches(profile: Profile, subject: Subject) -> bool:
    """Whether the profile is for this user, at this moment, and for this image."""
    is_for_image = profile.images is None or _find_matching_entry(profile.images, subject.image) is not None
    return is_for_image and matches_person(profile, subject)


def explain_match(profile: Profile, subject: Subject, zone: tzinfo = UTC) -> Match:
    """Explains why a profile matches or does not. `Match.is_match` is always what `matches` returns.

    Args:
        profile: The profile.
        subject: Whose server it is, what it runs, and when.
        zone: The document's time zone, in which dates are shown.
    """
    who, who_reason = _explain_who(profile, subject)
    what, what_reason = _explain_what(profile, subject)
    when = explain_period(profile.period, zone, subject.at)
    fits_all = who and what and profile.period.covers(subject.at)
    return Match(profile, fits_all, (who_reason, what_reason, *([when] if when else [])))


def explain_period(period: Period, zone: tzinfo, at: float) -> str:
    """Says when a period applies, for people: ``from 1 December``, for example.

    Before the period, that is its start. In it, its end. After it, ``only`` and its end. The text is empty if the
    period has begun and never ends.
    """
    if period.has_ended(at):
        return f"only {describe_end(period.end, zone, at)}"
    if period.start > at:
        return describe_start(period.start, zone, at)
    return describe_end(period.end, zone, at) if period.end < math.inf else ""


def _specificity(profile: Profile) -> int:
    """How many of its two filters the profile sets: 0, 1 or 2."""
    return profile.names_who + profile.names_what


def _lookup_user(names: NameIndex, subject: Subject) -> Iterator[AbstractSet[int]]:
    """Positions of the profiles that list the user, then of those that list each group."""
    for name in (subject.user, EVERYONE):
        if name in names.users:
            yield names.users[name]
    for group in subject.groups:
        if group in names.groups:
            yield names.groups[group]


def _lookup_image(names: NameIndex, images: Iterable[str]) -> Iterator[AbstractSet[int]]:
    """Positions of the profiles that list one of the images, or a pattern that matches one."""
    for image in images:
        if image in names.images:
            yield names.images[image]
        for first, last in names.pattern_lengths:
            begin, end = first, len(image) - last
            if begin > end:
                continue
            for between, positions in names.patterns.get((image[:begin], image[end:]), {}).items():
                if _contains_in_order(between, image, begin, end):
                    yield positions


def _equivalent_images(image: str) -> list[str]:
    """The ways to write an image reference that name the same image. The first is the image itself.

    An image without a tag is ``:latest``. With a digest, the tag has no effect: container runtimes pull by digest.

    Returns:
        An empty list if the image is longer than `MAX_IMAGE`, which no image in a registry is.

    Example:
        ``quay.io/example/nb`` gives that and ``quay.io/example/nb:latest``.
    """
    if len(image) > MAX_IMAGE:
        return []
    name, at, digest = image.partition("@")
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if at:
        return [image, f"{path}{slash}{last}@{digest}"] if colon else [image]
    if not colon:
        return [image, f"{image}:latest"]
    return [image, f"{path}{slash}{last}"] if tag == "latest" else [image]


def _find_matching_entry(entries: Iterable[str], image: str) -> str | None:
    """The first entry of a profile's `images` that matches the image."""
    images = _equivalent_images(image)
    for entry in entries:
        if entry == EVERYONE or any(matches_pattern(entry, each) for each in images):
            return entry
    return None


def matches_pattern(pattern: str, name: str) -> bool:
    """Whether the whole name, such as that of an image, matches; a star matches any run of characters."""
    if EVERYONE not in pattern:
        return pattern == name
    first, *between, last = pattern.split(EVERYONE)
    begin, end = len(first), len(name) - len(last)
    ends_match = begin <= end and name.startswith(first) and name.endswith(last)
    return ends_match and _contains_in_order(between, name, begin, end)


def _contains_in_order(parts: Iterable[str], image: str, begin: int, end: int) -> bool:
    """Whether ``image[begin:end]`` contains the parts, one after the other, without overlap.

    This is not a regular expression: one with many stars can take exponential time on a hostile image.
    """
    for part in parts:
        found = image.find(part, begin, end)
        if found < 0:
            return False
        begin = found + len(part)
    return True


def _explain_who(profile: Profile, subject: Subject) -> tuple[bool, str]:
    is_for, reason = _explain_filters(profile, subject)
    team = profile.team
    if team is None:
        return is_for, reason
    if not _is_for(team, subject):
        return False, f"user is not in the team {team.shown_name}"
    return is_for, f"{reason}, in the team {team.shown_name}"


def _explain_filters(profile: Profile, subject: Subject) -> tuple[bool, str]:
    users, groups = profile.users, profile.groups
    if users is None and groups is None:
        return True, "for every user"
    if users is not None and EVERYONE in users:
        return True, f'for every user ("{EVERYONE}")'
    if users is not None and subject.user in users:
        return True, "user is listed"
    shared = sorted((groups or frozenset()) & subject.groups)
    if shared:
        return True, f"member of {', '.join(shared)}"
    if not users and not groups:
        return False, "for nobody (an empty list)"
    mismatches = []
    if users:
        mismatches.append(f"user is not listed{_case_hint(subject.user, users)}")
    if groups:
        mismatches.append(f"not a member of {_list_some(sorted(groups))}")
    return False, ", ".join(mismatches)


def _explain_what(profile: Profile, subject: Subject) -> tuple[bool, str]:
    if profile.images is None:
        return True, "for every image"
    entry = _find_matching_entry(profile.images, subject.image)
    if entry is not None:
        return True, f"image matches {entry}" if entry != subject.image else "image is listed"
    if not profile.images:
        return False, "for no image (an empty list)"
    return False, f"image is not {_list_some(profile.images)}"


def _case_hint(user: str, users: frozenset[str]) -> str:
    """A hint if only the capitals differ: JupyterHub lower-cases usernames by default."""
    if user != user.lower() and user.lower() in users:
        return f" ({user.lower()} is; names are compared exactly)"
    return ""


def _list_some(names: Iterable[str], maximum: int = 3) -> str:
    """The first names, such as ``a or b or c or 2 more``."""
    names = list(names)
    shown = " or ".join(names[:maximum])
    return shown if len(names) <= maximum else f"{shown} or {len(names) - maximum} more"
