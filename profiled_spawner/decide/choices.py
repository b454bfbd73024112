"""Which images and sizes a person may choose, and what each size gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import TypeGuard, TypeVar

from ..document.hard import PODS, split_name
from ..document.limits import MAX_CHOICES
from ..document.model import DEFAULT_SIZE, GPU, Document, Entry, ImageChoice, Size
from ..document.quantity import Quantity, format_amount, format_cores, is_whole_and_equal, parse_quantity
from ..errors import ChoiceError, PodError
from .matching import MergeOrder, Subject, match_profiles, matches_person
from .merging import Amounts, Resources, Setting, check_merge_input, merge_profiles, reconcile_resources

__all__ = [
    "OPTIONS_KEY",
    "Choice",
    "Offer",
    "choose",
    "describe_default",
    "describe_hard",
    "describe_resources",
    "describe_size",
    "find_offer",
    "is_readable",
    "quote_choice",
    "rank_resource",
]

C = TypeVar("C", bound=Entry)

OPTIONS_KEY = "profiled"
"""The key of a server's options under which the choice is stored; no other key of them is ours."""

_DISPLAY_NAMES = {"cpu": "CPU", GPU: "GPU"}
_MAX_QUOTED = 60
_MAX_LISTED = 20
# A size that sets only the resource in question.
_ONLY = Size(0)


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

    @property
    def image_name(self) -> str:
        """The image that the server runs; empty if the hub's settings decide that."""
        return (self.image and self.image.image) or ""


def find_offer(document: Document, subject: Subject) -> Offer:
    """What the document offers to this user at this moment; the subject's image has no say.

    Of images and of sizes, at most `MAX_CHOICES` each, the first of several ConfigMaps': nobody can use a longer form.
    """
    return Offer(tuple(_find_offered(document.images, subject)), tuple(_find_offered(document.sizes, subject)))


def _find_offered(choices: Sequence[C], subject: Subject) -> Iterator[C]:
    return islice((choice for choice in choices if matches_person(choice, subject)), MAX_CHOICES)


def is_readable(options: object) -> TypeGuard[dict[str, object] | None]:
    """Whether a choice has the form that `choose` reads; what it names may still not be offered."""
    return options is None or (isinstance(options, dict) and options.keys() <= {"image", "size"})


def choose(document: Document, subject: Subject, options: object) -> Choice:
    """What a server is started with. It is always a part of what `find_offer` returns.

    Args:
        document: The document.
        subject: Whose server it is, and when; its image has no say.
        options: What was chosen, as the server's options have it under `OPTIONS_KEY`: ``{"image": NAME, "size":
            NAME}``, either of which may be left out. Through the REST API it may be anything that JSON has.

    Raises:
        ChoiceError: It is not offered. Whether it is offered to others is not said.
    """
    if not is_readable(options):
        raise ChoiceError(
            f'the option {OPTIONS_KEY!r} must be {{"image": NAME, "size": NAME}}, and is {quote_choice(options)}'
        )
    image, size = (options or {}).get("image"), (options or {}).get("size")
    chosen = _find(document.images, "image", image, subject, ()) or next(_find_offered(document.images, subject), None)
    if size == DEFAULT_SIZE:
        return Choice(chosen)
    return Choice(chosen, _find(document.sizes, "size", size, subject, (DEFAULT_SIZE,)))


def _find(choices: Sequence[C], noun: str, name: object, subject: Subject, others: Sequence[str]) -> C | None:
    """The choice of this name, if it is offered; None if there is no name."""
    if name in (None, ""):
        return None
    # Only a choice of this name is checked: a start does not pay for the others, as a form does.
    for position, choice in enumerate(choices):
        if choice.name == name and matches_person(choice, subject) and _is_among_first(choices, position, subject):
            return choice
    offered = tuple(_find_offered(choices, subject))
    names = [*others, *(choice.shown_name for choice in offered[:_MAX_LISTED])]
    hint = f"choose one of: {', '.join(names)}{', …' if len(offered) > _MAX_LISTED else ''}"
    raise ChoiceError(
        f"there is no {noun} {quote_choice(name)} for {subject.user}; {hint if names else f'no {noun} can be chosen'}"
    )


def _is_among_first(choices: Sequence[Entry], position: int, subject: Subject) -> bool:
    """Whether fewer than `MAX_CHOICES` match before this position."""
    return position < MAX_CHOICES or sum(matches_person(each, subject) for each in choices[:position]) < MAX_CHOICES


def describe_size(size: Size) -> str:
    """The resources of a size, in the words of `describe_resources`; empty if it sets no resources."""
    # As `merge_profiles` would, but faster: a form may have many sizes.
    limits, requests = _find_texts(size.limits), _find_texts(size.requests)
    resources = sorted({*limits, *requests}, key=rank_resource)
    return ", ".join(filter(None, (_describe_alone(each, limits.get(each), requests.get(each)) for each in resources)))


def _find_texts(amounts: Mapping[str, Quantity | None]) -> dict[str, str]:
    return {resource: quantity.text if quantity else "" for resource, quantity in amounts.items()}


# Quantities with different texts may be equal, so the texts are the arguments.
@lru_cache(maxsize=1024)
def _describe_alone(resource: str, limit: str | None, request: str | None) -> str:
    """One resource of a size, which no other resource changes; empty text for null, and None for what is not set."""
    if limit and request is None and (quantity := parse_quantity(limit)).amount:
        # A limit alone stays as it is.
        return _describe_resource(resource, Resources({resource: Setting(quantity, _ONLY)}, {}, ()))
    limits, requests = (
        {} if text is None else {resource: Setting(parse_quantity(text) if text else None, _ONLY)}
        for text in (limit, request)
    )
    return describe_resources(reconcile_resources(Amounts(limits, requests)), always=limits)


def describe_default(
    document: Document,
    subject: Subject,
    order: MergeOrder,
    *,
    images: Collection[str],
    own_limits: Mapping[str, Quantity],
    own_requests: Mapping[str, Quantity],
) -> str:
    """What a server without a size gets, in the words of `describe_resources`; empty if the image may change it.

    Args:
        document: The document.
        subject: Whose server it is; its image has no say.
        order: The merge order.
        images: Every image that the server may run, at least one.
        own_limits: The limits of the hub's own settings.
        own_requests: The guarantees of the hub's own settings.
    """
    first, *others = {*images}
    if others and any(
        profile.names_what and (profile.limits or profile.requests) and matches_person(profile, subject)
        for profile in document.profiles
    ):
        return ""
    try:
        applied = match_profiles(document, replace(subject, image=first), order)
        check_merge_input(applied)
    except PodError:
        # No server starts with so much. The start says so.
        return ""
    return describe_resources(reconcile_resources(merge_profiles(applied), own_limits, own_requests))


def describe_resources(resources: Resources, always: Collection[str] = ("memory", "cpu")) -> str:
    """Limits and guarantees in words: memory first, then CPU, then the others by name.

    Args:
        resources: What a container gets.
        always: Resources to mention even if they have no limit and no guarantee.

    Example:
        ``8 GiB of memory (4 GiB guaranteed), 4 CPUs, 1 GPU``, or ``no memory limit, no GPU``.
    """
    return ", ".join(
        _describe_resource(resource, resources)
        for resource in sorted({*resources.limits, *resources.requests, *always}, key=rank_resource)
    )


def _describe_resource(resource: str, resources: Resources) -> str:
    limit, request = resources.limits.get(resource), resources.requests.get(resource)
    name = _DISPLAY_NAMES.get(resource, resource)
    if limit:
        text = _describe_amount(resource, limit.value)
    else:
        text = f"no {name}" if is_whole_and_equal(resource) else f"no {name} limit"
    if request and not (limit and request.value == limit.value):
        text += f" ({_format_amount(resource, request.value)} guaranteed)"
    return text


def describe_hard(hard: Mapping[str, Quantity]) -> str:
    """Amounts by the names of a Kubernetes ResourceQuota, in the words of `describe_resources`, in the given order.

    Example:
        ``4 GPUs, 256 GiB of memory, 128 GiB of memory guaranteed, 20 servers``, or ``no GPU``.
    """
    return ", ".join(_describe_hard_amount(name, quantity) for name, quantity in hard.items())


def _describe_hard_amount(name: str, quantity: Quantity) -> str:
    if name == PODS:
        servers = int(quantity.amount)
        return f"{servers or 'no'} server{'' if servers == 1 else 's'}"
    kind, resource = split_name(name)
    text = _describe_amount(resource, quantity) if quantity.amount else f"no {_DISPLAY_NAMES.get(resource, resource)}"
    return f"{text} guaranteed" if kind == "requests" and not is_whole_and_equal(resource) else text


def _describe_amount(resource: str, quantity: Quantity) -> str:
    """The amount with the resource, such as ``8 GiB of memory`` or ``2 GPUs``."""
    name, amount = _DISPLAY_NAMES.get(resource, resource), _format_amount(resource, quantity)
    if _counts_bytes(resource):
        return f"{amount} of {name}"
    return f"{amount} {name}{'s' if name != resource and quantity.amount > 1 else ''}"


def _format_amount(resource: str, quantity: Quantity) -> str:
    """The amount with its unit in words, such as ``8 GiB``; CPUs as a decimal number, such as ``0.5``."""
    if resource == "cpu":
        return format_cores(quantity)
    text = format_amount(resource, quantity)
    if not _counts_bytes(resource):
        return text
    number = text.rstrip("KMGTPEik")
    unit = text.removeprefix(number)
    return f"{number} {unit}B" if unit else f"{number} bytes"


def _counts_bytes(resource: str) -> bool:
    return "/" not in resource and resource != "cpu"


def quote_choice(choice: object) -> str:
    """The choice as a message can quote it, shortened: it may be any JSON value, of any length."""
    shown = repr(choice)
    return shown if len(shown) <= _MAX_QUOTED else f"{shown[:_MAX_QUOTED]}…"


def rank_resource(resource: str) -> tuple[bool, bool, str]:
    """A sort key for resource names: memory first, then CPU, then the others by name."""
    return resource != "memory", resource != "cpu", resource
