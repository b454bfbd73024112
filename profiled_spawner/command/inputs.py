"""Reads and checks the inputs of a command: files, standard input, or live ConfigMaps."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..decide.teams import map_teams
from ..document.model import Combination, Document, Team, combine_documents
from ..document.parser import ValidationResult, validate_document
from ..errors import Diagnostic, DocumentError, SourceError
from ..sources.bounds import NO_TEAM, bound_document
from ..sources.extract import MAX_MANIFEST_BYTES, Text, decode_text, find_document

__all__ = [
    "EXIT_INVALID",
    "EXIT_OK",
    "EXIT_UNUSABLE",
    "Input",
    "check_inputs",
    "read_files",
    "read_inputs",
    "read_main",
    "read_source",
    "read_text",
]

EXIT_OK, EXIT_INVALID, EXIT_UNUSABLE = 0, 1, 2
"""Exit codes: success; the document has errors or cannot be used for this server; the input cannot be read."""

API_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Input:
    """One input, after reading.

    Attributes:
        name: The name for diagnostics.
        revision: The name and version for the pod's annotation ``profiled-spawner/source``.
        file: The path, for diagnostics that name a file; None if the input is not a file.
        text: The text of the document, or an error if the input has none.
        configmap: The name of the ConfigMap, if a label selector selected it; None for the main one, or a file.
        team: The name of the team that it is checked for; None for the team that has the ConfigMap.
    """

    name: str
    revision: str
    file: str | None
    text: Text | DocumentError
    configmap: str | None = None
    team: str | None = None


def read_inputs(arguments: argparse.Namespace, source: str) -> list[Input]:
    """Reads the live ConfigMaps that the arguments name, the main one first; without any, reads `source`.

    Args:
        arguments: The command's arguments.
        source: A path, or ``-`` for the standard input.

    Raises:
        SourceError: The file, the standard input or the main ConfigMap cannot be read. A selected ConfigMap that
            cannot be used is an `Input` with an error.
    """
    if arguments.configmap:
        namespace, name = arguments.configmap
        return _read_configmaps(namespace, name, arguments.key, arguments.label_selector or "")
    return [_read_path(source, arguments.key)]


def read_main(arguments: argparse.Namespace) -> Input | None:
    """Reads the main document that the arguments name for the check of a team's; None if they name none.

    Raises:
        SourceError: It cannot be read.
    """
    if arguments.main is None:
        return None
    (main,) = read_source(argparse.Namespace(key=arguments.key, label_selector=None), arguments.main)
    return main


def read_source(arguments: argparse.Namespace, source: str) -> list[Input]:
    """Reads the document that a source names; with a label selector, also the ConfigMaps that it selects.

    Args:
        arguments: The command's arguments.
        source: A path, ``-``, ``configmap:[NAMESPACE/]NAME``, or ``git:REVISION:PATH``.

    Raises:
        SourceError: As for `read_inputs`.
    """
    kind, _, rest = source.partition(":")
    if kind == "configmap":
        namespace, _, name = rest.rpartition("/")
        return _read_configmaps(namespace, name, arguments.key, arguments.label_selector or "")
    if kind == "git":
        return [_make_input(_read_git(rest), arguments.key, source, None)]
    return [_read_path(source, arguments.key)]


def read_files(paths: Sequence[str], key: str) -> list[Input]:
    """Reads a main document and others as if they were those of selected ConfigMaps, each called as its file.

    Args:
        paths: The files; the main one first.
        key: The key of a ConfigMap manifest that holds a document.

    Raises:
        SourceError: A file cannot be read.
    """
    main, *others = (_read_path(path, key) for path in paths)
    return [main, *(replace(each, configmap=Path(each.name).stem) for each in others)]


def read_text(path: str) -> str:
    """Reads a file that holds no document.

    Args:
        path: The file, or ``-`` for the standard input.

    Raises:
        DocumentError: It is not UTF-8, or larger than any manifest may be.
        SourceError: It cannot be read.
    """
    return decode_text(_read_file(path))


def _read_path(path: str, key: str) -> Input:
    name, file = ("<stdin>", None) if path == "-" else (path, path)
    return _make_input(_read_file(path), key, name, file)


def _make_input(raw: bytes, key: str, name: str, file: str | None) -> Input:
    text: Text | DocumentError
    try:
        text = find_document(decode_text(raw), key, source=name)
    except DocumentError as error:
        text = error
    return Input(name, f"file/{name}@sha256:{hashlib.sha256(raw).hexdigest()[:12]}", file, text)


def _read_git(revision_and_path: str) -> bytes:
    """What ``git show REVISION:PATH`` prints."""
    # An option in place of a revision could write a file.
    command = ["git", "show", "--end-of-options", revision_and_path]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise SourceError(f"git cannot be run: {error.strerror}", outcome="unavailable") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise SourceError(f"git:{revision_and_path} cannot be read: {why}", outcome="missing")
    return done.stdout


def _read_file(path: str) -> bytes:
    # Read one byte more than the limit, to detect that the file is too large.
    size = MAX_MANIFEST_BYTES + 1
    try:
        if path != "-":
            with Path(path).open("rb") as file:
                return file.read(size)
        if sys.stdin is not None:
            return sys.stdin.buffer.read(size)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{path} cannot be read: {why}", outcome="unavailable") from None
    raise SourceError("the standard input is closed", outcome="missing")


def _read_configmaps(namespace: str, name: str, key: str, label_selector: str) -> list[Input]:
    import asyncio

    from .kubeconfig import read_configmaps

    revision, selected = asyncio.run(
        read_configmaps(namespace, name, key, label_selector=label_selector, timeout_seconds=API_TIMEOUT_SECONDS)
    )
    inputs = [Input(revision.name.partition("@")[0], revision.name, None, revision.text)]
    for configmap in selected:
        try:
            revision = configmap.extract()
        except SourceError as error:
            fault = DocumentError([Diagnostic(str(error))])
            inputs.append(Input(configmap.source, configmap.source, None, fault, configmap.name))
        else:
            inputs.append(Input(configmap.source, revision.name, None, revision.text, configmap.name))
    return inputs


def check_inputs(sources: Sequence[Input]) -> list[ValidationResult]:
    """Checks each document, whether the selected ones keep to their teams' bounds, and fit together within the limits.

    Args:
        sources: The main document, and the selected ones.

    Returns:
        A result for each input, in the same order. The entries of selected documents name their ConfigMap and team.

    Raises:
        SourceError: The main document does not have the team that an input names.
    """
    checks = [_check_one(source) for source in sources]
    main = checks[0].document
    if main is not None:
        checks[1:] = [_bound(source, each, main) for source, each in zip(sources[1:], checks[1:], strict=True)]
    good = [(position, checked.document) for position, checked in enumerate(checks) if position and checked.document]
    for left_out in combine_documents(Document(), [document for _, document in good]).left_out:
        checks[good[left_out][0]] = _refuse(DocumentError([Diagnostic(Combination.REASON)]))
    return checks


def _check_one(source: Input) -> ValidationResult:
    text = source.text
    if isinstance(text, DocumentError):
        return _refuse(text)
    offsets = {"line_offset": text.line_offset, "column_offset": text.column_offset}
    return validate_document(text.text, **offsets, at=time.time(), is_selected=source.configmap is not None)


def _bound(source: Input, checked: ValidationResult, main: Document) -> ValidationResult:
    """What a hub makes of a selected document that is valid, as the teams of the main one say."""
    document, text, name = checked.document, source.text, source.configmap or ""
    team = _find_team(source, main)
    if document is None or isinstance(text, DocumentError):
        return checked
    if main.teams is None:
        return replace(checked, document=document.of_configmap(name))
    if team is None:
        return replace(_refuse(DocumentError([Diagnostic(NO_TEAM)])), warnings=checked.warnings)
    try:
        return replace(checked, document=bound_document(document, name, team, text, source=source.name))
    except DocumentError as error:
        return replace(_refuse(error), warnings=checked.warnings)


def _find_team(source: Input, main: Document) -> Team | None:
    teams = main.teams or ()
    if source.team is None:
        return (map_teams(main) or {}).get(source.configmap or "")
    for team in teams:
        if team.name == source.team:
            return team
    known = ", ".join(team.shown_name for team in teams) or "none"
    raise SourceError(f"the main document has no team {source.team!r}; its teams are: {known}", outcome="missing")


def _refuse(error: DocumentError) -> ValidationResult:
    return ValidationResult(None, error.diagnostics, error.omitted, ())
