"""``profiled-spawner render``: the pod manifest of a server, without a cluster."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

import yaml

from ..decide.choices import choose
from ..decide.matching import Subject
from ..errors import ChoiceError
from ..sources.cache import Snapshot
from .inputs import EXIT_INVALID, EXIT_OK
from .rendering import render_pod
from .request import find_moment, load_documents
from .terminal import print_json

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the manifest, and returns the exit code.

    Raises:
        ChoiceError: The choice is not offered to the user, or nothing says which image the server runs.
    """
    parsed = load_documents(arguments)
    if parsed is None:
        return EXIT_INVALID
    document = parsed.document
    subject = Subject(
        arguments.user, frozenset(arguments.group), arguments.image or "", find_moment(arguments, document)
    )
    choice = choose(document, subject, {"image": arguments.image_choice, "size": arguments.size})
    subject = replace(subject, image=choice.image_name or subject.image)
    if not subject.image:
        raise ChoiceError("nothing here says which image the server runs; add --image")
    pod = asyncio.run(
        render_pod(
            Snapshot(document, parsed.revision, selected=parsed.selected),
            subject,
            choice=choice,
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
