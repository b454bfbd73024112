"""``profiled-spawner schema``: the JSON Schema of a document or of a test file, for editors."""

from __future__ import annotations

import argparse

from ..document.json_schema import make_schema
from .assertions import make_test_schema
from .inputs import EXIT_OK
from .terminal import print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the schema, and returns the exit code."""
    print_json(make_test_schema() if arguments.test else make_schema())
    return EXIT_OK
