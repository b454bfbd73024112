"""What changes, and for whom, from one document to another: exact for every possible server.

Both documents are lists of rules, setting by setting (see `rules`). They differ for a server if the rule that decides
in the one list and the rule that decides in the other give different values. So for every setting whose rules changed,
this asks whether there are a moment, an image and a person for whom two such rules decide:

- Moments: at those when something begins or ends, and now, everything is decided that ever is.
- Images: those that match an entry of a changed rule, or of none, and few others (see `least_images`).
- People: see `persons`.

What a person may choose comes first: a person who is offered images runs one of these and no other, and a size is one
more list of rules. So each choice is looked at by itself, with those to whom both documents offer it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from typing import TypeAlias, TypeVar

from ..document.model import DEFAULT_SIZE, Document, ImageChoice, Profile, Size
from ..document.times import ALWAYS
from ..errors import ProfiledSpawnerError
from .image_classes import ImageClass, find_image_classes
from .least_images import LeastImages
from .matching import MergeOrder
from .persons import Deciding, People, Point, find_unequal_sum
from .rules import ADDED_UP, SOURCE_ORDER, UNSET, Rule, RuleBook, SettingKey, make_rule_book, make_rules_of_entries

__all__ = ["Change", "Comparison", "Example", "UndecidableError", "compare_documents"]

E = TypeVar("E", Profile, Size, ImageChoice)

IMAGE, SIZE, ORDER = "image", "size", "order of choices"
"""Sections of what may be chosen."""


class UndecidableError(ProfiledSpawnerError):
    """The documents have preferences of nodes for more combinations of images than can be looked at."""


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
    """

    setting: SettingKey
    old: Rule | None
    new: Rule | None
    users: tuple[str, ...]
    groups: tuple[str, ...]
    everyone: bool
    images: tuple[ImageClass, ...]
    example: Example


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
) -> Comparison:
    """Compares what two documents give.

    Args:
        old: One document.
        new: The other one.
        order: The merge order, of both.
        at: The moment; None for every moment from `since` on.
        since: The first moment.
    """
    if at is not None:
        old, new = _at(old, at), _at(new, at)
        since = at
    return Comparison(tuple(_Search(old, new, order, since).find()))


def _at(document: Document, at: float) -> Document:
    """The document as it is at a moment, for ever."""

    def keep(entries: Iterable[E]) -> tuple[E, ...]:
        return tuple([replace(entry, period=ALWAYS) for entry in entries if entry.period.covers(at)])

    return replace(document, profiles=keep(document.profiles), sizes=keep(document.sizes), images=keep(document.images))


@dataclass(frozen=True, slots=True)
class _Choice:
    """Servers that are started with the same choice.

    Attributes:
        image: The name of the chosen image; None for people who are offered none.
        size: The name of the chosen size.
        needs: Who may choose this, in both documents.
        bars: Who may not be looked at, because images are offered to them.
        old_image: The image that the old document decides; None if it leaves it to the hub's settings.
        new_image: Likewise of the new document.
    """

    image: str | None = None
    size: str = DEFAULT_SIZE
    needs: tuple[Rule, ...] = ()
    bars: tuple[Rule, ...] = ()
    old_image: str | None = None
    new_image: str | None = None


_Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], bool]
"""Users, groups, and whether also everybody whom no document names."""

_Placed: TypeAlias = Sequence[tuple[int, Rule]]
"""Rules that apply at a moment, each with its position in the list of all."""

_Difference: TypeAlias = tuple[Rule | None, Rule | None, Deciding, ImageClass]
"""The rules that decide, for whom, and on which image."""


class _Search:
    """Searches for everything that is different."""

    def __init__(self, old: Document, new: Document, order: MergeOrder, since: float) -> None:
        self._documents = old, new
        self._order = order
        self._since = since
        named = {
            name
            for document in self._documents
            for entry in (*document.profiles, *document.sizes, *document.images)
            for name in entry.users or ()
        }
        self._anybody = next(name for name in _list_strangers() if name not in named)
        self._images = LeastImages(
            [entry for document in self._documents for profile in document.profiles for entry in profile.images or ()]
        )

    def find(self) -> Iterator[Change]:
        """Every change."""
        old, new = self._documents
        yield from self._compare_choices(IMAGE, old.images, new.images)
        yield from self._compare_choices(SIZE, old.sizes, new.sizes)
        base = tuple(make_rule_book(document, self._order) for document in self._documents)
        sizes = self._make_books_of_sizes(base)
        for choice in self._list_image_choices():
            yield from self._compare_books(base, choice)
            for name, (books, needs) in sizes.items():
                yield from self._compare_books(books, replace(choice, size=name, needs=_unique(*choice.needs, *needs)))

    def _make_books_of_sizes(self, base: Sequence[RuleBook]) -> Mapping[str, tuple[Sequence[RuleBook], Sequence[Rule]]]:
        """For each size of both documents, the rules of what it has a say in, and who may choose it."""
        sizes = [{size.name or "": size for size in document.sizes} for document in self._documents]
        rules = [make_rules_of_entries(document.sizes) for document in self._documents]
        found = {}
        for name in (name for name in sizes[0] if name in sizes[1]):
            books = [
                make_rule_book(document, self._order, each[name])
                for document, each in zip(self._documents, sizes, strict=True)
            ]
            settings = dict.fromkeys(
                setting
                for book, without in zip(books, base, strict=True)
                for setting in book
                if book[setting] != without.get(setting)
            )
            its = [{setting: book[setting] for setting in settings if setting in book} for book in books]
            found[name] = its, [each[name] for each in rules]
        return found

    def _list_image_choices(self) -> Iterator[_Choice]:
        old, new = ({image.name or "": image for image in document.images} for document in self._documents)
        of_old, of_new = (make_rules_of_entries(document.images) for document in self._documents)
        yield _Choice(bars=_unique(*of_old.values(), *of_new.values()))
        for name in (name for name in old if name in new):
            images = old[name].image, new[name].image
            # Where one decides the image and the other does not, that is the change.
            if (images[0] is None) == (images[1] is None):
                yield _Choice(name, DEFAULT_SIZE, _unique(of_old[name], of_new[name]), (), *images)

    def _compare_choices(
        self, section: str, old: Sequence[Size | ImageChoice], new: Sequence[Size | ImageChoice]
    ) -> Iterator[Change]:
        lists = [make_rules_of_entries(entries) for entries in (old, new)]
        values = [{entry.name or "": _describe(entry) for entry in entries} for entries in (old, new)]
        for name in {**lists[0], **lists[1]}:
            rules = [
                (replace(each[name], value=value[name]),) if name in each else ()
                for each, value in zip(lists, values, strict=True)
            ]
            yield from self._compare_rules((section, name), rules[0], rules[1], _Choice())
        positions = {name: position for position, name in enumerate(lists[1])}
        for one, other in combinations([name for name in lists[0] if name in positions], 2):
            if positions[one] > positions[other]:
                first = replace(lists[0][one], value=one)
                yield from self._compare_rules(
                    (ORDER, (one, other)), (first,), (), _Choice(needs=_unique(lists[0][one], lists[0][other]))
                )

    def _compare_books(self, books: Sequence[RuleBook], choice: _Choice) -> Iterator[Change]:
        old, new = books
        for setting in {**old, **new}:
            if setting[0] == SOURCE_ORDER and not (setting in old and setting in new):
                continue  # One document never has both.
            yield from self._compare_rules(setting, old.get(setting, ()), new.get(setting, ()), choice)

    def _compare_rules(
        self, setting: SettingKey, old: Sequence[Rule], new: Sequence[Rule], choice: _Choice
    ) -> Iterator[Change]:
        if old == new and choice.old_image == choice.new_image:
            return
        pairing = {} if choice.old_image != choice.new_image else _pair(old, new)
        paired = {*pairing}, {*pairing.values()}
        found = _Found()
        everything = [*old, *new, *choice.needs, *choice.bars]
        for number, at in enumerate(self._list_moments(everything)):
            rules = [[each for each in enumerate(rules) if each[1].period.covers(at)] for rules in (old, new)]
            is_changed = any(
                position not in kept for each, kept in zip(rules, paired, strict=True) for position, _ in each
            )
            if not is_changed or not all(rule.period.covers(at) for rule in choice.needs):
                continue
            bars = [rule for rule in choice.bars if rule.period.covers(at)]
            images = self._list_images(setting, rules, pairing, choice)
            if number:
                # Elsewhere, everything decides that did before.
                turning = [rule for rule in everything if at in (rule.period.start, rule.period.end)]
                images = [pair for pair in images if any(_is_for(rule, each) for rule in turning for each in pair)]
            if setting[0] == ADDED_UP:
                differences = _find_unequal(rules, images, choice.needs, bars)
            else:
                people = People(rules[0], rules[1], (len(old), len(new)), pairing, needs=choice.needs, bars=bars)
                differences = _find_different(people, old, new, images)
            for difference in differences:
                found.add(difference, at)
        for each in found.list():
            yield self._make_change(setting, each, choice)

    def _list_moments(self, rules: Iterable[Rule]) -> list[float]:
        """The moments at which something begins or ends, and the first one."""
        bounds = {bound for rule in rules for bound in (rule.period.start, rule.period.end)}
        later = sorted(bound for bound in bounds if self._since < bound < math.inf)
        first = self._since if math.isfinite(self._since) else min(later, default=1) - 1
        return [first, *later]

    def _list_images(
        self, setting: SettingKey, rules: Sequence[_Placed], pairing: Mapping[int, int], choice: _Choice
    ) -> list[tuple[ImageClass, ImageClass]]:
        """The images on which the old and the new rules may decide differently; a pair if they are not the same."""
        if choice.old_image is not None and choice.new_image is not None:
            return [(self._images.classify(choice.old_image), self._images.classify(choice.new_image))]
        if setting[0] == ADDED_UP:
            changed = _cancel(*([rule for _, rule in each] for each in rules))
            classes = find_image_classes([entry for rule in changed for entry in sorted(rule.images or ())])
            if not classes.complete:
                raise UndecidableError(
                    "this cannot be decided: the preferences of nodes are for more combinations of images than can be "
                    "looked at"
                )
            examples = [each.example for each in (*classes.classes, *self._images.find())]
            return [(each, each) for each in map(self._images.classify, examples)]
        back = {theirs: ours for ours, theirs in pairing.items()}
        combinations_of_two = {
            entries
            for (ours, theirs), (to_theirs, to_ours) in (
                ((rules[0], rules[1]), (pairing, back)),
                ((rules[1], rules[0]), (back, pairing)),
            )
            for position, rule in ours
            if position not in to_theirs
            for entries in _list_entries(position, rule, theirs, to_ours)
        }
        found: dict[frozenset[str], ImageClass] = {}
        for mine, their in sorted(combinations_of_two):
            for each in self._images.find(*sorted({mine, their} - {""})):
                found.setdefault(frozenset(each.entries), each)
        return [(each, each) for each in found.values()]

    def _make_change(self, setting: SettingKey, found: _Affected, choice: _Choice) -> Change:
        old, new, deciding, image = found.difference
        person = deciding.person
        user = self._anybody if person.user is None else person.user
        return Change(
            setting,
            old,
            new,
            *found.names,
            images=() if choice.old_image else tuple(found.images),
            example=Example(
                user,
                tuple(sorted(person.groups)),
                image.example,
                choice.image,
                choice.size,
                found.at,
                is_anybody=person.user is None,
            ),
        )


@dataclass
class _Affected:
    """A pair of rules, for whom it decides, where and when; and an example."""

    difference: _Difference
    names: _Names
    images: list[ImageClass]
    at: float


class _Found:
    """What was found of one setting, each pair of rules once for the same people."""

    def __init__(self) -> None:
        self._seen: set[object] = set()
        self._pairs: dict[object, dict[_Names, _Affected]] = {}

    def add(self, difference: _Difference, at: float) -> None:
        """Adds a pair of rules, unless it is known on this image."""
        one, other, deciding, image = difference
        pair = one and id(one), other and id(other)
        if (pair, image.example) in self._seen:
            return
        self._seen.add((pair, image.example))
        person = deciding.person
        is_for_everyone = person.user is None and not person.groups
        names = ((), (), True) if is_for_everyone else (*deciding.list_names(), False)
        of_pair = self._pairs.setdefault(pair, {})
        known = of_pair.get(names)
        if known is None or len(person.groups) < len(known.difference[2].person.groups):
            of_pair[names] = _Affected(difference, names, [image], at)
        elif known.at == at:
            known.images.append(image)

    def list(self) -> Iterator[_Affected]:
        """Everything, but people in several groups only where a pair of rules is for nobody else."""
        for of_pair in self._pairs.values():
            yield from (each for each in of_pair.values() if any(each.names) or len(of_pair) == 1)


def _find_different(
    people: People, old: Sequence[Rule], new: Sequence[Rule], images: Iterable[tuple[ImageClass, ImageClass]]
) -> Iterator[_Difference]:
    """The pairs of rules with different values that decide for somebody."""
    before: list[Rule | None] = [*old, None]
    after: list[Rule | None] = [*new, None]

    def differ(point: Point) -> bool:
        one, other = before[point[0]], after[point[1]]
        return (one.value if one else UNSET) != (other.value if other else UNSET)

    for image, other_image in images:
        for deciding in people.find(image.entries, other_image.entries, differ):
            one, other = deciding.point
            yield before[one], after[other], deciding, image


def _list_entries(position: int, rule: Rule, theirs: _Placed, to_ours: Mapping[int, int]) -> Iterator[tuple[str, str]]:
    """The entries that an image has to match for a rule to decide, and for any of theirs to decide there too.

    An empty text is no entry. A rule of theirs that is paired with one that stands before this one does not decide
    where this one does: that one would.
    """
    others = {""}
    for place, other in theirs:
        if to_ours.get(place, position) >= position:
            others.update(other.images or ())
    for mine in rule.images or ("",):
        for their in others:
            yield mine, their


def _is_for(rule: Rule, image: ImageClass) -> bool:
    return rule.images is None or not rule.images.isdisjoint(image.entries)


def _find_unequal(
    rules: Sequence[_Placed],
    images: Iterable[tuple[ImageClass, ImageClass]],
    needs: Sequence[Rule],
    bars: Sequence[Rule],
) -> Iterator[_Difference]:
    """Somebody for whom values do not add up to the same, for each image on which there is somebody."""
    for pair in images:
        old, new = ([rule for _, rule in each if _is_for(rule, image)] for each, image in zip(rules, pair, strict=True))
        person = find_unequal_sum(old, new, needs, bars)
        if person is not None:
            # Any that has it: none decides alone.
            yield next(iter(old), None), next(iter(new), None), Deciding((0, 0), person), pair[0]


def _cancel(old: Sequence[Rule], new: Sequence[Rule]) -> list[Rule]:
    """The rules that only one of the two lists has, as often as it has them more."""
    counts = Counter(old)
    counts.subtract(Counter(new))
    return [rule for rule, count in counts.items() if count]


def _pair(old: Sequence[Rule], new: Sequence[Rule]) -> dict[int, int]:
    """Pairs as many equal rules of both lists as possible without crossing, by their positions.

    Two paired rules match the same servers. So where the lists decide differently, one of the two rules that decide is
    not paired.
    """
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


def _unique(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(rules))


def _describe(entry: Size | ImageChoice) -> tuple[object, ...]:
    """What people see of a choice, and what an image brings with it."""
    if isinstance(entry, ImageChoice):
        return entry.description, entry.image, entry.image_pull_secrets, entry.default_url
    return (entry.description,)


def _list_strangers() -> Iterator[str]:
    yield "somebody"
    for number in count(2):
        yield f"somebody-{number}"
