"""``python -m sandbox``: a JupyterHub to try a profile document on, from the file that one edits."""

import argparse
import asyncio
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio.client import V1Pod

from profiled_spawner.document.rules import is_hub_owned
from sandbox.assembly import CONFIGMAP, EXAMPLE, EXAMPLE_GROUPS, KEY, NAMESPACE, Sandbox
from sandbox.documentfile import DocumentFile, DocumentFileError
from sandbox.hub import HubConfigError, HubDiedError, PortInUseError
from sandbox.interruption import cancel_on_signals
from sandbox.narration import Narrator
from sandbox.status import StatusError

#: Variables that KubeSpawner and the sandbox's configuration give to every server.
EVERY_SERVERS = {"JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC", "POD_IP"}
#: As wide as the time before a line.
MARGIN = " " * 10

#: The document without ``--document``: a copy of the example, for a person to edit and keep.
OWN_COPY = Path("my-profiles.yaml")

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
    except (DocumentFileError, HubConfigError, StatusError) as exc:
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
        f"(default: {OWN_COPY} in the current folder; if there is none, it is made, as a copy of an example)",
    )
    parser.add_argument(
        "--selected",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="one more document, or ConfigMap manifest with one, such as a team's. Its ConfigMap has the file's name, "
        "and the hub finds it by its label. Read again whenever it changes; as often as need be",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=_readable_file,
        help="a jupyterhub_config.py of your own; the hub runs it once, after the sandbox's own configuration",
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


def _readable_file(argument: str) -> Path:
    try:
        Path(argument).read_bytes()
    except OSError as exc:
        raise argparse.ArgumentTypeError(f"{argument} cannot be read: {exc.strerror}") from None
    return Path(argument)


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
        DocumentFileError: A document cannot be read, or the copy of the example not be made.
        HubConfigError: The configuration file of one's own has an error.
        StatusError: The API refuses one of the objects.
        HubDiedError: The hub ended by itself.
    """
    cancel_on_signals(lambda: narrator.say("\nStopping …"))
    about = "" if arguments.document else copy_example()
    documents = {CONFIGMAP: DocumentFile(arguments.document or OWN_COPY, KEY), **name_selected(arguments.selected)}
    groups: Groups = dict(arguments.groups) or ({} if arguments.document else EXAMPLE_GROUPS)
    diary = Diary(narrator)
    texts = {name: document.read() for name, document in documents.items()}
    sandbox = Sandbox(
        texts.pop(CONFIGMAP),
        selected=texts,
        port=arguments.port,
        groups=groups,
        config=arguments.config,
        container_started=diary.tell_start,
    )
    try:
        narrator.say("Starting a Kubernetes API, a kubelet and JupyterHub …")
        async with sandbox, asyncio.TaskGroup() as tasks:
            for manifest in arguments.objects:
                sandbox.api.put(manifest)
            introduce(sandbox, documents, about, groups, narrator)
            for document in documents.values():
                await diary.tell_faults(document)
            tasks.create_task(diary.follow(sandbox, documents))
            tasks.create_task(sandbox.hub.wait())
    except* (HubDiedError, StatusError) as group:
        raise group.exceptions[0] from None


def copy_example() -> str:
    """Copy the example to the current folder, unless it was copied before.

    Returns:
        What the file is, for people.

    Raises:
        DocumentFileError: It cannot be written.
    """
    try:
        with OWN_COPY.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE.read_text(encoding="utf-8"))
    except FileExistsError:
        return " (it was here already, and is used as it is)"
    except OSError as exc:
        why = f"{OWN_COPY.absolute()} cannot be written: {exc.strerror}"
        raise DocumentFileError(f"{why}; name a document of your own with --document FILE") from None
    return " (a new copy of the example; it is yours)"


def name_selected(paths: Sequence[Path]) -> dict[str, DocumentFile]:
    """Return further documents by the names of their ConfigMaps, which are made of the files' names.

    Raises:
        DocumentFileError: A name is that of another ConfigMap.
    """
    named: dict[str, DocumentFile] = {}
    for path in paths:
        name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
        if not name or name == CONFIGMAP or name in named:
            raise DocumentFileError(f"{path} needs another file name: its ConfigMap would be called {name!r}")
        named[name] = DocumentFile(path, KEY)
    return named


def introduce(
    sandbox: Sandbox, documents: Mapping[str, DocumentFile], about: str, groups: Groups, narrator: Narrator
) -> None:
    """Say what there is and what one can do with it.

    Args:
        sandbox: The sandbox.
        documents: The documents' files, by the names of their ConfigMaps; the main one first.
        about: What to say of the main one.
        groups: The users of each group.
        narrator: Where to say it.
    """
    style = narrator.style
    main, *selected = (document.path for document in documents.values())
    lines = {
        "open": style.bold(sandbox.hub.url),
        "log in as": f"anyone, with the password {style.bold(sandbox.hub.settings.password)}",
        "pick": "what the page offers: images of the document, and sizes if it has any",
        "edit": f"{main}{about}, save it, and restart a server to see the difference",
        **({"also edit": ", ".join(map(str, selected))} if selected else {}),
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
        self._add("profiles", ", ".join(applied) or "none match")
        self._add("limits", f"memory {limits.get('memory', 'none')}, CPU {limits.get('cpu', 'none')}")
        self._add("variables", ", ".join(sorted(names)) or "none")

    async def tell_faults(self, document: DocumentFile) -> None:
        """Tell what ``profiled-spawner validate`` finds in the document, if anything."""
        valid, said = await document.validate()
        if not valid or len(said.splitlines()) > 1:
            for line in said.splitlines():
                self._narrator.say(MARGIN + (line if valid else self._narrator.style.red(line)))

    async def follow(self, sandbox: Sandbox, documents: Mapping[str, DocumentFile]) -> None:
        """Copy each edit of a document into its ConfigMap. Tell of the edits, and of the hub's warnings."""
        following = (self._follow_document(sandbox, document, name) for name, document in documents.items())
        await asyncio.gather(*following, self._follow_warnings(sandbox))

    async def _follow_document(self, sandbox: Sandbox, document: DocumentFile, name: str) -> None:
        async for change in document.changes():
            if isinstance(change, DocumentFileError):
                self._write(f"{change}; the ConfigMap stays as it is")
                continue
            version = sandbox.write_document(change, name)
            self._write(
                f"ConfigMap {name} updated (resourceVersion {version}); it takes effect when a server next starts"
            )
            await self.tell_faults(document)

    async def _follow_warnings(self, sandbox: Sandbox) -> None:
        told = 0
        while True:
            await asyncio.sleep(1)
            warnings = sandbox.hub.start_warnings()
            for warning in warnings[told:]:
                self._write(f"the hub: {warning}")
            told = len(warnings)

    def _write(self, text: str) -> None:
        self._narrator.say(f"{self._narrator.style.dim(f'{datetime.now():%H:%M:%S}')}  {text}")

    def _add(self, name: str, text: str) -> None:
        self._narrator.say(f"{MARGIN}{name:<10} {text}")


if __name__ == "__main__":
    sys.exit(main())
