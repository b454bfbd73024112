"""What a document says in vain: profiles that never win anything, or say the same as another, and variables that are
always overridden. Exact, as `comparison` is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from ..document.model import Document, Profile
from ..errors import UndecidableError
from .comparison import Comparer
from .matching import MergeOrder
from .rules import ADDED_UP, SOURCE_ORDER, SettingKey, find_who

__all__ = ["Unused", "find_unused"]

_MOST_CHECKS = 10_000


@dataclass(frozen=True, slots=True)
class Unused:
    """A profile, or one of its variables, that changes nothing for anybody.

    Attributes:
        profile: The profile.
        variable: The variable; None for the whole profile.
        same_as: A later profile that says the same, and overrides it; None if there is none.
    """

    profile: Profile
    variable: str | None = None
    same_as: Profile | None = None


def find_unused(document: Document, order: MergeOrder, since: float) -> tuple[Unused, ...]:
    """Returns what has no effect on any server from a moment on.

    Profiles that match nobody, or are over, are left out: other warnings are about these.

    Args:
        document: The document.
        order: The merge order.
        since: The moment.

    Returns:
        In the order of the document. Nothing if the document is too large to look at all of it.
    """
    try:
        return tuple(_find(document, order, since))
    except UndecidableError:
        return ()


def _find(document: Document, order: MergeOrder, since: float) -> Iterator[Unused]:
    alive = _find_alive(document, order, since)
    for place, profile in enumerate(document.profiles):
        if profile.period.end <= since or profile.images == () or _is_for_nobody(profile):
            continue
        settings = alive.get(profile.index, {})
        if settings and not any(settings.values()):
            same = (other for other in document.profiles[place + 1 :] if _says_the_same(profile, other))
            yield Unused(profile, same_as=next(same, None))
        else:
            for (section, name), wins in settings.items():
                if section == "env" and not wins:
                    yield Unused(profile, variable=str(name))


def _find_alive(document: Document, order: MergeOrder, since: float) -> dict[int, dict[SettingKey, bool]]:
    """For each profile, by its index, whether each of its settings ever decides."""
    comparer = Comparer(document, document, order, since)
    choices = list(comparer.list_image_choices())
    book = {setting: rules for setting, rules in comparer.base[1].items() if setting[0] != SOURCE_ORDER}
    if sum(map(len, book.values())) * len(choices) > _MOST_CHECKS:
        raise UndecidableError("the document has too many profiles to look for those without effect")
    found: dict[int, dict[SettingKey, bool]] = {}
    for setting, rules in book.items():
        for rule in rules:
            found.setdefault(rule.entry.index, {}).setdefault(setting, setting[0] == ADDED_UP)
        for choice in choices:
            lists = comparer.find_deciding(rules, choice.new_image)
            deciders = comparer.make_deciders([lists], choice)
            for position, rule in enumerate(lists):
                settings = found.get(rule.entry.index, {})
                if not settings.get(setting, True):
                    images = partial(comparer.find_images, [rule], choice)
                    settings[setting] = next(deciders.find((position,), images), None) is not None
    return found


def _is_for_nobody(profile: Profile) -> bool:
    return any(not who.users and not who.groups for who in find_who(profile))


def _says_the_same(one: Profile, other: Profile) -> bool:
    return replace(other, index=one.index, name=one.name) == one
