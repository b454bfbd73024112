"""Formats the errors and warnings of a document: for people, for programs, and for GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..document.parser import ValidationResult
from ..errors import Diagnostic, format_error_count, format_omitted_count
from .terminal import Style, printable

__all__ = [
    "find_in_workspace",
    "format_annotation",
    "format_for_github",
    "format_line",
    "format_text",
    "to_json",
    "to_list",
]


def format_text(source: str, checked: ValidationResult, style: Style) -> str:
    """One line for each diagnostic, in the order of the text, and a summary.

    A line begins with ``file:line:column``, which editors and terminals turn into a link.

    Args:
        source: Where the document was read from; for a file, its path.
        checked: The errors and warnings.
        style: The colours.
    """
    name = printable(source)
    lines = [format_line(source, diagnostic, style) for diagnostic in _sort(checked)]
    if checked.omitted:
        lines.append(f"…and {format_omitted_count(len(checked.errors), checked.omitted)} errors")
    summary = _summarize(checked)
    if checked.document is None:
        lines.append(style.red(summary))
    elif checked.warnings:
        lines.append(style.yellow(summary))
    else:
        lines.append(f"{style.green('✔')} {name}: {summary}")
    return "\n".join(lines)


def format_for_github(source: str, file: str | None, checked: ValidationResult) -> str:
    """GitHub's workflow commands that annotate a file, and a summary for the log.

    See https://docs.github.com/actions/reference/workflow-commands-for-github-actions.

    Args:
        source: Where the document was read from.
        file: The file to annotate, relative to the workspace. None: the document is not from a file.
        checked: The errors and warnings.
    """
    titles = {"error": "Invalid profile document", "warning": "Profile document"}
    lines = [format_annotation(source, file, each, titles[each.severity]) for each in _sort(checked)]
    if checked.omitted:
        lines.append(f"...and {format_omitted_count(len(checked.errors), checked.omitted)} errors")
    lines.append(_summarize(checked))
    return "\n".join(lines)


def format_line(source: str, diagnostic: Diagnostic, style: Style, word: str = "") -> str:
    """One diagnostic as a line that begins with ``file:line:column``.

    Args:
        source: As for `format_text`.
        diagnostic: The diagnostic.
        style: The colours.
        word: What stands between the place and the diagnostic; by default, its severity.
    """
    severity = f"{word or diagnostic.severity}:"
    severity = style.red(severity) if diagnostic.severity == "error" else style.yellow(severity)
    return f"{style.bold(printable(source) + _place(diagnostic))}: {severity} {printable(_describe(diagnostic))}"


def format_annotation(source: str, file: str | None, diagnostic: Diagnostic, title: str) -> str:
    """One diagnostic as GitHub's workflow command that annotates a file.

    Args:
        source: As for `format_for_github`.
        file: Likewise.
        diagnostic: The diagnostic.
        title: The annotation's title.
    """
    properties = {"title": title}
    message = _describe(diagnostic)
    if file is None:
        message = f"{source}{_place(diagnostic)}: {message}"
    else:
        if diagnostic.line:
            properties = {"line": str(diagnostic.line), "col": str(diagnostic.column)} | properties
        properties = {"file": file} | properties
    shown = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
    return f"::{diagnostic.severity} {shown}::{_escape(message)}"


def find_in_workspace(file: str | None) -> str | None:
    """A file's path as GitHub resolves it: relative to the workspace, whatever the working directory of the step."""
    return file and os.path.relpath(file, os.environ.get("GITHUB_WORKSPACE") or None)


def to_list(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Diagnostics as JSON objects."""
    return [
        {"line": each.line or None, "column": each.column or None, "path": each.path, "what": each.what}
        for each in diagnostics
    ]


def to_json(source: str, checked: ValidationResult) -> dict[str, Any]:
    """A JSON object, which the reference describes: it is a public format.

    Args:
        source: Where the document was read from.
        checked: The errors and warnings.
    """
    return {
        "source": source,
        "valid": checked.document is not None,
        "profiles": None if checked.document is None else len(checked.document.profiles),
        "errors": to_list(checked.errors),
        "omitted": checked.omitted,
        "warnings": to_list(checked.warnings),
    }


def _sort(checked: ValidationResult) -> list[Diagnostic]:
    return sorted((*checked.errors, *checked.warnings), key=lambda each: (each.line, each.column))


def _place(diagnostic: Diagnostic) -> str:
    return f":{diagnostic.line}:{diagnostic.column}" if diagnostic.line else ""


def _describe(diagnostic: Diagnostic) -> str:
    return f"{diagnostic.path}: {diagnostic.what}" if diagnostic.path else diagnostic.what


def _summarize(checked: ValidationResult) -> str:
    warnings = [_count(len(checked.warnings), "warning")] if checked.warnings else []
    if checked.document is None:
        errors = format_error_count(len(checked.errors) + checked.omitted)
        return f"{', '.join([errors, *warnings])}; a hub keeps using the last good document, if it has one"
    return ", ".join([_count(len(checked.document.profiles), "profile"), "no errors", *warnings])


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _escape(text: str) -> str:
    return printable(text).replace("%", "%25")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
