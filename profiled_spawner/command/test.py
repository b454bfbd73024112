"""``profiled-spawner test``: whether the assertions of test files hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..document.model import Document
from ..errors import DocumentError, SourceError
from . import results
from .assertions import AssertionFile, parse_test_file
from .assessment import Assessor
from .inputs import EXIT_INVALID, EXIT_OK, EXIT_UNUSABLE, read_text
from .request import load_files, load_source
from .terminal import choose_style, print_json, print_notice

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Tests each file by itself, prints what does not hold, and returns the exit code.

    Files that cannot be tested are reported on the standard error.
    """
    now = time.time()
    code = EXIT_OK
    found: list[results.FileResult] = []
    for path in arguments.file:
        try:
            tested = _test(arguments, path, now)
        except SourceError as error:
            print_notice(str(error))
            tested = None
        if tested is None or tested.file.errors:
            code = EXIT_UNUSABLE
        elif not tested.passed:
            code = max(code, EXIT_INVALID)
        if tested is not None:
            found.append(tested)
    _print(arguments, found)
    return code


def _print(arguments: argparse.Namespace, found: Sequence[results.FileResult]) -> None:
    if arguments.format == "json":
        objects = [results.to_json(each) for each in found]
        if len(arguments.file) > 1:
            print_json(objects)
        elif objects:
            print_json(objects[0])
    elif arguments.format == "github":
        for each in found:
            print(results.format_for_github(each))
    else:
        for each in found:
            print(results.format_text(each, choose_style(sys.stdout)))


def _test(arguments: argparse.Namespace, path: str, now: float) -> results.FileResult | None:
    """Tests one file. Prints the errors of its document to the standard error.

    Returns:
        None if the document has errors.

    Raises:
        SourceError: The file or the document cannot be read.
    """
    file = _read(path)
    if file.errors:
        return results.FileResult(path, file)
    document = _load_document(arguments, path, file)
    if document is None:
        return None
    assessor = Assessor(document, arguments.merge_order, now)
    return results.FileResult(path, file, [assessor.assess(each) for each in file.assertions])


def _read(path: str) -> AssertionFile:
    """Reads a test file.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return parse_test_file(read_text(path))
    except DocumentError as error:
        return AssertionFile(errors=error.diagnostics)


def _load_document(arguments: argparse.Namespace, path: str, file: AssertionFile) -> Document | None:
    """Loads the document that a test file is about. Prints its errors to the standard error.

    Returns:
        None if it has errors.

    Raises:
        SourceError: It cannot be read, or nothing says which it is.
    """
    if arguments.document is not None:
        return load_source(arguments, arguments.document)
    if not file.documents:
        raise SourceError(f"{path} has no 'document'; write it there, or add --document", outcome="missing")
    directory = Path("." if path == "-" else path).parent
    documents = load_files(arguments, [str(directory / each) for each in file.documents])
    return documents.document if documents is not None and documents.complete else None
