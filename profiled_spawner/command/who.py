"""``profiled-spawner who``: who can get a thing, through which profile, and that nobody else can."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..decide.comparison import Comparison
from ..decide.holders import KINDS, Thing, find_holders
from ..document.templates import Template
from .differences import (
    NOUNS,
    Difference,
    Strangers,
    count_who,
    find_differences,
    format_heading,
    heading_to_json,
    summary_to_json,
)
from .inputs import EXIT_OK, EXIT_UNUSABLE
from .request import find_moment, find_roster, load_source
from .terminal import Style, choose_style, print_json, printable

__all__ = ["run"]

EXIT_NOBODY = 1
"""The exit code if nobody can get it."""


def run(arguments: argparse.Namespace) -> int:
    """Prints who can get a thing, and returns the exit code.

    Raises:
        SourceError: The document cannot be read.
        TimeError: The moment is not a date or a time.
        RosterError: The roster cannot be used.
        UndecidableError: The document is too large.
    """
    given = vars(arguments)
    (thing,) = (Thing(kind, name) for kind in KINDS if (name := given[kind.replace("-", "_")]) is not None)
    document = load_source(arguments, arguments.source)
    if document is None:
        return EXIT_UNUSABLE
    now = math.floor(find_moment(arguments, document))
    at = None if arguments.at is None else now
    roster = find_roster(arguments)
    found = Comparison(find_holders(document, thing, arguments.merge_order, at=at, since=now, roster=roster))
    strangers = None if roster is None else Strangers.find([document], roster)
    holders = find_differences(found, document.timezone, now)
    if arguments.format == "json":
        print_json(_to_json(thing, found, holders, strangers))
    else:
        print(_format(thing, found, holders, strangers, choose_style(sys.stdout)))
    return EXIT_OK if found.changes else EXIT_NOBODY


def _format(
    thing: Thing, found: Comparison, holders: Sequence[Difference], strangers: Strangers | None, style: Style
) -> str:
    what = printable(f"the {NOUNS.get(thing.kind, thing.kind)} {thing.name}")
    who = count_who(found) or "nobody"
    others = "" if who in ("everyone", "nobody") else "; nobody else can"
    is_sure = not all(isinstance(change.new and change.new.value, Template) for change in found.changes)
    if found.changes and not is_sure:
        others = f", but only where a name below becomes {printable(thing.name)}"
    answer = f"{who} can get {what}{others}"
    lines = [style.bold(answer)]
    if strangers is not None and holders:
        lines.append(strangers.count({name for each in holders for name in each.people}, "can get it"))
    for holder in holders:
        lines += ["", *format_heading(holder, style, has_roster=strangers is not None)]
        lines += [f"  {printable(way)}" for way in _list_ways(thing, holder)]
    return "\n".join([*lines, *(strangers.format() if strangers else ())])


def _list_ways(thing: Thing, holder: Difference) -> Iterator[str]:
    """Through what these people get it, in words."""
    templates = [
        change.new.value
        for change in holder.changes
        if change.new is not None and isinstance(change.new.value, Template)
    ]
    for setting, origin in holder.settings.get("gained", {}).items():
        # Nothing else gives a profile, or what may be chosen.
        if thing.kind not in ("profile", "size", "image-choice"):
            yield f"{setting}  {origin}".strip()
    for template in dict.fromkeys(templates):
        yield f"only a server for which {template} is {thing.name}"


def _to_json(
    thing: Thing, found: Comparison, holders: Sequence[Difference], strangers: Strangers | None
) -> dict[str, Any]:
    return {
        "thing": {"kind": thing.kind, "name": thing.name},
        "anybody": bool(found.changes),
        "summary": summary_to_json(found),
        "holders": [
            {
                **heading_to_json(holder, has_roster=strangers is not None),
                "users": sorted({name for change in holder.changes for name in change.users}),
                "groups": sorted({name for change in holder.changes for name in change.groups}),
                **({} if (within := holder.changes[0].within) is None else {"within": within}),
                "through": list(_list_ways(thing, holder)),
            }
            for holder in holders
        ],
        **(strangers.to_json() if strangers else {}),
    }
