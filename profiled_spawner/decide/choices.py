"""Which sizes a person may choose, what each gives, and the part of the spawn page that offers them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from itertools import islice

from ..document.limits import MAX_SIZES
from ..document.model import DEFAULT_SIZE, GPU, Document, Size
from ..document.quantity import format_amount, is_whole_and_equal
from ..errors import SizeError
from .matching import Subject, fits
from .merging import Resources, merge_profiles, settle_resources

__all__ = ["FIELD", "choose_size", "describe_resources", "describe_size", "find_sizes", "format_form"]

FIELD = "profiled-size"
"""The form's field that holds the chosen size. An admin's own form may well have one called ``size``."""

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
        f"there is no size {_echo(choice)} for {subject.user}; "
        f"choose one of: {', '.join([DEFAULT_SIZE, *(size.shown_name for size in sizes[:_MOST_TOLD])])}"
        f"{', …' if len(sizes) > _MOST_TOLD else ''}"
    )


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


def format_form(sizes: Sequence[Size], choice: object = None) -> str:
    """The sizes as a part of JupyterHub's spawn form: HTML with the classes of Bootstrap 5.

    Empty where there is nothing to choose from, unless what was chosen last is gone: without a form, JupyterHub would
    start the server with that.

    Args:
        sizes: What to offer.
        choice: The last choice, which is selected if it is still to be had; where it is not, that is told.
    """
    gone = choice not in (None, "", DEFAULT_SIZE, *(size.name for size in sizes))
    if not sizes and not gone:
        return ""
    chosen = DEFAULT_SIZE if gone or not choice else choice
    rows = [(DEFAULT_SIZE, "Default", "What the server is given without a size.", "")]
    rows += [(size.name or "", size.name or "", size.description or "", describe_size(size)) for size in sizes]
    options = "".join(_format_option(f"{FIELD}-{number}", *row, row[0] == chosen) for number, row in enumerate(rows))
    notice = f"<p>The size {escape(_echo(choice))}, which was chosen last, is not available now.</p>" if gone else ""
    return f"""\
<fieldset id="profiled-sizes" class="my-4">
<legend>Size</legend>
{notice}{options}</fieldset>
"""


def _format_option(id_: str, value: str, name: str, description: str, gives: str, checked: bool) -> str:
    about = [escape(description)] if description else []
    if gives:
        about.append(f'<span class="text-body-secondary">{escape(gives[0].upper() + gives[1:])}</span>')
    # 12px is what KubeSpawner's own list has around its buttons.
    return f"""\
<label for="{id_}" class="d-flex align-items-baseline border-bottom py-2">
  <span style="padding: 0 12px"><input type="radio" name="{FIELD}" id="{id_}" value="{escape(value)}"\
 aria-labelledby="{id_}-name" aria-describedby="{id_}-about"{" checked" if checked else ""}></span>
  <span><strong id="{id_}-name">{escape(name)}</strong><br><span id="{id_}-about">{"<br>".join(about)}</span></span>
</label>
"""


def _echo(choice: object) -> str:
    shown = repr(choice)
    return shown if len(shown) <= _LONGEST_ECHO else f"{shown[:_LONGEST_ECHO]}…"


def _rank(resource: str) -> tuple[bool, bool, str]:
    """Memory first, then the CPU, then the others by name."""
    return resource != "memory", resource != "cpu", resource
