"""``profiled-spawner schema``: the document's JSON Schema, for editors."""

from __future__ import annotations

import argparse

from ..document.json_schema import make_schema
from .inputs import EXIT_OK
from .terminal import print_json

__all__ = ["run"]


def run(_: argparse.Namespace) -> int:
    """Prints the schema, and returns the exit code."""
    print_json(make_schema())
    return EXIT_OK
