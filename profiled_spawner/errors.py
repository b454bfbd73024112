"""What can be wrong, and how it is said.

Every exception of the package derives from `ProfiledSpawnerError`. What is wrong with a text is said in
`Diagnostic` values, which say where, what, and what to do about it; what is wrong with reading one is a
`SourceError`. Neither ever holds the value of an environment variable: whoever makes one sees to that. As text, each
is printable, whatever it quotes.
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
    "Diagnostic",
    "DocumentError",
    "PodError",
    "ProfiledSpawnerError",
    "QuantityError",
    "SizeError",
    "SourceError",
    "count_errors",
    "count_omitted",
    "format_path",
]


class ProfiledSpawnerError(Exception):
    """The base of every exception that this package raises."""

    def __str__(self) -> str:
        return printable(super().__str__())


class QuantityError(ProfiledSpawnerError, ValueError):
    """A text is not a Kubernetes quantity, or not one that its resource can have."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong with a document, or may not be what its author meant.

    Attributes:
        what: What is wrong and what to do about it: a sentence without a capital or a full stop.
        path: Where in the document, such as ``profiles[2].resources.mem_limit``; empty for all of it.
        line: Line of the text, from 1; 0 where there is none to name.
        column: Column of that line in characters, from 1; 0 where there is none to name.
        severity: A document with an error is not used; a warning changes nothing.
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
    """A `Diagnostic`'s path from its steps: keys and positions, from the document's root."""
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
"""How many errors of a document are counted: nobody reads more, and each takes time."""


def count_errors(number: int) -> str:
    """How many errors there are, such as ``1 error``, ``2 errors`` or ``1000 errors or more``."""
    return f"{number} error{'s' if number > 1 else ''}{' or more' if number >= MAX_ERRORS else ''}"


def count_omitted(listed: int, omitted: int) -> str:
    """How many errors are not listed, such as ``12 more`` or ``900 or more``."""
    return f"{omitted} or more" if listed + omitted >= MAX_ERRORS else f"{omitted} more"


class DocumentError(ProfiledSpawnerError):
    """A text is not a profile document.

    Attributes:
        diagnostics: What is wrong, in the order of the text; never empty.
        omitted: How many more errors there are than `diagnostics` lists.
        source: What the text was read from, as a person knows it; may be empty.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic], *, omitted: int = 0, source: str = "") -> None:
        self.diagnostics = tuple(diagnostics)
        self.omitted = omitted
        self.source = source
        super().__init__(diagnostics, omitted, source)

    def without_traceback(self) -> DocumentError:
        """The same as one of its own, without what it was raised from and through.

        One that many spawns raise would gather their tracebacks; one that is kept would keep, by those, the client and
        its event loop.
        """
        return DocumentError(self.diagnostics, omitted=self.omitted, source=self.source)

    def __str__(self) -> str:
        listed = len(self.diagnostics)
        source = printable(self.source) or "the document"
        lines = [f"{source} has {count_errors(listed + self.omitted)}:"]
        lines += [f"  {diagnostic}" for diagnostic in self.diagnostics]
        if self.omitted:
            lines.append(f"  … and {count_omitted(listed, self.omitted)}")
        return "\n".join(lines)


class PodError(ProfiledSpawnerError):
    """What valid profiles give a server cannot go together, or not with what its pod already has."""


class SizeError(ProfiledSpawnerError):
    """A size was chosen that is not there, or not for whom it was chosen. Says for whom, and what there is."""


class SourceError(ProfiledSpawnerError):
    """The text of a document could not be read.

    Attributes:
        outcome: What kind of failure, as the metrics name it: nothing came back (`unavailable`), the reader
            may not read it (`refused`), or it is not there (`missing`).
        transient: Whether the same request may well succeed when it is sent again.
        retry_after_seconds: How long the other side asked to wait before that; 0 if it did not.
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
        """The same as one of its own, as `DocumentError.without_traceback` has it."""
        return SourceError(
            str(self),
            outcome=self.outcome,
            transient=self.transient,
            retry_after_seconds=self.retry_after_seconds,
        )
