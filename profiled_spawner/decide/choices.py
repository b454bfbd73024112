"""Which sizes a person may choose, and what each gives."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from ..document.limits import MAX_SIZES
from ..document.model import DEFAULT_SIZE, GPU, Document, Size
from ..document.quantity import format_amount, is_whole_and_equal
from ..errors import SizeError
from .matching import Subject, fits
from .merging import Resources, merge_profiles, reconcile_resources

__all__ = ["choose_size", "describe_resources", "describe_size", "echo", "find_sizes"]

_SHOWN = {"memory": "memory", "cpu": "CPU", GPU: "GPU"}
_LONGEST_ECHO = 60
_MOST_TOLD = 20


def find_sizes(document: Document, subject: Subject) -> tuple[Size, ...]:
    """The sizes that are for this user, in the document's order; the image has no say.

    They are at most `MAX_SIZES`, the first of several ConfigMaps' sizes: a form of more would be of no use to anybody.
    """
    return tuple(islice((size for size in document.sizes if fits(size, subject)), MAX_SIZES))


def choose_size(document: Document, subject: Subject, choice: object) -> Size | None:
    """The size that was chosen for the subject's server; None where that is ``default``, or nothing.

    Args:
        document: Where the sizes are.
        subject: Whose server it is, whoever chooses.
        choice: The name of a size. Through the REST API it may be anything that JSON has.

    Raises:
        SizeError: There is no such size for the subject. Whether there is one for others is not told.
    """
    if choice in (None, "", DEFAULT_SIZE):
        return None
    sizes = find_sizes(document, subject)
    for size in sizes:
        if size.name == choice:
            return size
    raise SizeError(
        f"there is no size {echo(choice)} for {subject.user}; "
        f"choose one of: {', '.join([DEFAULT_SIZE, *(size.shown_name for size in sizes[:_MOST_TOLD])])}"
        f"{', …' if len(sizes) > _MOST_TOLD else ''}"
    )


def describe_size(size: Size) -> str:
    """What a size gives, as `describe_resources` has it; empty where that is no resources."""
    return describe_resources(reconcile_resources(merge_profiles([size])), always=size.limits)


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
