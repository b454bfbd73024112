"""What a command on one subject is asked about: the documents as one, the subject, and the size that was chosen."""

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
    """What a hub would start servers with that has never read anything else.

    Attributes:
        document: The main document with the selected ones behind it.
        revision: Where the main one is from.
        selected: Where the others are from.
        complete: Whether all of those that were selected are in it.
    """

    document: Document
    revision: str
    selected: tuple[str, ...]
    complete: bool


def load_request(arguments: argparse.Namespace) -> tuple[LoadedDocuments, Subject, Size | None] | None:
    """What a command on one subject is asked about: the documents, the subject, and the size that was chosen.

    Returns:
        None where the main document has errors. Errors have been told on the standard error.

    Raises:
        SourceError: A source cannot be read.
        SizeError: There is no such size for the subject.
    """
    parsed = _parse_inputs(read_inputs(arguments, arguments.source))
    if parsed is None:
        return None
    _point_out_commas(arguments.group, parsed.document)
    subject = Subject(arguments.user, frozenset(arguments.group), arguments.image)
    return parsed, subject, choose_size(parsed.document, subject, arguments.size)


def _point_out_commas(groups: Sequence[str], document: Document) -> None:
    """Tells which groups may have been meant as several: they have a comma, and the document has none of that name."""
    named = {name for each in (*document.profiles, *document.sizes) for name in each.groups or ()}
    for group in groups:
        # With '=', it is a name as LDAP has it.
        if "," in group and "=" not in group and group not in named:
            print_notice(f"--group {group} is one group with a comma in its name; for several, repeat --group")


def _parse_inputs(sources: Sequence[Input]) -> LoadedDocuments | None:
    """The documents as one; None where the main one has errors. Errors have been told on the standard error."""
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
