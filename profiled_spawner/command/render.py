"""``profiled-spawner render``: the pod manifest of a server, without a cluster."""

from __future__ import annotations

import argparse
import asyncio

import yaml

from ..sources.cache import Snapshot
from .inputs import EXIT_INVALID, EXIT_OK
from .rendering import render_pod
from .request import load_request
from .terminal import print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the manifest, and returns the exit code."""
    request = load_request(arguments)
    if request is None:
        return EXIT_INVALID
    parsed, subject, size = request
    pod = asyncio.run(
        render_pod(
            Snapshot(parsed.document, parsed.revision, selected=parsed.selected),
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
    return EXIT_OK if parsed.complete else EXIT_INVALID
