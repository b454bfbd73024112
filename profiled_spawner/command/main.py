"""The command ``profiled-spawner``: parses its arguments, runs a subcommand, and reports errors.

To start fast, it imports JupyterHub, KubeSpawner and the Kubernetes client only where they are used. `validate`,
`explain` and `schema` do not need them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..document.model import DEFAULT_SIZE
from ..errors import ChoiceError, PodError, ProfiledSpawnerError
from .inputs import EXIT_INVALID, EXIT_UNUSABLE
from .terminal import escape_unencodable, print_notice, printable

__all__ = ["main", "make_parser"]

DEFAULT_KEY = "jupyterhub-singleuser-profiles.yaml"
"""The default of `ProfiledKubeSpawner.configmap_key`, repeated here because importing the spawner is slow."""

_SOURCES = "a file, - for the standard input, configmap:[NAMESPACE/]NAME, or git:REVISION:PATH"

_THINGS = {
    "env": "an environment variable that has a value, or takes one from elsewhere",
    "secret": "a Secret that variables or volumes refer to",
    "resource": "a limit or a guarantee, by Kubernetes' name, such as memory or nvidia.com/gpu",
    "profile": "a profile that matches",
    "size": "a size that may be chosen",
    "image-choice": "an entry of the document's images that may be chosen",
    "claim": "the PersistentVolumeClaim of a volume",
}

# The exit codes that a shell shows for SIGINT and SIGPIPE.
_EXIT_INTERRUPTED, _EXIT_BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the command's name; by default those of the process.

    Returns:
        The exit code, as ``profiled-spawner --help`` lists them. Errors are printed, not raised.

    Raises:
        SystemExit: The arguments are wrong, or ask for help or the version.
    """
    # A closed standard output is None. print() ignores that, but flush() would fail.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
    escape_unencodable(sys.stdout)
    escape_unencodable(sys.stderr)
    try:
        parser = make_parser()
        arguments = parser.parse_args(argv)
        _check(arguments, parser)
        code: int = import_module(f"{__package__}.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except ProfiledSpawnerError as error:
        print_notice(str(error))
        return EXIT_INVALID if isinstance(error, ChoiceError | PodError) else EXIT_UNUSABLE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except OSError as error:
        # Python flushes again at exit, and would print an error then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _EXIT_BROKEN_PIPE
        print_notice(f"cannot write the output: {error.strerror}")
        return EXIT_UNUSABLE
    return code


def _check(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Checks what argparse cannot: which arguments need, or exclude, which others."""
    given = vars(arguments)
    sources = {
        "diff": lambda: [arguments.old, arguments.new],
        "who": lambda: [arguments.source],
        "test": lambda: [*arguments.file, arguments.document or ""],
    }.get(arguments.command, list)()
    if sources:
        if sources.count("-") > 1:
            which = "OLD and NEW" if arguments.command == "diff" else "FILE and --document"
            parser.error(f"only one of {which} can be the standard input")
        if arguments.label_selector and not any(source.startswith("configmap:") for source in sources):
            parser.error("argument --label-selector: needs configmap:NAME")
    elif given.get("label_selector") and not given["configmap"]:
        parser.error("argument --label-selector: needs --configmap")
    if arguments.command == "explain":
        has_roster = bool(given["roster"] or given["hub"])
        if not (given["user"] or has_roster):
            parser.error("one of the arguments --user --roster --hub is required")
        if has_roster and given["group"]:
            parser.error("argument --group: not allowed with a roster, which says who is in which groups")
    if arguments.command == "validate":
        _check_teams(arguments, parser)
    if given.get("complete") and not given["roster"]:
        parser.error("argument --complete: needs --roster")


def _check_teams(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if arguments.team and (arguments.configmap or not arguments.main):
        parser.error("argument --team: needs --main and SOURCE")
    if arguments.main and not (arguments.team or arguments.label_selector):
        parser.error("argument --main: needs --team, or --configmap and --label-selector")
    if [arguments.main, *arguments.source].count("-") > 1:
        parser.error("only one of --main and SOURCE can be the standard input")


class _Parser(argparse.ArgumentParser):
    """An argument parser that escapes its error messages, because they may quote an argument."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    parser = _Parser(
        prog="profiled-spawner",
        description="Checks and explains the profiles that ProfiledKubeSpawner gives to JupyterHub servers.",
        epilog="Exit codes: 0: success; 1: the document has errors, or cannot be used for this server; 2: wrong usage, "
        "or the source or the hub's configuration cannot be used.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    def add_command(name: str, summary: str, more: str = "") -> Any:
        return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}")

    validate = add_command("validate", "list every error and warning of a document")
    _add_source(validate, several=True)
    validate.add_argument(
        "--main",
        metavar="MAIN",
        type=_source,
        help="a main document: with --team, check SOURCE as a ConfigMap of that team; with --configmap and "
        f"--label-selector, check the ConfigMaps as if this were the main one; {_SOURCES}",
    )
    validate.add_argument("--team", metavar="NAME", type=_text, help="with --main: the team whose ConfigMap SOURCE is")
    validate.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")
    _add_merge_order(validate)
    validate.add_argument(
        "--format",
        choices=["text", "json", "github"],
        default="text",
        help="text for people (the default), json, or github: annotations of GitHub Actions",
    )

    explain = add_command(
        "explain",
        "show which profiles match a server, why, and the resulting settings",
        "The hub's own settings are not included; render includes them.",
    )
    _add_source(explain)
    _add_subject(explain, several=True)
    _add_merge_order(explain)
    _add_show_values(explain, "the values of environment variables instead of ***")
    explain.add_argument(
        "--format", choices=["text", "json"], default="text", help="text for people (the default), or json"
    )

    render = add_command(
        "render",
        "show the pod manifest of a server, without a cluster",
        "Group overrides are applied. Hooks and profile_list are not run.",
    )
    _add_source(render)
    _add_subject(render)
    render.add_argument("--server", metavar="NAME", type=_text, help="the name of a named server")
    render.add_argument(
        "--config", metavar="FILE", type=Path, help="a jupyterhub_config.py to run for the hub's settings"
    )
    _add_show_values(render, "the values of environment variables instead of ***, including the hub's own")
    render.add_argument("--format", choices=["yaml", "json"], default="yaml", help="yaml (the default), or json")

    diff = add_command(
        "diff",
        "show what changes for whom from one document to another",
        "It covers every possible user, group, image and choice. Exits with 0 if nothing changes for anybody, and with "
        "1 if something does.",
    )
    for name in ("old", "new"):
        diff.add_argument(
            name,
            metavar=name.upper(),
            type=_source,
            help=_SOURCES,
        )
    _add_key(diff)
    _add_label_selector(diff)
    _add_moment(diff, "compare this moment alone: a date or a time (default: every moment from now on)")
    _add_merge_order(diff)
    _add_roster(diff)
    diff.add_argument(
        "--format",
        choices=["text", "json", "github"],
        default="text",
        help="text for people (the default), json, or github: fills the summary of a job of GitHub Actions",
    )

    _add_who(add_command)

    test = add_command(
        "test",
        "say whether the assertions of test files hold",
        "Exits with 0 if all hold, with 1 if one fails or a file has none, and with 2 if a test file or a document "
        "cannot be read or is not valid.",
    )
    test.add_argument("file", metavar="FILE", nargs="+", type=_text, help="a test file; - is the standard input")
    test.add_argument(
        "--document",
        metavar="SOURCE",
        type=_source,
        help=f"the document, in place of the one that the test files name: {_SOURCES}",
    )
    _add_key(test)
    _add_label_selector(test)
    _add_merge_order(test)
    test.add_argument(
        "--format",
        choices=["text", "json", "github"],
        default="text",
        help="text for people (the default), json, or github: annotations of GitHub Actions",
    )

    schema = add_command("schema", "print the document's JSON Schema, for editors")
    schema.add_argument("--test", action="store_true", help="print that of test files")
    add_command(
        "completion",
        "print a script that lets bash complete the arguments",
        "For zsh, run bashcompinit before it.",
    )
    return parser


def _add_who(add_command: Callable[..., Any]) -> None:
    who = add_command(
        "who",
        "show who can get a thing, through which profile, and that nobody else can",
        "It covers every possible user, group, image and choice. Exits with 0 if somebody can get it, and with 1 if "
        "nobody can.",
    )
    who.add_argument("source", metavar="SOURCE", type=_source, help=_SOURCES)
    thing = who.add_mutually_exclusive_group(required=True)
    for kind, what in _THINGS.items():
        thing.add_argument(f"--{kind}", metavar="NAME", type=_text, help=what)
    _add_key(who)
    _add_label_selector(who)
    _add_moment(who, "at this moment alone: a date or a time (default: every moment from now on)")
    _add_merge_order(who)
    _add_roster(who)
    who.add_argument(
        "--format", choices=["text", "json"], default="text", help="text for people (the default), or json"
    )


def _add_source(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*" if several else "?",
        default=[] if several else None,
        help="a file with the document or a ConfigMap manifest; - is the standard input"
        f"{'; several files are checked separately' if several else ''}",
    )
    source.add_argument(
        "--configmap",
        metavar="[NAMESPACE/]NAME",
        type=_configmap,
        help="read a live ConfigMap with your kubeconfig, instead of SOURCE",
    )
    command.add_argument(
        "--label-selector",
        metavar="SELECTOR",
        type=_text,
        help="with --configmap: also read these ConfigMaps, as ProfiledKubeSpawner.configmap_label_selector does",
    )
    _add_key(command)


def _add_subject(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    if several:
        command.add_argument(
            "--user",
            metavar="NAME",
            action="append",
            default=[],
            type=_text,
            help="a JupyterHub username; may be repeated; with a roster, whom of it to explain (default: everybody)",
        )
        _add_roster(command)
    else:
        command.add_argument("--user", metavar="NAME", required=True, type=_text, help="the JupyterHub username")
    command.add_argument(
        "--group",
        metavar="NAME",
        action="append",
        default=[],
        type=_text,
        help=f"a JupyterHub group of the user{'s' if several else ''}; may be repeated",
    )
    command.add_argument(
        "--image",
        metavar="IMAGE",
        type=_text,
        help="the image of the server, unless the document offers images to the user"
        f"{'; without it, each image that there may be' if several else ''}",
    )
    command.add_argument(
        "--image-choice",
        metavar="NAME",
        type=_text,
        help="the chosen entry of the document's images (default: "
        f"{'each' if several else 'the first'} that the user may choose)",
    )
    _add_moment(command, "when the server starts: a date or a time, in the document's timezone (default: now)")
    command.add_argument(
        "--size",
        metavar="NAME",
        default=DEFAULT_SIZE,
        type=_text,
        help="the chosen size (default: %(default)s, which means no size)",
    )


def _add_roster(command: argparse.ArgumentParser) -> None:
    roster = command.add_mutually_exclusive_group()
    roster.add_argument(
        "--roster",
        metavar="FILE",
        type=Path,
        help="a file that says who has an account and is in which groups: what JupyterHub's API answers to GET /users",
    )
    roster.add_argument(
        "--hub",
        metavar="URL",
        type=_text,
        help="ask this hub for its roster, with the token in JUPYTERHUB_API_TOKEN",
    )
    command.add_argument(
        "--complete", action="store_true", help="with --roster: the file may be a plain list of users; it has everybody"
    )


def _add_key(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--key",
        metavar="KEY",
        default=DEFAULT_KEY,
        help="the ConfigMap's key that holds the document (default: %(default)s)",
    )


def _add_label_selector(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--label-selector",
        metavar="SELECTOR",
        type=_text,
        help="with configmap: also read these ConfigMaps, as ProfiledKubeSpawner.configmap_label_selector does",
    )


def _add_moment(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--at", metavar="TIME", type=_text, help=what)


def _add_merge_order(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--merge-order",
        choices=["specificity", "document"],
        default="specificity",
        help="the order of merging, as in ProfiledKubeSpawner.merge_order (default: specificity)",
    )


def _add_show_values(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--show-values", action="store_true", help=f"show {what}")


def _text(argument: str) -> str:
    if not argument:
        raise argparse.ArgumentTypeError("must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in argument):
        raise argparse.ArgumentTypeError("not UTF-8 text")
    return argument


def _source(argument: str) -> str:
    kind, colon, rest = _text(argument).partition(":")
    if colon and kind == "configmap":
        _configmap(rest)
    if colon and kind == "git" and ":" not in rest:
        raise argparse.ArgumentTypeError(f"{argument!r} is not git:REVISION:PATH")
    return argument


def _configmap(argument: str) -> tuple[str, str]:
    namespace, slash, name = argument.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise argparse.ArgumentTypeError(f"{argument!r} is not NAME or NAMESPACE/NAME")
    return namespace, name
