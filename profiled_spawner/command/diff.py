"""``profiled-spawner diff``: what changes for whom from one document to another."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from ..decide.comparison import compare_documents
from .differences import Strangers, find_differences, format_text, summarize, to_json, to_markdown
from .inputs import EXIT_OK, EXIT_UNUSABLE
from .request import find_moment, find_roster, load_source
from .terminal import choose_style, print_json

__all__ = ["run"]

EXIT_DIFFERENT = 1
"""The exit code if something changes for somebody."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the differences, and returns the exit code.

    Raises:
        SourceError: A document cannot be read.
        TimeError: The moment is not a date or a time.
        RosterError: The roster cannot be used.
        UndecidableError: The documents are too large to be compared.
    """
    documents = [load_source(arguments, source) for source in (arguments.old, arguments.new)]
    old, new = documents
    if old is None or new is None:
        return EXIT_UNUSABLE
    now = math.floor(find_moment(arguments, new))
    at = None if arguments.at is None else now
    roster = find_roster(arguments)
    comparison = compare_documents(old, new, arguments.merge_order, at=at, since=now, roster=roster)
    strangers = None if roster is None else Strangers.find((old, new), roster)
    differences, summary = find_differences(comparison, new.timezone, now), summarize(comparison)
    if arguments.format == "json":
        print_json(to_json(comparison, differences, strangers))
    elif arguments.format == "github":
        _fill_summary(to_markdown(differences, summary))
    else:
        print(format_text(differences, summary, choose_style(sys.stdout), strangers))
    return EXIT_OK if comparison.equal else EXIT_DIFFERENT


def _fill_summary(text: str) -> None:
    """Adds to the summary of the job; outside a job of GitHub Actions, prints."""
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(f"{text}\n")
    else:
        print(text)
