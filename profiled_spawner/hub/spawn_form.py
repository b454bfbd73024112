"""The part of JupyterHub's spawn form that offers sizes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..decide.choices import describe_size, quote_choice
from ..document.model import DEFAULT_SIZE, Size

__all__ = ["FIELD", "format_form"]

FIELD = "profiled-size"
"""The form's field that holds the chosen size. An admin's own form may well have one called ``size``."""


def format_form(sizes: Sequence[Size], choice: object = None) -> str:
    """The sizes as a part of JupyterHub's spawn form: HTML with the classes of Bootstrap 5.

    Empty where there is nothing to choose from, unless what was chosen last is gone: without a form, JupyterHub would
    start the server with that.

    Args:
        sizes: What to offer.
        choice: The last choice, which is selected if it is still available; if it is not, the form says so.
    """
    gone = choice not in (None, "", DEFAULT_SIZE, *(size.name for size in sizes))
    if not sizes and not gone:
        return ""
    chosen = DEFAULT_SIZE if gone or not choice else choice
    rows = [(DEFAULT_SIZE, "Default", "The usual memory and CPU of your server.", "")]
    rows += [(size.name or "", size.name or "", size.description or "", describe_size(size)) for size in sizes]
    options = "".join(
        _format_option(f"{FIELD}-{number}", *row, checked=row[0] == chosen) for number, row in enumerate(rows)
    )
    notice = f"<p>Your last size, {escape(quote_choice(choice))}, is not available now.</p>" if gone else ""
    return f"""\
<fieldset id="profiled-sizes" class="my-4">
<legend>Size</legend>
{notice}{options}</fieldset>
"""


def _format_option(id_: str, value: str, name: str, description: str, gives: str, *, checked: bool) -> str:
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
