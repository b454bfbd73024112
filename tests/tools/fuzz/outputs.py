"""All that is told of a document, valid or not, with values of its environment variables in none of it.

`tell` is what every document is asked for; what costs more is for some of them: the command (`run_command`,
`run_render`) and a hub's way to a document (`read_as_hub`).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from profiled_spawner.command import diagnosis, explanation
from profiled_spawner.command.main import main
from profiled_spawner.command.terminal import Style
from profiled_spawner.decide.choices import choose, find_offer
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import Document
from profiled_spawner.document.parser import ValidationResult, validate_document
from profiled_spawner.errors import DocumentError, SourceError
from profiled_spawner.hub.spawn_form import format_form
from profiled_spawner.sources.extract import find_document
from profiled_spawner.sources.file import FileSource
from profiled_spawner.sources.several import read_documents

from .canaries import KEY, find_canaries

__all__ = ["Told", "find_leaks", "parse", "read_as_hub", "run_command", "run_render", "tell", "told_by"]

Told = tuple[str, str]
"""An output's name, and what stands in it."""

_SUBJECT = Subject("ada", frozenset({"forecasters"}), "quay.io/example/nb:1", 0)
_SUBJECT_ARGUMENTS = ("--user", "ada", "--group", "forecasters", "--image", "quay.io/example/nb:1")
_SOURCE = "profiles.yaml"


def parse(text: str) -> ValidationResult | SourceError:
    """What there is to say of a file."""
    try:
        found = find_document(text, KEY, source=_SOURCE)
    except DocumentError as error:
        return ValidationResult(None, error.diagnostics, error.omitted, ())
    except SourceError as error:
        return error
    return validate_document(found.text, line_offset=found.line_offset, column_offset=found.column_offset)


def tell(checked: ValidationResult | SourceError) -> Iterator[Told]:
    """What is told of a file by functions that cost little."""
    if isinstance(checked, SourceError):
        yield "source error", f"{checked} {checked!r}"
        return
    yield "validate", diagnosis.format_text(_SOURCE, checked, Style())
    yield "validate --format json", json.dumps(diagnosis.to_json(_SOURCE, checked))
    yield "validate --format github", diagnosis.format_for_github(_SOURCE, _SOURCE, checked)
    yield "repr", repr(checked)
    if checked.document is None:
        error = DocumentError(checked.errors, omitted=checked.omitted, source=_SOURCE)
        yield "exception", f"{error} {error!r} {error.args}"
    else:
        yield from _tell_valid(checked.document)


def _tell_valid(document: Document) -> Iterator[Told]:
    explained = explanation.explain_document(document, _SUBJECT)
    yield "explain", explanation.format_text(explained, Style())
    yield "explain --format json", json.dumps(explanation.to_json(explained))
    yield "repr", repr(explained)
    offer = find_offer(document, _SUBJECT)
    yield "spawn form", format_form(offer, None, document.timezone, _SUBJECT.at)
    for image in offer.images:
        yield "repr", repr(choose(document, _SUBJECT, {"image": image.name}))
    for size in offer.sizes:
        yield "repr", repr(choose(document, _SUBJECT, {"size": size.name}))


def run_command(path: Path) -> Iterator[Told]:
    """What the command says of a file."""
    for form in ("text", "json", "github"):
        yield _run("validate", str(path), "--format", form)
    for form in ("text", "json"):
        yield _run("explain", str(path), *_SUBJECT_ARGUMENTS, "--format", form)


def run_render(path: Path) -> Iterator[Told]:
    """What the command makes of a file, if it is valid: a pod, for which it needs JupyterHub and KubeSpawner."""
    for form in ("yaml", "json"):
        yield _run("render", str(path), *_SUBJECT_ARGUMENTS, "--format", form)


def _run(*arguments: str) -> Told:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        main(arguments)
    return f"command {arguments[0]} --format {arguments[-1]}", output.getvalue() + errors.getvalue()


def read_as_hub(path: Path, runner: asyncio.Runner) -> Iterator[Told]:
    """What a hub logs that reads a file, and what there is to see of what it is given."""
    with _log_kept() as lines:
        yield _read(path, runner)
    yield "log of a read", "\n".join(lines)


def _read(path: Path, runner: asyncio.Runner) -> Told:
    # A function of its own: the local variables of whoever handles the error are told too, and the log is one.
    log = logging.getLogger("fuzz.hub")
    read = read_documents(FileSource(path, KEY), None, policy="fail", timeout_seconds=10, log=log)
    try:
        reading = runner.run(read)
    except (DocumentError, SourceError) as error:
        return "exception of a read", told_by(error)
    return "reading", f"{reading!r} {reading.origin}"


def told_by(error: BaseException) -> str:
    """All that can be told of an exception: its text, and its traceback with each frame's local variables."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join([str(error), repr(error), repr(vars(error)), *lines])


def find_leaks(told: str, document: Document | None) -> tuple[set[str], set[str]]:
    """The parts of canaries in a text that must not be there, and those that a valid document has made public."""
    found = find_canaries(told)
    if not found or document is None:
        return found, set()
    public = " ".join(_public_texts(document)).upper()
    excused = {each for each in found if each in public}
    return found - excused, excused


def _public_texts(value: Any) -> Iterator[str]:
    """All that a document says but for values of variables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield name
            yield from _public_texts(each)
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from _public_texts(each)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            each = getattr(value, name)
            if name == "env":
                each = {variable: None if isinstance(of, str) else of for variable, of in each.items()}
            yield from _public_texts(each)


@contextlib.contextmanager
def _log_kept() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {record.levelname} {record.getMessage()} {record.args!r}")
            if record.exc_info and record.exc_info[1]:
                lines.append(told_by(record.exc_info[1]))

    root, keeper = logging.getLogger(), Keeper()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(keeper)
