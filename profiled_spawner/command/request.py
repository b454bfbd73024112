"""What `explain` and `render` work on: the combined document, the subject, and the chosen size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..decide.choices import choose_size
from ..decide.matching import Subject
from ..document.model import Document, Size, combine_documents
from .diagnosis import format_text
from .inputs import Input, check_inputs, read_inputs
from .terminal import choose_style, print_notice

__all__ = ["LoadedDocuments", "load_request"]


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


def load_request(arguments: argparse.Namespace) -> tuple[LoadedDocuments, Subject, Size | None] | None:
    """Loads the documents that the arguments name, and the subject and the size.

    Prints the errors of every document to the standard error.

    Returns:
        None if the main document has errors.

    Raises:
        SourceError: A source cannot be read.
        SizeError: The user has no such size.
    """
    parsed = _combine_inputs(read_inputs(arguments, arguments.source))
    if parsed is None:
        return None
    _warn_about_commas(arguments.group, parsed.document)
    subject = Subject(arguments.user, frozenset(arguments.group), arguments.image)
    return parsed, subject, choose_size(parsed.document, subject, arguments.size)


def _warn_about_commas(groups: Sequence[str], document: Document) -> None:
    """Prints a hint for each group with a comma that the document does not name: several groups may be meant."""
    named = {name for each in (*document.profiles, *document.sizes) for name in each.groups or ()}
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
            documents.append(document if source.configmap is None else document.of_configmap(source.configmap))
            revisions.append(source.revision)
        if not documents:
            return None
    document = combine_documents(documents[0], documents[1:]).document
    return LoadedDocuments(document, revisions[0], tuple(revisions[1:]), complete=len(documents) == len(sources))
