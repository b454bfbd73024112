"""``profiled-spawner validate``: all errors and warnings of documents."""

from __future__ import annotations

import argparse
import sys

from ..document.parser import ValidationResult
from ..errors import SourceError
from . import diagnosis
from .inputs import EXIT_INVALID, EXIT_OK, EXIT_UNUSABLE, Input, check_inputs, read_inputs
from .terminal import choose_style, print_json, print_notice
from .unused import add_unused

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Checks each file by itself, prints the errors and warnings, and returns the exit code.

    Files that cannot be read are reported after the others.
    """
    runs: list[list[tuple[Input, ValidationResult]]] = []
    faults: list[str] = []
    for source in arguments.source or [""]:
        try:
            inputs = read_inputs(arguments, source)
        except SourceError as error:
            faults.append(str(error))
        else:
            results = [
                add_unused(each, checked, arguments.merge_order)
                for each, checked in zip(inputs, check_inputs(inputs), strict=True)
            ]
            runs.append(list(zip(inputs, results, strict=True)))
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


def _format(source: Input, checked: ValidationResult, form: str) -> str:
    if form == "github":
        return diagnosis.format_for_github(source.name, diagnosis.find_in_workspace(source.file), checked)
    return diagnosis.format_text(source.name, checked, choose_style(sys.stdout))


def _to_json(checks: list[tuple[Input, ValidationResult]], arguments: argparse.Namespace) -> dict[str, object]:
    main, *others = (diagnosis.to_json(source.name, checked) for source, checked in checks)
    return main | {"selected": others} if arguments.label_selector else main
