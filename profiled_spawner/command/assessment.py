"""Says whether assertions hold for a document; if not, what was expected, what was found, and who decided.

A subject goes through the same matching and merging as in `explain`, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..decide.comparison import Example
from ..decide.matching import MergeOrder, Subject
from ..decide.merging import Setting, to_key
from ..document.model import DEFAULT_SIZE, Document, EnvValue, EnvVarSource, Profile, Size
from ..document.quantity import Quantity
from ..document.suggestions import find_closest
from ..document.times import parse_start
from ..errors import ChoiceError, TimeError
from .assertions import Assertion, EverybodyAssertion, SubjectAssertion, Thing
from .explanation import Explanation, describe_env_source
from .people import explain_person

__all__ = ["Assessor", "Failure", "Verdict"]

_NOUNS = {
    "env": "variable",
    "secret": "secret",
    "claim": "claim",
    "resource": "resource",
    "profile": "profile",
    "size": "size",
    "image_choice": "image",
}
# Kinds of things that a document has under a name: one that it does not name is a mistake.
_ENTRIES = ("profile", "size", "image_choice")
_AMOUNTS = {"limits": "limit", "requests": "guarantee"}
_MOST_NAMES = 10


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
        groups: Iterable[str] = ()
        things: list[Thing] = []
        if isinstance(assertion, SubjectAssertion):
            person = assertion.person
            groups = sorted(person.groups)
            things = [*assertion.has.things, *assertion.has_not]
            if person.image_choice is not None:
                things.append(Thing("image_choice", person.image_choice))
            if person.size != DEFAULT_SIZE:
                things.append(Thing("size", person.size))
        elif isinstance(assertion, EverybodyAssertion):
            groups, things = assertion.groups, [assertion.thing]
        for thing in dict.fromkeys([*(Thing("group", name) for name in groups), *things]):
            names = self._known_names.get(thing.kind)
            if names is not None and thing.name not in names:
                noun = _NOUNS.get(thing.kind, thing.kind)
                found = f"no such {noun}; {_suggest(thing, tuple(names))}"
                yield Failure(f"the document names the {noun} {thing.name}", found)

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
        raise NotImplementedError


def _describe_assertion(assertion: EverybodyAssertion) -> str:
    """The assertion in words, such as ``only forecasters may have secret team-s3``."""
    thing = _name(assertion.thing)
    if assertion.kind == "only":
        groups = [f"members of {' and '.join(assertion.groups)}"] if assertion.groups else []
        return f"only {' and '.join([*groups, *assertion.users])} may have {thing}"
    return f"{'everyone' if assertion.kind == 'everyone_has' else 'nobody'} has {thing}"


def _list_known_names(document: Document) -> dict[str, dict[str, None]]:
    """What the document names, by kind."""
    entries = (*document.profiles, *document.sizes, *document.images)
    names = {
        "group": sorted({name for each in entries for name in each.groups or ()}),
        "profile": [name for each in document.profiles for name in (each.name, each.label) if name],
        "size": [each.name for each in document.sizes if each.name],
        "image_choice": [each.name for each in document.images if each.name],
    }
    return {kind: dict.fromkeys(each) for kind, each in names.items()}


def _suggest(thing: Thing, names: tuple[str, ...]) -> str:
    closest = find_closest(thing.name, names)
    if closest:
        return f"did you mean {closest}?"
    others = f" and {len(names) - _MOST_NAMES:,} more" if names[_MOST_NAMES:] else ""
    return f"it names {', '.join(names[:_MOST_NAMES]) or 'none at all'}{others}"


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
            wanted = "taken away" if quantity is None else f"of {quantity}"
            yield f"{resource} {_AMOUNTS[section]} {wanted}", *_describe_amount(explanation, section, resource, amount)
    for thing in assertion.has.things:
        if _find_origin(explanation, thing) is None:
            yield _name(thing), *_explain_absence(explanation, thing)
    for thing in assertion.has_not:
        origin = _find_origin(explanation, thing)
        if origin is not None:
            yield f"no {_name(thing)}", f"{_name(thing)}{f', from {origin}' if origin else ''}", origin


def _name(thing: Thing) -> str:
    return f"{_NOUNS[thing.kind]} {thing.name}"


def _to_comparable(value: EnvValue) -> object:
    return to_key(value.to_kubernetes()) if isinstance(value, EnvVarSource) else value


def _describe_expected_env(name: str, value: EnvValue) -> str:
    if value is None:
        return f"variable {name} taken away"
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
    return (f"taken away by {origin}" if setting.value is None else f"{setting.value}, from {origin}"), origin


def _origin(setting: Setting[Any]) -> str:
    return setting.profile.label if setting.profile else ""


def _find_origin(explanation: Explanation, thing: Thing) -> str | None:
    """The profile or size that gives the thing; empty if it is offered; None if the server does not have it."""
    effective = explanation.effective
    if thing.kind in ("size", "image_choice"):
        offered = explanation.offer.sizes if thing.kind == "size" else explanation.offer.images
        return "" if any(each.name == thing.name for each in offered) else None
    if thing.kind == "profile":
        return next((each.label for each in effective.applied if _is_profile(each, thing.name)), None)
    return next((_origin(setting) for setting in _list_settings(explanation, thing)), None)


def _list_settings(explanation: Explanation, thing: Thing) -> list[Setting[Any]]:
    """The settings by which the server has a variable, a resource, a Secret or a claim."""
    effective = explanation.effective
    if thing.kind == "env":
        setting = effective.env.get(thing.name)
        return [setting] if setting and setting.value is not None else []
    if thing.kind == "resource":
        amounts = [explanation.resources.limits.get(thing.name), explanation.resources.requests.get(thing.name)]
        return [amount for amount in amounts if amount and amount.value.amount]
    settings: list[Setting[Any]] = [*effective.env.values(), *effective.env_from, *effective.volumes]
    return [setting for setting in settings if thing.name in find_references(setting.value, thing.kind)]


def _explain_absence(explanation: Explanation, thing: Thing) -> tuple[str, str]:
    """Why the server does not have the thing, and the profile that decided; empty if none did."""
    if thing.kind in ("size", "image_choice"):
        return "not offered to this user", ""
    effective = explanation.effective
    sections: Mapping[str, Sequence[Mapping[str, Setting[Any]]]] = {
        "env": [effective.env],
        "resource": [effective.limits, effective.requests],
    }
    for section in sections.get(thing.kind, ()):
        if thing.name in section:
            origin = _origin(section[thing.name])
            return f"taken away by {origin}", origin
    return _explain_nothing(explanation, lambda profile: _gives(profile, thing))


def _explain_nothing(explanation: Explanation, gives: Callable[[Profile], bool]) -> tuple[str, str]:
    """The same, where no setting of that name takes it away: a profile that gives it may not fit, or be overridden."""
    matches = sorted((match for match in explanation.matches if gives(match.profile)), key=lambda match: not match.fits)
    for match in matches:
        label = match.profile.label
        if match.fits:
            return f"nothing: {label} gives it, but another profile overrides that", ""
        return f"nothing: {label} gives it, but does not fit ({'; '.join(match.reasons)})", ""
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
    return any(thing.name in find_references(value, thing.kind) for value in values)


def _is_profile(profile: Profile, name: str) -> bool:
    return not isinstance(profile, Size) and name in (profile.name, profile.label)


_REFERENCES = {
    "secret": {"secretKeyRef": "name", "secretRef": "name", "secret": "name", "nodePublishSecretRef": "name"},
    "claim": {"persistentVolumeClaim": "claimName"},
}


def find_references(value: object, kind: str) -> set[str]:
    """The names of the Secrets or claims that a variable's value or an object refers to."""
    if isinstance(value, EnvVarSource):
        value = value.to_kubernetes()
    if isinstance(value, tuple):
        return {name for each in value for name in find_references(each, kind)}
    if not isinstance(value, Mapping):
        return set()
    names = {name for each in value.values() for name in find_references(each, kind)}
    for field, key in _REFERENCES[kind].items():
        reference = value.get(field)
        if isinstance(reference, Mapping):
            # A volume's `secret` has `secretName`, one of a projected volume `name`.
            names |= {reference[each] for each in (key, "secretName") if each in reference}
    return names
