"""Labels every cell of a wide table with its column's heading: on a telephone, a row's cells stand below each other.

Cells that are short, such as ``371 ms``, are marked: they stay on one line.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

# Two columns fit beside each other.
FEWEST_COLUMNS = 3
LONGEST_SHORT = 12


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


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connects the two."""
    app.connect("doctree-resolved", label_cells)
    app.add_node(nodes.entry, override=True, html=(visit_entry, HTML5Translator.depart_entry))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
