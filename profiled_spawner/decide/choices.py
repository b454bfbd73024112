"""Finds the sizes that a person may choose, and describes what a size gives."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from ..document.limits import MAX_SIZES
from ..document.model import DEFAULT_SIZE, GPU, Document, Size
from ..document.quantity import Quantity, format_amount, format_cores, is_whole_and_equal
from ..errors import SizeError
from .matching import Subject, fits
from .merging import Resources, merge_profiles, reconcile_resources

__all__ = ["choose_size", "describe_resources", "describe_size", "find_sizes", "quote_choice", "rank_resource"]

_DISPLAY_NAMES = {"cpu": "CPU", GPU: "GPU"}
_MAX_QUOTED = 60
_MAX_LISTED = 20


def find_sizes(document: Document, subject: Subject) -> tuple[Size, ...]:
    """The sizes that the user may choose, in the document's order. The image makes no difference.

    Returns:
        At most `MAX_SIZES`. Several ConfigMaps together may have more, but nobody can use a longer form.
    """
    return tuple(islice((size for size in document.sizes if fits(size, subject)), MAX_SIZES))


def choose_size(document: Document, subject: Subject, choice: object) -> Size | None:
    """The size that was chosen for a server.

    Args:
        document: The document with the sizes.
        subject: The server's owner, even if somebody else chooses.
        choice: The name of a size. It is untrusted: through the REST API, it may be any JSON value.

    Returns:
        None if the choice is ``default``, empty or missing.

    Raises:
        SizeError: The user has no such size. The message does not reveal whether others have it.
    """
    if choice in (None, "", DEFAULT_SIZE):
        return None
    sizes = find_sizes(document, subject)
    for size in sizes:
        if size.name == choice:
            return size
    raise SizeError(
        f"there is no size {quote_choice(choice)} for {subject.user}; "
        f"choose one of: {', '.join([DEFAULT_SIZE, *(size.shown_name for size in sizes[:_MAX_LISTED])])}"
        f"{', …' if len(sizes) > _MAX_LISTED else ''}"
    )


def describe_size(size: Size) -> str:
    """The resources of a size, in the words of `describe_resources`; empty if it sets no resources."""
    return describe_resources(reconcile_resources(merge_profiles([size])), always=size.limits)


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
        amount = _format_amount(resource, limit.value)
        plural = "s" if name != resource and limit.value.amount > 1 else ""
        text = f"{amount} of {name}" if _counts_bytes(resource) else f"{amount} {name}{plural}"
    else:
        text = f"no {name}" if is_whole_and_equal(resource) else f"no {name} limit"
    if request and not (limit and request.value == limit.value):
        text += f" ({_format_amount(resource, request.value)} guaranteed)"
    return text


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
