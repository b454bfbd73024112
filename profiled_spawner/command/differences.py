"""Tells what is different between two documents: first how many are affected, then what changes for whom.

Only names are told, never values: a value that changes is "changed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import product
from typing import Any, Literal, TypeAlias

from ..decide.comparison import IMAGE, ORDER, QUOTA, SIZE, Change, Comparison, Example
from ..decide.holders import PROFILE
from ..decide.image_classes import ImageClass
from ..decide.matching import Roster
from ..decide.rules import ADDED_UP, SOURCE_ORDER, UNSET, Rule
from ..document.model import DEFAULT_SIZE, Document, Profile
from ..document.times import describe_start
from .explanation import describe_source, describe_term, describe_toleration, describe_volume
from .terminal import Style, printable

__all__ = [
    "NOUNS",
    "Difference",
    "Strangers",
    "count_who",
    "describe_setting",
    "example_to_json",
    "find_differences",
    "format_heading",
    "format_text",
    "heading_to_json",
    "list_some",
    "summarize",
    "summary_to_json",
    "to_json",
    "to_markdown",
]

_Kind: TypeAlias = Literal["gained", "lost", "changed"]
_SIGNS: Mapping[_Kind, str] = {"lost": "-", "gained": "+", "changed": "~"}

EVERYONE = "everyone"
_NOUNS = {EVERYONE: "", "group": "groups", "user": "users", "combination of groups": "combinations of groups"}
_VERBS = {"gains": "gain", "loses": "lose", "changes": "change"}

NOUNS = {"env": "variable", "image-choice": "image"}
"""What people call a kind of thing, where that is another word."""

_MOST_NAMES = 10


@dataclass
class Difference:
    """What changes alike for the same people under the same conditions.

    Attributes:
        who: For whom, in words.
        when: On which images, from when and for which choice, in words; empty if always.
        changes: What the comparison found, one for each setting.
        settings: For each kind of change, what is set, in words, and by which profiles.
    """

    who: str
    when: str
    changes: list[Change] = field(default_factory=list)
    settings: dict[_Kind, dict[str, str]] = field(default_factory=dict)

    @property
    def people(self) -> list[str]:
        """Those of the roster for whom any of it is so; none without a roster."""
        return sorted({name for change in self.changes for name in change.people})


def find_differences(comparison: Comparison, zone: tzinfo, now: float) -> tuple[Difference, ...]:
    """Puts together what changes for the same people, those first who are most.

    Args:
        comparison: What the comparison found.
        zone: The time zone for moments.
        now: The first moment that was compared.
    """
    found: dict[tuple[str, str], Difference] = {}
    for change in comparison.changes:
        key = _describe_who(change), _describe_when(change, zone, now)
        difference = found.setdefault(key, Difference(*key))
        difference.changes.append(change)
        kind = _find_kind(change)
        difference.settings.setdefault(kind, {})[describe_setting(change)] = _describe_origin(change, kind)
    return tuple(sorted(found.values(), key=lambda each: (not each.changes[0].everyone, each.when != "")))


def count_who(comparison: Comparison) -> str:
    """How many groups and users are affected, such as ``2 groups and 1 user``; empty if nobody is."""
    affected = _find_affected(comparison)
    if (EVERYONE, "") in affected:
        return EVERYONE
    counts = {noun: sum(each == noun for each, _ in affected) for noun in _NOUNS if noun != EVERYONE}
    *parts, last = [_count(number, noun, _NOUNS[noun]) for noun, number in counts.items() if number] or [""]
    return f"{', '.join(parts)} and {last}" if parts else last


def summarize(comparison: Comparison) -> str:
    """One line: how many gain and lose, such as ``2 groups gain, 1 user loses, everyone else is unchanged``."""
    if comparison.equal:
        return "nothing changes for anybody"
    affected = _find_affected(comparison)
    parts = []
    for noun, nouns in _NOUNS.items():
        for verb, plural in _VERBS.items():
            number = sum(each == noun and _find_verb(kinds) == verb for (each, _), kinds in affected.items())
            if number:
                parts.append(f"{noun} {verb}" if not nouns else _count(number, f"{noun} {verb}", f"{nouns} {plural}"))
    return f"{', '.join(parts)}{'' if (EVERYONE, '') in affected else ', everyone else is unchanged'}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _find_verb(kinds: set[_Kind]) -> str:
    return {frozenset({"gained"}): "gains", frozenset({"lost"}): "loses"}.get(frozenset(kinds), "changes")


def _find_affected(comparison: Comparison) -> Mapping[tuple[str, str], set[_Kind]]:
    """What happens to each group and user that is named, to everyone else, and to combinations of groups."""
    affected: dict[tuple[str, str], set[_Kind]] = {}
    for change in comparison.changes:
        for who in _list_who(change):
            affected.setdefault(who, set()).add(_find_kind(change))
    return affected


def _list_who(change: Change) -> list[tuple[str, str]]:
    if change.everyone:
        return [(EVERYONE, "")]
    if change.within is not None:
        groups = (("", *sorted((name, change.within))) for name in change.groups)
        return [
            ("combination of groups", "\n".join(each)) for each in (*groups, *product(change.users, [change.within]))
        ]
    named = [*(("group", name) for name in change.groups), *(("user", name) for name in change.users)]
    user = "" if change.example.is_anybody else change.example.user
    return named or [("combination of groups", "\n".join((user, *change.example.groups)))]


def format_text(
    differences: Sequence[Difference], summary: str, style: Style, strangers: Strangers | None = None
) -> str:
    """The differences as text for people.

    Args:
        differences: What changes.
        summary: The first line.
        style: The colours.
        strangers: Whom the roster does not have; None without a roster.
    """
    colours = {"lost": style.red, "gained": style.green, "changed": style.yellow}
    lines = [style.bold(summary)]
    if strangers is not None:
        lines.append(strangers.count({name for each in differences for name in each.people}, "affected"))
    for difference in differences:
        lines += ["", *format_heading(difference, style, has_roster=strangers is not None)]
        for kind, sign in _SIGNS.items():
            for setting, origin in difference.settings.get(kind, {}).items():
                lines.append(f"  {colours[kind](sign)} {printable(setting)}  {style.dim(printable(origin))}".rstrip())
    return "\n".join([*lines, *(strangers.format() if strangers else ())])


def format_heading(difference: Difference, style: Style, *, has_roster: bool) -> list[str]:
    """For whom and when, and whom of the roster that is."""
    when = f", {difference.when}" if difference.when else ""
    lines = [style.bold(printable(difference.who)) + printable(when)]
    if has_roster:
        people = difference.people
        who = f": {list_some(people)}" if people else ""
        lines.append(style.dim(printable(f"  {_count_people(len(people))} on the roster{who}")))
    return lines


@dataclass(frozen=True, slots=True)
class Strangers:
    """Whom a document names, and the roster does not have.

    Attributes:
        total: How many people the roster has.
        users: The users.
        groups: The groups.
    """

    total: int
    users: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def find(cls, documents: Iterable[Document], roster: Roster) -> Strangers:
        """Compares the names of some documents with a roster."""
        entries = [entry for document in documents for entry in document.entries if not entry.is_for_everyone]
        users = {name for entry in entries for name in entry.users or ()} - set(roster)
        groups = {name for entry in entries for name in entry.groups or ()}.difference(*roster.values())
        return cls(len(roster), tuple(sorted(users)), tuple(sorted(groups)))

    def count(self, people: Iterable[str], what: str) -> str:
        """One line: how many of the roster's people there are."""
        return f"on the roster: {len({*people}):,} of {_count_people(self.total)} {what}"

    def format(self) -> list[str]:
        """What to look at, as text for people."""
        lines = []
        if self.users:
            lines.append(f"not on the roster: {list_some(self.users)}")
        if self.groups:
            lines.append(f"nobody on the roster is in {list_some(self.groups)}")
        return ["", *map(printable, lines)] if lines else []

    def to_json(self) -> dict[str, list[str]]:
        """The same as JSON."""
        return {"unknown_users": list(self.users), "unknown_groups": list(self.groups)}


def _count_people(number: int) -> str:
    return _count(number, "person", "people") if number else "nobody"


def to_markdown(differences: Sequence[Difference], summary: str) -> str:
    """The differences for the summary of a job on GitHub."""
    lines = [f"**{_escape_markdown(summary)}**"]
    for difference in differences:
        when = f", {difference.when}" if difference.when else ""
        lines += ["", f"{_escape_markdown(difference.who + when)}", ""]
        for kind in _SIGNS:
            for setting, origin in difference.settings.get(kind, {}).items():
                lines.append(f"- {kind}: {_escape_markdown(setting)} ({_escape_markdown(origin)})")
    return "\n".join(lines)


def to_json(
    comparison: Comparison, differences: Iterable[Difference], strangers: Strangers | None = None
) -> dict[str, Any]:
    """The differences as a JSON object, which the reference describes: it is a public format."""
    return {
        "equal": comparison.equal,
        "summary": summary_to_json(comparison),
        "changes": [
            {
                **heading_to_json(difference, has_roster=strangers is not None),
                **{kind: sorted(difference.settings.get(kind, ())) for kind in _SIGNS},
            }
            for difference in differences
        ],
        **(strangers.to_json() if strangers else {}),
    }


def heading_to_json(difference: Difference, *, has_roster: bool) -> dict[str, Any]:
    """For whom and when, with an example, and whom of the roster that is."""
    return {
        "example": example_to_json(difference.changes[0].example),
        "who": difference.who,
        "when": difference.when,
        **({"people": difference.people} if has_roster else {}),
    }


def summary_to_json(comparison: Comparison) -> dict[str, Any]:
    """Who is affected at all."""
    affected = _find_affected(comparison)
    return {
        "everyone": (EVERYONE, "") in affected,
        "groups": sorted(name for noun, name in affected if noun == "group"),
        "users": sorted(name for noun, name in affected if noun == "user"),
        "combinations": sum(noun == "combination of groups" for noun, _ in affected),
    }


def example_to_json(example: Example) -> dict[str, Any]:
    """A server as a JSON object, in the words of `explain`."""
    return {
        "user": example.user,
        "groups": list(example.groups),
        "image": example.image,
        "image_choice": example.image_choice,
        "size": example.size,
        "at": f"{datetime.fromtimestamp(example.at, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _find_kind(change: Change) -> _Kind:
    if change.setting[0] in (ORDER, SOURCE_ORDER, ADDED_UP):
        return "changed"
    if _value(change.old) == UNSET:
        return "gained"
    return "lost" if _value(change.new) == UNSET else "changed"


def _value(rule: Rule | None) -> Any:
    return UNSET if rule is None else rule.value


def _describe_who(change: Change) -> str:
    if change.everyone:
        return EVERYONE
    parts = []
    if change.groups:
        parts.append(f"members of {list_some(change.groups)}")
    if change.users:
        parts.append(list_some(change.users))
    if parts:
        return " and ".join(parts) + (f", if in {change.within}" if change.within is not None else "")
    example = change.example
    groups = " and ".join(example.groups)
    return f"whoever is in {groups}" if example.is_anybody else f"{example.user}, if in {groups}"


def _describe_when(change: Change, zone: tzinfo, now: float) -> str:
    example = change.example
    conditions = []
    if example.image_choice is not None and change.setting[0] not in (IMAGE, SIZE, ORDER):
        conditions.append(f"with the image {example.image_choice}")
    elif change.images and all(image.entries for image in change.images):
        conditions.append(f"on {list_some([_describe_images(image) for image in change.images])}")
    if example.size != DEFAULT_SIZE:
        conditions.append(f"with the size {example.size}")
    if example.at > now:
        conditions.append(describe_start(example.at, zone, now))
    return ", ".join(conditions)


def _describe_images(images: ImageClass) -> str:
    return images.example if images.is_one_image else f"images that match {' and '.join(images.entries)}"


def describe_setting(change: Change) -> str:
    """What a change is about, in words, such as ``variable TEAM``."""
    section, name = change.setting
    rules = [rule for rule in (change.old, change.new) if rule is not None]
    thing: Any = next((rule.thing for rule in rules if rule.value != UNSET), None)
    simple = {
        "env": "variable",
        "limits": "limit of",
        "requests": "guarantee of",
        "node_selector": "node label",
        "labels": "label",
        "annotations": "annotation",
        IMAGE: "image",
        SIZE: "size",
        QUOTA: "quota",
    }
    if section == PROFILE:
        return f"profile {rules[0].entry.name}"
    if section in simple:
        return f"{simple[section]} {name}"
    if section == ORDER:
        return f"order of {list_some(name)}" if isinstance(name, tuple) else section
    describe = {
        "env_from": lambda: f"all variables of {describe_source(thing)}",
        SOURCE_ORDER: lambda: f"which variables override others: those of {describe_source(thing)}",
        "node_tolerations": lambda: f"toleration of {describe_toleration(thing)}",
        "node_requirements": lambda: f"required node: {' or '.join(map(describe_term, thing))}",
        ADDED_UP: lambda: f"preferred node: {describe_term(thing['preference'])}",
        "volumes": lambda: f"volume {thing['name']} at {thing['mountPath']}: {describe_volume(thing)}",
    }
    return describe[section]()


def _describe_origin(change: Change, kind: _Kind) -> str:
    if change.setting[0] in (IMAGE, SIZE, ORDER, QUOTA):
        return ""
    old, new = (
        rule.entry.label if rule is not None and isinstance(rule.entry, Profile) else ""
        for rule in (change.old, change.new)
    )
    if kind == "changed" and old and new:
        return f"from {new}" if old == new else f"from {new}, before from {old}"
    return f"from {new or old}"


def list_some(names: Sequence[str]) -> str:
    """The names, or the first ten and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES:,} more"


def _escape_markdown(text: str) -> str:
    return "".join(f"\\{each}" if each in r"\`*_{}[]<>()#+-.!|~" else each for each in printable(text))
