"""``python -m sandbox`` as a person meets it: what it says, what it refuses, and how it ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.assembly import EXAMPLE
from sandbox.client import HubClient, HubError
from sandbox.hub import SandboxHub, free_ports
from sandbox.shim import children
from sandbox.waiting import HANG_SECONDS

DOCUMENT = "profiles: [{name: everyone, env: {GREETING: hello}, resources: {mem_limit: 1Gi}}]\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "tools"), "NO_COLOR": "1"}


async def run(*arguments: str, directory: Path | None = None) -> tuple[int | None, str]:
    """Run the command to its end and return its exit code and what it has written to standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", *arguments),
        env=ENVIRONMENT,
        cwd=directory,
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


async def test_an_example_that_cannot_be_copied_is_told() -> None:
    # Not even root makes files there.
    exit_code, errors = await run("--port", "0", directory=Path("/proc"))

    assert exit_code == 2
    assert errors.startswith("/proc/my-profiles.yaml cannot be written: ")
    assert errors.endswith("; name a document of your own with --document FILE\n")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        pytest.param(["Team_A.yaml", "more/team-a.yml"], "team-a", id="twice"),
        pytest.param(["jupyter-singleuser-profiles.yaml"], "jupyter-singleuser-profiles", id="the-main-one"),
        pytest.param(["_.yaml"], "", id="no-name"),
    ],
)
async def test_a_selected_file_without_a_name_of_its_own_is_refused(
    tmp_path: Path, files: list[str], name: str
) -> None:
    document = tmp_path / "profiles.yaml"
    document.write_text(DOCUMENT)
    selected = (("--selected", str(tmp_path / file)) for file in files)
    exit_code, errors = await run("--document", str(document), *(each for pair in selected for each in pair))

    assert exit_code == 2
    assert errors == f"{tmp_path / files[-1]} needs another file name: its ConfigMap would be called {name!r}\n"


async def test_a_configuration_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    exit_code, errors = await run("--config", str(tmp_path / "none.py"))

    assert exit_code == 2
    assert f"{tmp_path}/none.py cannot be read: No such file or directory" in errors


@pytest.mark.processes
@pytest.mark.parametrize(
    ("config", "fault"),
    [
        pytest.param("\nc.KubeSpawner.profile_list = (\n", "2: SyntaxError: '(' was never closed", id="syntax"),
        pytest.param("import os\n\nc.A.b = os.nothing\n", "3: AttributeError: ", id="exception"),
        pytest.param("def f():\n    return 1 / 0\n\nf()\n", "2: ZeroDivisionError: ", id="in-a-function"),
        pytest.param("import sys\nsys.exit('no')\n", "2: SystemExit: no", id="exit"),
    ],
)
async def test_an_error_in_ones_own_configuration_is_told_with_its_place(
    tmp_path: Path, config: str, fault: str
) -> None:
    for name, text in (("profiles.yaml", DOCUMENT), ("my_config.py", config)):
        (tmp_path / name).write_text(text)
    exit_code, errors = await run(
        *("--port", "0", "--document", "profiles.yaml", "--config", "my_config.py"), directory=tmp_path
    )

    assert exit_code == 2
    assert errors.startswith(f"{tmp_path}/my_config.py:{fault}")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("record", "told"),
    [
        pytest.param("[W {} cache:285] Using the last good\n    line 1", ["Using the last good\n  line 1"], id="cache"),
        pytest.param("[E {} several:9] Left out", ["Left out"], id="several"),
        pytest.param("[E {} last_good:235] Could not write", ["Could not write"], id="last-good"),
        pytest.param("[E {} spawner:553] Not starting ada, because", ["Not starting ada, because"], id="pod"),
        pytest.param("[W {} spawner:501] Would not start ada", ["Would not start ada"], id="observed"),
        pytest.param("[W {} spawner:535] For ada, the guarantee", ["For ada, the guarantee"], id="conflict"),
        pytest.param("[E {} user:1065] Not starting ada's server", ["Not starting ada's server"], id="refused"),
        pytest.param("[W {} user:1058] ada's server failed to start", ["ada's server failed to start"], id="late"),
        pytest.param("[W {} configurable:214] Config option `x`", ["Config option `x`"], id="setting"),
        pytest.param(
            "[E {} user:1072] Unhandled error: (403)\n    Reason: Forbidden\n    HTTP response headers: s3cret\n"
            "    HTTP response body: s3cret\n    Traceback (most recent call last):\n      s3cret",
            ["Unhandled error: (403)\n  Reason: Forbidden"],
            id="answer",
        ),
        pytest.param("[E {} user:1072] Unhandled: x\n    Traceback (most recent", ["Unhandled: x"], id="traceback"),
        pytest.param("[E {} spawner:3019] Failed for {{s3cret}}\n    Traceback", [], id="whole-pod"),
        pytest.param("[W {} log:192] 400 POST /hub/api", [], id="request"),
        pytest.param("[I {} user:1] Not starting", [], id="no-warning"),
    ],
)
def test_the_log_is_searched_for_refusals_and_never_for_values(tmp_path: Path, record: str, told: list[str]) -> None:
    hub = SandboxHub(tmp_path / "kubeconfig", tmp_path, namespace="jhub")
    around = "[I 2026-11-27 01:50:09.728 JupyterHub app:1] Up\n"
    hub.log_file.write_text(f"{around}{record.format('2026-11-27 01:50:09.728 JupyterHub')}\n{around}")

    assert hub.start_warnings() == told


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


@contextlib.asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[RunningCommand]:
    """Run the command in a directory that may have a `my-profiles.yaml`."""
    (port,) = free_ports(0)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "--port", str(port), *arguments),
        env=ENVIRONMENT | {"TMPDIR": str(directory)},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    yield RunningCommand(process, directory / "my-profiles.yaml")
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[RunningCommand]:
    document = tmp_path / "my-profiles.yaml"
    document.write_text(DOCUMENT)
    async with running(tmp_path, "--document", str(document), "--group", "forecasters=ada,grace") as command:
        yield command


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
    await command.until(r"ConfigMap [a-z-]+ updated \(resourceVersion \d+\); it takes effect when a server next starts")
    await command.until(
        r"my-profiles\.yaml:1:\d+: error: profiles\[0\]\.resorces: unknown key; did you mean 'resources'"
    )
    command.document.unlink()
    await command.until(r"cannot be read: No such file or directory; the ConfigMap stays as it is")


@pytest.mark.processes
async def test_without_a_document_one_edits_a_copy_of_the_example(tmp_path: Path) -> None:
    example = EXAMPLE.read_text()
    async with running(tmp_path) as command:
        await command.until(r"edit +my-profiles\.yaml \(a new copy of the example; it is yours\), save it")
        await command.until(r"groups +forecasters: grace\n")
        await command.until(r"Ctrl-C stops everything\.")
        assert command.document.read_text() == example
        command.document.write_text(DOCUMENT)
        await command.until(r"ConfigMap jupyter-singleuser-profiles updated")

    assert EXAMPLE.read_text() == example


@pytest.mark.processes
async def test_a_copy_of_the_example_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my-profiles.yaml").write_text(DOCUMENT)
    async with running(tmp_path) as command:
        await command.until(r"edit +my-profiles\.yaml \(it was here already, and is used as it is\), save it")

    assert (tmp_path / "my-profiles.yaml").read_text() == DOCUMENT


@pytest.mark.processes
async def test_ones_own_configuration_and_further_documents_count_and_refusals_are_told(tmp_path: Path) -> None:
    (tmp_path / "my-profiles.yaml").write_text(DOCUMENT)
    team = tmp_path / "Team_A.yaml"
    team.write_text("profiles: [{name: team, env: {TEAM: red}}]\n")
    (tmp_path / "my_config.py").write_text(
        "c.KubeSpawner.profile_list = [{'display_name': 'Mine', 'kubespawner_override': {'image': 'mine:1'}}]\n"
        "c.KubeSpawner.environment = {'OWN': '1'}\n"
    )
    async with running(tmp_path, "--config", "my_config.py", "--selected", "Team_A.yaml") as command:
        await command.until(r"also edit +Team_A\.yaml\n")
        hub = Path((await command.until(r"logs +(\S+)/hub\.log"))[1])
        await command.until(r"Ctrl-C stops everything\.")
        settings = json.loads((hub / "settings.json").read_text())
        async with HubClient(settings["public_url"], settings["api_token"]) as client:
            await client.create_user("ada")
            with pytest.raises(HubError):
                await client.start_server("ada", choice={"size": "Huge"})
            await command.until(r"the hub: Not starting ada's server.*there is no size 'Huge'")

            await client.start_server("ada", choice={"size": "default"})
            await command.until(r"ada starts on mine:1\n +profiles +everyone, team-a/team\n")
            await command.until(r"variables +GREETING, OWN, TEAM\n")

        team.write_text("profiles: [{nmae: team}]\n")
        await command.until(r"ConfigMap team-a updated")
        await command.until(r"Team_A\.yaml:1:13: error: profiles\[0\]\.nmae: unknown key; did you mean 'name'")


@pytest.mark.processes
async def test_a_dead_hub_is_told_with_the_end_of_its_log(command: RunningCommand) -> None:
    await command.until(r"Ctrl-C stops everything\.")
    shim = next(pid for pid in children(command.process.pid) if b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    (hub,) = children(shim)
    os.kill(hub, signal.SIGKILL)
    await command.until(r"(?s)The hub ended with exit code 137; its last words:\n.*JupyterHub is now running")

    assert await command.process.wait() == 1
