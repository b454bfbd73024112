"""``python -m sandbox.demo``: shows the main job from beginning to end, and checks all that it shows."""

import asyncio
import contextlib
import difflib
import math
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from sandbox.assembly import CONFIGMAP, EXAMPLE, EXAMPLE_GROUPS, KEY, NAMESPACE, RunningServer, Sandbox
from sandbox.client import HubError
from sandbox.documentfile import DocumentFile
from sandbox.hub import HubDiedError
from sandbox.interruption import cancel_on_signals
from sandbox.narration import Narrator
from sandbox.shim import children

#: What each user chooses on the page, by the names that the document has for it.
CHOICES = {
    "ada": {"image": "Forecasting", "size": "Large"},
    "grace": {"image": "Forecasting"},
    "edsger": {"image": "Minimal"},
}
IMAGES = {"Forecasting": "lab/forecast:3.6", "Minimal": "lab/minimal:1.0"}

GLOBALS = {"TEAM_ENDPOINT": "lake.example.org", "MEM_LIMIT": str(1024**3), "CPU_LIMIT": "0.5"}
FORECAST_PROFILE = {
    "BUCKET": "DH-DEV-DATA",
    "BUCKET_PREFIX": "data/forecast",
    "JANUS_PORT": "80",
    "MEM_LIMIT": str(2 * 1024**3),
    "CPU_LIMIT": "1",
}
LARGE = {"MEM_LIMIT": str(4 * 1024**3), "CPU_LIMIT": "2"}
#: What each server must have when it is first started.
EXPECTED = {
    "ada": (["globals", "forecast", "size Large"], {**GLOBALS, **FORECAST_PROFILE, **LARGE}),
    "grace": (["globals", "forecast"], {**GLOBALS, **FORECAST_PROFILE}),
    "edsger": (["globals", "minimal"], {**GLOBALS, "FLAVOUR": "minimal"}),
}
#: Of a profile that is added, and ends while the demo runs.
WORKSHOP = {"WORKSHOP": "today"}
VARIABLES = list(dict.fromkeys(name for _, variables in [*EXPECTED.values(), ([], WORKSHOP)] for name in variables))
VARIABLES.sort(key=lambda name: name in ("MEM_LIMIT", "CPU_LIMIT"))

EDIT = {"users: [ada]": "users: [barbara]", "lake.example.org": "lake2.example.org"}
EDITED_GLOBALS = {**GLOBALS, "TEAM_ENDPOINT": "lake2.example.org"}
BEFORE_MINIMAL = "  - name: minimal"
MISTAKE = {"resources:\n      mem_limit: 2Gi": "resorces:\n      mem_limit: 2Gi"}


class UnexpectedError(Exception):
    """What was to be shown is not there."""


def main() -> int:
    """Show everything.

    Returns:
        The exit code: 0 if all was as it should be, 1 if not, 130 if interrupted.
    """
    narrator = Narrator()
    began = time.monotonic()
    try:
        asyncio.run(Demo(narrator).run())
    except (UnexpectedError, HubError, HubDiedError) as exc:
        print(f"\nThis is not as it should be: {exc}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        narrator.say("Stopped; nothing is left running.")
        return 130
    narrator.say()
    narrator.say(narrator.style.green(f"All of it as it should be, in {time.monotonic() - began:.0f} seconds."))
    narrator.say("Now try it yourself, in a browser: make sandbox")
    return 0


class Demo:
    """The demonstration, step by step."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._document = EXAMPLE.read_text()
        self._restart_seconds = 0.0

    async def run(self) -> None:
        """Take all steps.

        Raises:
            UnexpectedError: Something is not as it should be.
            HubError: A server did not start.
            HubDiedError: The hub did not come up.
        """
        narrator = self._narrator
        cancel_on_signals(lambda: narrator.say("\nStopping …"))
        narrator.say(narrator.style.bold("ProfiledKubeSpawner: variables and limits of servers, from a ConfigMap"))
        narrator.say("All of it runs on this machine alone, without a cluster; it takes a little more than a minute.")
        narrator.step("Start a Kubernetes API, a kubelet and JupyterHub, on this machine")
        sandbox = Sandbox(self._document, groups=EXAMPLE_GROUPS)
        async with contextlib.AsyncExitStack() as stack:
            hub = f"JupyterHub {version('jupyterhub')} with KubeSpawner {version('jupyterhub-kubespawner')}"
            async with narrator.waiting(f"Starting {hub}", f"{hub} is up"):
                await stack.enter_async_context(sandbox)
            narrator.tell(f"The ConfigMap {NAMESPACE}/{CONFIGMAP} holds {EXAMPLE.name}.")
            try:
                servers = await self._start_servers(sandbox)
                await self._edit(sandbox, servers["ada"])
                await self._end(sandbox)
                await self._break(sandbox)
                await self._restart_hub(sandbox)
            except (UnexpectedError, HubError):
                narrator.tell(sandbox.hub.log_tail())
                raise
            narrator.step("Stop everything")
            async with narrator.waiting("Stopping", "Servers, hub and proxy have ended"):
                await stack.aclose()
        expect(not children(os.getpid()), "a process was left behind")
        expect(not sandbox.directory.exists(), f"{sandbox.directory} was left behind")

    async def _start_servers(self, sandbox: Sandbox) -> dict[str, RunningServer]:
        self._narrator.step("Three users each choose an image, and ada also a size; grace is in the group forecasters")
        async with self._narrator.waiting(
            f"Starting the servers of {', '.join(CHOICES)}", "All three are up; this is what their kernels have"
        ):
            found = await asyncio.gather(*(self._start(sandbox, user) for user in CHOICES))
        servers = dict(zip(CHOICES, found, strict=True))
        for user, server in servers.items():
            profiles, variables = EXPECTED[user]
            expect_server(user, server, profiles, variables)
            expect(server.image == IMAGES[CHOICES[user]["image"]], f"{user} has the image {server.image}")
        self._narrator.say()
        chosen = ["chosen", *(", ".join(CHOICES[user].values()) for user in servers)]
        self._narrator.table(["", *servers], [chosen, *rows_of(list(servers.values()))])
        return servers

    async def _start(self, sandbox: Sandbox, user: str) -> RunningServer:
        await sandbox.client.create_user(user)
        await sandbox.client.start_server(user, choice=CHOICES[user])
        return await sandbox.look_into(user)

    async def _restart(self, sandbox: Sandbox, user: str) -> RunningServer:
        began = time.monotonic()
        async with self._narrator.waiting(f"Restarting the server of {user}", f"{user}'s server is up again"):
            await sandbox.client.stop_server(user)
            server = await self._start(sandbox, user)
        self._restart_seconds = time.monotonic() - began
        return server

    async def _edit(self, sandbox: Sandbox, before: RunningServer) -> None:
        self._narrator.step("Edit the ConfigMap: another endpoint, and ada is not named in forecast any more")
        self._write(sandbox, EDIT)
        after = await self._restart(sandbox, "ada")
        expect_server("ada", after, ["globals", "size Large"], {**EDITED_GLOBALS, **LARGE})
        self._compare(["ada", "before", "after"], before, after)

    async def _end(self, sandbox: Sandbox) -> None:
        self._narrator.step("Add a profile for a workshop, which ends by itself some seconds later")
        async with self._narrator.waiting("Stopping the server of edsger", "edsger's server has stopped"):
            await sandbox.client.stop_server("edsger")
        # The moment when a start begins decides, and it begins at once. A slow machine has more time for it.
        seconds = max(10, math.ceil(self._restart_seconds))
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        profile = f"  - name: workshop\n    until: {ends:%Y-%m-%dT%H:%M:%SZ}\n    env:\n      WORKSHOP: today\n\n"
        self._write(sandbox, {BEFORE_MINIMAL: profile + BEFORE_MINIMAL})
        async with self._narrator.waiting("Starting the server of edsger", "edsger's server is up again"):
            during = await self._start(sandbox, "edsger")
        minimal = {**EDITED_GLOBALS, "FLAVOUR": "minimal"}
        expect_server("edsger", during, ["globals", "workshop", "minimal"], {**minimal, **WORKSHOP})
        async with self._narrator.waiting("Waiting for its end", "The profile has ended, without an edit"):
            while (left := ends.timestamp() - time.time()) > 0:
                await asyncio.sleep(left)
        after = await self._restart(sandbox, "edsger")
        expect_server("edsger", after, ["globals", "minimal"], minimal)
        self._compare(["edsger", "during", "after"], during, after)

    def _compare(self, heading: list[str], before: RunningServer, after: RunningServer) -> None:
        rows = rows_of([before, after])
        changed = [number for number, (_, old, new) in enumerate(rows) if old != new]
        self._narrator.say()
        self._narrator.table(heading, rows, changed=changed)

    async def _break(self, sandbox: Sandbox) -> None:
        self._narrator.step("Break the ConfigMap: servers go on with the last good document")
        self._write(sandbox, MISTAKE)
        file = DocumentFile(sandbox.directory / "profiles.yaml", KEY)
        file.path.write_text(self._document)
        valid, said = await file.validate()
        expect(not valid and "did you mean 'resources'?" in said, "the mistake was not found")
        self._narrator.tell("profiled-spawner validate says:")
        self._narrator.quote(said.splitlines()[0], self._narrator.style.red)
        after = await self._restart(sandbox, "grace")
        expect_server("grace", after, ["globals", "forecast"], {**EDITED_GLOBALS, **FORECAST_PROFILE})
        self._narrator.tell(f"She has the profiles {' and '.join(after.profiles)} still, as last edited.")
        self._tell_warning(sandbox, "Using the last good profiles")

    async def _restart_hub(self, sandbox: Sandbox) -> None:
        self._narrator.step("Restart the hub: it still has the last good document, from its file")
        async with self._narrator.waiting("Restarting the hub", "The hub is up again; the servers went on running"):
            await sandbox.hub.restart()
        after = await self._restart(sandbox, "edsger")
        expect_server("edsger", after, ["globals", "minimal"], {**EDITED_GLOBALS, "FLAVOUR": "minimal"})
        self._narrator.tell(f"edsger has the profiles {' and '.join(after.profiles)}, as last edited.")
        self._tell_warning(sandbox, "Using the last good profiles")
        warning = sandbox.hub.profile_warnings()[-1]
        expect("before this hub started" in warning, f"the hub did not say how it knows them: {warning}")

    def _write(self, sandbox: Sandbox, replacements: Mapping[str, str]) -> None:
        before = self._document
        for old, new in replacements.items():
            expect(old in self._document, f"{EXAMPLE.name} has no {old!r}")
            self._document = self._document.replace(old, new)
        sandbox.write_document(self._document)
        style = self._narrator.style
        for line in difflib.unified_diff(before.splitlines(), self._document.splitlines(), n=0, lineterm=""):
            if line[:1] in "+-" and line[:3] not in ("+++", "---"):
                self._narrator.tell(line, style.green if line[0] == "+" else style.red)

    def _tell_warning(self, sandbox: Sandbox, beginning: str) -> None:
        warnings = sandbox.hub.profile_warnings()
        expect(bool(warnings) and warnings[-1].startswith(beginning), f"the hub did not log: {beginning} …")
        self._narrator.tell("The hub's log says, to its administrators:")
        self._narrator.quote(warnings[-1], self._narrator.style.dim)


def rows_of(servers: list[RunningServer]) -> list[list[str]]:
    """Return a table with a column for each server, and a row for whatever one of them has."""
    rows = [
        ["image", *(server.image for server in servers)],
        ["profiles", *(", ".join(server.profiles) for server in servers)],
        ["memory limit", *(server.limits.get("memory", "") for server in servers)],
        ["CPU limit", *(server.limits.get("cpu", "") for server in servers)],
        *([name, *(server.environment.get(name, "") for server in servers)] for name in VARIABLES),
    ]
    return [row for row in rows if any(row[1:])]


def expect(condition: bool, otherwise: str) -> None:
    """Check something.

    Raises:
        UnexpectedError: It is not so.
    """
    if not condition:
        raise UnexpectedError(otherwise)


def expect_server(user: str, server: RunningServer, profiles: list[str], variables: Mapping[str, str]) -> None:
    """Check that a server has these profiles and variables, and of the example's variables no others.

    Raises:
        UnexpectedError: It is not so.
    """
    found = {name: server.environment[name] for name in VARIABLES if name in server.environment}
    expect(server.profiles == profiles, f"{user} has the profiles {server.profiles}, not {profiles}")
    expect(found == variables, f"{user} has {found}, not {dict(variables)}")


if __name__ == "__main__":
    sys.exit(main())
