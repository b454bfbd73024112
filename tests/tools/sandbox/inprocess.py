"""A whole JupyterHub in the test's own process and event loop, up in a fraction of a second.

Real users, groups, tokens, pages and REST API; in place of the proxy a table of its routes, and behind every pod's
address one server that answers as a single-user server does when it is up. The hub answers when a start or a stop is
through, however long that takes; by default it would say after a second, or ten, that it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import jupyterhub
from aiohttp import ClientResponse, ClientSession, ClientTimeout, CookieJar, TCPConnector, web
from jupyterhub.app import JupyterHub
from jupyterhub.handlers import pages
from jupyterhub.proxy import Proxy
from kubernetes_asyncio.config import kube_config
from kubespawner import KubeSpawner
from kubespawner.clients import load_config
from traitlets.config import Config

from sandbox.waiting import HANG_SECONDS, PATIENCE, until_connections_are_gone


@contextlib.asynccontextmanager
async def found_by_kubespawner(kubeconfig: str, directory: Path) -> AsyncIterator[None]:
    """Lets KubeSpawner find the API server of a kubeconfig, in this process and event loop."""
    path = directory / "kubeconfig"
    path.write_text(kubeconfig)
    # KUBECONFIG itself is read when the client is imported.
    with mock.patch.object(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path)), mock.patch.dict(os.environ):
        # In a cluster's CI, the in-cluster configuration would win, and the real API server be reached.
        os.environ.pop("KUBERNETES_SERVICE_HOST", None)
        load_config.cache_clear()
        try:
            yield
        finally:
            await forget_clients()


async def forget_clients() -> None:
    """Ends what KubeSpawner keeps per event loop; a dead reflector would answer for the next one's pods."""
    load_config.cache_clear()
    await KubeSpawner._stop_all_reflectors()
    clients = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "close_client_task"]
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    if clients:
        await until_connections_are_gone()


class RouteTable(Proxy):
    """Keeps the routes that the hub asks for, and proxies nothing."""

    should_start = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.routes: dict[str, dict[str, Any]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        return self.routes


class _App(JupyterHub):
    def init_signal(self) -> None:
        """The signals are the test runner's."""

    def init_logging(self) -> None:
        super().init_logging()
        # Lines go to whoever tests them, once.
        self.log.propagate = True
        self.log.handlers.clear()


class _PatientAsyncio:
    """asyncio for the spawn page, which waits for a start one second, before it leads to the page of pending ones."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def wait(self, starts: list[asyncio.Future[Any]], timeout: float) -> Any:  # noqa: ASYNC109
        return await asyncio.wait(starts)


class InProcessHub:
    """A hub for as long as its context lasts.

    With `slow_spawn_timeout` 0 in its `tornado_settings`, it says at once that a server is starting.

    Args:
        directory: Where it may write: its database is in memory, but for the cookie secret.
        config: What to set beyond what makes it run here; KubeSpawner's way to an API server is the caller's.
        pods: The address that pods answer at; 0.0.0.0 if each has a loopback address of its own.
    """

    def __init__(self, directory: Path, config: Config, *, pods: str = "127.0.0.1") -> None:
        self._directory = directory
        self._config = config
        self._pods = pods
        # The same if the hub is entered again: the servers that it has started are still there.
        self._pods_port = 0
        self._token = secrets.token_hex(16)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            port = await self._serve_pods(stack)
            empty = self._directory / "jupyterhub_config.py"
            empty.write_text("")
            config = Config()
            config.JupyterHub.update(
                spawner_class="profiled-kubespawner",
                proxy_class=RouteTable,
                authenticator_class="dummy",
                db_url="sqlite:///:memory:",
                cookie_secret_file=str(self._directory / "cookie-secret"),
                bind_url="http://127.0.0.1:1/",  # nobody listens there: the hub itself is asked
                hub_bind_url=f"http://127.0.0.1:{_free_port()}/",
                services=[{"name": "tests", "api_token": self._token}],
                load_roles=[
                    {
                        "name": "tests",
                        "services": ["tests"],
                        "scopes": ["admin:users", "admin:groups", "admin:servers", "tokens", "read:metrics"],
                    }
                ],
                last_activity_interval=3600,
                cleanup_servers=False,
            )
            config.Authenticator.allow_all = True
            config.KubeSpawner.update(PATIENCE, port=port)
            config.ProfiledKubeSpawner.last_good_path = str(self._directory / "last-good.json")
            config.ResourceReflector.request_timeout = HANG_SECONDS
            config.merge(self._config)
            config.JupyterHub.tornado_settings = {
                "slow_spawn_timeout": HANG_SECONDS,
                "slow_stop_timeout": HANG_SECONDS,
                **config.JupyterHub.get("tornado_settings", {}),
            }
            stack.enter_context(mock.patch.object(pages, "asyncio", _PatientAsyncio()))
            _App.clear_instance()
            # Without an instance, the migration of the database takes the root logger's handlers for its own.
            self.app = _App.instance(config=config, config_file=str(empty))
            await self.app.initialize([])
            await self.app.start()
            self.url = self.app.hub.url.removesuffix("/hub/")
            self._session = await stack.enter_async_context(
                # No limit: a burst of starts is to be as large as its test says.
                ClientSession(
                    connector=TCPConnector(limit=0),
                    headers={"Authorization": f"token {self._token}"},
                    timeout=ClientTimeout(HANG_SECONDS),
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await self.app.cleanup()
        self.app.http_server.stop()
        database = self.app.db.get_bind()
        self.app.db.close()
        # Closing the session gives its connection back to the pool; that closes it.
        database.dispose()
        _App.clear_instance()

    async def _serve_pods(self, stack: contextlib.AsyncExitStack) -> int:
        runner = await answer_for_pods(self._pods, self._pods_port)
        stack.push_async_callback(runner.cleanup)
        self._pods_port = int(runner.addresses[0][1])
        return self._pods_port

    async def api(self, method: str, path: str, **kwargs: Any) -> ClientResponse:
        """Asks the REST API as an administrator; the body has been read."""
        async with self._session.request(method, f"{self.url}/hub/api{path}", **kwargs) as response:
            await response.read()
        return response

    async def progress(self, user: str) -> AsyncIterator[dict[str, Any]]:
        """What the spawn page is told, as it comes."""
        async with self._session.get(f"{self.url}/hub/api/users/{user}/server/progress") as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    async def add_user(self, name: str, *groups: str) -> None:
        """Makes a user and puts it into groups, which are made where they are not there."""
        (await self.api("POST", f"/users/{name}")).raise_for_status()
        for group in groups:
            await self.api("POST", f"/groups/{group}")
            (await self.api("POST", f"/groups/{group}/users", json={"users": [name]})).raise_for_status()

    @contextlib.asynccontextmanager
    async def browser(self, user: str) -> Any:
        """A session with the cookies of somebody who has logged in."""
        async with ClientSession(cookie_jar=CookieJar(unsafe=True), timeout=ClientTimeout(HANG_SECONDS)) as session:
            async with session.get(f"{self.url}/hub/login") as page:
                await page.read()
            form = {"username": user, "password": "", "_xsrf": xsrf_of(session)}
            async with session.post(f"{self.url}/hub/login", data=form, allow_redirects=False) as page:
                assert page.status == 302, await page.text()
            yield session


async def answer_for_pods(address: str, port: int) -> web.AppRunner:
    """Answers as a single-user server does when it is up, until what it returns is cleaned up.

    Args:
        address: 0.0.0.0 for the pods of all loopback addresses.
        port: 0 finds a free one.
    """

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, headers={"X-JupyterHub-Version": jupyterhub.__version__})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner


def xsrf_of(session: ClientSession) -> str:
    """The token that a form of this session must hold, from its cookie."""
    return {cookie.key: cookie.value for cookie in session.cookie_jar}["_xsrf"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
