"""``profiled-spawner validate``: all errors and warnings of documents."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ..document.parser import ValidationResult
from ..errors import DocumentError, SourceError
from . import diagnosis
from .inputs import EXIT_INVALID, EXIT_OK, EXIT_UNUSABLE, Input, check_inputs, read_inputs, read_main
from .terminal import choose_style, print_json, print_notice
from .unused import add_unused

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Checks each file by itself, prints the errors and warnings, and returns the exit code.

    Files that cannot be read are reported after the others.

    Raises:
        SourceError: The main document for the check of a team's cannot be read.
    """
    main = read_main(arguments)
    runs: list[list[tuple[Input, ValidationResult]]] = []
    faults: list[str] = []
    for source in arguments.source or [""]:
        try:
            runs.append(_check(arguments, source, main))
        except SourceError as error:
            faults.append(str(error))
        except DocumentError as error:
            checked = ValidationResult(None, error.diagnostics, error.omitted, ())
            print(diagnosis.format_text(error.source, checked, choose_style(sys.stderr)), file=sys.stderr)
            return EXIT_UNUSABLE
    checks = [check for each in runs for check in each]
    if arguments.format == "json":
        found = [_to_json(each, arguments) for each in runs]
        if len(arguments.source) > 1:
            print_json(found)
        elif found:
            print_json(found[0])
    else:
        for check in checks:
            print(_format(*check, arguments.format))
    for fault in faults:
        print_notice(fault)
    if faults:
        return EXIT_UNUSABLE
    invalid = any(checked.errors or (arguments.strict and checked.warnings) for _, checked in checks)
    return EXIT_INVALID if invalid else EXIT_OK


def _check(arguments: argparse.Namespace, source: str, main: Input | None) -> list[tuple[Input, ValidationResult]]:
    """Reads and checks a source, and with a label selector what that selects.

    Args:
        arguments: The command's arguments.
        source: The source.
        main: The main document to check against; None for the one that is read.

    Raises:
        SourceError: The source cannot be read, or the main document does not have the team that the arguments name.
        DocumentError: The document of a team is checked, and the main document has errors.
    """
    inputs = read_inputs(arguments, source)
    if main is not None and arguments.team is None:
        inputs[0] = main
    elif main is not None:
        inputs = [main, *(replace(each, configmap=Path(each.name).stem, team=arguments.team) for each in inputs)]
    checks = check_inputs(inputs)
    if arguments.team is not None and checks[0].document is None:
        raise DocumentError(checks[0].errors, omitted=checks[0].omitted, source=inputs[0].name)
    results: list[ValidationResult] = []
    for each, checked in zip(inputs, checks, strict=True):
        before = [result.document for result in results if result.document is not None]
        results.append(add_unused(each, checked, arguments.merge_order, before))
    return list(zip(inputs, results, strict=True))[0 if arguments.team is None else 1 :]


def _format(source: Input, checked: ValidationResult, form: str) -> str:
    if form == "github":
        return diagnosis.format_for_github(source.name, diagnosis.find_in_workspace(source.file), checked)
    return diagnosis.format_text(source.name, checked, choose_style(sys.stdout))


def _to_json(checks: list[tuple[Input, ValidationResult]], arguments: argparse.Namespace) -> dict[str, object]:
    main, *others = (diagnosis.to_json(source.name, checked) for source, checked in checks)
    return main | {"selected": others} if arguments.label_selector else main
