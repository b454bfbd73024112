"""What a person does with a hub, over its REST API: start servers, stop them, look into their kernels."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from profiled_spawner.decide.choices import OPTIONS_KEY
from sandbox.waiting import HANG_SECONDS


class HubError(Exception):
    """The hub refused, or a server did not start; the text is what a user is told."""


class HubClient:
    """A session with a hub.

    Args:
        url: The hub's public URL, without ``/hub``.
        token: An API token that may administer users and servers, and access servers.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"token {token}"}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._url, headers=self._headers, timeout=aiohttp.ClientTimeout(HANG_SECONDS)
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def create_user(self, name: str) -> None:
        """Create a user; nothing happens if there is one already."""
        await self._request("POST", f"/hub/api/users/{name}", accepted={201, 409})

    async def start_server(self, user: str, image: str = "", *, choice: Mapping[str, str] | None = None) -> None:
        """Start a user's server and wait until it is up.

        Args:
            user: The user.
            image: An image to type in on KubeSpawner's part of the page; empty for nothing.
            choice: The ``image`` and the ``size`` to choose of those that the document offers.

        Raises:
            HubError: The hub refused, or the server failed to start.
        """
        options: dict[str, Any] = {"profile": "sandbox", "image--unlisted-choice": image} if image else {}
        if choice:
            options[OPTIONS_KEY] = dict(choice)
        await self._request("POST", f"/hub/api/users/{user}/server", json=options, accepted={201, 202})
        async for message in self.progress(user):
            if message.get("failed"):
                raise HubError(message["message"])
            if message.get("ready"):
                return
        raise HubError(f"the server of {user} did not become ready")

    async def progress(self, user: str) -> AsyncIterator[dict[str, Any]]:
        """Follow what the progress page of a starting server shows."""
        async with self._session.get(f"/hub/api/users/{user}/server/progress") as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    yield json.loads(line.removeprefix(b"data:"))

    async def stop_server(self, user: str) -> None:
        """Stop a user's server and wait until it has stopped."""
        await self._request("DELETE", f"/hub/api/users/{user}/server", accepted={202, 204})
        while (await self._request("GET", f"/hub/api/users/{user}", accepted={200}))["servers"]:
            await asyncio.sleep(0.2)

    async def kernel_environment(self, user: str) -> dict[str, str]:
        """Start a kernel on a user's running server, and ask it for its environment."""
        output = await self.run_code(user, "import json, os; print(json.dumps(dict(os.environ)))")
        environment: dict[str, str] = json.loads(output)
        return environment

    async def run_code(self, user: str, code: str) -> str:
        """Run code in a new kernel on a user's running server.

        Returns:
            What it printed.
        """
        kernels = f"/user/{user}/api/kernels"
        kernel = (await self._request("POST", kernels, json={"name": "python3"}, accepted={201}))["id"]
        async with self._session.ws_connect(f"{kernels}/{kernel}/channels") as channels:
            output = await _execute(channels, code)
        await self._request("DELETE", f"{kernels}/{kernel}", accepted={204})
        return output

    async def _request(
        self, method: str, path: str, *, accepted: set[int], json: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            async with self._session.request(method, path, json=json) as response:
                is_json = response.content_type == "application/json"
                answer = await (response.json() if is_json else response.text())
        except aiohttp.ClientError as exc:
            raise HubError(f"{method} {path}: {exc}") from exc
        if response.status not in accepted:
            raise HubError(answer["message"] if is_json else f"{method} {path}: {response.status}")
        return answer


async def _execute(channels: aiohttp.ClientWebSocketResponse, code: str) -> str:
    """Run code in a kernel and return what it printed.

    See https://jupyter-client.readthedocs.io/en/stable/messaging.html.
    """
    request = uuid.uuid4().hex
    await channels.send_json(
        {
            "header": {"msg_id": request, "msg_type": "execute_request", "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False},
            "channel": "shell",
        }
    )
    output = ""
    async for frame in channels:
        message = frame.json()
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                output += content["text"]
            case "error":
                raise HubError(f"the kernel raised {content['ename']}: {content['evalue']}")
            case "status" if content["execution_state"] == "idle":
                return output
    raise HubError("the kernel closed the connection")
