"""``python -m sandbox``: a JupyterHub to try a profile document on, from the file that one edits."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio.client import V1Pod

from profiled_spawner.document.rules import is_hub_owned
from sandbox.assembly import EXAMPLE, EXAMPLE_GROUPS, KEY, NAMESPACE, Sandbox
from sandbox.documentfile import DocumentFile, DocumentFileError
from sandbox.hub import HubDiedError, PortInUseError
from sandbox.interruption import cancel_on_signals
from sandbox.narration import Narrator
from sandbox.status import StatusError

#: Variables that KubeSpawner and the sandbox's configuration give to every server.
EVERY_SERVERS = {"JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC", "POD_IP"}
#: As wide as the time before a line.
MARGIN = " " * 10

Groups = dict[str, list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox until it is interrupted.

    Returns:
        The exit code: 0 after Ctrl-C or SIGTERM, 1 if the hub died, 2 if the sandbox could not be started as asked.
    """
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="          %(message)s")
    narrator = Narrator()
    if sys.platform != "linux":
        print("The sandbox needs Linux: each server has a loopback address of its own.", file=sys.stderr)
        return 2
    try:
        asyncio.run(run_until_interrupted(arguments, narrator))
    except asyncio.CancelledError:
        pass
    except HubDiedError as exc:
        print(exc, file=sys.stderr)
        return 1
    except PortInUseError as exc:
        print(f'{exc}, or choose another port: --port 8001 (make sandbox ARGS="--port 8001")', file=sys.stderr)
        return 2
    except (DocumentFileError, StatusError) as exc:
        print(exc, file=sys.stderr)
        return 2
    narrator.say("Stopped; nothing is left running.")
    return 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        SystemExit: It is not right, or asks for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="A JupyterHub on this machine, without a cluster, to try a profile document on. "
        "It isolates nothing.",
    )
    parser.add_argument(
        "--document",
        metavar="FILE",
        type=Path,
        help="the profile document, or a ConfigMap manifest with it; read again whenever it changes "
        "(default: an example)",
    )
    parser.add_argument(
        "--objects",
        metavar="FILE",
        type=_manifests,
        default=[],
        help="manifests of what the document refers to, such as Secrets",
    )
    parser.add_argument("--port", type=_port, default=8000, help="the port for the browser (default: 8000; 0 for any)")
    parser.add_argument(
        "--group",
        metavar="NAME=USER,USER",
        dest="groups",
        type=_group,
        action="append",
        default=[],
        help="who is in a JupyterHub group; as often as need be",
    )
    return parser.parse_args(argv)


def _port(argument: str) -> int:
    if not argument.isdecimal() or int(argument) > 65535:
        raise argparse.ArgumentTypeError(f"{argument!r} is not a port")
    return int(argument)


def _manifests(argument: str) -> list[dict[str, Any]]:
    try:
        manifests = [manifest for manifest in yaml.safe_load_all(Path(argument).read_text()) if manifest]
        return [
            {**each, "metadata": {"namespace": NAMESPACE, **each["metadata"]}} for each in manifests if each["kind"]
        ]
    except OSError as exc:
        raise argparse.ArgumentTypeError(f"{argument} cannot be read: {exc.strerror}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        # Without the cause, which may quote a Secret.
        raise argparse.ArgumentTypeError(f"{argument} does not hold manifests of Kubernetes objects") from None


def _group(argument: str) -> tuple[str, list[str]]:
    name, _, users = argument.partition("=")
    if not name or not users:
        raise argparse.ArgumentTypeError(f"{argument!r} is not NAME=USER,USER")
    return name, [user.strip() for user in users.split(",")]


async def run_until_interrupted(arguments: argparse.Namespace, narrator: Narrator) -> None:
    """Run the sandbox, and follow its document and its servers.

    Raises:
        CancelledError: It was interrupted, and has stopped.
        PortInUseError: The port is taken.
        DocumentFileError: The document cannot be read.
        StatusError: The API refuses one of the objects.
        HubDiedError: The hub ended by itself.
    """
    cancel_on_signals(lambda: narrator.say("\nStopping …"))
    document = DocumentFile(arguments.document or EXAMPLE, KEY)
    groups: Groups = dict(arguments.groups) or ({} if arguments.document else EXAMPLE_GROUPS)
    diary = Diary(narrator)
    sandbox = Sandbox(document.read(), port=arguments.port, groups=groups, container_started=diary.tell_start)
    try:
        narrator.say("Starting a Kubernetes API, a kubelet and JupyterHub …")
        async with sandbox, asyncio.TaskGroup() as tasks:
            for manifest in arguments.objects:
                sandbox.api.put(manifest)
            introduce(sandbox, document, groups, narrator)
            await diary.tell_faults(document)
            tasks.create_task(diary.follow(sandbox, document))
            tasks.create_task(sandbox.hub.wait())
    except* (HubDiedError, StatusError) as group:
        raise group.exceptions[0] from None


def introduce(sandbox: Sandbox, document: DocumentFile, groups: Groups, narrator: Narrator) -> None:
    """Say what there is and what one can do with it."""
    style = narrator.style
    lines = {
        "open": style.bold(sandbox.hub.url),
        "log in as": f"anyone, with the password {style.bold(sandbox.hub.settings.password)}",
        "pick": "one of the document's images, or type any other",
        "edit": f"{document.path}, and restart a server to see the difference",
        "groups": "; ".join(f"{name}: {', '.join(users)}" for name, users in groups.items())
        or "none; --group NAME=USER,USER makes them",
        "logs": f"{sandbox.hub.log_file} and {sandbox.directory / 'logs'}",
    }
    narrator.say()
    for name, text in lines.items():
        narrator.say(f"  {name:<10} {text}")
    narrator.say()
    narrator.say(
        style.yellow("This isolates nothing: every server runs as you, on this machine, and does what it is told.")
    )
    narrator.say("Memory and CPU limits are shown, not enforced; images are only names. For trying documents only.")
    narrator.say("Ctrl-C stops everything.")
    narrator.say()


class Diary:
    """Tells what happens while the sandbox runs, line by line."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator

    def tell_start(self, pod: V1Pod) -> None:
        """Tell what a server was given; of its variables the names alone."""
        annotations = pod.metadata.annotations
        applied = json.loads(annotations.get("profiled-spawner/applied", "[]"))
        container = pod.spec.containers[0]
        limits = (container.resources and container.resources.limits) or {}
        names = [v.name for v in container.env if not is_hub_owned(v.name) and v.name not in EVERY_SERVERS]
        self._write(f"{annotations['hub.jupyter.org/username']} starts on {container.image}")
        self._add("profiles", ", ".join(applied) or "none fit")
        self._add("limits", f"memory {limits.get('memory', 'none')}, CPU {limits.get('cpu', 'none')}")
        self._add("variables", ", ".join(sorted(names)) or "none")

    async def tell_faults(self, document: DocumentFile) -> None:
        """Tell what ``profiled-spawner validate`` finds in the document, if anything."""
        valid, said = await document.validate()
        if not valid or len(said.splitlines()) > 1:
            for line in said.splitlines():
                self._narrator.say(MARGIN + (line if valid else self._narrator.style.red(line)))

    async def follow(self, sandbox: Sandbox, document: DocumentFile) -> None:
        """Copy each edit of the document into the ConfigMap, and tell of it and of what the hub warns of."""
        await asyncio.gather(self._follow_document(sandbox, document), self._follow_warnings(sandbox))

    async def _follow_document(self, sandbox: Sandbox, document: DocumentFile) -> None:
        async for change in document.changes():
            if isinstance(change, DocumentFileError):
                self._write(f"{change}; the ConfigMap stays as it is")
                continue
            version = sandbox.write_document(change)
            self._write(f"ConfigMap updated (resourceVersion {version}); it counts from the next start of a server")
            await self.tell_faults(document)

    async def _follow_warnings(self, sandbox: Sandbox) -> None:
        told = 0
        while True:
            await asyncio.sleep(1)
            warnings = sandbox.hub.profile_warnings()
            for warning in warnings[told:]:
                self._write(f"the hub: {warning}")
            told = len(warnings)

    def _write(self, text: str) -> None:
        self._narrator.say(f"{self._narrator.style.dim(f'{datetime.now():%H:%M:%S}')}  {text}")

    def _add(self, name: str, text: str) -> None:
        self._narrator.say(f"{MARGIN}{name:<10} {text}")


if __name__ == "__main__":
    sys.exit(main())
