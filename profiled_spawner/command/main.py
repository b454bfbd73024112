"""The command ``profiled-spawner``: its arguments, and what it answers to each error.

`validate`, `explain` and `schema` start in the time that a YAML parser takes to load: whatever belongs to JupyterHub,
KubeSpawner or the Kubernetes client is imported only where it is used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..document.model import DEFAULT_SIZE
from ..errors import PodError, ProfiledSpawnerError, SizeError
from .inputs import EXIT_INVALID, EXIT_UNUSABLE
from .terminal import escape_unencodable, print_notice, printable

__all__ = ["main", "make_parser"]

DEFAULT_KEY = "jupyterhub-singleuser-profiles.yaml"
"""The default of `ProfiledKubeSpawner.configmap_key`, which this module cannot import."""

# What a shell reports of a command that Ctrl-C or a closed pipe ended.
_INTERRUPTED, _NOBODY_READS = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: Arguments without the command's name; by default those that the process was given.

    Raises:
        SystemExit: The arguments are wrong, or ask for help or the version.
    """
    # A standard output that was closed is None; print() lets that pass, a flush would not.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
    escape_unencodable(sys.stdout)
    escape_unencodable(sys.stderr)
    try:
        parser = make_parser()
        arguments = parser.parse_args(argv)
        if getattr(arguments, "label_selector", None) and not arguments.configmap:
            parser.error("argument --label-selector: needs --configmap")
        code: int = import_module(f"{__package__}.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except ProfiledSpawnerError as error:
        print_notice(str(error))
        return EXIT_INVALID if isinstance(error, SizeError | PodError) else EXIT_UNUSABLE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _NOBODY_READS
        print_notice(f"nothing can be written: {error.strerror}")
        return EXIT_UNUSABLE
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors, which may quote an argument, cannot steer the terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    parser = _Parser(
        prog="profiled-spawner",
        description="Checks and explains the profiles that ProfiledKubeSpawner gives to JupyterHub servers.",
        epilog="Exit codes: 0 good; 1 the document is not, or not for this server; 2 wrong usage, or the source or the "
        "hub's configuration cannot be used.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    def add_command(name: str, summary: str, more: str = "") -> Any:
        return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}")

    validate = add_command("validate", "print_notice every error of a document, and what may not be meant")
    _add_source(validate, several=True)
    validate.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")
    validate.add_argument(
        "--format",
        choices=["text", "json", "github"],
        default="text",
        help="text for people (the default), json, or github: annotations of GitHub Actions",
    )

    explain = add_command(
        "explain",
        "print_notice which profiles fit a server, why, and what they give it",
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

    add_command("schema", "print the document's JSON Schema, for editors")
    add_command(
        "completion",
        "print a script that lets bash complete the arguments",
        "For zsh, run bashcompinit before it.",
    )
    return parser


def _add_source(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*" if several else "?",
        default=[] if several else None,
        help="a file that holds the document or a ConfigMap manifest; - is the standard input"
        f"{'; there may be several files, each checked by itself' if several else ''}",
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
