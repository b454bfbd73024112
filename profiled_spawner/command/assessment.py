"""Says whether assertions hold for a document; if not, what was expected, what was found, and who decided.

A subject goes through the same matching and merging as in `explain`, so the two never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

from ..decide.comparison import Change, Example
from ..decide.holders import Lacking, Thing, find_holders, find_lacking, list_references
from ..decide.matching import MergeOrder, Subject
from ..decide.merging import Setting, to_key
from ..decide.rules import Rule
from ..document.model import DEFAULT_SIZE, Document, EnvValue, EnvVarSource, Profile, Size
from ..document.quantity import Quantity
from ..document.suggestions import find_closest
from ..document.templates import Template, may_expand_to
from ..document.times import parse_start
from ..errors import ChoiceError, TimeError
from .assertions import Assertion, EverybodyAssertion, SubjectAssertion
from .differences import NOUNS, describe_setting, list_some
from .explanation import Explanation, describe_env_source
from .people import explain_person

__all__ = ["Assessor", "Failure", "Verdict"]

# Things that are entries of the document.
_ENTRIES = ("profile", "size", "image-choice")
_AMOUNTS = {"limits": "limit", "requests": "guarantee"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an assertion does not hold.

    Attributes:
        expected: What was expected, in words.
        found: What was found, in words.
        profile: What people call the profile or size that decided; empty if none did.
        example: A server for which it is so; None if it is not about a server.
        example_in_words: The same in words.
    """

    expected: str
    found: str
    profile: str = ""
    example: Example | None = None
    example_in_words: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an assertion holds.

    Attributes:
        assertion: The assertion.
        title: What people call it.
        failures: Why it does not hold; empty if it does.
    """

    assertion: Assertion
    title: str
    failures: tuple[Failure, ...]

    @property
    def holds(self) -> bool:
        return not self.failures


class Assessor:
    """Says of assertions whether they hold for a document."""

    def __init__(self, document: Document, order: MergeOrder, now: float) -> None:
        """Prepares.

        Args:
            document: The document.
            order: The merge order.
            now: The moment of a subject that says none, and the first moment for everybody.
        """
        self._document = document
        self._order = order
        self._now = now
        self._known_names = _list_known_names(document)

    def assess(self, assertion: Assertion) -> Verdict:
        """Says whether an assertion holds."""
        failures: Sequence[Failure] = tuple(self._find_unknown_names(assertion))
        title = ""
        if isinstance(assertion, SubjectAssertion):
            title = f"what {assertion.person.user} has"
            failures = failures or self._assess_subject(assertion)
        elif isinstance(assertion, EverybodyAssertion):
            title = _describe_assertion(assertion)
            failures = failures or self._assess_everybody(assertion)
        return Verdict(assertion, assertion.name or title, tuple(failures))

    def _find_unknown_names(self, assertion: Assertion) -> Iterator[Failure]:
        """A failure for each name in the assertion that the document does not have. It may be misspelled."""
        for kind, name in dict.fromkeys(_list_names(assertion)):
            names = self._known_names.get(kind)
            if names is not None and name not in names:
                noun = NOUNS.get(kind, kind)
                yield Failure(
                    f"the document names the {noun} {name}", f"no such {noun}; {_suggest(name, tuple(names))}"
                )

    def _find_moment(self, text: str) -> float | None:
        """The moment that a text says; None without one."""
        return parse_start(text, self._document.timezone) if text else None

    def _assess_subject(self, assertion: SubjectAssertion) -> Sequence[Failure]:
        person = assertion.person
        try:
            at = self._find_moment(person.at)
            subject = Subject(person.user, person.groups, person.image, self._now if at is None else at)
            explained = explain_person(
                self._document, subject, self._order, image_choice=person.image_choice, size=person.size
            )
        except TimeError as error:
            return [Failure("a moment that there is", str(error))]
        except ChoiceError as error:
            return [Failure("a choice that is offered", str(error))]
        if not explained.complete:
            return [Failure("an image", "the profiles tell apart more images than can be listed; write 'image'")]
        failures: dict[tuple[str, str], Failure] = {}
        for explanation in explained.explanations:
            for expected, found, profile in _compare(assertion, explanation):
                example = _make_example(explanation, person.size)
                in_words = _describe_example(example, explanation.shown_image, person.at)
                failures.setdefault((expected, found), Failure(expected, found, profile, example, in_words))
        return list(failures.values())

    def _assess_everybody(self, assertion: EverybodyAssertion) -> Sequence[Failure]:
        thing = assertion.thing
        try:
            at = self._find_moment(assertion.at)
        except TimeError as error:
            return [Failure("a moment that there is", str(error))]
        moment: dict[str, Any] = {"at": at, "since": math.floor(self._now)}
        describe = partial(_describe_holder, thing)
        find = partial(find_holders, self._document, thing, self._order, **moment)
        if assertion.kind == "everyone_has":
            lacking = find_lacking(self._document, thing, self._order, **moment)
            return self._list_failures(f"everyone has {_name(thing)}", map(_describe_lacking, filter(None, [lacking])))
        if assertion.kind == "nobody_has":
            return self._list_failures(f"nobody has {_name(thing)}", map(describe, find()))
        holders = find(outside=(assertion.users, assertion.groups))
        if not holders and not find():
            return [Failure(f"somebody has {_name(thing)}", "nobody can get it; if that is meant, write 'nobody_has'")]
        return self._list_failures(f"nobody else has {_name(thing)}", map(describe, holders))

    def _list_failures(self, expected: str, found: Iterable[tuple[str, str, Example]]) -> Sequence[Failure]:
        """A failure for each profile that decides, with one example."""
        failures: dict[str, Failure] = {}
        for what, profile, example in found:
            failures.setdefault(
                profile, Failure(expected, what, profile, example, self._describe_example_of_everybody(example))
            )
        return list(failures.values())

    def _describe_example_of_everybody(self, example: Example) -> str:
        user = "anybody" if example.is_anybody else example.user
        image = example.image if example.image_choice is None else f"the image {example.image_choice}"
        at = f"{datetime.fromtimestamp(example.at, UTC):%Y-%m-%dT%H:%M:%SZ}" if example.at > self._now else ""
        return _describe_example(replace(example, user=user), image, at)


def _describe_holder(thing: Thing, holder: Change) -> tuple[str, str, Example]:
    """By what somebody has a thing, the profile that gives it, and an example."""
    if thing.kind in _ENTRIES:
        return _name(thing), _find_label(holder.new), holder.example
    origin = _find_label(holder.new)
    return _add_origin(describe_setting(holder), thing, origin), origin, holder.example


def _add_origin(what: str, thing: Thing, origin: str) -> str:
    return what if thing.kind in _ENTRIES else f"{what}, from {origin}"


def _describe_lacking(lacking: Lacking) -> tuple[str, str, Example]:
    """Why somebody does not have a thing, likewise."""
    origins = list(dict.fromkeys(filter(None, map(_find_label, lacking.rules))))
    found = f"set otherwise by {' and '.join(origins)}" if origins else "nothing: no profile that matches gives it"
    return found, " and ".join(origins), lacking.example


def _find_label(rule: Rule | None) -> str:
    return rule.entry.label if rule is not None and isinstance(rule.entry, Profile) else ""


def _describe_assertion(assertion: EverybodyAssertion) -> str:
    """The assertion in words, such as ``only forecasters may have secret team-s3``."""
    thing = _name(assertion.thing)
    if assertion.kind == "only":
        groups = [f"members of {' and '.join(assertion.groups)}"] if assertion.groups else []
        return f"only {' and '.join([*groups, *assertion.users])} may have {thing}"
    return f"{'everyone' if assertion.kind == 'everyone_has' else 'nobody'} has {thing}"


def _list_names(assertion: Assertion) -> Iterator[tuple[str, str]]:
    """The names that an assertion has, each with its kind."""
    things: list[Thing] = []
    if isinstance(assertion, SubjectAssertion):
        person = assertion.person
        yield from (("group", name) for name in sorted(person.groups))
        if person.image_choice is not None:
            yield "image-choice", person.image_choice
        if person.size != DEFAULT_SIZE:
            yield "size", person.size
        things = [*assertion.has.things, *assertion.has_not]
    elif isinstance(assertion, EverybodyAssertion):
        yield from (("group", name) for name in assertion.groups)
        things = [assertion.thing]
    yield from ((thing.kind, thing.name) for thing in things)


def _list_known_names(document: Document) -> dict[str, dict[str, None]]:
    """What the document names, by kind."""
    names = {
        "group": sorted({name for each in document.entries for name in each.groups or ()}),
        "profile": [name for each in document.profiles for name in (each.name, each.label) if name],
        "size": [each.name for each in document.sizes if each.name],
        "image-choice": [each.name for each in document.images if each.name],
    }
    return {kind: dict.fromkeys(each) for kind, each in names.items()}


def _suggest(name: str, names: tuple[str, ...]) -> str:
    closest = find_closest(name, names)
    if closest:
        return f"did you mean {closest}?"
    return f"it names {list_some(names) or 'none at all'}"


def _make_example(explanation: Explanation, size: str) -> Example:
    subject, image = explanation.subject, explanation.choice.image
    groups = tuple(sorted(subject.groups))
    return Example(subject.user, groups, subject.image, image.name if image else None, size, subject.at)


def _describe_example(example: Example, image: str, at: str) -> str:
    parts = [example.user]
    if example.groups:
        parts.append(f"in {' and '.join(example.groups)}")
    parts.append(f"on {image}")
    if example.size != DEFAULT_SIZE:
        parts.append(f"with the size {example.size}")
    if at:
        parts.append(f"at {at}")
    return ", ".join(parts)


_Words: TypeAlias = tuple[str, str, str]
"""What was expected, what was found, and the profile that decided."""


def _compare(assertion: SubjectAssertion, explanation: Explanation) -> Iterator[_Words]:
    """What is not as the assertion says."""
    if explanation.obstacle:
        yield "a server that can start", f"no server can start: {explanation.obstacle}", ""
        return
    for name, value in assertion.has.env.items():
        setting = explanation.effective.env.get(name)
        if setting is None or _to_comparable(setting.value) != _to_comparable(value):
            found, profile = _describe_env(explanation, name, setting)
            yield _describe_expected_env(name, value), found, profile
    for (section, resource), quantity in assertion.has.amounts.items():
        amounts = explanation.limits if section == "limits" else explanation.requests
        amount = amounts.get(resource)
        if amount is None or amount.value != quantity:
            wanted = "removed" if quantity is None else f"of {quantity}"
            yield f"{resource} {_AMOUNTS[section]} {wanted}", *_describe_amount(explanation, section, resource, amount)
    for thing in assertion.has.things:
        if _find_origin(explanation, thing) is None:
            yield _name(thing), *_explain_absence(explanation, thing)
    for thing in assertion.has_not:
        origin = _find_origin(explanation, thing, maybe=True)
        if origin is not None:
            yield f"no {_name(thing)}", _add_origin(_name(thing), thing, origin), origin


def _name(thing: Thing) -> str:
    return f"{NOUNS.get(thing.kind, thing.kind)} {thing.name}"


def _to_comparable(value: EnvValue) -> object:
    return to_key(value.to_kubernetes()) if isinstance(value, EnvVarSource) else value


def _describe_expected_env(name: str, value: EnvValue) -> str:
    if value is None:
        return f"variable {name} removed"
    where = describe_env_source(value) if isinstance(value, EnvVarSource) else "the value in the test file"
    return f"variable {name} with {where}"


def _describe_env(explanation: Explanation, name: str, setting: Setting[EnvValue] | None) -> tuple[str, str]:
    if setting is None or setting.value is None:
        return _explain_absence(explanation, Thing("env", name))
    origin = _origin(setting)
    what = describe_env_source(setting.value) if isinstance(setting.value, EnvVarSource) else "another value"
    return f"{what}, from {origin}", origin


def _describe_amount(
    explanation: Explanation, section: str, resource: str, setting: Setting[Quantity | None] | None
) -> tuple[str, str]:
    if setting is None:
        return _explain_nothing(explanation, lambda profile: resource in getattr(profile, section))
    origin = _origin(setting)
    return (f"removed by {origin}" if setting.value is None else f"{setting.value}, from {origin}"), origin


def _origin(setting: Setting[Any]) -> str:
    return setting.profile.label if setting.profile else ""


def _find_origin(explanation: Explanation, thing: Thing, *, maybe: bool = False) -> str | None:
    """The profile or size that gives the thing; empty if it is offered; None if the server does not have it.

    Args:
        explanation: What the server gets.
        thing: The thing.
        maybe: Whether a template counts that could become the name; otherwise it counts as it is written.
    """
    effective = explanation.effective
    if thing.kind in ("size", "image-choice"):
        offered = explanation.offer.sizes if thing.kind == "size" else explanation.offer.images
        return "" if any(each.name == thing.name for each in offered) else None
    if thing.kind == "profile":
        return next((each.label for each in effective.applied if _is_profile(each, thing.name)), None)
    return next((_origin(setting) for setting in _list_settings(explanation, thing, maybe=maybe)), None)


def _list_settings(explanation: Explanation, thing: Thing, *, maybe: bool) -> list[Setting[Any]]:
    """The settings by which the server has a variable, a resource, a Secret or a claim."""
    effective = explanation.effective
    if thing.kind == "env":
        setting = effective.env.get(thing.name)
        return [setting] if setting and setting.value is not None else []
    if thing.kind == "resource":
        amounts = [explanation.resources.limits.get(thing.name), explanation.resources.requests.get(thing.name)]
        return [amount for amount in amounts if amount and amount.value.amount]
    settings: list[Setting[Any]] = [*effective.env.values(), *effective.env_from, *effective.volumes]
    return [setting for setting in settings if _refers_to(setting.value, thing, maybe=maybe)]


def _explain_absence(explanation: Explanation, thing: Thing) -> tuple[str, str]:
    """Why the server does not have the thing, and the profile that decided; empty if none did."""
    if thing.kind in ("size", "image-choice"):
        return "not offered to this user", ""
    if origin := _find_origin(explanation, thing, maybe=True):
        return f"only a template that could become it, from {origin}", origin
    effective = explanation.effective
    sections: Mapping[str, Sequence[Mapping[str, Setting[Any]]]] = {
        "env": [effective.env],
        "resource": [effective.limits, effective.requests],
    }
    for section in sections.get(thing.kind, ()):
        if thing.name in section:
            origin = _origin(section[thing.name])
            return f"removed by {origin}", origin
    return _explain_nothing(explanation, lambda profile: _gives(profile, thing))


def _explain_nothing(explanation: Explanation, gives: Callable[[Profile], bool]) -> tuple[str, str]:
    """The same, where no setting of that name removes it: a profile that gives it may not match, or be overridden."""
    matches = sorted(
        (match for match in explanation.matches if gives(match.profile)), key=lambda match: not match.is_match
    )
    for match in matches:
        label = match.profile.label
        if match.is_match:
            return f"nothing: {label} gives it, but another profile overrides that", ""
        return f"nothing: {label} gives it, but does not match ({'; '.join(match.reasons)})", ""
    return "nothing: no profile gives it", ""


def _gives(profile: Profile, thing: Thing) -> bool:
    if thing.kind == "profile":
        return _is_profile(profile, thing.name)
    if thing.kind == "env":
        return profile.env.get(thing.name) is not None
    if thing.kind == "resource":
        amounts = (profile.limits.get(thing.name), profile.requests.get(thing.name))
        return any(amount and amount.amount for amount in amounts)
    values = (*profile.env.values(), *profile.env_from, *profile.volumes)
    return any(_refers_to(value, thing) for value in values)


def _is_profile(profile: Profile, name: str) -> bool:
    return not isinstance(profile, Size) and name in (profile.name, profile.label)


def _refers_to(value: object, thing: Thing, *, maybe: bool = False) -> bool:
    """Whether a variable's value or an object refers to a Secret or a claim."""
    return any(
        name == thing.name or (maybe and isinstance(name, Template) and may_expand_to(name, thing.name))
        for name in list_references(thing.kind, value)
    )
