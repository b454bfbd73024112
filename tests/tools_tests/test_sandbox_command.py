"""``python -m sandbox`` as a person meets it: what it says, what it refuses, and how it ends."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.hub import free_ports
from sandbox.shim import children
from sandbox.waiting import HANG_SECONDS

DOCUMENT = "profiles: [{name: everyone, env: {GREETING: hello}, resources: {mem_limit: 1Gi}}]\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "tools"), "NO_COLOR": "1"}


async def run(*arguments: str) -> tuple[int | None, str]:
    """Run the command to its end and return its exit code and what it has written to standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", *arguments),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_a_port_in_use_is_refused_before_anything_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        exit_code, errors = await run("--port", str(port))

    assert exit_code == 2
    assert errors.startswith(f"port {port} of 127.0.0.1 is in use; stop what listens there, or choose another port: ")


async def test_a_document_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    exit_code, errors = await run("--document", str(tmp_path / "none.yaml"), "--port", "0")

    assert exit_code == 2
    assert errors == f"{tmp_path}/none.yaml cannot be read: No such file or directory\n"


async def test_a_manifest_without_the_document_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "configmap.yaml"
    manifest.write_text("apiVersion: v1\nkind: ConfigMap\ndata:\n  other.yaml: x\n")
    exit_code, errors = await run("--document", str(manifest), "--port", "0")

    assert exit_code == 2
    assert "has no key 'jupyterhub-singleuser-profiles.yaml'; it has 'other.yaml'" in errors


async def test_a_group_without_users_is_refused() -> None:
    exit_code, errors = await run("--group", "forecasters")

    assert exit_code == 2
    assert "'forecasters' is not NAME=USER,USER" in errors


async def test_objects_that_are_none_are_refused_without_quoting_them(tmp_path: Path) -> None:
    objects = tmp_path / "secret.yaml"
    objects.write_text("password: s3cret")
    exit_code, errors = await run("--objects", str(objects))

    assert exit_code == 2
    assert f"{objects} does not hold manifests of Kubernetes objects" in errors
    assert "s3cret" not in errors


class RunningCommand:
    """The command while it runs, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process, document: Path) -> None:
        self.process = process
        self.document = document
        self.said = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Read on until it has said something."""
        assert self.process.stdout is not None
        async with asyncio.timeout(HANG_SECONDS):
            while not (match := re.search(pattern, self.said)):
                piece = await self.process.stdout.read(4096)
                assert piece, self.said
                self.said += piece.decode()
        return match


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[RunningCommand]:
    document = tmp_path / "my-profiles.yaml"
    document.write_text(DOCUMENT)
    (port,) = free_ports(0)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "--document", str(document), "--port", str(port)),
        *("--group", "forecasters=ada,grace"),
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    yield RunningCommand(process, document)
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.processes
@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
async def test_it_says_what_there_is_and_stops_cleanly(command: RunningCommand, asked_by: signal.Signals) -> None:
    await command.until(r"Ctrl-C stops everything\.")

    assert re.search(r"open +http://127\.0\.0\.1:\d+\n", command.said)
    assert re.search(r"log in as +anyone, with the password \w+\n", command.said)
    assert re.search(r"groups +forecasters: ada, grace\n", command.said)
    assert "This isolates nothing" in command.said
    assert "shown, not enforced" in command.said

    directory = Path((await command.until(r"logs +(\S+)/hub/hub.log"))[1])
    command.process.send_signal(asked_by)
    await command.until("Stopped; nothing is left running")

    assert await command.process.wait() == 0
    assert not directory.exists()


@pytest.mark.processes
async def test_an_edit_is_told_and_so_is_what_is_wrong_with_it(command: RunningCommand) -> None:
    await command.until(r"Ctrl-C stops everything\.")
    command.document.write_text(DOCUMENT.replace("resources:", "resorces:"))
    await command.until(r"ConfigMap updated \(resourceVersion \d+\); it counts from the next start of a server")
    await command.until(
        r"my-profiles\.yaml:1:\d+: error: profiles\[0\]\.resorces: unknown key; did you mean 'resources'"
    )
    command.document.unlink()
    await command.until(r"cannot be read: No such file or directory; the ConfigMap stays as it is")


@pytest.mark.processes
async def test_a_dead_hub_is_told_with_the_end_of_its_log(command: RunningCommand) -> None:
    await command.until(r"Ctrl-C stops everything\.")
    shim = next(pid for pid in children(command.process.pid) if b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    (hub,) = children(shim)
    os.kill(hub, signal.SIGKILL)
    await command.until(r"(?s)The hub ended with exit code 137; its last words:\n.*JupyterHub is now running")

    assert await command.process.wait() == 1
