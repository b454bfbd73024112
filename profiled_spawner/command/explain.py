"""``profiled-spawner explain``: which settings the profiles give a server, and why."""

from __future__ import annotations

import argparse
import sys

from . import explanation
from .inputs import EXIT_INVALID, EXIT_OK
from .request import load_request
from .terminal import choose_style, print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanation, and returns the exit code."""
    request = load_request(arguments)
    if request is None:
        return EXIT_INVALID
    parsed, subject, choice = request
    explained = explanation.explain_document(parsed.document, subject, arguments.merge_order, choice)
    if arguments.format == "json":
        print_json(explanation.to_json(explained, show_values=arguments.show_values))
    else:
        print(explanation.format_text(explained, choose_style(sys.stdout), show_values=arguments.show_values))
    return EXIT_OK if parsed.complete else EXIT_INVALID
