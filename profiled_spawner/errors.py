"""All exceptions of the package, and the `Diagnostic` values that describe the errors of a document.

- Every exception derives from `ProfiledSpawnerError`.
- A `Diagnostic` says where, what, and how to fix it. A `DocumentError` holds all of a document's diagnostics.
- A `SourceError` means that the document could not be read at all.
- No exception and no diagnostic holds the value of an environment variable. The code that creates one ensures that.
- As text, each is safe to print: control characters are escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .escaping import printable

__all__ = [
    "MAX_ERRORS",
    "ChoiceError",
    "Diagnostic",
    "DocumentError",
    "PodError",
    "ProfiledSpawnerError",
    "QuantityError",
    "QuotaError",
    "SourceError",
    "TimeError",
    "UndecidableError",
    "format_error_count",
    "format_omitted_count",
    "format_path",
]


class ProfiledSpawnerError(Exception):
    """The base class of every exception of this package."""

    def __str__(self) -> str:
        return printable(super().__str__())


class QuantityError(ProfiledSpawnerError, ValueError):
    """A text is not a Kubernetes quantity, or the resource cannot have this quantity."""


class TimeError(ProfiledSpawnerError, ValueError):
    """A text is not a date, a time or a time zone, or not one that there is."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning about a document.

    Attributes:
        what: The problem and how to fix it, as a sentence without a capital and a full stop.
        path: The place in the document, such as ``profiles[2].resources.mem_limit``. Empty: the whole document.
        line: The line, counted from 1. 0: unknown.
        column: The column in characters, counted from 1. 0: unknown.
        severity: A document with an error is not used. A warning has no effect on its use.

    Example:
        ``line 14, column 18: profiles[1].resources.mem_limit: 2GB is not a Kubernetes quantity; did you mean 2Gi or
        2G?``
    """

    what: str
    path: str = ""
    line: int = 0
    column: int = 0
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        return printable(f"{where}{path}{self.what}")


def format_path(steps: Sequence[str | int]) -> str:
    """Formats the path of a `Diagnostic`.

    Args:
        steps: Mapping keys and list positions, from the document's root.

    Example:
        ``["profiles", 2, "env", "my key"]`` becomes ``profiles[2].env["my key"]``.
    """
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif re.fullmatch(r"[\w…<-]{1,253}", step):
            path += f".{step}" if path else step
        else:
            path += f"[{json.dumps(step if len(step) <= 60 else step[:60] + '…', ensure_ascii=False)}]"
    return path


MAX_ERRORS = 1_000
"""Stop counting a document's errors here: nobody reads more, and finding each takes time."""


def format_error_count(number: int) -> str:
    """Formats a number of errors: ``1 error``, ``2 errors``, or ``1000 errors or more`` at `MAX_ERRORS`."""
    return f"{number} error{'s' if number > 1 else ''}{' or more' if number >= MAX_ERRORS else ''}"


def format_omitted_count(listed: int, omitted: int) -> str:
    """Formats the number of errors that are not listed: ``12 more``, or ``900 or more`` if counting stopped.

    Args:
        listed: The number of errors that are listed.
        omitted: The number of errors that are not.
    """
    return f"{omitted} or more" if listed + omitted >= MAX_ERRORS else f"{omitted} more"


class DocumentError(ProfiledSpawnerError):
    """A text is not a valid profile document.

    Attributes:
        diagnostics: The errors, in the order of the text. Never empty.
        omitted: The number of further errors that `diagnostics` does not list.
        source: Where the text was read from, such as ``configmap/jhub/profiles``. It may be empty.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic], *, omitted: int = 0, source: str = "") -> None:
        self.diagnostics = tuple(diagnostics)
        self.omitted = omitted
        self.source = source
        super().__init__(diagnostics, omitted, source)

    def without_traceback(self) -> DocumentError:
        """Returns a copy without traceback, cause and context.

        An error that many spawns raise would collect the tracebacks of all of them. A cached error would keep the API
        client and its event loop alive through its traceback.
        """
        return DocumentError(self.diagnostics, omitted=self.omitted, source=self.source)

    def __str__(self) -> str:
        listed = len(self.diagnostics)
        source = printable(self.source) or "the document"
        lines = [f"{source} has {format_error_count(listed + self.omitted)}:"]
        lines += [f"  {diagnostic}" for diagnostic in self.diagnostics]
        if self.omitted:
            lines.append(f"  … and {format_omitted_count(listed, self.omitted)}")
        return "\n".join(lines)


class PodError(ProfiledSpawnerError):
    """The profiles are valid, but this server's pod cannot be built from them.

    Their settings conflict with each other or with the pod, or they exceed what one server may get.
    """


class QuotaError(PodError):
    """A server does not fit into a quota. The message is a reason for its owner, and what to do. It names nobody."""


class ChoiceError(ProfiledSpawnerError):
    """The chosen size does not exist, or the user may not have it. The message lists the user's sizes."""


class SourceError(ProfiledSpawnerError):
    """The text of a document could not be read.

    Attributes:
        outcome: The kind of failure, as in the metrics: ``unavailable`` (no answer), ``refused`` (no permission) or
            ``missing`` (it does not exist).
        transient: Whether a retry may succeed.
        retry_after_seconds: How long the server asked to wait before a retry. 0: it did not ask.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: Literal["unavailable", "refused", "missing"],
        transient: bool = False,
        retry_after_seconds: float = 0,
    ) -> None:
        self.outcome = outcome
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)

    def without_traceback(self) -> SourceError:
        """Returns a copy without traceback, cause and context, like `DocumentError.without_traceback`."""
        return SourceError(
            str(self),
            outcome=self.outcome,
            transient=self.transient,
            retry_after_seconds=self.retry_after_seconds,
        )


class UndecidableError(ProfiledSpawnerError):
    """A question about everybody has more combinations of images than can be looked at."""
