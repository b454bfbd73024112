"""``profiled-spawner validate``: every error of a document, and what may not be meant."""

from __future__ import annotations

import argparse
import os
import sys

from . import diagnosis
from .inputs import GOOD, NOT_GOOD, check_inputs, read_inputs
from .terminal import find_style, print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints what is wrong, and returns the exit code."""
    sources = read_inputs(arguments)
    checks = list(zip(sources, check_inputs(sources), strict=True))
    if arguments.format == "json":
        main, *others = (diagnosis.to_json(source.name, checked) for source, checked in checks)
        print_json(main | {"selected": others} if arguments.label_selector else main)
    for source, checked in checks if arguments.format != "json" else ():
        if arguments.format == "github":
            # GitHub takes a path to be relative to the workspace, whichever directory this step is in.
            file = source.file and os.path.relpath(source.file, os.environ.get("GITHUB_WORKSPACE") or None)
            print(diagnosis.format_for_github(source.name, file, checked))
        else:
            print(diagnosis.format_text(source.name, checked, find_style(sys.stdout)))
    not_good = any(checked.errors or (arguments.strict and checked.warnings) for _, checked in checks)
    return NOT_GOOD if not_good else GOOD
