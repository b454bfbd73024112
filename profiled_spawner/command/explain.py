"""``profiled-spawner explain``: which settings the profiles give a server, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..decide.matching import Roster, Subject
from ..document.model import Document
from ..errors import ChoiceError
from . import explanation
from .inputs import EXIT_INVALID, EXIT_OK
from .people import PersonExplained, explain_person, format_people
from .request import find_moment, find_roster, load_documents
from .roster import RosterError
from .terminal import choose_style, print_json, print_notice

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanations, and returns the exit code.

    Raises:
        RosterError: The roster cannot be used.
    """
    roster = _find_people(arguments)
    parsed = load_documents(arguments)
    if parsed is None:
        return EXIT_INVALID
    people = _explain_people(arguments, parsed.document, roster)
    if not people:
        return EXIT_INVALID
    if arguments.format == "json":
        objects = [
            explanation.to_json(each, show_values=arguments.show_values)
            for person in people
            for each in person.explanations
        ]
        print_json(objects[0] if _asks_for_one(arguments) else objects)
    else:
        print(format_people(people, choose_style(sys.stdout), show_values=arguments.show_values))
    return EXIT_OK if parsed.complete and len(people) == len(roster) else EXIT_INVALID


def _find_people(arguments: argparse.Namespace) -> Roster:
    """The people to explain, with their groups."""
    roster = find_roster(arguments)
    if roster is None:
        return dict.fromkeys(arguments.user, frozenset(arguments.group))
    for user in arguments.user:
        if user not in roster:
            raise RosterError(f"{arguments.hub or arguments.roster} has no user {user}")
    return {user: roster[user] for user in arguments.user} if arguments.user else roster


def _explain_people(arguments: argparse.Namespace, document: Document, roster: Roster) -> Sequence[PersonExplained]:
    """Explains what each person gets. Prints an error for each for whom the choice is not offered."""
    at = find_moment(arguments, document)
    people = []
    for user, groups in roster.items():
        subject = Subject(user, groups, arguments.image or "", at)
        try:
            person = explain_person(
                document, subject, arguments.merge_order, image_choice=arguments.image_choice, size=arguments.size
            )
        except ChoiceError as error:
            print_notice(str(error))
            continue
        if not person.complete:
            print_notice(
                f"the profiles of {user} tell apart more images than can be listed; see the others with --image"
            )
        people.append(person)
    return people


def _asks_for_one(arguments: argparse.Namespace) -> bool:
    """Whether there is one explanation, whatever the document says."""
    return arguments.roster is None and arguments.hub is None and len(arguments.user) == 1 and bool(arguments.image)
