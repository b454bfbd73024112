"""The part of JupyterHub's spawn form that offers sizes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..decide.choices import describe_size, quote_choice
from ..document.model import DEFAULT_SIZE, Size

__all__ = ["FIELD", "format_form"]

FIELD = "profiled-size"
"""The form's field for the size. It is not called ``size``, because an admin's own form may have such a field."""


def format_form(sizes: Sequence[Size], choice: object = None) -> str:
    """Returns the part of JupyterHub's spawn form that offers sizes: HTML with Bootstrap 5 classes.

    It is empty if there are no sizes. But if the last choice is gone, the form says so, because without a form
    JupyterHub would start the server with that choice.

    Args:
        sizes: The sizes to offer.
        choice: The last choice. If it is available it is selected, otherwise Default is.
    """
    is_gone = choice not in (None, "", DEFAULT_SIZE, *(size.name for size in sizes))
    if not sizes and not is_gone:
        return ""
    chosen = DEFAULT_SIZE if is_gone or not choice else choice
    rows = [(DEFAULT_SIZE, "Default", "The usual memory and CPU of your server.", "")]
    rows += [(size.name or "", size.name or "", size.description or "", describe_size(size)) for size in sizes]
    options = "".join(
        _format_option(f"{FIELD}-{number}", *row, checked=row[0] == chosen) for number, row in enumerate(rows)
    )
    notice = f"<p>Your last size, {escape(quote_choice(choice))}, is not available now.</p>" if is_gone else ""
    return f"""\
<fieldset id="profiled-sizes" class="my-4">
<legend>Size</legend>
{notice}{options}</fieldset>
"""


def _format_option(id_: str, value: str, name: str, description: str, gives: str, *, checked: bool) -> str:
    about = [escape(description)] if description else []
    if gives:
        about.append(f'<span class="text-body-secondary">{escape(gives[0].upper() + gives[1:])}</span>')
    # KubeSpawner's own list has the same 12px around its buttons.
    return f"""\
<label for="{id_}" class="d-flex align-items-baseline border-bottom py-2">
  <span style="padding: 0 12px"><input type="radio" name="{FIELD}" id="{id_}" value="{escape(value)}"\
 aria-labelledby="{id_}-name" aria-describedby="{id_}-about"{" checked" if checked else ""}></span>
  <span><strong id="{id_}-name">{escape(name)}</strong><br><span id="{id_}-about">{"<br>".join(about)}</span></span>
</label>
"""
