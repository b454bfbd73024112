"""``profiled-spawner render``: the pod manifest that a server would be started with."""

from __future__ import annotations

import argparse
import asyncio

import yaml

from ..decide.choices import choose_size
from ..decide.matching import Subject
from ..sources.cache import Reading
from .inputs import GOOD, NOT_GOOD, parse_inputs, point_out_commas, read_inputs
from .rendering import render_pod
from .terminal import print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the manifest, and returns the exit code."""
    parsed = parse_inputs(read_inputs(arguments, arguments.source))
    if parsed is None:
        return NOT_GOOD
    point_out_commas(arguments.group, parsed.document)
    subject = Subject(arguments.user, frozenset(arguments.group), arguments.image)
    size = choose_size(parsed.document, subject, arguments.size)
    pod = asyncio.run(
        render_pod(
            Reading(parsed.document, parsed.revision, selected=parsed.selected),
            subject,
            size=size,
            server=arguments.server or "",
            config_file=arguments.config,
            show_values=arguments.show_values,
        )
    )
    if arguments.format == "json":
        print_json(pod)
    else:
        print(yaml.safe_dump(pod, sort_keys=False), end="")
    return GOOD if parsed.complete else NOT_GOOD
