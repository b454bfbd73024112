"""The part of JupyterHub's spawn page that offers images and sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import cache
from html import escape
from types import MappingProxyType
from typing import NamedTuple

from ..decide.choices import Offer, describe_size, is_readable, quote_choice
from ..document.model import DEFAULT_SIZE, ImageChoice, Size
from ..document.times import describe_end

__all__ = ["FIELDS", "format_form"]

FIELDS: Mapping[str, str] = MappingProxyType({"profiled-image": "image", "profiled-size": "size"})
"""The form's fields, and the keys of the options that they set."""

_MONTH = 31 * 86_400
# About as many rows as a list shows at once. Of more, the form says how many: not every browser shows a scroll bar.
_MANY = 6

# A long list scrolls by itself, so that what is below it stays near. The selected row stays in view meanwhile, unless
# it has the focus: then the browser scrolls to it. Its height is bounded, or a long name would hide the others.
_STYLE = """\
<style>
.profiled-choices { max-height: min(32rem, 70vh); overflow-y: auto; }
.profiled-choices > :has(:checked) { background: var(--bs-tertiary-bg); }
.profiled-choices > :has(:checked:not(:focus)) {
  position: sticky; top: 0; bottom: 0; max-height: 12rem; overflow-y: auto;
}
</style>
"""


class _Row(NamedTuple):
    """A line of the form: the value that it sends, its name and description, and what else is to be known of it.

    It cannot be chosen if it is full.
    """

    value: str
    name: str
    description: str
    facts: tuple[str, ...] = ()
    is_full: bool = False


def format_form(
    offer: Offer,
    options: object,
    zone: tzinfo,
    at: float,
    *,
    default: str = "",
    full: Mapping[str, str] = MappingProxyType({}),
    is_alone: bool = True,
) -> str:
    """Returns the images and sizes as a part of JupyterHub's spawn page: HTML with the classes of Bootstrap 5.

    It is empty if there is nothing to choose, unless the last choice is gone: without a form, JupyterHub would start
    the server with that. A single image is shown only beside something else.

    Args:
        offer: What the person may choose.
        options: What was chosen last. It may be any JSON value.
        zone: The document's time zone, for the dates on which something ends.
        at: The moment, in seconds since 1970.
        default: What a server without a size gets; empty if that is not known.
        full: The sizes for which a quota has no room now, by name, and why.
        is_alone: Whether the form has no other part.
    """
    last = (options or {}) if is_readable(options) else {}
    unreadable = "" if is_readable(options) else _format_notice("choice", options)

    @cache
    def describe(end: float) -> str:
        return describe_end(end, zone, at)

    sizes = [_make_row(size, describe_size(size), at, describe, full.get(size.name or "", "")) for size in offer.sizes]
    facts = (default,) if default else ()
    usual = _Row(DEFAULT_SIZE, "Default", "" if default else "The usual memory and CPU of your server.", facts)
    size_part = _format_choices("size", [usual, *sizes] if sizes else [], last.get("size"), 2, DEFAULT_SIZE)
    fewest = 2 if is_alone and not size_part and not unreadable else 1
    images = [_make_row(image, "", at, describe) for image in offer.images]
    parts = unreadable + _format_choices("image", images, last.get("image"), fewest) + size_part
    return parts + _STYLE if parts else ""


def _make_row(
    choice: ImageChoice | Size, gives: str, at: float, describe: Callable[[float], str], full: str = ""
) -> _Row:
    """The row of a choice: its description, what it gives, its end if that is near, and why it is full."""
    end = describe(choice.period.end) if choice.period.ends_within(_MONTH, at) else ""
    why = f"not available now: {full}" if full else ""
    facts = tuple(filter(None, (gives, end, why)))
    return _Row(choice.name or "", choice.name or "", choice.description or "", facts, bool(full))


def _format_choices(key: str, rows: Sequence[_Row], last: object, fewest: int, default: str = "") -> str:
    """A group of radio buttons; empty if there are too few, unless the last choice is gone.

    Args:
        key: ``image`` or ``size``.
        rows: The choices.
        last: The last choice, which is selected if it is still offered. If it is not, a notice says so.
        fewest: How many choices are worth showing.
        default: What is the same as no choice.
    """
    # A row that is full stays selected nowhere: browsers would send nothing for it.
    is_gone = last not in (None, "", default, *(row.value for row in rows if not row.is_full))
    if len(rows) < fewest and not is_gone:
        return ""
    chosen = last if last and not is_gone else rows[0].value if rows else ""
    buttons = "".join(_format_button(key, number, row, checked=row.value == chosen) for number, row in enumerate(rows))
    count = f' <small class="fs-6 text-body-secondary">{len(rows)} to choose from</small>' if len(rows) > _MANY else ""
    # The group names the notice as its description, for a screen reader that does not announce an alert of a new page.
    return f"""\
<fieldset id="profiled-{key}s" class="my-4"{f' aria-describedby="profiled-{key}-gone"' if is_gone else ""}>
<legend>{key.capitalize()}{count}</legend>
{_format_notice(key, last) if is_gone else ""}<div class="profiled-choices">
{buttons}</div>
</fieldset>
"""


def _format_notice(key: str, last: object) -> str:
    text = f"Your last {key}, {quote_choice(last)}, is not available now."
    return f'<p id="profiled-{key}-gone" class="alert alert-warning text-break" role="alert">{escape(text)}</p>\n'


def _format_button(key: str, number: int, row: _Row, *, checked: bool) -> str:
    id_ = f"profiled-{key}-{number}"
    # <bdi>: the text finds its own direction, and keeps marks of direction to itself.
    about = f'<span class="d-block"><bdi>{escape(row.description)}</bdi></span>\n' if row.description else ""
    for fact in row.facts:
        about += f'<span class="d-block text-body-secondary">{escape(fact[0].upper() + fact[1:])}</span>\n'
    describes = f' aria-describedby="{id_}-about"' if about else ""
    muted = " text-body-tertiary" if row.is_full else ""
    state = f"{' checked' if checked else ''}{' disabled' if row.is_full else ''}"
    # 12px is what KubeSpawner's own list has around its buttons.
    return f"""\
<label for="{id_}" class="d-flex align-items-baseline border-bottom py-2">
  <span style="padding: 0 12px"><input type="radio" name="profiled-{key}" id="{id_}" value="{escape(row.value)}"\
 aria-labelledby="{id_}-name"{describes}{state}></span>
  <span class="text-break{muted}"><strong id="{id_}-name" class="d-block"><bdi>{escape(row.name)}</bdi></strong>
  <span id="{id_}-about">{about}</span></span>
</label>
"""
