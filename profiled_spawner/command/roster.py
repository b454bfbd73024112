"""Reads a roster: who has an account on the hub, and in which groups, as JupyterHub's REST API lists them."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..decide.matching import Roster
from ..errors import ProfiledSpawnerError

__all__ = ["RosterError", "fetch_roster", "load_roster", "read_roster"]

_SPACE = re.compile(r"\s*")
_PAGES = "application/jupyterhub-pagination+json"
_TIMEOUT_SECONDS = 30


class RosterError(ProfiledSpawnerError):
    """A roster cannot be read, or does not have everybody."""


def load_roster(arguments: argparse.Namespace) -> Roster:
    """Loads the roster that the arguments name.

    Raises:
        RosterError: It cannot be read, or there is no token for the hub.
    """
    if arguments.hub is not None:
        token = os.environ.get("JUPYTERHUB_API_TOKEN")
        if not token:
            raise RosterError("--hub needs a token in the environment variable JUPYTERHUB_API_TOKEN")
        return fetch_roster(arguments.hub, token)
    return read_roster(arguments.roster, complete=arguments.complete)


def read_roster(path: Path, *, complete: bool) -> Roster:
    """Reads a roster from a file.

    The file holds what JupyterHub answers to ``GET /hub/api/users`` with the header ``Accept:
    application/jupyterhub-pagination+json``: all pages, one after the other. Without the header the answer is a list of
    users, which ends after 200 of them by default and does not say so.

    Source: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html

    Args:
        path: The file.
        complete: Whether a list, which may also be written by hand, has everybody who matters.

    Raises:
        RosterError: The file cannot be read, or does not have everybody.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RosterError(f"{path} is not UTF-8 text") from None
    pages = []
    for page in _split(text, str(path)):
        if isinstance(page, list) and not complete:
            raise RosterError(
                f"{path} is a list, which a hub may have cut off; fetch pages of it (Accept: {_PAGES}), or add "
                "--complete if it has everybody"
            )
        pages.append(page)
    return _combine(pages, str(path))


def fetch_roster(url: str, token: str) -> Roster:
    """Asks a hub for its roster, page by page.

    Args:
        url: Where people find the hub, such as ``https://hub.example.org``, or its API, as in ``JUPYTERHUB_API_URL``.
        token: A token with the scopes ``list:users`` and ``read:users:groups``.

    Raises:
        RosterError: The hub does not answer, or refuses, or its answer is not a roster.
    """
    # Beyond the address, nothing may be asked for: a query would be another question.
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.netloc or address.query or address.fragment:
        raise RosterError(f"{url} is not the address of a hub, such as https://hub.example.org")
    base = url.rstrip("/").removesuffix("/hub/api").removesuffix("/hub") + "/hub/api/users"
    pages = []
    offset: object = 0
    while isinstance(offset, int):
        page = _fetch(f"{base}?offset={offset}", token)
        pages.append(page)
        pagination = page.get("_pagination") if isinstance(page, dict) else None
        following = pagination.get("next") if isinstance(pagination, dict) else None
        following = following.get("offset") if isinstance(following, dict) else None
        offset = following if isinstance(following, int) and following > offset else None
    return _combine(pages, base)


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, which might take the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str, token: str) -> Any:
    request = Request(url, headers={"Authorization": f"token {token}", "Accept": _PAGES})
    try:
        with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_SECONDS) as answer:
            (page,) = _split(answer.read().decode(), url)
    except HTTPError as error:
        hint = "; the token in JUPYTERHUB_API_TOKEN needs the scopes list:users and read:users:groups"
        raise RosterError(f"{url} answers {error.code}{hint if error.code in (401, 403) else ''}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise RosterError(f"{url} does not answer: {reason}") from None
    except ValueError:
        raise RosterError(f"{url} does not answer with JSON") from None
    return page


def _combine(pages: Iterable[Any], source: str) -> Roster:
    users: dict[str, frozenset[str]] = {}
    total = 0
    for page in pages:
        items, expected = _read_page(page, source)
        total = max(total, expected)
        for item in items:
            name, groups = _read_user(item, source)
            if users.setdefault(name, groups) != groups:
                raise RosterError(f"{source} has the user {name} twice, with different groups; fetch it again")
    if len(users) < total:
        raise RosterError(
            f"{source} has {len(users):,} of {total:,} users; append the other pages, which `_pagination.next` names"
        )
    if not users:
        raise RosterError(f"{source} has no users")
    return users


def _split(text: str, source: str) -> Iterator[Any]:
    """The JSON values of a text, which stand one after the other."""
    decoder = json.JSONDecoder()
    position = _skip_space(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise RosterError(f"{source}:{error.lineno}: this is not JSON: {error.msg}") from None
        except (ValueError, RecursionError):
            raise RosterError(
                f"{source} is not a list of users: it is nested too deeply, or has too long a number"
            ) from None
        yield value
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _read_page(page: Any, source: str) -> tuple[list[Any], int]:
    """The users of a page, and how many there are on all pages."""
    if isinstance(page, list):
        return page, 0
    pagination = page.get("_pagination") if isinstance(page, dict) else None
    items = page.get("items") if isinstance(page, dict) else None
    total = pagination.get("total") if isinstance(pagination, dict) else None
    if not isinstance(items, list) or not isinstance(total, int):
        raise RosterError(f"{source} is not a list of users, and no page of one, as GET /hub/api/users answers")
    return items, total


def _read_user(item: Any, source: str) -> tuple[str, frozenset[str]]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise RosterError(f"{source} has a user without a name")
    groups = item.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise RosterError(
            f"{source} does not say which groups {name} is in; the token needs the scope read:users:groups beside "
            "list:users"
        )
    return name, frozenset(groups)
