"""The part of JupyterHub's spawn form that offers images and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from html import escape
from types import MappingProxyType

from ..decide.choices import Offer, describe_size, quote_choice
from ..document.model import DEFAULT_SIZE, ImageChoice, Size
from ..document.times import describe_end

__all__ = ["FIELDS", "format_form"]

FIELDS: Mapping[str, str] = MappingProxyType({"profiled-image": "image", "profiled-size": "size"})
"""The form's fields, and the keys of the options that they set."""

_MONTH = 31 * 86_400


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the form: the value that it sends, its name, and what is said about it."""

    value: str
    name: str
    about: tuple[str, ...]


def format_form(offer: Offer, options: object, zone: tzinfo, at: float) -> str:
    """Returns the images and sizes as a part of JupyterHub's spawn form: HTML with the classes of Bootstrap 5.

    It is empty if there is nothing to choose, unless the last choice is gone: without a form, JupyterHub would start
    the server with that.

    Args:
        offer: What the person may choose.
        options: What was chosen last. It may be any JSON value.
        zone: The document's time zone, for the dates on which something ends.
        at: The moment, in seconds since 1970.
    """
    last = options if isinstance(options, dict) else {"size": options}
    images = [_Row(each.name or "", each.name or "", _describe(each, "", zone, at)) for each in offer.images]
    sizes = [
        _Row(each.name or "", each.name or "", _describe(each, describe_size(each), zone, at)) for each in offer.sizes
    ]
    default = _Row(DEFAULT_SIZE, "Default", ("The usual memory and CPU of your server.",))
    return _format_choices("image", images, last.get("image")) + _format_choices(
        "size", [default, *sizes] if sizes else [], last.get("size"), default.value
    )


def _describe(choice: ImageChoice | Size, gives: str, zone: tzinfo, at: float) -> tuple[str, ...]:
    """The lines about a choice: its description, what it gives, and its end if that is near."""
    end = describe_end(choice.period.end, zone, at) if choice.period.ends_within(_MONTH, at) else ""
    return tuple(f"{line[0].upper()}{line[1:]}" for line in (choice.description or "", gives, end) if line)


def _format_choices(key: str, rows: Sequence[_Row], last: object, default: str = "") -> str:
    """A group of radio buttons; empty if there are fewer than two, unless the last choice is gone.

    Args:
        key: ``image`` or ``size``.
        rows: The choices.
        last: The last choice, which is selected if it is still offered. If it is not, a notice says so.
        default: What is the same as no choice.
    """
    is_gone = last not in (None, "", default, *(row.value for row in rows))
    if len(rows) < 2 and not is_gone:
        return ""
    chosen = last if last and not is_gone else rows[0].value if rows else ""
    notice = f"<p>Your last {key}, {escape(quote_choice(last))}, is not available now.</p>\n" if is_gone else ""
    buttons = "".join(_format_button(key, number, row, checked=row.value == chosen) for number, row in enumerate(rows))
    return f"""\
<fieldset id="profiled-{key}s" class="my-4">
<legend>{key.capitalize()}</legend>
{notice}{buttons}</fieldset>
"""


def _format_button(key: str, number: int, row: _Row, *, checked: bool) -> str:
    id_ = f"profiled-{key}-{number}"
    about = "<br>".join(
        f'<span class="text-body-secondary">{escape(line)}</span>' if position else escape(line)
        for position, line in enumerate(row.about)
    )
    # 12px is what KubeSpawner's own list has around its buttons.
    return f"""\
<label for="{id_}" class="d-flex align-items-baseline border-bottom py-2">
  <span style="padding: 0 12px"><input type="radio" name="profiled-{key}" id="{id_}" value="{escape(row.value)}"\
 aria-labelledby="{id_}-name" aria-describedby="{id_}-about"{" checked" if checked else ""}></span>
  <span><strong id="{id_}-name">{escape(row.name)}</strong><br><span id="{id_}-about">{about}</span></span>
</label>
"""
