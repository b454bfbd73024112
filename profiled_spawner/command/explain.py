"""``profiled-spawner explain``: what the profiles give a server, and why."""

from __future__ import annotations

import argparse
import sys

from . import explanation
from .inputs import GOOD, NOT_GOOD
from .request import parse_request
from .terminal import find_style, print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints what the server gets, and returns the exit code."""
    request = parse_request(arguments)
    if request is None:
        return NOT_GOOD
    parsed, subject, size = request
    explained = explanation.explain_document(parsed.document, subject, arguments.merge_order, size)
    if arguments.format == "json":
        print_json(explanation.to_json(explained, show_values=arguments.show_values))
    else:
        print(explanation.format_text(explained, find_style(sys.stdout), show_values=arguments.show_values))
    return GOOD if parsed.complete else NOT_GOOD
