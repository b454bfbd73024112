"""Whether a selected ConfigMap keeps to what the main document allows its team.

For whom a team's entries are, is not asked here: whatever they say, they are for the team's members only (see
`matching`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from itertools import islice
from typing import Any, TypeAlias

from ..document.model import Document, Entry, EnvVarSource, ImageChoice, Profile, Team
from ..document.quantity import Quantity, is_whole_and_equal
from ..document.templates import Template, list_shapes
from ..errors import MAX_ERRORS
from .matching import matches_pattern

__all__ = ["Violation", "find_violations", "map_teams"]

Path: TypeAlias = tuple[str | int, ...]

# What an entry may have beside what is checked: by whom and when it is got, and how it is called. Whatever else there
# is, or will be, a team may not have.
_HARMLESS = frozenset({*(each.name for each in fields(Entry)), "images", "description", "image", "default_url"})
# To which section the rest belongs, by attribute. Secrets of images go with the whole list.
_SECTIONS: Mapping[str, str] = {
    "env": "env",
    "env_from": "env_from",
    "limits": "resources",
    "requests": "resources",
    "image_pull_secrets": "images",
}
# What these refer to is the server itself.
_OF_THE_POD = frozenset({"fieldRef", "resourceFieldRef"})
# Stands for what a field of a template becomes. No pattern has it, so only a star matches it.
_ANYTHING = "\0"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a team's document has and must not have.

    Attributes:
        path: The place: mapping keys and list positions, from the document's root. An amount has the place ``…,
            "resources", "limits", "memory"``, and a variable ``…, "env", NAME``, however the text gives them.
        what: The problem and how to fix it, as in a `Diagnostic`.
    """

    path: Path
    what: str


def map_teams(document: Document) -> Mapping[str, Team] | None:
    """Returns the teams of a main document, by the ConfigMaps that they may edit; None if it has no teams."""
    if document.teams is None:
        return None
    return {name: team for team in document.teams for name in team.configmaps}


def find_violations(document: Document, team: Team) -> tuple[Violation, ...]:
    """Returns what a document has that its team may not have; at most `MAX_ERRORS`.

    Args:
        document: The document of one of the team's ConfigMaps.
        team: The team.
    """
    return tuple(islice(_Bounds(team).check(document), MAX_ERRORS))


class _Bounds:
    """What a team may do."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._called = f"the team {team.shown_name}"
        # One name is often referred to many times.
        self._may_refer = lru_cache(maxsize=4096)(self._find_pattern)
        self._checks: Mapping[str, Callable[[Any, Path], Iterator[Violation]]] = {
            "env": self._check_env,
            "env_from": self._check_env_from,
            "limits": partial(self._check_amounts, "limits"),
            "requests": partial(self._check_amounts, "requests"),
            "image_pull_secrets": self._check_pull_secrets,
        }

    def check(self, document: Document) -> Iterator[Violation]:
        for profile in document.profiles:
            yield from self._check_entry(profile, ("profiles", profile.index))
        for key, choices in (("sizes", document.sizes), ("images", document.images)):
            if choices and key not in self._team.may:
                yield self._refuse_section((key,), key)
            for choice in choices:
                yield from self._check_entry(choice, (key, choice.index))

    def _check_entry(self, entry: Entry, path: Path) -> Iterator[Violation]:
        for field in fields(entry):
            name, given = field.name, getattr(entry, field.name)
            if name in _HARMLESS or not given:
                continue
            section = _SECTIONS.get(name)
            here = (*path, "resources" if section == "resources" else name)
            if section is None:
                yield Violation(here, "cannot be in a team's ConfigMap; the main one can have it")
            elif section in self._team.may or section == "images":
                yield from self._checks[name](entry, here)
            elif name != "requests" or not getattr(entry, "limits", None):
                yield self._refuse_section(here, section)

    def _refuse_section(self, path: Path, section: str) -> Violation:
        allowed = ", ".join(sorted(self._team.may)) or "nothing"
        what = f"{self._called} may not have {section}; in the main document, its 'may' lists {allowed}"
        return Violation(path, what)

    def _check_amounts(self, kind: str, profile: Profile, path: Path) -> Iterator[Violation]:
        amounts: Mapping[str, Quantity | None] = getattr(profile, kind)
        for resource, amount in amounts.items():
            what = self._explain_amount(kind, resource, amount, is_alone=profile.requests.get(resource) is None)
            if what is not None:
                yield Violation((*path, kind, resource), what)

    def _explain_amount(self, kind: str, resource: str, amount: Quantity | None, *, is_alone: bool) -> str | None:
        """Says what is wrong with an amount; None if nothing is.

        Args:
            kind: ``limits`` or ``requests``.
            resource: The resource.
            amount: The amount.
            is_alone: Whether the profile gives no guarantee of the resource.
        """
        if amount is None:
            return f"null would remove what others limit or reserve, which {self._called} may not; leave it out"
        hard = self._team.hard
        limit, request = f"limits.{resource}", f"requests.{resource}"
        names = [request] if is_whole_and_equal(resource) else [limit] if kind == "limits" else [request, limit]
        known = [name for name in names if name in hard]
        if not known:
            wanted = " or ".join(names)
            return f"{self._called} may not give {resource}; in the main document, its 'hard' has no {wanted}"
        for name in known:
            if amount > hard[name]:
                return f"{amount} is more than {self._called} may give a server, which is {hard[name]} ({name})"
        if kind == "limits" and is_alone and request in hard and amount > hard[request]:
            return (
                f"Kubernetes reserves the limit where there is no guarantee, and {amount} is more than "
                f"{self._called} may reserve, which is {hard[request]} ({request}); give a guarantee beside it"
            )
        return None

    def _check_env(self, profile: Profile, path: Path) -> Iterator[Violation]:
        for name, value in profile.env.items():
            if isinstance(value, EnvVarSource) and value.kind not in _OF_THE_POD:
                here = (*path, name, "valueFrom", value.kind)
                yield from self._check_reference(value.fields.get("name"), (*here, "name"))

    def _check_env_from(self, profile: Profile, path: Path) -> Iterator[Violation]:
        for position, source in enumerate(profile.env_from):
            for kind, reference in source.items():
                if kind != "prefix":
                    yield from self._check_reference(reference.get("name"), (*path, position, kind, "name"))

    def _check_pull_secrets(self, image: ImageChoice, path: Path) -> Iterator[Violation]:
        for position, name in enumerate(image.image_pull_secrets or ()):
            yield from self._check_reference(name, (*path, position))

    def _check_reference(self, name: str | None, path: Path) -> Iterator[Violation]:
        if name is None or not self._may_refer(name, isinstance(name, Template)):
            # The name is not quoted: it may be a value that is in the wrong place.
            what = (
                f"{self._called} may not refer to this Secret or ConfigMap; in the main document, its 'refers' lists "
                "those to which it may"
            )
            if isinstance(name, Template):
                what += ", and must match whatever the fields become"
            yield Violation(path, what)

    def _find_pattern(self, name: str, is_template: bool) -> bool:
        """Whether, whatever a template becomes, a pattern matches it."""
        shapes = list_shapes(name, _ANYTHING) if is_template else [name]
        return all(any(matches_pattern(pattern, shape) for pattern in self._team.refers) for shape in shapes)
