"""A roster is read as JupyterHub lists its users, and one that lacks somebody is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from profiled_spawner.command.main import main
from profiled_spawner.command.roster import RosterError, fetch_roster, read_roster
from sandbox.inprocess import InProcessHub


def page(*users: str, total: int = 2, groups: Any = ("staff",)) -> str:
    items = [{"kind": "user", "name": user, "groups": list(groups)} for user in users]
    return json.dumps({"items": items, "_pagination": {"offset": 0, "limit": 1, "total": total, "next": None}})


def write(path: Path, text: str) -> Path:
    file = path / "users.json"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(page("ada", "grace"), id="one page"),
        pytest.param(page("ada") + page("grace"), id="two pages"),
        pytest.param(f" {page('ada')}\n\n{page('grace')}\n", id="on lines of their own"),
        pytest.param(page("ada") + page("ada", "grace"), id="fetched twice"),
    ],
)
def test_all_pages_together_are_a_roster(tmp_path: Path, text: str) -> None:
    assert read_roster(write(tmp_path, text), complete=False) == {
        "ada": frozenset({"staff"}),
        "grace": frozenset({"staff"}),
    }


def test_a_list_is_one_if_somebody_says_that_it_is_complete(tmp_path: Path) -> None:
    file = write(tmp_path, '[{"name": "ada", "groups": []}]')
    assert read_roster(file, complete=True) == {"ada": frozenset()}
    with pytest.raises(RosterError, match=r"is a list, which a hub may have cut off; .* or add --complete"):
        read_roster(file, complete=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(page("ada"), "has 1 of 2 users; append the other pages", id="a page is missing"),
        pytest.param(page("ada") + page("ada"), "has 1 of 2 users", id="the same page twice"),
        pytest.param("", "has no users", id="nothing"),
        pytest.param(page(total=0), "has no users", id="nobody"),
        pytest.param("{}", "is not a list of users", id="an object"),
        pytest.param("7", "is not a list of users", id="a number"),
        pytest.param('{"items": [], "_pagination": {"total": "2"}}', "is not a list of users", id="a total of text"),
        pytest.param('{"items": 1, "_pagination": {"total": 2}}', "is not a list of users", id="items of a number"),
        pytest.param("[" * 100_000, "is not a list of users", id="deep"),
        pytest.param("7" * 5_000, "is not a list of users", id="a long number"),
        pytest.param(page("ada") + "\n{", r"users.json:2: this is not JSON", id="cut off"),
        pytest.param("[7]", "has a user without a name", id="a user that is a number"),
        pytest.param('[{"groups": []}]', "has a user without a name", id="no name"),
        pytest.param('[{"name": "ada"}]', "which groups ada is in; the token needs the scope read:users", id="scope"),
        pytest.param('[{"name": "ada", "groups": [1]}]', "which groups ada is in", id="a group that is a number"),
        pytest.param(page("ada") + page("ada", groups=()), "has the user ada twice, with different groups", id="twice"),
    ],
)
def test_what_is_no_roster_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RosterError, match=message):
        read_roster(write(tmp_path, text), complete=True)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RosterError, match="cannot be read: No such file"):
        read_roster(tmp_path / "absent", complete=False)
    file = tmp_path / "bytes"
    file.write_bytes(b"\xff")
    with pytest.raises(RosterError, match="is not UTF-8 text"):
        read_roster(file, complete=False)


@contextlib.contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers every request alike; its address, and the paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


async def test_a_hub_is_asked_for_all_pages(tmp_path: Path) -> None:
    config = Config()
    config.JupyterHub.api_page_default_limit = 2
    config.Authenticator.admin_users = {"user-0"}
    async with InProcessHub(tmp_path, config) as hub:
        await hub.api("POST", "/groups/even")
        (await hub.api("POST", "/groups/even/users", json={"users": ["user-0"]})).raise_for_status()
        reader, namer = [
            (await (await hub.api("POST", "/users/user-0/tokens", json={"scopes": scopes})).json())["token"]
            for scopes in (["list:users", "read:users:groups"], ["list:users"])
        ]
        for number in range(1, 5):
            await hub.add_user(f"user-{number}", *["even"] * (number % 2 == 0))
        found = [
            await asyncio.to_thread(fetch_roster, f"{hub.url}{suffix}", reader)
            for suffix in ("", "/", "/hub/", "/hub/api")
        ]
        with pytest.raises(RosterError, match="which groups user-1 is in; the token needs the scope read:users:groups"):
            await asyncio.to_thread(fetch_roster, hub.url, namer)
        with pytest.raises(RosterError, match=r"/users\?offset=0 answers 403; the token in JUPYTERHUB_API_TOKEN needs"):
            await asyncio.to_thread(fetch_roster, hub.url, "wrong")
    assert found == [{f"user-{number}": frozenset(["even"] * (number % 2 == 0)) for number in range(5)}] * 4


def test_a_token_goes_to_no_other_host() -> None:
    with answering(200, page("ada", total=1).encode()) as (elsewhere, asked):
        with answering(302, location=elsewhere) as (url, _), pytest.raises(RosterError, match="answers 302"):
            fetch_roster(url, "token")
        assert asked == []
        assert fetch_roster(elsewhere, "token") == {"ada": frozenset({"staff"})}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "this is not JSON"),
        (b"\xff", "does not answer with JSON"),
        (b"", "does not answer with JSON"),
        (b"{}", "is not a list of users"),
        (page("ada").replace("null", '{"offset": 0}').encode(), "has 1 of 2 users"),
    ],
)
def test_an_answer_that_is_no_roster_is_refused(body: bytes, message: str) -> None:
    with answering(200, body) as (url, asked):
        with pytest.raises(RosterError, match=message):
            fetch_roster(url, "token")
        assert asked == ["/hub/api/users?offset=0"]


def test_a_hub_that_does_not_answer_is_an_error() -> None:
    with answering(200) as (url, _):
        pass
    with pytest.raises(RosterError, match=r"does not answer: .*refused"):
        fetch_roster(url, "token")


@pytest.mark.parametrize("url", ["hub.example.org", "file:///etc/passwd", "https://", "https://a/?b", "https://a/#b"])
def test_an_address_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(RosterError, match="is not the address of a hub"):
        fetch_roster(url, "token")


def test_the_command_takes_the_token_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = write(tmp_path, "profiles: []")
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    assert main(["explain", str(document), "--hub", "http://127.0.0.1:1", "--image", "x"]) == 2
    assert "--hub needs a token in the environment variable JUPYTERHUB_API_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token")
    with answering(200, page("ada", total=1).encode()) as (url, _):
        assert main(["explain", str(document), "--hub", url, "--image", "x"]) == 0
    assert capsys.readouterr().out.startswith("User    ada\nGroups  staff\n")
