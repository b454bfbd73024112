"""Makes tables and names that a narrow window can show.

Every cell of a wide table has its column's heading as a label: on a telephone, a row's cells stand below each other.
Cells that are short, such as ``371 ms``, are marked: they stay on one line. Long names may go on in the next line
after a separator, and not amid a word.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

# Two columns fit beside each other.
FEWEST_COLUMNS = 3
LONGEST_SHORT = 12
# Shorter names fit in a line.
SHORTEST_LONG = 16
UNITS = "ms|s|µs|seconds|minutes|hours|KiB|MiB|GiB|CPUs?"


def label_cells(_app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Notes at each cell the heading of its column. The first column's cells need none: they head their row."""
    for group in doctree.findall(nodes.tgroup):
        head = group.next_node(nodes.thead)
        if group["cols"] >= FEWEST_COLUMNS and head is not None:
            group.parent["classes"].append("labelled")
            headings = [entry.astext() for entry in head.findall(nodes.entry)]
            for row in group.next_node(nodes.tbody).findall(nodes.row):
                for heading, entry in list(zip(headings, row.children, strict=True))[1:]:
                    entry["column"] = heading
                    if len(entry.astext()) <= LONGEST_SHORT:
                        entry["classes"].append("short")


def visit_entry(translator: HTML5Translator, node: nodes.entry) -> None:
    """Writes the tag of a cell as ever, and the label into it, which the style sheet shows."""
    at = len(translator.body)
    HTML5Translator.visit_entry(translator, node)
    if column := node.get("column"):
        translator.body[at] = translator.body[at].replace("<td", f'<td data-column="{escape(column)}"', 1)


def let_names_break(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Marks in a page's HTML where a line may break: a ``<wbr>`` is no character, so none is copied.

    A long name may break after a separator. An option (``--roster``) never does, nor a number of its unit.
    """

    def mark_code(code: re.Match[str]) -> str:
        text = code[0]
        if len(text) >= SHORTEST_LONG:
            text = re.sub(r"(?<=[a-z0-9][_./=,])(?=[a-z0-9])|(?<=[a-z])(?=[A-Z])", "<wbr>", text)
        # A hyphen after a `<wbr>` is amid a name.
        return re.sub(r"(?<![\w>-])--?[a-z][\w-]*", r'<span class="whole">\g<0></span>', text)

    def mark_text(text: re.Match[str]) -> str:
        return re.sub(rf"(?<=\d) (?=(?:{UNITS})\b|× \d)|(?<=\d ×) (?=\d)", "\N{NO-BREAK SPACE}", text[0])

    body = re.sub(r'(?<=<span class="pre">)[^<]+', mark_code, context.get("body", ""))
    # Not what is copied from a block of code.
    parts = re.split(r"(<pre>.*?</pre>)", body, flags=re.DOTALL)
    context["body"] = "".join(
        part if part.startswith("<pre>") else re.sub(r"(?<=>)[^<>]+(?=<)", mark_text, part) for part in parts
    )


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connects them."""
    app.connect("doctree-resolved", label_cells)
    app.connect("html-page-context", let_names_break)
    app.add_node(nodes.entry, override=True, html=(visit_entry, HTML5Translator.depart_entry))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
