"""A real JupyterHub with its proxy, as processes of their own on loopback."""

import asyncio
import contextlib
import errno
import json
import re
import secrets
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from sandbox import image
from sandbox.process import Process
from sandbox.waiting import HANG_SECONDS

CONFIG_FILE = Path(__file__).with_name("jupyterhub_config.py")
LOOPBACK = "127.0.0.1"
#: What is offered besides the images that the documents name, and what a server runs without a choice.
ANY_IMAGE = "example/notebook:latest"
#: How the log lines about the profiles begin, after level and time; and those about starts and settings. KubeSpawner
#: and JupyterHub have modules `spawner` too; lines of KubeSpawner's quote whole pods.
OF_PROFILES = r"(?:cache|several):\d+\] "
OF_STARTS = r"(?:cache|several|last_good|user|configurable):\d+\] |spawner:\d+\] (?=Not starting |Would |For |If )"


class PortInUseError(Exception):
    """The port that was asked for is taken."""


class HubDiedError(Exception):
    """The hub ended by itself, or did not come up; the text has the end of its log."""


class HubConfigError(Exception):
    """The configuration of one's own has an error; the text says where."""


@dataclass(frozen=True)
class HubSettings:
    """What differs from one sandbox's hub to the next; ``jupyterhub_config.py`` reads it.

    Attributes:
        public_url: The proxy's URL, where users go.
        hub_url: The hub's own URL, which the proxy and the servers use.
        proxy_api_url: Where the hub tells the proxy its routes.
        server_port: The port of every single-user server, each on its pod's address.
        namespace: The namespace of the servers and of the hub itself.
        images_file: A JSON list of the images to choose from, read whenever the page is shown.
        groups: The users of each group.
        traits: More configuration, by class and trait name.
        label_selector: Selects ConfigMaps beside the main one; empty for none.
        config_file: A configuration file of one's own, which is run last; empty for none.
        config_fault_file: Where to write what is wrong with it.
        image: What a server runs without a choice.
        spawner_class: The spawner.
        password: The password for every name.
        api_token: The token for the REST API.
    """

    public_url: str
    hub_url: str
    proxy_api_url: str
    server_port: int
    namespace: str
    images_file: str
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    traits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    label_selector: str = ""
    config_file: str = ""
    config_fault_file: str = ""
    image: str = ANY_IMAGE
    spawner_class: str = "profiled-kubespawner"
    password: str = field(default_factory=lambda: secrets.token_hex(4))
    api_token: str = field(default_factory=lambda: secrets.token_hex(16))


class SandboxHub:
    """Runs a JupyterHub for as long as its context lasts.

    Args:
        kubeconfig: The kubeconfig file of the API server.
        directory: Where the hub's database, log and other files go.
        namespace: The namespace of the servers.
        port: The port to listen on; 0 for any.
        groups: The users of each group.
        traits: More configuration, by class and trait name.
        label_selector: Selects ConfigMaps beside the main one.
        config: A configuration file of one's own, which is run last.

    Raises:
        PortInUseError: The port is taken; nothing has been started.
        HubConfigError: The configuration file of one's own has an error.
        HubDiedError: The hub did not come up.
    """

    def __init__(
        self,
        kubeconfig: Path,
        directory: Path,
        *,
        namespace: str,
        port: int = 0,
        groups: Mapping[str, Sequence[str]] | None = None,
        traits: Mapping[str, Mapping[str, Any]] | None = None,
        label_selector: str = "",
        config: Path | None = None,
    ) -> None:
        public, hub, proxy_api = free_ports(port, 0, 0)
        (server_port,) = free_ports(8888, fallback=True)
        self.directory = directory
        self.settings = HubSettings(
            public_url=f"http://{LOOPBACK}:{public}",
            hub_url=f"http://{LOOPBACK}:{hub}",
            proxy_api_url=f"http://{LOOPBACK}:{proxy_api}",
            server_port=server_port,
            namespace=namespace,
            images_file=str(directory / "images.json"),
            groups=groups or {},
            traits=traits or {},
            label_selector=label_selector,
            config_file=str(config.resolve()) if config else "",
            config_fault_file=str(directory / "config-fault"),
        )
        self._kubeconfig = kubeconfig

    @property
    def url(self) -> str:
        """The URL for users."""
        return self.settings.public_url

    @property
    def log_file(self) -> Path:
        """The log of the hub and its proxy."""
        return self.directory / "hub.log"

    async def __aenter__(self) -> Self:
        image.furnish(self.directory)
        self.offer_images([])
        await self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._process.stop(grace_seconds=5)

    def offer_images(self, images: Iterable[str]) -> None:
        """Set the images that users may choose from, besides typing in another; with none, they are not asked."""
        Path(self.settings.images_file).write_text(json.dumps(list(images)))

    async def restart(self, grace_seconds: float = 5) -> None:
        """Restart the hub; servers go on running. Without grace, it is killed."""
        await self._process.stop(grace_seconds)
        await self._start()

    async def wait(self) -> None:
        """Wait for the hub to end.

        Raises:
            HubConfigError: It has ended because of an error in the configuration file of one's own.
            HubDiedError: It has ended, and not because the context did.
        """
        exit_code = await self._process.wait()
        fault = Path(self.settings.config_fault_file)
        if fault.exists():
            raise HubConfigError(fault.read_text())
        raise HubDiedError(f"The hub ended with exit code {exit_code}; its last words:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of the hub's log."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])

    def profile_warnings(self) -> list[str]:
        """Return what the spawner's log lines about the profiles warn of, oldest first."""
        return self._warnings(OF_PROFILES)

    def start_warnings(self) -> list[str]:
        """Return the same, and also what the log says of settings, and of starts that were refused or have failed."""
        # An answer of the API server may quote values.
        rest = re.compile(r"\n  (?:Traceback |HTTP response ).*", re.DOTALL)
        return [rest.sub("", warning) for warning in self._warnings(OF_STARTS)]

    def _warnings(self, beginning: str) -> list[str]:
        text = self.log_file.read_text(errors="replace")
        records = re.split(r"^(?=\[[DIWEC] )", text, flags=re.MULTILINE)
        ours = re.compile(rf"\[[WE] \S+ \S+ JupyterHub (?:{beginning})(.*)", re.DOTALL)
        found = map(ours.match, records)
        # The formatter indents a record's later lines as far as its first one's text.
        return [re.sub(r"\n\s+", "\n  ", match[1].rstrip()) for match in found if match]

    async def _start(self) -> None:
        settings_file = self.directory / "settings.json"
        settings_file.touch(mode=0o600)
        settings_file.write_text(json.dumps(asdict(self.settings)))
        self._process = await Process.start(
            [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG_FILE)],
            env={
                **image.environment(self.directory),
                "KUBECONFIG": str(self._kubeconfig),
                "SANDBOX_SETTINGS": str(settings_file),
            },
            cwd=self.directory,
            log=self.log_file,
        )
        try:
            await self._wait_until_up()
        except BaseException:
            await self._process.stop(grace_seconds=5)
            raise

    async def _wait_until_up(self) -> None:
        ended = asyncio.create_task(self.wait())
        up = asyncio.create_task(self._is_up())
        try:
            await asyncio.wait({ended, up}, timeout=HANG_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await ended
            if not up.done():
                raise HubDiedError(
                    f"The hub is not up after {HANG_SECONDS} seconds; its last words:\n{self.log_tail()}"
                )
            await up
        finally:
            for task in (ended, up):
                task.cancel()
            await asyncio.gather(ended, up, return_exceptions=True)

    async def _is_up(self) -> None:
        async with aiohttp.ClientSession() as session:
            # The hub itself first: while it is not there, the proxy would log each question as an error.
            for url in (self.settings.hub_url, self.settings.public_url):
                while not await _answers(session, f"{url}/hub/api/"):
                    await asyncio.sleep(0.1)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.ok
    except aiohttp.ClientError:
        return False


def free_ports(*wanted: int, fallback: bool = False) -> list[int]:
    """Find ports of the loopback address that nobody listens on.

    Args:
        wanted: The ports to take, 0 for any.
        fallback: Whether to take another one for a port that is in use.

    Raises:
        PortInUseError: A port is in use.
    """
    ports = []
    with contextlib.ExitStack() as listeners:
        for port in wanted:
            listener = listeners.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError as exc:
                if not fallback:
                    why = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
                    raise PortInUseError(f"port {port} of {LOOPBACK} {why}; stop what listens there") from None
                listener.bind((LOOPBACK, 0))
            ports.append(listener.getsockname()[1])
    return ports
