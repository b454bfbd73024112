"""Which images and sizes a person may choose, and what each size gives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ..document.limits import MAX_CHOICES
from ..document.model import DEFAULT_SIZE, GPU, Document, Entry, ImageChoice, Size
from ..document.quantity import format_amount, is_whole_and_equal
from ..errors import ChoiceError
from .matching import Subject, fits_person
from .merging import Resources, merge_profiles, settle_resources

__all__ = [
    "OPTIONS_KEY",
    "Choice",
    "Offer",
    "choose",
    "describe_resources",
    "describe_size",
    "echo",
    "find_offer",
]

C = TypeVar("C", bound=Entry)

OPTIONS_KEY = "profiled"
"""The key of a server's options under which the choice is stored. No option of ``profile_list`` can collide with it."""

_SHOWN = {"memory": "memory", "cpu": "CPU", GPU: "GPU"}
_LONGEST_ECHO = 60
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person may choose for a server, in the document's order.

    Attributes:
        images: The images. If there are any, the server runs the chosen one, or else the first.
        sizes: The sizes.
    """

    images: tuple[ImageChoice, ...] = ()
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a server is started with.

    Attributes:
        image: The image that was chosen, or else the first that is offered; None if none is.
        size: The size that was chosen; None without one.
    """

    image: ImageChoice | None = None
    size: Size | None = None


def find_offer(document: Document, subject: Subject) -> Offer:
    """What the document offers to this user at this moment; the subject's image has no say.

    Of images and of sizes, at most `MAX_CHOICES` each, the first of several ConfigMaps': nobody could use a form of
    more.
    """
    return Offer(
        tuple(islice((image for image in document.images if fits_person(image, subject)), MAX_CHOICES)),
        tuple(islice((size for size in document.sizes if fits_person(size, subject)), MAX_CHOICES)),
    )


def choose(offer: Offer, user: str, options: object) -> Choice:
    """What a server is started with.

    Args:
        offer: What its owner may choose.
        user: The owner's name, for an error.
        options: What was chosen, as the server's options have it under `OPTIONS_KEY`: ``{"image": NAME, "size":
            NAME}``, either of which may be left out. Through the REST API it may be anything that JSON has.

    Raises:
        ChoiceError: It is not offered. Whether it is offered to others is not said.
    """
    options = {} if options is None else options
    if not isinstance(options, dict) or not options.keys() <= {"image", "size"}:
        raise ChoiceError(f'the option {OPTIONS_KEY!r} must be {{"image": NAME, "size": NAME}}, and is {echo(options)}')
    image, size = options.get("image"), options.get("size")
    chosen = _find(offer.images, "image", image, user, ()) or next(iter(offer.images), None)
    if size == DEFAULT_SIZE:
        return Choice(chosen)
    return Choice(chosen, _find(offer.sizes, "size", size, user, (DEFAULT_SIZE,)))


def _find(choices: Sequence[C], noun: str, name: object, user: str, others: Sequence[str]) -> C | None:
    """The choice of this name; None if there is no name."""
    if name in (None, ""):
        return None
    for choice in choices:
        if choice.name == name:
            return choice
    names = [*others, *(choice.shown_name for choice in choices[:_MOST_TOLD])]
    hint = f"choose one of: {', '.join(names)}{', …' if len(choices) > _MOST_TOLD else ''}"
    raise ChoiceError(f"there is no {noun} {echo(name)} for {user}; {hint if names else f'no {noun} can be chosen'}")


def describe_size(size: Size) -> str:
    """What a size gives, as `describe_resources` has it; empty where that is no resources."""
    return describe_resources(settle_resources(merge_profiles([size])), always=size.limits)


def describe_resources(resources: Resources, always: Collection[str] = ("memory", "cpu")) -> str:
    """Limits and guarantees in a few words, such as ``memory 2Gi (1Gi guaranteed), CPU without limit``.

    Args:
        resources: What a container gets.
        always: Resources to speak of even where there is nothing of them.
    """
    parts = []
    for resource in sorted({*resources.limits, *resources.requests, *always}, key=_rank):
        limit, request = resources.limits.get(resource), resources.requests.get(resource)
        text = _SHOWN.get(resource, resource)
        if limit:
            text += f" {format_amount(resource, limit.value)}"
        else:
            text = f"no {text}" if is_whole_and_equal(resource) else f"{text} without limit"
        if request and not (limit and request.value == limit.value):
            text += f" ({format_amount(resource, request.value)} guaranteed)"
        parts.append(text)
    return ", ".join(parts)


def echo(choice: object) -> str:
    """What was chosen, as a message can quote it: it may be anything that JSON has, of any length."""
    shown = repr(choice)
    return shown if len(shown) <= _LONGEST_ECHO else f"{shown[:_LONGEST_ECHO]}…"


def _rank(resource: str) -> tuple[bool, bool, str]:
    """Memory first, then the CPU, then the others by name."""
    return resource != "memory", resource != "cpu", resource
