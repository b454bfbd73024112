"""What changes, and for whom, from one document to another: exact for every possible server.

Both documents are lists of rules, setting by setting (see `rules`). They differ for a server if the rule that decides
in the one list and the rule that decides in the other give different values. Most rules stand in both lists, and where
two of these decide, nothing is different. So this asks of all other pairs for whom they decide (see `deciders`).

What a person may choose comes first: a person who is offered images runs one of these and no other, and a size is one
more list of rules. So each choice is looked at by itself, with those to whom both documents offer it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations, count, product
from typing import TypeVar

from ..document.model import DEFAULT_SIZE, Document, ImageChoice, Profile, Quota, Size
from ..document.times import ALWAYS
from ..errors import UndecidableError
from .deciders import Deciders, Deciding, Person
from .image_classes import ImageClass, find_image_classes
from .least_images import LeastImages
from .matching import MergeOrder, Roster
from .rules import (
    ADDED_UP,
    NO_RULE,
    SOURCE_ORDER,
    Rule,
    RuleBook,
    SettingKey,
    find_who,
    make_rule_book,
    make_rules_of_entries,
)
from .sums import find_unequal_sum

__all__ = [
    "Change",
    "Choice",
    "Comparer",
    "Comparison",
    "Example",
    "SizeBooks",
    "compare_documents",
    "fix_moment",
]

E = TypeVar("E", Profile, Size, ImageChoice, Quota)

IMAGE, SIZE, ORDER = "image", "size", "order of choices"
"""Sections of what may be chosen."""

QUOTA = "quota"
"""The section that says which quotas a server counts towards."""


@dataclass(frozen=True, slots=True)
class Example:
    """One server that gets something different.

    Attributes:
        user: The owner; a name that no document has stands for anybody else.
        groups: The owner's groups.
        image: The image of the hub's settings; where the document decides the image, it has no say.
        image_choice: The chosen image; None where none is offered.
        size: The chosen size; ``default`` for none.
        at: When the server starts, in seconds since 1970.
        is_anybody: Whether `user` stands for anybody else.
    """

    user: str
    groups: tuple[str, ...]
    image: str
    image_choice: str | None
    size: str
    at: float
    is_anybody: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that is different for somebody.

    Attributes:
        setting: The section, and what is set.
        old: The rule that decides in the old document; None if none does.
        new: The rule that decides in the new document; None if none does.
        users: Users for whom this is so if they are in no group, at the example's moment and with its choice.
        groups: Groups whose members get this, if nothing else is for them.
        everyone: Whether it is so for people whom no document mentions; `users` and `groups` are then empty.
        images: The images on which it is so, at the example's moment; none where the image is chosen. Each also stands
            for others that match the same entries.
        example: A server for which it is so.
        people: Those of a roster for whom it is so, in whatever groups they are, on some image; empty without a roster.
        within: A group that these users, and the members of these groups, must be in, too; None if there is none. It is
            that of a team, in whose ConfigMap they are named.
    """

    setting: SettingKey
    old: Rule | None
    new: Rule | None
    users: tuple[str, ...]
    groups: tuple[str, ...]
    everyone: bool
    images: tuple[ImageClass, ...]
    example: Example
    people: tuple[str, ...] = ()
    within: str | None = None

    def names(self, user: str | None, groups: AbstractSet[str]) -> bool:
        """Whether the change names a person, or one of the groups."""
        is_within = self.within is None or self.within in groups
        return is_within and (user in self.users or not groups.isdisjoint(self.groups))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is different between two documents; nothing, if no server gets anything different."""

    changes: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """Whether every server gets the same."""
        return not self.changes


def compare_documents(
    old: Document,
    new: Document,
    order: MergeOrder = "specificity",
    *,
    at: float | None = None,
    since: float = -math.inf,
    roster: Roster | None = None,
) -> Comparison:
    """Compares what two documents give.

    Args:
        old: One document.
        new: The other one.
        order: The merge order, of both.
        at: The moment; None for every moment from `since` on.
        since: The first moment.
        roster: Whose names to add to the changes; it has no say in what changes.
    """
    if at is not None:
        old, new = fix_moment(old, at), fix_moment(new, at)
        since = at
    comparer = Comparer(old, new, order, since)
    changes = tuple(comparer.compare())
    return Comparison(changes if roster is None else comparer.add_people(changes, roster, Comparer.compare))


def fix_moment(document: Document, at: float) -> Document:
    """Returns the document as it is at a moment, for ever."""

    def keep(entries: Iterable[E]) -> tuple[E, ...]:
        return tuple([replace(entry, period=ALWAYS) for entry in entries if entry.period.covers(at)])

    return replace(
        document,
        profiles=keep(document.profiles),
        sizes=keep(document.sizes),
        images=keep(document.images),
        quotas=keep(document.quotas),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Servers that are started with the same choice.

    Attributes:
        image: The name of the chosen image; None for people who are offered none.
        size: The name of the chosen size.
        needs: Who may choose this, in both documents.
        bars: Who is not looked at, because images are offered to them.
        old_image: The image that the old document decides; None if it leaves it to the hub's settings.
        new_image: Likewise of the new document.
    """

    image: str | None = None
    size: str = DEFAULT_SIZE
    needs: tuple[Rule, ...] = ()
    bars: tuple[Rule, ...] = ()
    old_image: str | None = None
    new_image: str | None = None

    def with_size(self, size: SizeBooks) -> Choice:
        """The same with a size."""
        return replace(self, size=size.name, needs=_unique(*self.needs, *size.needs))


@dataclass(frozen=True, slots=True)
class SizeBooks:
    """A size of both documents.

    Attributes:
        name: Its name.
        needs: Who may choose it.
        books: The rules of what it has a say in, of the old and of the new document.
    """

    name: str
    needs: Sequence[Rule]
    books: Sequence[RuleBook]


class Comparer:
    """Compares what two documents give, setting by setting and choice by choice."""

    def __init__(self, old: Document, new: Document, order: MergeOrder, since: float) -> None:
        """Prepares for two documents, whose moments are compared from `since` on."""
        self._documents = old, new
        self._order = order
        self._since = since
        entries = [*old.entries, *new.entries]
        self._users = frozenset(name for entry in entries for name in entry.users or ())
        self._groups = frozenset(name for entry in entries for name in entry.groups or ())
        self._anybody = next(name for name in _list_strangers() if name not in self._users)
        # With a person, only these settings are compared.
        self._person: tuple[str | None, AbstractSet[str]] | None = None
        self._settings: AbstractSet[SettingKey] = frozenset()
        self._images = LeastImages(
            [entry for document in self._documents for profile in document.profiles for entry in profile.images or ()]
        )

    def compare(self) -> Iterator[Change]:
        """Every change."""
        old, new = self._documents
        yield from self._compare_choices(IMAGE, old.images, new.images)
        yield from self._compare_choices(SIZE, old.sizes, new.sizes)
        yield from self._compare_entries(QUOTA, old.quotas, new.quotas)
        for choice in self.list_image_choices():
            yield from self._compare_books(self.base, choice)
            for size in self.sizes:
                yield from self._compare_books(size.books, choice.with_size(size))

    def add_people(
        self, changes: Sequence[Change], roster: Roster, compare: Callable[[Comparer], Iterable[Change]]
    ) -> tuple[Change, ...]:
        """Adds to each change those people of a roster for whom it is so.

        Args:
            changes: The changes.
            roster: The people.
            compare: What found the changes; it is called again for all people whom the documents do not tell apart.
        """
        kinds: dict[tuple[str | None, AbstractSet[str]], list[str]] = {}
        for user, groups in roster.items():
            kinds.setdefault((user if user in self._users else None, self._groups & groups), []).append(user)
        alike: dict[Hashable, list[Change]] = {}
        for change in changes:
            alike.setdefault(_make_key(change), []).append(change)
        settings = {change.setting for change in changes}
        people: dict[int, set[str]] = {}
        for kind, names in kinds.items():
            one = copy(self)
            one._person, one._settings = kind, settings
            for theirs in compare(one):
                for change in _find_same(theirs, alike.get(_make_key(theirs), ()), *kind):
                    people.setdefault(id(change), set()).update(names)
        return tuple(replace(each, people=tuple(sorted(people.get(id(each), ())))) for each in changes)

    @cached_property
    def base(self) -> Sequence[RuleBook]:
        """The rules of the old and of the new document without a size."""
        return self._make_books([None, None])

    def compare_rules(self, setting: SettingKey, lists: Sequence[Sequence[Rule]], choice: Choice) -> Iterator[Change]:
        """Every change of one setting, of which the old and the new rules are given."""
        images = choice.old_image, choice.new_image
        if lists[0] is lists[1] and images[0] == images[1]:
            return
        if self._person is not None:
            if setting not in self._settings:
                return
            needs, bars = self._keep_its(choice.needs), self._keep_its(choice.bars)
            if len(needs) < len(choice.needs):
                return
            lists, choice = [self._keep_its(rules) for rules in lists], replace(choice, needs=needs, bars=bars)
        if setting[0] == ADDED_UP:
            yield from self._compare_sums(setting, lists, choice)
            return
        old, new = map(self.find_deciding, lists, images)
        deciders = self.make_deciders((old, new), choice)
        for one, other in _list_unpaired(_pair(old, new), len(old), len(new)):
            rules = old[one], new[other]
            if rules[0].value != rules[1].value:
                for each in _unite(deciders.find((one, other), partial(self.find_images, rules, choice))):
                    yield self._make_change(setting, rules, each, choice)

    def find_deciding(self, rules: Sequence[Rule], image: str | None) -> Sequence[Rule]:
        """The rules of a list that may ever decide, the last of which does where no other does.

        Args:
            rules: The list.
            image: The image of all servers, for which the rules then are; None if it may be any.
        """
        found = self._find_matching(rules, image)
        for position, rule in enumerate(found):
            is_for_all = not rule.who and rule.images is None
            if is_for_all and rule.period.start <= self._since and rule.period.end == math.inf:
                return found[: position + 1]
        return [*found, NO_RULE]

    def _find_matching(self, rules: Iterable[Rule], image: str | None) -> list[Rule]:
        """The rules that are not over; only those for an image, if it is given, and then for every image."""
        found = [rule for rule in rules if rule.period.end > self._since]
        if image is None:
            return found
        its = self._images.classify(image)
        return [replace(rule, images=None) for rule in found if _is_for(rule, its)]

    def _keep_its(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """The rules that match the only person, for whom they then are."""
        assert self._person is not None
        user, groups = self._person
        return tuple(replace(rule, who=()) for rule in rules if all(who.includes(user, groups) for who in rule.who))

    def make_deciders(self, lists: Iterable[Sequence[Rule]], choice: Choice) -> Deciders:
        """What finds the people for whom rules of these lists decide, with a choice."""
        return Deciders(*lists, needs=choice.needs, bars=choice.bars, since=self._since)

    def find_images(self, rules: Iterable[Rule], choice: Choice) -> Iterable[ImageClass]:
        """The images on which these rules may decide: those that match all of them, and as little else as possible."""
        if choice.old_image is not None:
            return [self._images.classify(choice.old_image)]
        found: dict[tuple[str, ...], ImageClass] = {}
        for entries in product(*(sorted(rule.images) for rule in rules if rule.images is not None)):
            for each in self._images.find(*sorted({*entries})):
                found.setdefault(each.entries, each)
        return found.values()

    def make_example(self, image: ImageClass, person: Person, at: float, choice: Choice) -> Example:
        """The server of a person."""
        return Example(
            self._anybody if person.user is None else person.user,
            tuple(sorted(person.groups)),
            image.example,
            choice.image,
            choice.size,
            at,
            is_anybody=person.user is None,
        )

    def _make_books(self, sizes: Iterable[Size | None]) -> Sequence[RuleBook]:
        books = [
            make_rule_book(document, self._order, size) for document, size in zip(self._documents, sizes, strict=True)
        ]
        # What is equal becomes the same, so that it is compared only once.
        same = {setting: rules for setting, rules in books[0].items() if books[1].get(setting) == rules}
        return [{**book, **same} for book in books]

    @cached_property
    def sizes(self) -> Sequence[SizeBooks]:
        """Every size of both documents."""
        return list(self._list_sizes())

    def _list_sizes(self) -> Iterator[SizeBooks]:
        sizes = [{size.name or "": size for size in document.sizes} for document in self._documents]
        needs = [make_rules_of_entries(document.sizes) for document in self._documents]
        for name in (name for name in sizes[0] if name in sizes[1]):
            books = self._make_books([each[name] for each in sizes])
            settings = dict.fromkeys(
                setting
                for book, without in zip(books, self.base, strict=True)
                for setting, rules in book.items()
                if rules != without.get(setting)
            )
            its = [{setting: book[setting] for setting in settings if setting in book} for book in books]
            yield SizeBooks(name, [each[name] for each in needs], its)

    def list_image_choices(self) -> Iterator[Choice]:
        """Every image of both documents, and none, for people who are offered none."""
        old, new = ({image.name or "": image for image in document.images} for document in self._documents)
        of_old, of_new = (make_rules_of_entries(document.images) for document in self._documents)
        yield Choice(bars=_unique(*of_old.values(), *of_new.values()))
        for name in (name for name in old if name in new):
            images = old[name].image, new[name].image
            # Where one decides the image and the other does not, that is the change.
            if (images[0] is None) == (images[1] is None):
                yield Choice(name, DEFAULT_SIZE, _unique(of_old[name], of_new[name]), (), *images)

    def _compare_books(self, books: Sequence[RuleBook], choice: Choice) -> Iterator[Change]:
        for setting in {**books[0], **books[1]}:
            lists = [book.get(setting, ()) for book in books]
            # One document never has the order of sources that it does not have both.
            if all(lists) or setting[0] != SOURCE_ORDER:
                yield from self.compare_rules(setting, lists, choice)

    def _compare_choices(
        self, section: str, old: Sequence[Size | ImageChoice], new: Sequence[Size | ImageChoice]
    ) -> Iterator[Change]:
        yield from self._compare_entries(section, old, new)
        lists = [make_rules_of_entries(entries) for entries in (old, new)]
        positions = {name: position for position, name in enumerate(lists[1])}
        for one, other in combinations([name for name in lists[0] if name in positions], 2):
            if positions[one] > positions[other]:
                first = replace(lists[0][one], value=one)
                both = Choice(needs=_unique(lists[0][one], lists[0][other]))
                yield from self.compare_rules((ORDER, (one, other)), ((first,), ()), both)

    def _compare_entries(
        self, section: str, old: Sequence[Size | ImageChoice | Quota], new: Sequence[Size | ImageChoice | Quota]
    ) -> Iterator[Change]:
        lists = [make_rules_of_entries(entries) for entries in (old, new)]
        values = [{entry.name or "": _describe(entry) for entry in entries} for entries in (old, new)]
        for name in {**lists[0], **lists[1]}:
            rules = [
                (replace(each[name], value=value[name]),) if name in each else ()
                for each, value in zip(lists, values, strict=True)
            ]
            if rules[0] != rules[1]:
                yield from self.compare_rules((section, name), rules, Choice())

    def _compare_sums(self, setting: SettingKey, lists: Sequence[Sequence[Rule]], choice: Choice) -> Iterator[Change]:
        """Every change of a setting whose values add up, with one example of a person on each image."""
        old, new = map(self._find_matching, lists, (choice.old_image, choice.new_image))
        # What is in both lists makes no difference to any sum.
        rules = [list(each.elements()) for each in (Counter(old) - Counter(new), Counter(new) - Counter(old))]
        changed = [*rules[0], *rules[1]]
        if not changed:
            return
        # No rule decides alone. One of each list stands for all.
        pair = next(iter(rules[0]), NO_RULE), next(iter(rules[1]), NO_RULE)
        moments = self._list_moments([*changed, *choice.needs, *choice.bars])
        found = []
        for image in self._list_all_images(changed, choice):
            matching = [[rule for rule in each if _is_for(rule, image)] for each in rules]
            for at in moments:
                old_now, new_now, needs, bars = (
                    [rule for rule in each if rule.period.covers(at)] for each in (*matching, choice.needs, choice.bars)
                )
                if len(needs) == len(choice.needs):
                    person = find_unequal_sum(old_now, new_now, needs, bars)
                    if person is not None:
                        found.append(Deciding(image, at, *person.names, person))
                        break
        for each in _unite(found):
            yield self._make_change(setting, pair, each, choice)

    def _list_all_images(self, rules: Iterable[Rule], choice: Choice) -> Iterable[ImageClass]:
        """One image of each class that the rules tell apart, and of those that match nothing."""
        if choice.old_image is not None:
            return [self._images.classify(choice.old_image)]
        classes = find_image_classes([entry for rule in rules for entry in sorted(rule.images or ())])
        if not classes.complete:
            raise UndecidableError(
                "this cannot be decided: the preferences of nodes are for more combinations of images than can be "
                "looked at"
            )
        # Images that are too long match nothing, not even `**`: they are the least.
        return [self._images.classify(each.example) for each in (*classes.classes, *self._images.find())]

    def _list_moments(self, rules: Iterable[Rule]) -> list[float]:
        """The first moment, and all at which something begins or ends."""
        bounds = {bound for rule in rules for bound in (rule.period.start, rule.period.end)}
        return [self._since, *sorted(bound for bound in bounds if self._since < bound < math.inf)]

    def _make_change(
        self, setting: SettingKey, rules: Sequence[Rule], found: Sequence[Deciding], choice: Choice
    ) -> Change:
        first = found[0]
        old, new = (None if rule is NO_RULE else rule for rule in rules)
        return Change(
            setting,
            old,
            new,
            first.users,
            first.groups,
            first.everyone,
            images=() if choice.old_image is not None else tuple(each.image for each in found),
            example=self.make_example(first.image, first.person, first.at, choice),
            within=first.within,
        )


def _unite(found: Iterable[Deciding]) -> Iterable[Sequence[Deciding]]:
    """Puts together the images on which it is so for the same people.

    Where more names are needed than a rule asks for, people are of interest only if it is so for nobody with less.
    """
    alike: dict[Hashable, list[Deciding]] = {}
    for each in found:
        alike.setdefault((each.at, each.users, each.groups, each.within, each.person), []).append(each)
    return [each for each in alike.values() if each[0].is_simple] or list(alike.values())[:1]


def _list_unpaired(pairing: Mapping[int, int], old: int, new: int) -> Iterator[tuple[int, int]]:
    """The positions of the rules, one of each list, that may decide together, where not both are paired.

    Where a paired rule matches, so does its partner, and decides unless one above it does. So the other rule stands
    above the partner.

    Args:
        pairing: The positions of the paired rules.
        old: How many rules the old list has.
        new: How many the new one has.
    """
    back = {theirs: ours for ours, theirs in pairing.items()}
    for one in range(old):
        if one in pairing:
            yield from ((one, other) for other in range(pairing[one]) if other not in back)
        else:
            yield from ((one, other) for other in range(new) if back.get(other, old) > one)


def _is_for(rule: Rule, image: ImageClass) -> bool:
    return rule.images is None or not rule.images.isdisjoint(image.entries)


def _pair(old: Sequence[Rule], new: Sequence[Rule]) -> dict[int, int]:
    """Pairs as many equal rules of both lists as possible without crossing, by their positions."""
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    ours, theirs = old[begin : len(old) - end], new[begin : len(new) - end]
    positions: dict[Rule, int] = {rule: position for position, rule in enumerate(theirs)}
    pairs = [(number, positions[rule]) for number, rule in enumerate(ours) if rule in positions]
    kept = [(begin + one, begin + other) for one, other in _find_longest_increasing(pairs)]
    before = [(position, position) for position in range(begin)]
    behind = [(len(old) - position, len(new) - position) for position in range(1, end + 1)]
    return dict([*before, *kept, *behind])


def _find_longest_increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest choice of pairs in which both numbers grow; the first numbers of all pairs do."""
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, value) in enumerate(pairs):
        length = bisect_left(ends, value)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [value]
        last[length : length + 1] = [number]
    chain = []
    number = last[-1] if last else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _find_same(
    theirs: Change, changes: Sequence[Change], user: str | None, groups: AbstractSet[str]
) -> Sequence[Change]:
    """Those of some changes of the same two rules that are what a person gets.

    A change is told apart by when it begins, and by its images. A person in several groups may get it at another
    moment: then it is the last one that has begun. Changes within different groups are told apart by who is named.
    """
    at = max((each.example.at for each in changes if each.example.at <= theirs.example.at), default=None)
    begun = [each for each in changes if each.example.at == at] or changes[:1]
    images = {image.entries for image in theirs.images}
    there = [each for each in begun if images & {image.entries for image in each.images}] or begun
    return [each for each in there if each.names(user, groups)] or there


def _make_key(change: Change) -> Hashable:
    """What a change is about, without the people. Where values add up, no rule decides alone, and none counts."""
    rules = () if change.setting[0] == ADDED_UP else (change.old, change.new)
    return (
        change.setting,
        *(rule and id(rule.entry) for rule in rules),
        change.example.image_choice,
        change.example.size,
    )


def _unique(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(rules))


def _describe(entry: Size | ImageChoice | Quota) -> tuple[object, ...]:
    """What people see of a choice, and what an image brings with it; what a quota allows, and who shares that."""
    if isinstance(entry, ImageChoice):
        return entry.description, entry.image, entry.image_pull_secrets, entry.default_url
    if isinstance(entry, Quota):
        return frozenset(entry.hard.items()), find_who(entry) if entry.per == "all" else None
    return (entry.description,)


def _list_strangers() -> Iterator[str]:
    yield "somebody"
    for number in count(2):
        yield f"somebody-{number}"
