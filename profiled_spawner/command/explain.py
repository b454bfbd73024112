"""``profiled-spawner explain``: what the profiles give a server, and why."""

from __future__ import annotations

import argparse
import sys

from ..decide.choices import choose_size
from ..decide.matching import Subject
from . import explanation
from .inputs import GOOD, NOT_GOOD, parse_inputs, point_out_commas, read_inputs
from .terminal import find_style, print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints what the server gets, and returns the exit code."""
    parsed = parse_inputs(read_inputs(arguments, arguments.source))
    if parsed is None:
        return NOT_GOOD
    point_out_commas(arguments.group, parsed.document)
    subject = Subject(arguments.user, frozenset(arguments.group), arguments.image)
    size = choose_size(parsed.document, subject, arguments.size)
    explained = explanation.explain_document(parsed.document, subject, arguments.merge_order, size)
    if arguments.format == "json":
        print_json(explanation.to_json(explained, show_values=arguments.show_values))
    else:
        print(explanation.format_text(explained, find_style(sys.stdout), show_values=arguments.show_values))
    return GOOD if parsed.complete else NOT_GOOD
