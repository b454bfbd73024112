"""Formats the verdicts on assertions: for people, for programs, and for GitHub Actions.

Names are told, never values of variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Diagnostic, format_error_count, format_omitted_count
from .assertions import AssertionFile
from .assessment import Failure, Verdict
from .diagnosis import find_in_workspace, format_annotation, format_line, to_list
from .differences import example_to_json
from .terminal import Style, printable

__all__ = ["FileResult", "format_for_github", "format_text", "to_json"]

_FAILS = "Assertion fails"
_MOST_FAILURES = 10
_NOTHING_TESTED = "has no assertions, so nothing is tested; write some under 'assertions'"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What came of one test file.

    Attributes:
        source: Where it was read from.
        file: What it says.
        verdicts: One for each of its assertions; none if it has errors.
    """

    source: str
    file: AssertionFile
    verdicts: Sequence[Verdict] = ()

    @property
    def passed(self) -> bool:
        """Whether there is an assertion, and each holds."""
        return not self.file.errors and bool(self.verdicts) and not self.failing

    @property
    def failing(self) -> list[Verdict]:
        """Those that do not hold."""
        return [verdict for verdict in self.verdicts if not verdict.holds]


def format_text(tested: FileResult, style: Style) -> str:
    """What does not hold, and a summary, as text for people."""
    source = tested.source
    lines = [format_line(source, each, style) for each in tested.file.errors]
    lines += _count_omitted(tested.file)
    for verdict in tested.failing:
        lines.append(format_line(source, _to_diagnostic(verdict, verdict.title), style, "fails"))
        lines += [f"  {style.dim(f'{word:<8}')}  {printable(text)}" for word, text in _list_details(verdict)]
    summary = f"{printable(source)}: {_summarize(tested)}"
    return "\n".join([*lines, f"{style.green('✔')} {summary}" if tested.passed else style.red(summary)])


def format_for_github(tested: FileResult) -> str:
    """GitHub's workflow commands that annotate the test file, and a summary for the log."""
    source, file = tested.source, tested.file
    path = find_in_workspace(None if source == "-" else source)
    lines = [format_annotation(source, path, each, "Invalid test file") for each in file.errors]
    lines += _count_omitted(file)
    for verdict in tested.failing:
        details = "; ".join(f"{word} {text}" for word, text in _list_details(verdict))
        diagnostic = _to_diagnostic(verdict, f"{verdict.title}: {details}")
        lines.append(format_annotation(source, path, diagnostic, _FAILS))
    if not (file.errors or tested.verdicts):
        lines.append(format_annotation(source, path, Diagnostic(_NOTHING_TESTED), _FAILS))
    return "\n".join([*lines, f"{printable(source)}: {_summarize(tested)}"])


def to_json(tested: FileResult) -> dict[str, Any]:
    """A JSON object, which the reference describes: it is a public format."""
    return {
        "source": tested.source,
        "passed": tested.passed,
        "holds": len(tested.verdicts) - len(tested.failing),
        "fails": len(tested.failing),
        "errors": to_list(tested.file.errors),
        "omitted": tested.file.omitted,
        "assertions": [
            {
                "line": verdict.assertion.line,
                "column": verdict.assertion.column,
                "name": verdict.title,
                "holds": verdict.holds,
                "failures": [_failure_to_json(failure) for failure in verdict.failures],
            }
            for verdict in tested.verdicts
        ],
    }


def _summarize(tested: FileResult) -> str:
    file, verdicts = tested.file, tested.verdicts
    if file.errors:
        return f"{format_error_count(len(file.errors) + file.omitted)}; nothing was tested"
    if not verdicts:
        return _NOTHING_TESTED
    failed = len(tested.failing)
    held = len(verdicts) - failed
    fails = "fails" if failed == 1 else "fail"
    if not held:
        return f"{failed:,} assertion{'s' * (failed > 1)} {fails}"
    holds = f"{held:,} assertion{' holds' if held == 1 else 's hold'}"
    return f"{holds}, {failed:,} {fails}" if failed else holds


def _count_omitted(file: AssertionFile) -> list[str]:
    return [f"…and {format_omitted_count(len(file.errors), file.omitted)} errors"] if file.omitted else []


def _to_diagnostic(verdict: Verdict, what: str) -> Diagnostic:
    return Diagnostic(what, line=verdict.assertion.line, column=verdict.assertion.column)


def _list_details(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What was expected, what was found, and for whom, each with a word before it."""
    last = ""
    for failure in verdict.failures[:_MOST_FAILURES]:
        if failure.example_in_words != last:
            yield "for", failure.example_in_words
            last = failure.example_in_words
        yield "expected", failure.expected
        yield "found", failure.found
    if verdict.failures[_MOST_FAILURES:]:
        yield "and", f"{len(verdict.failures) - _MOST_FAILURES:,} more, which --format json shows"


def _failure_to_json(failure: Failure) -> dict[str, Any]:
    return {
        "expected": failure.expected,
        "found": failure.found,
        "profile": failure.profile or None,
        "example": failure.example and example_to_json(failure.example),
    }
