"""The command ``profiled-spawner``: arguments, and what is printed of what the pipeline says.

`validate`, `explain` and `schema` start in the time that a YAML parser takes to load: whatever belongs to JupyterHub,
KubeSpawner or the Kubernetes client is imported only where it is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from . import __version__, diagnosis, explanation
from .document import DEFAULT_SIZE, Combination, Document, combine_documents
from .errors import Diagnostic, DocumentError, PodError, ProfiledSpawnerError, SizeError, SourceError
from .manifest import MAX_MANIFEST_BYTES, Text, decode_text, find_document
from .matching import Subject
from .parsing import Checked, check_document
from .sizes import choose_size
from .terminal import find_style, prepare, printable

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
    # A standard output that was closed is None; print() lets that pass, a flush would not.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
    prepare(sys.stdout)
    prepare(sys.stderr)
    try:
        parser = _make_parser()
        arguments = parser.parse_args(argv)
        if getattr(arguments, "label_selector", None) and not arguments.configmap:
            parser.error("argument --label-selector: needs --configmap")
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ProfiledSpawnerError as error:
        print(f"profiled-spawner: {printable(str(error))}", file=sys.stderr)
        return _NOT_GOOD if isinstance(error, SizeError | PodError) else _UNUSABLE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _NOBODY_READS
        print(f"profiled-spawner: nothing can be written: {error.strerror}", file=sys.stderr)
        return _UNUSABLE
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors, which may quote an argument, cannot steer the terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="profiled-spawner",
        description="Checks and explains the profiles that ProfiledKubeSpawner gives to JupyterHub servers.",
        epilog="Exit codes: 0 good; 1 the document is not, or not for this server; 2 wrong usage, or the source or the "
        "hub's configuration cannot be used.",
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
    render.add_argument("--server", metavar="NAME", type=_text, help="a named server; the default one without")
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
        "--label-selector",
        metavar="SELECTOR",
        type=_text,
        help="with --configmap: further ConfigMaps beside it, as ProfiledKubeSpawner.configmap_label_selector",
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
    command.add_argument(
        "--size",
        metavar="NAME",
        default=DEFAULT_SIZE,
        type=_text,
        help="the size that is chosen (default: %(default)s, which is none)",
    )


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
        revision: What a pod's annotation calls it.
        file: The file that diagnostics can be attached to; None where it is none.
        text: What was found in it; an error where that is no text.
        configmap: The ConfigMap that was selected beside the main one; None for the main one itself, or a file.
    """

    name: str
    revision: str
    file: str | None
    text: Text | DocumentError
    configmap: str | None = None


def _read(arguments: argparse.Namespace) -> list[_Input]:
    """The main source first."""
    if arguments.configmap:
        namespace, name = arguments.configmap
        return _read_configmaps(namespace, name, arguments.key, arguments.label_selector or "")
    raw = _read_file(arguments.source)
    name, file = ("<stdin>", None) if arguments.source == "-" else (arguments.source, arguments.source)
    text: Text | DocumentError
    try:
        text = find_document(decode_text(raw), arguments.key, source=name)
    except DocumentError as error:
        text = error
    return [_Input(name, f"file/{name}@sha256:{hashlib.sha256(raw).hexdigest()[:12]}", file, text)]


def _read_file(path: str) -> bytes:
    # One byte more than is allowed, to see that there is more.
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


def _read_configmaps(namespace: str, name: str, key: str, label_selector: str) -> list[_Input]:
    import asyncio

    from .kubeconfig import read_configmaps

    revision, selected = asyncio.run(
        read_configmaps(namespace, name, key, label_selector=label_selector, timeout_seconds=_API_TIMEOUT_SECONDS)
    )
    inputs = [_Input(revision.name.partition("@")[0], revision.name, None, revision.text)]
    for configmap in selected:
        try:
            revision = configmap.extract()
        except SourceError as error:
            fault = DocumentError([Diagnostic(str(error))])
            inputs.append(_Input(configmap.source, configmap.source, None, fault, configmap.name))
        else:
            inputs.append(_Input(configmap.source, revision.name, None, revision.text, configmap.name))
    return inputs


def _check(sources: Sequence[_Input]) -> list[Checked]:
    checks = [_check_one(source) for source in sources]
    good = [(position, checked.document) for position, checked in enumerate(checks) if position and checked.document]
    for left_out in combine_documents(Document(), [document for _, document in good]).left_out:
        checks[good[left_out][0]] = _refuse(DocumentError([Diagnostic(Combination.REASON)]))
    return checks


def _check_one(source: _Input) -> Checked:
    text = source.text
    if isinstance(text, DocumentError):
        return _refuse(text)
    return check_document(text.text, line_offset=text.line_offset, column_offset=text.column_offset)


def _refuse(error: DocumentError) -> Checked:
    return Checked(None, error.diagnostics, error.omitted, ())


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What a hub would start servers with that has never read anything else.

    Attributes:
        document: The main document with the selected ones behind it.
        revision: Where the main one is from.
        selected: Where the others are from.
        complete: Whether all of those that were selected are in it.
    """

    document: Document
    revision: str
    selected: tuple[str, ...]
    complete: bool


def _parse(sources: Sequence[_Input]) -> _Parsed | None:
    """The documents as one; None where the main one has errors. Errors have been told on the standard error."""
    documents: list[Document] = []
    revisions: list[str] = []
    for source, checked in zip(sources, _check(sources), strict=True):
        document = checked.document
        if document is None:
            errors = replace(checked, warnings=())
            print(diagnosis.format_text(source.name, errors, find_style(sys.stderr)), file=sys.stderr)
        else:
            documents.append(document if source.configmap is None else document.of_configmap(source.configmap))
            revisions.append(source.revision)
        if not documents:
            return None
    document = combine_documents(documents[0], documents[1:]).document
    return _Parsed(document, revisions[0], tuple(revisions[1:]), complete=len(documents) == len(sources))


def _validate(arguments: argparse.Namespace) -> int:
    sources = _read(arguments)
    checks = list(zip(sources, _check(sources), strict=True))
    if arguments.format == "json":
        main, *others = (diagnosis.to_json(source.name, checked) for source, checked in checks)
        _print_json(main | {"selected": others} if arguments.label_selector else main)
    for source, checked in checks if arguments.format != "json" else ():
        if arguments.format == "github":
            # GitHub takes a path to be relative to the workspace, whichever directory this step is in.
            file = source.file and os.path.relpath(source.file, os.environ.get("GITHUB_WORKSPACE") or None)
            print(diagnosis.format_for_github(source.name, file, checked))
        else:
            print(diagnosis.format_text(source.name, checked, find_style(sys.stdout)))
    not_good = any(checked.errors or (arguments.strict and checked.warnings) for _, checked in checks)
    return _NOT_GOOD if not_good else _GOOD


def _explain(arguments: argparse.Namespace) -> int:
    parsed = _parse(_read(arguments))
    if parsed is None:
        return _NOT_GOOD
    subject = _subject(arguments)
    size = choose_size(parsed.document, subject, arguments.size)
    explained = explanation.explain_document(parsed.document, subject, arguments.merge_order, size)
    if arguments.format == "json":
        _print_json(explanation.to_json(explained, show_values=arguments.show_values))
    else:
        print(explanation.format_text(explained, find_style(sys.stdout), show_values=arguments.show_values))
    return _GOOD if parsed.complete else _NOT_GOOD


def _render(arguments: argparse.Namespace) -> int:
    parsed = _parse(_read(arguments))
    if parsed is None:
        return _NOT_GOOD
    subject = _subject(arguments)
    size = choose_size(parsed.document, subject, arguments.size)
    import asyncio

    from .rendering import render_pod
    from .store import Reading

    pod = asyncio.run(
        render_pod(
            Reading(parsed.document, parsed.revision, selected=parsed.selected),
            subject,
            size=size,
            server=arguments.server or "",
            config_file=arguments.config,
            show_values=arguments.show_values,
        )
    )
    if arguments.format == "json":
        _print_json(pod)
    else:
        print(yaml.safe_dump(pod, sort_keys=False), end="")
    return _GOOD if parsed.complete else _NOT_GOOD


def _schema(_: argparse.Namespace) -> int:
    from .schema import make_schema

    _print_json(make_schema())
    return _GOOD


def _subject(arguments: argparse.Namespace) -> Subject:
    return Subject(arguments.user, frozenset(arguments.group), arguments.image)


def _print_json(value: Any) -> None:
    # In ASCII, which says the same everywhere and cannot steer a terminal.
    print(json.dumps(value, indent=2))
