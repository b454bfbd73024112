"""Document and subject to the profiles that fit, in the order in which they are merged, each with its reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import chain
from typing import Literal, TypeAlias

from ..document.index import NameIndex
from ..document.limits import MAX_IMAGE, MAX_PROFILES
from ..document.model import EVERYONE, Document, Entry, Profile
from ..document.times import ALWAYS, Period, describe_end, describe_start
from ..errors import PodError

__all__ = [
    "Match",
    "MergeOrder",
    "Subject",
    "check_number",
    "explain_match",
    "explain_period",
    "fits",
    "fits_person",
    "match_profiles",
    "order_profiles",
]

MergeOrder: TypeAlias = Literal["specificity", "document"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose server it is and what it runs.

    Attributes:
        user: The JupyterHub username, as JupyterHub has it.
        groups: The JupyterHub groups that the user is in.
        image: The image of the notebook container, as its manifest has it.
        at: The moment that counts, in seconds since 1970: when the start began.
    """

    user: str
    groups: frozenset[str]
    image: str
    at: float


@dataclass(frozen=True, slots=True)
class Match:
    """Whether one profile fits, and why.

    Attributes:
        profile: The profile.
        fits: Whether both who and what fit.
        reasons: What was found of each filter, who first, and of its period: short texts for people.
    """

    profile: Profile
    fits: bool
    reasons: tuple[str, ...]


def match_profiles(document: Document, subject: Subject, order: MergeOrder = "specificity") -> tuple[Profile, ...]:
    """The profiles that fit the subject, least specific first (or in the document's order).

    They are those that `fits` fits. Only those that name the user, one of the groups or the image are looked at.

    Raises:
        PodError: They are more than `MAX_PROFILES`.
    """
    index = document.index
    spellings = _spellings(subject.image)
    # What names one of the two, and is found by it, fits.
    one: set[int] = set()
    for positions in chain(_find_who(index.who, subject), _find_what(index.what, spellings)):
        one |= positions
        check_number(len(one))
    who = set[int]().union(*_find_who(index.both, subject))
    both = set[int]().union(*(who & what for what in _find_what(index.both, spellings)))
    check_number(len(index.neither) + len(one) + len(both))
    found = [index.neither, one, both] if order == "specificity" else [index.neither | one | both]
    profiles = document.profiles
    at = subject.at
    in_order = (profiles[position] for positions in found for position in sorted(positions))
    return tuple([profile for profile in in_order if profile.period is ALWAYS or profile.period.covers(at)])


def check_number(profiles: int) -> None:
    """Checks that one server can have so many profiles.

    Raises:
        PodError: It cannot.
    """
    if profiles > MAX_PROFILES:
        raise PodError(f"more than {MAX_PROFILES} profiles fit, whatever their time, and a server can have no more")


def order_profiles(profiles: Iterable[Profile], order: MergeOrder = "specificity") -> tuple[Profile, ...]:
    """Profiles, given in the document's order, in the order in which they are merged: the later wins."""
    if order == "document":
        return tuple(profiles)
    return tuple(sorted(profiles, key=_specificity))


def fits_person(entry: Entry, subject: Subject) -> bool:
    """Whether the entry is for this user, and at this moment."""
    users, groups = entry.users, entry.groups
    who = (
        (users is None and groups is None)
        or (users is not None and (subject.user in users or EVERYONE in users))
        or (groups is not None and not groups.isdisjoint(subject.groups))
    )
    return who and (entry.period is ALWAYS or entry.period.covers(subject.at))


def fits(profile: Profile, subject: Subject) -> bool:
    """Whether the profile is for this user, at this moment, and for this image."""
    is_for_image = profile.images is None or _find_entry(profile.images, subject.image) is not None
    return is_for_image and fits_person(profile, subject)


def explain_match(profile: Profile, subject: Subject, zone: tzinfo = UTC) -> Match:
    """Says whether the profile fits as `fits` does, and why.

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
    """What people need to know of a period at a moment, such as ``from 1 December``; empty if it has no bounds.

    Of a period that has ended, only when that was; of one that has not begun, when it begins; otherwise when it ends.
    """
    if period.has_ended(at):
        return f"only {describe_end(period.end, zone, at)}"
    if period.start > at:
        return describe_start(period.start, zone, at)
    return describe_end(period.end, zone, at) if period.end < math.inf else ""


def _specificity(profile: Profile) -> int:
    return profile.names_who + profile.names_what


def _find_who(names: NameIndex, subject: Subject) -> Iterator[AbstractSet[int]]:
    if subject.user in names.users:
        yield names.users[subject.user]
    for group in subject.groups:
        if group in names.groups:
            yield names.groups[group]


def _find_what(names: NameIndex, spellings: Iterable[str]) -> Iterator[AbstractSet[int]]:
    for image in spellings:
        if image in names.images:
            yield names.images[image]
        for first, last in names.pattern_lengths:
            begin, end = first, len(image) - last
            if begin > end:
                continue
            for between, positions in names.patterns.get((image[:begin], image[end:]), {}).items():
                if _has_in_turn(between, image, begin, end):
                    yield positions


def _spellings(image: str) -> list[str]:
    """The image as it is, and as it may be written too; nothing of one that is longer than any image.

    ``:latest`` is what an image without a tag means. Where there is a digest, the tag means nothing: container runtimes
    pull by the digest.
    """
    if len(image) > MAX_IMAGE:
        return []
    name, at, digest = image.partition("@")
    path, slash, last = name.rpartition("/")
    last, colon, _ = last.partition(":")
    if at:
        return [image, f"{path}{slash}{last}@{digest}"] if colon else [image]
    if not colon:
        return [image, f"{image}:latest"]
    if image.endswith(":latest"):
        return [image, image.removesuffix(":latest")]
    return [image]


def _find_entry(entries: Iterable[str], image: str) -> str | None:
    """The first entry that fits the image."""
    spellings = _spellings(image)
    for entry in entries:
        if entry == EVERYONE or any(_fits_entry(entry, spelling) for spelling in spellings):
            return entry
    return None


def _fits_entry(entry: str, image: str) -> bool:
    if EVERYONE not in entry:
        return entry == image
    first, *between, last = entry.split(EVERYONE)
    begin, end = len(first), len(image) - len(last)
    fits_ends = begin <= end and image.startswith(first) and image.endswith(last)
    return fits_ends and _has_in_turn(between, image, begin, end)


def _has_in_turn(parts: Iterable[str], image: str, begin: int, end: int) -> bool:
    """Whether the image has the parts one behind the other, from `begin` to `end`.

    By hand, since a regular expression with many stars can take exponentially long on a hostile image.
    """
    for part in parts:
        found = image.find(part, begin, end)
        if found < 0:
            return False
        begin = found + len(part)
    return True


def _explain_who(profile: Profile, subject: Subject) -> tuple[bool, str]:
    users, groups = profile.users, profile.groups
    if users is None and groups is None:
        return True, "for every user"
    if users is not None and EVERYONE in users:
        return True, f'for every user ("{EVERYONE}")'
    if users is not None and subject.user in users:
        return True, f"user {subject.user} is listed"
    shared = sorted((groups or frozenset()) & subject.groups)
    if shared:
        return True, f"member of {', '.join(shared)}"
    if not users and not groups:
        return False, "for nobody (an empty list)"
    missed = []
    if users:
        missed.append(f"user {subject.user} is not listed{_near(subject.user, users)}")
    if groups:
        missed.append(f"not a member of {_some(sorted(groups))}")
    return False, ", ".join(missed)


def _explain_what(profile: Profile, subject: Subject) -> tuple[bool, str]:
    if profile.images is None:
        return True, "for every image"
    entry = _find_entry(profile.images, subject.image)
    if entry is not None:
        return True, f"image fits {entry}" if entry != subject.image else "image is listed"
    if not profile.images:
        return False, "for no image (an empty list)"
    return False, f"image is not {_some(profile.images)}"


def _near(user: str, users: frozenset[str]) -> str:
    if user != user.lower() and user.lower() in users:
        return f" ({user.lower()} is; names are compared exactly)"
    return ""


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    shown = " or ".join(names[:most])
    return shown if len(names) <= most else f"{shown} or {len(names) - most} more"
