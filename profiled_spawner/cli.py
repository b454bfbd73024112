"""The command ``profiled-spawner``: arguments, and what is printed of what the pipeline says.

`validate`, `explain` and `schema` start in the time that a YAML parser takes to load: whatever belongs to JupyterHub,
KubeSpawner or the Kubernetes client is imported only where it is used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import __version__
from .document import Document
from .errors import Diagnostic, DocumentError, ProfiledSpawnerError, SourceError
from .explanation import explain_document, format_explanation, to_json
from .manifest import MAX_MANIFEST_BYTES, Text, decode_text, find_document
from .matching import Subject
from .parsing import Checked, check_document, parse_document
from .terminal import Style, find_style, prepare, printable

__all__ = ["main"]

DEFAULT_KEY = "jupyterhub-singleuser-profiles.yaml"
"""The default of `ProfiledKubeSpawner.configmap_key`, which this module cannot import."""

_GOOD, _NOT_GOOD, _UNUSABLE = 0, 1, 2
# What a shell reports of a command that Ctrl-C or a closed pipe ended.
_INTERRUPTED, _NOBODY_READS = 130, 141

_API_TIMEOUT_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: Arguments without the command's name; by default those that the process was given.

    Raises:
        SystemExit: The arguments are wrong, or ask for help or the version.
    """
    prepare(sys.stdout)
    prepare(sys.stderr)
    try:
        arguments = _make_parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ProfiledSpawnerError as error:
        print(f"profiled-spawner: {error}", file=sys.stderr)
        return _UNUSABLE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="profiled-spawner",
        description="Looks after the profiles of JupyterHub servers that ProfiledKubeSpawner starts.",
        epilog="Exit codes: 0 good; 1 the document is not; 2 wrong usage, or the source cannot be read.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add_command(name: str, run: Callable[[argparse.Namespace], int], summary: str, more: str = "") -> Any:
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}")
        command.set_defaults(run=run)
        return command

    validate = add_command("validate", _validate, "tell every error of a document, and what may not be meant")
    _add_source(validate)
    validate.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")
    validate.add_argument(
        "--format",
        choices=["text", "json", "github"],
        default="text",
        help="text for people (the default), json, or github: annotations of GitHub Actions",
    )

    explain = add_command(
        "explain",
        _explain,
        "tell which profiles fit a server, why, and what they give it",
        "What the hub's own settings give a server is not known here; see render.",
    )
    _add_source(explain)
    _add_subject(explain)
    explain.add_argument(
        "--merge-order",
        choices=["specificity", "document"],
        default="specificity",
        help="which profile wins, as ProfiledKubeSpawner.merge_order (default: specificity)",
    )
    _add_show_values(explain, "environment variables' values instead of ***")
    explain.add_argument(
        "--format", choices=["text", "json"], default="text", help="text for people (the default), or json"
    )

    render = add_command(
        "render",
        _render,
        "show the pod manifest that a server would be started with, without a cluster",
        "Group overrides are applied; no hook and no profile_list is run.",
    )
    _add_source(render)
    _add_subject(render)
    render.add_argument(
        "--server", metavar="NAME", type=_text, default="", help="a named server; the default one without"
    )
    render.add_argument(
        "--config", metavar="FILE", type=Path, help="the hub's jupyterhub_config.py, which is run; none by default"
    )
    _add_show_values(render, "environment variables' values instead of ***, the hub's own among them")
    render.add_argument("--format", choices=["yaml", "json"], default="yaml", help="yaml (the default), or json")

    add_command("schema", _schema, "print the document's JSON Schema, for editors")
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="a file that holds the document or a ConfigMap manifest; - is the standard input",
    )
    source.add_argument(
        "--configmap",
        metavar="[NAMESPACE/]NAME",
        type=_configmap,
        help="a live ConfigMap in place of SOURCE, read through your kubeconfig",
    )
    command.add_argument(
        "--key",
        metavar="KEY",
        default=DEFAULT_KEY,
        help="the ConfigMap's key that holds the document (default: %(default)s)",
    )


def _add_subject(command: argparse.ArgumentParser) -> None:
    command.add_argument("--user", metavar="NAME", required=True, type=_text, help="the JupyterHub username")
    command.add_argument(
        "--group",
        metavar="NAME",
        action="append",
        default=[],
        type=_text,
        help="a group of the user; as often as need be",
    )
    command.add_argument("--image", metavar="IMAGE", required=True, type=_text, help="the image that the server runs")


def _add_show_values(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--show-values", action="store_true", help=f"show {what}")


def _text(argument: str) -> str:
    if not argument:
        raise argparse.ArgumentTypeError("must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in argument):
        raise argparse.ArgumentTypeError("not UTF-8 text")
    return argument


def _configmap(argument: str) -> tuple[str, str]:
    namespace, slash, name = argument.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise argparse.ArgumentTypeError(f"{argument!r} is not NAME or NAMESPACE/NAME")
    return namespace, name


@dataclass(frozen=True, slots=True)
class _Input:
    """A source that was read.

    Attributes:
        name: What diagnostics call it.
        revision: What the annotation of a pod calls it.
        file: The file that diagnostics can be attached to; None where it is none.
        text: What was found in it; an error where that is no text.
    """

    name: str
    revision: str
    file: str | None
    text: Text | DocumentError

    def check(self) -> Checked:
        """Everything that is to be said of it."""
        if isinstance(self.text, DocumentError):
            return Checked(None, self.text.diagnostics, self.text.omitted, ())
        text = self.text
        return check_document(text.text, line_offset=text.line_offset, column_offset=text.column_offset)

    def parse(self) -> Document | None:
        """Its document; None where it has errors, which then have been told on the standard error."""
        try:
            if isinstance(self.text, DocumentError):
                raise self.text
            text = self.text
            return parse_document(text.text, line_offset=text.line_offset, column_offset=text.column_offset)
        except DocumentError as error:
            checked = Checked(None, error.diagnostics, error.omitted, ())
        print(_format_text(self, checked, find_style(sys.stderr)), file=sys.stderr)
        return None


def _read(arguments: argparse.Namespace) -> _Input:
    if arguments.configmap:
        return _read_configmap(*arguments.configmap, arguments.key)
    if arguments.source == "-":
        name, file = "<stdin>", None
        raw = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_MANIFEST_BYTES + 1)
    else:
        name = file = arguments.source
        try:
            with Path(name).open("rb") as stream:
                # One more than is allowed, to see that there is more.
                raw = stream.read(MAX_MANIFEST_BYTES + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SourceError(f"{printable(name)} cannot be read: {why}", outcome="unavailable") from None
    text: Text | DocumentError
    try:
        text = find_document(decode_text(raw), arguments.key, source=name)
    except DocumentError as error:
        text = error
    return _Input(name, f"file/{name}", file, text)


def _read_configmap(namespace: str, name: str, key: str) -> _Input:
    import asyncio

    from .cluster import read_configmap

    revision = asyncio.run(read_configmap(namespace, name, key, timeout_seconds=_API_TIMEOUT_SECONDS))
    return _Input(revision.name.partition("@")[0], revision.name, None, revision.text)


def _validate(arguments: argparse.Namespace) -> int:
    source = _read(arguments)
    checked = source.check()
    if arguments.format == "json":
        _print_json(_to_json(source, checked))
    elif arguments.format == "github":
        print(_format_github(source, checked))
    else:
        print(_format_text(source, checked, find_style(sys.stdout)))
    return _NOT_GOOD if checked.errors or (arguments.strict and checked.warnings) else _GOOD


def _explain(arguments: argparse.Namespace) -> int:
    document = _read(arguments).parse()
    if document is None:
        return _NOT_GOOD
    explanation = explain_document(document, _subject(arguments), arguments.merge_order)
    if arguments.format == "json":
        _print_json(to_json(explanation, show_values=arguments.show_values))
    else:
        print(format_explanation(explanation, find_style(sys.stdout), show_values=arguments.show_values))
    return _GOOD


def _render(arguments: argparse.Namespace) -> int:
    source = _read(arguments)
    document = source.parse()
    if document is None:
        return _NOT_GOOD
    import asyncio

    from .rendering import render_pod
    from .store import Reading

    pod = asyncio.run(
        render_pod(
            Reading(document, source.revision),
            _subject(arguments),
            server=arguments.server,
            config_file=arguments.config,
            show_values=arguments.show_values,
        )
    )
    if arguments.format == "json":
        _print_json(pod)
    else:
        print(yaml.safe_dump(pod, sort_keys=False, allow_unicode=_is_utf8()), end="")
    return _GOOD


def _schema(_: argparse.Namespace) -> int:
    from .schema import make_schema

    _print_json(make_schema())
    return _GOOD


def _subject(arguments: argparse.Namespace) -> Subject:
    return Subject(arguments.user, frozenset(arguments.group), arguments.image)


def _is_utf8() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=not _is_utf8()))


def _format_text(source: _Input, checked: Checked, style: Style) -> str:
    """One line for each diagnostic, which editors and terminals can follow, and a summary."""
    lines = []
    for diagnostic in _in_order(checked):
        place = f":{diagnostic.line}:{diagnostic.column}" if diagnostic.line else ""
        colour = style.red if diagnostic.severity == "error" else style.yellow
        severity = colour(f"{diagnostic.severity}:")
        lines.append(f"{style.bold(printable(source.name) + place)}: {severity} {_describe(diagnostic)}")
    if checked.omitted:
        lines.append(f"…and {checked.omitted} more errors")
    if checked.document is None:
        lines.append(style.red(_summarize(checked)))
    elif checked.warnings:
        lines.append(style.yellow(_summarize(checked)))
    else:
        lines.append(f"{style.green('✔')} {printable(source.name)}: {_summarize(checked)}")
    return "\n".join(lines)


def _in_order(checked: Checked) -> list[Diagnostic]:
    return sorted((*checked.errors, *checked.warnings), key=lambda each: (each.line, each.column))


def _describe(diagnostic: Diagnostic) -> str:
    return f"{diagnostic.path}: {diagnostic.what}" if diagnostic.path else diagnostic.what


def _summarize(checked: Checked) -> str:
    warnings = _count(len(checked.warnings), "warning")
    if checked.document is None:
        parts = [_count(len(checked.errors) + checked.omitted, "error")] + ([warnings] if checked.warnings else [])
        return f"{', '.join(parts)}; a hub goes on with the last good document, if it has one"
    parts = [_count(len(checked.document.profiles), "profile"), "no errors"] + ([warnings] if checked.warnings else [])
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _to_json(source: _Input, checked: Checked) -> dict[str, Any]:
    def listed(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
        return [
            {"line": each.line or None, "column": each.column or None, "path": each.path, "what": each.what}
            for each in diagnostics
        ]

    return {
        "source": source.name,
        "valid": checked.document is not None,
        "profiles": None if checked.document is None else len(checked.document.profiles),
        "errors": listed(checked.errors),
        "omitted": checked.omitted,
        "warnings": listed(checked.warnings),
    }


def _format_github(source: _Input, checked: Checked) -> str:
    """Workflow commands, and a summary for the log.

    See https://docs.github.com/actions/reference/workflow-commands-for-github-actions.
    """
    lines = []
    for diagnostic in _in_order(checked):
        properties = {"title": diagnostic.path or "profile document"}
        message = _describe(diagnostic)
        if source.file is None:
            place = f":{diagnostic.line}:{diagnostic.column}" if diagnostic.line else ""
            message = f"{source.name}{place}: {message}"
        else:
            properties = {"file": source.file, **_place(diagnostic), **properties}
        shown = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
        lines.append(f"::{diagnostic.severity} {shown}::{_escape(message)}")
    if checked.omitted:
        lines.append(f"...and {checked.omitted} more errors")
    lines.append(_summarize(checked))
    return "\n".join(lines)


def _place(diagnostic: Diagnostic) -> dict[str, str]:
    return {"line": str(diagnostic.line), "col": str(diagnostic.column)} if diagnostic.line else {}


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
