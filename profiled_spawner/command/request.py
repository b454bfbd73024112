"""What commands work on: the combined document, and the moment."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..decide.matching import Roster
from ..document.model import Document, combine_documents
from ..document.times import parse_start
from ..errors import TimeError
from .diagnosis import format_text
from .inputs import Input, check_inputs, read_files, read_inputs, read_source
from .terminal import choose_style, print_notice

__all__ = ["LoadedDocuments", "find_moment", "find_roster", "load_documents", "load_files", "load_source"]


@dataclass(frozen=True, slots=True)
class LoadedDocuments:
    """The documents as a hub without a last good version would use them: all valid ones, combined.

    Attributes:
        document: The main document, followed by the selected ones.
        revision: The revision of the main document.
        selected: The revisions of the selected documents.
        complete: False if a selected document has errors, and was left out.
    """

    document: Document
    revision: str
    selected: tuple[str, ...]
    complete: bool


def load_documents(arguments: argparse.Namespace) -> LoadedDocuments | None:
    """Loads the documents that the arguments name.

    Prints the errors of every document to the standard error.

    Returns:
        None if the main document has errors.

    Raises:
        SourceError: A source cannot be read.
    """
    documents = _combine_inputs(read_inputs(arguments, arguments.source))
    if documents is not None:
        _warn_about_commas(arguments.group, documents.document)
    return documents


def load_source(arguments: argparse.Namespace, source: str) -> Document | None:
    """Loads one document. Prints its errors to the standard error.

    Args:
        arguments: The command's arguments: the key, and with a live ConfigMap the selector of others.
        source: A file, ``-``, ``configmap:[NAMESPACE/]NAME``, or ``git:REVISION:PATH``.

    Returns:
        None if the main document has errors.

    Raises:
        SourceError: It cannot be read.
    """
    documents = _combine_inputs(read_source(arguments, source))
    return None if documents is None else documents.document


def load_files(arguments: argparse.Namespace, paths: Sequence[str]) -> LoadedDocuments | None:
    """Loads documents from files, the main one first. Prints their errors to the standard error.

    Returns:
        None if the main document has errors.

    Raises:
        SourceError: A file cannot be read.
    """
    return _combine_inputs(read_files(paths, arguments.key))


def find_moment(arguments: argparse.Namespace, document: Document) -> float:
    """Returns the moment of the start, in seconds since 1970: now, unless the arguments say otherwise.

    Raises:
        TimeError: What they say is not a date or a time.
    """
    if arguments.at is None:
        return time.time()
    try:
        return parse_start(arguments.at, document.timezone)
    except TimeError as error:
        raise TimeError(f"--at: {error}") from None


def find_roster(arguments: argparse.Namespace) -> Roster | None:
    """Returns the roster that the arguments name; None if they name none.

    Raises:
        RosterError: It cannot be used.
    """
    if arguments.roster is None and arguments.hub is None:
        return None
    # What asks a hub takes long to import.
    from .roster import load_roster

    return load_roster(arguments)


def _warn_about_commas(groups: Sequence[str], document: Document) -> None:
    """Prints a hint for each group with a comma that the document does not name: several groups may be meant."""
    named = {name for each in document.entries for name in each.groups or ()}
    for group in groups:
        # A name with '=' is a distinguished name of LDAP, which has commas.
        if "," in group and "=" not in group and group not in named:
            print_notice(f"--group {group} is one group with a comma in its name; for several, repeat --group")


def _combine_inputs(sources: Sequence[Input]) -> LoadedDocuments | None:
    """Combines the documents, and prints their errors; None if the main one has errors."""
    documents: list[Document] = []
    revisions: list[str] = []
    for source, checked in zip(sources, check_inputs(sources), strict=True):
        document = checked.document
        if document is None:
            errors = replace(checked, warnings=())
            print(format_text(source.name, errors, choose_style(sys.stderr)), file=sys.stderr)
        else:
            documents.append(document)
            revisions.append(source.revision)
        if not documents:
            return None
    document = combine_documents(documents[0], documents[1:]).document
    return LoadedDocuments(document, revisions[0], tuple(revisions[1:]), complete=len(documents) == len(sources))
