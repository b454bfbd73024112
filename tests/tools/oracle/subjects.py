"""All subjects of a small world, and the first for whom two documents differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations, pairwise, product
from math import isfinite
from typing import Any, TypeVar

from .answer import (
    LONGEST_IMAGE,
    NO_SIZE,
    Entries,
    Raw,
    Subject,
    describe_image,
    describe_quota,
    describe_size,
    fits_image,
    gets,
    list_parts,
    merge,
    read,
    result,
    to_expression,
    write_image,
)

PIECES = ("a", "b", "/", ":", "@", "latest", "z")
"""What images are made of. No document of `world` names z."""

FILLINGS = ("", "z", "z/z", "z:z", "z@z", ":latest", "/", ":", "@")
"""What a star is filled with, besides what other entries consist of."""

_MOST_FILLINGS = 400

Person = tuple[str, frozenset[str]]
T = TypeVar("T")


# People and moments


def find_people(documents: Sequence[Raw]) -> list[Person]:
    """Every user that is named and another one, each with every subset of the groups that are named and another one."""
    users = {user for entry in find_entries(documents) for user in entry.get("users", ())} - {"*"}
    groups = sorted({group for entry in find_entries(documents) for group in entry.get("groups", ())} | {"no group"})
    subsets = [frozenset(each) for count in range(len(groups) + 1) for each in combinations(groups, count)]
    return [(user, subset) for user in sorted(users | {"nobody"}) for subset in subsets]


def find_moments(documents: Sequence[Raw], *, at: float | None = None, since: float = 0) -> list[float]:
    """Each boundary of a period, a second before and after it, and one moment between two; or `at` alone."""
    if at is not None:
        return [at]
    entries = chain.from_iterable(chain.from_iterable(map(read, documents)))
    bounds = sorted({bound for entry in entries for bound in (entry.start, entry.end) if isfinite(bound)})
    moments = {since, max([since, *bounds]) + 1000}
    moments |= {bound + more for bound in bounds for more in (-1, 0, 1)}
    moments |= {(one + other) // 2 for one, other in pairwise(bounds)}
    return sorted(moment for moment in moments if moment >= since)


def find_entries(documents: Iterable[Raw]) -> list[Raw]:
    """The profiles, images, sizes, quotas and teams of all documents."""
    keys = ("profiles", "images", "sizes", "quotas", "teams")
    return [entry for part in find_parts(documents) for key in keys for entry in part.get(key, ())]


def find_parts(documents: Iterable[Raw]) -> list[Raw]:
    """The documents, and those of their teams."""
    return [part for document in documents for part, _ in list_parts(document)]


# Images


def find_images(documents: Sequence[Raw], pieces: int = 3) -> list[str]:
    """Images that may make a difference: what documents name, patterns with their stars filled, and small texts."""
    named = {entry["image"] for entry in find_entries(documents) if "image" in entry}
    return sorted({*named, *_find_images(_find_filters(documents)), *make_texts(pieces)})


def find_different_images(documents: Sequence[Raw], pieces: int = 4) -> list[str]:
    """One image of each kind: two are of a kind if the same filters fit both."""
    return _find_different_images(_find_filters(documents), pieces)


def _find_filters(documents: Sequence[Raw]) -> tuple[str, ...]:
    """The entries of `images` that the documents' profiles have."""
    profiles = (profile for part in find_parts(documents) for profile in part["profiles"])
    return tuple(sorted({entry for profile in profiles for entry in profile.get("images", ())}))


@lru_cache(maxsize=5000)
def _find_different_images(filters: tuple[str, ...], pieces: int) -> list[str]:
    texts = make_texts(pieces)
    # Sets of texts as the bits of a number: what fits all filters so far in the same way.
    kinds = [(1 << len(texts)) - 1]
    for entry in filters:
        fitting = _find_fitting(entry, pieces)
        kinds = [part for kind in kinds for part in (kind & fitting, kind & ~fitting) if part]
    found = {_find_kind(filters, text): text for text in _find_images(filters)}
    firsts = (texts[(kind & -kind).bit_length() - 1] for kind in kinds)
    # The shorter example is kept.
    found.update((_find_kind(filters, text), text) for text in firsts)
    return list(found.values())


def _find_kind(filters: tuple[str, ...], image: str) -> tuple[bool, ...]:
    return tuple(fits_image(entry, image) for entry in filters)


@lru_cache(maxsize=5000)
def _find_fitting(entry: str, pieces: int) -> int:
    """The texts that an entry fits, as the bits of a number."""
    # As `fits_image` says, of all texts at once.
    fit = to_expression(entry).fullmatch
    fitting = zip(*(map(fit, texts) for texts in _write_texts(pieces)), strict=True)
    return int("".join("1" if any(ways) else "0" for ways in fitting)[::-1], 2)


@lru_cache(maxsize=8)
def make_texts(pieces: int) -> tuple[str, ...]:
    """All texts of so many pieces, or of fewer; the shorter first."""
    texts = ("".join(parts) for count in range(1, pieces + 1) for parts in product(PIECES, repeat=count))
    return tuple(dict.fromkeys(texts))


@lru_cache(maxsize=8)
def _write_texts(pieces: int) -> tuple[tuple[str, ...], ...]:
    """The texts, and how else each can be written, or the same again."""
    written = map(write_image, make_texts(pieces))
    return tuple(zip(*((first, *(others or [first])) for first, *others in written), strict=True))


def _find_images(filters: Sequence[str]) -> Iterator[str]:
    """Each filter, with its stars filled in many ways; and an image that is too long for all but `"*"`."""
    others = {part for entry in filters for part in entry.split("*")}
    fillings = [*dict.fromkeys([*FILLINGS, *sorted(others)])]
    for entry in filters:
        parts = entry.split("*")
        count = len(parts) - 1
        ways = (
            product(fillings, repeat=count) if len(fillings) ** count <= _MOST_FILLINGS else _fill_some(count, fillings)
        )
        for filling in ways:
            image = "".join(chain.from_iterable(zip(parts, [*filling, ""], strict=True)))
            if image:
                yield image
    yield "z" * (LONGEST_IMAGE + 1)


def _fill_some(count: int, fillings: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Two stars are filled in all ways, the others with nothing or with a fresh letter."""
    for rest in ("", "z"):
        for first, second in combinations(range(count), 2):
            for one, other in product(fillings, repeat=2):
                yield tuple(one if place == first else other if place == second else rest for place in range(count))


# All subjects


def all_subjects(
    documents: Sequence[Raw],
    *,
    at: float | None = None,
    since: float = 0,
    images: Sequence[str] | None = None,
) -> Iterator[Subject]:
    """Everybody, with every choice that a document has, at every moment that may make a difference, on every image."""
    choices = [None, *_find_names(documents, "images")]
    sizes = [NO_SIZE, *_find_names(documents, "sizes")]
    moments = find_moments(documents, at=at, since=since)
    shown = find_images(documents) if images is None else images
    for (user, groups), image, choice, size, moment in product(find_people(documents), shown, choices, sizes, moments):
        yield Subject(user, groups, image, choice, size, moment)


def _find_names(documents: Sequence[Raw], key: str) -> list[str]:
    return sorted({entry["name"] for part in find_parts(documents) for entry in part.get(key, ())})


def holders(
    document: Raw,
    thing: tuple[str, str],
    order: str = "specificity",
    subjects: Iterable[Subject] | None = None,
) -> set[Subject]:
    """The subjects that get a thing, such as ``("env", "A")``: see `gets`.

    Args:
        document: The document.
        thing: A kind and a name.
        order: The merge order.
        subjects: Who is asked about; by default everybody.
    """
    entries = read(document, order)
    asked = all_subjects([document], images=find_different_images([document])) if subjects is None else subjects
    return {each for each in asked if gets(result(entries, each, order), each, *thing)}


# The first difference


def find_difference_simply(old: Raw, new: Raw, order: str, subjects: Iterable[Subject]) -> Subject | None:
    """The first subject that gets something else: each is asked for. `find_difference` finds one too, and is faster."""
    entries = read(old, order), read(new, order)
    for subject in subjects:
        if result(entries[0], subject, order) != result(entries[1], subject, order):
            return subject
    return None


def find_difference(
    old: Raw, new: Raw, order: str, *, at: float | None = None, since: float = 0, pieces: int = 4
) -> Subject | None:
    """A subject that gets something else from the new document than from the old one; None if nobody does.

    What a subject gets depends on which entries fit its person, its moment and its image, and on its choices. So people
    for whom the same entries fit are asked for once, and so are moments and images.
    """
    documents = old, new
    one, other = _Fits(read(old, order)), _Fits(read(new, order))
    people = _unite(find_people(documents), lambda each: (one.who(*each), other.who(*each)))
    moments = _unite(find_moments(documents, at=at, since=since), lambda each: (one.when(each), other.when(each)))
    images = _unite(find_different_images(documents, pieces), lambda each: (one.what(each), other.what(each)))
    equal: set[tuple[int, int]] = set()
    seen: set[tuple[int, int]] = set()
    for (who, person), (when, moment) in product(people.items(), moments.items()):
        fits = who[0] & when[0], who[1] & when[1]
        if fits in seen:
            continue
        seen.add(fits)
        offer = one.offer(fits[0])
        if offer != other.offer(fits[1]):
            return Subject(*person, next(iter(images.values())), at=moment)
        # The offer is the same, and so is the image that each choice leads to. What is not offered is refused.
        offered_images, offered_sizes, _ = offer
        for choice in (None, *(each[0] for each in offered_images)):
            runs = next((each[2] for each in offered_images if choice in (None, each[0])), None)
            shown = images if runs is None else {(one.what(runs), other.what(runs)): next(iter(images.values()))}
            for what, image in shown.items():
                for size in (NO_SIZE, *(each[0] for each in offered_sizes)):
                    case = fits[0] & what[0] | one.size(size), fits[1] & what[1] | other.size(size)
                    if case in equal:
                        continue
                    if one.merge(case[0]) != other.merge(case[1]):
                        return Subject(*person, image, choice, size, moment)
                    equal.add(case)
    return None


def _unite(found: Iterable[T], key: Callable[[T], tuple[int, int]]) -> dict[tuple[int, int], T]:
    """One of those that have the same key."""
    return {key(each): each for each in found}


class _Fits:
    """Which entries of a document fit, as the bits of a number: first profiles, then images, quotas and sizes."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.all = [*entries.profiles, *entries.images, *entries.quotas, *entries.sizes]
        self._merged: dict[int, dict[str, Any]] = {}

    def who(self, user: str, groups: frozenset[str]) -> int:
        return sum(entry.fits_who(user, groups) << bit for bit, entry in enumerate(self.all))

    def when(self, moment: float) -> int:
        return sum(entry.fits_when(moment) << bit for bit, entry in enumerate(self.all))

    def what(self, image: str) -> int:
        return sum(entry.fits_what(image) << bit for bit, entry in enumerate(self.entries.profiles))

    def offer(self, fits: int) -> tuple[tuple[Any, ...], tuple[Any, ...], frozenset[Any]]:
        """The images and the sizes that are offered, and the quotas that count."""
        first_image = len(self.entries.profiles)
        first_quota = first_image + len(self.entries.images)
        first_size = first_quota + len(self.entries.quotas)
        return (
            tuple(describe_image(each) for bit, each in enumerate(self.entries.images, first_image) if fits >> bit & 1),
            tuple(describe_size(each) for bit, each in enumerate(self.entries.sizes, first_size) if fits >> bit & 1),
            frozenset(
                describe_quota(each) for bit, each in enumerate(self.entries.quotas, first_quota) if fits >> bit & 1
            ),
        )

    def size(self, name: str) -> int:
        """The bit of a size that is offered; 0 for none."""
        return sum(
            1 << len(self.all) - len(self.entries.sizes) + place
            for place, entry in enumerate(self.entries.sizes)
            if entry.raw["name"] == name
        )

    def merge(self, fits: int) -> dict[str, Any]:
        """What profiles give, with a size behind them."""
        if fits not in self._merged:
            self._merged[fits] = merge(entry for bit, entry in enumerate(self.all) if fits >> bit & 1)
        return self._merged[fits]
