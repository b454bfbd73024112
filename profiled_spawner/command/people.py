"""Explains what several people get, on each of their images, and says what is the same once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..decide.choices import Offer, choose, find_offer
from ..decide.image_classes import find_image_classes
from ..decide.matching import MergeOrder, Subject, matches_person
from ..document.model import Document
from .explanation import Explanation, explain_document, format_offer, format_settings, format_text
from .terminal import Style, align, printable

__all__ = ["PersonExplained", "explain_person", "format_people"]

T = TypeVar("T")

_MOST_NAMES = 10
_RULE = "─" * 40


@dataclass(frozen=True, slots=True)
class PersonExplained:
    """What one person gets.

    Attributes:
        subject: The person, and the moment; the image has no say.
        offer: What the person may choose.
        explanations: One for each image.
        complete: False if there are images for which none is here: the profiles tell apart too many.
    """

    subject: Subject
    offer: Offer
    explanations: tuple[Explanation, ...]
    complete: bool


def explain_person(
    document: Document, subject: Subject, order: MergeOrder, *, image_choice: str | None, size: str
) -> PersonExplained:
    """Explains what a person gets on an image: the subject's, or the chosen one. Without both, on each possible one.

    The possible ones are those that the person may choose. Where the document leaves the image to the hub's settings,
    they are one of each class of images that the person's profiles tell apart.

    Args:
        document: The document.
        subject: The person, the moment, and the image, which may be empty.
        order: The merge order.
        image_choice: The name of the chosen image; None for none.
        size: The name of the chosen size.

    Raises:
        ChoiceError: The choice is not offered to the person.
    """
    offer = find_offer(document, subject)
    names: Sequence[str | None] = [image_choice]
    if not subject.image and image_choice is None and offer.images:
        names = [image.name for image in offer.images]
    explanations: list[Explanation] = []
    complete = True
    for name in names:
        choice = choose(document, subject, {"image": name, "size": size})
        image = choice.image_name or subject.image
        if image:
            explanations.append(explain_document(document, replace(subject, image=image), order, choice))
            continue
        found = find_image_classes(
            entry
            for profile in document.profiles
            if profile.names_what and matches_person(profile, subject)
            for entry in profile.images or ()
        )
        complete = complete and found.complete
        explanations += [
            explain_document(document, replace(subject, image=each.example), order, choice, each)
            for each in found.classes
        ]
    return PersonExplained(subject, offer, tuple(explanations), complete)


def format_people(people: Sequence[PersonExplained], style: Style, *, show_values: bool = False) -> str:
    """What people get, as text. Those who get the same are named together, and so are images that give the same.

    Args:
        people: At least one.
        style: The colours.
        show_values: Show the values of environment variables; otherwise they are ``***``.
    """
    if len(people) == 1 and len(people[0].explanations) == 1:
        return format_text(people[0].explanations[0], style, show_values=show_values)
    alike = _group((_make_key(person), person) for person in people)
    texts = [
        "\n".join([*_name_people(together, style), *_format_images(together, style, show_values)])
        for together in alike.values()
    ]
    if len(alike) > 1:
        texts.insert(0, style.bold(f"{len(people):,} users, {len(alike):,} different sets of settings"))
    return f"\n\n{style.dim(_RULE * 2)}\n\n".join(texts)


def _make_key(person: PersonExplained) -> Hashable:
    # With the values, since people with different ones do not get the same.
    return (
        tuple(format_offer(person.offer, Style())),
        tuple(
            (each.shown_image, format_settings(each, Style(), show_values=True, show_reasons=False))
            for each in person.explanations
        ),
    )


def _name_people(together: Sequence[PersonExplained], style: Style) -> list[str]:
    subjects = [person.subject for person in together]
    if len(subjects) == 1:
        names = [
            f"{style.bold('User')}    {printable(subjects[0].user)}",
            f"{style.bold('Groups')}  {printable(', '.join(sorted(subjects[0].groups))) or 'none'}",
        ]
    else:
        rows = [[each.user, ", ".join(sorted(each.groups))] for each in subjects[:_MOST_NAMES]]
        names = [style.bold(f"{len(subjects):,} users with their groups")]
        names += [f"  {'  '.join(cells)}".rstrip() for cells in align(rows)]
        if subjects[_MOST_NAMES:]:
            names.append(f"  … and {len(subjects) - _MOST_NAMES:,} more, whom --format json names")
    offer = format_offer(together[0].offer, style)
    return [*names, *(["", *offer] if offer else [])]


def _format_images(together: Sequence[PersonExplained], style: Style, show_values: bool) -> list[str]:
    same_reasons = len({tuple(map(_format_all, person.explanations)) for person in together}) == 1
    lines: list[str] = []
    for alike in _group((_format_all(each), each) for each in together[0].explanations).values():
        images = [f"{style.bold('Image')}   {printable(alike[0].shown_image)}"]
        images += [f"        {printable(each.shown_image)}" for each in alike[1:]]
        settings = format_settings(alike[0], style, show_values=show_values, show_reasons=same_reasons)
        lines += ["", *([style.dim(_RULE), ""] if lines else []), *images, "", settings]
    return lines


def _format_all(explanation: Explanation) -> str:
    return format_settings(explanation, Style(), show_values=True)


def _group(pairs: Iterable[tuple[Hashable, T]]) -> Mapping[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
